"""Clusters drawn in characters, for a terminal."""

from __future__ import annotations

import geopandas as gpd
import numpy as np

from geopov._validation import check_points
from geopov.errors import SurveyError
from geopov.survey.describe.view import GEOD, Bounds, degrees, shape_of, view_of

# Each ranks a cell's count: few, more, many. All are one column wide in a terminal.
_RURAL, _URBAN = "·•●", "▫▪■"
# A character is about twice as tall as wide.
_CELL_ASPECT = 2.0
_MOST_LINES = 34
_NARROWEST = 40


def text_map(points: gpd.GeoDataFrame, *, width: int = 72) -> str:
    """Where the points lie, drawn in characters: the larger the symbol, the more points in its cell.

    Cells most of whose points are urban have squares, the others dots.

    Parameters
    ----------
    points : GeoDataFrame
        As :func:`geopov.survey.read_clusters` returns them; with or without ``urban``.
    width : int
        Columns of the terminal to use, 40 at least.

    Returns
    -------
    str
        Lines of at most ``width`` characters, without a newline at the end.

    Raises
    ------
    SurveyError
        If there is no point, one cannot be placed, or ``width`` is too small.
    """
    if width < _NARROWEST:
        raise SurveyError(f"width is {width}; expected {_NARROWEST} columns or more.")
    points = check_points(points, error=SurveyError)
    west, south, east, north = bounds = view_of(points, margin=0.02)
    gutter = max(len(degrees(value, "N", "S", bounds)) for value in (south, north)) + 1
    ratio = shape_of(bounds) / _CELL_ASPECT
    columns = width - gutter - 2
    rows = max(1, round(columns * ratio))
    if rows > _MOST_LINES:
        rows, columns = _MOST_LINES, max(12, round(_MOST_LINES / ratio))
    column = np.clip(((points.geometry.x - west) / (east - west) * columns).astype(int), 0, columns - 1)
    row = np.clip(((north - points.geometry.y) / (north - south) * rows).astype(int), 0, rows - 1)
    count = np.zeros((rows, columns), dtype=int)
    np.add.at(count, (row, column), 1)
    towns = np.zeros((rows, columns), dtype=int)
    if "urban" in points:
        np.add.at(towns, (row[points["urban"]], column[points["urban"]]), 1)
    limits = _limits(int(count.max()))
    grid = [
        "".join(_symbol(n, 2 * t > n, limits) for n, t in zip(*line, strict=True))
        for line in zip(count, towns, strict=True)
    ]
    labels = {0: degrees(north, "N", "S", bounds), rows - 1: degrees(south, "N", "S", bounds)}
    body = [f"{labels.get(number, ''):>{gutter - 1}} │{line}│" for number, line in enumerate(grid)]
    pad = " " * gutter
    left, right = degrees(west, "E", "W", bounds), degrees(east, "E", "W", bounds)
    under = f"{pad}{left}{' ' * max(1, columns + 2 - len(left) - len(right))}{right}"
    frame = [f"{pad}┌{'─' * columns}┐", *body, f"{pad}└{'─' * columns}┘", under]
    return "\n".join(line.rstrip() for line in [*frame, *_legend(points, limits, bounds, columns)])


def _limits(most: int) -> tuple[int, int]:
    """Up to how many points a cell has the first symbol, and the second: equal ratios up to the fullest cell."""
    first = max(1, round(most ** (1 / 3)))
    return first, max(first + 1, round(most ** (2 / 3)))


def _symbol(n: int, urban: bool, limits: tuple[int, int]) -> str:
    if n == 0:
        return " "
    rank = 0 if n <= limits[0] else 1 if n <= limits[1] else 2
    return (_URBAN if urban else _RURAL)[rank]


def _legend(points: gpd.GeoDataFrame, limits: tuple[int, int], bounds: Bounds, columns: int) -> list[str]:
    first, second = limits
    few = "1" if first == 1 else f"1-{first}"
    more = f"{second}" if second == first + 1 else f"{first + 1}-{second}"
    kinds = {"clusters": (_RURAL, len(points))}
    if "urban" in points:
        urban = int(points["urban"].sum())
        kinds = {"rural": (_RURAL, len(points) - urban), "urban": (_URBAN, urban)}
    west, south, east, north = bounds
    width_km = GEOD.line_length([west, east], [(south + north) / 2] * 2) / 1000
    lines = [
        f"{name} {n:,}:  {few} {symbols[0]}   {more} {symbols[1]}   over {second} {symbols[2]}"
        for name, (symbols, n) in kinds.items()
        if n
    ]
    cell_km = width_km / columns
    size = f"{cell_km:.0f} x {2 * cell_km:.0f}" if cell_km >= 10 else f"{cell_km:.1f} x {2 * cell_km:.1f}"
    return [*lines, f"clusters in one character, {size} km"]
