"""The order of reading: tiles row by row in swaths, and for each step what to decode and what to let go."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geopov.tiles.plan import Plan

# A step is what one thread assembles at a time: enough for numpy to be busy, little enough to stay in bounds.
_STEP_BYTES = 24 << 20
_STEP_TILES = 256


@dataclass(frozen=True)
class Step:
    """Consecutive tiles of one batch.

    Attributes
    ----------
    batch : int
        Number of the batch.
    start, stop : int
        Place in the batch.
    tiles : int array (n,)
        Positions of the tiles.
    uses, decode, drop : int array
        Units the step reads from; those of them to decode first; those to let go afterwards.
    """

    batch: int
    start: int
    stop: int
    tiles: np.ndarray
    uses: np.ndarray
    decode: np.ndarray
    drop: np.ndarray


@dataclass(frozen=True)
class Schedule:
    """All steps of a reading.

    Attributes
    ----------
    steps : list of Step
    batches : list of int array
        Positions of the tiles of each batch.
    n_units, n_decodes : int
        Distinct units, and how often a unit is decoded in all; equal unless the cache is too small for a swath.
    decoded_bytes, peak_bytes : int
        Size of all that is decoded, and the most that is held at once.
    """

    steps: list[Step]
    batches: list[np.ndarray]
    n_units: int
    n_decodes: int
    decoded_bytes: int
    peak_bytes: int


def make_schedule(plan: Plan, *, batch_size: int, cache_mb: float, positions: np.ndarray | None = None) -> Schedule:
    """Order tiles and units.

    Parameters
    ----------
    plan : Plan
        Of all tiles.
    batch_size : int
        Tiles a batch.
    cache_mb : float
        Megabytes of decoded units to hold; a step is served whatever it takes.
    positions : int array, optional
        Tiles to read; default all.
    """
    wanted = np.ones(len(plan), dtype=bool)
    if positions is not None:
        wanted[:] = False
        wanted[positions] = True
    budget = cache_mb * 2**20
    order = _read_order(plan, budget)
    order = order[wanted[order]]
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    bounds, uses = _cut(plan, order, batch_size, budget)
    decode, drop, peak = _keep(plan, uses, budget)
    steps = [
        Step(batch, start, stop, batches[batch][start:stop], uses[i], decode[i], drop[i])
        for i, (batch, start, stop) in enumerate(bounds)
    ]
    decoded = np.concatenate(decode) if decode else np.empty(0, dtype=np.int64)
    return Schedule(
        steps=steps,
        batches=batches,
        n_units=len(np.unique(decoded)),
        n_decodes=len(decoded),
        decoded_bytes=int(plan.units.bytes_of(decoded).sum()),
        peak_bytes=peak,
    )


def _read_order(plan: Plan, budget: float) -> np.ndarray:
    """Tiles by scene and level, then in swaths of columns, then row by row of the reference file's units.

    A swath is as wide as the cache allows for the rows of units that a tile spans and one more.
    """
    pieces = plan.pieces
    reference = np.full(len(plan), -1)
    first = np.flatnonzero((pieces.rank == 0) & np.r_[True, pieces.tile[1:] != pieces.tile[:-1]])
    reference[pieces.tile[first]] = first
    placed = np.flatnonzero(reference >= 0)
    piece = reference[placed]
    level = plan.level_number(pieces.file[piece], pieces.level[piece])
    width, height = plan.per_level("unit_width")[level], plan.per_level("unit_height")[level]
    column = np.maximum(pieces.column0[piece], 0) // width
    row = np.maximum(pieces.row0[piece], 0) // height
    rows_live = (pieces.row1[piece] - pieces.row0[piece]) // height + 2
    column_bytes = np.zeros(len(plan.units.file))
    np.maximum.at(column_bytes, level, rows_live * width * height * plan.n_bands * plan.dtype.itemsize)
    swath_columns = np.maximum(budget / 2 // np.maximum(column_bytes, 1), 1).astype(np.int64)[level]
    key = (placed, column, row, column // swath_columns, level)
    outside = np.flatnonzero(reference < 0)
    return np.concatenate([placed[np.lexsort(key)], outside])


def _cut(
    plan: Plan, order: np.ndarray, batch_size: int, budget: float
) -> tuple[list[tuple[int, int, int]], list[np.ndarray]]:
    """Steps as (batch, start, stop), with the units each uses: as many tiles as stay within bounds."""
    spec, pieces = plan.spec, plan.pieces
    pixels = spec.total_px**2
    if len(pieces):
        pixels = max(pixels, int(((pieces.column1 - pieces.column0) * (pieces.row1 - pieces.row0)).max()))
    tile_bytes = pixels * plan.n_bands * max(plan.dtype.itemsize, 4)
    size = int(np.clip(_STEP_BYTES // tile_bytes, 1, _STEP_TILES))
    while True:
        within = np.arange(len(order)) % batch_size
        starts = np.flatnonzero(within % size == 0)
        stops = np.append(starts[1:], len(order))
        step_of_tile = np.full(len(plan), -1)
        step_of_tile[order] = np.repeat(np.arange(len(starts)), stops - starts)
        uses = _uses(plan, step_of_tile, len(starts))
        heaviest = max((float(plan.units.bytes_of(units).sum()) for units in uses), default=0.0)
        if size == 1 or heaviest <= budget / 4:
            break
        size = -(-size // 2)
    batch, offset = starts // batch_size, within[starts]
    return list(zip(batch.tolist(), offset.tolist(), (offset + stops - starts).tolist(), strict=True)), uses


def _uses(plan: Plan, step_of_tile: np.ndarray, n_steps: int) -> list[np.ndarray]:
    """The units of each step."""
    step = step_of_tile[plan.pieces.tile[plan.touch_piece]]
    kept = step >= 0
    n_units = int(plan.units.first[-1])
    pairs = np.unique(step[kept] * n_units + plan.touch_unit[kept])
    step, unit = pairs // n_units, pairs % n_units
    return np.split(unit, np.searchsorted(step, np.arange(1, n_steps))) if n_steps else []


def _keep(plan: Plan, uses: Sequence[np.ndarray], budget: float) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """What to decode before and let go after each step.

    A unit is held from its first use to its last while that fits the budget. Where it does not, the unit whose next
    use is furthest goes first (Belady 1966, IBM Systems Journal 5:78): no other rule decodes less.
    """
    unit = np.concatenate(uses) if uses else np.empty(0, dtype=np.int64)
    step = np.repeat(np.arange(len(uses)), [len(u) for u in uses])
    order = np.lexsort((step, unit))
    same = unit[order][1:] == unit[order][:-1]
    next_step = np.full(len(unit), len(uses))
    next_step[order[:-1][same]] = step[order[1:][same]]
    sizes = plan.units.bytes_of(unit)
    decode: list[np.ndarray] = []
    drop: list[np.ndarray] = []
    live: dict[int, int] = {}
    furthest: list[tuple[int, int]] = []
    held, peak, at = 0.0, 0.0, 0
    size_of = dict(zip(unit.tolist(), sizes.tolist(), strict=True))
    for used in uses:
        stop = at + len(used)
        fresh = [u for u in used.tolist() if u not in live]
        held += sum(size_of[u] for u in fresh)
        peak = max(peak, held)
        gone = []
        for u, following in zip(used.tolist(), next_step[at:stop].tolist(), strict=True):
            live[u] = following
            if following == len(uses):
                gone.append(u)
            else:
                heapq.heappush(furthest, (-following, u))
        held -= sum(size_of[u] for u in gone)
        while held > budget and furthest:
            following, u = heapq.heappop(furthest)
            if live.get(u) == -following and u not in gone:
                gone.append(u)
                held -= size_of[u]
        for u in gone:
            del live[u]
        decode.append(np.array(fresh, dtype=np.int64))
        drop.append(np.array(gone, dtype=np.int64))
        at = stop
    return decode, drop, int(peak)
