"""Seconds a block of the map, by the predictor that will make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from geopov import tiles
from geopov.catalog import open_catalog
from geopov.grid import CellBlock, CellGrid, transform_xy
from geopov.maps import Region
from geopov.raster import Scene, write_cog
from geopov.regression import WelfareModel
from geopov.study.cells import BLOCK_PX, CellModel
from geopov.study.config import Study
from geopov.study.estimate.counts import Blocks, Reading, count_blocks, inside, plan_clusters, reading_of
from geopov.study.estimate.measure import measured
from geopov.study.estimate.result import Cost, line, makespan
from geopov.study.execution import open_run, usable_cores
from geopov.study.large_tiles import large_tile_px
from geopov.study.predict import blocks_at_once
from geopov.study.stages import scene_region

__all__ = ["map_region", "probe_map"]

# Blocks whose reading is planned; the others are taken to be like them.
_PLANNED = 6
_WARM_CELLS, _FIRST_CELLS = 4, 32
# Cells of the map that is drawn for the pictures' sake.
_SAMPLE_CELLS = 1_000_000

Task = tuple[CellBlock, np.ndarray]


def map_region(study: Study, ground: Region) -> Region:
    """What the study's map covers."""
    assert study.map is not None
    if not isinstance(study.map.region, str):
        return Region.from_bounds(study.map.region)
    if study.map.region == "scene":
        return ground
    return Region.from_file(open_catalog(study.catalog)[study.map.region].path)


def probe_map(
    study: Study,
    scenes: Sequence[Scene],
    model: WelfareModel,
    *,
    budget_s: float,
    scheduler: str,
    workers: int | None,
    memory_mb: float | None,
    sample: Path,
) -> dict[str, Any]:
    """What the map takes, from some of its blocks, as many at once as the map will compute.

    Parameters
    ----------
    study, scenes, model
        What is to be mapped.
    budget_s : float
        Seconds to measure in, about.
    scheduler, workers, memory_mb
        As for :func:`geopov.study.predict_map`. Of a cluster so many blocks are computed at once as this machine has
        cores.
    sample : Path
        Of the map of random numbers.

    Returns
    -------
    dict
        ``fixed`` and ``blocks`` as costs, ``n_blocks``, ``n_cells``, ``width``, ``height``, ``block_cells``, ``mode``,
        ``at_once``, ``memory_bytes`` and ``reading``. A map of random numbers is written to ``sample``.
    """
    asked = study.map
    assert asked is not None
    with measured() as made:
        predictor = CellModel(
            scenes,
            model,
            cell_m=asked.cell_m,
            transform=asked.transform,
            mode=asked.mode,
            block_px=asked.block_px or BLOCK_PX,
        )
        ground = scene_region(scenes)
        region = map_region(study, ground)
        grid = region.grid(cell_m=asked.cell_m, crs=asked.crs)
    at_once = blocks_at_once(predictor, scheduler, workers=workers, memory_mb=memory_mb) or usable_cores()
    mask = region.to_crs(grid.crs)
    with measured() as counted:
        counts = count_blocks(grid, region, ground, block_cells=predictor.block_cells)
    reading = _reading(counts, predictor, mask, ground)

    def compute(tasks: Sequence[Task]) -> Cost:
        with measured() as found, open_run("threads", workers=at_once) as run:
            for _ in run(_predicted, predictor, tasks):
                pass
        seen.append(found.memory_bytes)
        return found.cost

    seen: list[int] = [made.memory_bytes]
    order = np.linspace(0, len(counts.blocks) - 1, min(len(counts.blocks), 4 * at_once)).astype(int)
    chosen: list[Task] = [(counts.blocks[i], inside(counts.blocks[i], mask, ground)) for i in order]
    chosen.sort(key=lambda task: -int(task[1].sum()))
    shared, busy = predictor.mode == "shared", min(len(chosen), at_once)
    warm = compute([(chosen[0][0], chosen[0][1] if shared else _first(chosen[0][1], _WARM_CELLS))])
    sizes: list[tuple[int, Cost]] = []
    limit, full = (0, 0) if shared else (_FIRST_CELLS, max(int(cells.sum()) for _, cells in chosen))
    while not sizes or (limit < full and 3 * sizes[-1][1].effort_s * busy < budget_s):
        limit = limit if not sizes else 4 * limit
        tasks = chosen[:busy] if shared else [(block, _first(cells, limit)) for block, cells in chosen[:busy]]
        n_cells = sum(int(cells.sum()) for _, cells in tasks) // busy
        spent = compute(tasks)
        # By the clock all of them took as long as one did, beside the others.
        sizes.append((n_cells, Cost(spent.seconds, spent.cpu_seconds / busy)))
    call, each = (sizes[-1][1], Cost()) if shared else line(*(sizes[-2:] if len(sizes) > 1 else sizes * 2))
    wall = makespan([(call.seconds + int(cells) * each.seconds, 1) for cells in counts.cells], at_once)
    cpu = len(counts.cells) * call.cpu_seconds + counts.n_cells * each.cpu_seconds
    preparing = (warm - call - each * _WARM_CELLS).floored
    with measured() as written:
        share = _write_sample(sample, grid)
    return {
        "fixed": (made.cost + counted.cost + preparing + written.cost * (1 / share)).to_dict(),
        "blocks": {"seconds": wall, "cpu_seconds": cpu},
        "n_blocks": len(counts.blocks),
        "n_cells": counts.n_cells,
        "width": grid.width,
        "height": grid.height,
        "block_cells": predictor.block_cells,
        "mode": predictor.mode,
        "at_once": at_once,
        "memory_bytes": max(seen),
        "reading": asdict(reading),
    }


