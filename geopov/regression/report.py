"""The report: one HTML file that a minister can open and a referee can check, from what ``evaluate`` wrote."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from geopov._validation import atomic_path, check_columns
from geopov.errors import RegressionError
from geopov.regression.cross_validation import LABELS

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FEW_CLUSTERS, _FEW_BLOCKS = 100, 20


@dataclass(frozen=True)
class Run:
    """One folder that :func:`geopov.regression.evaluate` wrote.

    Attributes
    ----------
    name : str
        Of the folder.
    summary : dict
        ``scores.json``.
    predictions : GeoDataFrame
        ``predictions.parquet``.
    """

    name: str
    summary: dict[str, Any]
    predictions: gpd.GeoDataFrame

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """Read scores and predictions, saying which is missing."""
        folder = Path(folder)
        for name in ("scores.json", "predictions.parquet"):
            if not (folder / name).is_file():
                raise RegressionError(f"{folder} has no {name}; `geopov regression fit -o {folder}` writes it.")
        try:
            summary = json.loads((folder / "scores.json").read_text())
        except json.JSONDecodeError as error:
            raise RegressionError(f"{folder / 'scores.json'} is damaged ({error}); fit the model again.") from error
        predictions = gpd.read_parquet(folder / "predictions.parquet")
        check_columns(predictions, ["observed", "mean", "baseline"], f"{folder}/predictions.parquet", RegressionError)
        return cls(folder.resolve().name, summary, predictions)

    @property
    def label(self) -> str:
        """The outcome with its unit."""
        text, unit = self.summary["label"], self.summary["unit"]
        if text[1:2].islower():
            text = text[0].lower() + text[1:]  # it stands within sentences, but an abbreviation keeps its capitals
        return f"{text} ({unit})" if unit else text

    def row(self, predictor: str, subset: str = "all") -> dict[str, Any]:
        """One row of the table of scores."""
        rows = self.summary["scores"]
        return next(row for row in rows if row["predictor"] == predictor and row["subset"] == subset)

    def quality(self) -> str:
        """How good the model is, for someone who does not know what R² is."""
        pooled = self.row("model")
        if pooled["R2"] <= 0:
            return "In places it had not seen, the model predicts no better than one figure for the whole survey would."
        return (
            f"In places it had not seen, the model accounts for {pooled['R2']:.0%} of the differences between clusters"
            f"{_percent_interval(pooled['R2_low'], pooled['R2_high'])}."
        )

    def uncertainty(self) -> str:
        """How far off a single prediction may be."""
        coverage, unit = self.summary["coverage"], self.summary["unit"]
        width = f"{self.summary['half_width']:.2g} {unit}".rstrip()
        return (
            f"A prediction for one place is plus or minus {width}. This is meant to hold for {coverage['nominal']:.0%} "
            f"of places, and held for {coverage['measured']:.0%} of clusters in held-out places"
            f"{_percent_interval(coverage['low'], coverage['high'])}."
        )

    def warnings(self) -> list[str]:
        """What a reader should know before using the map."""
        summary, pooled, coverage = self.summary, self.row("model"), self.summary["coverage"]
        found = []
        if summary["n"] < _FEW_CLUSTERS:
            found.append(f"Only {summary['n']} clusters: every figure here is rough.")
        if summary["n_blocks"] < _FEW_BLOCKS:
            found.append(f"Only {summary['n_blocks']} independent blocks: the intervals themselves are uncertain.")
        if pooled["slope"] is not None and pooled["slope"] < 0.8:
            found.append(
                f"Predictions are drawn towards the average: a difference of 1 on the ground shows as about "
                f"{pooled['slope']:.2f} on the map. "
                "The lowest places are lower than they look, the highest higher."
            )
        if coverage["low"] is not None and not coverage["low"] <= coverage["nominal"] <= coverage["high"]:
            found.append(
                f"The intervals held for {coverage['measured']:.0%} of held-out clusters, not for "
                f"{coverage['nominal']:.0%}; read them with that in mind."
            )
        if summary["out_of_support"] > 0.05 * summary["n"]:
            found.append(
                f"{summary['out_of_support']} of {summary['n']} clusters look unlike those the model learned from; "
                "intervals are not to be relied on in such places, which the map marks as out of support."
            )
        lost = summary["n_survey"] - summary["n"]
        if lost > 0.05 * summary["n_survey"]:
            found.append(f"{lost} of {summary['n_survey']} clusters could not be used; see below.")
        return found

    def dropped_by_reason(self) -> list[tuple[str, str, list[str]]]:
        """What was dropped (clusters, households, polygons), why, and the ids; the most frequent reason first."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for entry in self.summary["dropped"]:
            reasons.setdefault((entry["source"], entry["reason"]), []).append(entry["id"])
        ordered = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
        return [(source, reason, ids) for (source, reason), ids in ordered]

    def figures(self) -> dict[str, str]:
        """Scatter of the model, scatter of the baseline and residual map, as data URIs."""
        from geopov.regression import _figures

        table = self.predictions
        observed, mean, baseline = (table[name].to_numpy(np.float64) for name in ("observed", "mean", "baseline"))
        limits = _figures.common_limits(observed, mean, baseline)
        scatters = {"model": (mean, _figures.MODEL_COLOUR), "baseline": (baseline, _figures.BASELINE_COLOUR)}
        return {
            name: _data_uri(_figures.scatter(observed, predicted, limits=limits, label=self.label, colour=colour))
            for name, (predicted, colour) in scatters.items()
        } | {
            "residuals": _data_uri(_figures.residual_map(table, label=self.label)),
        }


