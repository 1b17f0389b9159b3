"""The International Wealth Index: one yardstick of household wealth from 0 to 100 for all surveys.

Smits & Steendijk (2015), The International Wealth Index (IWI), Soc Indic Res 122:65-85, Table 1; instructions on
globaldatalab.org/iwi/using and /computing. The weights were found once, on 2.1 million households of 97 countries, and
are fixed, so that unlike a principal component of one's own pool it compares across surveys, countries and years.

The weights below are not checked against the paper's own table; they are those that several published applications to
DHS and MICS files agree on. With their constant of 25.00447 the least is 0 and the most 100.000002, as the definition
wants. The index here is the place between the two, which is the same but for that rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.files.tables import as_number

OWNED = {
    "television": 8.612657,
    "refrigerator": 8.429076,
    "phone": 7.127699,
    "car": 4.651382,
    "bicycle": 1.846860,
    "cheap_utensils": 4.118394,
    "expensive_utensils": 6.507283,
    "electricity": 8.056664,
}
"""What owning (or having electricity) adds."""

LEVELS = {
    "water_level": (-6.306477, -2.302023, 7.952443),
    "floor_level": (-7.558471, 1.227531, 6.107428),
    "toilet_level": (-7.439841, -1.090393, 8.140637),
    "rooms": (-3.699681, 0.384050, 3.445009),
}
"""What low, medium and high quality add, or up to one, two, and three or more sleeping rooms."""

LEAST = {**dict.fromkeys(OWNED, 0.0), **{name: min(weights) for name, weights in LEVELS.items()}}
MOST = {**OWNED, **{name: max(weights) for name, weights in LEVELS.items()}}
CHEAP = ("radio", "watch", "fan")
EXPENSIVE = ("motorcycle", "computer", "washing_machine", "air_conditioner", "generator", "motorboat")
VARIABLES = (*OWNED, *LEVELS)
_WHAT = "the table of households"


def iwi(households: pd.DataFrame, *, max_unknown: int = 0) -> pd.Series:
    """The International Wealth Index of each household.

    Cheap utensils (under 50 USD) are any of :data:`CHEAP`, expensive ones (over 300 USD) any of :data:`EXPENSIVE`, of
    which the columns that are there are used. As in version 1.1 of the Global Data Lab's instructions (news of 10
    December 2014), a car stands for an expensive utensil, and an expensive for a cheap one. Surveys ask for only a
    few of the many utensils that the index means (chairs, tables, clocks; dryers, boats), and a household that owns
    only others counts as owning none: the fewer are asked for, the lower the index, by up to 4.1 and 6.5 points.

    Parameters
    ----------
    households : DataFrame
        ``television``, ``refrigerator``, ``phone``, ``car``, ``bicycle``, ``electricity`` and the utensils as 0 and 1,
        ``water_level``, ``floor_level`` and ``toilet_level`` as 0, 1, 2 (see :mod:`geopov.survey.assets.housing`) and
        ``rooms`` as the number of sleeping rooms; NaN, or no column, where unknown.
    max_unknown : int
        How many of the twelve variables may be unknown. The index then is where the household stands between the
        least and the most that the known variables allow, times 100. The Global Data Lab allows one, with weights
        estimated anew for each case, which are not used here; without a car the two differ by up to 0.4 points.

    Returns
    -------
    Series of float
        ``iwi`` on the index of ``households``, 0 to 100, NaN where more is unknown. ``attrs["measure"]`` says which
        utensils were asked for in each ``survey`` (or in all, without that column), and how many households lack each
        variable.

    Raises
    ------
    SurveyError
        If a value is not among those allowed, or ``max_unknown`` is not from 0 to 11.
    """
    if isinstance(max_unknown, bool) or max_unknown not in range(len(VARIABLES)):
        raise SurveyError(f"max_unknown is {max_unknown!r}; expected a whole number from 0 to {len(VARIABLES) - 1}.")
    points = _points(households)
    unknown = points.isna()
    least = (~unknown).mul(pd.Series(LEAST)).sum(axis=1)
    most = (~unknown).mul(pd.Series(MOST)).sum(axis=1)
    share = (points.sum(axis=1) - least) / (most - least)
    index = (100 * share).clip(0, 100).where(unknown.sum(axis=1) <= max_unknown).rename("iwi")
    index.attrs = {
        "measure": {
            "source": "Smits & Steendijk (2015), Soc Indic Res 122:65-85",
            "cheap_utensils": _asked(households, CHEAP),
            "expensive_utensils": _asked(households, EXPENSIVE),
            "max_unknown": max_unknown,
            "unknown": {name: int(unknown[name].sum()) for name in VARIABLES},
        }
    }
    return index


def _points(households: pd.DataFrame) -> pd.DataFrame:
    """What each variable adds for each household; NaN where it is unknown."""
    known = {name: coded(households, name) for name in OWNED if name not in ("cheap_utensils", "expensive_utensils")}
    known["expensive_utensils"] = _any(households, EXPENSIVE).mask(known["car"] == 1, 1.0)
    known["cheap_utensils"] = _any(households, CHEAP).mask(known["expensive_utensils"] == 1, 1.0)
    points = {name: known[name] * weight for name, weight in OWNED.items()}
    for name, weights in LEVELS.items():
        level = _rooms(households) if name == "rooms" else coded(households, name, (0, 1, 2))
        points[name] = level.map(dict(enumerate(weights))).astype(float)
    return pd.DataFrame(points, index=households.index)


def _any(households: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """1 where one of the goods is owned, 0 where none of those asked for is, NaN where none was asked for."""
    return pd.DataFrame({name: coded(households, name) for name in names}).max(axis=1)


def _asked(households: pd.DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    """For each survey the goods that at least one household knows to own or not."""
    survey = households["survey"].astype(str) if "survey" in households.columns else pd.Series("all", households.index)
    known = households.reindex(columns=list(names)).notna().groupby(survey).any()
    return {str(name): row.index[row].tolist() for name, row in known.iterrows()}


def _rooms(households: pd.DataFrame) -> pd.Series:
    rooms = coded(households, "rooms", None)
    if (rooms < 0).any():
        raise SurveyError(
            "the table of households has negative sleeping rooms in 'rooms'; recode special codes to NaN."
        )
    # None and one sleeping room are one level.
    return (rooms - 1).clip(0, 2).round()


def coded(households: pd.DataFrame, name: str, allowed: Sequence[int] | None = (0, 1)) -> pd.Series:
    """A column of codes as float, NaN where unknown or where there is no such column.

    Raises
    ------
    SurveyError
        If a value is no number, or not among those allowed (None: any).
    """
    if name not in households.columns:
        return pd.Series(np.nan, index=households.index)
    values = as_number(households[name], _WHAT)
    if allowed is not None and not (fits := values.isna() | values.isin(allowed)).all():
        raise SurveyError(
            f"{_WHAT} has {values[~fits].iloc[0]:g} in {name!r}; expected {some(allowed)}, or NaN where unknown."
        )
    return values
