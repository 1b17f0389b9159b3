"""Poverty at a line: who is poor, by how much, and the indices of Foster, Greer & Thorbecke made of it.

The index P_alpha = mean over people of (shortfall from the line / line)^alpha, with nothing for those not below the
line: the headcount for 0, the poverty gap for 1, the severity for 2. Since it is a mean over people of something known
for each household, cluster and national figures follow from one column a household, which any weighted mean adds up.

Source: Foster, J., Greer, J. & Thorbecke, E. (1984), A class of decomposable poverty measures, Econometrica 52(3),
761-766.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import check_positive, some
from geopov.errors import SurveyError
from geopov.survey.files.tables import as_number


def shortfalls(consumption: pd.Series, line: float | pd.Series) -> pd.DataFrame:
    """What each household adds to the three poverty indices: its terms of FGT 0, 1 and 2.

    A household is poor if its consumption is below the line; one exactly at it is not. Averaged with weights of people
    (household weight x size) the columns become headcount, poverty gap and severity.

    Parameters
    ----------
    consumption : Series (household)
        Per person (or per adult equivalent), in the unit of the line. Missing values stay missing.
    line : float or Series (household)
        Poverty line, one for all or one a household on the same index; above zero.

    Returns
    -------
    DataFrame (household)
        ``poor`` (0 or 1), ``poverty_gap`` (share of the line, 0 to 1 for amounts from zero) and ``poverty_severity``
        (its square), float; NaN where consumption or the line is missing.

    Raises
    ------
    SurveyError
        If a line is not above zero, none is known, or the lines are of other households.
    """
    amount = as_number(_named(consumption, "consumption"), "the table of households")
    gap = 1.0 - amount / _as_line(line, amount.index)
    poor = gap > 0
    relative = gap.where(poor, 0.0).where(gap.notna())
    return pd.DataFrame(
        {
            "poor": poor.astype(float).where(gap.notna()),
            "poverty_gap": relative,
            "poverty_severity": relative**2,
        }
    )


def fgt(
    consumption: pd.Series,
    line: float | pd.Series,
    *,
    weights: pd.Series | npt.NDArray[np.float64],
    alpha: float = 0.0,
) -> float:
    """The poverty index P_alpha of Foster, Greer & Thorbecke (1984), over the households whose consumption is known.

    Parameters
    ----------
    consumption : Series (household)
        Per person, in the unit of the line.
    line : float or Series (household)
        Poverty line, above zero.
    weights : Series or array (household)
        People each household stands for (household weight x size), in the order of ``consumption``.
    alpha : float
        Aversion to poverty: 0 headcount, 1 poverty gap, 2 severity. Not negative.

    Returns
    -------
    float
        0 (nobody poor) to 1.

    Raises
    ------
    SurveyError
        If ``alpha`` is negative, a weight is missing or negative, or no household is left.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise SurveyError(f"alpha is {alpha!r}; expected 0 (headcount), 1 (gap), 2 (severity) or another such number.")
    terms = shortfalls(consumption, line)
    people = np.asarray(weights, dtype=float)
    if people.shape != (len(terms),):
        raise SurveyError(f"weights are of shape {people.shape}; expected one for each of {len(terms)} households.")
    if not (people >= 0).all():
        raise SurveyError("weights are negative or missing for some households; drop those first.")
    known = terms["poor"].notna().to_numpy()
    total = people[known].sum()
    if not total > 0:
        raise SurveyError("no household has both consumption and a weight above zero; is this the right column?")
    # 0 ** 0 is 1, so the households that are not poor are left out by name, not by their gap.
    value = np.where(terms["poor"] == 1, terms["poverty_gap"] ** alpha, 0.0)
    return float((value[known] * people[known]).sum() / total)


def _named(values: pd.Series, name: str) -> pd.Series:
    """``values`` with a name for messages to use, where they have none."""
    return values.rename(name) if values.name is None else values


def _as_line(line: float | pd.Series, index: pd.Index) -> pd.Series:
    if isinstance(line, pd.Series):
        if not line.index.equals(index):
            raise SurveyError(
                "the poverty lines are on another index than consumption; give one for each household, in a Series "
                "with the same index."
            )
        lines = as_number(_named(line, "line"), "the table of households")
    else:
        check_positive(line, "the poverty line", SurveyError)
        lines = pd.Series(float(line), index=index)
    if (lines <= 0).any():
        raise SurveyError(
            f"poverty lines must be above zero; {int((lines <= 0).sum())} are not ({some(lines[lines <= 0].unique())})."
        )
    if len(lines) and not lines.notna().any():
        raise SurveyError("no poverty line is known; give it in the unit of consumption.")
    return lines
