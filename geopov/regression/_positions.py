"""Where clusters lie: together on a plane, for blocks and kriging, and two by two, for what is too near.

The plane serves a study; over a continent every plane bends, by 5% and 15° at the edges of Africa. So whether two tiles
overlap is asked on the ground itself, along east and north at the two clusters in question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import geopandas as gpd
import numpy as np
from pyproj import CRS, Transformer
from scipy.spatial import cKDTree

from geopov._validation import check_points
from geopov.errors import RegressionError
from geopov.grid import transform_xy
from geopov.regression._inputs import Floats, Ints

# The square root of two, and room for the curvature that a projection on east and north leaves out.
_CORNER = 1.42


def local_km(clusters: gpd.GeoDataFrame) -> Floats:
    """(n, 2) kilometres east and north on an equal-area plane laid at the middle of the clusters.

    Lambert azimuthal rather than a world-wide grid such as EPSG:6933, where a square on the map is no square on the
    ground away from 30° of latitude. The centre is rounded to a degree, so that a few clusters more do not move it.
    """
    points = check_points(clusters, error=RegressionError).geometry
    # A mean of directions, which the antimeridian does not tear apart.
    lon, lat = np.radians(points.x), np.radians(points.y)
    east, north, up = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    centre_lon = np.degrees(np.arctan2(north.mean(), east.mean())).round()
    centre_lat = np.degrees(np.arctan2(up.mean(), np.hypot(north.mean(), east.mean()))).round()
    plane = CRS.from_proj4(f"+proj=laea +lon_0={centre_lon:.0f} +lat_0={centre_lat:.0f} +datum=WGS84 +units=m")
    return np.column_stack(transform_xy("EPSG:4326", plane, points.x.to_numpy(), points.y.to_numpy())) / 1000


def squares(positions_km: Floats, side_km: float, seed: int) -> Ints:
    """Numbers (n,) of the occupied squares of a grid on the plane, from 0, whatever the order of the clusters."""
    # Repeats with other seeds should cut the country along other lines.
    shift = np.random.default_rng([seed, 1]).random(2)
    square = np.floor(positions_km / side_km + shift).astype(np.int64)
    return np.asarray(np.unique(square, axis=0, return_inverse=True)[1], dtype=np.int64).reshape(-1)


@dataclass(frozen=True)
class Ground:
    """Clusters on the WGS 84 ellipsoid.

    Attributes
    ----------
    position_km : array (n, 3)
        From the centre of the Earth; chords are shorter than the ground by 0.1 m at 50 km.
    east, north : array (n, 3)
        Unit vectors at each cluster.
    """

    position_km: Floats
    east: Floats
    north: Floats

    @classmethod
    def of(cls, clusters: gpd.GeoDataFrame) -> Self:
        """From points with a CRS."""
        points = check_points(clusters, error=RegressionError).geometry
        to_geocentric = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
        position = np.column_stack(to_geocentric.transform(points.x, points.y, np.zeros(len(points)))) / 1000
        lon, lat = np.radians(points.x.to_numpy()), np.radians(points.y.to_numpy())
        east = np.column_stack([-np.sin(lon), np.cos(lon), np.zeros(len(lon))])
        north = np.column_stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
        return cls(position, east, north)

    def distance_km(self, a: Ints, b: Ints) -> Floats:
        """Straight distance (n,) between clusters ``a`` and ``b``, row by row."""
        return np.asarray(np.linalg.norm(self.position_km[a] - self.position_km[b], axis=1))

    def offset_km(self, a: Ints, b: Ints) -> Floats:
        """The larger (n,) of the distances along east and north: squares of a side above it, around both, overlap."""
        step = self.position_km[b] - self.position_km[a]
        # Axes half-way between the two, so that a overlaps b exactly when b overlaps a.
        along = [np.sum(step * (axis[a] + axis[b]), axis=1) / 2 for axis in (self.east, self.north)]
        return np.asarray(np.max(np.abs(along), axis=0))

    def too_near(self, rows: Ints, others: Ints, *, tile_km: float, buffer_km: float) -> Ints:
        """For each cluster of ``rows``, one of ``others`` that it is too near to, or -1.

        Too near is within ``buffer_km`` (where above zero), or so near that squares of side ``tile_km`` overlap.
        """
        tree = cKDTree(self.position_km[others])
        distance, nearest = tree.query(self.position_km[rows])
        # The offset lies between distance / √2 and distance, so the nearest decides except in a narrow ring.
        near = (distance < tile_km) | (distance <= buffer_km if buffer_km > 0 else False)
        found = np.where(near, np.asarray(others)[nearest], -1)
        ring = np.flatnonzero(~near & (distance < _CORNER * tile_km))
        if len(ring):
            around = tree.query_ball_point(self.position_km[rows[ring]], _CORNER * tile_km)
            at = np.repeat(ring, [len(found_here) for found_here in around])
            other = others[np.concatenate([np.asarray(found_here, dtype=np.int64) for found_here in around])]
            overlap = self.offset_km(rows[at], other) < tile_km
            found[at[overlap]] = other[overlap]
        return np.asarray(found, dtype=np.int64)
