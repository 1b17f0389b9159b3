"""Picture sheets: rows of tiles as they are, and below each the same tile with what the network sees in it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geopov._validation import atomic_path
from geopov.errors import FeatureError
from geopov.features._input import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "Row", "draw_sheet", "pictures"]

Floats = npt.NDArray[np.float32]

_INK, _INVALID = "#333333", 0.85
_HEAT = "inferno"
# Inches: a tile, the title at the left of its row, three lines of caption, and what stands above and below.
_TILE, _LEFT, _GAP, _CAPTION, _TOP, _FOOT = 1.15, 1.25, 0.05, 0.42, 0.5, 0.42


@dataclass(frozen=True)
class Panel:
    """One tile on a sheet.

    Attributes
    ----------
    picture : float32 array (y, x, 3)
        From 0 to 1.
    heat : float32 array (y, x)
        What the network sees in it, from 0 to 1.
    caption : str
        Up to three lines.
    """

    picture: Floats
    heat: Floats
    caption: str


@dataclass(frozen=True)
class Row:
    """Tiles that have something in common.

    Attributes
    ----------
    title : str
        What that is.
    panels : list of Panel
        The strongest first.
    """

    title: str
    panels: list[Panel]


def pictures(data: Array, valid: npt.NDArray[np.bool_], bands: Sequence[int]) -> Floats:
    """Tiles (tile, band, y, x) as pictures (tile, y, x, 3) from 0 to 1, light grey where they are invalid.

    Each band is stretched from the 2nd to the 98th percentile of all the tiles at hand, so that their brightness can be
    compared within a sheet.
    """
    planes = []
    for band in bands:
        values = data[:, band].astype(np.float32)
        known = values[valid]
        low, high = np.percentile(known, (2, 98)) if len(known) else (0.0, 1.0)
        stretched = np.clip((values - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
        planes.append(np.where(valid, stretched, _INVALID))
    return np.stack([planes[min(i, len(planes) - 1)] for i in range(3)], axis=-1).astype(np.float32)


def draw_sheet(rows: Sequence[Row], path: str | Path, *, title: str, note: str = "") -> Path:
    """Draw rows of tiles as a PNG; the same rows give the same bytes.

    Parameters
    ----------
    rows : sequence of Row
        From top to bottom.
    path : path
        Ends in .png.
    title : str
        Above them.
    note : str
        Below them.

    Raises
    ------
    FeatureError
        If there is nothing to draw, or the path is no .png.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FeatureError(f"the sheet is a PNG; {path.name} must end in .png.")
    columns = max((len(row.panels) for row in rows), default=0)
    if not columns:
        raise FeatureError("there are no tiles to draw; expected one row or more, each with tiles.")
    height_of_row = 2 * _TILE + _GAP + _CAPTION
    width = max(_LEFT + columns * (_TILE + _GAP) + 0.1, 5.2)
    height = _TOP + len(rows) * height_of_row + _FOOT
    figure = Figure(figsize=(width, height), dpi=160)
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.14 / height, title, ha="left", va="top", fontsize=11, weight="bold", color=_INK)
    for number, row in enumerate(rows):
        _draw_row(figure, row, top=height - _TOP - number * height_of_row, width=width, height=height)
    lines = textwrap.fill(note, width=int(width * 17))
    figure.text(0.1 / width, 0.08 / height, lines, ha="left", va="bottom", fontsize=6.5, color=_INK)
    with atomic_path(path) as partial:
        # Without matplotlib's version, so that the bytes depend on the picture alone.
        figure.savefig(partial, metadata={"Software": None})
    return path


def _draw_row(figure: Figure, row: Row, *, top: float, width: float, height: float) -> None:
    wrapped = "\n".join(textwrap.fill(line, 17) for line in row.title.splitlines())
    figure.text(0.1 / width, (top - 0.05) / height, wrapped, ha="left", va="top", fontsize=8, color=_INK)
    for column, panel in enumerate(row.panels):
        left = _LEFT + column * (_TILE + _GAP)
        boxes = [(left, top - _TILE), (left, top - 2 * _TILE - _GAP)]
        plain, seen = (figure.add_axes((x / width, y / height, _TILE / width, _TILE / height)) for x, y in boxes)
        _show(plain, panel.picture)
        _show_heat(seen, panel)
        below = top - 2 * _TILE - _GAP - 0.03
        figure.text(left / width, below / height, panel.caption, ha="left", va="top", fontsize=5.5, color=_INK)


def _show(axes: Axes, picture: Any, **options: Any) -> None:
    axes.imshow(picture, interpolation="nearest", **options)
    axes.set_axis_off()


def _show_heat(axes: Axes, panel: Panel) -> None:
    grey = panel.picture.mean(axis=2)
    _show(axes, grey, cmap="gray", vmin=0, vmax=1)
    _show(axes, panel.heat, cmap=_HEAT, vmin=0, vmax=1, alpha=0.65 * np.clip(panel.heat, 0, 1))
