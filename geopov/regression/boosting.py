"""Gradient boosting on a few features, such as nightlights: a step beyond a line and a neighbourhood.

Boosted trees find steps and levels by themselves, stay within the range of what they were trained on, and are what a
practitioner reaches for when the table has a few columns. On nightlights they are the baseline that nobody can call a
straw man.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from geopov.errors import RegressionError
from geopov.regression._inputs import (
    Floats,
    check_features,
    check_training_data,
    check_varies,
    inner_splits,
    standardise,
)


class WelfareBoosting(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Boosted regression trees (Friedman 2001, Annals of Statistics 29:1189), their size chosen by inner folds.

    scikit-learn's :class:`~sklearn.ensemble.HistGradientBoostingRegressor` on squared error. One fit of ``max_rounds``
    trees shows the error of every number of rounds, so the grid costs a fit per depth, learning rate and inner fold.

    Parameters
    ----------
    max_depths : sequence of int
        Depths of a tree that are tried: 1 adds up effects of single features, more lets features interact.
    learning_rates : sequence of float
        Shares of each tree's correction that are tried.
    max_rounds : int
        Largest number of trees; every number from 1 is tried.
    min_samples_leaf : int
        Clusters in a leaf, at least. Below twice as many training clusters no tree can split and the mean is predicted.
    inner_folds : int
        Folds of the inner cross-validation.
    seed : int
        Of the rows that bin edges are taken from where there are more than 200,000; nothing else is random.

    Attributes
    ----------
    max_depth_, learning_rate_, n_rounds_ : int, float, int
        The first of the grid with the smallest mean over inner folds of the mean squared error: of equals the
        shallower trees, the slower rate and the fewer rounds.
    cv_mse_ : array (depths, rates, rounds)
        That error, in the outcome's unit squared.
    """

    max_depth_: int
    learning_rate_: float
    n_rounds_: int
    cv_mse_: Floats
    n_features_in_: int

    def __init__(
        self,
        max_depths: Sequence[int] = (1, 3),
        learning_rates: Sequence[float] = (0.05, 0.15),
        max_rounds: int = 60,
        min_samples_leaf: int = 10,
        inner_folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.max_depths = max_depths
        self.learning_rates = learning_rates
        self.max_rounds = max_rounds
        self.min_samples_leaf = min_samples_leaf
        self.inner_folds = inner_folds
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None) -> Self:
        """Choose depth, rate and rounds, and fit all clusters with them.

        Parameters and errors as :meth:`geopov.regression.WelfareRidge.fit`.
        """
        X, y = check_training_data(self, X, y)
        check_varies(standardise(X).varies)
        grid = self._grid()
        splits = inner_splits(X, n_folds=self.inner_folds, groups=groups)
        with _one_thread():
            errors = np.stack([self._round_errors(X, y, splits, *pair) for pair in grid])
            best, rounds = np.unravel_index(np.argmin(errors), errors.shape)
            self.max_depth_, self.learning_rate_ = grid[best]
            self.n_rounds_ = int(rounds) + 1
            self._trees = self._booster(*grid[best], self.n_rounds_).fit(X, y)
        self.cv_mse_ = errors.reshape(len(self.max_depths), len(self.learning_rates), self.max_rounds)
        return self

    def predict(self, X: Any) -> Floats:
        """Predicted outcome (n,) of features (n, p)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        with _one_thread():
            return np.asarray(self._trees.predict(X))

    def _grid(self) -> list[tuple[int, float]]:
        for name in ("max_rounds", "min_samples_leaf"):
            _check_whole(getattr(self, name), name)
        for depth in self.max_depths:
            _check_whole(depth, "max_depths")
        rates = np.asarray(self.learning_rates, dtype=np.float64)
        if not np.all((rates > 0) & (rates <= 1)):
            raise RegressionError(f"learning_rates are {self.learning_rates!r}; expected numbers above 0, at most 1.")
        grid = list(product(self.max_depths, self.learning_rates))
        if not grid:
            raise RegressionError("max_depths or learning_rates is empty; give at least one of each.")
        return grid

    def _round_errors(self, X: Floats, y: Floats, splits: Any, depth: int, rate: float) -> Floats:
        """Mean squared error (rounds,) of 1, 2, ... trees, averaged over the inner folds."""
        errors = []
        for train, held_out in splits:
            booster = self._booster(depth, rate, self.max_rounds).fit(X[train], y[train])
            staged = np.stack(list(booster.staged_predict(X[held_out])))
            errors.append(np.mean((staged - y[held_out]) ** 2, axis=1))
        return np.asarray(np.mean(errors, axis=0))

    def _booster(self, depth: int, rate: float, rounds: int) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            max_depth=depth,
            learning_rate=rate,
            max_iter=rounds,
            min_samples_leaf=self.min_samples_leaf,
            # Its own early stopping holds out rows at random, and so divides blocks.
            early_stopping=False,
            random_state=self.seed,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """One OpenMP thread: a context.

    Sums over rows depend on the number of threads in the last digits, and so may a split; and trees this small spend
    their time waiting for threads, tenfold where other processes want the cores too.
    """
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


def _check_whole(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise RegressionError(f"{name} holds {value!r}; expected whole numbers of at least 1.")
