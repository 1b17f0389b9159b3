"""Features of many tiles of one large block, computed once where tiles share pixels.

A network is slid over the block and its final map averaged over each tile; what cannot be slid, such as a percentile,
gets its tiles cut out of the block. Either way the numbers are those of tiles cut one by one, with their context.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError
from geopov.features._input import Array
from geopov.features.extractor import Concatenation, Extractor

__all__ = [
    "alignment_px",
    "block_bytes",
    "block_features",
    "check_block",
    "shares_computation",
    "tile_features",
]

# Values of the crops that are held at once, which is at most so many crops.
_VALUES, _CROPS = 2**24, 64


def shares_computation(extractor: Extractor, *, size_px: int | None = None) -> bool:
    """Whether any part of an extractor can be slid over a large block.

    That takes a network with context around its tiles, without which features depend on where a tile is cut, and one
    that sees no further than some number of pixels, which squeeze-and-excitation does not leave it.
    """
    if isinstance(extractor, Concatenation):
        return any(shares_computation(part, size_px=size_px) for part in extractor.parts)
    slides: Callable[[int | None], bool] | None = getattr(extractor, "slides", None)
    return slides is not None and slides(size_px)


def alignment_px(extractor: Extractor, *, size_px: int) -> int:
    """Pixels that the corners of blocks and of crops are multiples of on their scene's grid; 1: any pixel will do.

    A network's cells then begin at the same places in all of them, so that a tile's features are those of the block it
    lies in.
    """
    if isinstance(extractor, Concatenation):
        return math.lcm(*(alignment_px(part, size_px=size_px) for part in extractor.parts))
    measure: Callable[[int], int] | None = getattr(extractor, "alignment_px", None)
    return measure(size_px) if measure is not None and shares_computation(extractor, size_px=size_px) else 1


def tile_features(
    extractor: Extractor, data: Array, valid: Array, corners: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Features (tile, feature) of a batch of crops, such that they are those of any block the tiles lie in.

    Parameters
    ----------
    extractor : Extractor
        Bound to the tiles' bands.
    data : array (tile, band, y, x)
        Pixels, context included.
    valid : bool array (tile, y, x)
        True where a pixel is valid.
    corners : int array (tile, 2)
        Column and row of each tile's upper left pixel on its scene's grid.
    """
    if isinstance(extractor, Concatenation):
        rows = np.concatenate([tile_features(part, data, valid, corners) for part in extractor.parts], axis=1)
        rows[np.isnan(rows).any(axis=1)] = np.nan
        return rows
    if shares_computation(extractor, size_px=data.shape[-1] - 2 * extractor.context_px):
        aligned: Any = extractor
        return np.asarray(aligned.aligned(data, valid, corners))
    return extractor(data, valid)


def block_features(
    extractor: Extractor,
    data: Array,
    valid: npt.NDArray[np.bool_],
    *,
    left: npt.NDArray[np.integer],
    top: npt.NDArray[np.integer],
    size_px: int,
) -> npt.NDArray[np.float32]:
    """Features of tiles that lie in one block.

    Parameters
    ----------
    extractor : Extractor
        As :meth:`Extractor.for_bands` returns it. One that can be slid has ``slides``, which says whether it can with
        its parameters, and methods ``block_features`` and ``block_bytes`` that take what their namesakes here do.
    data : array (band, y, x)
        The block.
    valid : bool array (y, x)
        True where a pixel is valid in every band.
    left, top : int array (n,)
        Upper left pixel of each tile, its context not included. Features are those of :func:`tile_features` where the
        block's own corner lies at a multiple of :func:`alignment_px` of its scene's grid.
    size_px : int
        Side of the tiles, without context.

    Returns
    -------
    float32 array (n, feature)
        Rows of NaN where a tile has too few valid pixels. A row depends on the block and on its own place alone.

    Raises
    ------
    FeatureError
        If a tile with its context does not lie inside the block, or arrays do not fit together.
    """
    check_block(data, valid, left=left, top=top, size_px=size_px, context_px=extractor.context_px)
    if isinstance(extractor, Concatenation):
        rows = np.concatenate(
            [block_features(part, data, valid, left=left, top=top, size_px=size_px) for part in extractor.parts],
            axis=1,
        )
        rows[np.isnan(rows).any(axis=1)] = np.nan
        return rows
    if shares_computation(extractor, size_px=size_px):
        slid: npt.NDArray[np.float32] = extractor.block_features(  # type: ignore[attr-defined]  # it has `slides`
            data, valid, left=left, top=top, size_px=size_px
        )
        return slid
    return _crop_features(extractor, data, valid, left=left, top=top, size_px=size_px)


