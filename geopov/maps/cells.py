"""A value for every cell of a grid, block by block, kept until the map is whole: a Cloud Optimized GeoTIFF."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import shapely

from geopov import __version__
from geopov._validation import some
from geopov.errors import MapError
from geopov.grid import CellBlock, CellGrid
from geopov.maps.blocks import (
    BlockPredictor,
    BlockTask,
    CellPredictor,
    HoleWarning,
    PerCell,
    Run,
    compute_block,
    in_this_process,
)
from geopov.maps.region import Region
from geopov.maps.unfinished import Unfinished, unfinished
from geopov.raster.write import OverviewResampling, check_cog, write_cog

__all__ = ["CellPredictor", "predict"]

T = TypeVar("T")
Progress = Callable[[int, int], None]

# A map's tag should not outgrow the map.
_HOLES_TOLD = 100


def predict(
    predictor: CellPredictor | BlockPredictor,
    grid: CellGrid,
    *,
    path: str | Path,
    mask: Region | None = None,
    run: Run | None = None,
    strict: bool = False,
    nodata: float = math.nan,
    tags: Mapping[str, str] | None = None,
    overview_resampling: OverviewResampling = "average",
    progress: Progress | None = None,
) -> Path:
    """Predict every cell of a grid and write the map.

    The map is computed in blocks. Each goes, as it comes, to the folder ``NAME.tif.unfinished`` beside the map; when
    all are there, they are put together one row of blocks at a time, so that memory does not grow with the area. A run
    that was stopped, by whatever, goes on from the blocks that it finished when it is started again, and ends with the
    same bytes. The map has its name only when it is whole.

    Parameters
    ----------
    predictor : CellPredictor or BlockPredictor
        What has ``block_cells`` is asked for blocks, anything else for the cells of a block by longitude and latitude;
        both only where cells lie inside the mask.
    grid : CellGrid
        The cells.
    path : path
        Of the GeoTIFF to write.
    mask : Region, optional
        Cells whose centre lies outside become nodata; default: the whole grid.
    run : Run, optional
        Who computes the blocks; default: this process, one after another. The map does not depend on it.
    strict : bool
        Stop at the first hole: pixels that could not be read. Default: the map has holes, a HoleWarning says so, and
        the tag ``holes`` lists them (JSON).
    nodata : float
        Written outside the mask and where the prediction is NaN.
    tags : mapping of str to str, optional
        Provenance, stored in the file. ``title``, ``source``, ``year``, ``style`` and ``interval`` ("90%") are used
        by :func:`geopov.maps.picture.render` where it is not told otherwise.
    overview_resampling : {"average", "nearest", "bilinear", "cubic", "mode"}
        How overviews are made.
    progress : callable, optional
        Called with (blocks done, blocks in all); those of an earlier run count as done.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If the grid has no cell, no cell lies inside the mask, the predictor returns another shape than it should or
        knows no cell at all, another process is making the same map, the disk is full, or, if ``strict``, there is a
        hole. No file is at ``path`` then that was not there before.
    RasterError
        If names, units and nodata do not fit together.
    """
    path = Path(path)
    if grid.width < 1 or grid.height < 1:
        raise MapError(f"the grid has {grid.width} x {grid.height} cells; expected at least one column and one row.")
    if path.is_dir():
        raise MapError(f"{path} is a folder; expected the name of the GeoTIFF to write.")
    asked = cast(BlockPredictor, predictor) if hasattr(predictor, "block_cells") else PerCell(predictor)
    place: dict[str, Any] = {
        "crs": grid.crs,
        "transform": grid.transform,
        "width": grid.width,
        "height": grid.height,
        "band_names": asked.band_names,
        "units": asked.units,
        "nodata": nodata,
        "overview_resampling": overview_resampling,
    }
    check_cog(**place)
    job = _Job(asked, grid, mask.to_crs(grid.crs) if mask is not None else None)
    with unfinished(path, job.fingerprint(), resumable=bool(asked.fingerprint)) as kept:
        holes = _compute(job, kept, run or in_this_process, strict, progress)
        told = {"holes": json.dumps(_shortened(holes), ensure_ascii=False)} if holes else {}
        with kept.disk_errors(job.raster_bytes * 7 // 3):
            whole = write_cog(
                kept.folder / path.name,
                _strips(job, kept),
                description=asked.description,
                tags=dict(tags or {}) | told,
                **place,
            )
            whole.replace(path)
    if holes:
        text = f"{path} has cells without a value since pixels could not be read, {len(holes)} times: {some(holes, 3)}"
        warnings.warn(text, HoleWarning, stacklevel=2)
    return path


@dataclass(frozen=True)
class _Job:
    """What is to be predicted, and where; ``region`` in the grid's CRS."""

    predictor: BlockPredictor
    grid: CellGrid
    region: Region | None

    @property
    def raster_bytes(self) -> int:
        return 4 * len(self.predictor.band_names) * self.grid.width * self.grid.height

    def fingerprint(self) -> dict[str, Any]:
        """All that the bytes of the blocks depend on."""
        region = self.region
        return {
            "geopov": __version__,
            "predictor": self.predictor.fingerprint,
            "bands": list(self.predictor.band_names),
            "block_cells": self.predictor.block_cells,
            "crs": self.grid.crs.to_wkt(),
            "transform": list(self.grid.transform)[:6],
            "cells": [self.grid.width, self.grid.height],
            "mask": hashlib.sha256(shapely.to_wkb(region.geometry)).hexdigest() if region is not None else None,
        }

    def blocks(self) -> Iterator[CellBlock]:
        return self.grid.blocks(self.predictor.block_cells)

    def tasks(self) -> Iterator[BlockTask]:
        """The blocks with at least one cell inside the mask."""
        for block in self.blocks():
            if (inside := self.inside(block)).any():
                yield BlockTask(block, inside)

    def inside(self, block: CellBlock) -> np.ndarray:
        """Which of the block's cells in the grid are inside the mask, bool (rows, columns)."""
        x, y = block.centres()
        if self.region is None:
            return np.ones(x.shape, dtype=bool)
        # Few blocks are cut by the border; only there each cell is asked.
        half = self.grid.cell_m / 2
        outline = shapely.box(x[0, 0] - half, y[-1, 0] - half, x[0, -1] + half, y[0, 0] + half)
        shapely.prepare(self.region.geometry)
        if not shapely.intersects(self.region.geometry, outline):
            return np.zeros(x.shape, dtype=bool)
        if shapely.covers(self.region.geometry, outline):
            return np.ones(x.shape, dtype=bool)
        return self.region.contains(x, y)


