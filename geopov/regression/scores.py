"""Scores of predictions against a survey, each under its own name, with block-bootstrap intervals.

The field writes "r²" for two different things. ``r2_pearson`` is the squared correlation, blind to bias and to
shrinkage; ``R2`` is the coefficient of determination, which is lower and falls below zero when the mean would have done
better. Both are given. Ridge predicts the mean given the image, so its predictions spread less than the truth:
``slope``, ``intercept`` and ``sd_ratio`` say how much less, ``recall_poorest_fifth`` what that means for targeting.

Intervals come from :mod:`geopov.regression.bootstrap`, which draws whole spatial blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geopov._validation import some
from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints
from geopov.regression.bootstrap import SHARES, Bootstrap, Order, block_sums, interval, rank_scores, scores_from_sums

__all__ = ["SCORES", "Bootstrap", "Scored", "compare", "interval", "recall_poorest", "score", "score_table"]

SCORES = (
    "r2_pearson", "R2", "rmse", "mae", "spearman", "slope", "intercept", "sd_ratio",
    "recall_poorest_fifth", "recall_poorest_tenth",
)  # fmt: skip
UNDEFINED_FOR_CONSTANTS = ("r2_pearson", "spearman", "slope", "intercept", *SHARES)
"""What a predictor that knows no places cannot have: it only differs between folds, which is no ranking."""

MIN_BLOCKS = 5
"""With fewer there are no intervals: a draw of few blocks is too often the same one."""

_SMALLER_IS_BETTER = ("rmse", "mae")
_BEST_AT = {"slope": 1.0, "sd_ratio": 1.0, "intercept": 0.0}


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
        ``rmse`` and ``mae`` in the outcome's unit; ``spearman`` rank correlation; ``slope`` and ``intercept`` (in the
        outcome's unit) of the least-squares line of prediction on truth (1 and 0 without shrinkage); ``sd_ratio``
        spread of the predictions over that of the truth; ``recall_poorest_fifth`` and ``recall_poorest_tenth`` share of
        the poorest by survey that is among the poorest by prediction. NaN where a score is undefined, as a correlation
        with a constant is.
    """
    observed, predicted = paired(observed, predicted)
    one_block = np.zeros(len(observed), dtype=np.int64)
    sums = block_sums(observed, predicted, one_block, n_blocks=1)
    values = scores_from_sums(sums, centre=float(observed.mean()))
    values |= rank_scores(Order.of(observed), [Order.of(predicted)], np.ones((len(observed), 1)))[0]
    return {name: float(values[name][0]) for name in SCORES}


def recall_poorest(observed: ArrayLike, predicted: ArrayLike, *, share: float) -> float:
    """Share of the poorest ``share`` of clusters by survey that is among the poorest ``share`` by prediction.

    Ties at either edge count by their chance of being drawn, so constant predictions score ``share``.
    """
    observed, predicted = paired(observed, predicted)
    k = max(1, round(share * len(observed)))
    return float(_lowest(observed, k) @ _lowest(predicted, k) / k)


def _lowest(values: Floats, k: int) -> Floats:
    """Chance (n,) of each value to be among the k lowest, ties broken at random."""
    edge = np.partition(values, k - 1)[k - 1]
    below, tied = values < edge, values == edge
    return np.asarray(below + tied * (k - below.sum()) / tied.sum())


@dataclass(frozen=True)
class Scored:
    """Scores of several predictors on the same clusters, and of the same bootstrap draws of them.

    Attributes
    ----------
    n, n_blocks : int
        Clusters, and spatial blocks that hold them.
    values : dict
        Scores by name, by predictor.
    draws : dict or None
        The same, as arrays (draws,); None with fewer than 5 blocks, where an interval would mean nothing.
    """

    n: int
    n_blocks: int
    values: dict[str, dict[str, float]]
    draws: dict[str, dict[str, Floats]] | None

    @classmethod
    def measure(
        cls,
        observed: ArrayLike,
        predictors: Mapping[str, ArrayLike],
        blocks: ArrayLike,
        *,
        n_draws: int = 2000,
        seed: int | Sequence[int] = 0,
        constant: Collection[str] = (),
    ) -> Self:
        """Score every predictor; parameters as of :func:`score_table`."""
        pairs = {name: paired(observed, values) for name, values in predictors.items()}
        n = len(np.asarray(observed))
        numbered, n_blocks = number_blocks(blocks, n)
        undefined = {name: UNDEFINED_FOR_CONSTANTS if name in constant else () for name in pairs}
        values = {name: score(*pair) | dict.fromkeys(undefined[name], np.nan) for name, pair in pairs.items()}
        if n_blocks < MIN_BLOCKS:
            return cls(n, n_blocks, values, None)
        truth = np.asarray(observed, dtype=np.float64)
        arrays = {name: predicted for name, (_, predicted) in pairs.items()}
        draws = Bootstrap.draw(n_blocks, n_draws=n_draws, seed=seed).scores(truth, arrays, numbered)
        for name, names in undefined.items():
            draws[name] |= dict.fromkeys(names, np.full(n_draws, np.nan))
        return cls(n, n_blocks, values, draws)

    def interval(self, predictor: str, name: str) -> tuple[float, float]:
        """The 95% interval of a score."""
        return (np.nan, np.nan) if self.draws is None else interval(self.draws[predictor][name])

    def table(self) -> pd.DataFrame:
        """One row a predictor; see :func:`score_table`."""
        rows = []
        for predictor, values in self.values.items():
            row: dict[str, object] = {"predictor": predictor, "n": self.n, "n_blocks": self.n_blocks}
            for name in SCORES:
                row[name] = values[name]
                row[f"{name}_low"], row[f"{name}_high"] = self.interval(predictor, name)
            rows.append(row)
        return pd.DataFrame(rows)


