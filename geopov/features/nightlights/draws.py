"""Which places are drawn: as many of each class as can be had, in each split its share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def draw(
    group: Ints,
    split: Ints,
    *,
    n_classes: int,
    n: int,
    shares: Sequence[float],
    stratify: bool,
    rng: np.random.Generator,
) -> Ints:
    """Rows that are drawn, ascending.

    Parameters
    ----------
    group, split : int array (n_places,)
        Class and split of each; -1: in no split.
    n_classes, n : int
        Classes, and rows wanted; fewer come where a split has no more.
    shares : sequence of float
        Of the rows, one a split.
    stratify : bool
        Equally many of each class, and more of those that have more where others run out. False: at random.
    rng : Generator
    """
    targets = _apportion(n, np.asarray(shares, dtype=float))
    drawn = []
    for number, target in enumerate(targets):
        pools = [np.flatnonzero((split == number) & (group == c)) for c in range(n_classes)]
        if not stratify:
            pools = [np.concatenate(pools)]
        quota = _fill([len(pool) for pool in pools], int(target))
        drawn += [rng.permutation(pool)[:wanted] for pool, wanted in zip(pools, quota, strict=True)]
    return np.sort(np.concatenate(drawn))


def _apportion(n: int, shares: Floats) -> Ints:
    """Whole numbers in proportion to shares, by largest remainders."""
    exact = n * shares
    whole = np.floor(exact + 1e-9).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: n - whole.sum()]] += 1
    return whole


def _fill(sizes: Sequence[int], wanted: int) -> Ints:
    """How many to take of each pool: equally many, and more of those that have more where others run out."""
    size = np.asarray(sizes, dtype=np.int64)
    level = bisect_right(range(int(size.max()) + 1), wanted, key=lambda most: int(np.minimum(size, most).sum())) - 1
    taken = np.minimum(size, level)
    taken[np.flatnonzero(size > level)[: wanted - int(taken.sum())]] += 1
    return taken
