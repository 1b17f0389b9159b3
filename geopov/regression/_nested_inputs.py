"""What nested cross-validation asks of its input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints, check_weights


def check_arrays(X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Features (n, p), outcomes (n, q) and weights (n,)."""
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    Y = Y[:, None] if Y.ndim == 1 else Y
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or 0 in X.shape or 0 in Y.shape:
        raise RegressionError(
            f"features have shape {X.shape} and outcomes {Y.shape}; expected (n, p) and (n, q) or (n,), "
            "a row a cluster."
        )
    for name, values in (("features", X), ("outcomes", Y)):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise RegressionError(
                f"{int(bad.sum())} of {len(values)} rows of {name} hold NaN or infinity; expected finite numbers. "
                "Drop those clusters."
            )
    return X, Y, check_weights(sample_weight, X)


def check_groups(groups: ArrayLike | None, n: int) -> NDArray[Any] | None:
    """Groups (n,), or None."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise RegressionError(f"groups have shape {groups.shape}; expected ({n},), one for each row of features.")
    return groups


def check_pairs(pairs: Iterable[tuple[Ints, Ints]], n: int) -> list[tuple[Ints, Ints]]:
    """Row numbers of outer folds, training and test apart, each row tested once at most."""
    pairs = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
    tested = np.zeros(n, dtype=bool)
    for fold, (train, test) in enumerate(pairs):
        rows = np.concatenate([train, test])
        if len(train) == 0 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n:
            raise RegressionError(
                f"fold {fold} has {len(train)} training and {len(test)} test rows of type {rows.dtype}; expected row "
                f"numbers from 0 to {n - 1}, and some to train on."
            )
        shared = np.intersect1d(train, test)
        if len(shared):
            raise RegressionError(
                f"fold {fold} tests {len(shared)} rows that it is trained on, such as row {shared[0]}; expected "
                "training and test rows to be apart."
            )
        if tested[test].any():
            raise RegressionError(
                f"fold {fold} tests rows that an earlier fold has tested; expected each once at most."
            )
        tested[test] = True
    if not pairs:
        raise RegressionError("no folds are given; expected pairs of training and test rows.")
    return pairs
