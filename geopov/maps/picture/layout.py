"""Where everything stands on the page of a map: beside it where the map is tall, below it where it is wide."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.colors import to_rgba

from geopov.grid import Bounds
from geopov.maps.picture.cartography import View
from geopov.maps.picture.page import GREY, LINE, NO_DATA, UNSUPPORTED, Page, unsupported_swatch
from geopov.maps.styles import Style

# Inches. At 100 pixels an inch the page is 900 pixels wide, and its smallest letters are 10 pixels high.
PAGE_WIDTH = 9.0
_MARGIN, _GAP = 0.3, 0.3
_LEFT, _BOTTOM_TICKS = _MARGIN + 0.5, 0.3
_SIDE = 2.4
_MAX_MAP_HEIGHT = 7.5
_PANEL_BELOW, _SWATCHES_BELOW = 3.2, 2.25
# Wider maps than this have their legend below.
_WIDE = 1.3
_TEXT_LINE = 0.165


@dataclass(frozen=True)
class Layer:
    """Cells and how they are coloured.

    Attributes
    ----------
    values : array (y, x)
        NaN where there is no data.
    style : Style
        Of the values.
    unsupported : bool array (y, x), optional
        True where the model has seen nothing like the cell.
    """

    values: np.ndarray
    style: Style
    unsupported: np.ndarray | None = None

    @property
    def image(self) -> np.ndarray:
        """RGBA (y, x, 4)."""
        coloured = self.style.rgba(self.values)
        if self.unsupported is not None:
            coloured[self.unsupported] = to_rgba(UNSUPPORTED)
        return coloured

    @property
    def extra_rows(self) -> list[tuple[str, str, str]]:
        """Legend rows besides the classes: label, colour, hatch."""
        rows = []
        if self.unsupported is not None and self.unsupported.any():
            rows.append(unsupported_swatch("unlike the surveyed places"))
        if np.isnan(self.values).any():
            rows.append(("no data", NO_DATA, ""))
        return rows


@dataclass(frozen=True)
class Picture:
    """All that is drawn.

    Attributes
    ----------
    title, subtitle : str
        Above the map.
    footer : list of str
        Lines below it.
    view : View
        The ground that is shown.
    extent : Bounds
        Of the cells of both layers.
    main : Layer
        The map.
    interval : Layer, optional
        Its uncertainty.
    """

    title: str
    subtitle: str
    footer: list[str]
    view: View
    extent: Bounds
    main: Layer
    interval: Layer | None


@dataclass(frozen=True)
class Sheet:
    """The paper, in inches.

    Attributes
    ----------
    width : float
        Of the page.
    map_height : float
        That the map does not exceed.
    height : float
        Of the page at least; more where the content needs it.
    legend : {"auto", "beside", "below"}
        Where it stands; by default beside tall maps, and below wide ones and those much lower than it.
    """

    width: float = PAGE_WIDTH
    map_height: float = _MAX_MAP_HEIGHT
    height: float = 0.0
    legend: Literal["auto", "beside", "below"] = "auto"


_SCREEN = Sheet()


def compose(picture: Picture, sheet: Sheet = _SCREEN) -> Page:
    """Lay the picture out on a page as high as it needs."""
    aspect = picture.view.aspect
    height = min((sheet.width - _LEFT - _GAP - _SIDE - _MARGIN) / aspect, sheet.map_height)
    panel_width = min(_SIDE, _SIDE * aspect)
    column = _block_height(picture.main)
    if picture.interval:
        column += 0.35 + _block_height(picture.interval) + panel_width / aspect + 0.12
    # A column much longer than the map beside it would leave a hole below the map.
    below = aspect >= _WIDE or column > height + 0.6 if sheet.legend == "auto" else sheet.legend == "below"
    if below:
        return _compose_below(picture, sheet)
    return _compose_beside(picture, sheet, height, panel_width, column)


def _compose_beside(picture: Picture, sheet: Sheet, height: float, panel_width: float, column: float) -> Page:
    aspect, x = picture.view.aspect, _LEFT
    body = max(height, column)
    page, top = _page(picture, sheet, body + _BOTTOM_TICKS, map_width=height * aspect)
    _draw_map(page, x, top - height, height * aspect, picture)
    side = x + height * aspect + _GAP
    _draw_block(page, side, top, picture.main)
    if picture.interval:
        # Aligned with the foot of the map, so that the column reads as one with it.
        start = top - body + _block_height(picture.interval) + panel_width / aspect + 0.12
        y = _draw_heading(page, side, start, picture.interval.style) - panel_width / aspect
        _draw_panel(page, side, y, panel_width, picture, picture.interval)
        page.legend(side, y - 0.12, picture.interval.style, picture.interval.extra_rows)
    return page


def _compose_below(picture: Picture, sheet: Sheet) -> Page:
    aspect, x = picture.view.aspect, _LEFT
    width = min(sheet.width - x - _MARGIN, sheet.map_height * aspect)
    row = _block_height(picture.main)
    if picture.interval:
        panel = _heading_height(picture.interval.style) + _PANEL_BELOW / aspect
        row = max(row, panel + 0.08, _block_height(picture.interval))
    height = width / aspect
    page, top = _page(picture, sheet, height + _BOTTOM_TICKS + 0.1 + row, map_width=width)
    _draw_map(page, x, top - height, width, picture)
    below = top - height - _BOTTOM_TICKS - 0.1
    _draw_block(page, x, below, picture.main)
    if picture.interval:
        left = sheet.width - _MARGIN - _SWATCHES_BELOW - 0.15 - _PANEL_BELOW
        y = _draw_heading(page, left, below, picture.interval.style)
        _draw_panel(page, left, y - _PANEL_BELOW / aspect, _PANEL_BELOW, picture, picture.interval)
        swatches = left + _PANEL_BELOW + 0.15
        page.legend(swatches, y, picture.interval.style, picture.interval.extra_rows)
    return page


def _page(picture: Picture, sheet: Sheet, body: float, *, map_width: float) -> tuple[Page, float]:
    """A page with header and footer, and the y below its header."""
    wider = sheet.width / PAGE_WIDTH
    titles = textwrap.wrap(picture.title, int(62 * wider))
    subtitles = textwrap.wrap(picture.subtitle, int(80 * wider))
    footer = [line for text in picture.footer for line in textwrap.wrap(text, int(122 * wider))]
    header = 0.22 + 0.27 * len(titles) + 0.2 * len(subtitles) + 0.16
    foot = 0.16 + _TEXT_LINE * len(footer) + 0.12
    page = Page(sheet.width, max(header + body + foot, sheet.height))
    y = page.height - 0.16
    for line in titles:
        y -= 0.27
        page.text(_MARGIN, y, line, size=15, weight="bold")
    for line in subtitles:
        y -= 0.22
        page.text(_MARGIN, y, line, size=9.5, colour=GREY)
    page.scale_bar(sheet.width - _MARGIN, y - 0.02, picture.view, map_width, 1.3)
    page.rule(foot - 0.06, _MARGIN, sheet.width - _MARGIN)
    for number, line in enumerate(footer, start=1):
        page.text(_MARGIN, foot - 0.08 - _TEXT_LINE * number, line, size=8, colour=GREY)
    return page, page.height - header


def _draw_map(page: Page, x: float, y: float, width: float, picture: Picture) -> None:
    axes = page.map(x, y, width, picture.view, picture.main.image, picture.extent)
    page.graticule(axes, picture.view)


def _draw_panel(page: Page, x: float, y: float, width: float, picture: Picture, layer: Layer) -> None:
    axes = page.map(x, y, width, picture.view, layer.image, picture.extent)
    if layer.unsupported is not None and layer.unsupported.any():
        page.hatch(axes, layer.unsupported, picture.extent)


def _heading_lines(style: Style) -> list[str]:
    words = f"How sure: {style.unit}" if style.name == "interval" else style.unit or style.title
    return textwrap.wrap(words[:1].upper() + words[1:], 32)


def _heading_height(style: Style) -> float:
    return _TEXT_LINE * len(_heading_lines(style)) + 0.08


def _draw_heading(page: Page, x: float, top: float, style: Style) -> float:
    """The unit, bold, above a legend; return the y below it."""
    for number, line in enumerate(_heading_lines(style), start=1):
        page.text(x, top - _TEXT_LINE * number + 0.03, line, size=9, weight="bold")
    return top - _heading_height(style)


def _block_height(layer: Layer) -> float:
    """Height of heading and legend."""
    rows = len(layer.style.labels) + len(layer.extra_rows)
    return _heading_height(layer.style) + LINE * rows + (0.06 if layer.extra_rows else 0.0)


def _draw_block(page: Page, x: float, top: float, layer: Layer) -> None:
    page.legend(x, _draw_heading(page, x, top, layer.style), layer.style, layer.extra_rows)
