"""How well predictors rank the poorest: r² among the poorest part of the clusters, for growing parts.

The question of Jean et al. (2016, Science 353:790, figure 4 A-B): nightlights are dark wherever people are poor, so
their r² falls to nothing among the poorest, and images are worth having if theirs does not. Here the predictions are
the same for every part; no model is fitted again. A smaller part spans less of the outcome, so that r² falls towards
the left for any predictor: curves are read against each other, not against their own right end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats
from geopov.regression.bootstrap import Bootstrap, Order, interval, lowest, r2_from_sums
from geopov.regression.scores import MIN_BLOCKS, number_blocks, paired

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MIN_CLUSTERS = 10


def poorest_curve(
    observed: ArrayLike,
    predictors: Mapping[str, ArrayLike],
    blocks: ArrayLike,
    *,
    shares: Sequence[float] = SHARES,
    n_draws: int = 1000,
    seed: int = 0,
    constant: Collection[str] = ("training_mean",),
) -> pd.DataFrame:
    """r² (squared Pearson) among the poorest clusters by survey, with 95% block-bootstrap intervals.

    Parameters
    ----------
    observed : array (n,)
        In the outcome's unit; the lowest are the poorest.
    predictors : mapping of name to array (n,)
        Out-of-fold predictions.
    blocks : array (n,)
        Spatial block of each cluster. In every draw the poorest are chosen anew.
    shares : sequence of float
        Parts of the clusters, above 0 and at most 1. Clusters tied at the edge count in part.
    n_draws, seed : int
        Of the bootstrap.
    constant : names
        Predictors that are one number a fold; a correlation means nothing for them, so they have no rows.

    Returns
    -------
    DataFrame
        ``predictor``, ``share``, ``n`` clusters in it, ``r2_pearson``, ``r2_pearson_low``, ``r2_pearson_high``; r² is
        NaN for parts of fewer than 10 clusters, intervals with fewer than 5 blocks.
    """
    wrong = [share for share in shares if not 0 < share <= 1]
    if wrong or len(shares) == 0:
        raise RegressionError(f"shares are {list(shares)!r}; expected numbers above 0 and at most 1.")
    pairs = {name: paired(observed, values) for name, values in predictors.items() if name not in constant}
    if not pairs:
        return pd.DataFrame(columns=["predictor", "share", "n", "r2_pearson", "r2_pearson_low", "r2_pearson_high"])
    truth = next(iter(pairs.values()))[0]
    numbered, n_blocks = number_blocks(blocks, len(truth))
    values = np.column_stack([predicted for _, predicted in pairs.values()])
    sizes = np.maximum(1, np.rint(np.multiply(shares, len(truth)))).astype(np.int64)
    order, terms = Order.of(truth), _terms(truth, values)
    once = _r2_of_poorest(order, terms, np.ones((len(truth), 1)), shares)[:, :, 0]
    draws = None
    if n_blocks >= MIN_BLOCKS:
        bootstrap = Bootstrap.draw(n_blocks, n_draws=n_draws, seed=seed)
        chunks = [_r2_of_poorest(order, terms, weights, shares) for weights in bootstrap.weights(numbered)]
        draws = np.concatenate(chunks, axis=2)
    rows = []
    for column, name in enumerate(pairs):
        for part, (share, n) in enumerate(zip(shares, sizes, strict=True)):
            enough = n >= _MIN_CLUSTERS
            low, high = interval(draws[part, column]) if draws is not None and enough else (np.nan, np.nan)
            r2 = once[part, column] if enough else np.nan
            row = {"predictor": name, "share": share, "n": n, "r2_pearson": r2}
            rows.append({**row, "r2_pearson_low": low, "r2_pearson_high": high})
    return pd.DataFrame(rows)


def _terms(truth: Floats, predicted: Floats) -> Floats:
    """(n, predictors, 6) of 1, o, p, o², p², op, about the mean truth, which keeps their digits."""
    p = predicted - truth.mean()
    o = np.broadcast_to((truth - truth.mean())[:, None], p.shape)
    return np.stack([np.ones_like(p), o, p, o * o, p * p, o * p], axis=2)


def _r2_of_poorest(order: Order, terms: Floats, weights: Floats, shares: Sequence[float]) -> Floats:
    """r² (shares, predictors, m) among the poorest of m weighted sets (n, m) of the same clusters."""
    total = weights.sum(axis=0)
    below, upto = order.cumulative(weights)
    n_predictors = terms.shape[1]
    found = np.empty((len(shares), n_predictors, weights.shape[1]))
    for part, share in enumerate(shares):
        k = np.maximum(1, np.rint(share * total))
        rows = np.flatnonzero((below < k).any(axis=1))
        chosen = weights[rows] * lowest(below[rows], upto[rows], k)
        sums = chosen.T @ terms[rows].reshape(len(rows), -1)
        found[part] = r2_from_sums(*np.moveaxis(sums.reshape(len(sums), n_predictors, 6), 2, 0)).T
    return found
