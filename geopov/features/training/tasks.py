"""From the numbers a head gives to probabilities, and how well they fit the labels.

No torch here: predictions of a trained network are scored and read without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from geopov.errors import FeatureError
from geopov.features.networks.card import Task

__all__ = ["class_probabilities", "scores"]

Floats = npt.NDArray[np.floating[Any]]


def class_probabilities(logits: Floats, task: Task) -> npt.NDArray[np.float64]:
    """Probabilities of the classes from a head's numbers.

    Parameters
    ----------
    logits : float array (n, n_logits)
        One a class; for an ordinal task one a step: the log odds that the class is above it.
    task : {"classification", "ordinal"}
        Which of the two.

    Returns
    -------
    float64 array (n, n_classes)
        Rows sum to 1; NaN where the logits are.

    Notes
    -----
    The steps of an ordinal task are learnt as separate yes-or-no questions (Niu et al. 2016), whose answers may
    contradict one another: a class above the second step is above the first. The chance of being above a step is
    therefore taken as the smallest of its own and those of the steps before.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if task == "classification":
        return np.asarray(softmax(logits, axis=1))
    if task == "ordinal":
        above = np.minimum.accumulate(expit(logits), axis=1)
        one, none = np.ones((len(above), 1)), np.zeros((len(above), 1))
        return np.asarray(-np.diff(np.hstack([one, above, none]), axis=1))
    raise FeatureError("a regression has one number a tile and no probabilities; take its outputs.")


def scores(logits: Floats, values: Floats, task: Task) -> dict[str, float | None]:
    """How well predictions fit labels.

    Parameters
    ----------
    logits : float array (n, n_logits)
        What the head gives.
    values : float array (n,)
        Numbers of the classes, or the numbers themselves.
    task : {"classification", "ordinal", "regression"}
        What they are.

    Returns
    -------
    dict
        Classes: ``accuracy``, ``balanced_accuracy`` (the mean of the classes' recalls, over the classes that occur)
        and ``auroc`` (the mean over these classes of one against the rest); for ordinal ones ``mean_step``, the mean
        number of classes a prediction is off. Regression: ``r2_pearson``, ``R2``, ``rmse``, ``spearman``. None where
        a score has no meaning, as a correlation with a constant has none.
    """
    if task == "regression":
        return _number_scores(np.asarray(logits, np.float64)[:, 0], np.asarray(values, np.float64))
    chances, codes = class_probabilities(logits, task), np.asarray(values).astype(int)
    guess = chances.argmax(axis=1)
    present = np.unique(codes)
    found: dict[str, float | None] = {
        "accuracy": float(np.mean(guess == codes)),
        "balanced_accuracy": float(np.mean([np.mean(guess[codes == code] == code) for code in present])),
        "auroc": None,
    }
    if len(present) > 1:
        found["auroc"] = float(np.mean([roc_auc_score(codes == code, chances[:, code]) for code in present]))
    if task == "ordinal":
        found["mean_step"] = float(np.mean(np.abs(guess - codes)))
    return found


def _number_scores(predicted: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> dict[str, float | None]:
    error = predicted - true
    spread = float(np.sum((true - true.mean()) ** 2))
    pearson, spearman = _correlation(predicted, true), _correlation(rankdata(predicted), rankdata(true))
    return {
        "r2_pearson": None if pearson is None else pearson**2,
        "R2": 1 - float(np.sum(error**2)) / spread if spread > 0 else None,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "spearman": spearman,
    }


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float | None:
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
