"""Nested cross-validation of ridge regression: all outcomes, penalties and folds in one piece of algebra.

What ``GridSearchCV(make_pipeline(StandardScaler(), Ridge()))`` chooses and predicts inside each outer fold, to rounding
error. :mod:`geopov.regression._folds` has what folds share, :mod:`geopov.regression._band` what penalties and outcomes
share.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geopov.errors import RegressionError
from geopov.regression._fitting import one_blas_thread
from geopov.regression._folds import Fit, Piece, Scaling
from geopov.regression._inputs import Floats, Ints, check_varies, inner_splits
from geopov.regression._nested_inputs import check_arrays, check_groups, check_pairs

Progress = Callable[[int, int], None]

# In units of the largest eigenvalue that n clusters and p standardised features can have, n × p: from a penalty that
# leaves the fit alone to one that flattens it to the mean, whatever the size of the problem.
RELATIVE_ALPHAS = np.logspace(-6, 1, 30)

# Each holds matrices of its own.
_MOST_WORKERS = 16


@dataclass(frozen=True)
class NestedFit:
    """What nested cross-validation found."""

    predicted: Floats
    """(n, q) held-out predictions in the outcome's unit; NaN for rows that no fold tests."""
    alpha: Floats
    """(folds, q) penalties chosen."""
    inner: list[Floats]
    """For each fold, predictions (n_train, q) of its training rows by the inner models that had not seen them, at the
    chosen penalty; NaN for rows of weight zero."""


@dataclass(frozen=True)
class Chosen:
    """The penalty chosen for each of q outcomes on one set of training rows, and the model it gives."""

    alphas: Floats
    """(a,) penalties tried."""
    cv_mse: Floats
    """(a, q) mean over the inner folds of the mean squared error."""
    alpha: Floats
    """(q,) the first of the penalties with the smallest error."""
    inner: Floats
    """(n, q) inner predictions of the training rows."""
    coefficients: Floats
    """(p, q) per unit of each feature."""
    intercept: Floats
    """(q,)"""
    low: Floats
    high: Floats
    """(p,) range that features are clipped to; infinite with ``extrapolate``."""

    def predict(self, X: Floats) -> Floats:
        """Predicted outcomes (n, q) of features (n, p)."""
        return np.asarray(np.clip(X, self.low, self.high) @ self.coefficients + self.intercept)


@dataclass(frozen=True)
class Settings:
    """What :class:`geopov.regression.WelfareRidge` takes."""

    alphas: ArrayLike | None = None
    inner_folds: int = 5
    extrapolate: bool = False
    n_components: int | None = None

    def penalties(self, largest: float) -> Floats:
        """Penalties (a,) to choose from, the largest possible eigenvalue being given."""
        if self.alphas is None:
            return RELATIVE_ALPHAS * largest
        alphas = np.asarray(self.alphas, dtype=np.float64)
        if alphas.ndim != 1 or len(alphas) == 0 or not np.all(np.isfinite(alphas) & (alphas > 0)):
            raise RegressionError(f"alphas are {self.alphas!r}; expected a list of finite numbers above zero.")
        return alphas

    def check_components(self, n_rows: int, n_features: int) -> None:
        """Raise where the smallest set of training rows has fewer principal components than are asked for."""
        number, most = self.n_components, min(n_rows, n_features)
        if number is None:
            return
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 1 <= number <= most:
            raise RegressionError(
                f"n_components is {number!r}; expected a whole number from 1 to {most}, since the smallest inner "
                f"training fold has {n_rows} clusters of {n_features} features. Take fewer components."
            )


def nested_ridge(
    X: ArrayLike,
    Y: ArrayLike,
    pairs: Iterable[tuple[Ints, Ints]],
    *,
    groups: ArrayLike | None = None,
    alphas: ArrayLike | None = None,
    inner_folds: int = 5,
    extrapolate: bool = False,
    n_components: int | None = None,
    sample_weight: ArrayLike | None = None,
    progress: Progress | None = None,
) -> NestedFit:
    """Held-out predictions of ridge regression, its penalty chosen inside each outer fold, for many outcomes at once.

    Parameters
    ----------
    X : array (n, p)
        Features.
    Y : array (n, q) or (n,)
        Outcomes.
    pairs : list of (train, test)
        Row numbers of the outer folds.
    groups : array (n,), optional
        Spatial block of each row; blocks are kept whole by the inner folds.
    alphas, inner_folds, extrapolate, n_components
        As in :class:`geopov.regression.WelfareRidge`. The default penalties are relative to each outer training fold.
    sample_weight : array (n,), optional
        Weights in training and in the inner errors. Rows of weight zero are predicted, never trained on.
    progress : callable, optional
        Called with folds done and folds in all.

    Returns
    -------
    NestedFit

    Raises
    ------
    RegressionError
        If something is not finite, a fold is empty or tests a row that it is trained on, or a fold cannot be fitted.
    """
    X, Y, weights = check_arrays(X, Y, sample_weight)
    pairs = check_pairs(pairs, len(X))
    settings = Settings(alphas, inner_folds, extrapolate, n_components)
    predicted = np.full(Y.shape, np.nan)
    alpha, inner = [], []
    blocks = check_groups(groups, len(X))
    training = [(train, None if blocks is None else blocks[train]) for train, _ in pairs]
    results = choose_each(X, Y, weights, training, settings)
    for fold, ((_, test), chosen) in enumerate(zip(pairs, results, strict=True)):
        predicted[test] = chosen.predict(X[test])
        alpha.append(chosen.alpha)
        inner.append(chosen.inner)
        if progress is not None:
            progress(fold + 1, len(pairs))
    return NestedFit(predicted, np.array(alpha), inner)


