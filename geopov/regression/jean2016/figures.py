"""Pictures of the figures of Jean et al. (2016), as PNG bytes that a repeat gives again."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geopov.regression.report.figures import BASELINE_COLOUR, GRID, INK, MODEL_COLOUR, plain, to_png

_STYLES = {"images": (MODEL_COLOUR, "-", "o"), "nightlights": (BASELINE_COLOUR, "--", "s")}


def poorest_curves(curves: pd.DataFrame, *, top: float) -> bytes:
    """Figure 4 A-B: mean r² of images and nightlights by share, over the range of the divisions into folds."""
    figure = Figure(figsize=(4.8, 3.7), layout="constrained")
    axes = figure.add_subplot()
    for predictor, rows in curves.groupby("predictor", sort=False):
        colour, dashes, marker = _STYLES[str(predictor)]
        share = 100 * rows["share"]
        axes.fill_between(share, rows["r2_lowest"], rows["r2_highest"], color=colour, alpha=0.16, linewidth=0)
        axes.plot(
            share, rows["r2"], color=colour, linestyle=dashes, marker=marker, markersize=5, linewidth=2,
            label=str(predictor),
        )  # fmt: skip
    axes.set(xlim=(5, 105), ylim=(0, top), xlabel="poorest share of the clusters (%)", ylabel="r²")
    axes.set_xticks([20, 40, 60, 80, 100])
    axes.legend(frameon=False, loc="upper left")
    plain(axes)
    return to_png(figure)


def reshuffles(null: pd.DataFrame, true: pd.DataFrame, *, right: float) -> bytes:
    """Figure 4 C-D: distribution of r² with images reshuffled, and r² with images in place, a row a country."""
    figure = Figure(figsize=(4.8, 1.0 + 0.95 * len(true)), layout="constrained")
    all_axes = figure.subplots(len(true), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, right, 61)
    for axes, row in zip(all_axes, true.to_dict("records"), strict=True):
        values = null.loc[null["country"] == row["country"], "r2"].to_numpy()
        axes.hist(values, bins=edges.tolist(), color="#8a97a3")
        axes.axvline(row["r2"], color=MODEL_COLOUR, linewidth=2.5)
        # Beside the line, on the side where there is room.
        after = row["r2"] < 0.6 * right
        axes.annotate(
            f"{row['country']}: {row['r2']:.2f}", (row["r2"], 0.82), xycoords=("data", "axes fraction"),
            xytext=(6 if after else -6, 0), textcoords="offset points", va="center",
            ha="left" if after else "right", color=MODEL_COLOUR,
        )  # fmt: skip
        axes.set(xlim=(-0.02 * right, right))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        plain(axes)
    all_axes[-1].set_xlabel("r²")
    figure.supylabel("reshuffles", fontsize="medium", color=INK)
    return to_png(figure)


def matrix(generalisation: pd.DataFrame, names: list[str]) -> bytes:
    """Figure 5: r² by country trained on and country tested on."""
    table = generalisation.pivot_table(index="tested_on", columns="trained_on", values="r2").reindex(
        index=names, columns=names
    )
    side = 1.6 + 0.62 * len(names)
    figure = Figure(figsize=(side + 0.4, side), layout="constrained")
    axes = figure.add_subplot()
    values = table.to_numpy(dtype=np.float64)
    axes.imshow(np.ma.masked_invalid(values), cmap="GnBu", vmin=0, vmax=1)
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color="#ffffff" if value > 0.6 else INK)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="trained on", ylabel="tested on")
    plain(axes)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=1)
    axes.tick_params(which="minor", length=0)
    return to_png(figure, tight=True)
