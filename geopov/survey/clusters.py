"""Survey clusters: from a table with coordinates to points with outcomes, and every row left out named.

Clusters are a GeoDataFrame of points in EPSG:4326 with a unique ``cluster_id``. What was left out on the way travels
with it in ``attrs["dropped"]``, through GeoParquet too; :func:`dropped` shows it as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
from pyproj.exceptions import CRSError

from geopov._validation import ID_COLUMN, atomic_path, check_columns, check_points, check_unique, still_gpkg_date
from geopov.errors import SurveyError
from geopov.grid import as_crs
from geopov.survey.data_dictionary import dictionary, flat_values
from geopov.survey.files.tables import as_ids, as_number, as_urban, filter_rows, read_table

CONTRACT_COLUMNS = ("country", "year", "urban", "weight", "displacement_km")
_Table = TypeVar("_Table", bound=pd.DataFrame)
_FID, _GEOMETRY = "fid", "geom"
NO_POSITION = "no coordinates"
AT_ZERO = "coordinates (0, 0), which surveys write for a missing position"


def read_clusters(
    source: Path | str | pd.DataFrame,
    *,
    id_column: str = ID_COLUMN,
    lon_column: str | None = None,
    lat_column: str | None = None,
    crs: Any = "EPSG:4326",
    outcomes: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    rename: Mapping[str, str] | None = None,
    keep: Sequence[str] | None = None,
) -> gpd.GeoDataFrame:
    """Survey clusters from a table.

    Rows without coordinates, at (0, 0), or without a value of an outcome are dropped and named. Whatever else is
    wrong is an error, because a table read in the wrong way should not be half used.

    Parameters
    ----------
    source : path or DataFrame
        .parquet, .csv, .dta, .sav, .sas7bdat, .gpkg, .geojson, .shp; a file of :func:`write_clusters` comes back as it
        was.
    id_column : str
        Column that names a cluster; becomes ``cluster_id``.
    lon_column, lat_column : str, optional
        Columns of the coordinates (x and y if ``crs`` is projected); default the geometry of the table.
    crs : CRS
        Of those columns; a geometry has its own.
    outcomes : sequence of str
        Columns of numbers that every cluster must have.
    where : mapping
        Column to value or list of values: the rows to take.
    rename : mapping
        The table's name to the field's, for ``country``, ``year``, ``urban``, ``weight``, ``displacement_km``:
        ``{"URBAN_RURA": "urban"}``. Applied first, so the other arguments use the new names.
    keep : sequence of str, optional
        Further columns to keep, beside those and the outcomes; default all.

    Returns
    -------
    GeoDataFrame
        Points in EPSG:4326; ``cluster_id`` str and unique, ``urban`` bool, ``year`` int, ``weight`` and the outcomes
        float. :func:`dropped` lists what was left out.

    Raises
    ------
    SurveyError
        If a column, a file or a wanted value is missing, ids repeat, longitude and latitude are swapped or out of
        range, a value is no number, or nothing is left.
    """
    table = read_table(source) if isinstance(source, str | Path) else source
    what = Path(source).name if isinstance(source, str | Path) else "the table"
    for column, name in (rename or {}).items():
        check_columns(table, [column], what, SurveyError)
        if name in table.columns and name != column:
            raise SurveyError(f"{what} already has a column {name!r}; renaming {column!r} to it would hide one.")
    table = table.rename(columns=dict(rename or {}))
    points = _place(table, what, id_column, lon_column, lat_column, crs)
    check_columns(table, [*outcomes, *(keep or [])], what, SurveyError)
    table = filter_rows(table, where or {}, what)
    points = points.loc[table.index]
    ids = as_ids(table[id_column], what)
    check_unique(ids, what, SurveyError)

    used = {id_column, lon_column, lat_column, ID_COLUMN, getattr(table, "_geometry_column_name", None)}
    extra = [column for column in (table.columns if keep is None else keep) if column not in used]
    names = list(dict.fromkeys([*(c for c in CONTRACT_COLUMNS if c in table.columns), *outcomes, *extra]))
    columns = {name: typed(table[name], name, outcomes, what) for name in names}
    clusters = gpd.GeoDataFrame({ID_COLUMN: ids, **columns}, geometry=points, crs=points.crs)
    clusters.attrs = dict(table.attrs)

    x, y = points.x, points.y
    missing = points.isna() | points.is_empty | x.isna() | y.isna()
    clusters = drop_rows(clusters, missing, NO_POSITION)
    clusters = drop_rows(clusters, (x == 0) & (y == 0), AT_ZERO)
    for outcome in outcomes:
        clusters = drop_rows(clusters, clusters[outcome].isna(), f"no value of {outcome}")
    return check_clusters(clusters)


def check_clusters(clusters: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Check clusters against the contract, once all is in them; returned in EPSG:4326, in a fixed order of columns.

    Raises
    ------
    SurveyError
        If none is left, or a point cannot be placed on the ground.
    """
    if len(clusters) == 0:
        reasons = dropped(clusters)["reason"].value_counts()
        raise SurveyError(
            f"no cluster is left: {'; '.join(f'{n} dropped for {reason}' for reason, n in reasons.items())}. "
            "Are these the right columns?"
        )
    checked = check_points(without_attrs(clusters).reset_index(drop=True), error=SurveyError)
    first = [ID_COLUMN, *(column for column in CONTRACT_COLUMNS if column in checked.columns)]
    place = checked.geometry.name
    checked = checked[[*first, *(column for column in checked.columns if column not in [*first, place]), place]]
    checked.attrs = dict(clusters.attrs)
    return checked


