"""DHS surveys from the files as they are distributed: households and the positions of their clusters, pooled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from geopov._validation import ID_COLUMN
from geopov.errors import SurveyError
from geopov.survey.clusters import drop_rows, note_dropped
from geopov.survey.dhs.files import DhsFiles, sort_files
from geopov.survey.dhs.gps import read_positions, survey_year
from geopov.survey.dhs.names import KINDS, DhsName
from geopov.survey.dhs.pairing import pair
from geopov.survey.dhs.recode import HouseholdRecode, read_recode
from geopov.survey.dhs.wealth import read_wealth
from geopov.survey.files.archives import open_files

NOT_MAPPED = "not in the GPS file (GE)"
NO_RESIDENCE = "neither hv025 nor the GPS file says whether it is urban"
NOT_SURVEYED = "no household in the household recode (HR)"

_KEYS = ("cluster", "household", "urban", "region", "stratum", "psu")


@dataclass(frozen=True)
class DhsSurvey:
    """One or several DHS surveys, pooled."""

    households: pd.DataFrame
    """One row a household, sorted by survey; ``household_id`` and ``cluster_id`` unique over all surveys.

    Households whose cluster has no position are here too: they count for an asset index. ``attrs``: ``dropped``
    (source, id, reason), ``files`` (what was read), ``notes`` (what a person must know).
    """
    positions: gpd.GeoDataFrame
    """One point a cluster in EPSG:4326: ``cluster_id`` (DHSID), ``survey``, ``country``, ``year``, ``cluster``
    (number within the survey), ``urban``, ``displacement_km``, ``region``, ``position_source``."""


def read_dhs(sources: Sequence[Path | str] | Path | str, *, chunk_rows: int | None = None) -> DhsSurvey:
    """Read DHS surveys: household recodes (HR) and GPS files (GE), as zips, folders or files, in any mix and order.

    Parameters
    ----------
    sources : path or sequence of path
        Named as the DHS Program names them (``RWHR61DT.ZIP``, ``RWGE61FL.ZIP``), in either case. The wealth index of
        old surveys (WI) is joined too; other kinds of file are passed over.
    chunk_rows : int, optional
        Households in memory at once while a recode is read; default as many as fit in about 128 MiB.

    Returns
    -------
    DhsSurvey
        The same whatever the order of ``sources``. A survey is called by country and year, ``RW2014``, and where two
        share these by its version too, ``RW2014-6A``.

    Raises
    ------
    SurveyError
        If a file is missing, damaged, of another survey than its name says or in a format that cannot be read, a
        recode and a GPS file do not belong together, or the same survey is given twice.
    """
    with open_files(sources) as files:
        found = sort_files(files)
        positions = [
            (name, file.origin, read_positions(file.path(), name=name, origin=file.origin))
            for name, file in found.positions.items()
        ]
        recodes = [_read_recode(name, found, chunk_rows) for name in found.recodes]
    _check_no_copies(recodes)
    pairs = [(recode, *positions[j][1:]) for recode, j in zip(recodes, pair(recodes, positions), strict=True)]
    pairs.sort(key=lambda each: (each[0].name.country_code, survey_year(each[2]), each[0].name.version))
    ids = _survey_ids([(recode.name, survey_year(places)) for recode, _, places in pairs])
    tables = [_joined(*each, survey) for each, survey in zip(pairs, ids, strict=True)]
    survey = DhsSurvey(_pooled([table for table, _ in tables]), _pooled([table for _, table in tables]))
    survey.households.attrs["files"] += found.unused
    return survey


def _read_recode(name: DhsName, found: DhsFiles, chunk_rows: int | None) -> HouseholdRecode:
    file, index = found.recodes[name], found.wealth.get(replace(name, kind="WI"))
    wealth = None if index is None else read_wealth(index.path(), origin=index.origin)
    return read_recode(file.path(), name=name, origin=file.origin, wealth=wealth, chunk_rows=chunk_rows)


def _check_no_copies(recodes: Sequence[HouseholdRecode]) -> None:
    keys = ["cluster", "household", "weight", "household_size"]
    for one, other in combinations(recodes, 2):
        if one.name.country_code != other.name.country_code:
            continue
        shared = len(one.households[keys].merge(other.households[keys], on=keys))
        if shared > 0.5 * min(len(one.households), len(other.households)):
            raise SurveyError(
                f"{one.origin} and {other.origin} hold the same households ({shared} of {len(one.households)}): two "
                "releases of one survey. Give only the newer."
            )


def _survey_ids(surveys: Sequence[tuple[DhsName, int]]) -> list[str]:
    plain = [f"{name.country_code}{year}" for name, year in surveys]
    return [
        f"{label}-{name.version}" if plain.count(label) > 1 else label
        for label, (name, _) in zip(plain, surveys, strict=True)
    ]


def _joined(
    recode: HouseholdRecode, origin: str, places: gpd.GeoDataFrame, survey: str
) -> tuple[pd.DataFrame, gpd.GeoDataFrame]:
    """One survey's households and positions under the pool's identifiers, with what does not match named."""
    label, _, version = survey.partition("-")
    suffix = f"-{version}" if version else ""
    mapped: dict[int, str] = places.attrs["clusters"]

    def cluster_id(number: int) -> str:
        return mapped.get(number, f"{label}{number:08d}") + suffix

    table = recode.households
    urban = table["urban"].where(table["urban"].notna(), table["cluster"].map(places.set_index("cluster")["urban"]))
    ids = table["cluster"].map(cluster_id)
    households = pd.DataFrame(
        {
            "household_id": ids + "-" + table["household"],
            ID_COLUMN: ids,
            "survey": survey,
            "country": recode.name.country,
            "year": survey_year(places),
            "urban": urban,
            "region": table["region"],
            "stratum": survey + "-" + table["stratum"],
            "psu": survey + "-" + table["psu"],
            **{column: table[column] for column in table.columns if column not in _KEYS},
        }
    )
    households.attrs = {
        "dropped": [
            {"source": "households", "id": f"{cluster_id(number)}-{household}", "reason": reason}
            for number, household, reason in recode.dropped
        ],
        "files": [
            {"file": recode.origin, "role": KINDS["HR"], "survey": survey, "rows": recode.n_rows},
            {"file": origin, "role": KINDS["GE"], "survey": survey, "rows": len(mapped)},
        ],
        "notes": [*recode.notes, *places.attrs["notes"]],
    }
    unknown = households["urban"].isna()
    households = note_dropped(households[~unknown], "households", households.loc[unknown, "household_id"], NO_RESIDENCE)
    households["urban"] = households["urban"].astype(bool)

    return households, _matched(places, set(table["cluster"]), survey, cluster_id, households.attrs["notes"])


def _matched(
    places: gpd.GeoDataFrame, surveyed: set[int], survey: str, cluster_id: Callable[[int], str], notes: list[str]
) -> gpd.GeoDataFrame:
    """The positions of clusters that have households, and a note of each cluster that only one of the files has."""
    mapped = places.attrs["clusters"]
    renamed = {name: cluster_id(number) for number, name in mapped.items()}
    positions = places.assign(survey=survey, **{ID_COLUMN: places[ID_COLUMN].map(renamed)})
    dropped = [{**entry, "id": renamed[entry["id"]]} for entry in places.attrs["dropped"]]
    positions.attrs = {"dropped": dropped, "notes": notes}
    positions = note_dropped(positions, "clusters", map(cluster_id, sorted(surveyed - set(mapped))), NOT_MAPPED)
    positions = drop_rows(positions, ~positions["cluster"].isin(surveyed), NOT_SURVEYED)
    return positions[[ID_COLUMN, "survey", *(column for column in places.columns if column != ID_COLUMN)]]


def _pooled(tables: Sequence[pd.DataFrame]) -> Any:
    """The tables below one another; of their attrs the lists, joined."""
    pooled = pd.concat(tables, ignore_index=True)
    pooled.attrs = {
        key: [entry for table in tables for entry in table.attrs.get(key, [])]
        for key in dict.fromkeys(key for table in tables for key in table.attrs)
    }
    return pooled
