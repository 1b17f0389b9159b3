"""How a map's values become colours: classes with round limits, in the unit that people think in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba_array

from geopov._validation import some
from geopov.errors import MapError
from geopov.maps.classes import (
    MAX_EDGES,
    MAX_INTERVAL_EDGES,
    class_labels,
    class_limits,
    core_range,
    factor_limits,
)
from geopov.maps.read import RasterMap

# Keeps exp() of any logarithm a positive, finite number.
_LOG_LIMIT = 50.0


@dataclass(frozen=True)
class Product:
    """What a kind of map shows, before any data is seen.

    Attributes
    ----------
    title : str
        What the values are.
    unit : str
        Of the labels, after ``logged`` and ``percent`` are undone.
    ramp : str
        A matplotlib colour map, perceptually ordered and safe for colour-blind readers.
    scale : {"log", "linear", "quantile"}
        How class limits are spaced.
    logged : bool
        Whether the raster holds natural logarithms of ``unit``.
    percent : bool
        Whether the raster holds shares from 0 to 1, which labels give in percent.
    categories : tuple of (int, str)
        For maps of classes: the raster's value of each, from low to high, and its label.
    """

    title: str
    unit: str
    ramp: str
    scale: Literal["log", "linear", "quantile"]
    logged: bool = False
    percent: bool = False
    categories: tuple[tuple[int, str], ...] = ()

    @property
    def relative(self) -> bool:
        """Whether uncertainty is a factor (upper over lower) rather than a difference."""
        return self.scale == "log"

    @property
    def fixed_unit(self) -> bool:
        """Whether labels are in another unit than the raster's values, so that the raster cannot name it."""
        return self.logged or self.percent or bool(self.categories)

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Values of the raster in the unit of the labels."""
        if self.logged:
            exponentiated: np.ndarray = np.exp(np.clip(values, -_LOG_LIMIT, _LOG_LIMIT))
            return exponentiated
        return values * 100.0 if self.percent else values

    def stored(self, edge: float) -> float:
        """A class limit in the unit of the labels as the raster holds it."""
        if self.logged:
            return math.log(edge)
        # Divided, not multiplied by 0.01, so that 7 percent is the double nearest to 0.07.
        return edge / 100.0 if self.percent else edge


_QUINTILES = ("1 (poorest fifth)", "2", "3", "4", "5 (richest fifth)")
_SUPPORT = ("unlike the surveyed places", "like the surveyed places")

PRODUCTS: dict[str, Product] = {
    "density": Product("Population density", "people per km²", "magma_r", "log"),
    "log_density": Product("Population density", "people per km²", "magma_r", "log", logged=True),
    "asset_wealth": Product("Asset wealth", "index (no unit)", "viridis", "linear"),
    "consumption": Product("Consumption", "PPP USD per person per day", "viridis", "log"),
    "log_consumption": Product("Consumption", "PPP USD per person per day", "viridis", "log", logged=True),
    "people": Product("People", "people per cell", "magma_r", "log"),
    "poor": Product("Number of poor", "poor people per cell", "inferno_r", "log"),
    "headcount": Product("Poverty headcount", "% of people", "YlOrRd", "linear", percent=True),
    "poverty_gap": Product("Poverty gap", "% of the poverty line", "YlOrRd", "linear", percent=True),
    "poverty_severity": Product("Poverty severity", "% (squared gap)", "YlOrRd", "linear", percent=True),
    "quintile": Product("Welfare quintile", "", "viridis", "linear", categories=tuple(enumerate(_QUINTILES, start=1))),
    "in_support": Product("Like the surveyed places", "", "YlGnBu_r", "linear", categories=tuple(enumerate(_SUPPORT))),
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
    categories : tuple of int
        The raster's value of each class where it is a map of classes; empty where it is one of quantities.
    """

    name: str
    title: str
    unit: str
    edges: tuple[float, ...]
    colours: tuple[str, ...]
    labels: tuple[str, ...]
    low: float
    high: float
    categories: tuple[int, ...] = ()

    @property
    def legend(self) -> tuple[str, ...]:
        """Labels with their unit, one a class; the unit of an interval is a sentence, which only headings have."""
        unit = "" if self.name == "interval" else self.unit
        return tuple(f"{label} {unit}".strip() for label in self.labels)

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
    product = product_named(name)
    finite = np.asarray(values, dtype=float)[np.isfinite(values)]
    if finite.size == 0:
        raise MapError("the map has no value to make a style from: every cell is nodata.")
    if product.categories:
        return _category_style(name, product, title)
    edges, labels = class_limits(product.shown(finite), product.scale, MAX_EDGES)
    own = tuple(product.stored(edge) for edge in edges)
    colours = _colours(product.ramp, len(labels))
    low, high = float(finite.min()), float(finite.max())
    return Style(name, title or product.title, unit or product.unit, own, colours, labels, low, high)


