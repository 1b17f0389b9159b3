"""The report: one HTML file that a minister can open and a referee can check, from what ``evaluate`` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import geopandas as gpd
import numpy as np

from geopov._validation import atomic_path, check_columns, some
from geopov.errors import RegressionError
from geopov.regression.report import export, wording
from geopov.regression.report.format import COLUMNS, number
from geopov.regression.report.html import data_uri, environment

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_REQUIRED = (
    "outcome", "unit", "label", "verdict", "n", "n_survey", "dropped", "splits", "n_blocks", "folds", "baseline",
    "baselines", "scores", "differences", "coverage", "half_width_median", "out_of_support", "model", "provenance",
)  # fmt: skip
_OPTIONAL: dict[str, Any] = {
    "curve": [], "shrinkage": [], "deshrink": "none", "bias_by_decile": {}, "random_folds": None, "coverage_by": [],
    "half_width_range": None, "permutation": None, "repeats": None, "block_advice": None, "leakage": None,
    "years": None, "survey": None, "features": {}, "seed": None, "blocks": None,
}  # fmt: skip


class Picture(NamedTuple):
    """A figure as the page holds it."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Run:
    """One folder that :func:`geopov.regression.evaluate` wrote.

    Attributes
    ----------
    name : str
        Of the folder.
    summary : dict
        ``scores.json``; what a run may lack is there as ``None`` or empty.
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
            # A NaN that a hand-made file may hold is what null is in ours.
            found = json.loads((folder / "scores.json").read_text(encoding="utf-8"), parse_constant=lambda _: None)
        except ValueError as error:
            raise RegressionError(f"{folder / 'scores.json'} is damaged ({error}); fit the model again.") from error
        missing = [name for name in _REQUIRED if name not in found]
        if missing:
            raise RegressionError(
                f"{folder / 'scores.json'} has no {some(missing)}; it may be another version's. Fit the model again."
            )
        predictions = gpd.read_parquet(folder / "predictions.parquet")
        check_columns(predictions, ["observed", "mean", "baseline"], f"{folder}/predictions.parquet", RegressionError)
        return cls(folder.resolve().name, _OPTIONAL | found, predictions)

    @property
    def label(self) -> str:
        """The outcome with its unit."""
        text, unit = self.summary["label"], self.summary["unit"]
        if text[1:2].islower():
            text = text[0].lower() + text[1:]  # it stands within sentences, but an abbreviation keeps its capitals
        return f"{text} ({unit})" if unit else text

    def row(self, predictor: str, subset: str = "all") -> dict[str, Any]:
        """One row of the table of scores."""
        return wording.row_of(self.summary, predictor, subset)

    def rows(self, subset: str = "all") -> list[dict[str, Any]]:
        """The rows of one part of the survey, every predictor."""
        return [row for row in self.summary["scores"] if row["subset"] == subset]

    def part_name(self, subset: str) -> str:
        """A part of the survey as a table calls it."""
        counted = self.row("model", subset).get("n_countries")
        return f"mean of {counted:.0f} countries" if counted else {"all": "all clusters"}.get(subset, subset)

    def subsets(self) -> list[str]:
        """The parts of the survey that were scored by themselves, in the table's order."""
        return [name for name in dict.fromkeys(row["subset"] for row in self.summary["scores"]) if name != "all"]

    def name_of(self, predictor: str) -> str:
        """A predictor as a table calls it."""
        return wording.name_of(self.summary, predictor)

    def networks(self) -> list[dict[str, Any]]:
        """Of each network that was trained for these features, what its card says."""
        provenance = json.loads(self.summary["features"].get("provenance") or "{}")
        parts = provenance.get("parts", [provenance])
        return [part["trained"] for part in parts if "trained" in part]

    @property
    def score_names(self) -> list[str]:
        """The scores that the run has, in the order of a table."""
        return [name for name in COLUMNS if name in self.row("model")]

    def differences(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The paired differences by baseline and score."""
        by_baseline: dict[str, dict[str, dict[str, Any]]] = {}
        for row in self.summary["differences"]:
            by_baseline.setdefault(row["predictor"], {})[row["score"]] = row
        return by_baseline

    def dropped_by_reason(self) -> list[tuple[str, str, list[str]]]:
        """What was dropped (clusters, households, polygons), why, and the ids; the most frequent reason first."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for entry in self.summary["dropped"]:
            reasons.setdefault((entry["source"], entry["reason"]), []).append(str(entry["id"]))
        ordered = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
        return [(source, reason, ids) for (source, reason), ids in ordered]

    def curve_baseline(self) -> str | None:
        """The baseline beside the model in the curve: the best from nightlights, else the best of those drawn."""
        drawn = {row["predictor"] for row in self.summary["curve"]}
        rivals = sorted(name for name in drawn if name.startswith("nightlights")) or sorted(drawn - {"model"})
        return max(rivals, key=lambda name: self.row(name)["R2"], default=None)

    def figures(self) -> dict[str, Picture]:
        """The figures that the run has the data for, by name."""
        from geopov.regression.report import curve_figures, figures

        summary, table = self.summary, self.predictions
        observed, mean, baseline = (table[name].to_numpy(np.float64) for name in ("observed", "mean", "baseline"))
        limits = figures.common_limits(observed, mean, baseline)
        found = {}
        for name, predicted, colour, who in (
            ("model", mean, figures.MODEL_COLOUR, "model"),
            ("baseline", baseline, figures.BASELINE_COLOUR, summary["baseline"]),
        ):
            png = figures.scatter(observed, predicted, limits=limits, label=self.label, colour=colour)
            slope = number(self.row(who)["slope"])
            alt = f"Scatter of predicted against observed {self.label}, {self.name_of(who)}: slope {slope}."
            found[name] = Picture(data_uri(png), alt)
        residuals = figures.residual_map(table, label=self.label)
        found["residuals"] = Picture(data_uri(residuals), f"Map of observed minus predicted {self.label} by cluster.")
        model, *rivals = (row for row in self.rows() if row["R2"] is not None)
        rivals.sort(key=lambda row: -row["R2"])
        scores = curve_figures.score_dots(
            [(self.name_of(row["predictor"]), row) for row in (model, *rivals)], score="R2"
        )
        found["scores"] = Picture(data_uri(scores), "R² of the model and of each baseline with 95% intervals.")
        if summary["curve"]:
            found["curve"] = self._curve()
        if summary["bias_by_decile"]:
            png = curve_figures.bias_by_decile(summary["bias_by_decile"], label=self.label)
            alt = "Mean error by tenth of the clusters, from the lowest to the highest, for each way of de-shrinking."
            found["bias"] = Picture(data_uri(png), alt)
        if summary["blocks"]:
            png = curve_figures.block_shares(summary["blocks"]["rows"])
            found["blocks"] = Picture(data_uri(png), wording.about_blocks(summary))
        if summary["permutation"]:
            png = curve_figures.null_histogram(summary["permutation"])
            found["permutation"] = Picture(data_uri(png), wording.about_permutation(summary))
        return found

    def _curve(self) -> Picture:
        from geopov.regression.report import curve_figures

        names = [name for name in ("model", self.curve_baseline()) if name is not None]
        curves = [(self.name_of(n), [row for row in self.summary["curve"] if row["predictor"] == n]) for n in names]
        alt = "r² among the clusters with the lowest outcome, by share, of " + " and of ".join(
            name for name, _ in curves
        )
        return Picture(data_uri(curve_figures.poorest_curves(curves)), alt + ", with 95% intervals.")


def render_report(
    folders: Sequence[Path | str],
    path: Path | str,
    *,
    maps: Sequence[tuple[Path | str, str]] = (),
    title: str | None = None,
) -> None:
    """Write the report of one or more models, for people and for machines, the same bytes at every repeat.

    Parameters
    ----------
    folders : sequence of path
        What :func:`geopov.regression.evaluate` wrote. The first is the one the first screen speaks of.
    path : path
        Of the HTML file. It needs no other file, no network and no JavaScript. Beside it, under the same name, stand
        ``.json`` (the sentences, the warnings and every table) and ``.parquet`` (all scores in long form: ``run``,
        ``subset``, ``predictor``, ``score``, ``value``, ``low``, ``high``, ``n``, ``n_blocks``).
    maps : sequence of (path, caption)
        PNG pictures of the map, with what they show.
    title : str, optional
        Default: from the outcome's label.

    Raises
    ------
    RegressionError
        If a folder or a picture cannot be read.
    """
    path = Path(path)
    if not folders:
        raise RegressionError("no folder is given; a report needs at least one that `geopov regression fit` wrote.")
    if path.suffix in (".json", ".parquet"):
        raise RegressionError(f"the report is to be {path}, which its tables are written to; name an .html file.")
    runs = [Run.read(folder) for folder in folders]
    pictures = [(data_uri(_read_png(Path(picture))), caption) for picture, caption in maps]
    title = title or f"{_capital(runs[0].summary['label'])} from satellite images"
    html = environment().get_template("report.html.j2").render(title=title, runs=runs, maps=pictures, say=wording)
    export.write_json(runs, path.with_suffix(".json"), title=title, captions=[caption for _, caption in maps])
    export.write_scores(runs, path.with_suffix(".parquet"))
    # Last, so that a report with a page is a whole one.
    with atomic_path(path) as partial:
        partial.write_text(html, encoding="utf-8")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _read_png(path: Path) -> bytes:
    if not path.is_file():
        raise RegressionError(f"there is no picture at {path}; `geopov maps render map.tif -o map.png` makes one.")
    content = path.read_bytes()
    if not content.startswith(_PNG_SIGNATURE):
        raise RegressionError(f"{path} is not a PNG picture; expected one from `geopov maps render`.")
    return content
