"""Banded ridge: ridge regression with one penalty for each block of features.

Imagery gives thousands of features, nightlights a few, an embedding of texts some hundreds. One penalty for all of them
suits none: what lets the few speak lets the many fit noise. So each block has its own, chosen by inner cross-validation
(Nunez-Elizalde, Huth and Gallant 2019, NeuroImage 197:482), from plain ridge's and from shares of the blocks that
himalaya draws at random (Dupré la Tour et al. 2022, NeuroImage 264:119728).

The search is himalaya's; the algebra that evaluates it is that of :class:`geopov.regression.WelfareRidge`, since
himalaya standardises once for all inner folds, does not bound features by their training range, and is made for
thousands of outcomes rather than one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from geopov._validation import some
from geopov.errors import RegressionError
from geopov.regression._banded import Banded, candidates, choose_bands, contributions
from geopov.regression._fitting import one_blas_thread
from geopov.regression._inputs import Floats, Ints, check_features, check_training_data, check_weights
from geopov.regression._nested_inputs import check_arrays, check_groups, check_pairs
from geopov.regression.fusion import block_names
from geopov.regression.nested import NestedFit, Progress, Settings

__all__ = ["BandedFit", "BandedRidge"]

Blocks = Sequence[str] | Mapping[str, slice | Sequence[int]]
_MOST_WORKERS = 16
_ITER_A_BLOCK = 10


@dataclass(frozen=True)
class BandedFit(NestedFit):
    """What nested cross-validation of banded ridge found."""

    names: tuple[str, ...]
    """(B,) blocks."""
    contributions: Floats
    """(n, B) what each block adds to the mean of the training rows, held out; NaN for rows that no fold tests."""
    penalties: Floats
    """(folds, B) chosen, on standardised features."""


class BandedRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Standardise, ridge with one penalty a block, and choose the penalties by inner cross-validation.

    Parameters
    ----------
    blocks : sequence of str (p,), or mapping of name to slice or column numbers, optional
        The block of each feature: labels, one a feature, or the columns of each block, which together are all. Default:
        from the names of the columns of a DataFrame, ``block:feature``; features without such names are one block,
        which makes this :class:`WelfareRidge`.
    n_iter : int, optional
        Divisions of the prior variance among the blocks that are tried beside plain ridge's. Default: 10 a block.
    alphas : array-like (a,), optional
        Penalties tried with each; see :class:`WelfareRidge`.
    inner_folds : int
        Folds of the inner cross-validation. Means and standard deviations are taken again inside each of them.
    extrapolate : bool
        False: features are clipped to the range they have in the training data before predicting.
    seed : int
        Of the divisions.

    Attributes
    ----------
    block_names_ : tuple of str (B,)
        In the order of their first features.
    penalties_ : array (B,)
        The penalty of each block, on standardised features; infinite for one that is left out.
    shares_ : array (B,)
        Share of each block in the variance that the penalties expect beforehand; they add up to 1.
    alpha_ : float
        The penalty of a feature of average weight.
    alphas_, cv_mse_ : array (a,), (1 + divisions, a)
        Penalties tried, and the mean squared error of each with each division; the first is plain ridge's.
    coef_ : array (p,)
        Outcome per unit of each feature as given.
    intercept_ : float
    inner_predictions_ : array (n,)
        Of each training row by the inner model that had not seen it; NaN where its weight is zero.
    low_, high_ : array (p,)
        Range of each feature that predictions are made within; infinite with ``extrapolate``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(80, 30))
    >>> y = X[:, :2] @ [1.0, -1.0]
    >>> model = BandedRidge(blocks={"lights": slice(0, 2), "noise": slice(2, 30)}).fit(X, y)
    >>> model.penalties_[1] > 100 * model.penalties_[0]
    np.True_
    """

    block_names_: tuple[str, ...]
    penalties_: Floats
    shares_: Floats
    alpha_: float
    alphas_: Floats
    cv_mse_: Floats
    coef_: Floats
    intercept_: float
    inner_predictions_: Floats
    low_: Floats
    high_: Floats
    n_features_in_: int

    def __init__(
        self,
        blocks: Blocks | None = None,
        n_iter: int | None = None,
        alphas: ArrayLike | None = None,
        inner_folds: int = 5,
        extrapolate: bool = False,
        seed: int = 0,
    ) -> None:
        self.blocks = blocks
        self.n_iter = n_iter
        self.alphas = alphas
        self.inner_folds = inner_folds
        self.extrapolate = extrapolate
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the penalties and fit all clusters with them.

        Parameters and errors as of :meth:`WelfareRidge.fit`; RegressionError too where the blocks do not fit the
        features, and MissingDependencyError where there are several and himalaya is not installed.
        """
        X, y = check_training_data(self, X, y)
        weights = check_weights(sample_weight, X)
        names = getattr(self, "feature_names_in_", None)
        self.block_names_, self._blocks = read_blocks(self.blocks, X.shape[1], names)
        with one_blas_thread(), _pool() as pool:
            rows, own = np.arange(len(X)), check_groups(groups, len(X))
            chosen = self._choose(X, y, weights, rows, own, self._blocks, pool)
        self.shares_, self.penalties_ = chosen.shares, chosen.penalties
        self.alpha_, self.alphas_, self.cv_mse_ = chosen.alpha, chosen.alphas, chosen.cv_mse
        self.coef_, self.intercept_, self._mean = chosen.coefficients, chosen.intercept, chosen.mean
        self.low_, self.high_, self.inner_predictions_ = chosen.low, chosen.high, chosen.inner
        return self

    def predict(self, X: Any) -> Floats:
        """Predicted outcome (n,) of features (n, p)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return np.asarray(np.clip(X, self.low_, self.high_) @ self.coef_ + self.intercept_)

    def contributions(self, X: Any) -> Floats:
        """What each block adds (n, B), in the outcome's unit, to the mean of the training clusters."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return contributions(np.clip(X, self.low_, self.high_) - self._mean, self.coef_, self._blocks)

    def hold_out(
        self,
        X: Any,
        y: Any,
        pairs: Iterable[tuple[Ints, Ints]],
        groups: ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> BandedFit:
        """Predictions of each fold's test rows by this model fitted on its training rows, and what each block adds.

        Parameters as of :meth:`WelfareRidge.hold_out`.
        """
        columns = getattr(X, "columns", None)
        X, Y, weights = check_arrays(X, y, None)
        if Y.shape[1] != 1:
            raise RegressionError(f"outcomes have shape {Y.shape}; expected one outcome, (n,).")
        folds, own = check_pairs(pairs, len(X)), check_groups(groups, len(X))
        names, blocks = read_blocks(self.blocks, X.shape[1], columns)
        predicted, parts = np.full((len(X), 1), np.nan), np.full((len(X), len(names)), np.nan)
        found: list[Banded] = []
        with one_blas_thread(), _pool() as pool:
            for number, (train, test) in enumerate(folds, start=1):
                inside = None if own is None else own[train]
                chosen = self._choose(X, Y[:, 0], weights, train, inside, blocks, pool)
                predicted[test, 0], parts[test] = chosen.predict(X[test]), chosen.contributions(X[test], blocks)
                found.append(chosen)
                if progress is not None:
                    progress(number, len(folds))
        return BandedFit(
            predicted=predicted,
            alpha=np.array([[chosen.alpha] for chosen in found]),
            inner=[chosen.inner[:, None] for chosen in found],
            names=names,
            contributions=parts,
            penalties=np.array([chosen.penalties for chosen in found]),
        )

    def _choose(
        self,
        X: Floats,
        y: Floats,
        weights: Floats,
        rows: Ints,
        groups: Any,
        blocks: Ints,
        pool: ThreadPoolExecutor,
    ) -> Banded:
        n_blocks = int(blocks.max()) + 1
        n_iter = _ITER_A_BLOCK * n_blocks if self.n_iter is None else self.n_iter
        if isinstance(n_iter, bool) or not isinstance(n_iter, int | np.integer) or n_iter < 1:
            raise RegressionError(f"n_iter is {n_iter!r}; expected a whole number of at least 1.")
        shares = candidates(n_blocks, int(n_iter), seed=self.seed)
        settings = Settings(self.alphas, self.inner_folds, self.extrapolate)
        return choose_bands(X, y, weights, rows, groups, blocks=blocks, shares=shares, settings=settings, pool=pool)


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1))


def read_blocks(blocks: Blocks | None, n_features: int, columns: Any = None) -> tuple[tuple[str, ...], Ints]:
    """Names (B,) of the blocks, in the order of their first features, and the number (p,) of each feature's block.

    Raises
    ------
    RegressionError
        If a feature is in no block or in two, or there are not as many labels as features.
    """
    if blocks is None:
        labels = ["all"] * n_features if columns is None else [name or "all" for name in block_names(columns)]
    elif isinstance(blocks, Mapping):
        labels = _labels(blocks, n_features)
    else:
        labels = [str(label) for label in blocks]
    if len(labels) != n_features:
        raise RegressionError(
            f"blocks has {len(labels)} labels for {n_features} features; expected the block of each feature."
        )
    names = tuple(dict.fromkeys(labels))
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[label] for label in labels], dtype=np.int64)


def _labels(blocks: Mapping[str, slice | Sequence[int]], n_features: int) -> list[str]:
    found: list[list[str]] = [[] for _ in range(n_features)]
    for name, columns in blocks.items():
        numbers = range(*columns.indices(n_features)) if isinstance(columns, slice) else columns
        for number in numbers:
            if not -n_features <= number < n_features:
                raise RegressionError(f"block {name!r} names column {number}; there are {n_features} features.")
            found[number].append(str(name))
    wrong = [number for number, names in enumerate(found) if len(names) != 1]
    if wrong:
        raise RegressionError(
            f"columns {some(wrong)} are in no block or in more than one; expected each of {n_features} in one."
        )
    return [names[0] for names in found]
