"""From tiles to features: read in the background, compute in the foreground, average over each cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import xarray as xr

from geopov._validation import ID_COLUMN
from geopov.errors import FeatureError
from geopov.features._prefetch import prefetch
from geopov.features.extractor import Extractor
from geopov.features.shared import tile_features
from geopov.grid import grid_corners

__all__ = ["OUTSIDE", "Tiles", "extract", "extract_array"]

ProgressCallback = Callable[[int, int], None]
Floats = npt.NDArray[np.float32]

NO_VALID_PIXELS = "no tile with enough valid pixels"
OUTSIDE = "outside the scenes"
"""Why a cluster was dropped that no scene reaches."""


class _Spec(Protocol):
    @property
    def context_px(self) -> int: ...

    def to_dict(self) -> dict[str, Any]: ...


class _Batch(Protocol):
    @property
    def data(self) -> npt.NDArray[Any]: ...

    @property
    def valid(self) -> npt.NDArray[np.bool_]: ...

    @property
    def positions(self) -> npt.NDArray[np.intp]: ...


class Tiles(Protocol):
    """What is asked of tiles; :class:`geopov.tiles.TileSet` has it."""

    @property
    def spec(self) -> _Spec:
        """Size, resolution and context."""
        ...

    @property
    def band_names(self) -> list[str]:
        """One name a band."""
        ...

    @property
    def index(self) -> gpd.GeoDataFrame:
        """One row a tile, with ``cluster_id``, its owner."""
        ...

    def __len__(self) -> int:
        """Number of tiles."""
        ...

    def iter_batches(self, batch_size: int = ...) -> Iterable[_Batch]:
        """Batches in the order that reads fastest, each with the tiles' positions in the index."""
        ...


def extract(
    extractor: Extractor, tiles: Tiles, *, batch_size: int = 256, progress: ProgressCallback | None = None
) -> xr.DataArray:
    """Features of each cluster: the mean over its tiles that have enough valid pixels.

    Parameters
    ----------
    extractor : Extractor
        From :func:`geopov.features.build`.
    tiles : TileSet
        Several may belong to one cluster.
    batch_size : int
        Tiles read at once.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Returns
    -------
    DataArray (cluster, feature), float32
        Clusters in the order of the tiles' index, with the coordinates ``cluster_id`` and ``n_tiles`` (how many were
        averaged). A cluster without a usable tile is left out and told of in the attribute ``dropped``, a JSON list of
        ``{"cluster_id", "reason"}``. Other attributes, JSON too: ``extractor``, ``provenance``, ``tile_spec``,
        ``band_names``.

    Raises
    ------
    FeatureError
        If the tiles have other bands or another context than the extractor needs.
    """
    extractor = _fitted(extractor, tiles)
    owners = tiles.index[ID_COLUMN].astype(str)
    codes, ids = owners.factorize()
    averages = _ClusterMeans(np.asarray(codes), n_clusters=len(ids), n_features=len(extractor.feature_names))
    for positions, rows in _computed(extractor, tiles, batch_size, progress):
        averages.add(positions, rows)
    used = averages.n_tiles > 0
    outside = _outside(tiles.index)
    dropped = [
        {"cluster_id": id_, "reason": OUTSIDE if id_ in outside else NO_VALID_PIXELS}
        for id_ in np.asarray(ids, dtype=str)[~used].tolist()
    ]
    return xr.DataArray(
        averages.means[used],
        dims=("cluster", "feature"),
        coords={
            "cluster_id": ("cluster", np.asarray(ids, dtype=str)[used]),
            "n_tiles": ("cluster", averages.n_tiles[used]),
            "feature": np.asarray(extractor.feature_names, dtype=str),
        },
        name="features",
        attrs={
            "extractor": json.dumps(extractor.spec()),
            "provenance": json.dumps(extractor.provenance()),
            "tile_spec": json.dumps(tiles.spec.to_dict()),
            "band_names": json.dumps(list(tiles.band_names)),
            "dropped": json.dumps(dropped),
        },
    )


