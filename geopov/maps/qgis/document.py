"""A whole QGIS project as its XML: the tree of layers, the view it opens with, its metadata and a page for each map."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from pyproj import CRS

from geopov.grid import Bounds
from geopov.maps.picture.cartography import View
from geopov.maps.qgis.qml import QGIS_VERSION
from geopov.maps.qgis.sheet import layout_element
from geopov.maps.qgis.xml import (
    MapLayer,
    extent_attributes,
    extent_element,
    layer_element,
    reference_system,
    tree,
)

GROUPS = ("Survey", "Admin", "Uncertainty", "Maps")
"""From the uppermost down: points are drawn over polygons, and those over cells."""
# When all is on, polygons and a second raster would hide the map, so they are ticked when they are wanted.
_HIDDEN, _EXCLUSIVE = ("Admin", "Uncertainty"), ("Admin", "Uncertainty", "Maps")
_RIM = 0.02
_WGS84 = "EPSG:7030"


def project_document(title: str, layers: Sequence[MapLayer], *, source: str, date: str) -> ET.Element:
    """The element ``qgis`` of a project.

    Parameters
    ----------
    title : str
        Of the project and its pages.
    layers : sequence of MapLayer
        From the uppermost down; the visible one of the group Maps gives CRS and extent.
    source, date : str
        For metadata and the foot of the pages.
    """
    first = next(layer for layer in layers if layer.group == "Maps" and layer.visible)
    view = _with_rim(first.shown)
    root = ET.Element("qgis", version=QGIS_VERSION, projectname=title)
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "projectCrs").append(reference_system(first.crs))
    root.append(tree(layers, hidden=_HIDDEN, exclusive=_EXCLUSIVE))
    root.append(_canvas(first.crs, view))
    ET.SubElement(root, "projectlayers").extend(layer_element(layer) for layer in layers)
    order = ET.SubElement(root, "layerorder")
    for layer in layers:
        ET.SubElement(order, "layer", id=layer.id)
    root.append(_properties(first.crs))
    root.append(_metadata(title, source, date))
    pages = ET.SubElement(root, "Layouts")
    said = " · ".join(part for part in (f"Source: {source}" if source else "", date) if part)
    pages.extend(_page(layer, title, layers, said) for layer in layers if layer.group == "Maps")
    settings = ET.SubElement(root, "ProjectViewSettings", rotation="0", UseProjectScales="0")
    ET.SubElement(settings, "DefaultViewExtent", extent_attributes(view)).append(reference_system(first.crs))
    return root


def _canvas(crs: CRS, view: Bounds) -> ET.Element:
    canvas = ET.Element("mapcanvas", name="theMapCanvas", annotationsVisible="1")
    ET.SubElement(canvas, "units").text = "degrees" if crs.is_geographic else "meters"
    canvas.append(extent_element(view))
    ET.SubElement(canvas, "rotation").text = "0"
    ET.SubElement(canvas, "destinationsrs").append(reference_system(crs))
    return canvas


def _page(layer: MapLayer, title: str, layers: Sequence[MapLayer], said: str) -> ET.Element:
    """A layout with one map; over the one that the project opens with lies what it shows of the survey."""
    points = [other for other in layers if other.group == "Survey" and other.visible] if layer.visible else []
    drawn = [*points, layer]
    authority = layer.crs.to_authority()
    projection = f"Projection: {layer.crs.name}" + (f" ({':'.join(authority)})" if authority else "")
    return layout_element(
        layer.title,
        title=title if layer.visible else layer.title,
        view=View(layer.crs, _with_rim(layer.shown)),
        layers=drawn,
        explained=drawn[::-1],
        foot=[line for line in (said, f"{projection} · made with geopov") if line],
    )


def _properties(crs: CRS) -> ET.Element:
    element = ET.Element("properties")
    ET.SubElement(ET.SubElement(element, "Paths"), "Absolute", type="bool").text = "false"
    ET.SubElement(ET.SubElement(element, "SpatialRefSys"), "ProjectionsEnabled", type="int").text = "1"
    # Lengths and the scale bar are measured on the ellipsoid, not in the stretched metres of a projection.
    named = crs.ellipsoid.to_json_dict().get("id") if crs.ellipsoid else None
    ellipsoid = ET.SubElement(ET.SubElement(element, "Measure"), "Ellipsoid", type="QString")
    ellipsoid.text = f"{named['authority']}:{named['code']}" if named else _WGS84
    return element


def _metadata(title: str, source: str, date: str) -> ET.Element:
    metadata = ET.Element("projectMetadata")
    ET.SubElement(metadata, "type").text = "dataset"
    ET.SubElement(metadata, "title").text = title
    ET.SubElement(metadata, "abstract").text = " · ".join(part for part in (source, date) if part)
    ET.SubElement(metadata, "author").text = "geopov"
    return metadata


def _with_rim(bounds: Bounds) -> Bounds:
    west, south, east, north = bounds
    rim = _RIM * max(east - west, north - south)
    return west - rim, south - rim, east + rim, north + rim
