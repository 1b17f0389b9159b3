"""The block bootstrap of scores: whole blocks are drawn, and every score is computed for all draws from block counts.

Clusters of one block resemble each other, so a bootstrap over clusters would promise too much (Cameron, Gelbach and
Miller 2008, Rev Econ Stat 90:414). A draw weighs a cluster by how often its block was drawn. Scores that are functions
of sums need the sums of each block only, so that thousands of draws are one matrix product. Ranks are sums as well,
of the weights of all lower clusters, taken along the sorted clusters for many draws at a time.

In simulations with 100 blocks of 4 clusters, 95% intervals hold the truth in 92 to 95% of surveys. Those of the recalls
hold it in 98 to 99%: copies of a cluster enter or leave the poorest together, which a new survey's clusters do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from geopov.regression._inputs import Floats, Ints

SHARES = {"recall_poorest_fifth": 0.2, "recall_poorest_tenth": 0.1}
"""The part of the clusters that a targeting score calls the poorest."""

# Small enough for the two or three arrays (clusters, draws) at work to stay in a processor's cache.
_CHUNK_BYTES = 2_000_000
# A spread below this part of its own sum of squares is rounding error: the values are constant.
_ROUNDING = 1e-12


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
    def draw(cls, n_blocks: int, *, n_draws: int = 2000, seed: int | Sequence[int] = 0) -> Bootstrap:
        """Draw ``n_blocks`` blocks with replacement, ``n_draws`` times."""
        probabilities = np.full(n_blocks, 1 / n_blocks)
        return cls(np.random.default_rng(seed).multinomial(n_blocks, probabilities, size=n_draws).astype(np.float64))

    def scores(self, observed: Floats, predictors: Mapping[str, Floats], blocks: Ints) -> dict[str, dict[str, Floats]]:
        """Every score (draws,) of the clusters of each draw, by predictor; ``blocks`` are numbered from 0."""
        n_blocks, centre = self.counts.shape[1], float(observed.mean())
        orders = [Order.of(values) for values in predictors.values()]
        order = Order.of(observed)
        chunks = [rank_scores(order, orders, weights) for weights in self.weights(blocks)]
        found = {}
        for number, (name, predicted) in enumerate(predictors.items()):
            sums = self.counts @ block_sums(observed, predicted, blocks, n_blocks=n_blocks)
            ranks = [chunk[number] for chunk in chunks]
            found[name] = scores_from_sums(sums, centre=centre) | {
                key: np.concatenate([part[key] for part in ranks]) for key in ranks[0]
            }
        return found

    def weights(self, blocks: Ints) -> Iterator[Floats]:
        """Weights (n, some draws) of the clusters, a few draws at a time, which bounds the memory whatever n is."""
        by_block = np.ascontiguousarray(self.counts.T)
        step = max(1, _CHUNK_BYTES // (8 * len(blocks)))
        for start in range(0, by_block.shape[1], step):
            yield by_block[blocks, start : start + step]


def interval(draws: Floats, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap draws; NaN where the score was undefined in a tenth of them or more."""
    finite = draws[np.isfinite(draws)]
    if len(finite) <= 0.9 * len(draws):
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def block_sums(observed: Floats, predicted: Floats, blocks: Ints, *, n_blocks: int) -> Floats:
    """Sums (n_blocks, 8) of 1, o, p, o², p², op, squared and absolute error.

    About the mean truth, which keeps their digits.
    """
    centre = observed.mean()
    o, p, error = observed - centre, predicted - centre, predicted - observed
    terms = (np.ones_like(o), o, p, o * o, p * p, o * p, error**2, np.abs(error))
    return np.column_stack([np.bincount(blocks, weights=term, minlength=n_blocks) for term in terms])


def scores_from_sums(sums: Floats, *, centre: float) -> dict[str, Floats]:
    """The scores (m,) that sums determine, of m sets of clusters.

    Parameters
    ----------
    sums : array (m, 8)
        Of :func:`block_sums`.
    centre : float
        What observed and predicted were centred at there, in the outcome's unit.
    """
    n, o, p, oo, pp, op, squared, absolute = sums.T
    var_o, var_p, cov = _spreads(n, o, p, oo, pp, op)
    slope = cov / var_o
    return {
        "r2_pearson": r2_from_sums(n, o, p, oo, pp, op),
        "R2": 1 - squared / var_o,
        "rmse": np.sqrt(squared / n),
        "mae": absolute / n,
        "slope": slope,
        "intercept": p / n - slope * o / n + centre * (1 - slope),
        "sd_ratio": np.sqrt(var_p / var_o),
    }


