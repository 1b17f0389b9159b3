"""One large tile under a block of cells: what the shared computation of a map looks at.

Neighbouring cells look at the same pixels. A block's pixels are therefore read once, with the context that the network
needs around the outermost tiles, and every cell's tile is a box of whole pixels inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov import tiles
from geopov.grid import CellBlock, grid_corners, transform_xy
from geopov.raster import Scene, Unreadable
from geopov.tiles.placement import place, unwrap

__all__ = ["LargeTile", "block_side_cells", "large_tile_px", "read_large_tile"]

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
Lonlat = tuple[Floats, Floats]

# Over so many metres the width of a degree changes by less than 1% up to 50 degrees of latitude, so that tiles keep the
# size on the ground that the clusters' had.
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
    left, top : int array (cell, tile)
        Upper left pixel of each cell's tiles, row by row of the whole block; without context.
    """

    data: npt.NDArray[np.generic]
    valid: npt.NDArray[np.bool_]
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


def read_large_tile(
    scenes: Sequence[Scene],
    block: CellBlock,
    spec: tiles.TileSpec,
    *,
    window_km: float | None = None,
    n_tiles: int = 1,
    align_px: int = 1,
    on_unreadable: Callable[[Unreadable], None] | None = None,
) -> LargeTile:
    """Read the pixels under a whole block.

    Parameters
    ----------
    scenes : sequence of Scene
        A mosaic. The large tile takes its grid from the scene that holds the greatest share of it.
    block : CellBlock
        Read whole, whatever part of it a grid needs: its numbers must not depend on that.
    spec : TileSpec
        Of the cells' tiles; ``context_px`` is what is read beyond them.
    window_km, n_tiles
        Several tiles a cell, as for clusters.
    align_px : int
        The large tile begins at a multiple of so many pixels of its scene, as crops do that a network sees
        (:func:`geopov.features.alignment_px`).
    on_unreadable : callable, optional
        As for :func:`geopov.tiles.extract`.

    Raises
    ------
    TileError
        If no scene reaches the block.
    RasterError
        If pixels cannot be read, and nobody is to be told.
    """
    whole = block.whole
    x, y = whole.centres()
    points = gpd.GeoDataFrame(
        {"cluster_id": np.arange(x.size).astype(str)},
        geometry=gpd.points_from_xy(*transform_xy(whole.crs, "EPSG:4326", x.ravel(), y.ravel())),
        crs="EPSG:4326",
    )
    if window_km is not None:
        points = tiles.tile_points(points, spec, window_km=window_km, n_tiles=n_tiles)
    west, south, east, north = whole.bounds
    middle = transform_xy(whole.crs, "EPSG:4326", np.array([(west + east) / 2]), np.array([(south + north) / 2]))
    reach = replace(spec, context_px=spec.context_px + align_px - 1)
    lay = partial(_lay, scenes, middle, points.geometry.x.to_numpy(), points.geometry.y.to_numpy(), reach)
    # Laid once to see how large it must be. Another size moves its corner by whole pixels, or, where pixels are
    # resampled, by less than one.
    size_px = _rounded(whole.cell_m * block.cells / spec.resolution_m)
    size_px = _rounded(size_px + 2 * lay(size_px)[2])
    left, top, beyond = lay(size_px)
    if beyond > 0:
        size_px += _MULTIPLE_PX
        left, top, _ = lay(size_px)
    tile = gpd.GeoDataFrame({"cluster_id": ["block"]}, geometry=gpd.points_from_xy(*middle), crs="EPSG:4326")
    large = replace(spec, size_px=size_px, context_px=0)
    cut = tiles.extract(list(scenes), tile, large, threads=1, on_unreadable=on_unreadable)
    (batch,) = cut.iter_batches(1)
    corner = grid_corners(*(cut.index[name].to_numpy() for name in ("left", "top", "pixel_width", "pixel_height")))[0]
    column, row = (int(-place) % align_px for place in corner)
    per_cell = (x.size, n_tiles)
    return LargeTile(
        batch.data[0, :, row:, column:],
        batch.valid[0, row:, column:],
        (left - column).reshape(per_cell),
        (top - row).reshape(per_cell),
    )


def _lay(
    scenes: Sequence[Scene], middle: Lonlat, lon: Floats, lat: Floats, spec: tiles.TileSpec, size_px: int
) -> tuple[Ints, Ints, int]:
    """Left and top of each tile in a large tile of ``size_px``, and by how many pixels the farthest reaches beyond it.

    Negative where there is room to spare.
    """
    placement = place(scenes, *middle, replace(spec, size_px=size_px, context_px=0))
    scene = scenes[int(placement.scene[0])]
    x, y = transform_xy("EPSG:4326", scene.crs, lon, lat)
    column = (unwrap(x, scene.files[0]) - placement.left[0]) / placement.dx[0]
    row = (placement.top[0] - y) / placement.dy[0]
    # As crops are laid: the window of whole pixels whose centre is nearest to the tile's.
    left, top = (np.floor(at - spec.size_px / 2 + 0.5).astype(np.intp) for at in (column, row))
    first = min(left.min(), top.min()) - spec.context_px
    last = max(left.max(), top.max()) + spec.size_px + spec.context_px
    return left, top, int(max(-first, last - size_px))


def _rounded(size_px: float) -> int:
    return _MULTIPLE_PX * max(1, math.ceil(size_px / _MULTIPLE_PX))
