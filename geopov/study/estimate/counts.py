"""What can be counted without reading a pixel: tiles, blocks of cells, pixels, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from geopov import tiles
from geopov.grid import CellBlock, CellGrid, transform_xy
from geopov.maps import Region
from geopov.raster import RasterFile, Scene
from geopov.tiles.extract import PlannedTiles
from geopov.tiles.plan import Plan

__all__ = ["Blocks", "Reading", "count_blocks", "reading_of"]

# As :func:`geopov.features.extract` reads them.
_BATCH = 256


@dataclass(frozen=True)
class Reading:
    """What extracting some tiles reads.

    Attributes
    ----------
    tiles : int
        On a scene.
    pixels : int
        Of those tiles, context included.
    decoded_bytes : int
        Of all blocks of the files that are decoded, as often as they are.
    read_bytes : int
        Their share of the files' sizes; 0 for files that are not on this machine's disks.
    """

    tiles: int = 0
    pixels: int = 0
    decoded_bytes: int = 0
    read_bytes: int = 0

    def times(self, factor: float) -> Reading:
        """As much of everything, rounded."""
        values = (self.tiles, self.pixels, self.decoded_bytes, self.read_bytes)
        return Reading(*(round(value * factor) for value in values))


def reading_of(planned: tiles.TileSet) -> Reading:
    """What reading a planned set of tiles once takes."""
    assert isinstance(planned.source, PlannedTiles)
    plan = planned.source.plan
    schedule = planned.source.schedule(_BATCH)
    n_tiles = len(planned) - plan.n_outside
    steps = [step.decode for step in schedule.steps]
    decoded = np.concatenate(steps) if steps else np.empty(0, dtype=np.int64)
    return Reading(n_tiles, n_tiles * plan.spec.total_px**2, schedule.decoded_bytes, _read_bytes(plan, decoded))


def _read_bytes(plan: Plan, units: np.ndarray) -> int:
    """Decoded bytes, each level's shrunk as its whole file is."""
    level = np.searchsorted(plan.units.first, units, side="right") - 1
    files = plan.units.file[level]
    sizes = np.bincount(files, weights=plan.units.bytes_of(units), minlength=len(plan.files))
    total: float = sum(size * _share_on_disk(plan.files[number]) for number, size in enumerate(sizes) if size)
    return round(total)


@cache
def _share_on_disk(file: RasterFile) -> float:
    """Bytes of the file for one decoded byte of all of its bands and levels; 0 where the file is elsewhere."""
    path = Path(file.path)
    if not path.is_file():
        return 0.0
    band_bytes: int = file.dtype.itemsize * len(file.bands) + int(file.may_be_invalid)
    decoded = sum(level.width * level.height for level in file.levels) * band_bytes
    return float(min(path.stat().st_size / decoded, 1.0))


@dataclass(frozen=True)
class Blocks:
    """The blocks of a map that hold a cell to predict.

    Attributes
    ----------
    grid : CellGrid
        All cells.
    blocks : list of CellBlock
        In the order they are computed.
    cells : int array (n,)
        Cells of each that lie in the region and on a scene.
    """

    grid: CellGrid
    blocks: list[CellBlock]
    cells: np.ndarray

    @property
    def n_cells(self) -> int:
        """Cells to predict."""
        return int(self.cells.sum())


def count_blocks(grid: CellGrid, region: Region, ground: Region, *, block_cells: int) -> Blocks:
    """Blocks and their cells inside the region and on the scenes' ground.

    Cells are counted one by one only in blocks that a border runs through, so that a continent takes seconds.

    Parameters
    ----------
    grid : CellGrid
        Of the map.
    region, ground : Region
        To map, and that scenes cover.
    block_cells : int
        Side of the blocks.
    """
    mask = region.to_crs(grid.crs)
    inner = shapely.intersection(mask.geometry, ground.to_crs(grid.crs).geometry)
    # A border in another projection is bent; half a cell is more than the bending of edges cut so short.
    safe = inner.buffer(-grid.cell_m / 2)
    near = inner.buffer(grid.cell_m / 2)
    for geometry in (safe, near):
        shapely.prepare(geometry)
    found, cells = [], []
    for block in grid.blocks(block_cells):
        (top, bottom), (left, right) = block.rows, block.columns
        corner, m = grid.transform, grid.cell_m
        box = shapely.box(corner.c + left * m, corner.f - bottom * m, corner.c + right * m, corner.f - top * m)
        if not near.intersects(box):
            continue
        n = (bottom - top) * (right - left) if safe.contains(box) else int(inside(block, mask, ground).sum())
        if n:
            found.append(block)
            cells.append(n)
    return Blocks(grid, found, np.array(cells, dtype=np.int64))


def inside(block: CellBlock, mask: Region, ground: Region) -> np.ndarray:
    """Which cells (rows, columns) of a block lie in the mask, which is in the grid's CRS, and on the ground."""
    x, y = block.centres()
    within = mask.contains(x, y)
    lon, lat = transform_xy(block.grid.crs, ground.crs, x, y)
    return np.asarray(within & ground.contains(lon, lat))


def plan_clusters(
    scenes: Sequence[Scene], points: gpd.GeoDataFrame, spec: tiles.TileSpec, *, window_km: float | None, n_tiles: int
) -> tiles.TileSet:
    """The tiles of clusters as :func:`geopov.study.extract_features` cuts them, published places taken as they are."""
    if window_km is not None:
        points = tiles.tile_points(points, spec, window_km=window_km, n_tiles=n_tiles)
    return tiles.extract(list(scenes), points, spec)
