"""From a trained classifier and tiles to a table of probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN
from geopov.errors import FeatureError
from geopov.features.classification.classifier import TileClassifier
from geopov.features.classification.two_stage import TWO_STAGE, TwoStage
from geopov.features.extract import ProgressCallback, Tiles, extract_array

__all__ = ["classify", "open_classifier"]


def open_classifier(folder: str | Path) -> TileClassifier | TwoStage:
    """The classifier in a folder, of one stage or two.

    Raises
    ------
    FeatureError
        If there is none, or it is damaged.
    """
    return TwoStage.open(folder) if (Path(folder) / TWO_STAGE).is_file() else TileClassifier.open(folder)


def classify(
    classifier: str | Path | TileClassifier | TwoStage,
    tiles: Tiles,
    *,
    batch_size: int = 256,
    progress: ProgressCallback | None = None,
) -> gpd.GeoDataFrame:
    """Probabilities of each tile. With two stages tiles are read once, and the second looks at what the first keeps.

    Parameters
    ----------
    classifier : path, TileClassifier or TwoStage
        A folder that training wrote, or what it returned.
    tiles : TileSet
        Of the size the classifier was trained on.
    batch_size : int
        Tiles read at once.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Returns
    -------
    GeoDataFrame
        In the order of the tiles' index: ``tile_id``, ``cluster_id``, ``predicted`` (the most probable class),
        ``p_CLASS`` (float32, sum 1), ``geometry``; with two stages also ``first_pass``, the probability that the
        first gave, and ``stage``, 1 or 2, whose the probabilities are. Missing where a tile has too few valid pixels.
        The attribute ``classifier``, JSON, tells the classes, the label and the calibration.

    Raises
    ------
    FeatureError
        If the tiles have another size, resolution, context or other bands than the classifier was trained on.
    """
    found = classifier if isinstance(classifier, TileClassifier | TwoStage) else open_classifier(classifier)
    last = found.second if isinstance(found, TwoStage) else found
    _check_tiles(tiles, last.card["tile"])
    rows = extract_array(found, tiles, batch_size=batch_size, progress=progress)
    table = tiles.index[["tile_id", ID_COLUMN, "geometry"]].reset_index(drop=True)
    probabilities = rows[:, : len(found.classes)]
    known = np.isfinite(probabilities.sum(axis=1))
    predicted = np.full(len(rows), None, dtype=object)
    predicted[known] = np.asarray(found.classes, dtype=object)[probabilities[known].argmax(axis=1)]
    table.insert(2, "predicted", predicted)
    for column, name in enumerate(found.feature_names):
        table.insert(3 + column, name, rows[:, column])
    if isinstance(found, TwoStage):
        stage = pd.Series(np.where(found.passes(rows[:, -1]), 2, 1), dtype="Int8")
        table.insert(3 + rows.shape[1], "stage", stage.where(known))
    table.attrs["classifier"] = json.dumps(
        {
            "classes": list(found.classes),
            "label": last.card["label"],
            "calibration": last.calibration.method,
            "temperature": last.calibration.temperature,
        }
    )
    return table


def _check_tiles(tiles: Tiles, trained_on: Mapping[str, Any]) -> None:
    given = tiles.spec.to_dict()
    for key in ("size_px", "resolution_m", "context_px"):
        if given.get(key) != trained_on.get(key):
            raise FeatureError(
                f"the tiles have {key}={given.get(key)}, but the classifier was trained on {trained_on.get(key)}, and "
                "its probabilities hold for those only. Cut the tiles alike, or train it on such tiles."
            )
