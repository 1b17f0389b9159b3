"""Clusters drawn as a PNG, for a person to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geopov._validation import atomic_path, check_columns, check_points, check_positive
from geopov.errors import SurveyError
from geopov.survey.describe.view import GEOD, Bounds, shape_of, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito: told apart by people who are colour blind, and in grey.
_TOWN, _COUNTRY = "#D55E00", "#0072B2"
_INK, _FAINT = "#333333", "#D9D9D9"


def draw_clusters(
    points: gpd.GeoDataFrame,
    path: Path | str,
    *,
    title: str,
    outcome: str | None = None,
    unit: str = "",
    left_out: int | None = None,
    width_cm: float = 18.0,
) -> None:
    """Draw clusters as a PNG; the same clusters give the same bytes.

    Points are coloured by an outcome, or as urban and rural; round the clusters whose ``displacement_km`` is large
    enough to be seen stands a circle of that radius.

    Parameters
    ----------
    points : GeoDataFrame
        As :func:`geopov.survey.read_clusters` returns them.
    path : path
        Ends in .png.
    title : str
        Such as the survey's name.
    outcome : str, optional
        Column of numbers; clusters without one are drawn grey.
    unit : str
        Of the outcome, for the colour bar.
    left_out : int, optional
        Clusters that are not in ``points``, for the caption; default what ``attrs["dropped"]`` lists of clusters.
    width_cm : float
        Of the picture; its height follows from the shape of the country.

    Raises
    ------
    SurveyError
        If there is no point, the outcome is no column of numbers, or the path is no .png.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() != ".png":
        raise SurveyError(f"the picture is a PNG; {path.name} must end in .png.")
    check_positive(width_cm, "width_cm", SurveyError)
    points = check_points(points, error=SurveyError)
    if outcome is not None:
        check_columns(points, [outcome], "the table of clusters", SurveyError)
        if not pd.api.types.is_numeric_dtype(points[outcome]):
            raise SurveyError(f"{outcome!r} is no column of numbers; points are coloured by numbers.")
    if left_out is None:
        left_out = sum(row["source"] == "clusters" for row in points.attrs.get("dropped", []))
    bounds = view_of(points, margin=0.04)
    width = width_cm / 2.54
    beside = 1.25 if outcome else 0.25
    map_width = width - 0.65 - beside
    map_height = float(np.clip(map_width * shape_of(bounds), 0.45 * map_width, 1.5 * map_width))
    height = map_height + 1.27
    figure = Figure(figsize=(width, height), dpi=200)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.65 / width, 0.72 / height, map_width / width, map_height / height))
    _frame(axes, bounds, map_height / map_width)
    reach = _displacement(axes, points, map_width)
    _scatter(figure, axes, points, outcome, unit, map_width)
    _scale_bar(figure, axes)
    left = 0.65 / width
    figure.text(left, 1 - 0.16 / height, title, ha="left", va="top", fontsize=11, weight="bold", color=_INK)
    caption = f"{len(points):,} cluster{'s' if len(points) != 1 else ''} drawn, {left_out:,} left out.{reach}"
    figure.text(left, 0.12 / height, caption, ha="left", va="bottom", fontsize=7.5, color=_INK)
    with atomic_path(path) as partial:
        # Without matplotlib's version, so that the bytes depend on the picture alone.
        figure.savefig(partial, metadata={"Software": None})


def _tick(value: float, names: tuple[str, str]) -> str:
    return "0°" if value == 0 else f"{abs(value):g}°{names[0 if value > 0 else 1]}"


