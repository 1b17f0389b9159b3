"""Statistics of bands in windows around the middle of a tile: the baseline, and a feature set that needs no network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from geopov import __version__
from geopov.errors import FeatureError
from geopov.features._input import (
    Array,
    OfBands,
    centre,
    check_bands,
    check_batch,
    check_context,
    check_share,
    enough_valid,
)

__all__ = ["BandStatistics"]

DEFAULT_STATISTICS = ("mean", "std", "p10", "p50", "p90", "max")
_PERCENTILE = re.compile(r"p(100|[1-9]?[0-9])")


class BandStatistics(OfBands):
    """Mean, spread and percentiles of each band in square windows around the middle of a tile.

    Parameters
    ----------
    windows_px : sequence of int, optional
        Sides of the windows. Even in tiles of even size and odd in odd ones, since no other window has its middle in
        the middle of the tile; with context they may reach into it. Default: one window, the tile without its context.
    statistics : sequence of str
        Any of "mean", "std" (population), "min", "max" and "p0" to "p100" (percentiles, interpolated linearly as
        :func:`numpy.quantile` does).
    bands : sequence of str or int, optional
        Names, or numbers counted from 1. Default: all.
    transform : {None, "log"}
        "log" takes log(max(value, 0) + ``offset``) of each pixel first, as befits radiance.
    offset : float, optional
        Above zero, in the unit of the bands; required with "log".
    min_valid : float
        Tiles with a smaller share of valid pixels give a row of NaN, as do tiles with a window that has none.
    context_px : int
        Context around the tiles.
    """

    def __init__(
        self,
        *,
        windows_px: Sequence[int] | int | None = None,
        statistics: Sequence[str] | str = DEFAULT_STATISTICS,
        bands: Sequence[str | int] | str | int | None = None,
        transform: Literal["log"] | None = None,
        offset: float | None = None,
        min_valid: float = 0.5,
        context_px: int = 0,
    ) -> None:
        self.name = "band_statistics"
        self.windows_px = _check_windows(windows_px)
        self.statistics = _check_statistics(statistics)
        self.bands = None if bands is None else check_bands(bands, "bands")
        self.transform = transform
        self.offset = offset
        _check_transform(transform, offset)
        check_share(min_valid, "min_valid")
        check_context(context_px)
        self.min_valid = min_valid
        self.context_px = context_px

    @property
    def feature_names(self) -> list[str]:
        """One name a column, such as ``radiance_24px_p90``, band by band and window by window."""
        windows = [""] if self.windows_px is None else [f"_{window}px" for window in self.windows_px]
        return [
            f"{band}{window}_{statistic}"
            for band in self._band_labels()
            for window in windows
            for statistic in self.statistics
        ]

    def spec(self) -> dict[str, Any]:
        """What :func:`geopov.features.build` needs to make it again."""
        return {
            "name": self.name,
            "windows_px": None if self.windows_px is None else list(self.windows_px),
            "statistics": list(self.statistics),
            "bands": None if self.bands is None else list(self.bands),
            "transform": self.transform,
            "offset": self.offset,
            "min_valid": self.min_valid,
            "context_px": self.context_px,
        }

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
        return {"extractor": self.spec(), "geopov": __version__}

    def __call__(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Features (tile, feature) of a batch.

        Parameters
        ----------
        data : array (tile, band, y, x)
            Pixel values.
        valid : bool array (tile, y, x)
            True where a pixel is valid in every band.

        Returns
        -------
        float32 array (tile, feature)
            Rows of NaN where a tile has too few valid pixels.
        """
        size_px = check_batch(data, valid, context_px=self.context_px)
        windows = (size_px,) if self.windows_px is None else self.windows_px
        total_px = data.shape[3]
        for window in windows:
            _check_window(window, total_px)
        # What lies outside the widest window is never looked at, so it is not converted either.
        widest = max(windows)
        values = centre(data[:, self._positions(data.shape[1])], widest).astype(np.float64)
        values[np.broadcast_to(~centre(valid, widest)[:, None], values.shape)] = np.nan
        if self.transform == "log":
            values = np.log(np.maximum(values, 0) + self.offset)
        blocks = [self._statistics(centre(values, window)) for window in windows]
        rows = np.stack(blocks, axis=2).reshape(len(data), -1).astype(np.float32)
        enough = enough_valid(valid, size_px=size_px, min_valid=self.min_valid) & np.isfinite(rows).all(axis=1)
        rows[~enough] = np.nan
        return rows

    def _statistics(self, values: Array) -> Array:
        """Statistics (tile, band, statistic) of values (tile, band, y, x), NaN where invalid."""
        # Sorting puts NaN last, so one sort serves tiles with and without holes; np.nanquantile loops over tiles.
        ordered = np.sort(values.reshape(*values.shape[:2], -1), axis=-1)
        count = np.count_nonzero(~np.isnan(ordered), axis=-1)
        mean, spread = _moments(ordered, count)
        moments = {"mean": mean, "std": spread}
        found = [
            moments[name] if name in moments else _percentile(ordered, count, _share(name)) for name in self.statistics
        ]
        return np.stack([np.where(count > 0, column, np.nan) for column in found], axis=-1)

    def _band_labels(self) -> list[str]:
        names = self._band_names
        if names is None and self.bands is None:
            raise FeatureError(
                "the bands of these statistics are not known yet; give bands=[...] or call for_bands(band_names)."
            )
        if names is None:
            return [band if isinstance(band, str) else f"b{band}" for band in self.bands or ()]
        return [names[position] or f"b{position + 1}" for position in self._positions(len(names))]


