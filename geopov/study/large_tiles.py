"""The large tile under a block of cells: what the shared computation of a map looks at.

Neighbouring cells look at the same pixels. A block's pixels are therefore read once, with the context that the network
needs around the outermost tiles, and every cell's tile is a box of whole pixels inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov import tiles
from geopov.grid import CellBlock, grid_corners, transform_xy
from geopov.raster import Scene, Unreadable
from geopov.tiles.placement import Placement, Window, place
from geopov.tiles.window import read_window

__all__ = ["LargeTile", "block_side_cells", "large_tile_px", "large_tiles", "on_one_grid", "read_large_tile"]

Ints = npt.NDArray[np.intp]

# Over so many metres the width of a degree changes by less than 1% up to 50 degrees of latitude, so that the tiles of a
# block lie on few pixel grids.
_LONGEST_SIDE_M = 100_000.0

# Features of a block's tiles, in double precision once, stay below this.
_FEATURE_BYTES = 128 << 20

# Sides are rounded up to this many pixels: most networks divide their input by 32, and fewer shapes are fewer to
# prepare an engine for.
_MULTIPLE_PX = 32


@dataclass(frozen=True)
class LargeTile:
    """Pixels under a block, and the tiles of its cells in them.

    Attributes
    ----------
    data : array (band, y, x)
        Pixels.
    valid : bool array (y, x)
        True = valid.
    number : int array (n,)
        Which tiles lie in it: those of the whole block's cells, row by row, are numbered through.
    left, top : int array (n,)
        Upper left pixel of each; without context.
    """

    data: npt.NDArray[np.generic]
    valid: npt.NDArray[np.bool_]
    number: Ints
    left: Ints
    top: Ints


def block_side_cells(spec: tiles.TileSpec, *, cell_m: float, block_px: int, n_tiles: int, n_features: int) -> int:
    """Cells along the side of a block: as many as about ``block_px`` pixels of the tiles hold, and at least one.

    Depends on nothing but how features are made and how large cells are, so that the same cells always come from the
    same blocks.
    """
    by_ground = min(block_px * spec.resolution_m, _LONGEST_SIDE_M) / cell_m
    by_memory = (_FEATURE_BYTES / (8 * n_features * n_tiles)) ** 0.5
    return max(1, int(min(by_ground, by_memory)))


def large_tile_px(spec: tiles.TileSpec, side_m: float, window_km: float | None) -> int:
    """About the side of the large tile under a block of ``side_m`` metres, in pixels."""
    reach_m = spec.ground_m if window_km is None else window_km * 1000
    return _rounded((side_m + reach_m) / spec.resolution_m + 2 * spec.context_px)


def large_tiles(
    scenes: Sequence[Scene],
    block: CellBlock,
    spec: tiles.TileSpec,
    *,
    window_km: float | None = None,
    n_tiles: int = 1,
    align_px: int = 1,
    wanted: npt.NDArray[np.bool_] | None = None,
    on_unreadable: Callable[[Unreadable], None] | None = None,
) -> Iterator[LargeTile]:
    """Read the pixels under a whole block: once, or a few times where its tiles lie on several pixel grids.

    Each tile lies where it would if it were cut by itself. Where scenes of two zones meet, or, of resampled scenes in
    longitude and latitude, where the width of a degree has changed by a hundredth, neighbours lie on different grids.

    Parameters
    ----------
    scenes : sequence of Scene
        A mosaic.
    block : CellBlock
        Taken whole, whatever part of it a grid needs: its numbers must not depend on that.
    spec : TileSpec
        Of the cells' tiles; ``context_px`` is what is read beyond them.
    window_km, n_tiles
        Several tiles a cell, as for clusters.
    align_px : int
        Large tiles begin at multiples of so many pixels of their grid, as crops do that a network sees
        (:func:`geopov.features.alignment_px`).
    wanted : bool array (cell,), optional
        Cells of the whole block, row by row. What holds none that is wanted is not read; default: all are.
    on_unreadable : callable, optional
        As for :func:`geopov.tiles.extract`.

    Raises
    ------
    TileError
        If no scene reaches the block.
    RasterError
        If pixels cannot be read, and nobody is to be told.
    """
    x, y = (axis.ravel() for axis in block.whole.centres())
    points = gpd.GeoDataFrame(
        {"cluster_id": np.arange(x.size).astype(str)},
        geometry=gpd.points_from_xy(*transform_xy(block.whole.crs, "EPSG:4326", x, y)),
        crs="EPSG:4326",
    )
    if window_km is not None:
        points = tiles.tile_points(points, spec, window_km=window_km, n_tiles=n_tiles)
    asked = np.repeat(np.ones(x.size, dtype=bool) if wanted is None else wanted, n_tiles)
    lon, lat = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    for number in on_one_grid(laid := place(scenes, lon, lat, spec)):
        if asked[number].any():
            yield read_large_tile(scenes, laid, number, spec, align_px=align_px, on_unreadable=on_unreadable)


def on_one_grid(laid: Placement) -> list[Ints]:
    """Numbers of the tiles of each pixel grid; those that lie on no scene are in none."""
    on_scene = np.flatnonzero(laid.scene >= 0)
    key = np.column_stack([laid.scene, laid.dx, laid.dy])[on_scene]
    _, group = np.unique(key, axis=0, return_inverse=True)
    return [on_scene[group.ravel() == k] for k in range(int(group.max(initial=-1)) + 1)]


def read_large_tile(
    scenes: Sequence[Scene],
    laid: Placement,
    number: Ints,
    spec: tiles.TileSpec,
    *,
    align_px: int = 1,
    on_unreadable: Callable[[Unreadable], None] | None = None,
) -> LargeTile:
    """The large tile under some of the tiles that were laid, which lie on one grid; see :func:`large_tiles`."""
    one = int(number[0])
    dx, dy = float(laid.dx[one]), float(laid.dy[one])
    corners = grid_corners(laid.left[number], laid.top[number], laid.dx[number], laid.dy[number])
    first = corners.min(axis=0) // align_px * align_px
    columns, rows = (_rounded(side) for side in corners.max(axis=0) + spec.total_px - first)
    away = first - corners[0]
    window = Window(int(laid.scene[one]), laid.left[one] + away[0] * dx, laid.top[one] - away[1] * dy, dx, dy)
    square = replace(spec, size_px=max(rows, columns), context_px=0)
    data, valid = read_window(scenes, window, square, on_unreadable=on_unreadable)
    left, top = (corners - first + spec.context_px).T
    return LargeTile(data[:, :rows, :columns], valid[:rows, :columns], number, left, top)


def _rounded(size_px: float) -> int:
    return _MULTIPLE_PX * max(1, math.ceil(size_px / _MULTIPLE_PX))
