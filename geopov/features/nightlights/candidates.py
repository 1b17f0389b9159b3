"""Where pretraining tiles may lie: a lattice over the region, clear of the survey."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from geopov._validation import check_points
from geopov.errors import FeatureError
from geopov.features.nightlights.footprints import TilePlaces
from geopov.grid import Bounds, as_crs, transform_xy
from geopov.raster import Scene

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Beyond it no plane keeps distances to a few per cent.
_WIDEST_DEGREES = 70.0
# About 200 bytes each on the way; more places than this are thinned at random, and the report says so.
_MOST_POSITIONS = 1_000_000
_ROWS_AT_ONCE = 500_000


@dataclass(frozen=True)
class SampledRegion:
    """The area that points are drawn from.

    Attributes
    ----------
    geometry : Polygon or MultiPolygon
        In the units of ``crs``.
    crs : CRS
    whole_tiles : bool
        Whether a tile must lie inside with all of its ground, as it must inside an image, or with its centre only.
    """

    geometry: BaseGeometry
    crs: CRS
    whole_tiles: bool

    @classmethod
    def of(cls, region: Scene | Bounds | gpd.GeoDataFrame | gpd.GeoSeries) -> SampledRegion:
        """From an image, bounds in degrees, or polygons.

        Raises
        ------
        FeatureError
            If it has no area or no CRS.
        """
        if isinstance(region, Scene):
            return cls(shapely.box(*region.bounds), region.crs, True)
        if isinstance(region, gpd.GeoDataFrame | gpd.GeoSeries):
            if region.crs is None:
                raise FeatureError("the region has no CRS; set it, for longitude and latitude: .set_crs('EPSG:4326').")
            geometry = shapely.union_all(region.geometry.to_numpy())
            if geometry is None or geometry.area == 0:
                raise FeatureError("the region has no area; expected polygons.")
            return cls(geometry, as_crs(region.crs), False)
        west, south, east, north = region
        if not (west < east and south < north):
            raise FeatureError(f"the region is {tuple(region)}; expected west < east and south < north, in degrees.")
        return cls(shapely.box(west, south, east, north), as_crs("EPSG:4326"), True)

    def plane(self) -> CRS:
        """An equal-area plane in metres laid at its middle.

        Raises
        ------
        FeatureError
            If it is too wide for one.
        """
        lon, lat = self._outline("EPSG:4326")
        if not np.isfinite(lon).all() or np.ptp(lon) > _WIDEST_DEGREES or np.ptp(lat) > _WIDEST_DEGREES:
            raise FeatureError(
                f"the region spans more than {_WIDEST_DEGREES:g} degrees; name the part to sample, such as a country, "
                "as region."
            )
        middle = (np.min(lon) + np.max(lon)) / 2, (np.min(lat) + np.max(lat)) / 2
        return CRS.from_proj4(f"+proj=laea +lon_0={middle[0]:.2f} +lat_0={middle[1]:.2f} +datum=WGS84 +units=m")

    def lattice(self, plane: CRS, *, spacing_m: float, rng: np.random.Generator) -> tuple[Floats, Floats, bool]:
        """Longitudes and latitudes of a square lattice inside, and whether it was thinned.

        Parameters
        ----------
        plane : CRS
            From :meth:`plane`.
        spacing_m : float
            Between neighbours.
        rng : Generator
            Shifts the lattice, and thins it.
        """
        shapely.prepare(self.geometry)
        x, y = self._outline(plane)
        lines = [np.arange(low.min() - spacing_m * rng.random(), low.max(), spacing_m) for low in (x, y)]
        # Equal-area, so that the area tells how many of the lattice lie inside.
        inside = self.area_m2(plane) / spacing_m**2
        kept = min(1.0, _MOST_POSITIONS / max(inside, 1.0))
        lons, lats = [], []
        for xs, ys in _in_rows(*lines):
            if kept < 1:
                drawn = rng.random(len(xs)) < kept
                xs, ys = xs[drawn], ys[drawn]
            lon, lat = transform_xy(plane, "EPSG:4326", xs, ys)
            within = shapely.contains_xy(self.geometry, *transform_xy("EPSG:4326", self.crs, lon, lat))
            lons.append(lon[within])
            lats.append(lat[within])
        return np.concatenate(lons), np.concatenate(lats), kept < 1

    def holds(self, places: TilePlaces, *, side_m: float) -> Bools:
        """Whether each tile (n,) of this side may be taken: all of its corners inside, where whole tiles are asked."""
        if not self.whole_tiles:
            return np.ones(len(places), dtype=bool)
        corners = places.corners(side_m).reshape(-1, 2)
        x, y = transform_xy(places.crs, self.crs, corners[:, 0], corners[:, 1])
        inside: Bools = shapely.intersects_xy(self.geometry, x, y).reshape(-1, 4).all(axis=1)
        return inside

    def area_m2(self, plane: CRS) -> float:
        """On the ground, by the plane of :meth:`plane`."""
        return float(self._on(plane).area)

    def _outline(self, crs: Any) -> tuple[Floats, Floats]:
        xy = shapely.get_coordinates(self._on(crs))
        return xy[:, 0], xy[:, 1]

    def _on(self, crs: Any) -> BaseGeometry:
        # Straight edges are curves on another plane, so they are cut into pieces first.
        extent = max(np.ptp(np.reshape(self.geometry.bounds, (2, 2)), axis=0))
        pieces = shapely.segmentize(self.geometry, extent / 100)
        return shapely.transform(pieces, lambda xy: np.column_stack(transform_xy(self.crs, crs, xy[:, 0], xy[:, 1])))


def _in_rows(xs: Floats, ys: Floats) -> Iterator[tuple[Floats, Floats]]:
    rows = max(1, _ROWS_AT_ONCE // max(len(xs), 1))
    for first in range(0, len(ys), rows):
        grid = np.meshgrid(xs, ys[first : first + rows])
        yield grid[0].ravel(), grid[1].ravel()


def clear_of(places: TilePlaces, survey: gpd.GeoDataFrame, *, side_m: float, buffer_km: float) -> Bools:
    """Whether each tile lies at least ``buffer_km`` from every point of the survey, from the tile's edge.

    Parameters
    ----------
    places : TilePlaces
        Middles of the tiles.
    survey : GeoDataFrame
        Points with ``cluster_id``.
    side_m : float
        Side of a tile, with its context.
    buffer_km : float
        0 keeps the survey's points out of the tiles, no more.

    Returns
    -------
    bool array (n,)

    Raises
    ------
    FeatureError
        If the survey's points cannot be placed.
    """
    points = check_points(survey, error=FeatureError).geometry
    lon, lat = points.x.to_numpy(), points.y.to_numpy()
    reach = side_m / 2 * np.sqrt(2) + buffer_km * 1000
    # The sphere is off by half a per cent; this finds whom to measure on the ground.
    near = cKDTree(_on_sphere(places.lon, places.lat)).query_ball_point(_on_sphere(lon, lat), 1.01 * reach + 10.0)
    tile = np.concatenate([np.asarray(tiles, dtype=np.int64) for tiles in near])
    point = np.repeat(np.arange(len(near)), [len(tiles) for tiles in near])
    x, y = transform_xy("EPSG:4326", places.crs, lon, lat)
    off_x = np.abs(x[point] - places.x[tile]) * places.scale_x[tile] - side_m / 2
    off_y = np.abs(y[point] - places.y[tile]) * places.scale_y[tile] - side_m / 2
    distance = np.hypot(np.maximum(off_x, 0), np.maximum(off_y, 0))
    clear = np.ones(len(places), dtype=bool)
    clear[tile[(distance < buffer_km * 1000) | (distance == 0)]] = False
    return clear


def _on_sphere(lon: Floats, lat: Floats) -> Floats:
    lon, lat = np.radians(lon), np.radians(lat)
    unit = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    return unit * 6_371_000.0
