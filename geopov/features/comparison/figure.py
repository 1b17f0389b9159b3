"""The comparison as a picture: a row a network, a column a score, intervals as lines.

matplotlib is imported here and by nothing else of the package.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geopov.features.comparison.class_scores import MEAN
from geopov.features.comparison.order import count, ranked

__all__ = ["draw"]

_INK, _GRID = "#22303c", "#d9dfe4"
_DPI = 160
# Colours apart for the colour-blind, shapes apart in print.
_SCORES = {
    "auroc": ("AUROC", "#1b5e85", "o", 0.0),
    "sensitivity": ("sensitivity", "#a8641f", "^", 0.22),
    "specificity": ("specificity", "#3f7d4e", "v", -0.22),
}


def draw(table: pd.DataFrame, *, label: str, level: float) -> bytes:
    """PNG of the table of :func:`geopov.features.comparison.bake_off.compare`, the best mean AUROC on top."""
    means = ranked(table)
    order = pd.MultiIndex.from_frame(means[["network", "start"]])
    classes = [name for name in table["class"].unique() if name != MEAN]
    downstream = _first_downstream(table)
    panels = 1 + len(classes) + (downstream is not None) + 2
    widths = [1.25] * (panels - 2) + [0.9, 0.9]
    figure = Figure(figsize=(2.0 + 2.0 * sum(widths), 1.5 + 0.42 * len(order)), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, width_ratios=widths, squeeze=False)[0]
    _points(axes[0], means, ["auroc"])
    axes[0].set_title("mean of classes", fontsize="medium")
    ends = table.loc[table["class"] != MEAN, [f"{score}_low" for score in _SCORES]].to_numpy(dtype=np.float64)
    lowest = float(np.nanmin(np.append(ends, 0.5)))
    for one, name in zip(axes[1:], classes, strict=False):
        rows = table[table["class"] == name].set_index(["network", "start"]).loc[order].reset_index()
        _points(one, rows, list(_SCORES))
        one.set_title(f"{label.replace('_', ' ')} {name}", fontsize="medium")
        one.set_xlim(lowest - 0.03, 1.03)
    for one in axes[: 1 + len(classes)]:
        one.axvline(0.5, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    if downstream is not None:
        _points(axes[-3], means, [downstream])
        symbol = {"r2": "r²", "R2": "R²"}.get(downstream.removeprefix("downstream_"), downstream)
        axes[-3].set_title(f"{symbol}, survey clusters", fontsize="medium")
    _bars(axes[-2], means["images_per_s"].to_numpy(), "images a second")
    _bars(axes[-1], means["n_parameters"].to_numpy() / 1e6, "parameters (millions)")
    several = means["network"].duplicated().any() or len(set(means["start"])) > 1
    axes[0].set_yticks(range(len(order)), [f"{n} ({s})" if several else n for n, s in order], color=_INK)
    axes[0].set_ylim(len(order) - 0.4, -0.6)
    handles, names = axes[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=3, frameon=False)
    figure.supxlabel(f"lines: {level:.0%} intervals; dashed: AUROC of chance", fontsize="small", color=_INK)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def _first_downstream(table: pd.DataFrame) -> str | None:
    names = [str(name) for name in table.columns if str(name).startswith("downstream_")]
    return next((name for name in names if not name.endswith(("_low", "_high"))), None)


def _points(axes: Axes, rows: pd.DataFrame, scores: Sequence[str]) -> None:
    places = np.arange(len(rows))
    for score in scores:
        name, colour, marker, shift = _SCORES.get(score, ("", _SCORES["auroc"][1], "o", 0.0))
        values = rows[score].to_numpy(dtype=np.float64)
        if f"{score}_low" in rows:
            low, high = (rows[f"{score}_{end}"].to_numpy(dtype=np.float64) for end in ("low", "high"))
            axes.hlines(places + shift, low, high, color=colour, linewidth=1.6)
        axes.plot(values, places + shift, linestyle="none", marker=marker, color=colour, markersize=5, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.margins(x=0.08)
    _plain(axes)


def _bars(axes: Axes, values: np.ndarray, title: str) -> None:
    """Lengths with their numbers written beside, since costs differ a hundredfold."""
    places = np.arange(len(values))
    axes.barh(places, values, height=0.55, color="#8a97a3")
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            count(value), (value, place), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize="small", color=_INK,
        )  # fmt: skip
    axes.set_xlim(0, 1.35 * float(np.max(values)))
    axes.set_title(title, fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
