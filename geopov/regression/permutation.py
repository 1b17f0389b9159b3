"""How much of a score is luck: the same model on reshuffled images, and under other draws of the folds.

Both refit everything, the choice of the penalty included, hundreds of times; :func:`geopov.regression.nested_ridge`
makes that a matter of seconds to minutes for a country.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints
from geopov.regression.nested import RELATIVE_ALPHAS, Progress, nested_ridge
from geopov.regression.scores import score
from geopov.regression.splits import Splits

_REPEATED = ("r2_pearson", "R2", "rmse", "spearman")
# The inner predictions for every penalty are held at once, eight bytes each.
_BYTES = 2**28


@dataclass(frozen=True)
class PermutationTest:
    """Held-out scores with images as they are, and with images reshuffled among the clusters."""

    observed_r2: float
    """Squared Pearson correlation of held-out predictions with the survey."""
    null_r2: Floats
    """(n_permutations,) the same, images reshuffled."""
    observed_R2: float  # noqa: N815  # the field writes r² and R²
    """Share of the variance explained; below zero where the mean would have done better."""
    null_R2: Floats  # noqa: N815
    """(n_permutations,)"""
    p_value: float
    """Share of all r², the observed one counted among them, that reach the observed one: (1 + reached) / (1 + N), as
    Phipson and Smyth (2010)."""


def permutation_test(
    X: ArrayLike,
    y: ArrayLike,
    pairs: Iterable[tuple[Ints, Ints]],
    *,
    groups: ArrayLike | None,
    n_permutations: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
    **ridge: Any,
) -> PermutationTest:
    """Whether images say more of welfare than images of other places would (Jean et al. 2016, fig. 4 C-D).

    Outcomes are reshuffled among the clusters, folds and blocks staying with the images, and the penalty is chosen
    anew each time. Chance alone gives r² above zero, also because held-out means lean away from what they leave out.

    Parameters
    ----------
    X : array (n, p)
        Features.
    y : array (n,)
        Outcome.
    pairs : list of (train, test)
        Row numbers of the outer folds.
    groups : array (n,) or None
        Spatial block of each cluster, kept whole by inner folds.
    n_permutations : int
        Number of reshuffles.
    seed : int
        Of the reshuffles.
    progress : callable, optional
        Called with permutations done and permutations in all.
    **ridge
        What else :func:`geopov.regression.nested_ridge` takes: alphas, inner_folds, extrapolate, n_components.

    Raises
    ------
    RegressionError
        If ``n_permutations`` is not a whole number above zero, or a fold cannot be fitted.
    """
    _check_count(n_permutations, "n_permutations")
    y, pairs = np.asarray(y, dtype=np.float64), list(pairs)
    rng = np.random.default_rng(seed)
    outcomes = np.column_stack([y, *(rng.permutation(y) for _ in range(n_permutations))])
    n_alphas = len(np.atleast_1d(np.asarray(RELATIVE_ALPHAS if ridge.get("alphas") is None else ridge["alphas"])))
    size = max(1, _BYTES // (8 * len(y) * n_alphas))
    r2, R2 = [], []
    for start in range(0, n_permutations + 1, size):
        chunk = outcomes[:, start : start + size]

        def partly(fold: int, folds: int, start: int = start, width: int = chunk.shape[1]) -> None:
            if progress is not None:
                progress(min(n_permutations, start + width * fold // folds), n_permutations)

        predicted = nested_ridge(X, chunk, pairs, groups=groups, progress=partly, **ridge).predicted
        for column in range(chunk.shape[1]):
            found = _scores(chunk[:, column], predicted[:, column])
            r2.append(found["r2_pearson"])
            R2.append(found["R2"])
    null = np.array(r2[1:])
    reached = int(np.count_nonzero(null >= r2[0]))
    return PermutationTest(r2[0], null, R2[0], np.array(R2[1:]), (1 + reached) / (1 + n_permutations))


def repeat_splits(
    X: ArrayLike,
    y: ArrayLike,
    clusters: gpd.GeoDataFrame,
    splits: Splits,
    *,
    n_repeats: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
    **ridge: Any,
) -> pd.DataFrame:
    """Held-out scores of one model under other draws of the folds: what one lucky split can do.

    Parameters
    ----------
    X : array (n, p)
        Features.
    y : array (n,)
        Outcome.
    clusters : geopandas.GeoDataFrame
        Where they are, in the order of ``X``.
    splits : Splits
        Folds with a seed: :class:`geopov.regression.SpatialBlocks` or :class:`geopov.regression.RandomFolds`.
    n_repeats : int
        Number of draws.
    seed : int
        Of the first draw; the others have the numbers after it.
    progress : callable, optional
        Called with draws done and draws in all.
    **ridge
        What else :func:`geopov.regression.nested_ridge` takes: alphas, inner_folds, extrapolate, n_components.

    Returns
    -------
    pandas.DataFrame
        A row a draw: repeat, seed, r2_pearson, R2, rmse (in the outcome's unit), spearman.

    Raises
    ------
    RegressionError
        If the splits have no seed, or a fold cannot be made or fitted.
    """
    _check_count(n_repeats, "n_repeats")
    if not hasattr(splits, "seed"):
        raise RegressionError(
            f"{type(splits).__name__} has no seed, so its folds cannot be drawn again; expected SpatialBlocks or "
            "RandomFolds."
        )
    y = np.asarray(y, dtype=np.float64)
    rows = []
    for repeat in range(n_repeats):
        drawn: Splits = replace(cast(Any, splits), seed=seed + repeat)
        pairs, groups = list(drawn.split(clusters)), drawn.block_ids(clusters)
        found = _scores(y, nested_ridge(X, y, pairs, groups=groups, **ridge).predicted[:, 0])
        rows.append({"repeat": repeat, "seed": seed + repeat, **{name: found[name] for name in _REPEATED}})
        if progress is not None:
            progress(repeat + 1, n_repeats)
    return pd.DataFrame(rows)


def _scores(observed: Floats, predicted: Floats) -> dict[str, float]:
    """Scores over the rows that some fold tests."""
    tested = np.isfinite(predicted)
    return dict(score(observed[tested], predicted[tested]))


def _check_count(value: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise RegressionError(f"{name} is {value!r}; expected a whole number above zero.")
