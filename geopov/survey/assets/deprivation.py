"""Deprivations of a household, counted as the global Multidimensional Poverty Index counts them.

Alkire & Foster (2011, J Public Econ 95:476); cut-offs and weights of the global MPI (Alkire, Kanagaratnam & Suppa
2020, OPHI MPI Methodological Note 49). The household file of a survey allows part of it: health (nutrition and child
mortality, a third of the weight) needs other recodes and is left out, housing looks at the floor only and not at roof
and walls, and education needs the members. The weights are rescaled over what there is, so the score is MPI-style: it
is not the MPI, and compares only where the same indicators are known.
"""

from __future__ import annotations

import pandas as pd

from geopov.errors import SurveyError
from geopov.survey.assets.iwi import coded

WEIGHTS = {
    "schooling": 1 / 6,
    "attendance": 1 / 6,
    "cooking_fuel": 1 / 18,
    "sanitation": 1 / 18,
    "drinking_water": 1 / 18,
    "electricity": 1 / 18,
    "housing": 1 / 18,
    "assets": 1 / 18,
}
HEALTH = ("nutrition", "child_mortality")
SMALL_ASSETS = (
    "radio",
    "television",
    "phone",
    "computer",
    "animal_cart",
    "bicycle",
    "motorcycle",
    "refrigerator",
)
SCHOOLING_YEARS = 6
POOR_CUTOFF = 1 / 3
# Sums of eighteenths miss a third by rounding.
_ROUNDING = 1e-9


def deprivations(households: pd.DataFrame) -> pd.DataFrame:
    """Whether a household is deprived in each indicator.

    Parameters
    ----------
    households : DataFrame
        ``schooling_years_max`` and ``child_out_of_school``; ``fuel_clean``, ``toilet_improved``, ``water_improved``,
        ``floor_improved`` (see :mod:`geopov.survey.assets.housing`) and ``electricity``; :data:`SMALL_ASSETS` and
        ``car``. NaN, or no column, where unknown.

    Returns
    -------
    DataFrame
        On the index of ``households``, 1 deprived, 0 not, NaN unknown: ``schooling`` (no member has six years),
        ``attendance`` (a child of school age is out of school), ``cooking_fuel`` (solid), ``sanitation`` and
        ``drinking_water`` (not improved, or shared, or half an hour away), ``electricity`` (none), ``housing`` (natural
        floor), ``assets`` (at most one of the small ones and no car; an unknown one counts as not owned, unless all
        are unknown). ``attrs["left_out"]`` lists the indicators of the MPI that no household knows.

    Raises
    ------
    SurveyError
        If a value is no number, or a share or a code where 0 or 1 is expected.
    """
    years = coded(households, "schooling_years_max", None)
    table = pd.DataFrame(
        {
            "schooling": (years < SCHOOLING_YEARS).astype(float).where(years.notna()),
            "attendance": coded(households, "child_out_of_school"),
            "cooking_fuel": 1 - coded(households, "fuel_clean"),
            "sanitation": 1 - coded(households, "toilet_improved"),
            "drinking_water": 1 - coded(households, "water_improved"),
            "electricity": 1 - coded(households, "electricity"),
            "housing": 1 - coded(households, "floor_improved"),
            "assets": _few_assets(households),
        },
        index=households.index,
    )
    table.attrs = {"left_out": [*HEALTH, *(name for name in table.columns if not table[name].notna().any())]}
    return table


def deprivation_score(households: pd.DataFrame, *, max_missing: float = 0.5) -> pd.Series:
    """The weighted share of the known indicators in which a household is deprived.

    Parameters
    ----------
    households : DataFrame
        As in :func:`deprivations`; with a column ``survey``, what is available is looked at within each.
    max_missing : float
        A household that lacks a larger share of the weight available in its survey has no score. The MPI itself
        drops a household that lacks any; ``max_missing=0`` does.

    Returns
    -------
    Series of float
        ``deprivation``, 0 (in none) to 1 (in all). ``attrs["measure"]`` has the weights and, for each survey, the
        indicators left out.

    Raises
    ------
    SurveyError
        If a value is not allowed.
    """
    if not 0 <= max_missing < 1:
        raise SurveyError(f"max_missing is {max_missing!r}; expected a share of the weight from 0 to below 1.")
    deprived = deprivations(households)
    weights = pd.Series(WEIGHTS)
    survey = households["survey"].astype(str) if "survey" in households.columns else pd.Series("all", households.index)
    asked = deprived.notna().groupby(survey).any()
    available = asked.mul(weights).sum(axis=1).reindex(survey).set_axis(households.index)
    known = deprived.notna().mul(weights).sum(axis=1)
    enough = (known > 0) & (known >= (1 - max_missing) * available - _ROUNDING)
    score = (deprived.mul(weights).sum(axis=1) / known.where(enough)).rename("deprivation")
    score.attrs = {
        "measure": {
            "source": "after Alkire & Foster (2011) and the global MPI (OPHI Methodological Note 49); without health",
            "weights": dict(WEIGHTS),
            "max_missing": max_missing,
            "left_out": {str(name): [*HEALTH, *row.index[~row]] for name, row in asked.iterrows()},
        }
    }
    return score


def is_poor(score: pd.Series, *, cutoff: float = POOR_CUTOFF) -> pd.Series:
    """1 where the deprivation score reaches ``cutoff`` (the MPI's k, a third), 0 where not, NaN where unknown.

    Its mean, weighted by people, is the headcount H; the mean score of the poor is the intensity A.
    """
    if not 0 < cutoff <= 1:
        raise SurveyError(f"cutoff is {cutoff!r}; expected a share above 0 and up to 1, such as 1/3.")
    return (score >= cutoff - _ROUNDING).astype(float).where(score.notna()).rename("deprived")


def _few_assets(households: pd.DataFrame) -> pd.Series:
    small = pd.DataFrame({name: coded(households, name) for name in SMALL_ASSETS}, index=households.index)
    car = coded(households, "car")
    few = ((small.sum(axis=1) <= 1) & (car != 1)).astype(float)
    return few.where(small.notna().any(axis=1) | (car == 1))
