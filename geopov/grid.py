"""Where pixels and cells lie on the ground: true metres at a latitude, and the grid of cells a map is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS, Geod, Transformer

from geopov._validation import check_positive
from geopov.errors import MapError, RasterError

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""

_WGS84 = Geod(ellps="WGS84")


def as_crs(crs: Any) -> CRS:
    """A :class:`pyproj.CRS` from an EPSG code, WKT, a rasterio CRS or a pyproj CRS."""
    if isinstance(crs, CRS):
        return crs
    if hasattr(crs, "to_wkt"):
        return CRS.from_wkt(crs.to_wkt())
    return CRS.from_user_input(crs)


def transform_xy(source: Any, target: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in ``target``; always x (east) first, whatever the authority's axis order."""
    source, target = as_crs(source), as_crs(target)
    if source == target:
        return np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    tx, ty = Transformer.from_crs(source, target, always_xy=True).transform(x, y)
    return np.asarray(tx, dtype=float), np.asarray(ty, dtype=float)


def ground_scale(crs: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres on the ground per unit of the CRS, along its x and its y axis, at each point.

    Measured as the geodesic (WGS 84) length of one short step along each axis, so it is right for degrees, for
    Mercator's stretched metres and for any other projection alike.

    Parameters
    ----------
    crs : CRS
        Of the coordinates.
    x, y : array (n,)
        Coordinates, in the units of ``crs``.

    Returns
    -------
    scale_x, scale_y : array (n,)
        Metres per unit; about 111,000 x cos(latitude) and 111,000 for degrees, 1 for UTM, cos(latitude) for EPSG:3857.
    """
    crs = as_crs(crs)
    x, y = np.atleast_1d(np.asarray(x, dtype=float)), np.atleast_1d(np.asarray(y, dtype=float))
    # About 100 m on the ground: long enough for double precision, short enough to be local.
    step = 1e-3 if crs.is_geographic else 100.0 / _metres_per_unit(crs)
    scales = []
    for dx, dy in ((step / 2, 0.0), (0.0, step / 2)):
        lon0, lat0 = transform_xy(crs, "EPSG:4326", x - dx, y - dy)
        lon1, lat1 = transform_xy(crs, "EPSG:4326", x + dx, y + dy)
        _, _, length = _WGS84.inv(lon0, lat0, lon1, lat1)
        scales.append(np.asarray(length) / step)
    if not (np.all(np.isfinite(scales[0])) and np.all(np.isfinite(scales[1]))):
        raise RasterError(f"some coordinates lie outside the area of use of {crs.name}; cannot measure metres there.")
    return scales[0], scales[1]


def _metres_per_unit(crs: CRS) -> float:
    return float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0


def grid_corners(left: np.ndarray, top: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Column and row (n, 2), int64, of windows on endless grids of pixels, counted from the origin of their CRS.

    Parameters
    ----------
    left, top : float array (n,)
        Outer corner of each window, in units of its CRS; NaN becomes 0.
    dx, dy : float array (n,)
        Pixel size, both positive.
    """
    place = np.column_stack([np.asarray(left) / dx, -np.asarray(top) / dy])
    # Grids begin at whole pixels or halves as a rule; what is added keeps both away from where rounding decides.
    return np.nan_to_num(np.floor(place + 0.3137)).astype(np.int64)


def geodesic_area_km2(lon: np.ndarray, lat: np.ndarray) -> float:
    """Area of a ring given by its longitudes and latitudes, in km², on the WGS 84 ellipsoid."""
    area, _ = _WGS84.polygon_area_perimeter(lon, lat)
    return abs(area) / 1e6


def local_crs(bounds: Bounds) -> CRS:
    """A CRS in metres for a region in longitude and latitude.

    The UTM zone of its centre while the region stays within 9 degrees of longitude and off the poles (scale error then
    under 0.3%); otherwise the equal-area EASE-Grid 2.0 (EPSG:6933), on which a cell keeps its area everywhere.
    """
    west, south, east, north = bounds
    lon, lat = (west + east) / 2, (south + north) / 2
    if east - west > 9 or max(abs(south), abs(north)) > 80:
        return CRS.from_epsg(6933)
    zone = min(int((lon + 180) // 6) + 1, 60)
    return CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)


@dataclass(frozen=True)
class CellGrid:
    """A north-up grid of square cells.

    Attributes
    ----------
    crs : CRS
        Projected, in metres.
    transform : Affine
        Of the upper left corner.
    width, height : int
        Columns and rows.
    """

    crs: CRS
    transform: Affine
    width: int
    height: int

    @classmethod
    def from_bounds(cls, bounds: Bounds, *, cell_m: float, bounds_crs: Any = "EPSG:4326", crs: Any = None) -> CellGrid:
        """The grid that covers ``bounds``, its lines on multiples of ``cell_m``.

        Parameters
        ----------
        bounds : west, south, east, north
            In ``bounds_crs``.
        cell_m : float
            Cell side in metres of ``crs``.
        bounds_crs : CRS
            Of the bounds.
        crs : CRS, optional
            Of the grid, in metres; default :func:`local_crs`.

        Raises
        ------
        MapError
            If the bounds are empty or the CRS is not in metres.
        """
        check_positive(cell_m, "cell_m", MapError)
        west, south, east, north = bounds
        if not (west < east and south < north):
            raise MapError(f"bounds are {bounds}; expected west < east and south < north.")
        lonlat = Transformer.from_crs(as_crs(bounds_crs), "EPSG:4326", always_xy=True).transform_bounds(*bounds)
        target = as_crs(crs) if crs is not None else local_crs(lonlat)
        if not target.is_projected or abs(_metres_per_unit(target) - 1) > 1e-9:
            raise MapError(f"the grid's CRS is {target.name}; cells need one in metres, such as a UTM zone.")
        to_target = Transformer.from_crs(as_crs(bounds_crs), target, always_xy=True)
        west, south, east, north = to_target.transform_bounds(*bounds, densify_pts=101)
        west, south = math.floor(west / cell_m) * cell_m, math.floor(south / cell_m) * cell_m
        width, height = math.ceil((east - west) / cell_m), math.ceil((north - south) / cell_m)
        transform = Affine(cell_m, 0, west, 0, -cell_m, south + height * cell_m)
        return cls(crs=target, transform=transform, width=width, height=height)

    @property
    def cell_m(self) -> float:
        """Cell side in metres of the CRS."""
        return float(self.transform.a)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in the grid's CRS."""
        west, north = self.transform.c, self.transform.f
        return west, north - self.height * self.cell_m, west + self.width * self.cell_m, north

    def centres(self, first_row: int = 0, last_row: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The x and y of the cell centres of rows ``first_row`` to ``last_row`` (exclusive), each (rows, width)."""
        last_row = self.height if last_row is None else last_row
        rows = np.arange(first_row, last_row) + 0.5
        cols = np.arange(self.width) + 0.5
        x = np.broadcast_to(self.transform.c + cols * self.cell_m, (len(rows), self.width))
        y = np.broadcast_to((self.transform.f - rows * self.cell_m)[:, None], (len(rows), self.width))
        return x, y

    def strips(self, rows: int) -> Iterator[tuple[int, int]]:
        """First and last (exclusive) row of consecutive strips of at most ``rows`` rows, north to south."""
        for first in range(0, self.height, rows):
            yield first, min(first + rows, self.height)

    def blocks(self, cells: int) -> Iterator[CellBlock]:
        """Squares of ``cells`` x ``cells`` cells, row by row from the north-west, those at the grid's edges cut.

        Their lines are counted from the origin of the CRS, not from the grid's corner: grids with common cell lines,
        as those of a country and of one of its districts, are divided at the same places.
        """
        if cells < 1:
            raise MapError(f"blocks are {cells} cells wide; expected at least 1.")
        first_column, first_row = round(self.transform.c / self.cell_m), -round(self.transform.f / self.cell_m)
        for top in range(first_row - first_row % cells, first_row + self.height, cells):
            for left in range(first_column - first_column % cells, first_column + self.width, cells):
                yield CellBlock(self, top - first_row, left - first_column, cells)


@dataclass(frozen=True)
class CellBlock:
    """A square of cells on a grid: what a map is computed in.

    Attributes
    ----------
    grid : CellGrid
        The grid it is cut out of.
    whole_row, whole_column : int
        Its first row and column, counted from the grid's; negative where the grid begins inside the block.
    cells : int
        Its side in cells, uncut.
    """

    grid: CellGrid
    whole_row: int
    whole_column: int
    cells: int

    @property
    def rows(self) -> tuple[int, int]:
        """First and last (exclusive) row of the grid inside the block."""
        return max(self.whole_row, 0), min(self.whole_row + self.cells, self.grid.height)

    @property
    def columns(self) -> tuple[int, int]:
        """First and last (exclusive) column of the grid inside the block."""
        return max(self.whole_column, 0), min(self.whole_column + self.cells, self.grid.width)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """The x and y of the cell centres inside the grid, each (rows, columns): to the bit those of the whole."""
        (top, bottom), (left, right) = self.rows, self.columns
        x, y = self.whole.centres(top - self.whole_row, bottom - self.whole_row)
        columns = slice(left - self.whole_column, right - self.whole_column)
        return x[:, columns], y[:, columns]

    @property
    def whole(self) -> CellGrid:
        """The block as a grid of its own, uncut: the same whatever grid it was cut out of."""
        side, t = self.grid.cell_m, self.grid.transform
        # Counted from the CRS's origin: sums of an odd size from other corners differ in their last bits.
        column, row = round(t.c / side, 6) + self.whole_column, round(t.f / side, 6) - self.whole_row
        corner = Affine(side, 0, column * side, 0, -side, row * side)
        return CellGrid(self.grid.crs, corner, self.cells, self.cells)