def _predicted(predictor: CellModel, task: Task) -> None:
    predictor(*task)


def _first(cells: np.ndarray, limit: int) -> np.ndarray:
    """The first ``limit`` of the cells that are inside."""
    kept = np.zeros(cells.size, dtype=bool)
    kept[np.flatnonzero(cells)[:limit]] = True
    return kept.reshape(cells.shape)


def _reading(counts: Blocks, predictor: CellModel, mask: Region, ground: Region) -> Reading:
    """What all blocks read, from the plans of some."""
    if not counts.blocks:
        return Reading()
    order = np.unique(np.linspace(0, len(counts.blocks) - 1, _PLANNED).astype(int))
    window = {"window_km": None, "n_tiles": 1} | dict(predictor.model.window)
    found = []
    side_px = large_tile_px(predictor.spec, predictor.block_cells * counts.grid.cell_m, window["window_km"])
    spec = predictor.spec if predictor.mode == "crops" else replace(predictor.spec, size_px=side_px, context_px=0)
    for i in order:
        block = counts.blocks[i]
        if predictor.mode == "crops":
            cells = inside(block, mask, ground)
            x, y = (axis[cells] for axis in block.centres())
            planned = plan_clusters(predictor.scenes, _points(counts.grid, x, y), spec, **window)
        else:
            west, south, east, north = block.whole.bounds
            middle = _points(counts.grid, np.array([(west + east) / 2]), np.array([(south + north) / 2]))
            planned = tiles.extract(predictor.scenes, middle, spec)
        found.append(reading_of(planned))
    total = [sum(values) for values in zip(*(asdict(reading).values() for reading in found), strict=True)]
    weight = counts.cells[order].sum() if predictor.mode == "crops" else len(order)
    every = counts.n_cells if predictor.mode == "crops" else len(counts.blocks)
    return Reading(*total).times(every / weight)


def _points(grid: CellGrid, x: np.ndarray, y: np.ndarray) -> gpd.GeoDataFrame:
    lon, lat = transform_xy(grid.crs, "EPSG:4326", x, y)
    ids = np.arange(len(lon)).astype(str)
    return gpd.GeoDataFrame({"cluster_id": ids}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")


def _write_sample(path: Path, grid: CellGrid) -> float:
    """Write a map of random numbers on the grid's first rows; returns their share of all rows."""
    rows = min(grid.height, max(_SAMPLE_CELLS // grid.width, 1))
    values = np.random.default_rng(0).normal(size=(4, rows, grid.width)).astype(np.float32)
    names = CellModel.band_names
    write_cog(
        path, [(0, values)], crs=grid.crs, transform=grid.transform, width=grid.width, height=rows, band_names=names
    )
    return rows / grid.height