def render_report(
    folders: Sequence[Path | str],
    path: Path | str,
    *,
    maps: Sequence[tuple[Path | str, str]] = (),
    title: str | None = None,
) -> None:
    """Write the report of one or more models as one self-contained HTML file, the same bytes at every repeat.

    Parameters
    ----------
    folders : sequence of path
        What :func:`geopov.regression.evaluate` wrote. The first is the one the first screen speaks of.
    path : path
        Of the HTML file. It needs no other file, no network and no JavaScript.
    maps : sequence of (path, caption)
        PNG pictures of the map, with what they show.
    title : str, optional
        Default: from the outcome's label.

    Raises
    ------
    RegressionError
        If a folder or a picture cannot be read.
    """
    if not folders:
        raise RegressionError("no folder is given; a report needs at least one that `geopov regression fit` wrote.")
    environment = Environment(
        loader=PackageLoader("geopov.regression"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "with_interval": _with_interval, "pretty": _pretty}
    runs = [Run.read(folder) for folder in folders]
    html = environment.get_template("report.html.j2").render(
        title=title or f"{runs[0].summary['label'].capitalize()} from satellite images",
        runs=runs,
        maps=[(_data_uri(_read_png(Path(picture))), caption) for picture, caption in maps],
        labels={"model": "model", **LABELS},
    )
    with atomic_path(Path(path)) as partial:
        partial.write_text(html, encoding="utf-8")


def _read_png(path: Path) -> bytes:
    if not path.is_file():
        raise RegressionError(f"there is no picture at {path}; `geopov maps render map.tif -o map.png` makes one.")
    content = path.read_bytes()
    if not content.startswith(_PNG_SIGNATURE):
        raise RegressionError(f"{path} is not a PNG picture; expected one from `geopov maps render`.")
    return content


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _number(value: float | None, digits: int = 2) -> str:
    # Adding zero to the rounded value takes the sign off a negative zero.
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _with_interval(row: dict[str, Any], name: str) -> str:
    if row[f"{name}_low"] is None or row[name] is None:
        return _number(row[name])
    low, high = _number(row[f"{name}_low"]), _number(row[f"{name}_high"])
    return Markup("{}<br><small>{} to {}</small>").format(_number(row[name]), low, high)


def _percent_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95% interval {low:.0%} to {high:.0%})"


def _pretty(value: Any) -> str:
    """JSON text or a value, indented for reading."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return str(value)
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
