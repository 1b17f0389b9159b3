"""How every estimator of this stage is fitted: with whole blocks inside, on one thread of linear algebra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from geopov.regression._inputs import Floats, Ints


def fit_in_blocks(estimator: Any, X: Floats, y: Floats, blocks: Ints) -> Any:
    """Fit an estimator, its inner folds keeping blocks whole where it has any."""
    return estimator.fit(X, y, groups=blocks) if has_fit_parameter(estimator, "groups") else estimator.fit(X, y)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Linear algebra on one thread: a context.

    Threads of numpy's and scipy's pools spin against each other and against other processes; on two cores ridge fits
    took 2 to 10 times as long with two threads. It also makes results the same to the bit whatever the number of cores.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
