"""Census areas as clusters: polygons and a table of counts in, one point an area with its population density out."""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geopov._validation import ID_COLUMN, check_columns, some
from geopov.errors import SurveyError
from geopov.survey.clusters import check_clusters, drop_rows, note_dropped
from geopov.survey.files.tables import as_keys, as_number

# A cylindrical equal-area projection: areas in it are areas on the WGS 84 ellipsoid.
EQUAL_AREA = "EPSG:6933"


def read_areas(
    polygons: gpd.GeoDataFrame,
    counts: pd.DataFrame,
    *,
    polygon_key: Sequence[str],
    count_key: Sequence[str],
    population: str,
    keep: Sequence[str] = (),
    polygon_name: str | None = None,
) -> gpd.GeoDataFrame:
    """Areas of a census as clusters.

    Polygons of one key are pieces of one area and are united first, so that no population is counted twice and no
    density is too high. Each area gets one point: its centroid, around which a tile covers the most of its ground, or a
    point inside it where the centroid falls outside.

    Parameters
    ----------
    polygons : GeoDataFrame
        Polygons with a CRS and the columns ``polygon_key``.
    counts : DataFrame
        One row an area, with the columns ``count_key`` and ``population``.
    polygon_key, count_key : sequences of str
        Columns that name an area together, in the same order on both sides; ``7``, ``7.0``, ``"07"`` and ``"७"`` are
        one key. The ``cluster_id`` is the key joined by hyphens.
    population : str
        Column of ``counts`` with the number of people.
    keep : sequence of str
        Further columns of ``counts`` to carry along.
    polygon_name : str, optional
        Column that names a polygon in the list of what was left out; default its index.

    Returns
    -------
    GeoDataFrame
        Clusters in EPSG:4326 with ``population``, ``area_km2`` (equal-area, of all pieces), ``density`` (people per
        km²), ``log_density`` (natural logarithm) and ``pieces``. :func:`geopov.survey.dropped` lists polygons without
        counts, counts without a polygon, and areas without people, whose logarithm is undefined.

    Raises
    ------
    SurveyError
        If a column is missing, a key stands twice in ``counts``, a count is negative or no number, a geometry is no
        polygon, there is no CRS, or nothing can be joined.
    """
    if len(polygon_key) != len(count_key) or not polygon_key:
        raise SurveyError(
            f"the keys are {list(polygon_key)} of the polygons and {list(count_key)} of the counts; "
            "expected as many columns on both sides, at least one."
        )
    check_polygons(polygons, [*polygon_key, *([polygon_name] if polygon_name else [])], "the polygons")
    table = _counts_by_key(counts, count_key, population, keep)
    names = polygons[polygon_name] if polygon_name else pd.Series(polygons.index, index=polygons.index)
    pieces = gpd.GeoDataFrame({ID_COLUMN: join_keys(polygons, polygon_key)}, geometry=polygons.geometry)
    unkeyed = pieces[ID_COLUMN].isna()
    unknown = ~unkeyed & ~pieces[ID_COLUMN].isin(table.index)
    joined = pieces[~unkeyed & ~unknown]
    if joined.empty:
        raise SurveyError(
            f"no polygon's key ({some(pieces[ID_COLUMN].dropna())}) is among the counts' ({some(table.index)}). "
            f"Do {list(polygon_key)} and {list(count_key)} name the same areas?"
        )

    areas = dissolve(joined, by=ID_COLUMN).join(table, on=ID_COLUMN)
    areas["area_km2"] = areas.geometry.to_crs(EQUAL_AREA).area / 1e6
    areas["density"] = areas["population"] / areas["area_km2"]
    areas["log_density"] = np.log(areas["density"].where(areas["density"] > 0))
    areas = areas.set_geometry(centre_points(areas.geometry))
    areas.attrs = {"dropped": list(polygons.attrs.get("dropped", [])) + list(counts.attrs.get("dropped", []))}

    areas = note_dropped(areas, "polygons", names[unkeyed], "no key")
    areas = note_dropped(areas, "polygons", names[unknown], "no counts have its key")
    without = table.index.difference(joined[ID_COLUMN], sort=False)
    areas = note_dropped(areas, "counts", without, "no polygon has its key")
    areas = drop_rows(areas, areas["population"].isna(), "population missing")
    areas = drop_rows(areas, areas["population"] == 0, "no people: the logarithm of the density is undefined")
    return check_clusters(areas)


def dissolve(polygons: gpd.GeoDataFrame, *, by: str) -> gpd.GeoDataFrame:
    """One row for each value of ``by`` in order of appearance: its polygons united, and their number in ``pieces``."""
    united = polygons[[by, polygons.geometry.name]].dissolve(by=by, sort=False)
    united["pieces"] = polygons.groupby(by, sort=False).size()
    return united.reset_index()


def centre_points(polygons: gpd.GeoSeries) -> gpd.GeoSeries:
    """The centroid of each polygon, or where that lies outside it a point inside, in EPSG:4326."""
    equal_area = polygons.to_crs(EQUAL_AREA)
    centroid = equal_area.centroid
    inside = equal_area.covers(centroid)
    return centroid.where(inside, equal_area.representative_point()).to_crs("EPSG:4326")


