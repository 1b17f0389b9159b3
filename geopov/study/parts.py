"""Features of many clusters in parts, by workers that may be other processes or machines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import xarray as xr

from geopov import features as feature_stage
from geopov import tiles
from geopov.features import Extractor
from geopov.maps import Run
from geopov.raster import Scene

__all__ = ["extract_in_parts"]

# Tiles of one part: seconds of work for a network, and a few megabytes of features to send back.
_TILES_A_PART = 256
# Clusters are sorted by squares of this side, so that those of one part share what is decoded.
_SQUARE_DEGREES = 0.25


class _Extraction:
    """What every worker needs, sent once; the extractor is made where it is used."""

    def __init__(self, scenes: Sequence[Scene], points: gpd.GeoDataFrame, spec: tiles.TileSpec, named: Any) -> None:
        self.scenes, self.points, self.spec, self._named = list(scenes), points, spec, named
        self._lock = threading.Lock()
        self._extractor: Extractor | None = None

    @property
    def extractor(self) -> Extractor:
        with self._lock:
            if self._extractor is None:
                self._extractor = feature_stage.build(self._named)
            return self._extractor

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_lock", "_extractor")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_lock": threading.Lock(), "_extractor": None})


def _extract_part(payload: _Extraction, rows: tuple[int, ...]) -> xr.DataArray:
    with feature_stage.one_thread():
        cut = tiles.extract(payload.scenes, payload.points.iloc[list(rows)], payload.spec, threads=1)
        return feature_stage.extract(payload.extractor, cut)


def extract_in_parts(
    scenes: Sequence[Scene],
    points: gpd.GeoDataFrame,
    spec: tiles.TileSpec,
    extractor: Extractor,
    *,
    run: Run,
    progress: Callable[[int, int], None] | None = None,
) -> xr.DataArray:
    """As :func:`geopov.features.extract` of the tiles around ``points``, with the same numbers, part by part.

    Parameters
    ----------
    scenes, points, spec
        As for :func:`geopov.tiles.extract`.
    extractor : Extractor
        One that its specification makes again.
    run : Run
        Where parts are computed: from :func:`geopov.study.open_run`.
    progress : callable, optional
        Called with (tiles done, tiles in all).
    """
    index = tiles.extract(list(scenes), points, spec).index
    owners = index["cluster_id"].astype(str)
    placed = (index["scene"] != "").groupby(owners, sort=False).any()
    parts = _parts(index, owners, set(placed.index[placed]))
    payload = _Extraction(scenes, points, spec, extractor.spec())
    arrays, done = [], 0
    for rows, array in run(_extract_part, payload, iter(parts)):
        arrays.append(array)
        done += len(rows)
        if progress is not None:
            progress(done, sum(map(len, parts)))
    order = {cluster: number for number, cluster in enumerate(placed.index)}
    dropped = [entry for array in arrays for entry in json.loads(array.attrs["dropped"])]
    dropped += [{"cluster_id": cluster, "reason": feature_stage.OUTSIDE} for cluster in placed.index[~placed].tolist()]
    dropped.sort(key=lambda entry: order[entry["cluster_id"]])
    # Parts come in any order and agree in all but what they dropped.
    whole = xr.concat(arrays, dim="cluster", combine_attrs="override")
    kept = np.argsort([order[cluster] for cluster in whole["cluster_id"].to_numpy().tolist()])
    return whole.isel(cluster=kept).assign_attrs(dropped=json.dumps(dropped))


def _parts(index: gpd.GeoDataFrame, owners: Any, wanted: set[str]) -> list[tuple[int, ...]]:
    """Rows of the tiles of each part: whole clusters, neighbours together."""
    first = index.geometry.groupby(owners.to_numpy(), sort=False).first()
    square = np.floor(np.column_stack([first.y, first.x]) / _SQUARE_DEGREES)
    rows = {cluster: found.tolist() for cluster, found in owners.groupby(owners.to_numpy()).indices.items()}
    parts: list[tuple[int, ...]] = []
    part: list[int] = []
    for number in np.lexsort((np.arange(len(first)), square[:, 1], square[:, 0])).tolist():
        cluster = str(first.index[number])
        if cluster not in wanted:
            continue
        part += rows[cluster]
        if len(part) >= _TILES_A_PART:
            parts.append(tuple(part))
            part = []
    return [*parts, tuple(part)] if part else parts
