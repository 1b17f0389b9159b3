"""Scores of predictions against a survey, each under its own name, with block-bootstrap intervals.

The field writes "r²" for two different things. ``r2_pearson`` is the squared correlation, blind to bias and to
shrinkage; ``R2`` is the coefficient of determination, which is lower and falls below zero when the mean would have done
better. Both are given. Ridge predicts the mean given the image, so its predictions spread less than the truth:
``slope`` and ``sd_ratio`` say how much less, ``recall_poorest_fifth`` what that means for targeting.

Clusters of one block resemble each other, so a bootstrap over clusters would promise too much; whole blocks are drawn.
All scores that are functions of sums are computed from sums by block, so that a thousand draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats

SCORES = ("r2_pearson", "R2", "rmse", "mae", "spearman", "slope", "sd_ratio", "recall_poorest_fifth")
INTERVALS = ("r2_pearson", "R2", "rmse")
"""The scores that carry ``_low`` and ``_high`` columns."""
_MIN_BLOCKS = 5


def score(observed: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Every score of one set of predictions.

    Parameters
    ----------
    observed, predicted : array (n,)
        Of the same clusters, in the outcome's unit.

    Returns
    -------
    dict
        ``r2_pearson`` squared Pearson correlation; ``R2`` 1 - sum of squared errors / sum of squares about the mean;
        ``rmse`` and ``mae`` in the outcome's unit; ``spearman`` rank correlation; ``slope`` of the least-squares line
        of prediction on truth (1 without shrinkage); ``sd_ratio`` spread of the predictions over that of the truth;
        ``recall_poorest_fifth`` share of the poorest fifth by survey that is among the poorest fifth by prediction.
        NaN where a score is undefined, as a correlation with a constant is.
    """
    observed, predicted = _pair(observed, predicted)
    one_block = np.zeros(len(observed), dtype=np.int64)
    values = {name: float(value[0]) for name, value in _from_sums(_block_sums(observed, predicted, one_block)).items()}
    values["mae"] = float(np.mean(np.abs(predicted - observed)))
    values["spearman"] = _spearman(observed, predicted)
    values["recall_poorest_fifth"] = recall_poorest(observed, predicted, share=0.2)
    return {name: values[name] for name in SCORES}


def recall_poorest(observed: ArrayLike, predicted: ArrayLike, *, share: float) -> float:
    """Share of the poorest ``share`` of clusters by survey that is among the poorest ``share`` by prediction.

    Ties at either edge count by their chance of being drawn, so constant predictions score ``share``.
    """
    observed, predicted = _pair(observed, predicted)
    k = max(1, round(share * len(observed)))
    return float(_lowest(observed, k) @ _lowest(predicted, k) / k)


def _lowest(values: Floats, k: int) -> Floats:
    """Chance (n,) of each value to be among the k lowest, ties broken at random."""
    edge = np.partition(values, k - 1)[k - 1]
    below, tied = values < edge, values == edge
    return np.asarray(below + tied * (k - below.sum()) / tied.sum())


@dataclass(frozen=True)
class Bootstrap:
    """How often each block was drawn, the same draws for every predictor, so that differences are paired.

    Attributes
    ----------
    counts : array (draws, n_blocks)
        Times a block stands in a draw.
    """

    counts: Floats

    @classmethod
    def draw(cls, n_blocks: int, *, n_draws: int = 2000, seed: int = 0) -> Bootstrap:
        """Draw ``n_blocks`` blocks with replacement, ``n_draws`` times."""
        probabilities = np.full(n_blocks, 1 / n_blocks)
        return cls(np.random.default_rng(seed).multinomial(n_blocks, probabilities, size=n_draws).astype(np.float64))

    def scores(self, observed: Floats, predicted: Floats, blocks: np.ndarray) -> dict[str, Floats]:
        """The scores that sums determine, (draws,) each; ``blocks`` are numbered from 0."""
        return _from_sums(self.counts @ _block_sums(observed, predicted, blocks, n_blocks=self.counts.shape[1]))