def _compute(job: _Job, kept: Unfinished, run: Run, strict: bool, progress: Progress | None) -> list[str]:
    """Make and keep the blocks that are not kept yet. The holes, each once, in an order that is theirs."""
    total = 0
    for task in job.tasks():
        total += 1
        kept.recover(task.block)
    if not total:
        grid = job.grid
        raise MapError(
            f"no cell centre of the grid ({grid.width} x {grid.height} cells of {grid.cell_m:g} m) lies inside the "
            "mask; choose smaller cells, or check that grid and mask are the same place."
        )
    done = kept.finished
    if progress is not None and done:
        progress(done, total)
    block_bytes = 4 * len(job.predictor.band_names) * job.predictor.block_cells**2
    holes: set[str] = set()
    with _closing(
        run(compute_block, job.predictor, (task for task in job.tasks() if not kept.has(task.block)))
    ) as results:
        for task, known in results:
            if known.holes and strict:
                raise MapError(f"the map would have a hole: {known.holes[0]} {kept.remedy}")
            holes.update(known.holes)
            with kept.disk_errors(block_bytes * (total - done) + job.raster_bytes * 7 // 3):
                kept.write(task.block, known)
            done += 1
            if progress is not None:
                progress(done, total)
    return sorted(holes)


@contextmanager
def _closing(results: Iterator[T]) -> Iterator[Iterator[T]]:
    """Tell workers, where there are any, that no more results are wanted."""
    try:
        yield results
    finally:
        if hasattr(results, "close"):
            results.close()


def _strips(job: _Job, kept: Unfinished) -> Iterator[tuple[int, np.ndarray]]:
    """One row of blocks after another, as rows of the map."""
    asked, known = 0, False
    for (first, last), blocks in itertools.groupby(job.blocks(), key=lambda block: block.rows):
        strip = np.full((len(job.predictor.band_names), last - first, job.grid.width), np.nan, dtype=np.float32)
        for block in blocks:
            count = int(job.inside(block).sum())
            if count:
                asked += count
                values = _again(kept, block)
                strip[:, :, slice(*block.columns)] = values
                known = known or bool(np.isfinite(values).any())
        yield first, strip
    if not known:
        kept.discard()
        raise MapError(f"the predictor knows none of the {asked} cells (all NaN); does its scene cover the grid?")


def _again(kept: Unfinished, block: CellBlock) -> np.ndarray:
    found = kept.read(block)
    if found is None:
        raise MapError(
            f"the block {kept.path(block)} was changed or removed while the map was put together. {kept.remedy}"
        )
    return found.values


def _shortened(holes: Sequence[str]) -> list[str]:
    more = len(holes) - _HOLES_TOLD
    return [*holes[:_HOLES_TOLD], *([f"and {more} more"] if more > 0 else [])]
