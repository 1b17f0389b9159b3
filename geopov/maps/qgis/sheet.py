"""The print layout of a QGIS project: one A4 page with map, title, legend, scale bar, north arrow and source."""

from __future__ import annotations

import base64
import textwrap
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from geopov.maps.picture.cartography import View, round_length
from geopov.maps.qgis.vector_qml import symbol
from geopov.maps.qgis.xml import MapLayer, extent_attributes, tree_layer
from geopov.maps.styles import Style

# Millimetres on paper; text sizes are in points.
_LONG, _SHORT = 297.0, 210.0
_MARGIN, _GAP = 12.0, 6.0
_TITLE_LINE, _FOOT_LINE = 8.0, 4.2
_TITLE_CHAR, _FOOT_CHAR = 3.7, 1.7
_SIDE, _NORTH, _SCALE = 62.0, 14.0, 13.0
_HEADING_LINE, _CLASS_LINE, _LAYER_GAP = 4.2, 5.6, 5.0
_HEADING_CHARS, _UNIT_CHARS = 30, 32
# With its label the bar is a third longer than its two segments.
_LONGEST_SEGMENT, _SCALE_LENGTH = 20.0, 50.0
# QGIS' numbers for the kinds of items on a page.
_PAGE, _MAP, _PICTURE, _LABEL, _LEGEND, _SCALE_BAR = "65638", "65639", "65640", "65641", "65642", "65646"
_FONT = "DejaVu Sans"
_TRUE_NORTH = "1"
_BREAK = "|"
_ARROW = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 60"><path d="M20 18 33 58 20 48 7 58z" fill="#1a1a1a"/>'
    '<text x="20" y="14" font-family="DejaVu Sans" font-size="16" text-anchor="middle" fill="#1a1a1a">N</text></svg>'
)

Box = tuple[float, float, float, float]
"""x, y, width, height in mm from the upper left corner of the page."""


@dataclass(frozen=True)
class Sheet:
    """Where things stand on a page of ``size``, each a :data:`Box`, and the lines of its texts."""

    size: tuple[float, float]
    title: Box
    map: Box
    legend: Box
    north: Box
    scale: Box
    foot: Box
    legend_columns: int
    title_lines: list[str]
    foot_lines: list[str]


def plan_sheet(aspect: float, *, title: str, foot: Sequence[str], legend_heights: Sequence[float]) -> Sheet:
    """The A4 page on which a map becomes largest, its frame filled by the map.

    Upright or on its side, with the legend beside the map or below it.

    Parameters
    ----------
    aspect : float
        Width over height of the map.
    title, foot : str, sequence of str
        Wrapped to the width of the page.
    legend_heights : sequence of float
        Millimetres that each layer's legend takes.
    """
    pages = [(*size, below) for size in ((_SHORT, _LONG), (_LONG, _SHORT)) for below in (False, True)]
    sheets = [_arrange(aspect, size, below, title, foot, legend_heights) for *size, below in pages]
    return max(sheets, key=lambda sheet: (_legend_fits(sheet), sheet.map[2]))


def _legend_fits(sheet: Sheet) -> bool:
    x, y, width, height = sheet.legend
    return x + width <= sheet.north[0] or y + height <= sheet.north[1]


def _arrange(
    aspect: float, size: Sequence[float], below: bool, title: str, foot: Sequence[str], heights: Sequence[float]
) -> Sheet:
    width, height = size
    across = width - 2 * _MARGIN
    titles = textwrap.wrap(title, int(across / _TITLE_CHAR))
    lines = [line for text in foot for line in textwrap.wrap(text, int(across / _FOOT_CHAR))]
    head, base = _TITLE_LINE * len(titles) + 4, _FOOT_LINE * len(lines) + 3
    signs = _NORTH + 3 + _SCALE
    block = max([*heights, signs]) if below else sum(heights) + _GAP + signs
    free_x = across - (0 if below else _SIDE + _GAP)
    free_y = height - 2 * _MARGIN - head - base - (block + _GAP if below else 0)
    map_width = min(free_x, free_y * aspect)
    map_box = (_MARGIN, _MARGIN + head, map_width, map_width / aspect)
    map_end = map_box[1] + map_box[3]
    if below:
        legend = (_MARGIN, map_end + _GAP, len(heights) * _SIDE, max(heights))
        column = max(_MARGIN + map_width - _SCALE_LENGTH, legend[0] + legend[2] + _GAP)
    else:
        column = _MARGIN + map_width + _GAP
        legend = (column, map_box[1], _SIDE, sum(heights))
    top = legend[1]
    # The column ends where the map does, unless the legend needs more room than a low map leaves it.
    end = top + block if below else min(height - _MARGIN - base, max(map_end, top + block))
    return Sheet(
        size=(width, height),
        title=(_MARGIN, _MARGIN, across, _TITLE_LINE * len(titles)),
        map=map_box,
        legend=legend,
        north=(column, end - signs, _NORTH, _NORTH),
        scale=(column, end - _SCALE, _SCALE_LENGTH, _SCALE),
        foot=(_MARGIN, end + 3, across, base),
        legend_columns=len(heights) if below else 1,
        title_lines=titles,
        foot_lines=lines,
    )


