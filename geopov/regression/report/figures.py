"""The report's figures, as PNG bytes that a repeat gives again.

matplotlib is imported here and by nothing else of the stage; figures are objects, without pyplot's global state.
"""

from __future__ import annotations

import io
from math import cos, floor, log10, radians

import geopandas as gpd
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geopov.regression._inputs import Floats

INK, GRID = "#22303c", "#d9dfe4"
MODEL_COLOUR, BASELINE_COLOUR = "#1b5e85", "#a8641f"
_DPI = 160


def common_limits(*values: Floats) -> tuple[float, float]:
    """Axis limits that hold all values, with a margin."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def scatter(observed: Floats, predicted: Floats, *, limits: tuple[float, float], label: str, colour: str) -> bytes:
    """Predicted against observed on equal axes, with the line of equality and the least-squares line."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(limits, limits, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    size = float(np.clip(9000 / len(observed), 3, 22))
    axes.scatter(observed, predicted, s=size, color=colour, alpha=0.5, linewidths=0, zorder=2)
    slope, intercept = np.polyfit(observed, predicted, 1)
    ends = np.array([observed.min(), observed.max()])
    axes.plot(ends, slope * ends + intercept, color=colour, linewidth=2, zorder=3)
    # The longest texts lie away from the points: a fit that shrinks leaves the upper left and lower right empty.
    axes.text(0.97, 0.04, f"slope {slope:.2f}", transform=axes.transAxes, ha="right", color=colour, fontsize=11)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel(f"observed: {label}")
    axes.set_ylabel("predicted, cluster held out")
    plain(axes)
    return to_png(figure)


def residual_map(predictions: gpd.GeoDataFrame, *, label: str) -> bytes:
    """Observed minus predicted at each cluster."""
    residuals = (predictions["observed"] - predictions["mean"]).to_numpy(dtype=np.float64)
    lon, lat = predictions.geometry.x.to_numpy(), predictions.geometry.y.to_numpy()
    stretch = 1 / max(cos(radians(float(lat.mean()))), 0.05)
    width = 5.4
    shape = stretch * max(np.ptp(lat), 1e-6) / max(np.ptp(lon), 1e-6)
    figure = Figure(figsize=(width, float(np.clip(width * shape, 2.2, 7.5)) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    reach = float(np.quantile(np.abs(residuals), 0.95)) or 1.0
    # Largest residuals last, so that they are not hidden.
    order = np.argsort(np.abs(residuals), kind="stable")
    size = float(np.clip(26000 / len(residuals), 8, 45))
    points = axes.scatter(
        lon[order], lat[order], c=residuals[order], s=size, cmap="BrBG", vmin=-reach, vmax=reach,
        edgecolors=INK, linewidths=0.25 if len(residuals) < 3000 else 0.0,  # thousands of outlines are black
    )  # fmt: skip
    bar = figure.colorbar(points, ax=axes, orientation="horizontal", extend="both", shrink=0.7, aspect=35, pad=0.02)
    bar.locator = MaxNLocator(5)
    bar.set_label(f"{label}\nlower than predicted  ←  observed  →  higher than predicted")
    bar.outline.set_visible(False)
    axes.locator_params(nbins=6)
    axes.margins(0.06)
    axes.set(xlabel="longitude (°)", ylabel="latitude (°)")
    axes.set_aspect(stretch, adjustable="box")
    plain(axes)
    _scale_bar(axes, km_per_degree=111.32 / stretch)
    return to_png(figure, tight=True)


def _scale_bar(axes: Axes, *, km_per_degree: float) -> None:
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    wanted = (right - left) * km_per_degree / 4
    power = 10 ** floor(log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    x0, y0 = left + 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    axes.plot([x0, x0 + length / km_per_degree], [y0, y0], color=INK, linewidth=3, solid_capstyle="butt")
    axes.text(x0, y0 + 0.015 * (top - bottom), f"{length:g} km", color=INK, fontsize=9, va="bottom")
    axes.set(xlim=(left, right), ylim=(bottom, top))


def plain(axes: Axes) -> None:
    """A grid, and no frame or ticks."""
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def to_png(figure: Figure, *, tight: bool = False) -> bytes:
    """PNG; ``tight`` cuts the empty margins that axes of a fixed aspect leave."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None}, bbox_inches="tight" if tight else None)
    return stream.getvalue()
