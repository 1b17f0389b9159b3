"""Regression by the mean of the most similar clusters."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from geopov.errors import RegressionError
from geopov.regression._inputs import (
    Floats,
    check_features,
    check_training_data,
    check_varies,
    inner_splits,
    standardise,
)


class WelfareNeighbours(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Mean outcome of the k training clusters with the most similar features, k by inner cross-validation.

    The strongest simple baseline on nightlights, since welfare rises with radiance steeply and then levels off.

    Parameters
    ----------
    max_neighbours : int
        Largest k tried; every k from 1 is, as far as the smallest inner training fold allows.
    inner_folds : int
        Folds of the inner cross-validation.

    Attributes
    ----------
    n_neighbours_ : int
        The k chosen on mean squared error.
    cv_mse_ : array (k,)
        Mean squared error of each k from 1, in the outcome's unit squared.
    """

    n_neighbours_: int
    cv_mse_: Floats
    n_features_in_: int

    def __init__(self, max_neighbours: int = 50, inner_folds: int = 5) -> None:
        self.max_neighbours = max_neighbours
        self.inner_folds = inner_folds

    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None) -> Self:
        """Choose k and keep the training clusters; parameters and errors as :meth:`WelfareRidge.fit`."""
        X, y = check_training_data(self, X, y)
        Z, self._mean, self._scale, varies = standardise(X)
        check_varies(varies)
        if self.max_neighbours < 1:
            raise RegressionError(f"max_neighbours is {self.max_neighbours!r}; expected a whole number of at least 1.")
        splits = inner_splits(X, n_folds=self.inner_folds, groups=groups)
        largest = min(self.max_neighbours, min(len(train) for train, _ in splits))
        errors = []
        for train, held_out in splits:
            inner = standardise(X[train])
            search = NearestNeighbors(n_neighbors=largest).fit(inner.Z)
            means = _running_means(search, (X[held_out] - inner.mean) / inner.scale, y[train])
            errors.append(np.mean((means - y[held_out, None]) ** 2, axis=0))
        self.cv_mse_ = np.mean(errors, axis=0)
        self.n_neighbours_ = int(np.argmin(self.cv_mse_)) + 1
        self._search = NearestNeighbors(n_neighbors=self.n_neighbours_).fit(Z)
        self._y = y
        return self

    def predict(self, X: Any) -> Floats:
        """Predicted outcome (n,) of features (n, p)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return _running_means(self._search, (X - self._mean) / self._scale, self._y)[:, -1]


def _running_means(search: NearestNeighbors, Z: Floats, y: Floats) -> Floats:
    """(n, k): mean outcome of the nearest 1, 2, ... k training clusters."""
    neighbours = search.kneighbors(Z, return_distance=False)
    return np.cumsum(y[neighbours], axis=1) / np.arange(1, neighbours.shape[1] + 1)
