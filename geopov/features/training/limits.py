"""What the preprocessing of a network is fitted to: the training tiles, and no others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features._stretch import check_stretch, to_unit
from geopov.features.training.cache import TileCache

__all__ = ["fit_limits", "fit_mean_std", "sample_values"]

Limits = tuple[tuple[float, ...], tuple[float, ...]]

PERCENTILES = (2, 98)
_TILES, _VALUES = 2048, 2_000_000


def sample_values(cache: TileCache, rows: npt.NDArray[np.intp]) -> list[npt.NDArray[np.generic]]:
    """Valid values of each band in an evenly spaced sample of tiles and pixels, about two million a band at most."""
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _TILES)).astype(int)]
    side = cache.pixels.shape[-1]
    step = max(1, int(np.ceil(np.sqrt(len(rows) * side**2 / _VALUES))))
    pixels = np.stack([cache.pixels[row, :, ::step, ::step] for row in rows])
    valid = cache.valid(rows)
    if valid is None:
        return [pixels[:, band].ravel() for band in range(pixels.shape[1])]
    mask = valid[:, ::step, ::step]
    return [pixels[:, band][mask] for band in range(pixels.shape[1])]


def fit_limits(
    values: list[npt.NDArray[np.generic]],
    *,
    stretch: str,
    lo: float | tuple[float, ...] | None,
    hi: float | tuple[float, ...] | None,
    names: list[str],
) -> Limits:
    """Limits of the stretch, one a band: those given, else 0 to 255 for bytes, else the 2nd and 98th percentile.

    Raises
    ------
    FeatureError
        If limits and stretch do not go together, or a band is constant.
    """
    n = len(values)
    if lo is not None or hi is not None:
        low, high = _listed(lo), _listed(hi)
        check_stretch(stretch, low, high)
        assert low is not None
        assert high is not None
        if wrong := [len(limit) for limit in (low, high) if len(limit) not in (1, n)]:
            raise FeatureError(f"lo or hi has {wrong[0]} values for {n} bands; give one, or one a band.")
        return low * (n // len(low)), high * (n // len(high))
    if stretch != "log" and all(band.dtype == np.uint8 for band in values):
        return (0.0,) * n, (255.0,) * n
    ends = [_percentiles(band, stretch) for band in values]
    if flat := [name for name, (low_, high_) in zip(names, ends, strict=True) if not low_ < high_]:
        raise FeatureError(
            f"the bands {some(flat)} hold one value in the training tiles; leave them out of bands, or give lo and hi."
        )
    return tuple(low_ for low_, _ in ends), tuple(high_ for _, high_ in ends)


def fit_mean_std(
    values: list[npt.NDArray[np.generic]], limits: Limits, *, stretch: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each band on the scale 0 to 1, after the stretch."""
    units = [
        to_unit(band, np.float32(lo), np.float32(hi), stretch=stretch).astype(np.float64)
        for band, lo, hi in zip(values, *limits, strict=True)
    ]
    # A band that lies beyond the limits throughout has no spread, and nothing to divide by.
    return tuple(float(unit.mean()) for unit in units), tuple(float(unit.std()) or 1.0 for unit in units)


def _percentiles(band: npt.NDArray[np.generic], stretch: str) -> tuple[float, float]:
    numbers = np.asarray(band, dtype=np.float64)
    if stretch == "log":
        numbers = numbers[numbers > 0]
    if not len(numbers):
        return 0.0, 0.0
    low, high = np.percentile(numbers, PERCENTILES)
    return float(low), float(high)


def _listed(limit: float | tuple[float, ...] | None) -> tuple[float, ...] | None:
    if limit is None:
        return None
    return tuple(float(value) for value in limit) if isinstance(limit, tuple | list) else (float(limit),)
