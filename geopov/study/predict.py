"""A region through a fitted model to a map: which blocks, how many at a time, and where they are computed."""

from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from geopov import maps
from geopov.errors import MapError, StudyError
from geopov.grid import Bounds
from geopov.maps import Region
from geopov.raster import Scene
from geopov.regression import WelfareModel
from geopov.study.cells import BLOCK_PX, CellModel, Mode, Transform
from geopov.study.execution import open_run, usable_cores
from geopov.study.stages import scene_region

__all__ = ["predict_map"]

ProgressCallback = Callable[[int, int], None]
_MIB = 1 << 20


def predict_map(
    scenes: Sequence[Scene],
    model: WelfareModel,
    *,
    path: Path,
    cell_m: float,
    region: Region | None = None,
    crs: str | None = None,
    transform: Transform = "none",
    unit: str | None = None,
    title: str | None = None,
    tags: Mapping[str, str] | None = None,
    mode: Mode = "auto",
    block_px: int = BLOCK_PX,
    scheduler: str = "threads",
    workers: int | None = None,
    memory_mb: float | None = None,
    strict: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Predict every cell of a region into a Cloud Optimized GeoTIFF, block by block.

    The map is the same to the bit whatever the scheduler, the number of workers and the memory; and where two regions
    overlap on one grid, so are their cells. A run that was killed goes on where it stopped.

    Parameters
    ----------
    scenes : sequence of Scene
        What the model looks at.
    model : WelfareModel
        From :func:`geopov.regression.evaluate`.
    path : Path
        Of the map; bands as :attr:`CellModel.band_names`.
    cell_m : float
        Side of a cell in metres.
    region : Region, optional
        Default: the scenes.
    crs : str, optional
        Of the map, in metres; default :func:`geopov.grid.local_crs`.
    transform, unit, mode, block_px
        As for :class:`CellModel`.
    title : str, optional
        What the map shows.
    tags : mapping, optional
        Further provenance to store in the file.
    scheduler, workers
        As for :func:`geopov.study.open_run`.
    memory_mb : float, optional
        So many blocks are computed side by side as fit in this, and no more than there are workers; default: no bound
        but the number of workers. Does not grow with the region.
    strict : bool
        Pixels that cannot be read end the run; otherwise they are a hole in the map, named in its tags and a warning.
    progress : callable, optional
        Called with (blocks done, blocks in all).

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If the region and the scenes do not meet, the disk is full, or another run is at work on the same map.
    StudyError
        If ``memory_mb`` holds not even one block, or the scheduler is not there.
    """
    inside = scene_region(scenes)
    if region is None:
        region = inside
    elif not region.to_crs(inside.crs).geometry.intersects(inside.geometry):
        raise MapError(
            f"the region {_edges(region.lonlat_bounds)} does not meet the scenes {_edges(inside.lonlat_bounds)} "
            "(west, south, east, north in degrees). Choose another region, or check the scenes' CRS."
        )
    predictor = CellModel(
        scenes,
        model,
        cell_m=cell_m,
        transform=transform,
        unit=unit,
        description=title,
        mode=mode,
        block_px=block_px,
        strict=strict,
    )
    grid = region.grid(cell_m=cell_m, crs=crs)
    provenance = {"outcome": model.outcome, "interval": f"{model.coverage.nominal:.0%}", "transform": transform}
    provenance |= {"model": json.dumps(model.provenance, sort_keys=True), "scenes": ", ".join(s.name for s in scenes)}
    provenance |= {"mode": predictor.mode, "context_px": str(predictor.spec.context_px)}
    if memory_mb is not None:
        scheduler, workers = _fitting(predictor, memory_mb, workers, scheduler)
    # Threads share this process, and fewer of them are all there is to do; a process of its own can be watched.
    watched = memory_mb / workers if memory_mb and workers and scheduler == "processes" else None
    with open_run(scheduler, workers=workers, memory_mb=watched) as run:
        return maps.predict(
            predictor,
            grid,
            path=path,
            mask=region,
            run=run,
            strict=strict,
            tags=provenance | dict(tags or {}) | ({"title": title} if title else {}),
            progress=progress,
        )


def _fitting(predictor: CellModel, memory_mb: float, workers: int | None, scheduler: str) -> tuple[str, int]:
    """The scheduler, and how many blocks may be computed side by side."""
    if "://" in scheduler:
        raise StudyError(
            f"memory_mb is {memory_mb:g} with the scheduler {scheduler}; a cluster's workers have limits of their own: "
            "start them with `dask worker --memory-limit`, and leave memory_mb out."
        )
    here, block = _resident_bytes(), predictor.block_bytes
    each = here + block if scheduler.startswith("processes") else block
    fitting = int((memory_mb * _MIB - here) // each)
    if fitting < 1:
        raise StudyError(
            f"memory_mb is {memory_mb:g}; one block needs about {math.ceil((here + each) / _MIB)} MB. Give so much, or "
            f"take smaller blocks: block_px below {predictor.block_px}."
        )
    kind, _, count = scheduler.partition(":")
    asked = int(count) if count.isdecimal() else workers or usable_cores()
    return kind, 1 if kind == "serial" else min(asked, fitting)


def _resident_bytes() -> int:
    """Memory that this process holds now, before the first block."""
    held = Path("/proc/self/statm")
    if held.exists():
        return int(held.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # Elsewhere the most it ever held, in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _edges(bounds: Bounds) -> str:
    return "(" + ", ".join(f"{edge:.3f}" for edge in bounds) + ")"