def layout_element(
    name: str, *, title: str, view: View, layers: Sequence[MapLayer], explained: Sequence[MapLayer], foot: Sequence[str]
) -> ET.Element:
    """The element ``Layout``.

    Parameters
    ----------
    name : str
        Of the layout; unique in the project.
    title : str
        On the page.
    view : View
        The ground that is shown.
    layers : sequence of MapLayer
        On the map, from the uppermost down, whatever is ticked in the project.
    explained : sequence of MapLayer
        In the legend.
    foot : sequence of str
        Source, date and projection.
    """
    heights = [_HEADING_LINE * len(_heading(one)) + _CLASS_LINE * len(one.labels) + _LAYER_GAP for one in explained]
    sheet = plan_sheet(view.aspect, title=title, foot=foot, legend_heights=heights)
    layout = ET.Element("Layout", name=name, units="mm", printResolution="300")
    pages = ET.SubElement(layout, "PageCollection")
    pages.append(_paper())
    page = _item(name, "page", _PAGE, (0, 0, *sheet.size), background=True)
    page.append(_paper())
    pages.append(page)
    map_item = _map(name, sheet.map, view, layers)
    layout.append(map_item)
    map_id = map_item.attrib["uuid"]
    layout.append(_label(name, "title", sheet.title, "\n".join(sheet.title_lines), points=16, bold=True))
    layout.append(_legend(name, sheet, map_id, explained))
    layout.append(_north(name, sheet.north, map_id))
    layout.append(_scale_bar(name, sheet.scale, map_id, view.metres_wide / sheet.map[2]))
    layout.append(_label(name, "source", sheet.foot, "\n".join(sheet.foot_lines), points=8, bold=False))
    return layout


def _item(layout: str, role: str, kind: str, box: Box, *, background: bool = False, frame: bool = False) -> ET.Element:
    x, y, width, height = box
    place, size = f"{x:.4f},{y:.4f},mm", f"{width:.4f},{height:.4f},mm"
    name = "{" + str(uuid.uuid5(uuid.NAMESPACE_URL, f"geopov/{layout}/{role}")) + "}"
    item = ET.Element("LayoutItem", type=kind, uuid=name, templateUuid=name, id=role, visibility="1")
    item.attrib |= {"position": place, "positionOnPage": place, "size": size, "referencePoint": "0", "opacity": "1"}
    item.attrib |= {"background": str(background).lower(), "frame": str(frame).lower(), "outlineWidthM": "0.25,mm"}
    ET.SubElement(item, "FrameColor", red="95", green="95", blue="95", alpha="255")
    ET.SubElement(item, "BackgroundColor", red="255", green="255", blue="255", alpha="255")
    return item


def _paper() -> ET.Element:
    return symbol("", "fill", "SimpleFill", {"color": "255,255,255,255", "style": "solid", "outline_style": "no"})


def _map(layout: str, box: Box, view: View, layers: Sequence[MapLayer]) -> ET.Element:
    item = _item(layout, "map", _MAP, box, background=True, frame=True)
    # The page says what its legend explains, so it does not change with what is ticked in the project.
    item.attrib |= {"keepLayerSet": "true", "followPreset": "false", "mapRotation": "0", "drawCanvasItems": "true"}
    ET.SubElement(item, "Extent", extent_attributes(view.bounds))
    shown = ET.SubElement(item, "LayerSet")
    for layer in layers:
        ET.SubElement(shown, "Layer", provider=layer.provider, name=layer.title, source=layer.source).text = layer.id
    return item


def _label(layout: str, role: str, box: Box, text: str, *, points: int, bold: bool) -> ET.Element:
    item = _item(layout, role, _LABEL, box)
    item.attrib |= {"labelText": text, "htmlState": "0", "halign": "1", "valign": "32", "marginX": "0", "marginY": "0"}
    ET.SubElement(item, "LabelFont", description=_font(points, bold=bold), style="")
    ET.SubElement(item, "FontColor", red="26", green="26", blue="26", alpha="255")
    return item


