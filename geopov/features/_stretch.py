"""How band values are spread over 0 to 1, between limits that are given and never fitted on the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError
from geopov.features._input import Array

Stretch = Literal["linear", "log"]
Floats32 = npt.NDArray[np.float32]


def as_numbers(value: Any, name: str, expected: str) -> tuple[float, ...] | None:
    """One limit or several as finite numbers; None where there is none."""
    if value is None:
        return None
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    ):
        raise FeatureError(f"{name} is {value!r}; expected {expected}.")
    return tuple(float(v) for v in values)


def check_stretch(stretch: str, lo: Sequence[float] | None, hi: Sequence[float] | None) -> None:
    """Raise unless limits and stretch go together."""
    if stretch not in get_args(Stretch):
        raise FeatureError(f"stretch is {stretch!r}; expected 'linear' or 'log'.")
    if (lo is None) != (hi is None):
        raise FeatureError("one of lo and hi is given without the other; give both, in the unit of the bands.")
    if lo is None or hi is None:
        return
    if len(lo) != len(hi) and 1 not in (len(lo), len(hi)):
        raise FeatureError(f"lo has {len(lo)} values and hi {len(hi)}; give one, or one a band.")
    if np.any(np.asarray(lo) >= np.asarray(hi)):
        raise FeatureError(f"lo is {list(lo)} and hi is {list(hi)}; expected lo below hi.")
    if stretch == "log" and min(lo) <= 0:
        raise FeatureError(
            f"lo is {list(lo)}; a log stretch needs it above zero: the smallest value worth telling apart."
        )


def limits_of(
    stretch: str, lo: Sequence[float] | None, hi: Sequence[float] | None, *, dtype: np.dtype[Any], n_bands: int
) -> tuple[Floats32, Floats32]:
    """``lo`` and ``hi``, each (n_bands,), for tiles of this dtype; 0 and 255 for uint8 without limits.

    Raises
    ------
    FeatureError
        If they were not given and the dtype does not imply them.
    """
    if lo is None or hi is None:
        if dtype != np.uint8 or stretch == "log":
            raise FeatureError(
                f"the tiles are {dtype} and the extractor has no limits for its {stretch} stretch. Give lo and hi in "
                "the unit of the bands, such as lo=0, hi=3000 for reflectance x 10,000; they are never fitted on the "
                "data."
            )
        lo, hi = (0.0,), (255.0,)
    low, high = np.asarray(lo, np.float32), np.asarray(hi, np.float32)
    return np.broadcast_to(low, n_bands), np.broadcast_to(high, n_bands)


def to_unit(values: Array, lo: Any, hi: Any, *, stretch: str) -> Floats32:
    """Values clipped to ``lo`` and ``hi`` and brought to 0 to 1; the limits broadcast against them."""
    # In place: the largest cost of preparing a tile is memory.
    unit: Floats32 = values.astype(np.float32)
    np.clip(unit, lo, hi, out=unit)
    if stretch == "log":
        lo, hi = np.log(lo), np.log(hi)
        np.log(unit, out=unit)
    unit -= lo
    unit /= hi - lo
    return unit
