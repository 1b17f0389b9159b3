"""Batches of cached tiles in an order, and under turns and flips, that the seed and the epoch decide.

Imports torch; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from geopov.features._input import Array
from geopov.features._prefetch import prefetch
from geopov.features.training.cache import TileCache

__all__ = ["Batch", "Batches"]

Rows = npt.NDArray[np.intp]
JITTER = 0.2


class Batch(NamedTuple):
    """Some tiles as they are in the cache, turned and flipped; (n, 0) stands for what there is none of.

    Attributes
    ----------
    rows : int64 tensor (n,)
        Rows of the cache.
    pixels : tensor (n, band, y, x)
        In the cache's dtype.
    valid : bool tensor (n, y, x) or (n, 0)
        None of it where all pixels are valid.
    jitter : float32 tensor (n, 2) or (n, 0)
        Factors of brightness and contrast.
    """

    rows: torch.Tensor
    pixels: torch.Tensor
    valid: torch.Tensor
    jitter: torch.Tensor


class Batches:
    """Batches of some rows of a cache, epoch by epoch.

    An epoch's order, turns and factors are functions of the seed, the epoch and the row, so that an epoch can be
    repeated without those before it. Batches differ by one tile at most, and none has one tile alone, from which a
    batch norm could learn nothing.

    Parameters
    ----------
    folder : Path
        Of the cache.
    rows : int array
        Which tiles.
    batch_size : int
        Tiles a batch, at most.
    seed : int
        Of orders and augmentation.
    shuffle : bool
        Whether the order changes with the epoch.
    augment : sequence of {"flip", "quarter_turn", "colour_jitter"}
        What is drawn for each tile.
    workers : int
        Processes that gather batches; 0 for a thread.
    rank, world : int
        Which share of the rows, where several devices train.
    pin : bool
        Whether batches go to a GPU, through memory that it can read by itself.
    """

    def __init__(
        self,
        folder: Path,
        rows: Rows,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = False,
        augment: Sequence[str] = (),
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        pin: bool = False,
    ) -> None:
        self._folder, self._rows, self._seed = folder, rows, seed
        self._shuffle, self._augment, self._workers, self._pin = shuffle, tuple(augment), workers, pin
        self._rank, self._world = rank, world
        self._share = -(-len(rows) // world)
        self._n_batches = max(min(-(-self._share // batch_size), self._share // 2), 1)
        self.epoch = 0
        # Lightning tells the epoch to what a loader calls its sampler.
        self.sampler, self.batch_sampler = self, None

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def plan(self) -> list[Rows]:
        """Rows of the epoch's batches."""
        order = self._rows
        if self._shuffle:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(order)
        # Every device gets as many, the first rows twice if need be: they wait for one another at each step.
        share = np.resize(order, self._share * self._world)[self._rank :: self._world]
        return np.array_split(share, self._n_batches)

    def __iter__(self) -> Iterator[Batch]:
        gather = _Gather(self._folder, self._augment, self._seed, self.epoch)
        plan = self.plan()
        if not self._workers:
            batches = (gather[rows] for rows in plan)
            return prefetch(Batch(*(part.pin_memory() for part in b)) if self._pin else b for b in batches)
        loader: DataLoader[Batch] = DataLoader(
            gather,
            batch_size=None,
            sampler=plan,
            num_workers=self._workers,
            pin_memory=self._pin,
            # The caller's random numbers are left as they were.
            generator=torch.Generator(),
        )
        return iter(loader)


class _Gather(Dataset[Batch]):
    """Reads and turns one batch; small enough to be sent to a process."""

    def __init__(self, folder: Path, augment: tuple[str, ...], seed: int, epoch: int) -> None:
        self._folder, self._augment = folder, augment
        self._key = (seed, epoch, 1)

    def __getitem__(self, rows: Rows) -> Batch:
        cache = _opened(self._folder)
        turns, mirrored, jitter = self._draws(len(cache.usable))
        valid = cache.valid(rows)
        none = torch.empty(len(rows), 0)
        return Batch(
            torch.from_numpy(rows.astype(np.int64)),
            torch.from_numpy(_turned(cache.pixels, rows, turns[rows], mirrored[rows])),
            none
            if valid is None
            else torch.from_numpy(_turned(valid, np.arange(len(rows)), turns[rows], mirrored[rows])),
            none if jitter is None else torch.from_numpy(jitter[rows]),
        )

    def _draws(self, n: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_], npt.NDArray[np.float32] | None]:
        return _draws(n, self._augment, self._key)


@lru_cache(maxsize=4)
def _opened(folder: Path) -> TileCache:
    return TileCache.open(folder)


@lru_cache(maxsize=2)
def _draws(
    n: int, augment: tuple[str, ...], key: tuple[int, ...]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_], npt.NDArray[np.float32] | None]:
    """Quarter turns, mirroring and factors of all rows of the cache."""
    rng = np.random.default_rng(key)
    turns, mirrored = np.zeros(n, dtype=np.int8), np.zeros(n, dtype=bool)
    if "quarter_turn" in augment:
        turns = rng.integers(0, 4, n, dtype=np.int8)
    elif "flip" in augment:
        # Upside down is a half turn of the mirror image.
        turns = 2 * rng.integers(0, 2, n, dtype=np.int8)
    if "flip" in augment:
        mirrored = rng.integers(0, 2, n).astype(bool)
    jitter = rng.uniform(1 - JITTER, 1 + JITTER, (n, 2)).astype(np.float32) if "colour_jitter" in augment else None
    return turns, mirrored, jitter


def _turned(source: Array, rows: Rows, turns: npt.NDArray[np.int8], mirrored: npt.NDArray[np.bool_]) -> Array:
    """Rows of ``source``, each turned and mirrored as said; one copy for each of the eight ways, not one a tile."""
    if not turns.any() and not mirrored.any():
        return np.ascontiguousarray(source[rows])
    found = np.empty((len(rows), *source.shape[1:]), dtype=source.dtype)
    way = turns + 4 * mirrored
    for number in np.unique(way):
        chosen = np.flatnonzero(way == number)
        part = np.rot90(source[rows[chosen]], int(number) % 4, axes=(-2, -1))
        found[chosen] = part[..., ::-1] if number >= 4 else part
    return found