def _legend(layout: str, sheet: Sheet, map_id: str, explained: Sequence[MapLayer]) -> ET.Element:
    item = _item(layout, "legend", _LEGEND, sheet.legend)
    item.attrib |= {"map_uuid": map_id, "title": "", "resizeToContents": "1", "wrapChar": _BREAK, "boxSpace": "0"}
    item.attrib |= {"columnCount": str(sheet.legend_columns), "columnSpace": "8", "symbolWidth": "7"}
    item.attrib |= {"symbolHeight": "4", "lineSpacing": "1", "rasterBorder": "0", "fontColor": "#1a1a1a"}
    styles = ET.SubElement(item, "styles")
    for name, points, bold, space in (
        ("title", 11, True, 2.0),
        ("group", 10, True, 3.0),
        ("subgroup", 9, True, 4.0),
        ("symbol", 9, False, 1.2),
        ("symbolLabel", 9, False, 2.0),
    ):
        style = ET.SubElement(styles, "style", name=name, alignment="1", indent="0", marginTop=repr(space))
        style.set("marginLeft", "2" if name == "symbolLabel" else "0")
        ET.SubElement(style, "styleFont", description=_font(points, bold=bold), style="")
    root = ET.SubElement(item, "layer-tree-group")
    root.extend(tree_layer(layer, _words(layer)) for layer in explained)
    return item


def _heading(layer: MapLayer) -> list[str]:
    style = layer.style
    name = style.title if isinstance(style, Style) and style.title else layer.title
    return textwrap.wrap(name, _HEADING_CHARS) + textwrap.wrap(style.unit, _UNIT_CHARS)


def _words(layer: MapLayer) -> dict[str, str]:
    """The legend's own words: the unit once, in the heading, and only numbers beside the colours."""
    first = layer.first_class_node
    order = ",".join(str(first + index) for index in range(len(layer.labels)))
    heading = _BREAK.join(_heading(layer))
    words = {"cached_name": layer.title, "legend/title-label": heading, "legend/node-order": order}
    return words | {f"legend/label-{first + index}": label for index, label in enumerate(layer.labels)}


def _north(layout: str, box: Box, map_id: str) -> ET.Element:
    item = _item(layout, "north arrow", _PICTURE, box)
    # Inside the project, since a path into QGIS' own pictures differs between systems.
    item.attrib |= {"file": "base64:" + base64.b64encode(_ARROW.encode()).decode(), "mode": "0", "resizeMode": "0"}
    item.attrib |= {"mapUuid": map_id, "northMode": _TRUE_NORTH, "northOffset": "0", "pictureRotation": "0"}
    item.attrib |= {"anchorPoint": "0", "pictureWidth": "0", "pictureHeight": "0"}
    return item


def _scale_bar(layout: str, box: Box, map_id: str, metres_per_mm: float) -> ET.Element:
    item = _item(layout, "scale bar", _SCALE_BAR, box)
    segment = round_length(_LONGEST_SEGMENT * metres_per_mm)
    unit, divisor = ("km", 1000.0) if segment >= 500 else ("m", 1.0)
    item.attrib |= {"mapUuid": map_id, "style": "Single Box", "unitLabel": unit, "numMapUnitsPerScaleBarUnit": "1"}
    item.attrib |= {"unitType": "km" if unit == "km" else "meters", "numUnitsPerSegment": repr(segment / divisor)}
    item.attrib |= {"numSegments": "2", "numSegmentsLeft": "0", "segmentSizeMode": "0", "height": "2"}
    item.attrib |= {"labelBarSpace": "1.5", "boxContentSpace": "0", "outlineWidth": "0.25", "alignment": "0"}
    ET.SubElement(item, "text-style", fontFamily=_FONT, fontSize="8", fontSizeUnit="Point", textColor="26,26,26,255")
    line = {"line_color": "26,26,26,255", "line_width": "0.25", "line_width_unit": "MM"}
    for tag in ("lineSymbol", "divisionLineSymbol", "subdivisionLineSymbol"):
        ET.SubElement(item, tag).append(symbol("", "line", "SimpleLine", line))
    for tag, colour in (("fillSymbol1", "26,26,26,255"), ("fillSymbol2", "255,255,255,255")):
        fill = {"color": colour, "style": "solid", "outline_style": "no"}
        ET.SubElement(item, tag).append(symbol("", "fill", "SimpleFill", fill))
    return item


def _font(points: int, *, bold: bool) -> str:
    return f"{_FONT},{points},-1,5,{75 if bold else 50},0,0,0,0,0"
