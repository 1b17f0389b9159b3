"""What every estimator of this stage does to its input: check it, standardise it, fold it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import validate_data as _validate_data

from geopov.errors import RegressionError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Standardised(NamedTuple):
    """Features brought to mean zero and variance one."""

    Z: Floats
    """(n, p); zero where a feature is constant."""
    mean: Floats
    """(p,), in the feature's unit."""
    scale: Floats
    """(p,) standard deviation in the feature's unit; 1 where a feature is constant."""
    varies: NDArray[np.bool_]
    """(p,) True where a feature is not constant."""


def check_features(estimator: Any, X: Any, *, reset: bool) -> Floats:
    """Features as a finite float64 array (n, p); ``reset`` says that this is the training data."""
    X = _validate_data(estimator, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
    bad = ~np.isfinite(X)
    if bad.any():
        raise RegressionError(
            f"{int(bad.any(axis=1).sum())} of {len(X)} rows of features hold NaN or infinity, in "
            f"{int(bad.any(axis=0).sum())} of {X.shape[1]} columns; expected finite numbers. "
            "Drop those clusters: a missing tile is not a tile of zeros."
        )
    return np.asarray(X)


def check_training_data(estimator: Any, X: Any, y: Any) -> tuple[Floats, Floats]:
    """Features (n, p) and outcome (n,), finite, at least two clusters, not every feature constant.

    Raises
    ------
    RegressionError
        Naming how many values are missing and what to do about it.
    """
    if y is None:
        # scikit-learn words this one, and its tools look for the words.
        _validate_data(estimator, X, y)
    X = check_features(estimator, X, reset=True)
    y = column_or_1d(check_array(y, ensure_2d=False, ensure_all_finite=False, dtype=None), warn=True)
    y = y.astype(np.float64)
    check_consistent_length(X, y)
    missing = ~np.isfinite(y)
    if missing.any():
        raise RegressionError(
            f"{int(missing.sum())} of {len(y)} outcomes are NaN or infinite; expected a number for every cluster. "
            "Drop those clusters first: clusters.dropna(subset=[outcome])."
        )
    if len(y) < 2:
        raise RegressionError(
            "one sample (n_samples = 1) is given; a regression needs at least two clusters. "
            "Were the others lost when features and clusters were joined on cluster_id?"
        )
    return X, y


def check_weights(sample_weight: ArrayLike | None, X: Floats) -> Floats:
    """Weights (n,), ones when none are given, finite, not negative and not all zero."""
    weights: Floats = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not np.any(weights > 0):
        raise RegressionError("all sample_weight are zero; at least one cluster must count.")
    return weights


def standardise(X: Floats, weights: Floats | None = None) -> Standardised:
    """Weighted mean and standard deviation of each feature, and the features in units of them.

    A feature counts as constant when its variance is within the rounding error of the two-pass algorithm (Chan, Golub
    and LeVeque 1983), the bound that :class:`sklearn.preprocessing.StandardScaler` uses.
    """
    weights = np.ones(len(X)) if weights is None else weights
    total = weights.sum()
    mean = weights @ X / total
    Z = X - mean
    variance = weights @ Z**2 / total
    eps = np.finfo(np.float64).eps
    varies = variance > total * eps * variance + (total * mean * eps) ** 2
    scale = np.where(varies, np.sqrt(variance), 1.0)
    Z /= scale
    Z[:, ~varies] = 0.0
    return Standardised(Z, mean, scale, varies)


def check_varies(varies: NDArray[np.bool_]) -> None:
    """Raise when no feature varies."""
    if not varies.any():
        raise RegressionError(
            f"all {len(varies)} features are constant over the clusters, so nothing can be learned from them. "
            "Look at the tiles: are they all empty, or all the same place?"
        )


def inner_splits(X: Floats, *, n_folds: int, groups: ArrayLike | None = None) -> list[tuple[Ints, Ints]]:
    """Training and validation rows of the inner cross-validation, the same at every call.

    Parameters
    ----------
    X : array (n, p)
        Features; only looked at when there are no groups.
    n_folds : int
        At most so many folds; one a group where there are fewer groups.
    groups : array (n,), optional
        Rows of one group (a spatial block) are never divided. Without groups, rows with equal features form one, since
        a copy of a row on the other side of a split is a leak, and the folds do not depend on the order of the rows.

    Returns
    -------
    list of (train, validation)
        Row numbers.
    """
    if isinstance(n_folds, bool) or not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise RegressionError(f"inner_folds is {n_folds!r}; expected a whole number of at least 2.")
    rows = np.arange(len(X))
    if groups is not None:
        check_consistent_length(X, groups)
        labels = np.unique(np.asarray(groups), return_inverse=True)[1]
        n_groups = int(labels.max()) + 1
        if n_groups < 2:
            raise RegressionError(
                "all training clusters lie in one group (spatial block), so alpha cannot be chosen by group folds; "
                "expected at least 2. Use smaller blocks (block_km) or more outer folds."
            )
        return list(GroupKFold(min(n_folds, n_groups)).split(rows, groups=labels))
    distinct, labels = np.unique(X, axis=0, return_inverse=True)
    labels = labels.reshape(-1)
    if len(distinct) < 2:
        raise RegressionError(f"all {len(X)} rows have the same features; expected at least two different clusters.")
    folds = KFold(min(n_folds, len(distinct)), shuffle=True, random_state=0)
    membership = np.empty(len(distinct), dtype=np.int64)
    for fold, (_, validation) in enumerate(folds.split(distinct)):
        membership[validation] = fold
    of_row = membership[labels]
    return [(rows[of_row != fold], rows[of_row == fold]) for fold in range(folds.n_splits)]
