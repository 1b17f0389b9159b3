"""Which cells a map covers: a polygon on the ground, asked strip by strip whether it holds a cell's centre."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from shapely.geometry.base import BaseGeometry

from geopov.errors import MapError
from geopov.grid import Bounds, CellGrid, as_crs, local_crs
from geopov.maps.read import read_vector

# A straight edge in one projection is a curve in another; edges are cut into pieces of this share of the extent first.
_PIECES = 200

# A prepared geometry builds its index when it is first asked, and two threads that do so at once bring GEOS down.
_PREPARED = threading.Lock()


@dataclass(frozen=True)
class Region:
    """An area on the ground.

    Attributes
    ----------
    geometry : Polygon or MultiPolygon
        In the units of ``crs``; must not cross the antimeridian.
    crs : CRS
        Of ``geometry``.
    """

    geometry: BaseGeometry
    crs: CRS

    def __post_init__(self) -> None:
        if self.geometry.is_empty or self.geometry.area == 0:
            raise MapError("the region has no area; expected a polygon with an inside.")

    @classmethod
    def from_bounds(cls, bounds: Bounds, *, crs: Any = "EPSG:4326") -> Region:
        """The rectangle ``west, south, east, north`` in ``crs``; for a scene, its ``bounds`` and ``crs``.

        Raises
        ------
        MapError
            If the bounds are empty.
        """
        west, south, east, north = bounds
        if not (west < east and south < north):
            raise MapError(f"bounds are {bounds}; expected west < east and south < north.")
        return cls(shapely.box(west, south, east, north), as_crs(crs))

    @classmethod
    def from_polygons(cls, polygons: gpd.GeoDataFrame | gpd.GeoSeries) -> Region:
        """All polygons of a table as one area, borders between them dissolved.

        Raises
        ------
        MapError
            If there is no CRS, no row, or a geometry that is no polygon.
        """
        shapes = polygons.geometry
        if shapes.crs is None:
            raise MapError("the region's polygons have no CRS; set it, for example polygons.set_crs('EPSG:4326').")
        shapes = shapes[~(shapes.isna() | shapes.is_empty)]
        if len(shapes) == 0:
            raise MapError("the region holds no geometry; expected at least one polygon.")
        odd = sorted(set(shapes.geom_type) - {"Polygon", "MultiPolygon"})
        if odd:
            raise MapError(f"the region holds {', '.join(odd)}; expected polygons only.")
        return cls(shapely.union_all(shapely.make_valid(shapes.to_numpy())), as_crs(shapes.crs))

    @classmethod
    def from_file(cls, path: str | Path) -> Region:
        """All polygons of a GeoPackage, GeoJSON, GeoParquet or any other vector file that GDAL reads, dissolved.

        Raises
        ------
        MapError
            If the file is not there, cannot be read, or holds no polygons.
        """
        table = read_vector(path, "the region")
        try:
            return cls.from_polygons(table)
        except MapError as error:
            raise MapError(f"{path}: {error}") from error

    @property
    def lonlat_bounds(self) -> Bounds:
        """West, south, east, north in degrees."""
        return _bounds(self.to_crs("EPSG:4326"))

    def to_crs(self, crs: Any) -> Region:
        """The same area in another CRS, long edges bent as the projection bends them.

        Raises
        ------
        MapError
            If the region reaches beyond where ``crs`` can be used.
        """
        target = _check_crs(crs)
        if target == self.crs:
            return self
        west, south, east, north = self.geometry.bounds
        bent = shapely.segmentize(self.geometry, max(east - west, north - south) / _PIECES)
        transformer = Transformer.from_crs(self.crs, target, always_xy=True)
        moved = shapely.transform(bent, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
        if not np.isfinite(shapely.get_coordinates(moved)).all():
            raise MapError(f"the region reaches beyond the area of use of {target.name}; choose another CRS.")
        return Region(shapely.make_valid(moved), target)

    def grid(self, *, cell_m: float, crs: Any = None) -> CellGrid:
        """The grid of cells that covers the region, in ``crs`` or else in :func:`geopov.grid.local_crs`."""
        target = _check_crs(crs) if crs is not None else local_crs(self.lonlat_bounds)
        return CellGrid.from_bounds(_bounds(self.to_crs(target)), cell_m=cell_m, bounds_crs=target, crs=target)

    def contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether the region holds each point, its border included.

        Each point is decided by itself, so that a map does not depend on how it was cut into strips.

        Parameters
        ----------
        x, y : array
            In ``crs``, of one shape.

        Returns
        -------
        bool array
            Of the same shape.
        """
        west, south, east, north = self.geometry.bounds
        inside: np.ndarray = (x >= west) & (x <= east) & (y >= south) & (y <= north)
        with _PREPARED:
            shapely.prepare(self.geometry)
            inside[inside] = shapely.intersects_xy(self.geometry, x[inside], y[inside])
        return inside


def _check_crs(crs: Any) -> CRS:
    try:
        return as_crs(crs)
    except CRSError as error:
        raise MapError(f"{crs!r} is no CRS: {error}") from error


def _bounds(region: Region) -> Bounds:
    west, south, east, north = region.geometry.bounds
    return float(west), float(south), float(east), float(north)
