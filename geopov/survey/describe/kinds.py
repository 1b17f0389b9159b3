"""What a table of a survey is, told by its columns."""

from __future__ import annotations

from geopov._validation import ID_COLUMN, some
from geopov.survey.describe.dhs import describe_households, describe_positions, named
from geopov.survey.describe.found import (
    CLUSTERS,
    DHS_OTHER,
    DHS_WEALTH,
    TABLE,
    Found,
    count,
    numbers,
    placed,
    scan,
    variables_of,
)
from geopov.survey.describe.lsms import describe_lsms, fitting_adapters
from geopov.survey.describe.tabular import Tabular
from geopov.survey.dhs.names import KINDS, DhsName

LON = ("lon", "longitude", "longnum", "long", "lng", "x")
LAT = ("lat", "latitude", "latnum", "y")
_WORDS = {name: word for names, word in ((LON, "longitude"), (LAT, "latitude")) for name in names} | {
    ID_COLUMN: "cluster",
    "country": "country",
    "year": "survey year",
    "urban": "urban or rural",
    "weight": "people or households it stands for",
}


def recognise(table: Tabular, name: str) -> Found:
    """What ``table``, of a file named ``name``, is; its key variables are read for it, and no other."""
    dhs = DhsName.parse(name)
    if table.n_rows == 0:
        return named(Found(TABLE, "table", problems=["it has no rows"]), dhs)
    has = {column.lower() for column in table.columns}
    if {"hv001", "hv005"} <= has and "hvidx" not in has:
        return describe_households(table, dhs)
    if {"dhsclust", "latnum", "longnum"} <= has:
        return describe_positions(table, dhs)
    if dhs is not None or {"hvidx", "hv001"} <= has or "v001" in has or "mv001" in has:
        kind = "PR" if "hvidx" in has else dhs.kind if dhs else "MR" if "mv001" in has else "IR"
        found = Found(DHS_WEALTH if kind == "WI" else DHS_OTHER, f"DHS {KINDS[kind]}")
        return named(found, dhs)
    fitting = fitting_adapters(has, name)
    if fitting:
        return describe_lsms(table, fitting, has)
    return _plain(table, has)


def _plain(table: Tabular, has: set[str]) -> Found:
    """A table of clusters, or one that geopov can only read when told which column is what."""
    lon, lat = (next((table.find(name) for name in names if table.find(name)), None) for names in (LON, LAT))
    # Coordinates in columns have to be named to `geopov survey points`; geometry is found.
    kind = CLUSTERS if ID_COLUMN in has and table.has_geometry else TABLE
    found = Found(kind, "clusters" if kind == CLUSTERS else "table")
    if lon is not None and lat is not None:
        found.position = (lon, lat)
    names = [name for name in (ID_COLUMN, "country", "year", "urban", "weight", lon, lat) if name in table.columns]
    wanted = [str(name) for name in names]
    missing, kept = scan(table, dict.fromkeys(wanted, 0), wanted)
    found.variables = variables_of(table, {name: name in (ID_COLUMN, lon, lat) for name in wanted}, missing, _WORDS)
    if found.position is not None:
        placed(found, numbers(kept[found.position[0]]), numbers(kept[found.position[1]]))
    if ID_COLUMN in kept:
        ids = kept[ID_COLUMN]
        count(found, ids.duplicated(), "rows that repeat a cluster_id", ids)
    countries, years = (sorted(kept[name].dropna().unique()) if name in kept else [] for name in ("country", "year"))
    if len(countries) == 1:
        found.country = str(countries[0])
    if len(countries) > 1:
        found.facts.append(f"{len(countries)} countries: {some(countries)}")
    if years:
        found.year = int(years[0]) if len(years) == 1 else None
        found.facts.append(f"surveyed in {years[0]:g}" + ("" if len(years) == 1 else f" to {years[-1]:g}"))
    if table.has_geometry and table.crs is None:
        found.problems.append("no CRS: set the one its coordinates are in")
    return found
