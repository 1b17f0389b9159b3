"""The page of :mod:`geopov.regression.jean2016`: one HTML file without network or script, and its tables as JSON."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from geopov._validation import atomic_path
from geopov.regression.report.format import number
from geopov.regression.report.html import data_uri, environment
from geopov.regression.scores_file import records

if TYPE_CHECKING:
    from geopov.regression.jean2016 import JeanFigures

PROCEDURES = {"original": "as published", "nested": "held out by place"}


class Picture(NamedTuple):
    """A picture with its words."""

    uri: str
    alt: str
    title: str
    caption: str


def render(figures: JeanFigures, path: Path, *, title: str | None, not_reproduced: str) -> None:
    """Write the page and, beside it, the tables; see :func:`geopov.regression.jean2016.render_jean2016`."""
    title = title or f"The figures of Jean et al. (2016) for {figures.meta['outcome'].replace('_', ' ')}"
    heads, curves = _curve_table(figures)
    html = (
        environment()
        .get_template("jean2016.html.j2")
        .render(
            title=title,
            meta=figures.meta,
            defects=figures.defects,
            not_reproduced=not_reproduced,
            procedures=PROCEDURES,
            answers=_answers(figures),
            scores=_scores_by_country(figures),
            curve_heads=heads,
            curves=curves,
            randomised=records(figures.randomised),
            dropped=records(figures.dropped),
            provenance={"geopov": version("geopov"), "inputs": figures.meta.get("inputs", {})},
            **_pictures(figures),
        )
    )
    content = {
        "title": title,
        "geopov": version("geopov"),
        "meta": figures.meta,
        "procedures": {name: PROCEDURES[name] for name in figures.meta["procedures"]},
        "defects": list(figures.defects),
        "not_reproduced": not_reproduced,
        **{name: records(table) for name, table in figures.tables().items()},
    }
    with atomic_path(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    # Last, so that a page is never without its tables.
    with atomic_path(path) as partial:
        partial.write_text(html, encoding="utf-8")


def _answers(figures: JeanFigures) -> list[dict[str, str]]:
    """r² of figure 3 with each procedure, a mean where there are several countries, and of images among the poor."""
    r2 = figures.scores.groupby("procedure")["r2"].mean()
    n = len(figures.meta["countries"])
    over = f"mean over {n} countries" if n > 1 else figures.meta["countries"][0]
    found = []
    if "original" in r2:
        text = f"r², {over}: random folds, mean of the r² within folds."
        found.append({"question": "As published", "short": number(r2["original"]), "text": text})
    text = f"r², {over}: places predicted by models that saw no cluster there."
    found.append({"question": "Held out by place", "short": number(r2["nested"]), "text": text})
    images = figures.curves[figures.curves["predictor"] == "images"]
    half = images[images["share"] == 0.5].set_index("procedure")["r2"]
    if "nested" in half:
        text = "r², held out by place" + (f"; as published {number(half['original'])}." if "original" in half else ".")
        found.append({"question": "Among the poorest half", "short": number(half["nested"]), "text": text})
    return found


def _scores_by_country(figures: JeanFigures) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in records(figures.scores):
        found.setdefault(row["country"], {"country": row["country"], "n": row["n"]})[row["procedure"]] = row
    return list(found.values())


def _curve_table(figures: JeanFigures) -> tuple[list[str], list[dict[str, Any]]]:
    """Headings and rows of figure 4 A-B, a column for each procedure and predictor."""
    columns = list(dict.fromkeys(figures.curves[["procedure", "predictor"]].itertuples(index=False, name=None)))
    values = figures.curves.set_index(["share", "procedure", "predictor"])
    rows = [
        {"share": share, "n": n, "r2": [float(values.loc[(share, *column), "r2"]) for column in columns]}
        for share, n in figures.curves[["share", "n"]].drop_duplicates().itertuples(index=False, name=None)
    ]
    return [f"{predictor}, {PROCEDURES[procedure]}" for procedure, predictor in columns], rows


def _pictures(figures: JeanFigures) -> dict[str, Any]:
    from geopov.regression.jean2016 import figures as pictures
    from geopov.regression.report import figures as drawing

    label = figures.meta["outcome"].replace("_", " ")
    procedures: list[str] = figures.meta["procedures"]

    def picture(png: bytes, procedure: str, what: str, caption: str) -> Picture:
        title = PROCEDURES[procedure]
        return Picture(data_uri(png), f"{what}, {title}", title[:1].upper() + title[1:], caption)

    def of(table: pd.DataFrame, procedure: str) -> pd.DataFrame:
        return table[table["procedure"] == procedure]

    r2 = figures.scores.set_index(["procedure", "country"])["r2"]
    panels3 = []
    for country in figures.meta["countries"]:
        rows = figures.predictions[figures.predictions["country"] == country]
        limits = drawing.common_limits(rows["observed"].to_numpy(), rows["predicted"].to_numpy())
        panels = []
        for procedure in procedures:
            observed, predicted = (of(rows, procedure)[name].to_numpy() for name in ("observed", "predicted"))
            colour = drawing.BASELINE_COLOUR if procedure == "original" else drawing.MODEL_COLOUR
            png = drawing.scatter(observed, predicted, limits=limits, label=label, colour=colour)
            caption = f"r² = {r2[procedure, country]:.2f}. Dashed: equal. Line: least squares."
            panels.append(picture(png, procedure, f"{country}: predicted against observed", caption))
        panels3.append((country, panels))
    top, right = 1.08 * figures.curves["r2_highest"].max(), 1.12 * figures.randomised["r2"].max()
    right = max(right, 1.05 * figures.null["r2"].max())
    names = [*figures.meta["countries"], "pooled"]
    found: dict[str, Any] = {"pictures3": panels3, "pictures4": [], "pictures4cd": [], "pictures5": []}
    for procedure in procedures:
        curves = of(figures.curves, procedure)
        if len(curves):
            png = pictures.poorest_curves(curves, top=top)
            trials = int(curves["trials"].iloc[0])
            caption = f"Mean of {trials} division{'s' if trials > 1 else ''} into folds; shaded: their range."
            found["pictures4"].append(picture(png, procedure, "r² among the poorest clusters", caption))
        null, true = of(figures.null, procedure), of(figures.randomised, procedure)
        png = pictures.reshuffles(null, true, right=right)
        caption = f"Median of all reshuffles: {null['r2'].median():.3f}."
        found["pictures4cd"].append(picture(png, procedure, "r² with images reshuffled and in place", caption))
        borders = of(figures.generalisation, procedure)
        if len(borders):
            png = pictures.matrix(borders, names)
            abroad = borders[(borders["trained_on"] != borders["tested_on"]) & (borders["trained_on"] != "pooled")]
            caption = f"Mean away from the diagonal, single countries: {abroad['r2'].mean():.2f}."
            found["pictures5"].append(picture(png, procedure, "r² by country trained and tested on", caption))
    return found
