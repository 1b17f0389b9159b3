"""Sensitivity, specificity and AUROC of each class against all others, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features.comparison.intervals import (
    Bools,
    Estimate,
    Floats,
    auroc_bootstrap,
    auroc_delong,
    clopper_pearson,
    delong,
    delong_test,
)

__all__ = ["MEAN", "class_differences", "class_scores", "mean_auroc", "youden_thresholds"]

MEAN = "mean"
"""The row of the mean over classes."""

_UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def youden_thresholds(truth: npt.ArrayLike, probabilities: npt.ArrayLike, *, classes: Sequence[str]) -> Floats:
    """For each class the probability from which on a tile is said to be of it.

    Parameters
    ----------
    truth : array (tile,) of str
        Classes of tiles that are not scored later: those of validation.
    probabilities : array (tile, class)
        In the order of ``classes``.
    classes : sequence of str
        Names.

    Returns
    -------
    array (class,)
        Where sensitivity + specificity - 1 is largest (Youden 1950, Cancer 3, 32-35), half way to the next probability
        below; NaN for a class without a tile, or without another.
    """
    positive, values = _one_vs_rest(truth, probabilities, classes)
    return np.array([_youden(positive[:, k], values[:, k]) for k in range(len(classes))])


def class_scores(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    classes: Sequence[str],
    thresholds: npt.ArrayLike,
    blocks: npt.ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of each class against all others, and of their mean.

    Parameters
    ----------
    truth : array (tile,) of str
        Classes of the tiles.
    probabilities : array (tile, class)
        In the order of ``classes``; any score that orders tiles will do.
    classes : sequence of str
        Names.
    thresholds : array (class,)
        From which on a tile is said to be of the class; see :func:`youden_thresholds`.
    blocks : array (tile,), optional
        Of tiles that are not independent. Intervals of AUROC then come from a bootstrap of whole blocks, else from
        DeLong; the mean's from a bootstrap in both cases. Those of proportions are exact binomial ones, which know no
        blocks.
    level, n_resamples, seed
        Of the intervals.

    Returns
    -------
    DataFrame
        A row a class, then the row "mean": ``class``, ``n``, ``n_positive``, ``auroc``, ``threshold``,
        ``sensitivity``, ``specificity``, the scores with ``_low`` and ``_high``. NaN where fewer than two tiles are of
        a class; the mean is over the other classes, and its sensitivity and specificity have no interval.
    """
    positive, values = _one_vs_rest(truth, probabilities, classes)
    cuts = np.asarray(thresholds, dtype=np.float64)
    if cuts.shape != (len(classes),):
        raise FeatureError(f"thresholds are {cuts.shape}; expected one for each of the {len(classes)} classes.")
    known = _scorable(positive)
    bootstrap = {"level": level, "n_resamples": n_resamples, "seed": seed}
    rows = []
    for k, name in enumerate(classes):
        auroc = _UNKNOWN
        if known[k] and blocks is None:
            auroc = auroc_delong(positive[:, k], values[:, k], level=level)
        elif known[k]:
            auroc = auroc_bootstrap(positive[:, k], values[:, k], blocks=blocks, **bootstrap)  # type: ignore[arg-type]
        rows.append(_row(name, positive[:, k], values[:, k], auroc, float(cuts[k]), level))
    mean = _UNKNOWN
    if known.any():
        mean = auroc_bootstrap(positive[:, known], values[:, known], blocks=blocks, **bootstrap)  # type: ignore[arg-type]
    table = pd.DataFrame(rows)
    last = {"class": MEAN, "n": len(positive), **_columns("auroc", mean)}
    last |= {name: table[name].mean() for name in ("sensitivity", "specificity")}
    return pd.concat([table, pd.DataFrame([last])], ignore_index=True)