def choose_each(
    X: Floats,
    Y: Floats,
    weights: Floats,
    training: Sequence[tuple[Ints, NDArray[Any] | None]],
    settings: Settings,
) -> Iterator[Chosen]:
    """Choose and fit on each of several sets of training rows (row numbers, their groups), in order.

    Inner folds run side by side, one BLAS thread each, while the next set is being prepared. At most two sets are held
    in memory, each as a copy of its features and, where there are fewer features than rows, a Gram matrix for each
    inner fold; besides, a running fold holds about three matrices of the smaller of the two sizes, and with more
    features than rows another copy of the features.
    """
    with one_blas_thread(), ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1)) as pool:
        waiting: deque[_Outer] = deque()
        for rows, groups in training:
            waiting.append(_Outer(X, Y, weights, rows, groups, settings, pool))
            if len(waiting) == 2:
                yield waiting.popleft().choose()
        while waiting:
            yield waiting.popleft().choose()


class _Outer:
    """The training rows of one outer fold on their way through the pool."""

    def __init__(
        self,
        X: Floats,
        Y: Floats,
        weights: Floats,
        rows: Ints,
        groups: NDArray[Any] | None,
        settings: Settings,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.settings, self.n_rows = settings, len(rows)
        counted = np.flatnonzero(weights[rows] > 0)
        rows, groups = rows[counted], None if groups is None else groups[counted]
        if groups is None:
            check_varies(np.ptp(X[rows], axis=0) > 0)  # inner_splits would say that all rows are equal
            splits = inner_splits(X[rows], n_folds=settings.inner_folds)
        else:  # which need no copy of the features
            splits = inner_splits(rows[:, None].astype(np.float64), n_folds=settings.inner_folds, groups=groups)
        counts = np.bincount(rows, minlength=len(X)).astype(np.float64)
        self.centre, self.centre_y = counts @ X / len(rows), counts @ Y / len(rows)
        self.positions = [counted[held_out] for _, held_out in splits]
        fewest = min(len(train) for train, _ in splits)
        settings.check_components(fewest, X.shape[1])
        primal = X.shape[1] <= fewest

        def read(held_out: Ints) -> Piece:
            part = rows[held_out]
            return Piece.read(X, part, Y[part] - self.centre_y, weights[part], self.centre, primal=primal)

        self.pieces = list(pool.map(read, [held_out for _, held_out in splits]))
        scaling = Scaling.over(self.pieces, self.centre)
        check_varies(scaling.varies)
        self.alphas = settings.penalties(scaling.total * scaling.varies.sum())
        self.fit = pool.submit(Fit, self.pieces, self.centre, n_components=settings.n_components)
        self.validated = [pool.submit(self._validate, number) for number in range(len(splits))]

    def choose(self) -> Chosen:
        """Wait for the inner folds, choose, and fit all rows."""
        predictions = [future.result() for future in self.validated]
        cv_mse = np.mean(
            [_mse(piece, predicted) for piece, predicted in zip(self.pieces, predictions, strict=True)], axis=0
        )
        best = np.argmin(cv_mse, axis=0)
        inner = np.full((self.n_rows, len(best)), np.nan)
        for positions, predicted in zip(self.positions, predictions, strict=True):
            inner[positions] = predicted[:, best, np.arange(len(best))] + self.centre_y
        fit: Fit = self.fit.result()
        alpha = self.alphas[best]
        coefficients = fit.coefficients(alpha)
        scaling, beyond = fit.scaling, np.full(len(self.centre), np.inf)
        return Chosen(
            alphas=self.alphas,
            cv_mse=cv_mse,
            alpha=alpha,
            inner=inner,
            coefficients=coefficients,
            intercept=self.centre_y + fit.mean_y - (self.centre + scaling.mean) @ coefficients,
            low=-beyond if self.settings.extrapolate else scaling.low,
            high=beyond if self.settings.extrapolate else scaling.high,
        )

    def _validate(self, number: int) -> Floats:
        """Predictions (n, a, q) of one piece by the others, less the centre."""
        others = [piece for other, piece in enumerate(self.pieces) if other != number]
        fit = Fit(others, self.centre, n_components=self.settings.n_components)
        return fit.predict(self.pieces[number].X, self.alphas, clip=not self.settings.extrapolate)


def _mse(piece: Piece, predicted: Floats) -> Floats:
    """Weighted mean squared error (a, q) of predictions (n, a, q)."""
    return np.asarray(np.tensordot(piece.weights, (predicted - piece.Y[:, None, :]) ** 2, 1) / piece.weights.sum())
