"""Census zones: polygons with a count each, checked so that nobody is lost or counted twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from geopov._validation import check_columns, check_unique, some
from geopov.errors import MapError
from geopov.maps.density.zone_cells import ZoneCells, zone_cells
from geopov.maps.density.zone_geometry import gaps, ground_area_km2, only_polygons, overlaps
from geopov.maps.read import read_vector

__all__ = ["Problem", "ZoneCells", "Zones", "read_zones", "zone_cells"]

Problem = dict[str, Any]
"""``zone_id`` (empty where it concerns none), ``problem`` in words, ``value`` as a number; overlaps also ``other``."""


@dataclass(frozen=True)
class Zones:
    """Polygons with counts of people.

    Attributes
    ----------
    table : GeoDataFrame
        A row a zone: ``zone_id`` (str, unique), ``count`` (people, 0 or more), ``area_km2`` (true ground area) and
        the polygon.
    problems : list of dict
        What was found and lived with: ``zone_id``, ``problem``, ``value``.
    """

    table: gpd.GeoDataFrame
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """Of the zones, in the order of the table."""
        return [str(zone_id) for zone_id in self.table["zone_id"]]

    @property
    def counts(self) -> npt.NDArray[np.float64]:
        """People in each zone."""
        return np.asarray(self.table["count"], dtype=np.float64)

    @property
    def total(self) -> float:
        """People in all zones."""
        return float(self.counts.sum())


def read_zones(
    polygons: str | Path | gpd.GeoDataFrame,
    *,
    id_column: str,
    count_column: str,
    counts: str | Path | pd.DataFrame | None = None,
    counts_id_column: str | None = None,
    allow_unmatched: bool = False,
    max_overlap: float = 0.01,
) -> Zones:
    """Read zones and their counts, and check that they can be shared over a map.

    Rows of one identifier are pieces of one zone: they are joined, and their count, which each must repeat, is taken
    once. Invalid polygons are repaired. Both are told in ``problems``, as are overlaps up to ``max_overlap`` and gaps
    inside the outline.

    Parameters
    ----------
    polygons : path or GeoDataFrame
        GeoParquet, GeoPackage, GeoJSON or another vector file that GDAL reads, in any CRS; degrees are fine.
    id_column : str
        Identifies the zone, in the polygons and, unless ``counts_id_column`` says otherwise, in ``counts``.
    count_column : str
        People in the zone; in ``counts`` if that is given, else beside the polygons.
    counts : path (CSV or Parquet) or DataFrame, optional
        One row a zone.
    counts_id_column : str, optional
        Name of the identifier in ``counts``.
    allow_unmatched : bool
        Whether to go on without the polygons that have no count and the counts that have no polygon. They are named
        in ``problems``, with the people left out.
    max_overlap : float
        Largest share of the smaller of two zones that may lie inside the other.

    Raises
    ------
    MapError
        If a file or column is missing, the polygons have no CRS or are none, identifiers are missing, counts are
        missing, negative or repeated with different values, polygons and counts do not match, or zones overlap by
        more than ``max_overlap``.
    """
    if not 0 <= max_overlap <= 1:
        raise MapError(f"max_overlap is {max_overlap}; expected a share from 0 to 1, such as 0.01.")
    shapes = _read_polygons(polygons)
    columns = [id_column] if counts is not None else [id_column, count_column]
    check_columns(shapes, columns, "the table of zones", MapError)
    problems: list[Problem] = []
    table = gpd.GeoDataFrame(
        {"zone_id": _as_ids(shapes[id_column], "zones")}, geometry=shapes.geometry.to_numpy(), crs=shapes.crs
    )
    if counts is None:
        table["count"] = _check_counts(shapes[count_column].to_numpy(), table["zone_id"], count_column)
        table = _join_pieces(table, problems)
    else:
        table["count"] = 0.0
        known = _read_counts(counts, counts_id_column or id_column, count_column)
        table = _match(_join_pieces(table, problems), known, problems, allow_unmatched=allow_unmatched)
    table = _clean(table, problems, allow_unmatched=allow_unmatched)
    table["area_km2"] = ground_area_km2(table.geometry)
    _check_topology(table, problems, max_overlap)
    return Zones(table[["zone_id", "count", "area_km2", "geometry"]], problems)


def _read_polygons(polygons: str | Path | gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if isinstance(polygons, gpd.GeoDataFrame):
        shapes = polygons.reset_index(drop=True)
    else:
        shapes = read_vector(polygons, "zones")
    if not isinstance(shapes, gpd.GeoDataFrame) or len(shapes) == 0:
        raise MapError("the table of zones holds no polygons; expected one row a zone.")
    if shapes.crs is None:
        raise MapError("the zones have no CRS; set it, for example polygons.set_crs('EPSG:4326').")
    present = ~shapely.is_missing(shapes.geometry.to_numpy())
    odd = sorted(set(shapes.geometry[present].geom_type) - {"Polygon", "MultiPolygon"})
    if odd:
        raise MapError(f"the zones hold {', '.join(odd)}; expected polygons only.")
    return shapes


def _read_counts(counts: str | Path | pd.DataFrame, id_column: str, count_column: str) -> pd.Series:
    if isinstance(counts, pd.DataFrame):
        table = counts
    else:
        path = Path(counts)
        if not path.exists():
            raise MapError(f"there is no file of counts {path}.")
        try:
            # As text, so that the leading zeros of an identifier survive.
            table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={id_column: str})
        except (ValueError, OSError) as error:
            raise MapError(f"{path} is not a readable table of counts (CSV or Parquet): {error}") from error
    check_columns(table, [id_column, count_column], "the table of counts", MapError)
    ids = _as_ids(table[id_column], "counts")
    check_unique(ids, "the table of counts", MapError)
    return pd.Series(_check_counts(table[count_column].to_numpy(), ids, count_column), index=ids.to_numpy())


def _as_ids(column: pd.Series, what: str) -> pd.Series:
    """Identifiers as text; whole numbers that a missing value turned into floats without their ``.0``."""
    missing = column.isna()
    if missing.any():
        raise MapError(f"{int(missing.sum())} rows of the {what} have no {column.name}; give each one, or drop them.")
    if pd.api.types.is_float_dtype(column) and (column == column.round()).all():
        column = column.astype("int64")
    return column.astype(str).str.strip().reset_index(drop=True)


def _check_counts(values: Any, ids: pd.Series, column: str) -> npt.NDArray[np.float64]:
    try:
        people = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MapError(f"{column} is not numeric ({error}); expected people in each zone.") from error
    bad = ~(np.isfinite(people) & (people >= 0))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise MapError(
            f"{column} of {int(bad.sum())} zones is missing or negative ({some(ids[bad])}; the first is "
            f"{people[first]:g}). Correct them, or drop those zones if their people are truly unknown."
        )
    return people


def _join_pieces(table: gpd.GeoDataFrame, problems: list[Problem]) -> gpd.GeoDataFrame:
    """One row a zone, its pieces joined and its count taken once."""
    repeated = table["zone_id"].duplicated(keep=False)
    if not repeated.any():
        return table
    pieces = table[repeated].groupby("zone_id", sort=False)
    differing = pieces["count"].nunique()
    differing = differing[differing > 1]
    if len(differing):
        raise MapError(
            f"{len(differing)} zones stand more than once with different counts ({some(differing.index)}). "
            "If their rows are pieces of a zone, add the counts up first; else give each an identifier of its own."
        )
    for zone_id, size in pieces.size().items():
        problems.append({"zone_id": zone_id, "problem": "pieces joined to one zone, counted once", "value": int(size)})
    joined = {zone_id: shapely.union_all(shapely.make_valid(rows.geometry.to_numpy())) for zone_id, rows in pieces}
    table = table.drop_duplicates("zone_id").reset_index(drop=True)
    of_pieces = table["zone_id"].isin(list(joined))
    geometry = table.geometry.to_numpy().copy()
    geometry[of_pieces.to_numpy()] = [joined[zone_id] for zone_id in table.loc[of_pieces, "zone_id"]]
    return table.set_geometry(gpd.GeoSeries(geometry, crs=table.crs))


def _match(
    table: gpd.GeoDataFrame, counts: pd.Series, problems: list[Problem], *, allow_unmatched: bool
) -> gpd.GeoDataFrame:
    """Give each polygon its count by identifier."""
    lonely_zones = table.loc[~table["zone_id"].isin(counts.index), "zone_id"]
    lonely_counts = counts[~counts.index.isin(table["zone_id"])]
    if len(lonely_zones) + len(lonely_counts) and not allow_unmatched:
        raise MapError(
            f"polygons and counts do not match: {len(lonely_zones)} polygons have no count ({some(lonely_zones)}), "
            f"{len(lonely_counts)} counts with {lonely_counts.sum():g} people have no polygon "
            f"({some(lonely_counts.index)}). Correct the names, or pass allow_unmatched=True to go on without them."
        )
    problems += [{"zone_id": i, "problem": "polygon without a count, left out", "value": 0.0} for i in lonely_zones]
    _name_lost(lonely_counts, problems)
    table = table[table["zone_id"].isin(counts.index)].reset_index(drop=True)
    if len(table) == 0:
        raise MapError("no polygon has a count; are id_column and counts_id_column the same kind of identifier?")
    table["count"] = counts.reindex(table["zone_id"]).to_numpy()
    return table


def _clean(table: gpd.GeoDataFrame, problems: list[Problem], *, allow_unmatched: bool) -> gpd.GeoDataFrame:
    """Repair invalid polygons, and settle what happens to zones without any."""
    geometry = table.geometry.to_numpy().copy()
    broken = ~(shapely.is_valid(geometry) | shapely.is_missing(geometry))
    geometry[broken] = only_polygons(shapely.make_valid(geometry[broken]))
    for zone_id in table.loc[broken, "zone_id"]:
        problems.append({"zone_id": zone_id, "problem": "invalid polygon repaired", "value": 1.0})
    table = table.set_geometry(gpd.GeoSeries(geometry, crs=table.crs))
    absent = ~(shapely.area(geometry) > 0)
    lost = table.loc[absent].set_index("zone_id")["count"]
    if absent.any() and not allow_unmatched:
        raise MapError(
            f"{len(lost)} zones with {lost.sum():g} people have no polygon, or one without area "
            f"({some(lost.index)}). Give them one, or pass allow_unmatched=True to go on without them."
        )
    _name_lost(lost, problems)
    if absent.all():
        raise MapError("no zone has a polygon with an area.")
    return table[~absent].reset_index(drop=True)


def _name_lost(lost: pd.Series, problems: list[Problem]) -> None:
    for zone_id, people in lost.items():
        problems.append({"zone_id": zone_id, "problem": "count without a polygon, left out", "value": float(people)})


def _check_topology(table: gpd.GeoDataFrame, problems: list[Problem], max_overlap: float) -> None:
    ids: Sequence[str] = table["zone_id"].tolist()
    found = overlaps(table.geometry, area_km2=table["area_km2"].to_numpy())
    worst = [(i, j, share) for i, j, share in found if share > max_overlap]
    if worst:
        named = some(f"{ids[i]} and {ids[j]} ({share:.1%})" for i, j, share in worst)
        raise MapError(
            f"{len(worst)} pairs of zones overlap by more than {max_overlap:.1%} of the smaller: {named}. Their people "
            "would be counted on the same ground; correct the polygons, or raise max_overlap if that is meant."
        )
    for i, j, share in found:
        what = "overlaps another zone (share of the smaller)"
        problems.append({"zone_id": ids[i], "problem": what, "value": share, "other": ids[j]})
    for i, area in gaps(table.geometry):
        problems.append({"zone_id": ids[i], "problem": "borders a gap inside the outline (km²)", "value": area})
