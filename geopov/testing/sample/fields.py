"""The ground's two grids, 100 m for causes and 10 m for pixels, and smooth random surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from scipy import ndimage

from geopov.grid import transform_xy

__all__ = ["CELL_M", "FINE", "PIXEL_M", "Floats", "Place", "refine", "smooth_noise"]

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

PIXEL_M = 10.0
CELL_M = 100.0
FINE = 10
"""Pixels of the image along a cell of the causes' grid."""


@dataclass(frozen=True)
class Place:
    """Where a square country of ``n`` cells a side lies.

    Attributes
    ----------
    crs : str
        In metres.
    left, top : float
        Upper left corner.
    n : int
        Cells a side.
    """

    crs: str
    left: float
    top: float
    n: int

    def transform(self, step_m: float) -> Affine:
        """From (column, row) of squares of this side to x, y."""
        return Affine(step_m, 0, self.left, 0, -step_m, self.top)

    def lonlat(self, row: npt.ArrayLike, col: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Longitude and latitude of places given in cells."""
        x, y = self.left + CELL_M * np.asarray(col), self.top - CELL_M * np.asarray(row)
        return transform_xy(self.crs, "EPSG:4326", x, y)

    def cells(self, lon: Doubles, lat: Doubles) -> tuple[Doubles, Doubles]:
        """Row and column in cells."""
        x, y = transform_xy("EPSG:4326", self.crs, lon, lat)
        return (self.top - y) / CELL_M, (x - self.left) / CELL_M

    def border(self, margin: float = 0.0) -> tuple[Doubles, Doubles]:
        """Longitude and latitude along the west, east, north and south side, each (4, 50), ``margin`` cells inside."""
        along = np.linspace(margin, self.n - margin, 50)
        near, far = np.full(50, margin), np.full(50, self.n - margin)
        return self.lonlat(np.stack([along, along, near, far]), np.stack([near, far, along, along]))


def smooth_noise(rng: np.random.Generator, n: int, *, correlation_cells: float) -> Floats:
    """A Gaussian random surface (n, n) of mean 0 and standard deviation 1 over the square.

    White noise under a Gaussian filter; values this far apart correlate by 1/e.
    """
    # A Gaussian filter of width s makes a Gaussian correlation of width sqrt(2) s, which is 1/e at 2 s.
    surface: Doubles = ndimage.gaussian_filter(
        rng.standard_normal((n, n)), correlation_cells / 2, mode="reflect", truncate=3
    )
    found: Floats = ((surface - surface.mean()) / surface.std()).astype(np.float32)
    return found


def refine(grid: Floats, first_row: int = 0, last_row: int | None = None, *, factor: int = FINE) -> Floats:
    """Bilinear values at pixels ``factor`` times finer, held constant beyond the outermost centres.

    Parameters
    ----------
    grid : array (n, m)
        Values at the centres of cells.
    first_row, last_row : int
        Rows of pixels that are wanted, the last exclusive; default all.
    factor : int
        Pixels along a cell.
    """
    fine_rows = np.arange(first_row, grid.shape[0] * factor if last_row is None else last_row)
    for axis, pixels in ((0, fine_rows), (1, np.arange(grid.shape[1] * factor))):
        at = np.clip((pixels + 0.5) / factor - 0.5, 0, grid.shape[axis] - 1)
        low = np.minimum(at.astype(np.intp), grid.shape[axis] - 2)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        below, above = np.take(grid, low, axis=axis), np.take(grid, low + 1, axis=axis)
        grid = below + (above - below) * share
    return grid
