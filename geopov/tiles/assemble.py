"""Put decoded blocks together to tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from geopov.raster import Block
from geopov.tiles.pieces import COPY, LINEAR, WARP, Pieces
from geopov.tiles.plan import Plan
from geopov.tiles.resample import band_width, gather, nearest, weigh

__all__ = ["Assembler"]


class Assembler:
    """Writes the pixels of planned tiles; holds no state that changes, so that threads share it.

    Parameters
    ----------
    plan : Plan
        Of all tiles.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        tiles, touches = np.arange(len(plan) + 1), np.arange(len(plan.pieces) + 1)
        self._piece_start = np.searchsorted(plan.pieces.tile, tiles)
        self._touch_start = np.searchsorted(plan.touch_piece, touches)
        self._files_of_scene = np.array([len(scene.files) for scene in plan.scenes])
        self._slots = [_as_slice(file.slots) for file in plan.files]

    def assemble(self, tiles: np.ndarray, blocks: Mapping[int, Block], data: np.ndarray, valid: np.ndarray) -> None:
        """Fill tiles from the blocks they touch.

        Parameters
        ----------
        tiles : int array (n,)
            Positions.
        blocks : mapping of int to Block
            By unit number; all that the tiles touch.
        data : array (n, band, y, x)
            Zeros, filled in place.
        valid : bool array (n, y, x)
            False, filled in place.
        """
        rows, place = _ranges(self._piece_start[tiles], self._piece_start[tiles + 1])
        rank = self._plan.pieces.rank[rows]
        for asked in range(int(rank.max(initial=-1)) + 1):
            chosen = rank == asked
            if asked == 0:
                self._fill(rows[chosen], place[chosen], blocks, data, valid)
                continue
            chosen &= ~valid[place].all(axis=(1, 2))
            if not chosen.any():
                break
            some, local = np.unique(place[chosen], return_inverse=True)
            more = np.zeros((len(some), *data.shape[1:]), dtype=data.dtype)
            more_valid = np.zeros((len(some), *valid.shape[1:]), dtype=bool)
            self._fill(rows[chosen], local, blocks, more, more_valid)
            gained = more_valid & ~valid[some]
            data[some] = np.where(gained[:, None], more, data[some])
            valid[some] |= gained

    def _fill(
        self, rows: np.ndarray, place: np.ndarray, blocks: Mapping[int, Block], data: np.ndarray, valid: np.ndarray
    ) -> None:
        """Fill tiles from one scene each: valid where all of its files are."""
        pieces = self._plan.pieces.take(rows)
        expected = self._files_of_scene[pieces.scene]
        if (expected == 1).all():
            self._draw(rows, pieces, place, blocks, data, valid)
            return
        votes = np.zeros(valid.shape, dtype=np.uint16)
        needed = np.full(len(valid), np.iinfo(np.uint16).max, dtype=np.uint16)
        needed[place] = expected
        for file in np.unique(pieces.file):
            own = np.flatnonzero(pieces.file == file)
            layer = np.zeros(valid.shape, dtype=bool)
            self._draw(rows[own], pieces.take(own), place[own], blocks, data, layer)
            votes += layer
        valid[...] = votes == needed[:, None, None]
        data *= valid[:, None]

    def _draw(
        self,
        rows: np.ndarray,
        pieces: Pieces,
        place: np.ndarray,
        blocks: Mapping[int, Block],
        data: np.ndarray,
        valid: np.ndarray,
    ) -> None:
        for kind, draw in ((COPY, self._copy), (LINEAR, self._weigh), (WARP, self._warp)):
            own = np.flatnonzero(pieces.kind == kind)
            if len(own) == len(pieces):
                draw(rows, pieces, place, blocks, data, valid)
            elif len(own):
                draw(rows[own], pieces.take(own), place[own], blocks, data, valid)

    def _weigh(
        self,
        rows: np.ndarray,
        pieces: Pieces,
        place: np.ndarray,
        blocks: Mapping[int, Block],
        data: np.ndarray,
        valid: np.ndarray,
    ) -> None:
        spec, size = self._plan.spec, self._plan.spec.total_px
        smooth = spec.resampling == "auto"
        height, width = pieces.row1 - pieces.row0, pieces.column1 - pieces.column0
        band_y, band_x = band_width(pieces.ry, height, size), band_width(pieces.rx, width, size)
        for own in _groups(pieces.file, height, width, band_y, band_x):
            part = pieces.take(own)
            file = self._plan.files[part.file[0]]
            work = _work_type(file.dtype) if smooth else file.dtype
            pixels = np.zeros((len(own), len(file.bands), height[own[0]], width[own[0]]), dtype=work)
            mask = self._window(rows[own], part, blocks, pixels)
            start, ratio = (part.y0 - part.row0, part.x0 - part.column0), (part.ry, part.rx)
            if smooth:
                band = int(band_y[own[0]]), int(band_x[own[0]])
                values, usable = weigh(pixels, mask, start=start, ratio=ratio, band=band, size=size)
            else:
                values, usable = nearest(pixels, mask, start=start, ratio=ratio, size=size)
            self._store(values, usable, part.file[0], place[own], data, valid)

    def _warp(
        self,
        rows: np.ndarray,
        pieces: Pieces,
        place: np.ndarray,
        blocks: Mapping[int, Block],
        data: np.ndarray,
        valid: np.ndarray,
    ) -> None:
        spec, size = self._plan.spec, self._plan.spec.total_px
        smooth = spec.resampling == "auto"
        # As many points along an axis as it holds source pixels, but for a hair.
        points_y, points_x = (
            np.maximum(np.ceil(ratio - 0.02), 1).astype(np.int64) if smooth else np.ones(len(pieces), dtype=np.int64)
            for ratio in (pieces.ry, pieces.rx)
        )
        for own in _groups(pieces.file, points_y, points_x):
            part = pieces.take(own)
            file = self._plan.files[part.file[0]]
            height, width = int((part.row1 - part.row0).max()), int((part.column1 - part.column0).max())
            work = _work_type(file.dtype) if smooth else file.dtype
            pixels = np.zeros((len(file.bands), len(own), height, width), dtype=work)
            mask = self._window(rows[own], part, blocks, pixels.swapaxes(0, 1))
            corner = np.stack([part.column0, part.row0], axis=1)[:, :, None, None]
            values, usable = gather(
                pixels,
                mask,
                whole=mask.sum(axis=(1, 2)) == (part.row1 - part.row0) * (part.column1 - part.column0),
                lattice=self._plan.lattices[part.lattice] - corner,
                samples=(int(points_y[own[0]]), int(points_x[own[0]])),
                size=size,
                interpolate=smooth,
            )
            self._store(values * usable[:, None], usable, part.file[0], place[own], data, valid)

    def _store(
        self, values: np.ndarray, usable: np.ndarray, file: int, place: np.ndarray, data: np.ndarray, valid: np.ndarray
    ) -> None:
        if data.dtype.kind != "f" and values.dtype.kind == "f":
            np.rint(values, out=values)
        slots = self._slots[file]
        if isinstance(slots, slice):
            data[place, slots] = values.astype(data.dtype, copy=False)
        else:
            data[place[:, None], slots] = values.astype(data.dtype, copy=False)
        valid[place] = usable

    def _copy(
        self,
        rows: np.ndarray,
        pieces: Pieces,
        place: np.ndarray,
        blocks: Mapping[int, Block],
        data: np.ndarray,
        valid: np.ndarray,
    ) -> None:
        files = pieces.file.tolist()
        for i, block, there, here in self._overlaps(rows, pieces, blocks):
            tile = place[i]
            data[(tile, self._slots[files[i]], *there)] = block.data[(slice(None), *here)]
            valid[(tile, *there)] = True if block.valid is None else block.valid[here]

    def _window(self, rows: np.ndarray, pieces: Pieces, blocks: Mapping[int, Block], pixels: np.ndarray) -> np.ndarray:
        """Fill source windows (n, band, y, x) and return where they are valid (n, y, x)."""
        mask = np.zeros((len(pixels), *pixels.shape[2:]), dtype=bool)
        for i, block, there, here in self._overlaps(rows, pieces, blocks):
            pixels[(i, slice(None), *there)] = block.data[(slice(None), *here)]
            mask[(i, *there)] = True if block.valid is None else block.valid[here]
        return mask

    def _overlaps(
        self, rows: np.ndarray, pieces: Pieces, blocks: Mapping[int, Block]
    ) -> Iterator[tuple[int, Block, tuple[slice, slice], tuple[slice, slice]]]:
        """Piece, block, and where they overlap: as rows and columns of the piece's window, and of the block."""
        touches, piece = _ranges(self._touch_start[rows], self._touch_start[rows + 1])
        windows = np.stack([pieces.row0, pieces.row1, pieces.column0, pieces.column1], axis=1).tolist()
        for i, unit in zip(piece.tolist(), self._plan.touch_unit[touches].tolist(), strict=True):
            block = blocks[unit]
            row0, row1, column0, column1 = windows[i]
            height, width = block.data.shape[1:]
            top, bottom = max(row0, block.row), min(row1, block.row + height)
            left, right = max(column0, block.column), min(column1, block.column + width)
            there = slice(top - row0, bottom - row0), slice(left - column0, right - column0)
            here = slice(top - block.row, bottom - block.row), slice(left - block.column, right - block.column)
            yield i, block, there, here


def _ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges, one after the other, and the number of the range each is from."""
    length = stop - start
    which = np.repeat(np.arange(len(start)), length)
    within = np.arange(len(which)) - np.repeat(np.cumsum(length) - length, length)
    return start[which] + within, which


def _groups(*keys: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that are equal in all keys, together."""
    table = np.stack(keys, axis=1)
    order = np.lexsort(table.T[::-1])
    changes = np.flatnonzero((table[order][1:] != table[order][:-1]).any(axis=1)) + 1
    yield from np.split(order, changes)


def _as_slice(slots: tuple[int, ...]) -> Any:
    """Consecutive bands as a slice, which numpy copies without an index; others as an index."""
    if slots == tuple(range(slots[0], slots[0] + len(slots))):
        return slice(slots[0], slots[0] + len(slots))
    return np.array(slots)


def _work_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float type that holds every value of a pixel type: its weights and sums are in it."""
    return np.dtype(np.result_type(dtype, np.float32))
