"""The regressions of Jean et al. (2016) as their published notebooks run them, defects and all.

Written anew after ``figures/fig_utils.py`` and the notebooks of nealjean/predicting-poverty; for
:mod:`geopov.regression.jean2016` only, and for comparison only. Features are centred and not scaled, folds are random,
penalties come from an absolute grid, and r² is the mean over folds of the squared correlation within the fold.

A ridge penalty cannot tell a rotation of the features, so they are rotated once to as few columns as clusters, which
changes no prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from geopov.regression._inputs import Floats, Ints

N_FOLDS, INNER_FOLDS = 5, 5
ALPHAS = {
    "figure3": np.logspace(1, 5, 10),
    "figure4": np.logspace(0, 3, 10),
    "figure5": np.logspace(-2, 5, 30),
}
_RANDOMISED_FOLDS = 3
_CROSS_BORDER_FOLDS = 10


class HeldOut(NamedTuple):
    """Out-of-fold predictions of the original."""

    predicted: Floats
    """(n,) in the outcome's unit."""
    r2: float
    """Mean over folds of r² within the fold."""


def reduce(X: Floats, n_components: int | None = None) -> Floats:
    """Principal components (n, d) of all clusters, test clusters included; all of them by default."""
    number = min(len(X) - 1, X.shape[1]) if n_components is None else n_components
    return np.asarray(PCA(n_components=number, svd_solver="full").fit_transform(X))


def figure3(Z: Floats, y: Floats, rng: np.random.Generator) -> HeldOut:
    """Predicted against observed, of rotated features ``Z`` (n, d) and outcome ``y`` (n,)."""
    return _cross_validate(Z, y, N_FOLDS, INNER_FOLDS, ALPHAS["figure3"], rng)


def figure4_images(Z: Floats, y: Floats, rng: np.random.Generator) -> float:
    """r² of images among the poorest clusters, which alone are given."""
    return _cross_validate(Z, y, N_FOLDS, INNER_FOLDS, ALPHAS["figure4"], rng).r2


def figure4_lights(lights: Floats, y: Floats, rng: np.random.Generator) -> float:
    """r² of nightlights (n, q) by least squares, among the poorest clusters; a fold without r² counts as zero."""
    found = []
    for train, test in _random_folds(len(y), N_FOLDS, rng):
        centre = lights[train].mean(axis=0)
        weights = np.linalg.lstsq(lights[train] - centre, y[train] - y[train].mean(), rcond=None)[0]
        found.append(np.nan_to_num(r2_pearson(y[test], (lights[test] - centre) @ weights)))
    return float(np.mean(found))


def figure4_randomised(Z: Floats, y: Floats, rng: np.random.Generator, *, shuffle: bool = True) -> float:
    """r² with the outcomes of the training clusters shuffled among them in every fold, or left as they are."""
    folds = _RANDOMISED_FOLDS
    return _cross_validate(Z, y, folds, folds, ALPHAS["figure4"], rng, shuffle=shuffle).r2


def figure5_column(
    Z: Floats, y: Floats, countries: Mapping[str, Ints], *, name: str, n_components: int, n_trials: int,
    rng: np.random.Generator,
) -> dict[str, float]:  # fmt: skip
    """r² in each country of models trained in one: one column of figure 5.

    Parameters
    ----------
    Z : array (n, d)
        Rotated features of all clusters.
    y : array (n,)
        Outcome.
    countries : mapping of name to row numbers
        All that are tested on, the pooled clusters among them.
    name : str
        The one trained on, whose held-out folds choose the penalty.
    n_components : int
        Principal components, here of the training clusters.
    n_trials : int
        Random divisions into 10 folds.
    """
    alphas, rows = ALPHAS["figure5"], countries[name]
    others = {other: part for other, part in countries.items() if other != name}
    found: dict[str, list[float]] = {other: [] for other in countries}
    for _ in range(n_trials):
        inside, outside = [], []
        for train, test in _random_folds(len(rows), _CROSS_BORDER_FOLDS, rng):
            centre, axes = _components(Z[rows[train]], n_components)
            scores = (Z - centre) @ axes
            predicted = _ridge(scores[rows[train]], y[rows[train]], scores, alphas)
            inside.append(_r2_each(y, predicted, rows[test]))
            outside.append([_r2_each(y, predicted, part) for part in others.values()])
        at = int(np.argmax(np.mean(inside, axis=0)))
        found[name].append(np.mean(inside, axis=0)[at])
        for other, r2 in zip(others, np.mean(outside, axis=0), strict=True):
            found[other].append(r2[at])
    return {other: float(np.mean(values)) for other, values in found.items()}


