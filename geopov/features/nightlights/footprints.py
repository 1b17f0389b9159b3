"""The ground that tiles cover, and means of a raster over it by exact shares of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse
import shapely
from pyproj import CRS

from geopov._validation import check_positive
from geopov.errors import FeatureError
from geopov.grid import as_crs, ground_scale, transform_xy
from geopov.raster.coverage import polygon_coverage, quad_area, quad_coverage

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Coverage = Callable[[Ints, int, int, int, int], scipy.sparse.csr_matrix]

# Pixels of a strip read at once: 8 bytes for each of three sums, 100 MiB in all.
_PIXELS_AT_ONCE = 4_000_000
# Cells that shapes covered at once may have; cutting their edges takes about 300 bytes each.
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class TilePlaces:
    """Middles of tiles, and how the CRS along whose axes they lie measures the ground there.

    The rule of :class:`geopov.tiles.TileSpec`: a tile is a square along the axes of its scene's CRS, and its sides are
    measured in metres on the ground at its middle. One cut from pixels as they are may lie half a pixel beside it.

    Attributes
    ----------
    lon, lat : array (n,)
        In degrees.
    crs : CRS
        Of the scene that tiles are cut from.
    x, y : array (n,)
        In ``crs``.
    scale_x, scale_y : array (n,)
        Metres on the ground per unit of ``crs``.
    """

    lon: Floats
    lat: Floats
    crs: CRS
    x: Floats
    y: Floats
    scale_x: Floats
    scale_y: Floats

    @classmethod
    def at(cls, lon: npt.ArrayLike, lat: npt.ArrayLike, *, crs: Any) -> TilePlaces:
        """At longitudes and latitudes (n,), for tiles along the axes of ``crs``."""
        lon, lat = np.asarray(lon, dtype=float), np.asarray(lat, dtype=float)
        x, y = transform_xy("EPSG:4326", crs, lon, lat)
        return cls(lon, lat, as_crs(crs), x, y, *ground_scale(crs, x, y))

    def __len__(self) -> int:
        return len(self.lon)

    def take(self, kept: npt.NDArray[Any]) -> TilePlaces:
        """Those that a mask or row numbers name."""
        columns = (getattr(self, name)[kept] for name in ("x", "y", "scale_x", "scale_y"))
        return TilePlaces(self.lon[kept], self.lat[kept], self.crs, *columns)

    def corners(self, side_m: float) -> Floats:
        """Corners (n, 4, 2) in ``crs`` of tiles with this side, clockwise from the north-west."""
        check_positive(side_m, "side_m", FeatureError)
        half_x, half_y = side_m / 2 / self.scale_x, side_m / 2 / self.scale_y
        around = ((-1, 1), (1, 1), (1, -1), (-1, -1))
        return np.stack([np.stack([self.x + i * half_x, self.y + j * half_y], axis=1) for i, j in around], axis=1)


class Pixels(Protocol):
    """What a strip of a raster is read with."""

    def __call__(self, rows: tuple[int, int], columns: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
        """Layers (y, x) of a window of rows and columns, without NaN."""
        ...


@dataclass(frozen=True)
class Footprints:
    """Shapes on the grid of a raster, x the column and y the row from its upper left corner.

    Attributes
    ----------
    bounds : array (n, 4)
        Least column, least row, greatest column, greatest row.
    area : array (n,)
        In cells.
    coverage : callable
        From the numbers of some shapes and a window (first row, first column, height, width) to the share of each of
        its cells that each shape covers, a sparse matrix.
    """

    bounds: Floats
    area: Floats
    coverage: Coverage

    @classmethod
    def of_quads(cls, corners: Floats) -> Footprints:
        """Of quadrilaterals (n, 4, 2), each walked around."""

        def coverage(rows: Ints, top: int, left: int, height: int, width: int) -> scipy.sparse.csr_matrix:
            return quad_coverage(corners[rows] - [left, top], height=height, width=width)

        bounds = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return cls(bounds, quad_area(corners), coverage)

    @classmethod
    def of_polygons(cls, polygons: npt.NDArray[np.object_]) -> Footprints:
        """Of polygons and multipolygons (n,)."""

        def coverage(rows: Ints, top: int, left: int, height: int, width: int) -> scipy.sparse.csr_matrix:
            moved = shapely.transform(polygons[rows], lambda xy: xy - [left, top])
            return polygon_coverage(moved, height=height, width=width)

        return cls(shapely.bounds(polygons), shapely.area(polygons), coverage)

    def sums(self, read: Pixels, layers: tuple[str, ...], *, height: int, width: int) -> dict[str, Floats]:
        """Sums of layers over each shape, each cell weighted by the share of it that is covered.

        The raster is read from north to south in strips, so that memory does not grow with it.

        Parameters
        ----------
        read : callable
            See :class:`Pixels`.
        layers : tuple of str
            Which layers to add up.
        height, width : int
            Of the raster; what lies outside adds nothing.

        Returns
        -------
        dict of array (n,)
        """
        totals = {layer: np.zeros(len(self.area)) for layer in layers}
        for rows, window in self._strips(height, width):
            (top, bottom), (left, right) = window
            pixels = read(*window)
            flat = {layer: pixels[layer].ravel().astype(np.float64) for layer in layers}
            for some in self._portions(rows):
                covered = self.coverage(some, top, left, bottom - top, right - left)
                for layer in layers:
                    totals[layer][some] = covered @ flat[layer]
        return totals

    def _strips(self, height: int, width: int) -> Iterator[tuple[Ints, tuple[tuple[int, int], tuple[int, int]]]]:
        edge = np.array([width, height, width, height])
        window = np.clip(np.concatenate([np.floor(self.bounds[:, :2]), np.ceil(self.bounds[:, 2:])], axis=1), 0, edge)
        left, top, right, bottom = window.astype(np.int64).T
        met = np.flatnonzero((left < right) & (top < bottom))
        if not len(met):
            return
        across = int(right[met].max() - left[met].min())
        strip = top[met] // max(1, _PIXELS_AT_ONCE // across)
        order = np.argsort(strip, kind="stable")
        for rows in np.split(met[order], np.flatnonzero(np.diff(strip[order])) + 1):
            lines = int(top[rows].min()), int(bottom[rows].max())
            yield rows, (lines, (int(left[rows].min()), int(right[rows].max())))

    def _portions(self, rows: Ints) -> list[Ints]:
        size = self.bounds[rows, 2:] - self.bounds[rows, :2] + 1
        number = np.cumsum(size.prod(axis=1)) // _CELLS_AT_ONCE
        return np.split(rows, np.flatnonzero(np.diff(number)) + 1)
