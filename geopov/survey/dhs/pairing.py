"""Which GPS file belongs to which household recode.

The two have the same country in their names, and mostly the same version; a survey whose files were released apart
differs in the second character, and a phase of continuous surveys holds several years.
"""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import pandas as pd

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.dhs.files import check_none_alone
from geopov.survey.dhs.gps import survey_year
from geopov.survey.dhs.names import DhsName
from geopov.survey.dhs.recode import CALENDARS, HouseholdRecode

MIN_SHARED = 0.5
MIN_AGREEING = 0.8
"""Least shares of clusters in both files, and of those in which both say urban or rural alike, for one survey.

Two surveys of one country number their clusters alike, but do not visit towns under the same numbers."""


def pair(recodes: Sequence[HouseholdRecode], positions: Sequence[tuple[DhsName, str, gpd.GeoDataFrame]]) -> list[int]:
    """For each recode the index of its positions.

    Same version first, then same phase, then any of the country; of several, the one of the year of interview.

    Parameters
    ----------
    recodes : sequence of HouseholdRecode
    positions : sequence of (name, origin, table)

    Raises
    ------
    SurveyError
        If one is left without its counterpart, several fit, or the years or clusters of a pair do not fit.
    """
    found: dict[int, int] = {}
    for same in (_same_version, _same_phase, _same_country):
        for i, recode in enumerate(recodes):
            free = [j for j in range(len(positions)) if j not in found.values()]
            fitting = [j for j in free if i not in found and same(recode.name, positions[j][0])]
            if len(fitting) > 1 or (fitting and same is not _same_version):
                fitting = [j for j in fitting if _years_fit(recode, positions[j][2])]
            if len(fitting) > 1:
                raise SurveyError(
                    f"{recode.origin} fits {some(positions[j][1] for j in fitting)} alike. "
                    "Give only the one that belongs to it."
                )
            if fitting:
                found[i] = fitting[0]
    check_none_alone([recode.name for i, recode in enumerate(recodes) if i not in found])
    check_none_alone([position[0] for j, position in enumerate(positions) if j not in found.values()])
    for i, j in found.items():
        check_pair(recodes[i], positions[j][1], positions[j][2])
    return [found[i] for i in range(len(recodes))]


def check_pair(recode: HouseholdRecode, origin: str, places: gpd.GeoDataFrame) -> None:
    """Raise unless years, cluster numbers and urban or rural say that both are of one survey."""
    what = f"{recode.origin} and {origin} do not belong together:"
    remedy = "Download the household recode (HR) and the GPS file (GE) of one survey."
    if recode.name.country_code not in CALENDARS and not _years_fit(recode, places):
        first, last = recode.years
        raise SurveyError(
            f"{what} interviews of {first} to {last}, and positions of {survey_year(places)} (DHSYEAR). {remedy}"
        )
    surveyed, mapped = set(recode.households["cluster"]), set(places.attrs["clusters"])
    shared = surveyed & mapped
    if len(shared) < MIN_SHARED * max(len(surveyed), len(mapped)):
        raise SurveyError(
            f"{what} of {len(surveyed)} clusters in the one (hv001) and {len(mapped)} in the other (DHSCLUST) "
            f"{len(shared)} are the same. {remedy}"
        )
    residence = recode.households.drop_duplicates("cluster").set_index("cluster")["urban"].dropna().astype(bool)
    both = pd.concat([residence, places.set_index("cluster")["urban"].rename("mapped")], axis=1, join="inner")
    if len(both) and (both["urban"] == both["mapped"]).mean() < MIN_AGREEING:
        raise SurveyError(
            f"{what} only {(both['urban'] == both['mapped']).mean():.0%} of their clusters are urban or rural in both "
            f"(hv025, URBAN_RURA). {remedy}"
        )


def _same_country(one: DhsName, other: DhsName) -> bool:
    return one.country_code == other.country_code


def _same_phase(one: DhsName, other: DhsName) -> bool:
    return _same_country(one, other) and one.phase == other.phase


def _same_version(one: DhsName, other: DhsName) -> bool:
    return _same_country(one, other) and one.version == other.version


def _years_fit(recode: HouseholdRecode, places: gpd.GeoDataFrame) -> bool:
    first, last = recode.years
    return first - 1 <= survey_year(places) <= last + 1
