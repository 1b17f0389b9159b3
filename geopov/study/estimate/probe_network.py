"""Seconds a step and an epoch, of training the study's network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov import features, tiles
from geopov.raster import Scene
from geopov.study.config import Study
from geopov.study.estimate.counts import reading_of
from geopov.study.estimate.measure import measured
from geopov.study.estimate.result import Cost

__all__ = ["probe_network"]

_EPOCHS = 2
_BATCH = 64  # the default of `features.pretrain`
_EPOCHS_BY_DEFAULT = 20


def probe_network(
    study: Study, scenes: Sequence[Scene], points: gpd.GeoDataFrame, folder: Path, *, budget_s: float
) -> dict[str, Any]:
    """What training takes, from two short epochs on some of its points.

    All epochs are counted: a training that stops early takes less.

    Returns
    -------
    dict
        ``fixed``, ``steps`` and ``epochs`` as costs; ``n_tiles``, ``n_epochs``, ``memory_bytes`` and ``reading``.
    """
    asked = study.pretrain
    assert asked is not None
    options = dict(asked.training)
    batch_size, n_epochs = options.get("batch_size", _BATCH), options.get("epochs", _EPOCHS_BY_DEFAULT)
    size = {key: getattr(study.tiles, key) for key in ("size_px", "resolution_m", "context_px")}
    spec = tiles.TileSpec(**size)
    counts = points["split"].value_counts()
    some = _some(points, per_split={"train": 3 * batch_size, "validation": batch_size, "test": batch_size})
    planned = tiles.extract(list(scenes), points, spec)
    with measured() as read:
        for _ in tiles.extract(list(scenes), some, spec).iter_batches(256):
            pass
    marks: list[tuple[int, float, float]] = []

    def progress(done: int, total: int) -> None:
        marks.append((done, time.perf_counter(), time.process_time()))

    began = (time.perf_counter(), time.process_time())
    with measured() as trained:
        features.pretrain(
            tiles.extract(list(scenes), some, spec),
            some,
            folder=folder / "network",
            backbone=asked.backbone,
            weights=asked.weights,
            seed=asked.seed,
            progress=progress,
            **(options | {"epochs": _EPOCHS, "patience": _EPOCHS, "frozen_epochs": 0}),
        )
    n_batches = -(-int((some["split"] == "train").sum()) // batch_size)
    steps = [(b[1] - a[1], b[2] - a[2]) for a, b in pairwise(marks) if b[0] % n_batches != 1]
    turn = [(b[1] - a[1], b[2] - a[2]) for a, b in pairwise(marks) if b[0] % n_batches == 1]
    step = Cost(*np.median(steps, axis=0).tolist())
    # Between the last step of one epoch and the first of the next lie that step, a validation and a checkpoint.
    between = Cost(*np.median(turn, axis=0).tolist()) - step
    validated = counts.get("validation", 0) / max(int((some["split"] == "validation").sum()), 1)
    setting_up = Cost(marks[0][1] - began[0], marks[0][2] - began[1]) - step
    n_steps = -(-int(counts.get("train", 0)) // batch_size) * n_epochs
    reading = reading_of(planned)
    return {
        "fixed": (setting_up.floored + read.cost * (len(points) / len(some))).to_dict(),
        "steps": (step * n_steps).to_dict(),
        "epochs": (between.floored * (n_epochs * validated)).to_dict(),
        "n_tiles": len(points),
        "n_epochs": n_epochs,
        "memory_bytes": trained.memory_bytes,
        "disk_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "reading": {
            "tiles": reading.tiles,
            "pixels": reading.pixels * n_epochs,
            "decoded_bytes": reading.decoded_bytes,
            "read_bytes": reading.read_bytes,
        },
    }


def _some(points: gpd.GeoDataFrame, *, per_split: dict[str, int]) -> gpd.GeoDataFrame:
    """Some points of each split, every class among them."""
    usable = points[points["split"].notna()]
    parts = []
    for split, n in per_split.items():
        table = usable[usable["split"] == split]
        parts.append(table.sample(n=min(n, len(table)), random_state=0))
    some = gpd.GeoDataFrame(pd.concat(parts).sort_index(), crs=points.crs)
    some.attrs = dict(points.attrs)
    return some
