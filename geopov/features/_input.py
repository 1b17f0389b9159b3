"""What every extractor checks of the tiles it is given."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geopov._validation import some
from geopov.errors import FeatureError

Band = str | int
"""A band by its name, or by its number, counted from 1 as GDAL does."""

Array = npt.NDArray[Any]


def check_bands(bands: Any, name: str) -> tuple[Band, ...]:
    """Return ``bands`` as a tuple, or raise unless each is a name or a number from 1."""
    if not isinstance(bands, str | int | list | tuple):
        raise FeatureError(f"{name} is {bands!r}; expected a list of band names, or of numbers counted from 1.")
    listed: tuple[Band, ...] = (bands,) if isinstance(bands, str | int) else tuple(bands)
    for band in listed:
        if isinstance(band, bool) or not isinstance(band, str | int) or (isinstance(band, int) and band < 1):
            raise FeatureError(f"{name} names the band {band!r}; expected a band's name, or its number counted from 1.")
    return listed


def band_positions(bands: Sequence[Band], *, n_bands: int, band_names: Sequence[str] | None) -> list[int]:
    """Positions (from 0) of ``bands`` in tiles of ``n_bands`` bands.

    Parameters
    ----------
    bands : sequence of str or int
        Names, or numbers counted from 1.
    n_bands : int
        Number of bands of the tiles.
    band_names : sequence of str, optional
        Their names, where known.

    Raises
    ------
    FeatureError
        If there is no such band, or names are used where none are known.
    """
    if band_names is not None and len(band_names) != n_bands:
        raise FeatureError(f"the tiles have {n_bands} bands; the extractor was set up for {len(band_names)}.")
    return [_position(band, n_bands, band_names) for band in bands]


def shown_bands(bands: Sequence[Band] | Band | None, band_names: Sequence[str]) -> list[int]:
    """Positions of the bands to show as red, green and blue: three, or one to be shown in grey.

    By default those called red, green and blue, else the first three, else the first.
    """
    if bands is not None:
        positions = band_positions(check_bands(bands, "bands to show"), n_bands=len(band_names), band_names=band_names)
        if len(positions) not in (1, 3):
            raise FeatureError(
                f"{len(positions)} bands are to be shown; expected three, for red, green and blue, or one."
            )
        return positions
    lowered = [name.lower() for name in band_names]
    if {"red", "green", "blue"} <= set(lowered):
        return [lowered.index(name) for name in ("red", "green", "blue")]
    return list(range(3 if len(lowered) >= 3 else 1))


def _position(band: Band, n_bands: int, band_names: Sequence[str] | None) -> int:
    if isinstance(band, int):
        if band > n_bands:
            raise FeatureError(
                f"band {band} is asked for, but the tiles have {n_bands}. Give bands=[...] with numbers from 1 to "
                f"{n_bands}; one may be repeated, such as bands=[1, 1, 1]."
            )
        return band - 1
    if band_names is None:
        raise FeatureError(
            f"band {band!r} is asked for by name, but the names of these bands are not known. "
            "Call extractor.for_bands(band_names) first, or number the bands from 1."
        )
    if band not in band_names:
        raise FeatureError(f"the tiles have no band {band!r}; their bands are {some(band_names, 20)}.")
    return list(band_names).index(band)


class OfBands:
    """An extractor that looks at some bands of its tiles, or at all of them.

    Attributes
    ----------
    bands : tuple of str or int, or None
        Names, or numbers counted from 1; None for all.
    """

    bands: tuple[Band, ...] | None
    _band_names: tuple[str, ...] | None = None

    def for_bands(self, band_names: Sequence[str]) -> Self:
        """The same extractor for tiles whose bands have these names."""
        bound = copy.copy(self)
        bound._band_names = tuple(band_names)
        bound._positions(len(bound._band_names))
        return bound

    def _positions(self, n_bands: int) -> list[int]:
        """Positions (from 0) of the bands in tiles of ``n_bands`` bands; an error where they do not fit."""
        bands = range(1, n_bands + 1) if self.bands is None else self.bands
        return band_positions(list(bands), n_bands=n_bands, band_names=self._band_names)


def check_batch(data: Array, valid: Array, *, context_px: int) -> int:
    """Raise unless the arrays are a batch of square tiles; return their side without context, in pixels."""
    if data.ndim != 4 or data.shape[2] != data.shape[3]:
        raise FeatureError(f"data has shape {data.shape}; expected square tiles (tile, band, y, x).")
    if valid.dtype != np.bool_ or valid.shape != (data.shape[0], *data.shape[2:]):
        raise FeatureError(
            f"valid is {valid.dtype} with shape {valid.shape}; "
            f"expected bool with shape {(data.shape[0], *data.shape[2:])}, True where a pixel is valid in every band."
        )
    if data.dtype.kind not in "uif":
        raise FeatureError(f"data is {data.dtype}; expected integers or real numbers.")
    size_px = int(data.shape[3]) - 2 * context_px
    if size_px < 1:
        raise FeatureError(f"tiles of {data.shape[3]} px cannot hold {context_px} px of context on each side.")
    return size_px


def centre(array: Array, size_px: int) -> Array:
    """The central ``size_px`` x ``size_px`` pixels of the last two axes."""
    edge = (array.shape[-1] - size_px) // 2
    return array[..., edge : edge + size_px, edge : edge + size_px]


def enough_valid(valid: Array, *, size_px: int, min_valid: float) -> npt.NDArray[np.bool_]:
    """Which tiles (n,) have, context aside, at least a share ``min_valid`` of valid pixels, and at least one."""
    inner = centre(valid, size_px)
    counts = np.count_nonzero(inner, axis=(1, 2))
    enough: npt.NDArray[np.bool_] = counts >= max(min_valid * size_px**2, 1)
    return enough


def check_share(value: float, name: str) -> None:
    """Raise unless ``value`` is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FeatureError(f"{name} is {value!r}; expected a share from 0 to 1.")


def check_context(value: int) -> None:
    """Raise unless ``value`` is a number of pixels, zero or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FeatureError(f"context_px is {value!r}; expected a whole number of pixels, 0 or more.")
