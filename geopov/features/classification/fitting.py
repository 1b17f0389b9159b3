"""The two ways to a classifier: a network trained end to end, or a logistic regression on any extractor's features.

Both end in the same thing: an extractor, and on its features a linear head of one score a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import log_softmax

from geopov._optional import require
from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features.classification.labels import CODE_COLUMN, Labelled
from geopov.features.extract import ProgressCallback, Tiles, extract_array
from geopov.features.extractor import Extractor, build
from geopov.features.subset import Subset

__all__ = ["Fitted", "fit_logistic", "fit_network"]

Floats = npt.NDArray[np.float64]
NETWORK_FOLDER = "network"

# Inverse strengths of the penalty on standardised features; the validation tiles choose.
_PENALTIES = tuple(10.0**power for power in range(-5, 2))


@dataclass(frozen=True)
class Fitted:
    """An extractor and the head fitted on its features.

    Attributes
    ----------
    extractor : Extractor
        For the bands of the tiles.
    weights : float array (class, feature)
        Of the head.
    intercept : float array (class,)
        Of the head; scores are ``features @ weights.T + intercept``.
    training : dict
        JSON types: how it was fitted.
    """

    extractor: Extractor
    weights: Floats
    intercept: Floats
    training: dict[str, Any]


def fit_logistic(
    tiles: Tiles, labelled: Labelled, spec: Any, *, batch_size: int = 256, progress: ProgressCallback | None = None
) -> Fitted:
    """Multinomial logistic regression with an L2 penalty on the extractor's features of the training tiles.

    The strength of the penalty is the one, of seven powers of ten, with the least log loss on the validation tiles.
    """
    from sklearn.linear_model import LogisticRegression

    extractor = build(spec).for_bands(tiles.band_names)
    features = extract_array(extractor, Subset(tiles, labelled.positions), batch_size=batch_size, progress=progress)
    usable = ~np.isnan(features).any(axis=1)
    train, validation = usable & labelled.of("train"), usable & labelled.of("validation")
    for split, inside in (("train", train), ("validation", validation)):
        if len(np.unique(labelled.codes[inside])) < len(labelled.classes):
            raise FeatureError(
                f"the tiles of a class in {split} all have too few valid pixels; lower min_valid or label others."
            )
    rows = features.astype(float)
    mean, std = rows[train].mean(axis=0), rows[train].std(axis=0)
    std[std == 0] = 1
    scaled, truth = (rows - mean) / std, labelled.codes[validation]
    heads = []
    for penalty in _PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=5000).fit(scaled[train], labelled.codes[train])
        weights, intercept = _head(model)
        log_p = log_softmax(scaled[validation] @ weights.T + intercept, axis=1)
        heads.append((-float(log_p[np.arange(len(truth)), truth].mean()), penalty, weights / std, intercept))
    loss, penalty, weights, intercept = min(heads, key=lambda head: head[0])
    training = {"model": "logistic regression", "inverse_penalty": penalty, "validation_log_loss": loss}
    return Fitted(extractor, weights, intercept - weights @ mean, training)


def _head(model: Any) -> tuple[Floats, Floats]:
    """Weights (class, feature) and intercepts (class,); of two classes scikit-learn fits the second's only."""
    weights, intercept = np.asarray(model.coef_, dtype=float), np.asarray(model.intercept_, dtype=float)
    return (np.vstack([0 * weights, weights]), np.append(0.0, intercept)) if len(weights) == 1 else (weights, intercept)


def fit_network(
    tiles: Tiles, labelled: Labelled, folder: Path, options: Mapping[str, Any], *, progress: ProgressCallback | None
) -> Fitted:
    """A network trained on the labels by ``pretrain``, in the folder ``network`` below ``folder``; resumes there.

    Classes that were weighted in training look as frequent as the weights made them, so the head's scores are lowered
    by the logarithm of the weights: what is left is the log-odds at the training tiles' own frequencies (Saerens et al.
    2002, "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14:21, equation 4).
    """
    require("torch", purpose="Training a tile classifier without extractor=")
    from geopov.features.networks.trained import load_trained
    from geopov.features.training.fit import pretrain

    if own := sorted({"task", "label", "folder"} & set(options)):
        raise FeatureError(f"{some(own)} is set by the classifier itself; leave it out.")
    where = folder / NETWORK_FOLDER
    table, label = labelled.table, str(labelled.report["label"])
    names = pd.Categorical.from_codes(table[CODE_COLUMN].to_numpy(dtype=np.int64), pd.Index(labelled.classes))
    extractor = pretrain(
        tiles,
        table.assign(**{label: names}),
        folder=where,
        task="classification",
        label=label,
        progress=progress,
        **options,
    )
    parts = load_trained(where)
    card, head = parts.card, parts.head
    order = [card.outputs.index(name) for name in labelled.classes]
    weights, intercept = head.weight.double().numpy()[order], head.bias.double().numpy()[order]
    given = card.training.get("class_weights")
    return Fitted(
        extractor.for_bands(tiles.band_names),
        weights,
        intercept if given is None else intercept - np.log(np.asarray(given, dtype=float)[order]),
        {"model": "network", "backbone": card.backbone, "network_sha256": card.sha256, "training": card.training},
    )