def _category_style(name: str, product: Product, title: str) -> Style:
    """Classes that do not depend on the data, so that maps of one kind can be compared."""
    codes, labels = zip(*product.categories, strict=True)
    edges = tuple(code + 0.5 for code in codes[:-1])
    colours = _colours(product.ramp, len(codes))
    title = title or product.title
    return Style(name, title, product.unit, edges, colours, labels, codes[0], codes[-1], categories=codes)


def make_interval_style(name: str, values: np.ndarray, *, unit: str = "", level: str = "") -> Style:
    """Classes for the width of the interval of a map with style ``name``; see :func:`interval_width`."""
    product = product_named(name)
    finite = np.asarray(values, dtype=float)[np.isfinite(values)]
    if finite.size == 0:
        raise MapError("the map has no interval to make a style from: lower or upper is nodata in every cell.")
    interval = f"{level} interval" if level else "interval"
    if product.relative:
        edges = factor_limits(*core_range(finite))
        title, shown_unit, labels = "How sure", f"upper ÷ lower end of the {interval}", class_labels(edges, finite, "×")
    else:
        edges, labels = class_limits(finite, "linear", MAX_INTERVAL_EDGES)
        own_unit = "percentage points" if product.percent else unit or product.unit
        title, shown_unit = "How sure", f"width of the {interval}, {own_unit}".rstrip(", ")
    low, high = float(finite.min()), float(finite.max())
    return Style("interval", title, shown_unit, edges, _colours("PuBu", len(labels)), labels, low, high)


def interval_width(name: str, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """How far apart lower and upper are, to 3 digits, in the unit of the labels.

    Their ratio for logarithmic products, else their difference, which is in percentage points for shares.
    """
    width = _raw_width(name, lower.astype(np.float64), upper.astype(np.float64))
    known = np.isfinite(width) & (width > 0)
    # A model may have one width for all cells; what float32 bands leave of it must not be shown as a pattern.
    digits = 10.0 ** (2 - np.floor(np.log10(np.where(known, width, 1.0))))
    rounded: np.ndarray = np.where(known, np.round(width * digits) / digits, width)
    return rounded


def _raw_width(name: str, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    product = product_named(name)
    if product.logged:
        ratio: np.ndarray = np.exp(upper - lower)
        return ratio
    if product.relative:
        positive = lower > 0
        factor: np.ndarray = np.where(positive, upper / np.where(positive, lower, 1.0), np.nan)
        return factor
    difference: np.ndarray = product.shown(upper) - product.shown(lower)
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
    # A map of logarithms or shares is labelled in another unit than the raster's.
    return {} if product_named(name).fixed_unit else {"unit": words["unit"]}


def product_named(name: str) -> Product:
    """One of :data:`PRODUCTS`, or an error that lists them."""
    if name not in PRODUCTS:
        raise MapError(f"there is no style {name!r}; expected one of {some(sorted(PRODUCTS), 20)}.")
    return PRODUCTS[name]


def _colours(ramp: str, n: int) -> tuple[str, ...]:
    # The ends of most ramps are hard to tell from paper or from ink.
    positions = np.linspace(0.04, 0.94, n) if n > 1 else [0.5]
    return tuple(to_hex(colormaps[ramp](position)) for position in positions)
