"""QGIS style files: a ``map.qml`` beside ``map.tif`` is applied by QGIS when the layer is added."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree as ET

from geopov._validation import atomic_path
from geopov.maps.styles import Style

# The oldest long-term release that reads all that is written here.
_QGIS_VERSION = "3.22"


def write_qml(style: Style, path: str | Path, *, band: int = 1) -> Path:
    """Write a style as a QGIS layer style: discrete classes, labels with their unit, nodata transparent.

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
    root = _document(style, band)
    ET.indent(root, space="  ")
    body = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(root, encoding="unicode")
    with atomic_path(path) as partial:
        partial.write_text(body + "\n", encoding="utf-8")
    return path


def _document(style: Style, band: int) -> ET.Element:
    low, high = repr(style.low), repr(style.high)
    root = ET.Element("qgis", version=_QGIS_VERSION, styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band=str(band),
        opacity="1",
        alphaBand="-1",
        nodataColor="",
        classificationMin=low,
        classificationMax=high,
    )
    ET.SubElement(renderer, "rasterTransparency")
    shader = ET.SubElement(ET.SubElement(renderer, "rastershader"), "colorrampshader")
    # Mode 1 is continuous in QGIS' enum of how classes were made; what is drawn is the type.
    shader.attrib |= {"colorRampType": "DISCRETE", "classificationMode": "1", "clip": "0"}
    shader.attrib |= {"minimumValue": low, "maximumValue": high}
    for upper, colour, label in zip((*style.edges, math.inf), style.colours, style.labels, strict=True):
        text = f"{label} {style.unit}".strip()
        ET.SubElement(shader, "item", value=repr(upper), color=colour, alpha="255", label=text)
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.SubElement(root, "blendMode").text = "0"
    return root
