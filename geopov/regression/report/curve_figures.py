"""The report's curves, dots and histograms, as PNG bytes that a repeat gives again.

Colours are from the palette of Okabe and Ito, which colour-blind readers tell apart; lines also differ in their dashes
and markers, so that a grey print keeps them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geopov.regression._inputs import Floats
from geopov.regression.report.figures import BASELINE_COLOUR, INK, MODEL_COLOUR, plain, to_png

_STYLES = ((MODEL_COLOUR, "-", "o"), (BASELINE_COLOUR, "--", "s"), ("#117755", ":", "^"))
Rows = Sequence[Mapping[str, Any]]


def _column(rows: Rows, name: str) -> Floats:
    """Values (n,); None, which JSON has for a score that is undefined, becomes NaN."""
    return np.array([row[name] for row in rows], dtype=np.float64)


def poorest_curves(curves: Sequence[tuple[str, Rows]]) -> bytes:
    """Squared correlation among the clusters with the lowest outcome, with intervals (Jean et al. 2016, figure 4).

    Parameters
    ----------
    curves : sequence of (name, rows)
        Rows hold ``share`` (0 to 1), ``r2_pearson`` and its ``_low`` and ``_high``.
    """
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for (name, rows), (colour, dashes, marker) in zip(curves, _STYLES, strict=False):
        share, r2 = 100 * _column(rows, "share"), _column(rows, "r2_pearson")
        low, high = _column(rows, "r2_pearson_low"), _column(rows, "r2_pearson_high")
        axes.fill_between(share, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(share, r2, color=colour, linestyle=dashes, marker=marker, markersize=5, linewidth=2, label=name)
    axes.set(ylim=(0, None), xlabel="share of the clusters, lowest first (%)", ylabel="r² (squared correlation)")
    figure.legend(frameon=False, loc="outside upper left")
    plain(axes)
    return to_png(figure)


def score_dots(rows: Sequence[tuple[str, Mapping[str, Any]]], *, score: str) -> bytes:
    """One score of several predictors, each a dot with its 95% interval; the first is the model.

    Parameters
    ----------
    rows : sequence of (name, row)
        Rows hold the score and its ``_low`` and ``_high``, which may be None.
    score : str
        Its name, "R2".
    """
    figure = Figure(figsize=(5.4, 0.8 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(rows):
        colour, marker = (MODEL_COLOUR, "o") if place == 0 else (BASELINE_COLOUR, "s")
        if row[f"{score}_low"] is not None and row[f"{score}_high"] is not None:
            axes.plot([row[f"{score}_low"], row[f"{score}_high"]], [place, place], color=colour, linewidth=2.2)
        axes.plot(row[score], place, color=colour, marker=marker, markersize=8)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [fill(name, 26) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("R², held out, with 95% interval")
    plain(axes)
    axes.grid(visible=False, axis="y")
    return to_png(figure)


def block_shares(rows: Rows) -> bytes:
    """Share of R² of each block of features with its 95% interval, and R² of the block alone.

    Parameters
    ----------
    rows : sequence of mappings
        With ``block``, ``share``, ``share_low``, ``share_high`` and ``alone``; the last three may be None.
    """
    figure = Figure(figsize=(5.4, 1.3 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    places, share = np.arange(len(rows)), _column(rows, "share")
    low, high = _column(rows, "share_low"), _column(rows, "share_high")
    axes.barh(places, share, height=0.5, color=MODEL_COLOUR, alpha=0.35, label="part of the model's R²")
    axes.hlines(places, low, high, color=MODEL_COLOUR, linewidth=2.2)
    axes.plot(_column(rows, "alone"), places, "s", color=BASELINE_COLOUR, markersize=7, label="R² of the block alone")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(places, [fill(row["block"], 26) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("R², held out; lines are 95% intervals of the parts")
    figure.legend(frameon=False, loc="outside upper left", ncols=2)
    plain(axes)
    axes.grid(visible=False, axis="y")
    return to_png(figure)


def bias_by_decile(methods: Mapping[str, Rows], *, label: str) -> bytes:
    """Mean error (predicted minus observed) in each tenth of the clusters by survey, a line for each method."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for (name, rows), (colour, dashes, marker) in zip(methods.items(), _STYLES, strict=False):
        axes.plot(
            _column(rows, "decile"), _column(rows, "bias"),
            color=colour, linestyle=dashes, marker=marker, markersize=6, linewidth=2,
            label="as predicted" if name == "none" else f"de-shrunk, {name}",
        )  # fmt: skip
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xticks(range(1, 11))
    axes.set(xlabel="tenth of the clusters by survey (1 = lowest)", ylabel=f"predicted minus observed\n{label}")
    figure.legend(frameon=False, loc="outside upper left")
    plain(axes)
    return to_png(figure)


def null_histogram(test: Mapping[str, Any]) -> bytes:
    """r² with images reshuffled among clusters as a histogram, and with images in place as a line."""
    figure = Figure(figsize=(5.4, 2.7), layout="constrained")
    axes = figure.add_subplot()
    null = np.asarray(test["null_r2"], dtype=np.float64)
    width = max(float(null.max()), test["observed_r2"], 1e-6) / 40
    axes.hist(null, bins=np.arange(0, null.max() + 2 * width, width).tolist(), color="#8a97a3")
    axes.axvline(test["observed_r2"], color=MODEL_COLOUR, linewidth=2.5)
    _label_line(axes, test["observed_r2"], f"images in place: {test['observed_r2']:.2f}")
    axes.set(xlabel="r² (squared correlation)", ylabel="reshuffles", xlim=(0, None))
    axes.margins(x=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    plain(axes)
    return to_png(figure)


def _label_line(axes: Axes, x: float, text: str) -> None:
    left, right = axes.get_xlim()
    after = x < (left + right) / 2
    axes.annotate(
        text, (x, 0.92), xycoords=("data", "axes fraction"), xytext=(6 if after else -6, 0),
        textcoords="offset points", ha="left" if after else "right", va="top", color=MODEL_COLOUR,
    )  # fmt: skip