def class_differences(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    classes: Sequence[str],
    blocks: npt.ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC of each class minus that of a reference on the same tiles, paired.

    Parameters
    ----------
    truth, probabilities, classes, blocks, level, n_resamples, seed
        As in :func:`class_scores`.
    reference : array (tile, class)
        Probabilities of the reference.

    Returns
    -------
    DataFrame
        A row a class, then "mean": ``class``, ``difference`` with ``_low`` and ``_high``, and ``p_value`` of DeLong's
        paired test; NaN for the mean and where blocks are given, since that test takes tiles as independent.
    """
    positive, values = _one_vs_rest(truth, probabilities, classes)
    others = _one_vs_rest(truth, reference, classes)[1]
    known = _scorable(positive)
    columns = [([k] if known[k] else []) for k in range(len(classes))] + [np.flatnonzero(known).tolist()]
    rows = []
    for name, chosen in zip([*classes, MEAN], columns, strict=True):
        found, p_value = _UNKNOWN, float("nan")
        if chosen and blocks is None and name != MEAN:
            test = delong_test(positive[:, chosen[0]], values[:, chosen[0]], others[:, chosen[0]], level=level)
            found, p_value = test.difference, test.p_value
        elif chosen:
            found = auroc_bootstrap(
                positive[:, chosen], values[:, chosen], against=others[:, chosen], blocks=blocks, level=level,
                n_resamples=n_resamples, seed=seed,
            )  # fmt: skip
        rows.append({"class": name, **_columns("difference", found), "p_value": p_value})
    return pd.DataFrame(rows)


def mean_auroc(truth: npt.ArrayLike, probabilities: npt.ArrayLike, *, classes: Sequence[str]) -> float:
    """Mean AUROC over the classes with at least two tiles and two others; NaN where there is none."""
    positive, values = _one_vs_rest(truth, probabilities, classes)
    aurocs = [float(delong(positive[:, k], values[:, k])[0][0]) for k in np.flatnonzero(_scorable(positive))]
    return float(np.mean(aurocs)) if aurocs else float("nan")


def _one_vs_rest(truth: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str]) -> tuple[Bools, Floats]:
    names, values = np.asarray(truth, dtype=str), np.asarray(probabilities, dtype=np.float64)
    if values.shape != (len(names), len(classes)):
        raise FeatureError(
            f"probabilities are {values.shape} for {len(names)} tiles and {len(classes)} classes; "
            "expected a row a tile and a column a class."
        )
    if unknown := sorted(set(names.tolist()) - set(classes)):
        raise FeatureError(f"tiles are of the classes {some(unknown)}; expected {some(classes, 20)}.")
    return names[:, None] == np.asarray(classes, dtype=str)[None, :], values


def _scorable(positive: Bools) -> Bools:
    n = positive.sum(axis=0)
    found: Bools = (n >= 2) & (len(positive) - n >= 2)
    return found


def _youden(positive: Bools, scores: Floats) -> float:
    if not positive.any() or positive.all():
        return float("nan")
    candidates, tie = np.unique(scores, return_inverse=True)
    # Counts at each candidate or above, the candidates ascending.
    hits, alarms = (
        np.cumsum(np.bincount(tie.ravel(), weights=kind, minlength=len(candidates))[::-1])[::-1]
        for kind in (positive, ~positive)
    )
    best = int(np.argmax(hits / positive.sum() - alarms / (~positive).sum()))
    return float(candidates[best] if best == 0 else (candidates[best] + candidates[best - 1]) / 2)


def _row(name: str, positive: Bools, scores: Floats, auroc: Estimate, threshold: float, level: float) -> dict[str, Any]:
    row = {"class": name, "n": len(positive), "n_positive": int(positive.sum()), **_columns("auroc", auroc)}
    said = scores >= threshold
    for score, found, kind in (("sensitivity", said, positive), ("specificity", ~said, ~positive)):
        estimate = _UNKNOWN
        if np.isfinite(threshold) and kind.any():
            estimate = clopper_pearson(int((found & kind).sum()), int(kind.sum()), level=level)
        row |= _columns(score, estimate)
    return row | {"threshold": threshold}


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
