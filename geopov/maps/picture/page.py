"""A page laid out in inches: texts, legends, a scale bar and maps, each at a place of its own so that none overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle

from geopov.grid import Bounds
from geopov.maps.picture.cartography import GridLine, View, format_degrees, format_length, graticule, round_length
from geopov.maps.styles import Style

INK, GREY, NO_DATA, UNSUPPORTED = "#1a1a1a", "#5f5f5f", "#e9e9e9", "#b5b5b5"
LINE = 0.2
"""Height of one legend row, inches."""
_SWATCH = 0.3
_HATCH = "//////"


class Page:
    """A white page; positions are inches from the lower left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor="white")

    def text(self, x: float, y: float, text: str, *, size: float = 9, colour: str = INK, **options: Any) -> None:
        """Text with its baseline (or as ``va`` says) at x, y."""
        options = {"va": "baseline", "ha": "left"} | options
        self.figure.text(x / self.width, y / self.height, text, fontsize=size, color=colour, **options)

    def legend(self, x: float, top: float, style: Style, extra: list[tuple[str, str, str]]) -> float:
        """Draw the classes of a style, highest first, then ``extra`` (label, colour, hatch); return the lower end."""
        rows = [(label, colour, "") for label, colour in zip(style.labels, style.colours, strict=True)][::-1]
        y = top
        for position, (label, colour, hatch) in enumerate([*rows, *extra]):
            if position == len(rows):
                y -= 0.06
            y -= LINE
            self._add(Rectangle((x, y), _SWATCH, LINE, facecolor=colour, edgecolor="none"))
            if hatch:
                self._add(Rectangle((x, y), _SWATCH, LINE, facecolor="none", edgecolor=GREY, linewidth=0, hatch=hatch))
            self.text(x + _SWATCH + 0.09, y + LINE / 2, label, va="center_baseline")
        return y

    def scale_bar(self, right: float, y: float, view: View, map_width: float, longest: float) -> None:
        """A bar of a round length and a north arrow, ending at ``right``, for a view drawn ``map_width`` wide."""
        per_metre = map_width / view.metres_wide
        metres = round_length(longest / per_metre)
        length = metres * per_metre
        x = right - 0.4 - length
        for part, colour in enumerate((INK, "white")):
            bar = Rectangle(
                (x + part * length / 2, y), length / 2, 0.055, facecolor=colour, edgecolor=INK, linewidth=0.7
            )
            self._add(bar)
        at = f" at {format_degrees(round(view.lonlat_centre[1], 1), 'N', 'S')}" if view.scale_varies else ""
        self.text(x + length, y + 0.11, format_length(metres) + at, size=8, ha="right")
        self._north_arrow(right - 0.1, y + 0.12, view.north)

    def _north_arrow(self, x: float, y: float, degrees: float) -> None:
        shape = np.array([[0, 0.17], [0.075, -0.12], [0, -0.06], [-0.075, -0.12]])
        angle = math.radians(-degrees)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        self._add(Polygon(shape @ turn.T + [x, y], facecolor=INK, edgecolor="none"))
        letter = turn @ np.array([0, 0.25])
        self.text(x + letter[0], y + letter[1], "N", size=8, ha="center", va="center")

    def map(self, x: float, y: float, width: float, view: View, image: np.ndarray, extent: Bounds) -> Axes:
        """A framed map of RGBA cells ``image`` covering ``extent``; nodata shows the paper's grey."""
        height = width / view.aspect
        box = (x / self.width, y / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor=NO_DATA, xticks=[], yticks=[])
        west, south, east, north = extent
        # Not "nearest", which a PDF would hold resampled to the figure's dots.
        axes.imshow(image, extent=(west, east, south, north), aspect="auto", interpolation="none", origin="upper")
        axes.set_xlim(view.bounds[0], view.bounds[2])
        axes.set_ylim(view.bounds[1], view.bounds[3])
        for spine in axes.spines.values():
            spine.set(color="#8c8c8c", linewidth=0.6)
        return axes

    def hatch(self, axes: Axes, where: np.ndarray, extent: Bounds) -> None:
        """Hatch the cells (y, x) that are True."""
        west, south, east, north = extent
        # A rim of False closes outlines, and lets a single row or column be hatched too.
        rows, columns = where.shape
        xs = west + (np.arange(-1, columns + 1) + 0.5) * (east - west) / columns
        ys = north - (np.arange(-1, rows + 1) + 0.5) * (north - south) / rows
        axes.contourf(xs, ys, np.pad(where.astype(float), 1), levels=[0.5, 1.5], colors="none", hatches=[_HATCH])

    def graticule(self, axes: Axes, view: View) -> None:
        """Faint lines of longitude and latitude, labelled where they leave the map at the bottom and on the left."""
        west, south, east, north = view.bounds
        meridians, parallels = graticule(view)
        for line in (*meridians, *parallels):
            axes.plot(line.x, line.y, color="#404040", linewidth=0.4, alpha=0.35)
        axes.set_xticks(*_crossings(meridians, south, west, east, along="x"), fontsize=7.5, color=GREY)
        axes.set_yticks(*_crossings(parallels, west, south, north, along="y"), fontsize=7.5, color=GREY)
        axes.tick_params(length=2.5, width=0.5, color="#8c8c8c", pad=2)
        axes.set_xlim(west, east)
        axes.set_ylim(south, north)

    def rule(self, y: float, left: float, right: float) -> None:
        """A thin horizontal line."""
        self._add(Line2D([left, right], [y, y], color="#c4c4c4", linewidth=0.6))

    def _add(self, artist: Any) -> None:
        artist.set_transform(self.figure.dpi_scale_trans)
        self.figure.add_artist(artist)


def unsupported_swatch(label: str) -> tuple[str, str, str]:
    """The legend row of hatched cells."""
    return label, UNSUPPORTED, _HATCH


def _crossings(
    lines: list[GridLine], edge: float, low: float, high: float, *, along: str
) -> tuple[list[float], list[str]]:
    """Where lines cross the edge of a map, and their labels."""
    places, labels = [], []
    for line in lines:
        run, across = (line.x, line.y) if along == "x" else (line.y, line.x)
        order = np.argsort(across)
        place = float(np.interp(edge, across[order], run[order], left=math.nan, right=math.nan))
        if low <= place <= high:
            places.append(place)
            labels.append(line.label)
    return places, labels