def extract_array(
    extractor: Extractor, tiles: Tiles, *, batch_size: int = 256, progress: ProgressCallback | None = None
) -> Floats:
    """Features of each tile, for maps.

    Parameters
    ----------
    extractor, tiles, batch_size, progress
        As in :func:`extract`.

    Returns
    -------
    float32 array (tile, feature)
        In the order of the tiles' index, whatever order they were read in; rows of NaN for tiles with too few valid
        pixels.
    """
    extractor = _fitted(extractor, tiles)
    array = np.full((len(tiles), len(extractor.feature_names)), np.nan, dtype=np.float32)
    for positions, rows in _computed(extractor, tiles, batch_size, progress):
        array[positions] = rows
    return array


def _fitted(extractor: Extractor, tiles: Tiles) -> Extractor:
    if tiles.spec.context_px != extractor.context_px:
        raise FeatureError(
            f"the tiles have context_px={tiles.spec.context_px}, but the extractor {extractor.name!r} was set up for "
            f"context_px={extractor.context_px}. Features with and without context differ, so clusters and map cells "
            "must use one mode: give both the same context_px."
        )
    return extractor.for_bands(tiles.band_names)


def _computed(
    extractor: Extractor, tiles: Tiles, batch_size: int, progress: ProgressCallback | None
) -> Iterator[tuple[npt.NDArray[np.intp], Floats]]:
    total, done = len(tiles), 0
    corners = _corners(tiles.index)
    for batch in prefetch(tiles.iter_batches(batch_size)):
        yield batch.positions, tile_features(extractor, batch.data, batch.valid, corners[batch.positions])
        done += len(batch.positions)
        if progress is not None:
            progress(done, total)
    if done != total:
        raise FeatureError(f"{done} of {total} tiles were read; the tiles' index and their data do not fit together.")


def _corners(index: gpd.GeoDataFrame) -> npt.NDArray[np.int64]:
    """Column and row (tile, 2) of each tile's upper left pixel, counted from the origin of its scene's CRS."""
    if not {"left", "top", "pixel_width", "pixel_height"} <= set(index.columns):
        return np.zeros((len(index), 2), dtype=np.int64)
    return grid_corners(*(index[name].to_numpy(dtype=float) for name in ("left", "top", "pixel_width", "pixel_height")))


def _outside(index: gpd.GeoDataFrame) -> set[str]:
    """Clusters none of whose tiles meets a scene; an index that does not name scenes tells of none."""
    if "scene" not in index.columns:
        return set()
    met = (index["scene"] != "").groupby(index[ID_COLUMN].astype(str)).any()
    return set(met.index[~met])


class _ClusterMeans:
    """Means over clusters that do not depend, to the bit, on the order in which tiles come.

    Floating-point sums do depend on it, so a cluster's rows are kept until its last tile is there and then summed in
    the order of the index. Tiles are read region by region, so few clusters are open at a time.
    """

    def __init__(self, codes: npt.NDArray[np.intp], *, n_clusters: int, n_features: int) -> None:
        self.means = np.full((n_clusters, n_features), np.nan, dtype=np.float32)
        self.n_tiles = np.zeros(n_clusters, dtype=np.int64)
        self._codes = codes
        self._n_planned = np.bincount(codes, minlength=n_clusters)
        self._missing = self._n_planned.copy()
        self._open: dict[int, list[tuple[int, Floats]]] = {}

    def add(self, positions: npt.NDArray[np.intp], rows: Floats) -> None:
        """Take the features of some tiles."""
        alone = self._n_planned[self._codes[positions]] == 1
        self._take_alone(self._codes[positions[alone]], rows[alone])
        for position, row in zip(positions[~alone].tolist(), rows[~alone], strict=True):
            cluster = int(self._codes[position])
            kept = self._open.setdefault(cluster, [])
            if not np.isnan(row).any():
                # A view would keep its whole batch alive.
                kept.append((position, row.copy()))
            self._missing[cluster] -= 1
            if self._missing[cluster] == 0:
                self._close(cluster)

    def _take_alone(self, clusters: npt.NDArray[np.intp], rows: Floats) -> None:
        # The cells of a map have one tile each, and there are many of them.
        self.n_tiles[clusters] = ~np.isnan(rows).any(axis=1)
        self.means[clusters] = rows

    def _close(self, cluster: int) -> None:
        kept = sorted(self._open.pop(cluster), key=lambda pair: pair[0])
        self.n_tiles[cluster] = len(kept)
        if kept:
            self.means[cluster] = np.mean([row for _, row in kept], axis=0, dtype=np.float64)
