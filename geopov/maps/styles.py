"""How a map's values become colours: classes with round limits, in the unit that people think in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba_array

from geopov._validation import some
from geopov.errors import MapError
from geopov.maps.read import RasterMap

_MAX_EDGES = 8
_MAX_INTERVAL_EDGES = 5
_LONGEST_NUMBER = 14
# Keeps exp() of any logarithm a positive, finite number.
_LOG_LIMIT = 50.0
# A few extreme cells must not stretch the classes of all others; logarithms already tame them.
_TAIL, _LOG_TAIL = 0.02, 0.004


@dataclass(frozen=True)
class Product:
    """What a kind of map shows, before any data is seen.

    Attributes
    ----------
    title : str
        What the values are.
    unit : str
        Of the labels, after ``logged`` is undone.
    ramp : str
        A matplotlib colour map, perceptually ordered and safe for colour-blind readers.
    scale : {"log", "linear", "quantile"}
        How class limits are spaced.
    logged : bool
        Whether the raster holds natural logarithms of ``unit``.
    """

    title: str
    unit: str
    ramp: str
    scale: Literal["log", "linear", "quantile"]
    logged: bool = False

    @property
    def relative(self) -> bool:
        """Whether uncertainty is a factor (upper over lower) rather than a difference."""
        return self.scale == "log"


PRODUCTS: dict[str, Product] = {
    "density": Product("Population density", "people per km²", "magma_r", "log"),
    "log_density": Product("Population density", "people per km²", "magma_r", "log", logged=True),
    "asset_wealth": Product("Asset wealth", "index (no unit)", "viridis", "linear"),
    "consumption": Product("Consumption", "PPP USD per person per day", "viridis", "log"),
    "log_consumption": Product("Consumption", "PPP USD per person per day", "viridis", "log", logged=True),
    "generic": Product("", "", "cividis", "quantile"),
}
"""Styles by name."""


@dataclass(frozen=True)
class Style:
    """Classes of a map: n colours, n labels and the n - 1 limits between them.

    Attributes
    ----------
    name : str
        Key of :data:`PRODUCTS`, or ``"interval"``.
    title, unit : str
        What the values are, and the unit of the labels.
    edges : tuple of float
        Ascending limits in the raster's own values; a value on a limit belongs to the class below it.
    colours : tuple of str
        ``#rrggbb``, from low to high.
    labels : tuple of str
        In ``unit``.
    low, high : float
        Range of the raster's own values.
    """

    name: str
    title: str
    unit: str
    edges: tuple[float, ...]
    colours: tuple[str, ...]
    labels: tuple[str, ...]
    low: float
    high: float

    def rgba(self, values: np.ndarray) -> np.ndarray:
        """Colours (y, x, 4) from 0 to 1 of ``values`` (y, x); NaN is transparent."""
        palette = to_rgba_array(self.colours)
        classes = np.searchsorted(self.edges, np.nan_to_num(values, nan=0.0), side="left")
        coloured: np.ndarray = palette[classes]
        coloured[np.isnan(values), 3] = 0.0
        return coloured


def make_style(name: str, values: np.ndarray, *, unit: str = "", title: str = "") -> Style:
    """Classes for the values of a map.

    Limits are round numbers: 10, 30, 100 on logarithmic scales, multiples of a round step on linear ones, rounded
    quantiles for the generic style. Where the raster holds logarithms, labels give back the unit itself.

    Parameters
    ----------
    name : str
        One of :data:`PRODUCTS`.
    values : array
        Of the raster; NaN where there is no data.
    unit, title : str
        Override the product's.

    Raises
    ------
    MapError
        If the style is unknown or no value is finite.
    """
    product = _product(name)
    finite = np.asarray(values, dtype=float)[np.isfinite(values)]
    if finite.size == 0:
        raise MapError("the map has no value to make a style from: every cell is nodata.")
    shown = np.exp(np.clip(finite, -_LOG_LIMIT, _LOG_LIMIT)) if product.logged else finite
    edges, labels = _classes(shown, product.scale, _MAX_EDGES)
    own = tuple(math.log(edge) for edge in edges) if product.logged else edges
    colours = _colours(product.ramp, len(labels))
    low, high = float(finite.min()), float(finite.max())
    return Style(name, title or product.title, unit or product.unit, own, colours, labels, low, high)


def make_interval_style(name: str, values: np.ndarray, *, unit: str = "", level: str = "") -> Style:
    """Classes for the width of the interval of a map with style ``name``; see :func:`interval_width`."""
    product = _product(name)
    finite = np.asarray(values, dtype=float)[np.isfinite(values)]
    if finite.size == 0:
        raise MapError("the map has no interval to make a style from: lower or upper is nodata in every cell.")
    interval = f"{level} interval" if level else "interval"
    if product.relative:
        edges = _factor_edges(*_core(finite))
        title, shown_unit, labels = "How sure", f"upper ÷ lower end of the {interval}", _labels(edges, finite, "×")
    else:
        edges, labels = _classes(finite, "linear", _MAX_INTERVAL_EDGES)
        title, shown_unit = "How sure", f"width of the {interval}, {unit or product.unit}".rstrip(", ")
    low, high = float(finite.min()), float(finite.max())
    return Style("interval", title, shown_unit, edges, _colours("PuBu", len(labels)), labels, low, high)


def interval_width(name: str, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """How far apart lower and upper are, to 3 digits: their ratio for logarithmic products, else their difference."""
    width = _raw_width(name, lower.astype(np.float64), upper.astype(np.float64))
    known = np.isfinite(width) & (width > 0)
    # A model may have one width for all cells; what float32 bands leave of it must not be shown as a pattern.
    digits = 10.0 ** (2 - np.floor(np.log10(np.where(known, width, 1.0))))
    rounded: np.ndarray = np.where(known, np.round(width * digits) / digits, width)
    return rounded


def _raw_width(name: str, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    product = _product(name)
    if product.logged:
        ratio: np.ndarray = np.exp(upper - lower)
        return ratio
    if product.relative:
        positive = lower > 0
        factor: np.ndarray = np.where(positive, upper / np.where(positive, lower, 1.0), np.nan)
        return factor
    difference: np.ndarray = upper - lower
    return difference


def style_of(path: str | Path, *, style: str | None = None, band: int = 1) -> Style:
    """The style of one band of a map on disk, by name or else by the map's own tag ``style``."""
    with RasterMap.open(path) as raster:
        name = style or raster.tags.get("style", "generic")
        values = raster.read(band)
        return make_style(name, values, **words_for(name, raster, band))


