"""Some of a set of tiles, in place of the set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov.features.extract import Tiles

__all__ = ["Subset"]


@dataclass(frozen=True)
class _Rows:
    data: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    positions: npt.NDArray[np.intp]


class Subset:
    """The tiles at some rows of an index, as tiles of their own.

    Parameters
    ----------
    tiles : TileSet
        Read in whole; what is not asked for is passed over.
    positions : int array (n,)
        Rows of the index to keep, increasing.
    """

    def __init__(self, tiles: Tiles, positions: npt.NDArray[np.intp]) -> None:
        self.spec = tiles.spec
        self.band_names = tiles.band_names
        self.index: gpd.GeoDataFrame = tiles.index.iloc[positions].reset_index(drop=True)
        self._tiles = tiles
        self._row = np.full(len(tiles), -1, dtype=np.intp)
        self._row[positions] = np.arange(len(positions))

    def __len__(self) -> int:
        return len(self.index)

    def iter_batches(self, batch_size: int = 256) -> Iterator[_Rows]:
        """Batches of at most ``batch_size`` tiles, in the order of the whole set's batches."""
        for batch in self._tiles.iter_batches(batch_size):
            rows = self._row[batch.positions]
            kept = rows >= 0
            if kept.any():
                yield _Rows(batch.data[kept], batch.valid[kept], rows[kept])