def find_owners(polygons: gpd.GeoDataFrame, zones: gpd.GeoDataFrame) -> pd.DataFrame:
    """For each polygon the zone that holds most of it.

    Parameters
    ----------
    polygons, zones : GeoDataFrame
        Polygons, each with a CRS.

    Returns
    -------
    DataFrame
        Indexed like ``polygons``: ``zone``, an index label of ``zones``, missing where no zone overlaps the polygon,
        and ``share``, the part of the polygon's area inside that zone, 0 to 1.
    """
    inner, outer = polygons.geometry.to_crs(EQUAL_AREA), zones.geometry.to_crs(EQUAL_AREA)
    inner, outer = inner.make_valid(), outer.make_valid()
    at_outer, at_inner = inner.sindex.query(outer, predicate="intersects")
    overlap = shapely.area(shapely.intersection(inner.to_numpy()[at_inner], outer.to_numpy()[at_outer]))
    share = overlap / inner.area.to_numpy()[at_inner]
    pairs = pd.DataFrame({"at": at_inner, "zone_at": at_outer, "share": share})
    pairs = pairs[pairs["share"] > 0]
    # Of two equal shares the zone that comes first wins, in whatever order the spatial index answers.
    best = pairs.sort_values(["share", "zone_at"], ascending=[False, True]).drop_duplicates("at").set_index("at")
    zone = pd.Series(zones.index[best["zone_at"]], index=best.index).reindex(range(len(polygons)))
    share = best["share"].reindex(range(len(polygons)), fill_value=0.0)
    return pd.DataFrame({"zone": zone.to_numpy(), "share": share.to_numpy()}, index=polygons.index)


def check_polygons(polygons: gpd.GeoDataFrame, columns: Sequence[str], what: str) -> None:
    """Raise unless ``polygons`` are polygons with a CRS and these columns."""
    if not isinstance(polygons, gpd.GeoDataFrame):
        raise SurveyError(f"{what} have no geometry; read them from .parquet (GeoParquet), .gpkg, .geojson or .shp.")
    if polygons.crs is None:
        raise SurveyError(f"{what} have no CRS; set it with set_crs first.")
    check_columns(polygons, columns, what, SurveyError)
    bad = ~polygons.geom_type.isin(["Polygon", "MultiPolygon"]) | polygons.is_empty
    if bad.any():
        raise SurveyError(
            f"{int(bad.sum())} of {len(polygons)} rows of {what} are no polygons ({some(polygons.index[bad])}). "
            "Drop them."
        )


def join_keys(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The values of several columns as one key, joined by hyphens; missing where one of them is."""
    parts = [as_keys(table[column]) for column in columns]
    key = parts[0]
    for part in parts[1:]:
        key = key + "-" + part
    return key


def _counts_by_key(counts: pd.DataFrame, key: Sequence[str], population: str, keep: Sequence[str]) -> pd.DataFrame:
    what = "the table of counts"
    check_columns(counts, [*key, population, *keep], what, SurveyError)
    people = as_number(counts[population], what)
    if (people < 0).any():
        raise SurveyError(
            f"{what} has {int((people < 0).sum())} negative values in {population!r}; correct or blank them."
        )
    table = counts[list(keep)].assign(**{ID_COLUMN: join_keys(counts, key), "population": people})
    table = table[table[ID_COLUMN].notna()]
    repeated = table.loc[table[ID_COLUMN].duplicated(), ID_COLUMN].unique()
    if len(repeated):
        raise SurveyError(
            f"{what}: {len(repeated)} keys of {list(key)} stand more than once ({some(repeated)}). "
            "Add the column that tells them apart, or sum them first if they are parts of one area."
        )
    return table.set_index(ID_COLUMN)


def density_outliers(areas: pd.DataFrame, *, group: str = "zone_id", factor: float = 20.0) -> pd.DataFrame:
    """Areas whose density is ``factor`` times that of their group or more, or less than a ``factor``-th of it.

    Most are real, a bazaar or a mountain side; among them are the areas whose polygon is wrong. They are for looking
    at, and stay in.

    Parameters
    ----------
    areas : DataFrame
        With ``cluster_id``, ``log_density`` and ``group``.
    group : str
        Column of the larger units whose median density is compared with.
    factor : float
        Above 1.

    Returns
    -------
    DataFrame
        ``cluster_id``, ``group``, ``population``, ``area_km2``, ``density`` and ``ratio`` to the median, the most
        extreme first.
    """
    columns = [ID_COLUMN, group, "population", "area_km2", "density"]
    check_columns(areas, [*columns, "log_density"], "the table of areas", SurveyError)
    log_ratio = areas["log_density"] - areas.groupby(group)["log_density"].transform("median")
    far = log_ratio.abs()[log_ratio.abs() >= np.log(factor)].sort_values(ascending=False, kind="stable").index
    return pd.DataFrame(areas.loc[far, columns]).assign(ratio=np.exp(log_ratio[far]))