def _moments(ordered: Array, count: Array) -> tuple[Array, Array]:
    number = np.maximum(count, 1)
    filled = np.nan_to_num(ordered, nan=0.0)
    mean = filled.sum(axis=-1) / number
    deviation = np.where(np.isnan(ordered), 0.0, ordered - mean[..., None])
    return mean, np.sqrt((deviation**2).sum(axis=-1) / number)


def _percentile(ordered: Array, count: Array, share: float) -> Array:
    position = share * np.maximum(count - 1, 0)
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    low, high = (np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0] for index in (below, above))
    result: Array = low + (high - low) * (position - below)
    return result


def _share(statistic: str) -> float:
    return {"min": 0.0, "max": 1.0}[statistic] if statistic in ("min", "max") else int(statistic[1:]) / 100


def _check_windows(windows_px: Sequence[int] | int | None) -> tuple[int, ...] | None:
    if windows_px is None:
        return None
    windows = (windows_px,) if isinstance(windows_px, int) else tuple(windows_px)
    good = windows and all(isinstance(w, int) and not isinstance(w, bool) and w > 0 for w in windows)
    if not good or len(set(windows)) != len(windows):
        raise FeatureError(
            f"windows_px is {windows_px!r}; expected different whole numbers of pixels, such as [24, 8]."
        )
    return windows


def _check_window(window: int, total_px: int) -> None:
    if window > total_px:
        raise FeatureError(
            f"a window of {window} px does not fit into tiles of {total_px} px; make windows_px smaller."
        )
    if (total_px - window) % 2:
        raise FeatureError(
            f"a window of {window} px cannot lie in the middle of tiles of {total_px} px; "
            f"take {window - 1 if window > 1 else 2} or {window + 1} px, or change size_px by one."
        )


def _check_statistics(statistics: Sequence[str] | str) -> tuple[str, ...]:
    names = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    for name in names:
        if name not in ("mean", "std", "min", "max") and not (isinstance(name, str) and _PERCENTILE.fullmatch(name)):
            raise FeatureError(f"there is no statistic {name!r}; expected mean, std, min, max, or p0 to p100.")
    if not names or len(set(names)) != len(names):
        raise FeatureError(f"statistics is {list(names)!r}; expected at least one, each once.")
    return names


def _check_transform(transform: Any, offset: Any) -> None:
    if transform not in (None, "log"):
        raise FeatureError(f"transform is {transform!r}; expected 'log' or nothing.")
    number = isinstance(offset, int | float) and not isinstance(offset, bool) and math.isfinite(offset) and offset > 0
    if transform == "log" and not number:
        raise FeatureError(
            f"offset is {offset!r}; transform='log' needs one above zero, in the unit of the bands: "
            "about the smallest difference worth telling apart, such as 0.1 nW/cm²/sr for VIIRS."
        )
    if transform is None and offset is not None:
        raise FeatureError(f"offset is {offset!r} but transform is not 'log'; leave it out, or give transform='log'.")
