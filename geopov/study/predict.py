"""A region through a fitted model to a map: which blocks, how many at a time, and where they are computed."""

from __future__ import annotations

import json
import math
import os
import re
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
from geopov.study.execution import open_run, read_scheduler, usable_cores
from geopov.study.stages import scene_region

__all__ = ["blocks_at_once", "predict_map"]

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
        So many blocks are computed side by side as fit in this, and no more than there are workers. Does not grow with
        the region. Default: threads whose number is not given are as many as there are cores, unless less memory is
        free.
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
    at_once = blocks_at_once(predictor, scheduler, workers=workers, memory_mb=memory_mb)
    if at_once is not None:
        scheduler, workers = scheduler.partition(":")[0], at_once
    if at_once is not None and scheduler == "threads" and predictor.mode == "shared":
        predictor.compute_at_once(at_once)
        # One thread more, so that those that compute do not wait for pixels.
        workers = at_once + 1
    # Threads share this process, and fewer of them are all there is to do; a process of its own can be watched.
    watched = memory_mb / at_once if memory_mb and at_once and scheduler == "processes" else None
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


def blocks_at_once(predictor: CellModel, scheduler: str, *, workers: int | None, memory_mb: float | None) -> int | None:
    """How many blocks are computed side by side; None where that is for a cluster to say.

    Parameters and errors are those of :func:`predict_map`.
    """
    kind, asked = read_scheduler(scheduler, workers)
    if kind not in ("serial", "threads", "processes"):
        if memory_mb is None:
            return None
        raise StudyError(
            f"memory_mb is {memory_mb:g} with the scheduler {scheduler}; a cluster's workers have limits of their own: "
            "start them with `dask worker --memory-limit`, and leave memory_mb out."
        )
    wanted = 1 if kind == "serial" else asked or usable_cores()
    block = predictor.block_bytes
    if memory_mb is None:
        return wanted if asked or kind != "threads" else min(wanted, max(1, int(_free_bytes() // block)))
    here = _resident_bytes()
    each = here + block if kind == "processes" else block
    if kind == "threads" and predictor.mode == "shared":
        here += predictor.read_bytes
    fitting = int((memory_mb * _MIB - here) // each)
    if fitting < 1:
        raise StudyError(
            f"memory_mb is {memory_mb:g}; one block needs about {math.ceil((here + each) / _MIB)} MB. Give so much, or "
            f"take smaller blocks: block_px below {predictor.block_px}."
        )
    return min(wanted, fitting)


def _free_bytes() -> float:
    """Memory that could be taken without harm to other programs; infinite where the system does not say."""
    free = math.inf
    told = Path("/proc/meminfo")
    if told.exists() and (line := re.search(r"MemAvailable:\s+(\d+) kB", told.read_text(encoding="ascii"))):
        free = int(line[1]) * 1024
    # A container's or a job's own limit.
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and (most := limit.read_text(encoding="ascii").strip()).isdecimal():
        free = min(free, int(most) - int(used.read_text(encoding="ascii")))
    return free


def _resident_bytes() -> int:
    """Memory that this process holds now, before the first block."""
    held = Path("/proc/self/statm")
    if held.exists():
        return int(held.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # Elsewhere the most it ever held, in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _edges(bounds: Bounds) -> str:
    return "(" + ", ".join(f"{edge:.3f}" for edge in bounds) + ")"