def words_for(name: str, raster: RasterMap, band: int) -> dict[str, str]:
    """What the raster itself says of a band: its unit, which a product only has a default for, and maybe its title."""
    words = raster.words(band)
    if name == "generic":
        return words
    # A map of logarithms is labelled in the unit itself, which the raster does not name.
    return {} if _product(name).logged else {"unit": words["unit"]}


def _product(name: str) -> Product:
    if name not in PRODUCTS:
        raise MapError(f"there is no style {name!r}; expected one of {some(sorted(PRODUCTS), 20)}.")
    return PRODUCTS[name]


def _colours(ramp: str, n: int) -> tuple[str, ...]:
    # The ends of most ramps are hard to tell from paper or from ink.
    positions = np.linspace(0.04, 0.94, n) if n > 1 else [0.5]
    return tuple(to_hex(colormaps[ramp](position)) for position in positions)


def _classes(values: np.ndarray, scale: str, max_edges: int) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Class limits and labels for ``values`` in the unit shown."""
    edges: tuple[float, ...] = ()
    if scale == "log" and (values > 0).any():
        edges = _log_edges(*_core(values[values > 0], _LOG_TAIL), max_edges)
    if scale == "quantile":
        edges = _quantile_edges(values, max_edges)
    # A narrow range of magnitudes is told better by equal steps.
    if len(edges) < (4 if scale == "log" else 2):
        low, high = _core(values)
        spread = (low, high) if high > low else (float(values.min()), float(values.max()))
        edges = _linear_edges(*spread, max_edges)
    # A value on a limit belongs below it, so a limit at the maximum would have nothing above.
    edges = tuple(edge for edge in edges if edge < values.max())
    return edges, _labels(edges, values)


def _core(values: np.ndarray, tail: float = _TAIL) -> tuple[float, float]:
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


def _factor_edges(low: float, high: float) -> tuple[float, ...]:
    ladder = (1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)
    edges = tuple(edge for edge in ladder if low <= edge <= high)
    if len(edges) < 2:
        return _linear_edges(low, high, _MAX_INTERVAL_EDGES)
    return edges[:: math.ceil(len(edges) / _MAX_INTERVAL_EDGES)]


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


def _labels(edges: tuple[float, ...], values: np.ndarray, sign: str = "") -> tuple[str, ...]:
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