def _frame(axes: Axes, bounds: Bounds, page_shape: float) -> None:
    """Limits with equal scale both ways, faint lines of degrees, ticks outside."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    west, south, east, north = bounds
    stretch = page_shape / shape_of(bounds)
    # The page is no taller or flatter than is pleasant: what is left over goes to both sides.
    if stretch > 1:
        extra = (north - south) * (stretch - 1) / 2
        south, north = south - extra, north + extra
    else:
        extra = (east - west) * (1 / stretch - 1) / 2
        west, east = west - extra, east + extra
    axes.set(xlim=(west, east), ylim=(south, north), aspect=1 / np.cos(np.radians((south + north) / 2)))
    for axis, names in ((axes.xaxis, ("E", "W")), (axes.yaxis, ("N", "S"))):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _, names=names: _tick(value, names)))
    axes.tick_params(labelsize=7.5, color=_FAINT, labelcolor=_INK, length=3)
    axes.grid(color=_FAINT, linewidth=0.4)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set(color="#999999", linewidth=0.6)


def _displacement(axes: Axes, points: gpd.GeoDataFrame, map_width: float) -> str:
    """Circles of the displacement where they can be seen, and what the caption says of them."""
    from matplotlib.collections import EllipseCollection

    if "displacement_km" not in points:
        return ""
    lon, lat = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    reach_km = points["displacement_km"].to_numpy(dtype=float)
    per_degree_km = 111.32 * np.cos(np.radians(lat))
    west, east = axes.get_xlim()
    inches = reach_km / per_degree_km / (east - west) * map_width
    # Smaller than the point itself, a circle says nothing.
    seen = inches > 0.03
    if not seen.any():
        return ""
    circles = EllipseCollection(
        widths=2 * reach_km[seen] / per_degree_km[seen],
        heights=2 * reach_km[seen] / 110.57,
        angles=np.zeros(int(seen.sum())),
        units="xy",
        offsets=np.column_stack([lon, lat])[seen],
        offset_transform=axes.transData,
        facecolors="#00000007",
        edgecolors="#00000030",
        linewidths=0.35,
        zorder=2,
    )
    axes.add_collection(circles)
    radii = sorted(set(reach_km[seen].tolist()))
    which = " or ".join(f"{radius:g}" for radius in radii) if len(radii) <= 3 else f"{radii[0]:g} to {radii[-1]:g}"
    return f"\nCircles: reach of the displacement, {which} km."


def _scatter(
    figure: Figure, axes: Axes, points: gpd.GeoDataFrame, outcome: str | None, unit: str, map_width: float
) -> None:
    """Squares where urban and dots elsewhere, in the colour of the outcome or of the kind."""
    from matplotlib.lines import Line2D

    area = float(np.clip(2200 * map_width / max(len(points), 1), 1.5, 26))
    kinds = [("cluster", "o", _COUNTRY, np.ones(len(points), dtype=bool))]
    if "urban" in points:
        urban = points["urban"].to_numpy(dtype=bool)
        kinds = [("rural", "o", _COUNTRY, ~urban), ("urban", "s", _TOWN, urban)]
    x, y = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    colour = _Colours(points[outcome].to_numpy(dtype=float)) if outcome else None
    handles = []
    for name, marker, flat, chosen in kinds:
        if chosen.any():
            paint: dict[str, Any] = colour.of(chosen) if colour else {"color": flat}
            axes.scatter(x[chosen], y[chosen], s=area, marker=marker, linewidths=0, zorder=3, **paint)
            text = f"{name} ({int(chosen.sum()):,})"
            face = "#777777" if colour else flat
            handles.append(Line2D([], [], ls="", marker=marker, ms=4.5, mew=0, color=face, label=text))
    # Above the map at the right, where no cluster can lie behind it.
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=7.5,
        borderaxespad=0.1,
        handletextpad=0.1,
        columnspacing=1.0,
        labelcolor=_INK,
    )
    if colour is not None:
        box = axes.get_position()
        width = figure.get_figwidth()
        bar_axes = figure.add_axes((box.x1 + 0.14 / width, box.y0, 0.13 / width, box.height))
        bar = figure.colorbar(colour.mappable(), cax=bar_axes, extend=colour.extend)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7.5, length=2, labelcolor=_INK)
        bar.set_label(f"{outcome} ({unit})" if unit else str(outcome), fontsize=8, color=_INK)


class _Colours:
    """Colours of an outcome: viridis from its 2nd to its 98th percentile, which extremes do not stretch."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        from matplotlib import colormaps
        from matplotlib.colors import Normalize

        self.values = values
        known = values[np.isfinite(values)]
        if len(known) == 0:
            raise SurveyError("no cluster has a value of the outcome; there is nothing to colour by.")
        low, high = np.quantile(known, [0.02, 0.98])
        self.norm = Normalize(low, high if high > low else low + 1)
        self.map = colormaps["viridis"].with_extremes(bad="#BBBBBB")
        below, above = known.min() < low, known.max() > high
        self.extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")

    def of(self, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return {"c": self.values[chosen], "norm": self.norm, "cmap": self.map, "plotnonfinite": True}

    def mappable(self) -> Any:
        from matplotlib.cm import ScalarMappable

        return ScalarMappable(self.norm, self.map)


def _scale_bar(figure: Figure, axes: Axes) -> None:
    """A bar of a round length under the map at the right, where it hides no cluster; true at the middle latitude."""
    from matplotlib.lines import Line2D

    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    wide_km = GEOD.line_length([west, east], [(south + north) / 2] * 2) / 1000
    power = 10.0 ** np.floor(np.log10(0.2 * wide_km))
    length_km = max(step * power for step in (1, 2, 5) if step * power <= 0.2 * wide_km)
    box = axes.get_position()
    start, bottom = box.x1 - box.width * length_km / wide_km, 0.14 / figure.get_figheight()
    figure.add_artist(Line2D([start, box.x1], [bottom, bottom], color=_INK, linewidth=1.6, solid_capstyle="butt"))
    text = f"{length_km:g} km"
    figure.text((start + box.x1) / 2, 1.4 * bottom, text, ha="center", va="bottom", fontsize=7.5, color=_INK)
