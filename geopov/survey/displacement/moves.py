"""Random moves of points, each from its own stream of random numbers, and kept inside a polygon where one is given."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import Geod

from geopov._validation import ID_COLUMN, some
from geopov.errors import SurveyError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_REDRAWS = 1000
"""Distances are uniform, so short ones are common: even a point close to a border finds a place in a few redraws."""

_WGS84 = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Reach:
    """How far points (n,) may be moved.

    Attributes
    ----------
    usual_km, far_km : float array (n,)
        Maximum distance, as a rule and for a random share.
    far_share : float array (n,)
        That share.
    """

    usual_km: Floats
    far_km: Floats
    far_share: Floats


def stream(seed: int, name: object, *more: int) -> np.random.Generator:
    """Random numbers that depend on the seed and an identifier alone.

    Raises
    ------
    SurveyError
        If the seed is no whole number, zero or more.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise SurveyError(f"seed is {seed!r}; expected a whole number, zero or more.")
    # hash() differs from run to run.
    key = int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "big")
    return np.random.default_rng([int(seed), key, *more])


def move(
    points: gpd.GeoDataFrame, reach: Reach, *, n_draws: int, seed: int, within: gpd.GeoDataFrame | None
) -> tuple[Floats, Floats, list[str]]:
    """Longitudes and latitudes (n, n_draws) of moved points, and notes of what could not be done.

    A random direction and a distance uniform up to the maximum. Whether a move is a far one is drawn once, direction
    and distance again until the point lies in its polygon. With the reach scaled, a point moves further the same way.
    """
    streams = [stream(seed, name) for name in points[ID_COLUMN]]
    chance = np.stack([numbers.random((n_draws, 3)) for numbers in streams])
    is_far = chance[..., 0] < reach.far_share[:, None]
    maximum = np.where(is_far, reach.far_km[:, None], reach.usual_km[:, None]).ravel()
    origin = np.repeat(points.geometry.get_coordinates().to_numpy(), n_draws, axis=0)
    place = _moved(origin, maximum, chance[..., 1:].reshape(-1, 2))
    notes = [] if within is None else _keep_inside(_Units(within), points, origin, maximum, place, streams)
    return place[:, 0].reshape(-1, n_draws), place[:, 1].reshape(-1, n_draws), notes


def _moved(origin: Floats, maximum_km: Floats, chance: Floats) -> Floats:
    metres = 1000 * maximum_km * chance[:, 1]
    lon, lat, _ = _WGS84.fwd(origin[:, 0], origin[:, 1], 360 * chance[:, 0] - 180, metres)
    # A geodesic of no length ends a rounding error from where it starts.
    return np.where(metres[:, None] > 0, np.column_stack([lon, lat]), origin)


def _keep_inside(
    units: _Units,
    points: gpd.GeoDataFrame,
    origin: Floats,
    maximum_km: Floats,
    place: Floats,
    streams: list[np.random.Generator],
) -> list[str]:
    """Draw again, in ``place``, what lies outside its point's polygon."""
    point = np.repeat(np.arange(len(points)), len(place) // len(points))
    unit = units.of(points.geometry.get_coordinates().to_numpy())
    free = unit < 0
    out = np.flatnonzero(~free[point] & ~units.contain(unit[point], place))
    for _ in range(MAX_REDRAWS):
        if not len(out):
            break
        owners, counts = np.unique(point[out], return_counts=True)
        chance = np.concatenate([streams[i].random((k, 2)) for i, k in zip(owners, counts, strict=True)])
        place[out] = _moved(origin[out], maximum_km[out], chance)
        out = out[~units.contain(unit[point[out]], place[out])]
    place[out] = origin[out]
    ids, stuck, notes = points[ID_COLUMN].to_numpy(dtype=object), np.unique(point[out]), []
    if free.any():
        notes.append(f"{free.sum()} points lie in no polygon and are moved freely ({some(ids[free])})")
    if len(stuck):
        notes.append(f"{len(stuck)} points find no place in their polygon and stay where they are ({some(ids[stuck])})")
    return notes


class _Units:
    """Administrative units: the polygon of a point, and whether a place lies in it."""

    def __init__(self, within: gpd.GeoDataFrame) -> None:
        if not isinstance(within, gpd.GeoDataFrame) or within.crs is None or len(within) == 0:
            raise SurveyError(
                "within must be a GeoDataFrame of polygons with a CRS, at least one; read a file of them."
            )
        kinds = within.geometry.geom_type
        wrong = ~kinds.isin(["Polygon", "MultiPolygon"])
        if wrong.any():
            raise SurveyError(
                f"within holds {some(sorted(kinds[wrong].astype(str).unique()))} in {int(wrong.sum())} rows; "
                "expected polygons of administrative units."
            )
        self._polygons = within.geometry.to_crs("EPSG:4326").to_numpy()
        shapely.prepare(self._polygons)

    def of(self, places: Floats) -> Ints:
        """Number of the polygon that holds each place (n, 2), the first of several; -1 for none."""
        tree = shapely.STRtree(self._polygons)
        place, polygon = tree.query(shapely.points(places), predicate="intersects")
        first = pd.Series(polygon).groupby(place).min()
        found: Ints = first.reindex(np.arange(len(places)), fill_value=-1).to_numpy(dtype=np.int64)
        return found

    def contain(self, unit: Ints, places: Floats) -> npt.NDArray[np.bool_]:
        """Whether each place (n, 2) lies in the polygon of that number; any answer for -1."""
        inside: npt.NDArray[np.bool_] = shapely.intersects_xy(self._polygons[unit], places[:, 0], places[:, 1])
        return inside