def score_table(
    observed: ArrayLike,
    predictors: Mapping[str, ArrayLike],
    blocks: ArrayLike,
    *,
    n_draws: int = 2000,
    seed: int = 0,
    constant: Collection[str] = (),
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
    constant : names
        Predictors that are one number a fold; :data:`UNDEFINED_FOR_CONSTANTS` is NaN for them.

    Returns
    -------
    DataFrame
        One row a predictor: ``predictor``, ``n``, ``n_blocks``, and each of :data:`SCORES` with ``_low`` and ``_high``.
    """
    return Scored.measure(observed, predictors, blocks, n_draws=n_draws, seed=seed, constant=constant).table()


def compare(
    observed: ArrayLike,
    predicted: ArrayLike,
    others: Mapping[str, ArrayLike],
    blocks: ArrayLike,
    *,
    scores: Sequence[str] = SCORES,
    n_draws: int = 2000,
    seed: int = 0,
    constant: Collection[str] = ("training_mean",),
) -> pd.DataFrame:
    """Scores of one predictor minus those of each other, on the same clusters and the same bootstrap draws.

    Parameters
    ----------
    observed, predicted : array (n,)
        In the outcome's unit.
    others : mapping of name to array (n,)
        Predictions of the same clusters.
    blocks, n_draws, seed, constant
        As of :func:`score_table`.
    scores : names
        Of :data:`SCORES`.

    Returns
    -------
    DataFrame
        One row per other predictor and score: ``predictor``, ``score``, ``difference`` (ours minus theirs), ``low`` and
        ``high`` of its 95% interval, and ``verdict``: ``"better"`` or ``"worse"`` when zero lies outside the interval,
        else ``"no difference shown"``. A smaller ``rmse`` and ``mae`` are better. For ``slope``, ``sd_ratio`` and
        ``intercept`` the verdict is on which is nearer to 1, 1 and 0, by the interval of the difference in distance.
    """
    unknown = [name for name in scores if name not in SCORES]
    if unknown:
        raise RegressionError(f"there are no scores {some(map(repr, unknown))}; choose from {', '.join(SCORES)}.")
    # The name of ours cannot meet one of theirs.
    ours, named = "0", {f"1{name}": values for name, values in others.items()}
    scored = Scored.measure(
        observed, {ours: predicted, **named}, blocks, n_draws=n_draws, seed=seed, constant=[f"1{n}" for n in constant]
    )
    rows = []
    for theirs in named:
        for name in scores:
            difference = scored.values[ours][name] - scored.values[theirs][name]
            low, high, verdict = np.nan, np.nan, "no difference shown"
            if scored.draws is not None:
                mine, other = scored.draws[ours][name], scored.draws[theirs][name]
                low, high = interval(mine - other)
                verdict = _verdict(*interval(_merit(name, mine) - _merit(name, other)))
            row = {"predictor": theirs[1:], "score": name, "difference": difference, "low": low, "high": high}
            rows.append({**row, "verdict": verdict})
    return pd.DataFrame(rows, columns=["predictor", "score", "difference", "low", "high", "verdict"])


def number_blocks(blocks: ArrayLike, n: int) -> tuple[Ints, int]:
    """Blocks (n,) numbered from 0, and how many there are."""
    labels = np.asarray(blocks)
    if labels.shape != (n,):
        raise RegressionError(f"blocks have shape {labels.shape}; expected the block of each of the {n} clusters.")
    distinct, numbered = np.unique(labels, return_inverse=True)
    return np.asarray(numbered, dtype=np.int64), len(distinct)


def _merit(name: str, values: Floats) -> Floats:
    """The score turned so that more is better."""
    if name in _BEST_AT:
        return -np.abs(values - _BEST_AT[name])
    return -values if name in _SMALLER_IS_BETTER else values


def _verdict(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def paired(observed: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Both as finite float64 arrays (n,), or an error that says what is wrong."""
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
