"""One check per idea, shared by every stage, so that the same mistake gets the same answer everywhere."""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio

from geopov.errors import GeopovError

ID_COLUMN = "cluster_id"


def some(names: Iterable[object], limit: int = 5) -> str:
    """A short list for messages: the first few names and how many more there are."""
    items = [str(name) for name in names]
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def check_positive(value: float, name: str, error: type[GeopovError]) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise error(f"{name} is {value!r}; expected a number above zero.")
    if not math.isfinite(value) or value <= 0:
        raise error(f"{name} is {value!r}; expected a finite number above zero.")


def check_columns(table: pd.DataFrame, columns: Sequence[str], what: str, error: type[GeopovError]) -> None:
    """Raise if ``table`` lacks any of ``columns``, naming what it has instead."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise error(f"{what} has no column {some(map(repr, missing))}; its columns are {some(table.columns, 20)}.")


def check_unique(ids: pd.Series, what: str, error: type[GeopovError]) -> None:
    """Raise if any identifier stands twice."""
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise error(
            f"{what}: {len(repeated)} identifiers stand more than once ({some(repeated)}). "
            "Each row needs its own; pool or rename them first."
        )


def check_points(points: gpd.GeoDataFrame, *, error: type[GeopovError]) -> gpd.GeoDataFrame:
    """Check that ``points`` can be placed on the ground, and return them in EPSG:4326.

    Parameters
    ----------
    points : GeoDataFrame
        Point geometries with a CRS and a unique string column ``cluster_id``.
    error : type
        The stage's error.

    Returns
    -------
    GeoDataFrame
        The same rows in longitude and latitude, ``cluster_id`` as str.

    Raises
    ------
    GeopovError
        If the CRS is missing, a geometry is no point, ids repeat, coordinates are out of range or (0, 0).
    """
    if not isinstance(points, gpd.GeoDataFrame):
        raise error(
            f"points are a {type(points).__name__}; expected a GeoDataFrame of points. "
            "geopov.survey.read_clusters makes one from a table."
        )
    check_columns(points, [ID_COLUMN], "the table of points", error)
    if points.crs is None:
        raise error("the points have no CRS; set it, for longitude and latitude: points.set_crs('EPSG:4326').")
    if len(points) == 0:
        raise error("the table of points is empty; expected at least one row.")
    geometry = points.geometry
    bad = geometry.isna() | geometry.is_empty | (geometry.geom_type != "Point")
    if bad.any():
        raise error(
            f"{int(bad.sum())} of {len(points)} rows have no point geometry ({some(points.loc[bad, ID_COLUMN])}). "
            "Drop them, or take representative_point() of polygons."
        )
    points = points.assign(**{ID_COLUMN: points[ID_COLUMN].astype(str)})
    check_unique(points[ID_COLUMN], "the table of points", error)
    raw_x, raw_y = geometry.x.to_numpy(), geometry.y.to_numpy()
    if points.crs.is_geographic:
        check_lon_lat(raw_x, raw_y, points[ID_COLUMN], error=error)
    lonlat = points.to_crs("EPSG:4326")
    lon, lat = lonlat.geometry.x.to_numpy(), lonlat.geometry.y.to_numpy()
    lost = ~(np.isfinite(lon) & np.isfinite(lat))
    if lost.any():
        raise error(
            f"{int(lost.sum())} points cannot be transformed from {points.crs.name} to longitude and latitude "
            f"({some(points.loc[lost, ID_COLUMN])}). Is that really their CRS?"
        )
    return lonlat


def check_lon_lat(lon: np.ndarray, lat: np.ndarray, ids: pd.Series, *, error: type[GeopovError]) -> None:
    """Raise if longitudes or latitudes are out of range, look swapped, or are the missing value (0, 0)."""
    out = ~((np.abs(lon) <= 180) & (np.abs(lat) <= 90))
    if out.any():
        swapped = np.all((np.abs(lat) <= 180) & (np.abs(lon) <= 90))
        remedy = (
            "Longitude and latitude look swapped: x is longitude, y is latitude."
            if swapped
            else "If they are projected coordinates, name their CRS."
        )
        first = int(np.flatnonzero(out)[0])
        raise error(
            f"{int(out.sum())} points lie outside longitude -180..180, latitude -90..90 "
            f"({some(ids[out])}; the first is x={lon[first]:g}, y={lat[first]:g}). {remedy}"
        )
    zero = (lon == 0) & (lat == 0)
    if zero.any():
        raise error(
            f"{int(zero.sum())} points lie at (0, 0), which surveys write for a missing position ({some(ids[zero])}). "
            "Drop them; geopov.survey.read_clusters does so and counts them."
        )


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when the block ends well and removed when it does not.

    The temporary name keeps the suffix, since writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        if partial.exists():
            partial.unlink()


@contextmanager
def still_gpkg_date() -> Iterator[None]:
    """Hold still the date of change that GDAL writes into a GeoPackage, so that a repeat gives the same bytes."""
    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: "1970-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})