def dropped(clusters: pd.DataFrame) -> pd.DataFrame:
    """What was left out on the way to ``clusters``: one row each, ``source``, ``id`` and ``reason``.

    ``source`` says which input the ``id`` belongs to: clusters, households, polygons or counts.
    """
    return pd.DataFrame(clusters.attrs.get("dropped", []), columns=["source", "id", "reason"], dtype=object)


def drop_rows(clusters: gpd.GeoDataFrame, bad: pd.Series, reason: str) -> gpd.GeoDataFrame:
    """``clusters`` without the rows where ``bad`` (aligned on the index) is true, and a note of each."""
    bad = bad.reindex(clusters.index).fillna(False).astype(bool)
    return note_dropped(clusters[~bad], "clusters", clusters.loc[bad, ID_COLUMN], reason)


def note_dropped(table: gpd.GeoDataFrame, source: str, ids: Iterable[object], reason: str) -> gpd.GeoDataFrame:
    """``table`` with rows of ``source`` added to the list of what was left out."""
    noted = without_attrs(table).copy()
    noted.attrs = {**table.attrs, "dropped": [*table.attrs.get("dropped", []), *entries(source, ids, reason)]}
    return noted


def entries(source: str, ids: Iterable[object], reason: str) -> list[dict[str, str]]:
    """Entries of the list of what was left out."""
    return [{"source": source, "id": str(name), "reason": reason} for name in ids]


def without_attrs(table: _Table) -> _Table:
    """The same table without its ``attrs``, which pandas copies, entry by entry, at every step of a calculation."""
    bare = table.copy(deep=False)
    bare.attrs = {}
    return bare


