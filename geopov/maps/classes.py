"""Where a map's classes begin and end: limits that people can read, and the words for what lies between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

MAX_EDGES = 8
MAX_INTERVAL_EDGES = 5
_LONGEST_NUMBER = 14
# A few extreme cells must not stretch the classes of all others; logarithms already tame them.
_TAIL, _LOG_TAIL = 0.02, 0.004


def class_limits(values: np.ndarray, scale: str, max_edges: int) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Class limits and labels for ``values`` in the unit shown."""
    edges: tuple[float, ...] = ()
    if scale == "log" and (values > 0).any():
        edges = _log_edges(*core_range(values[values > 0], _LOG_TAIL), max_edges)
    if scale == "quantile":
        edges = _quantile_edges(values, max_edges)
    # A narrow range of magnitudes is told better by equal steps.
    if len(edges) < (4 if scale == "log" else 2):
        low, high = core_range(values)
        spread = (low, high) if high > low else (float(values.min()), float(values.max()))
        edges = _linear_edges(*spread, max_edges)
    # A value on a limit belongs below it, so a limit at the maximum would have nothing above.
    edges = tuple(edge for edge in edges if edge < values.max())
    return edges, class_labels(edges, values)


def core_range(values: np.ndarray, tail: float = _TAIL) -> tuple[float, float]:
    """The values between which all but a share ``tail`` at either end lie."""
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _log_edges(low: float, high: float, max_edges: int) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        edges = tuple(edge for k in decades for m in mantissas if low <= (edge := _power(m, k)) <= high)
        if len(edges) <= max_edges:
            return edges
    return edges[:: math.ceil(len(edges) / max_edges)]


def _power(mantissa: int, exponent: int) -> float:
    # Read from text, since 3 * 10**-1 is not 0.3 in binary.
    return float(f"{mantissa}e{exponent}")


def factor_limits(low: float, high: float) -> tuple[float, ...]:
    """Class limits for factors, such as the upper over the lower end of an interval."""
    ladder = (1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
    edges = tuple(edge for edge in ladder if low <= edge <= high)
    if len(edges) < 2:
        return _linear_edges(low, high, MAX_INTERVAL_EDGES)
    return edges[:: math.ceil(len(edges) / MAX_INTERVAL_EDGES)]


def _linear_edges(low: float, high: float, max_edges: int) -> tuple[float, ...]:
    # Rasters are mostly float32, so a narrower range than its 7 digits is rounding, not a difference to draw.
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        return ()
    exponent = math.floor(math.log10((high - low) / max_edges))
    for step in (float(f"{m}e{exponent}") for m in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first + 1 <= max_edges:
            break
    return tuple(float(f"{k * step:.12g}") for k in range(first, last + 1))


def _quantile_edges(values: np.ndarray, max_edges: int) -> tuple[float, ...]:
    floor = float(values.min())
    at_floor = float(np.mean(values == floor))
    # Unlit and uninhabited cells are a class of their own, or they would fill most quantiles.
    apart = 1 / max_edges < at_floor < 1
    rest = values[values > floor] if apart else values
    quantiles = np.quantile(rest, np.linspace(0, 1, max_edges + 1)[1:-1])
    edges = {float(f"{quantile:.2g}") for quantile in quantiles}
    return tuple(sorted({edge for edge in edges if edge > floor} | ({floor} if apart else set())))


def class_labels(edges: tuple[float, ...], values: np.ndarray, sign: str = "") -> tuple[str, ...]:
    """One label a class, each number with ``sign`` before it; one class gets the typical value."""
    if not edges:
        return (f"about {sign}{_numbers([float(np.median(values))])[0]}",)
    shown = [sign + text for text in _numbers(edges)]
    between = (f"{low} to {high}" for low, high in pairwise(shown))
    lowest = shown[0] if values.min() == edges[0] else f"under {shown[0]}"
    return (lowest, *between, f"over {shown[-1]}")


def _numbers(values: Sequence[float]) -> list[str]:
    """Numbers with as many decimals as tell them apart, without zeros at the end."""
    gaps = np.diff(values) if len(values) > 1 else np.abs(values)
    tolerance = 1e-3 * float(np.min(gaps[gaps > 0], initial=math.inf))
    for decimals in range(7):
        if all(abs(round(value, decimals) - value) <= tolerance for value in values):
            texts = [f"{value:,.{decimals}f}" for value in values]
            if max(map(len, texts)) > _LONGEST_NUMBER:
                break
            trimmed = [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]
            return [text.replace("-", "−") for text in trimmed]
    return [f"{value:.9g}".replace("-", "−") for value in values]
