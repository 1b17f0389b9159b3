"""The comparison on paper: CSV for machines, Markdown and one HTML page for people, and a picture."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from geopov._validation import atomic_path, check_columns
from geopov.errors import FeatureError
from geopov.features.comparison.bake_off import ATTRIBUTE
from geopov.features.comparison.class_scores import MEAN
from geopov.features.comparison.order import count, ranked

__all__ = ["write_comparison"]

_SHOWN = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity"}
_DOWNSTREAM = "downstream_"
_SYMBOLS = {"r2": "r²", "R2": "R²"}


def write_comparison(
    table: pd.DataFrame, folder: str | Path, *, title: str = "Networks compared", note: str = ""
) -> Path:
    """Write ``comparison.csv``, ``.md``, ``.png`` and ``.html``.

    Parameters
    ----------
    table : DataFrame
        From :func:`geopov.features.comparison.bake_off.compare`.
    folder : path
        Made where it does not exist.
    title : str
        Heading of the page.
    note : str
        What else a reader should know, such as how the downstream scores came about.

    Returns
    -------
    Path
        The page, which is written last.

    Raises
    ------
    FeatureError
        If the table lacks columns or the attribute that tells how it was made.
    """
    check_columns(
        table, ["network", "start", "class", *_SHOWN, "n_parameters", "images_per_s"], "the table", FeatureError
    )
    if ATTRIBUTE not in table.attrs:
        raise FeatureError(f"the table has no attribute {ATTRIBUTE!r}; expected it as compare returns it.")
    from geopov.features.comparison.figure import draw

    meta = json.loads(table.attrs[ATTRIBUTE])
    heads, rows = _display(table, meta)
    notes = [*_notes(table, meta), *([note] if note else [])]
    png = draw(table, label=meta["label"], level=meta["level"])
    folder = Path(folder)
    with atomic_path(folder / "comparison.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    with atomic_path(folder / "comparison.md") as partial:
        partial.write_text(_markdown(title, heads, rows, notes), encoding="utf-8")
    with atomic_path(folder / "comparison.png") as partial:
        partial.write_bytes(png)
    with atomic_path(folder / "comparison.html") as partial:
        partial.write_text(_html(title, heads, rows, notes, png), encoding="utf-8")
    return folder / "comparison.html"


def _display(table: pd.DataFrame, meta: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells; a cell's interval follows its value after a line break."""
    classes = [name for name in table["class"].unique() if name != MEAN]
    word = str(meta["label"]).replace("_", " ")
    downstream = _downstream(table)
    heads = ["network", "start", "mean AUROC", f"difference to {meta['reference']}"]
    heads += [f"{word} {name}: {shown}" for name in classes for shown in _SHOWN.values()]
    heads += ["clusters" if name == "n" else f"{_SYMBOLS.get(name, name)}, clusters" for name in downstream] + [
        "images a second",
        "parameters",
    ]
    rows = []
    for mean in ranked(table).to_dict("records"):
        own = table[(table["network"] == mean["network"]) & (table["start"] == mean["start"])].set_index("class")
        cells = [str(mean["network"]), str(mean["start"]), _cell(mean, "auroc"), _cell(mean, "difference", signed=True)]
        cells += [_cell(own.loc[name].to_dict(), score) for name in classes for score in _SHOWN]
        for name in downstream:
            value = mean[_DOWNSTREAM + name]
            cells.append(f"{value:.0f}" if name == "n" else _cell(mean, _DOWNSTREAM + name))
        rows.append([*cells, count(mean["images_per_s"]), f"{mean['n_parameters'] / 1e6:.1f} M"])
    return heads, rows


def _downstream(table: pd.DataFrame) -> list[str]:
    names = [name.removeprefix(_DOWNSTREAM) for name in table.columns if name.startswith(_DOWNSTREAM)]
    return [name for name in names if not name.endswith(("_low", "_high"))]


def _cell(row: dict[Any, Any], name: str, *, signed: bool = False) -> str:
    value, ends = row[name], (row.get(f"{name}_low", np.nan), row.get(f"{name}_high", np.nan))
    if not np.isfinite(value):
        return "–"
    text = _number(value, signed=signed)
    return (
        text if not np.isfinite(ends).all() else text + "\n" + " to ".join(_number(end, signed=signed) for end in ends)
    )


def _number(value: float, *, signed: bool) -> str:
    # Adding zero takes the sign off a negative zero.
    return f"{round(value, 3) + 0.0:{'+' if signed else ''}.3f}".replace("-", "−")


def _notes(table: pd.DataFrame, meta: dict[str, Any]) -> list[str]:
    tile, n, percent = meta["tile"], meta["tiles"], f"{meta['level']:.0%}"
    starts = sorted(table["start"].unique())
    unit = f" at {tile['resolution_m']:g} m" if "resolution_m" in tile else ""
    drawn = "DeLong's"
    if meta["block_km"] is not None:
        drawn = f"from a bootstrap of {meta['n_blocks']} squares of {meta['block_km']:g} km"
    notes = [
        f"Trained on {meta['n_train']} points, scored on {n['test']} test tiles of {tile['size_px']} px{unit}; a class "
        "is scored against all others.",
        "Start: what training started from; "
        + ", ".join(_START.get(name, f"{name}: that file") for name in starts)
        + ".",
        f"AUROC: {percent} interval {drawn}; that of the mean over classes from a bootstrap. Sensitivity and "
        f"specificity: at the probability with the largest Youden index on {n['validation']} validation tiles; exact "
        "binomial interval.",
        f"Difference: mean AUROC minus that of {meta['reference']}, the best on the validation tiles, by a paired "
        "bootstrap. DeLong's paired test for each class, and its p-value after Holm, are in the CSV.",
        f"Images a second: forward passes alone at {meta['side_px']} px, engine {meta['engine']}"
        + (f", threads: {meta['threads']}" if meta["threads"] else "")
        + ". Parameters: trunk and linear head as trained here; published heads, such as the fully connected layers of "
        "AlexNet and VGG, are cut off.",
    ]
    if meta["block_km"] is None and table["auroc"].isin([0, 1]).any():
        notes.append(
            "A class separated without an error has no DeLong interval; its limit is the exact binomial one of as many "
            "independent pairs as there are tiles of the rarer kind."
        )
    if meta["block_km"] is None:
        notes.append("Test tiles count as independent; where neighbours resemble each other, intervals are too narrow.")
    return notes


_START = {"random": "random: no earlier training", "imagenet": "imagenet: published ImageNet weights"}


def _markdown(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        shown = [cell.replace("|", "\\|").replace("\n", " (", 1) + (")" if "\n" in cell else "") for cell in cells]
        return "| " + " | ".join(shown) + " |"

    body = [line(heads), "|" + " --- |" * 2 + " ---: |" * (len(heads) - 2), *map(line, rows)]
    return "\n".join([f"# {title}", "", *body, "", *(f"- {note}" for note in notes), ""])


def _html(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str], png: bytes) -> str:
    templates = Environment(
        loader=PackageLoader("geopov.features.comparison"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    picture = "data:image/png;base64," + base64.b64encode(png).decode()
    cells = [[cell.split("\n") for cell in row] for row in rows]
    page = templates.get_template("comparison.html.j2")
    return page.render(title=title, heads=heads, rows=cells, notes=notes, picture=picture)