def write_clusters(
    clusters: gpd.GeoDataFrame, path: Path | str, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write clusters to GeoParquet, and beside it what people and other programs read.

    ``NAME.dropped.csv`` lists what was left out, ``NAME.dictionary.csv`` says what the columns are, and ``NAME.gpkg``
    holds the clusters (layer ``clusters``) and that list (layer ``dropped``) for GIS and statistics packages. The
    GeoParquet has all of it inside, so that a copy of that file alone loses nothing. The same clusters give the same
    bytes.

    Parameters
    ----------
    clusters : GeoDataFrame
        As :func:`read_clusters` returns it.
    path : path
        Ends in .parquet.
    provenance : mapping, optional
        JSON-able; kept in ``attrs["provenance"]``.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise SurveyError(f"clusters are written as GeoParquet; {path.name} must end in .parquet.")
    left_out, bare = dropped(clusters), without_attrs(clusters)
    whole = bare.copy(deep=False)
    whole.attrs = {**clusters.attrs, "dropped": left_out.to_dict(orient="records")}
    if provenance is not None:
        whole.attrs["provenance"] = dict(provenance)
    with atomic_path(path.with_suffix(".dropped.csv")) as partial:
        left_out.to_csv(partial, index=False)
    with atomic_path(path.with_suffix(".dictionary.csv")) as partial:
        dictionary(clusters).to_csv(partial, index=False)
    with atomic_path(path.with_suffix(".gpkg")) as partial:
        _write_gpkg({"clusters": bare, "dropped": left_out}, partial)
    # Last, so that where the clusters are whole the files beside them are too.
    with atomic_path(path) as partial:
        whole.to_parquet(partial, index=False)


def _write_gpkg(layers: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Layers of one GeoPackage."""
    with still_gpkg_date():
        for layer, table in layers.items():
            pyogrio.write_dataframe(_flat(table), path, layer=layer, driver="GPKG", FID=_FID, GEOMETRY_NAME=_GEOMETRY)


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with columns that a GeoPackage can hold, under names that differ by more than case."""
    place = table.geometry.name if isinstance(table, gpd.GeoDataFrame) else None
    names: dict[str, str] = {}
    taken = {_FID, _GEOMETRY}
    for column in table.columns:
        name = str(column)
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        names[column] = name
    flat = table.assign(**{column: flat_values(table[column]) for column in table.columns if column != place})
    return flat.rename(columns={column: name for column, name in names.items() if column != place})


def _place(
    table: pd.DataFrame, what: str, id_column: str, lon_column: str | None, lat_column: str | None, crs: Any
) -> gpd.GeoSeries:
    check_columns(table, [id_column], what, SurveyError)
    if (lon_column is None) != (lat_column is None):
        raise SurveyError("only one of lon_column and lat_column is given; give both, or neither to use the geometry.")
    if lon_column is None or lat_column is None:
        if not isinstance(table, gpd.GeoDataFrame):
            raise SurveyError(f"{what} has no geometry; name its columns lon_column and lat_column.")
        if table.crs is None:
            raise SurveyError(f"the geometry of {what} has no CRS; set it with set_crs first.")
        return table.geometry
    check_columns(table, [lon_column, lat_column], what, SurveyError)
    if "lat" in lon_column.lower() and "lon" in lat_column.lower():
        raise SurveyError(
            f"lon_column is {lon_column!r} and lat_column {lat_column!r}: swapped? Longitude is x, latitude is y."
        )
    try:
        crs = as_crs(crs)
    except CRSError as error:
        raise SurveyError(f"crs is {crs!r}, which names no CRS; expected one such as 'EPSG:4326'.") from error
    x, y = as_number(table[lon_column], what), as_number(table[lat_column], what)
    points = gpd.GeoSeries(gpd.points_from_xy(x, y), index=table.index, crs=crs)
    points[x.isna() | y.isna()] = None
    return points


def typed(values: pd.Series, name: str, outcomes: Sequence[str], what: str) -> pd.Series:
    """A column of the type that the contract gives its name; outcomes as float, and any other column as it is.

    Raises
    ------
    SurveyError
        If a value does not fit, or is missing in a column of the contract.
    """
    if name == "urban":
        return as_urban(values, what)
    if name == "year":
        return _as_year(values, what)
    if name in ("weight", "displacement_km"):
        number = as_number(values, what)
        if (number < 0).any() or number.isna().any():
            raise SurveyError(f"{what} has {name} values that are negative or missing; fill or remove those rows.")
        return number
    if name in outcomes:
        return as_number(values, what)
    return values


def _as_year(values: pd.Series, what: str) -> pd.Series:
    year = as_number(values, what)
    if year.isna().any() or (year % 1 != 0).any() or not np.all((year > 1900) & (year < 2100)):
        raise SurveyError(f"{what} has values of year that are missing or no year of four digits; recode them.")
    return year.astype("int64")
