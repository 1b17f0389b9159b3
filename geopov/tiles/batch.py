"""Tiles as they are handed over, and what hands them over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["TileBatch", "TileSource"]


@dataclass(frozen=True)
class TileBatch:
    """Some tiles.

    Attributes
    ----------
    data : array (n, band, y, x)
        0 where invalid.
    valid : bool array (n, y, x)
        True = valid in every band.
    positions : int array (n,)
        Rows of :attr:`TileSet.index`.
    """

    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


class TileSource(Protocol):
    """Where the pixels come from."""

    def batches(self, batch_size: int, positions: np.ndarray | None = None) -> Iterator[TileBatch]:
        """All tiles, or those at ``positions``, in the order that reads fastest."""

    def provenance(self) -> dict[str, Any]:
        """JSON-able: ``scenes``, each with name, CRS and the digests of its files."""