def r2_from_sums(n: Floats, o: Floats, p: Floats, oo: Floats, pp: Floats, op: Floats) -> Floats:
    """Squared Pearson correlation from sums of 1, o, p, o², p² and op; NaN where either is constant."""
    var_o, var_p, cov = _spreads(n, o, p, oo, pp, op)
    return np.asarray(cov**2 / (var_o * np.where(var_p > 0, var_p, np.nan)))


def _spreads(n: Floats, o: Floats, p: Floats, oo: Floats, pp: Floats, op: Floats) -> tuple[Floats, Floats, Floats]:
    """Sums of squares about the means, of o (NaN where it is constant) and of p (0 there), and their cross product."""
    var_o, var_p = oo - o * o / n, pp - p * p / n
    var_o = np.where(var_o > _ROUNDING * oo, var_o, np.nan)
    return var_o, np.where(var_p > _ROUNDING * pp, var_p, 0.0), op - o * p / n


class Order(NamedTuple):
    """The clusters sorted by a value, which is the same for all draws."""

    rows: Ints
    """(n,) row numbers from the lowest value to the highest."""
    first: Ints
    """(n,) number of clusters with a lower value than each."""
    last: Ints
    """(n,) number of clusters with a lower or an equal value."""
    tied: bool
    """Whether any value stands twice."""

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Sort ``values`` (n,)."""
        rows = np.argsort(values, kind="stable")
        ordered = values[rows]
        first, last = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
        return cls(rows, first, last, bool(np.any(ordered[1:] == ordered[:-1])))

    def cumulative(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight (n, m) of all clusters with a lower value than each, and of those with a lower or an equal one."""
        sums = np.zeros((len(weights) + 1, weights.shape[1]))
        np.cumsum(weights[self.rows], axis=0, out=sums[1:])
        upto = sums[self.last]
        # Without ties the next lower sum is near at hand, which saves a walk through memory.
        return (sums[self.first] if self.tied else upto - weights), upto


def rank_scores(observed: Order, predictors: Sequence[Order], weights: Floats) -> list[dict[str, Floats]]:
    """Spearman correlation and recall of the poorest (m,) of m weighted sets of the same clusters, by predictor.

    Equal to those of the rows repeated as often as their weight says, ties included: tied clusters share the mean of
    their ranks, and at an edge of the poorest count by their chance of being drawn.

    Parameters
    ----------
    observed, predictors : Order
        Of the same n clusters.
    weights : array (n, m)
        Whole numbers; no column is all zero.
    """
    total = weights.sum(axis=0)
    below, upto = observed.cumulative(weights)
    # Twice the mid-rank, centred: a factor that cancels in the correlation.
    rank = below + upto - total
    weighted = weights * rank
    variance = _column_dot(weighted, rank)
    poorest = {}
    for name, share in SHARES.items():
        k = np.maximum(1, np.rint(share * total))
        rows = np.flatnonzero((below < k).any(axis=1))  # most clusters are among the poorest in no draw
        poorest[name] = k, rows, weights[rows] * lowest(below[rows], upto[rows], k) / k
    found = []
    for order in predictors:
        below, upto = order.cumulative(weights)
        rank = below + upto - total
        product = variance * _column_dot(weights * rank, rank)
        covariance = _column_dot(weighted, rank)
        spearman = np.divide(covariance, np.sqrt(product), out=np.full(len(total), np.nan), where=product > 0)
        recalls = {
            name: _column_dot(chances, lowest(below[rows], upto[rows], k))
            for name, (k, rows, chances) in poorest.items()
        }
        found.append({"spearman": spearman, **recalls})
    return found


def lowest(below: Floats, upto: Floats, k: Floats) -> Floats:
    """Chance (n, m) of a cluster to be among the k (m,) lowest, ties broken at random; see :meth:`Order.cumulative`."""
    return np.asarray(np.clip((k - below) / np.maximum(upto - below, 1), 0, 1))


def _column_dot(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->j", first, second))
