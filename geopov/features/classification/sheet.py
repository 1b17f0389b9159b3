"""Tiles beside their probabilities: one picture to print, and one page to look through."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import ID_COLUMN, atomic_path, check_columns
from geopov.errors import FeatureError
from geopov.features._input import Band
from geopov.features._stretch import Stretch
from geopov.features.classification.pictures import Order, choose_tiles, png_of, tile_pictures
from geopov.features.classification.two_stage import TwoStage
from geopov.features.extract import Tiles

__all__ = ["write_page", "write_sheet"]

# Okabe & Ito's colours, told apart by colour-blind readers, without the black and the yellow that vanish on the page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DRAWING_PX = 240


def write_page(
    table: gpd.GeoDataFrame,
    tiles: Tiles,
    path: str | Path,
    *,
    classifier: Any = None,
    truth: Mapping[str, str] | None = None,
    n: int = 60,
    order: Order = "spread",
    bands: Sequence[Band] | None = None,
    stretch: Stretch = "linear",
    title: str = "Tiles beside their probabilities",
) -> Path:
    """Write one HTML file with pictures of tiles beside their probabilities, to sort and sift; it needs no network.

    Parameters
    ----------
    table : GeoDataFrame
        From :func:`geopov.features.classification.apply.classify`.
    tiles : TileSet
        The tiles it is about.
    path : path
        Of the page.
    classifier : TileClassifier or TwoStage, optional
        For what the page says about how far the probabilities hold.
    truth : mapping of str to str, optional
        Known classes by ``cluster_id``, shown beside the prediction.
    n, order
        Which tiles; see :func:`geopov.features.classification.pictures.choose_tiles`.
    bands, stretch
        Of the pictures; see :func:`geopov.features.classification.pictures.tile_pictures`.
    title : str
        Heading.

    Returns
    -------
    Path
        The page; equal input gives equal bytes.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    classes = _classes(table, tiles)
    rows = choose_tiles(table, n=n, order=order)
    pictures = tile_pictures(tiles, rows, bands=bands, stretch=stretch)
    environment = Environment(
        loader=PackageLoader("geopov.features.classification"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = Counter(table["predicted"].dropna())
    page = environment.get_template("page.html.j2").render(
        title=title,
        n_tiles=len(table),
        n_missing=int(table["predicted"].isna().sum()),
        classes=[{"name": name, "colour": _colour(i), "n": counts.get(name, 0)} for i, name in enumerate(classes)],
        has_truth=truth is not None,
        trust=None if classifier is None else _trust(classifier),
        order={"spread": "an even spread over", "sure": "the surest of", "doubtful": "the most doubtful of"}[order],
        tiles=[
            _card(table.iloc[row], picture, classes, truth or {}) for row, picture in zip(rows, pictures, strict=True)
        ],
    )
    path = Path(path)
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def write_sheet(
    table: gpd.GeoDataFrame,
    tiles: Tiles,
    path: str | Path,
    *,
    truth: Mapping[str, str] | None = None,
    n: int = 24,
    columns: int = 4,
    order: Order = "spread",
    bands: Sequence[Band] | None = None,
    stretch: Stretch = "linear",
) -> Path:
    """Write a PNG of tiles beside bars of their probabilities.

    Parameters
    ----------
    table, tiles, path, truth, n, order, bands, stretch
        As for :func:`write_page`.
    columns : int
        Tiles side by side.

    Returns
    -------
    Path
        The picture; equal input gives equal bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise FeatureError(f"columns is {columns!r}; expected a whole number above zero.")
    classes = _classes(table, tiles)
    rows = choose_tiles(table, n=n, order=order)
    pictures = tile_pictures(tiles, rows, bands=bands, stretch=stretch)
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(3.3 * columns, 1.75 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(lines, 2 * columns, squeeze=False)).reshape(-1, 2)
    for i, (picture_axis, bar_axis) in enumerate(axes):
        if i < len(rows):
            _draw(picture_axis, bar_axis, table.iloc[rows[i]], pictures[i], classes, truth or {})
        else:
            picture_axis.axis("off")
            bar_axis.axis("off")
    path = Path(path)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png", metadata={"Software": None})
    return path


def _draw(
    picture_axis: Any,
    bar_axis: Any,
    row: pd.Series,
    picture: npt.NDArray[np.uint8],
    classes: Sequence[str],
    truth: Mapping[str, str],
) -> None:
    picture_axis.set_facecolor("#bbbbbb")
    picture_axis.imshow(picture, interpolation="nearest" if picture.shape[0] < _DRAWING_PX else "antialiased")
    picture_axis.set_xticks([])
    picture_axis.set_yticks([])
    picture_axis.set_title(str(row["tile_id"]), fontsize=7)
    places = np.arange(len(classes))[::-1]
    values = [float(row[f"p_{name}"]) for name in classes]
    bar_axis.barh(places, values, color=[_colour(i) for i in range(len(classes))], height=0.35)
    for place, name, value in zip(places, classes, values, strict=True):
        bar_axis.text(0, place + 0.24, f"{name} {value:.2f}", fontsize=7, va="bottom")
    known = truth.get(str(row[ID_COLUMN]))
    bar_axis.set_title("" if known is None else f"labelled {known}", fontsize=7)
    bar_axis.set_xlim(0, 1)
    bar_axis.set_ylim(-0.4, len(classes) - 0.3)
    bar_axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=6)
    bar_axis.set_yticks([])
    bar_axis.spines[["top", "right", "left"]].set_visible(False)


def _classes(table: gpd.GeoDataFrame, tiles: Tiles) -> list[str]:
    check_columns(table, ["tile_id", ID_COLUMN, "predicted"], "the table of probabilities", FeatureError)
    if len(table) != len(tiles) or (table["tile_id"].to_numpy() != tiles.index["tile_id"].to_numpy()).any():
        raise FeatureError(
            f"the table has {len(table)} rows and there are {len(tiles)} tiles, or their tile_id differ; give the "
            "tiles that were classified, in their order."
        )
    return [str(name)[2:] for name in table.columns if str(name).startswith("p_")]


def _card(
    row: pd.Series, picture: npt.NDArray[np.uint8], classes: Sequence[str], truth: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "id": str(row["tile_id"]),
        "lon": f"{row.geometry.x:.4f}",
        "lat": f"{row.geometry.y:.4f}",
        "predicted": str(row["predicted"]),
        "truth": truth.get(str(row[ID_COLUMN])),
        "stage": None if "stage" not in row.index else int(row["stage"]),
        "bars": [
            {"name": name, "colour": _colour(i), "p": f"{float(row[f'p_{name}']):.3f}"}
            for i, name in enumerate(classes)
        ],
        "source": "data:image/png;base64," + base64.b64encode(png_of(picture)).decode(),
        "small": picture.shape[0] < _DRAWING_PX,
    }


def _trust(classifier: Any) -> dict[str, Any]:
    """What the page says about the classifier; of two stages, the calibration is the second's."""
    two = isinstance(classifier, TwoStage)
    last = classifier.second if two else classifier
    return {
        "label": last.card["label"],
        "split": last.card["split"],
        "n_points": last.card["n_points"],
        "model": last.card["training"]["model"],
        "calibration": last.calibration.to_dict(),
        "before": last.checks["before"],
        "after": last.checks["after"],
        "curves": [
            {"name": name, "colour": _colour(i), "bins": bins}
            for i, (name, bins) in enumerate(last.checks["reliability"].items())
        ],
        "two_stage": classifier.checks if two else None,
        "threshold": classifier.threshold if two else None,
        "positive": list(classifier.positive) if two else None,
    }


def _colour(position: int) -> str:
    return COLOURS[position % len(COLOURS)]