def interval(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap draws; NaN where the score was undefined in a tenth of them or more."""
    finite = draws[np.isfinite(draws)]
    if len(finite) <= 0.9 * len(draws):
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def score_table(
    observed: ArrayLike,
    predictors: Mapping[str, ArrayLike],
    blocks: ArrayLike,
    *,
    n_draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of several predictors on the same clusters, with 95% block-bootstrap intervals.

    Parameters
    ----------
    observed : array (n,)
        In the outcome's unit.
    predictors : mapping of name to array (n,)
        Out-of-fold predictions.
    blocks : array (n,)
        Spatial block of each cluster. Intervals are NaN with fewer than 5 blocks, where they would mean nothing.
    n_draws, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row a predictor: ``predictor``, ``n``, ``n_blocks``, :data:`SCORES`, and ``_low`` and ``_high`` of each of
        :data:`INTERVALS`.
    """
    _, numbered = np.unique(np.asarray(blocks), return_inverse=True)
    n_blocks = int(numbered.max()) + 1
    bootstrap = Bootstrap.draw(n_blocks, n_draws=n_draws, seed=seed) if n_blocks >= _MIN_BLOCKS else None
    rows = []
    for name, values in predictors.items():
        truth, predicted = _pair(observed, values)
        row: dict[str, object] = {"predictor": name, "n": len(truth), "n_blocks": n_blocks, **score(truth, predicted)}
        draws = bootstrap.scores(truth, predicted, numbered) if bootstrap is not None else {}
        for key in INTERVALS:
            row[f"{key}_low"], row[f"{key}_high"] = interval(draws[key]) if draws else (np.nan, np.nan)
        rows.append(row)
    return pd.DataFrame(rows)


def compare(
    observed: ArrayLike,
    predicted: ArrayLike,
    others: Mapping[str, ArrayLike],
    blocks: ArrayLike,
    *,
    n_draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """R² of one predictor minus that of each other, on the same clusters and the same bootstrap draws.

    Returns
    -------
    DataFrame
        One row per other predictor: ``predictor``, ``R2_difference`` (above zero: the first is better), ``low`` and
        ``high`` of its 95% interval, and ``verdict``: ``"better"`` or ``"worse"`` when zero lies outside the interval,
        else ``"no difference shown"``.
    """
    _, numbered = np.unique(np.asarray(blocks), return_inverse=True)
    n_blocks = int(numbered.max()) + 1
    bootstrap = Bootstrap.draw(n_blocks, n_draws=n_draws, seed=seed) if n_blocks >= _MIN_BLOCKS else None
    truth, ours = _pair(observed, predicted)
    rows = []
    for name, values in others.items():
        theirs = _pair(observed, values)[1]
        low = high = np.nan
        if bootstrap is not None:
            paired = bootstrap.scores(truth, ours, numbered)["R2"] - bootstrap.scores(truth, theirs, numbered)["R2"]
            low, high = interval(paired)
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        difference = score(truth, ours)["R2"] - score(truth, theirs)["R2"]
        rows.append({"predictor": name, "R2_difference": difference, "low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(rows, columns=["predictor", "R2_difference", "low", "high", "verdict"])


def _pair(observed: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    truth, values = np.asarray(observed, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or len(truth) == 0:
        raise RegressionError(
            f"observed has shape {truth.shape} and predicted {values.shape}; expected one number each for the same "
            "clusters."
        )
    bad = ~(np.isfinite(truth) & np.isfinite(values))
    if bad.any():
        raise RegressionError(
            f"{int(bad.sum())} of {len(truth)} clusters have no observed or predicted value; drop them."
        )
    return truth, values


def _spearman(observed: Floats, predicted: Floats) -> float:
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (observed, predicted)]
    lengths = float(np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1]))
    return float(ranks[0] @ ranks[1]) / lengths if lengths > 0 else np.nan


def _block_sums(observed: Floats, predicted: Floats, blocks: np.ndarray, *, n_blocks: int = 1) -> Floats:
    """(n_blocks, 7) sums of 1, o, p, o², p², op and squared error, about the mean truth, which keeps their digits."""
    o, p = observed - observed.mean(), predicted - observed.mean()
    terms = np.column_stack([np.ones_like(o), o, p, o * o, p * p, o * p, (p - o) ** 2])
    sums = np.zeros((n_blocks, terms.shape[1]))
    np.add.at(sums, blocks, terms)
    return sums


def _from_sums(sums: Floats) -> dict[str, Floats]:
    """Scores (m,) of m sets of clusters from their sums (m, 7)."""
    n, o, p, oo, pp, op, ee = sums.T
    # A spread below the rounding error of its own sum of squares is none: the values are constant.
    var_o, var_p = oo - o * o / n, pp - p * p / n
    var_o = np.where(var_o > 1e-12 * oo, var_o, np.nan)
    var_p_or_nan = np.where(var_p > 1e-12 * pp, var_p, np.nan)
    cov = op - o * p / n
    return {
        "r2_pearson": cov**2 / (var_o * var_p_or_nan),
        "R2": 1 - ee / var_o,
        "rmse": np.sqrt(ee / n),
        "slope": cov / var_o,
        "sd_ratio": np.sqrt(np.maximum(var_p, 0) / var_o),
    }
