"""The parts of a QGIS project as its XML: coordinate systems, layers, and the tree they hang in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from pyproj import CRS

from geopov.grid import Bounds
from geopov.maps.qgis.qml import raster_pipe
from geopov.maps.qgis.vector_qml import VectorStyle, vector_renderer
from geopov.maps.styles import Style


@dataclass(frozen=True)
class MapLayer:
    """A layer of a project.

    Attributes
    ----------
    title : str
        As the tree of layers shows it.
    group : str
        The group it hangs in.
    source : str
        Relative to the project, with ``|layername=`` for a layer of a GeoPackage.
    crs : CRS
        Of ``bounds``.
    bounds : Bounds
        Of the source.
    shown : Bounds
        Of its cells that have data, or of its features.
    style : Style or VectorStyle
        Of a raster or of features.
    band : int
        The raster band that is shown.
    visible : bool
        Whether it is ticked.
    """

    title: str
    group: str
    source: str
    crs: CRS
    bounds: Bounds
    shown: Bounds
    style: Style | VectorStyle
    band: int = 1
    visible: bool = False

    @property
    def id(self) -> str:
        """Unique in the project, and the same whenever the project is written again."""
        digest = hashlib.sha256(f"{self.group}|{self.source}|{self.band}|{self.title}".encode()).hexdigest()[:12]
        return re.sub(r"\W+", "_", self.title, flags=re.ASCII).strip("_") + "_" + digest

    @property
    def provider(self) -> str:
        """QGIS' name for what reads it."""
        return "gdal" if isinstance(self.style, Style) else "ogr"

    @property
    def first_class_node(self) -> int:
        """Number of the first class among the nodes of its legend: those of rasters begin with the band's name."""
        return 1 if isinstance(self.style, Style) else 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the classes, without the unit."""
        if isinstance(self.style, Style):
            return self.style.labels
        return tuple(swatch.label for swatch in self.style.swatches)


def reference_system(crs: CRS) -> ET.Element:
    """The element ``spatialrefsys``; QGIS finds the CRS by its authority's code, or else by its WKT."""
    element = ET.Element("spatialrefsys")
    authority = crs.to_authority()
    ET.SubElement(element, "wkt").text = crs.to_wkt("WKT2_2019")
    if authority:
        ET.SubElement(element, "authid").text = ":".join(authority)
    ET.SubElement(element, "description").text = crs.name
    ET.SubElement(element, "geographicflag").text = str(crs.is_geographic).lower()
    return element


def extent_element(bounds: Bounds) -> ET.Element:
    """Bounds as an element with one child a side."""
    element = ET.Element("extent")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True):
        ET.SubElement(element, name).text = repr(float(value))
    return element


def extent_attributes(bounds: Bounds) -> dict[str, str]:
    """Bounds as attributes."""
    return {name: repr(float(value)) for name, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True)}


def layer_element(layer: MapLayer) -> ET.Element:
    """The element ``maplayer`` with its source, CRS and style."""
    kind = "raster" if isinstance(layer.style, Style) else "vector"
    element = ET.Element("maplayer", type=kind, styleCategories="AllStyleCategories")
    element.append(extent_element(layer.bounds))
    for name, text in (("id", layer.id), ("datasource", layer.source), ("layername", layer.title)):
        ET.SubElement(element, name).text = text
    ET.SubElement(element, "srs").append(reference_system(layer.crs))
    provider = ET.SubElement(element, "provider")
    provider.text = layer.provider
    if isinstance(layer.style, Style):
        element.append(raster_pipe(layer.style, band=layer.band))
    else:
        geometry = layer.style.shape.capitalize()
        element.attrib |= {"geometry": geometry, "wkbType": geometry, "labelsEnabled": "0"}
        provider.set("encoding", "UTF-8")
        element.append(vector_renderer(layer.style))
    ET.SubElement(element, "blendMode").text = "0"
    return element


def tree_layer(layer: MapLayer, properties: Mapping[str, str] | None = None) -> ET.Element:
    """A leaf of a tree of layers: of the project, or of a legend with words of its own in ``properties``."""
    leaf = ET.Element("layer-tree-layer", id=layer.id, name=layer.title, source=layer.source)
    leaf.attrib |= {"providerKey": layer.provider, "checked": _checked(layer.visible)}
    leaf.set("expanded", "1" if layer.visible else "0")
    if properties:
        options = ET.SubElement(ET.SubElement(leaf, "customproperties"), "Option", type="Map")
        for name, value in properties.items():
            ET.SubElement(options, "Option", name=name, type="QString", value=value)
    return leaf


def tree(layers: Sequence[MapLayer], *, hidden: Sequence[str] = (), exclusive: Sequence[str] = ()) -> ET.Element:
    """The project's tree: groups in the order in which their first layers stand, the uppermost drawn last.

    Parameters
    ----------
    layers : sequence of MapLayer
        From the uppermost down.
    hidden : sequence of str
        Groups that are not ticked.
    exclusive : sequence of str
        Groups of which one layer at a time is shown.
    """
    root = ET.Element("layer-tree-group")
    for group in dict.fromkeys(layer.group for layer in layers):
        members = [layer for layer in layers if layer.group == group]
        branch = ET.SubElement(root, "layer-tree-group", name=group, expanded=str(int(group not in hidden)))
        branch.set("checked", _checked(group not in hidden))
        if group in exclusive:
            shown = next((index for index, layer in enumerate(members) if layer.visible), -1)
            branch.attrib |= {"mutually-exclusive": "1", "mutually-exclusive-child": str(shown)}
        branch.extend(tree_layer(layer) for layer in members)
    return root


def _checked(on: bool) -> str:
    return "Qt::Checked" if on else "Qt::Unchecked"
