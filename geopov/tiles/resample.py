"""Bring source pixels onto a tile's grid: weights along each axis, or a gather through another CRS.

Every tile's numbers depend on its own window alone. Tiles are computed together only where that cannot change a bit:
matrix products of one shape, and element-wise arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["band_width", "gather", "nearest", "weigh"]

# Weights are zero far from the diagonal. A matrix product over 16 target pixels at a time skips most zeros and still
# keeps the multiplier busy; it also stays below the size at which BLAS would start threads of its own.
_BAND_PX = 16
_SMALL_TILE_PX = 32

# A pixel is valid where at least this share of its weight lies on valid pixels; the slack is for float32 sums.
_ENOUGH = 0.5 - 1e-5

# Positions held at a time while gathering.
_GATHER_POSITIONS = 1 << 20


def _bands(size: int) -> tuple[int, int]:
    """Number and width of the bands of target pixels that are computed together."""
    return (1, size) if size <= _SMALL_TILE_PX else (-(-size // _BAND_PX), _BAND_PX)


def band_width(ratio: np.ndarray, window: np.ndarray, size: int) -> np.ndarray:
    """Source pixels under one band of target pixels.

    Parameters
    ----------
    ratio : array (n,)
        Size of a target pixel in source pixels.
    window : int array (n,)
        Width of the source window.
    size : int
        Target pixels.
    """
    count, width = _bands(size)
    if count == 1:
        return window
    narrowed: np.ndarray = np.minimum(np.ceil(width * ratio).astype(np.int64) + 2, window)
    return narrowed


def weigh(
    pixels: np.ndarray,
    valid: np.ndarray,
    *,
    start: tuple[np.ndarray, np.ndarray],
    ratio: tuple[np.ndarray, np.ndarray],
    band: tuple[int, int],
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Area average along an axis where the source is finer than the tile, bilinear where it is coarser.

    Parameters
    ----------
    pixels : float array (n, band, y, x)
        Source windows, 0 where invalid.
    valid : bool array (n, y, x)
        True = valid.
    start : pair of array (n,)
        The tile's top and left edge, in pixels of the window.
    ratio : pair of array (n,)
        Height and width of a tile pixel, in source pixels.
    band : pair of int
        :func:`band_width` along y and x; the same for all n.
    size : int
        Side of the tile.

    Returns
    -------
    values : float array (n, band, size, size)
        Weighted over valid pixels; 0 where invalid.
    valid : bool array (n, size, size)
        True where at least half of the pixel's area is valid, or where bilinear, the source pixel under its centre.
    """
    height, width = pixels.shape[2:]
    first = [_first_of_band(s, r, size, b, w) for s, r, b, w in zip(start, ratio, band, (height, width), strict=True)]
    weights = [
        _weights(s, r, f, b, size).astype(pixels.dtype) for s, r, f, b in zip(start, ratio, first, band, strict=True)
    ]
    values = _apply(pixels, weights, first, size)
    usable = np.ones((len(pixels), size, size), dtype=bool)
    holed = np.flatnonzero(~valid.all(axis=(1, 2)))
    if len(holed):
        picked = [f[holed] for f in first]
        mask = valid[holed, None].astype(pixels.dtype)
        weight = _apply(mask, [w[holed] for w in weights], picked, size)
        shares = [
            _weights(s[holed], r[holed], f, b, size, share=True).astype(pixels.dtype)
            for s, r, f, b in zip(start, ratio, picked, band, strict=True)
        ]
        enough = _apply(mask, shares, picked, size) >= _ENOUGH
        values[holed] = np.divide(values[holed], weight, out=np.zeros_like(values[holed]), where=enough)
        usable[holed] = enough[:, 0]
    return values, usable


def _first_of_band(start: np.ndarray, ratio: np.ndarray, size: int, band: int, window: int) -> np.ndarray:
    """First source pixel of each band (n, bands)."""
    count, width = _bands(size)
    edge = start[:, None] + np.arange(count) * width * ratio[:, None]
    # Half a pixel earlier where bilinear weights look back.
    edge = np.where(ratio[:, None] >= 1, edge, edge + ratio[:, None] / 2 - 0.5)
    begin: np.ndarray = np.clip(np.floor(edge + 1e-9).astype(np.int64), 0, window - band)
    return begin


