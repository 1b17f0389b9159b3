"""Seconds a cluster, of one set of extractors on the study's own scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import geopandas as gpd
import numpy as np

from geopov import features, tiles
from geopov._validation import ID_COLUMN
from geopov.raster import Scene
from geopov.study.config import Study
from geopov.study.estimate.counts import plan_clusters, reading_of
from geopov.study.estimate.measure import measured
from geopov.study.estimate.result import Cost, line
from geopov.study.stages import extract_features

__all__ = ["on_scenes", "probe_features", "sample_runs"]

# Clusters next to one another in the order of reading, which share what is decoded.
_RUN = 16
_FIRST = 8


def probe_features(
    study: Study, scenes: Sequence[Scene], clusters: gpd.GeoDataFrame, specs: list[dict[str, Any]], *, budget_s: float
) -> dict[str, Any]:
    """What extracting the features of all clusters takes, from those of some.

    The first tiles are measured apart: they are when a network is prepared for its engine.

    Returns
    -------
    dict
        ``fixed``, ``each`` (a cluster) and ``rest`` as costs, ``n_clusters`` on a scene and ``n_measured``,
        ``n_features``, ``memory_bytes`` and ``reading``.
    """
    spec = tiles.TileSpec(study.tiles.size_px, study.tiles.resolution_m, _whole(study.tiles.context_px))
    window: dict[str, Any] = {"window_km": study.tiles.window_km, "n_tiles": study.tiles.n_tiles}
    options = window | {"displacement_draws": study.tiles.displacement_draws}
    with measured() as built:
        extractor = features.build(specs)
        n_features = len(extractor.for_bands(scenes[0].band_names).feature_names)
    planned = plan_clusters(scenes, clusters, spec, **window)
    reading = reading_of(planned).times(max(study.tiles.displacement_draws, 1))
    there = _in_read_order(planned, clusters)
    memory = built.memory_bytes

    def extract(rows: np.ndarray) -> Cost:
        nonlocal memory
        with measured() as found:
            extract_features(scenes, there.iloc[rows], spec, extractor, **options)
        memory = max(memory, found.memory_bytes)
        return found.cost

    warm = np.unique(np.linspace(0, len(there) - 1, _FIRST).astype(int))
    first = extract(warm)
    sizes: list[tuple[int, Cost]] = []
    size = _RUN
    while not sizes or (sizes[-1][0] < len(there) and 3 * sizes[-1][1].effort_s < budget_s):
        size = min(size, len(there))
        sizes.append((size, extract(sample_runs(len(there), size))))
        size *= 4
    call, each = line(*(sizes[-2:] if len(sizes) > 1 else sizes * 2))
    done = sizes[-1][0]
    return {
        "fixed": (built.cost + (first - each * len(warm) - call).floored + call).to_dict(),
        "each": each.to_dict(),
        "n_clusters": len(there),
        "n_measured": done,
        "n_features": n_features,
        "extractor": extractor.spec(),
        "memory_bytes": memory,
        "reading": asdict(reading),
    }


def _whole(context_px: int | str) -> int:
    if not isinstance(context_px, int):
        raise TypeError(f"context_px is {context_px!r}; the study was not prepared.")
    return context_px


def on_scenes(planned: tiles.TileSet, clusters: gpd.GeoDataFrame) -> np.ndarray:
    """Which clusters have a tile on a scene."""
    met = planned.index.loc[planned.index["scene"] != "", ID_COLUMN].astype(str)
    return np.asarray(clusters[ID_COLUMN].astype(str).isin(set(met)))


def _in_read_order(planned: tiles.TileSet, clusters: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Clusters on a scene, in the order in which their tiles are read."""
    source: Any = planned.source
    order = np.concatenate(source.schedule(256).batches)
    owners = planned.index[ID_COLUMN].astype(str).iloc[order].drop_duplicates()
    table = clusters[on_scenes(planned, clusters)]
    rank = dict(zip(owners, range(len(owners)), strict=True))
    place = table[ID_COLUMN].astype(str).map(rank).to_numpy()
    return table.iloc[np.argsort(place, kind="stable")]


def sample_runs(n: int, size: int) -> np.ndarray:
    """``size`` of ``n`` numbers, in runs of neighbours spread evenly from the first to the last."""
    n_runs = max(-(-size // _RUN), 1)
    starts = np.linspace(0, max(n - _RUN, 0), n_runs).astype(int)
    rows = np.unique((starts[:, None] + np.arange(_RUN)).ravel())
    return rows[rows < n][:size] if size < n else np.arange(n)
