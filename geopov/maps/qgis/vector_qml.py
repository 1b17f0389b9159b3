"""How points and polygons are drawn in QGIS: by classes of a quantity or by category, as its XML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal
from xml.etree import ElementTree as ET

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from geopov.errors import MapError
from geopov.maps.classes import MAX_EDGES, class_labels, class_limits, core_range
from geopov.maps.qgis.qml import QGIS_VERSION, as_document
from geopov.maps.styles import Style

Shape = Literal["point", "polygon"]

# Okabe and Ito (2008), Color Universal Design: told apart with any common colour vision; black is kept for outlines.
_CATEGORICAL = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
# More categories than colours get another shape, so that no two look alike until 40.
_MARKERS = ("circle", "square", "diamond", "triangle", "pentagon")
_DIVERGING = "RdBu"
# QGIS draws no value that is outside all ranges.
_FAR = 1e300
_INK, _HALO = "35,35,35,255", "255,255,255,255"
_POINT_MM = "2.6"


@dataclass(frozen=True)
class Swatch:
    """One row of a legend: a colour, a marker, and the words for it without the unit."""

    colour: str
    label: str
    marker: str = "circle"


@dataclass(frozen=True)
class VectorStyle:
    """How features are coloured by one of their columns.

    Attributes
    ----------
    column : str
        The column that is shown.
    shape : {"point", "polygon"}
        Of the features.
    swatches : tuple of Swatch
        One a class.
    edges : tuple of float
        The limits between classes of a quantity, one fewer than swatches.
    categories : tuple of int
        The values of a column of categories, one a swatch; empty for a quantity.
    unit : str
        Of the labels.
    """

    column: str
    shape: Shape
    swatches: tuple[Swatch, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[int, ...] = ()
    unit: str = ""

    @property
    def legend(self) -> tuple[str, ...]:
        """Labels with their unit, one a class."""
        return tuple(f"{swatch.label} {self.unit}".strip() for swatch in self.swatches)


def graduated(column: str, style: Style, *, shape: Shape) -> VectorStyle:
    """The classes and colours of a map's style, for features with the same quantity in ``column``."""
    swatches = tuple(Swatch(colour, label) for colour, label in zip(style.colours, style.labels, strict=True))
    return VectorStyle(column, shape, swatches, edges=style.edges, unit=style.unit)


def diverging(column: str, values: np.ndarray, *, unit: str, shape: Shape = "point") -> VectorStyle:
    """Classes on both sides of zero, as wide on one side as on the other: red below, blue above.

    Parameters
    ----------
    column : str
        The column that is shown.
    values : array (n,)
        Of the column; NaN is left out.
    unit : str
        Of the labels.
    shape : {"point", "polygon"}
        Of the features.

    Raises
    ------
    MapError
        If no value is finite.
    """
    finite = np.abs(np.asarray(values, dtype=float)[np.isfinite(values)])
    if finite.size == 0:
        raise MapError(f"the column {column!r} has no value to make a style from.")
    reach = core_range(finite)[1] or 1.0
    positive, _ = class_limits(np.array([0.0, reach]), "linear", MAX_EDGES // 2)
    above = [edge for edge in positive if edge > 0] or [reach]
    edges = tuple([-edge for edge in reversed(above)] + above)
    # Labels compare with the values to say "under"; infinities make both ends open.
    labels = class_labels(edges, np.array([-math.inf, math.inf]))
    colours = colormaps[_DIVERGING](np.linspace(0.08, 0.92, len(labels)))
    swatches = (Swatch(to_hex(colour), label) for colour, label in zip(colours, labels, strict=True))
    return VectorStyle(column, shape, tuple(swatches), edges=edges, unit=unit)


def categorical(column: str, labels: Mapping[int, str], *, shape: Shape = "point") -> VectorStyle:
    """One colour (and beyond eight, one marker) a category; ``labels`` by the column's value."""
    looks = [(colour, marker) for marker in _MARKERS for colour in _CATEGORICAL]
    swatches = tuple(
        Swatch(colour, label, marker)
        for label, (colour, marker) in zip(labels.values(), _repeated(looks, len(labels)), strict=True)
    )
    return VectorStyle(column, shape, swatches, categories=tuple(labels))


def vector_qml(style: VectorStyle) -> str:
    """The text of a QGIS style file, as it also stands in the table ``layer_styles`` of a GeoPackage."""
    root = ET.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    root.append(vector_renderer(style))
    ET.SubElement(root, "blendMode").text = "0"
    return as_document(root)


def vector_renderer(style: VectorStyle) -> ET.Element:
    """The element ``renderer-v2`` that draws the features, the same in a style file and in a project."""
    renderer = ET.Element("renderer-v2", attr=style.column)
    rows = [{"symbol": str(index), "label": label, "render": "true"} for index, label in enumerate(style.legend)]
    if style.categories:
        renderer.set("type", "categorizedSymbol")
        parent = ET.SubElement(renderer, "categories")
        for code, row in zip(style.categories, rows, strict=True):
            ET.SubElement(parent, "category", {"value": str(code), "type": "integer", **row})
    else:
        renderer.attrib |= {"type": "graduatedSymbol", "graduatedMethod": "GraduatedColor"}
        parent = ET.SubElement(renderer, "ranges")
        for (lower, upper), row in zip(pairwise((-_FAR, *style.edges, _FAR)), rows, strict=True):
            ET.SubElement(parent, "range", {"lower": repr(lower), "upper": repr(upper), **row})
    symbols = ET.SubElement(renderer, "symbols")
    for index, swatch in enumerate(style.swatches):
        symbols.append(_symbol(str(index), swatch, style.shape))
    return renderer


def _symbol(name: str, swatch: Swatch, shape: Shape) -> ET.Element:
    if shape == "point":
        look = {"color": _rgba(swatch.colour), "name": swatch.marker, "size": _POINT_MM, "size_unit": "MM"}
        look |= {"outline_color": _INK, "outline_width": "0.25", "outline_width_unit": "MM"}
        return symbol(name, "marker", "SimpleMarker", look)
    look = {"color": _rgba(swatch.colour), "style": "solid"}
    look |= {"outline_color": _HALO, "outline_width": "0.2", "outline_width_unit": "MM", "joinstyle": "round"}
    return symbol(name, "fill", "SimpleFill", look)


def symbol(name: str, kind: str, drawn_by: str, look: Mapping[str, str]) -> ET.Element:
    """A symbol of one layer, from QGIS' own names: type, class of the symbol layer and its options."""
    element = ET.Element("symbol", type=kind, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(element, "layer", {"class": drawn_by, "enabled": "1", "locked": "0", "pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in look.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
    return element


def _rgba(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"{red},{green},{blue},255"


def _repeated(looks: Sequence[tuple[str, str]], n: int) -> list[tuple[str, str]]:
    return [looks[index % len(looks)] for index in range(n)]