def _weights(
    start: np.ndarray, ratio: np.ndarray, first: np.ndarray, band: int, size: int, *, share: bool = False
) -> np.ndarray:
    """Weights (n, bands, target, source) that sum to 1 over the source; with ``share``, those that decide validity."""
    count, width = _bands(size)
    target = np.arange(count * width).reshape(count, width)[None, :, :, None]
    source = first[:, :, None, None] + np.arange(band)
    start, ratio = start[:, None, None, None], ratio[:, None, None, None]
    low = start + target * ratio
    area = np.clip(np.minimum(low + ratio, source + 1) - np.maximum(low, source), 0, None)
    centre = low + ratio / 2
    if share:
        linear = (source == np.floor(centre)).astype(float)
    else:
        linear = np.clip(1 - np.abs(centre - 0.5 - source), 0, None)
    weights = np.where(ratio >= 1, area, linear)
    total = weights.sum(axis=-1, keepdims=True)
    # Target pixels beyond the tile, which fill up the last band, have none.
    normalised: np.ndarray = weights / np.where(total > 0, total, 1)
    return normalised


def _apply(pixels: np.ndarray, weights: list[np.ndarray], first: list[np.ndarray], size: int) -> np.ndarray:
    """Weights along x, then along y."""
    n, n_bands, height, _ = pixels.shape
    weights_y, weights_x = weights
    if weights_x.shape[1] == 1:
        across = np.matmul(pixels, weights_x[:, :1].swapaxes(-1, -2))
        product: np.ndarray = np.matmul(weights_y[:, :1], across)
        return product
    first_y, first_x = (f.tolist() for f in first)
    across = np.empty((n_bands, height, size), dtype=pixels.dtype)
    values = np.empty((n, n_bands, size, size), dtype=pixels.dtype)
    for i in range(n):
        for j, (low, high) in enumerate(_spans(size)):
            begin = first_x[i][j]
            w = weights_x[i, j, : high - low].T
            np.matmul(pixels[i, :, :, begin : begin + w.shape[0]], w, out=across[:, :, low:high])
        for j, (low, high) in enumerate(_spans(size)):
            begin = first_y[i][j]
            w = weights_y[i, j, : high - low]
            np.matmul(w, across[:, begin : begin + w.shape[1]], out=values[i, :, low:high])
    return values


def _spans(size: int) -> Iterator[tuple[int, int]]:
    _, width = _bands(size)
    for low in range(0, size, width):
        yield low, min(low + width, size)