def r2_pearson(observed: Floats, predicted: Floats) -> float:
    """Squared Pearson correlation; NaN where either is constant."""
    return float(_r2_each(observed, predicted[:, None], np.arange(len(observed)))[0])


def _cross_validate(
    Z: Floats, y: Floats, n_folds: int, inner_folds: int, alphas: Floats, rng: np.random.Generator,
    *, shuffle: bool = False,
) -> HeldOut:  # fmt: skip
    predicted, r2 = np.empty_like(y), []
    for train, test in _random_folds(len(y), n_folds, rng):
        outcome = rng.permutation(y[train]) if shuffle else y[train]
        alpha = _best_alpha(Z[train], outcome, inner_folds, alphas, rng)
        predicted[test] = _ridge(Z[train], outcome, Z[test], np.array([alpha]))[:, 0]
        r2.append(r2_pearson(y[test], predicted[test]))
    return HeldOut(predicted, float(np.mean(r2)))


def _best_alpha(Z: Floats, y: Floats, n_folds: int, alphas: Floats, rng: np.random.Generator) -> float:
    """The penalty with the highest r² of its pooled inner predictions."""
    predicted = np.empty((len(y), len(alphas)))
    for train, test in _random_folds(len(y), n_folds, rng):
        predicted[test] = _ridge(Z[train], y[train], Z[test], alphas)
    return float(alphas[np.argmax(np.nan_to_num(_r2_each(y, predicted, np.arange(len(y)))))])


def _random_folds(n: int, n_folds: int, rng: np.random.Generator) -> list[tuple[Ints, Ints]]:
    parts = np.array_split(rng.permutation(n), n_folds)
    return [(np.concatenate(parts[:fold] + parts[fold + 1 :]), part) for fold, part in enumerate(parts)]


def _ridge(Z: Floats, y: Floats, new: Floats, alphas: Floats) -> Floats:
    """Predictions (m, a) of features ``new`` (m, d), with an intercept, for every penalty from one decomposition."""
    centre, mean = Z.mean(axis=0), y.mean()
    Z, new, y = Z - centre, new - centre, y - mean
    n, d = Z.shape
    values, vectors = np.linalg.eigh(Z.T @ Z if d <= n else Z @ Z.T)
    shrink = 1 / (np.maximum(values, 0)[:, None] + alphas)
    if d <= n:
        return np.asarray(new @ vectors @ (shrink * (vectors.T @ (Z.T @ y))[:, None]) + mean)
    return np.asarray(new @ (Z.T @ (vectors @ (shrink * (vectors.T @ y)[:, None]))) + mean)


def _components(Z: Floats, n_components: int) -> tuple[Floats, Floats]:
    """Mean (d,) and the first principal axes (d, k), from the smaller of the two products."""
    centre = Z.mean(axis=0)
    Z = Z - centre
    n, d = Z.shape
    values, vectors = np.linalg.eigh(Z.T @ Z if d <= n else Z @ Z.T)
    vectors, values = vectors[:, ::-1][:, :n_components], values[::-1][:n_components]
    return centre, vectors if d <= n else Z.T @ vectors / np.sqrt(values)


def _r2_each(observed: Floats, predicted: Floats, rows: Ints) -> Floats:
    """Squared Pearson correlation (a,) of the columns of (n, a), among some rows."""
    o, p = observed[rows] - observed[rows].mean(), predicted[rows] - predicted[rows].mean(axis=0)
    lengths = (o @ o) * np.einsum("ij,ij->j", p, p)
    return np.asarray(np.divide((o @ p) ** 2, lengths, out=np.full(len(lengths), np.nan), where=lengths > 0))