def block_bytes(extractor: Extractor, side_px: int, *, size_px: int | None = None) -> int:
    """About how much memory the features of a square block take at their peak, beside the block itself.

    Parameters
    ----------
    extractor : Extractor
        One with its own ``block_bytes`` says so itself.
    side_px : int
        Side of the block.
    size_px : int, optional
        Side of the tiles; needed where the extractor resizes them.
    """
    if isinstance(extractor, Concatenation):
        return max(block_bytes(part, side_px, size_px=size_px) for part in extractor.parts)
    if shares_computation(extractor, size_px=size_px):
        measured: int = extractor.block_bytes(side_px, size_px=size_px)  # type: ignore[attr-defined]
        return measured
    # Crops in double precision, and as much again while they are worked on.
    return 2 * 8 * _VALUES


def check_block(
    data: Array,
    valid: npt.NDArray[np.bool_],
    *,
    left: npt.NDArray[np.integer],
    top: npt.NDArray[np.integer],
    size_px: int,
    context_px: int,
) -> None:
    """Raise unless the arrays are a block, and tiles with their context lie inside it."""
    if data.ndim != 3:
        raise FeatureError(f"data has shape {data.shape}; expected a block (band, y, x).")
    if data.dtype.kind not in "uif":
        raise FeatureError(f"data is {data.dtype}; expected integers or real numbers.")
    if valid.dtype != np.bool_ or valid.shape != data.shape[1:]:
        raise FeatureError(
            f"valid is {valid.dtype} with shape {valid.shape}; expected bool with shape {data.shape[1:]}, True where a "
            "pixel is valid in every band."
        )
    if isinstance(size_px, bool) or not isinstance(size_px, int | np.integer) or size_px < 1:
        raise FeatureError(f"size_px is {size_px!r}; expected a whole number of pixels above zero.")
    for name, starts, side in (("left", left, data.shape[2]), ("top", top, data.shape[1])):
        if starts.ndim != 1 or starts.dtype.kind not in "ui" or len(starts) != len(left):
            raise FeatureError(
                f"{name} is {starts.dtype} with shape {starts.shape}; expected whole numbers (n,), one a tile."
            )
        outside = (starts < context_px) | (starts.astype(np.int64) + size_px + context_px > side)
        if outside.any():
            tile = int(np.flatnonzero(outside)[0])
            raise FeatureError(
                f"tile {tile} begins at {name}={int(starts[tile])}; with {size_px} px and {context_px} px of context "
                f"on each side it does not lie inside the block of {data.shape[1]} x {data.shape[2]} px (rows x "
                "columns). Read a larger block."
            )


def _crop_features(
    extractor: Extractor,
    data: Array,
    valid: npt.NDArray[np.bool_],
    *,
    left: npt.NDArray[np.integer],
    top: npt.NDArray[np.integer],
    size_px: int,
) -> npt.NDArray[np.float32]:
    """What an extractor says of the tiles cut out of the block, some at a time."""
    context_px = extractor.context_px
    side = size_px + 2 * context_px
    step = min(max(_VALUES // (len(data) * side**2), 1), _CROPS)
    places = [
        (slice(y, y + side), slice(x, x + side))
        for y, x in zip((top - context_px).tolist(), (left - context_px).tolist(), strict=True)
    ]
    rows = np.empty((len(places), len(extractor.feature_names)), dtype=np.float32)
    for start in range(0, len(places), step):
        some = places[start : start + step]
        crops = np.stack([data[:, y, x] for y, x in some])
        rows[start : start + step] = extractor(crops, np.stack([valid[y, x] for y, x in some]))
    return rows