def nearest(
    pixels: np.ndarray,
    valid: np.ndarray,
    *,
    start: tuple[np.ndarray, np.ndarray],
    ratio: tuple[np.ndarray, np.ndarray],
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The source pixel under the centre of each tile pixel; arguments and result as :func:`weigh`, in any type."""
    centre = np.arange(size) + 0.5
    row, column = (
        np.clip(np.floor(s[:, None] + centre * r[:, None]).astype(np.int64), 0, limit - 1)
        for s, r, limit in zip(start, ratio, pixels.shape[2:], strict=True)
    )
    tile = np.arange(len(pixels))[:, None, None]
    row, column = row[:, :, None], column[:, None, :]
    return np.moveaxis(pixels[tile, :, row, column], -1, 1), valid[tile, row, column]


def gather(
    pixels: np.ndarray,
    valid: np.ndarray,
    *,
    whole: np.ndarray,
    lattice: np.ndarray,
    samples: tuple[int, int],
    size: int,
    interpolate: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample windows at the places that a tile's pixels have in another CRS.

    Parameters
    ----------
    pixels : array (band, n, y, x)
        Source windows, 0 where invalid.
    valid : bool array (n, y, x)
        True = valid.
    whole : bool array (n,)
        True where every pixel of a tile's own window is valid; windows are as large as the largest of them.
    lattice : float array (n, 2, m, m)
        Column and row, in pixels of the window, of m x m points spread evenly over the tile, edges included.
    samples : pair of int
        Points averaged along y and x in each tile pixel.
    size : int
        Side of the tile.
    interpolate : bool
        Bilinear between source pixels; else the nearest.

    Returns
    -------
    values : array (n, band, size, size)
        0 where invalid.
    valid : bool array (n, size, size)
        True where at least half of the pixel's points fall on valid source pixels.
    """
    n_bands, n = pixels.shape[:2]
    basis_y, basis_x = (_lagrange(size, count, lattice.shape[-1]) for count in samples)
    values = np.empty((n, n_bands, size, size), dtype=pixels.dtype)
    usable = np.empty((n, size, size), dtype=bool)
    step = max(1, _GATHER_POSITIONS // (size * size * samples[0] * samples[1]))
    for i in range(0, n, step):
        part = slice(i, i + step)
        place = basis_y @ lattice[part] @ basis_x.T
        column, row = place[:, 0], place[:, 1]
        if interpolate:
            values[part], usable[part] = _bilinear(pixels[:, part], valid[part], whole[part], column, row, size)
        else:
            values[part], usable[part] = _pick(pixels[:, part], valid[part], column, row, size)
    return values, usable


def _lagrange(size: int, samples: int, nodes: int) -> np.ndarray:
    """Matrix (size * samples, nodes) that interpolates values at evenly spaced nodes to the middle of each sample."""
    node = np.linspace(0.0, 1.0, nodes)
    place = (np.arange(size * samples) + 0.5) / (size * samples)
    basis = np.ones((len(place), nodes))
    for j in range(nodes):
        for k in range(nodes):
            if k != j:
                basis[:, j] *= (place - node[k]) / (node[j] - node[k])
    return basis


def _pick(
    pixels: np.ndarray, valid: np.ndarray, column: np.ndarray, row: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    at = _flat_index(np.floor(row), np.floor(column), valid.shape)
    usable = valid.ravel()[at]
    return np.moveaxis(pixels.reshape(len(pixels), -1)[:, at], 0, 1), usable


def _bilinear(
    pixels: np.ndarray, valid: np.ndarray, whole: np.ndarray, column: np.ndarray, row: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    flat, mask = pixels.reshape(len(pixels), -1), valid.ravel()
    low_row, low_column = np.floor(row - 0.5), np.floor(column - 0.5)
    f_row, f_column = (row - 0.5 - low_row).astype(flat.dtype), (column - 0.5 - low_column).astype(flat.dtype)
    values = np.zeros((len(flat), *column.shape), dtype=flat.dtype)
    # A tile without holes is not divided by a sum of weights that is 1 but for rounding, whatever lies beside it.
    holed = np.flatnonzero(~whole)
    weight = np.zeros((len(holed), *column.shape[1:]), dtype=flat.dtype)
    for down in (0, 1):
        for right in (0, 1):
            at = _flat_index(low_row + down, low_column + right, valid.shape)
            w = (f_row if down else 1 - f_row) * (f_column if right else 1 - f_column)
            values += flat[:, at] * w
            weight += mask[at[holed]] * w[holed]
    values = np.moveaxis(_mean_of_samples(values, size), 0, 1)
    usable = np.ones((len(valid), size, size), dtype=bool)
    if len(holed):
        under = mask[_flat_index(np.floor(row), np.floor(column), valid.shape)[holed]].astype(flat.dtype)
        weight = _mean_of_samples(weight, size)
        usable[holed] = (_mean_of_samples(under, size) >= _ENOUGH) & (weight > 0)
        enough = usable[holed, None]
        values[holed] = np.divide(values[holed], weight[:, None], out=np.zeros_like(values[holed]), where=enough)
    return values, usable


def _flat_index(row: np.ndarray, column: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Index into flattened windows (n, y, x); places outside are moved to the edge, which is outside weight."""
    n, height, width = shape
    row = np.clip(row, 0, height - 1).astype(np.int64)
    column = np.clip(column, 0, width - 1).astype(np.int64)
    index: np.ndarray = (np.arange(n)[:, None, None] * height + row) * width + column
    return index


def _mean_of_samples(values: np.ndarray, size: int) -> np.ndarray:
    """Average the samples of each tile pixel, in (..., size * samples_y, size * samples_x)."""
    down, across = values.shape[-2] // size, values.shape[-1] // size
    # One addition after another: numpy's own sums may go another way about arrays of another length.
    total = np.zeros((*values.shape[:-2], size, size), dtype=values.dtype)
    for i in range(down):
        for j in range(across):
            total += values[..., i::down, j::across]
    mean: np.ndarray = total / (down * across)
    return mean
