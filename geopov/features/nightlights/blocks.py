"""Training, validation and test by square blocks on the ground, with a gap so that no pixel stands in two of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPLITS = ("train", "validation", "test")


def deal_blocks(
    xy_m: Floats, lights: Floats, *, block_m: float, gap_m: float, shares: Sequence[float], rng: np.random.Generator
) -> Ints:
    """The split of each tile, or -1 in the gap between two splits.

    Blocks are dealt in the order of their light, a handful at a time shuffled, so that each split has its share of
    bright and of dark ones.

    Parameters
    ----------
    xy_m : array (n, 2)
        Middles of the tiles on a plane in metres.
    lights : array (n,)
        Of the tiles.
    block_m : float
        Side of a block.
    gap_m : float
        A tile is left out if its split changes within this distance, along x and y.
    shares : three numbers that sum to 1
        Of the tiles, in the order of :data:`SPLITS`; a share of 0 leaves its split empty.
    rng : Generator
        Shifts the blocks and shuffles them.

    Returns
    -------
    int array (n,)

    Raises
    ------
    FeatureError
        If there are fewer blocks than splits, or blocks are all gap.
    """
    wanted = np.asarray(shares, dtype=float)
    if wanted.shape != (3,) or (wanted < 0).any() or abs(wanted.sum() - 1) > 1e-6 or wanted[0] == 0:
        raise FeatureError(f"shares are {shares!r}; expected those of train, validation and test, with a sum of 1.")
    if block_m <= 2 * gap_m:
        raise FeatureError(
            f"blocks of {block_m / 1000:g} km hold nothing but the gap of {gap_m / 1000:.3g} km that keeps tiles of "
            f"two splits apart; take split_block_km above {2 * gap_m / 1000:.3g}."
        )
    shift = rng.random(2)
    square = np.floor(xy_m / block_m + shift).astype(np.int64)
    blocks, block = np.unique(square, axis=0, return_inverse=True)
    block = block.reshape(-1)
    size = np.bincount(block)
    split_of = _deal(size, np.bincount(block, weights=lights) / size, wanted, rng)
    split = split_of[block]
    apart = np.ones(len(xy_m), dtype=bool)
    for step in np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]) * gap_m:
        beside = np.floor((xy_m + step) / block_m + shift).astype(np.int64)
        known, number = _find(blocks, beside)
        apart &= ~known | (split_of[number] == split)
    return np.where(apart, split, -1)


def _deal(size: Ints, light: Floats, wanted: Floats, rng: np.random.Generator) -> Ints:
    open_splits = np.flatnonzero(wanted)
    if len(size) < len(open_splits):
        raise FeatureError(
            f"the tiles fall into {len(size)} blocks, too few for {len(open_splits)} splits; take a smaller "
            "split_block_km."
        )
    # Blocks of equal light, as all dark ones are, in no order at all.
    order = np.lexsort((rng.random(len(size)), -light))
    handful = max(int(np.ceil(1 / wanted[open_splits].min())), len(open_splits))
    order = np.concatenate([rng.permutation(order[i : i + handful]) for i in range(0, len(order), handful)])
    loads = np.zeros(3)
    split_of = np.empty(len(size), dtype=np.int64)
    for turn, block in enumerate(order):
        # One block each first, however few there are; then to whom is furthest behind.
        behind = (loads[open_splits] + size[block]) / wanted[open_splits]
        split = open_splits[turn if turn < len(open_splits) else int(np.argmin(behind))]
        split_of[block] = split
        loads[split] += size[block]
    return split_of


def _find(blocks: Ints, squares: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Whether each square (n, 2) is one of the blocks, sorted by rows, and its number (0 where it is not)."""
    least, width = np.minimum(blocks.min(axis=0), squares.min(axis=0)), int(blocks[:, 1].max() - blocks[:, 1].min()) + 5
    key = (blocks[:, 0] - least[0]) * width + blocks[:, 1] - least[1]
    asked = (squares[:, 0] - least[0]) * width + squares[:, 1] - least[1]
    number = np.minimum(np.searchsorted(key, asked), len(key) - 1)
    known = key[number] == asked
    return known, np.where(known, number, 0)
