"""QGIS style files: a ``map.qml`` beside ``map.tif`` is applied by QGIS when the layer is added."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree as ET

from geopov._validation import atomic_path
from geopov.maps.styles import Style

# The oldest long-term release that reads all that is written here.
QGIS_VERSION = "3.22"


def write_qml(style: Style, path: str | Path, *, band: int = 1) -> Path:
    """Write a style as a QGIS layer style: classes, labels with their unit, nodata transparent.

    Parameters
    ----------
    style : Style
        Classes and labels.
    path : path
        Of the ``.qml``; QGIS applies it by itself where only the suffix differs from the raster's name.
    band : int
        The raster band it is for.

    Returns
    -------
    Path
        ``path``.
    """
    path = Path(path)
    with atomic_path(path) as partial:
        partial.write_text(as_document(_document(style, band)), encoding="utf-8")
    return path


def as_document(root: ET.Element) -> str:
    """The text of a QGIS file with this root, with the document type that QGIS looks for."""
    ET.indent(root, space="  ")
    body = ET.tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{body}\n"


def _document(style: Style, band: int) -> ET.Element:
    root = ET.Element("qgis", version=QGIS_VERSION, styleCategories="Symbology")
    root.append(raster_pipe(style, band=band))
    ET.SubElement(root, "blendMode").text = "0"
    return root


def raster_pipe(style: Style, *, band: int = 1) -> ET.Element:
    """The element ``pipe`` that draws a raster, the same in a style file and in a project.

    Parameters
    ----------
    style : Style
        Maps of quantities become discrete classes, maps of classes a palette.
    band : int
        The raster band it is for.
    """
    pipe = ET.Element("pipe")
    pipe.append(_palette(style, band) if style.categories else _pseudocolour(style, band))
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    return pipe


def _renderer(kind: str, band: int) -> ET.Element:
    renderer = ET.Element("rasterrenderer", type=kind, band=str(band), opacity="1", alphaBand="-1", nodataColor="")
    ET.SubElement(renderer, "rasterTransparency")
    return renderer


def _palette(style: Style, band: int) -> ET.Element:
    renderer = _renderer("paletted", band)
    palette = ET.SubElement(renderer, "colorPalette")
    for code, colour, label in zip(style.categories, style.colours, style.legend, strict=True):
        ET.SubElement(palette, "paletteEntry", value=str(code), color=colour, alpha="255", label=label)
    return renderer


def _pseudocolour(style: Style, band: int) -> ET.Element:
    low, high = repr(style.low), repr(style.high)
    renderer = _renderer("singlebandpseudocolor", band)
    renderer.attrib |= {"classificationMin": low, "classificationMax": high}
    shader = ET.SubElement(ET.SubElement(renderer, "rastershader"), "colorrampshader")
    # Mode 1 is continuous in QGIS' enum of how classes were made; what is drawn is the type.
    shader.attrib |= {"colorRampType": "DISCRETE", "classificationMode": "1", "clip": "0"}
    shader.attrib |= {"minimumValue": low, "maximumValue": high}
    for upper, colour, text in zip((*style.edges, math.inf), style.colours, style.legend, strict=True):
        ET.SubElement(shader, "item", value=repr(upper), color=colour, alpha="255", label=text)
    return renderer
