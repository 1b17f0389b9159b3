"""Density models fitted to zone totals: what is known is a sum over cells, what is wanted is the cells.

A model of the logarithm of cell density, fitted to means over zones, is wrong for cells: the logarithm of a sum is not
the sum of logarithms (the ecological fallacy; King 1997). Here cells are modelled and only their sums are compared::

    people expected in zone z  =  sum over cells c of area_zc x exp(eta_c)

Everything is conditional on the totals of the zones' parents, as the map is later conditional on the zones' totals:
what is learned is how people share the ground of one parent, and whatever sets parents apart cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse
from sklearn.tree import DecisionTreeRegressor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# exp() of this is the most that one cell's density may be of another's.
_MOST_ETA = 30.0
_MOST_ITERATIONS, _TOLERANCE = 50, 1e-6


@dataclass(frozen=True)
class Totals:
    """Zones as sums over cells.

    Attributes
    ----------
    features : array (c, k)
        Standardised covariates of the cells.
    area : csr_matrix (n, c)
        Land of each cell in each zone, km².
    counts : array (n,)
        People in each zone, above 0.
    parent : array (n,) of int
        Number of each zone's parent, from 0 without gaps.
    """

    features: Floats
    area: scipy.sparse.csr_matrix
    counts: Floats
    parent: Ints

    def take(self, zones: Ints) -> Totals:
        """Some of the zones, on their cells alone."""
        parent = np.unique(self.parent[zones], return_inverse=True)[1]
        area = self.area[zones]
        cells = np.unique(area.indices)
        return Totals(self.features[cells], area[:, cells].tocsr(), self.counts[zones], parent)

    @cached_property
    def zone(self) -> Ints:
        """The zone of each entry of ``area``."""
        return np.repeat(np.arange(len(self.counts)), np.diff(self.area.indptr))

    @cached_property
    def weight(self) -> Floats:
        """Square root of the counts, mean 1: between every zone alike and every person alike."""
        root = np.sqrt(self.counts)
        return np.asarray(root / root.mean())

    def sums(self, eta: Floats) -> tuple[Floats, Floats]:
        """People of each entry of ``area``, and of each zone, up to a factor."""
        pieces = self.area.data * np.exp(eta)[self.area.indices]
        return pieces, _add_up(self.zone, pieces, len(self.counts))

    def centred(self, values: Floats) -> Floats:
        """Values (n,) or (n, m) less their weighted mean in each parent."""
        flat = values.reshape(len(values), -1)
        parents = scipy.sparse.csr_matrix((np.ones(len(flat)), (self.parent, np.arange(len(flat)))))
        mean = (parents @ (self.weight[:, None] * flat)) / (parents @ self.weight)[:, None]
        return np.asarray((flat - mean[self.parent]).reshape(values.shape))

    def residuals(self, sums: Floats) -> Floats:
        """Logarithm of observed over expected people, given the parents' totals."""
        return self.centred(np.log(self.counts) - np.log(sums))

    def shared(self, eta: Floats) -> Floats:
        """People expected in each zone when the totals of the parents are shared by ``exp(eta)``."""
        _, sums = self.sums(eta)
        scale = np.bincount(self.parent, self.counts) / np.bincount(self.parent, sums)
        return np.asarray(sums * scale[self.parent])


def log_linear(totals: Totals, *, penalty: float) -> Floats:
    """Coefficients (k,) of a log-linear density, by least squares of the logarithms of zone totals, with ridge.

    Minimises half the mean over zones of weight x residual², with ``penalty / 2`` x |b|² added, by Gauss-Newton: to
    first order a coefficient moves a zone's logarithm by the mean covariate of the zone's people, not of its ground, so
    that each iteration is a ridge regression on means that the one before it has weighted.
    """
    n, k = len(totals.counts), totals.features.shape[1]
    ridge = n * penalty

    def look(b: Floats) -> tuple[float, Floats, Floats]:
        eta = np.clip(totals.features @ b, -_MOST_ETA, _MOST_ETA)
        pieces, sums = totals.sums(eta)
        residual = totals.residuals(sums)
        return float(totals.weight @ residual**2 + ridge * b @ b), residual, pieces / sums[totals.zone]

    b = np.zeros(k)
    loss, residual, share = look(b)
    for _ in range(_MOST_ITERATIONS):
        shares = scipy.sparse.csr_matrix((share, totals.area.indices, totals.area.indptr), shape=totals.area.shape)
        means = totals.centred(np.asarray(shares @ totals.features))
        weighted = means * totals.weight[:, None]
        step = np.linalg.solve(means.T @ weighted + ridge * np.eye(k), weighted.T @ residual - ridge * b)
        # Far from the solution the first order may overshoot.
        for size in 0.5 ** np.arange(12):
            tried = look(b + size * step)
            if tried[0] < loss:
                break
        else:
            break
        gain = loss - tried[0]
        b, (loss, residual, share) = b + size * step, tried
        if gain < _TOLERANCE * loss:
            break
    return b


@dataclass(frozen=True)
class Tree:
    """A step function of a cell's features."""

    splits: DecisionTreeRegressor
    steps: Floats

    def __call__(self, features: npt.NDArray[np.float32]) -> Floats:
        """Steps (c,) of cells with ``features`` (c, k)."""
        return np.asarray(self.steps[self.splits.apply(features)])


def boosted(
    totals: Totals,
    start: Floats,
    *,
    rounds: int,
    rate: float,
    leaves: int,
    draws: int,
    seed: int,
) -> Iterator[Tree]:
    """Trees that follow each other, each correcting the zone totals that the ones before it expect.

    A round draws ``draws`` cells of each zone with the probability that a person lives there by the present estimate,
    grows a tree on the zones' residuals at those cells, and then solves for the steps of its leaves with all cells: to
    first order, a leaf's step moves a zone's logarithm by the share of the zone's people that live in the leaf
    (Gauss-Newton). Stochastic gradient boosting (Friedman 2002) in all else.

    Parameters
    ----------
    totals : Totals
        To fit.
    start : array (c,)
        Logarithm of density to begin with.
    rounds, leaves, draws : int
        Trees, leaves of each, cells drawn from each zone.
    rate : float
        Part of each step that is taken.
    seed : int
        Of the draws and of the features that a split may use.

    Yields
    ------
    tree
        Its steps add to the logarithm of density.
    """
    rng = np.random.default_rng(seed)
    X32 = totals.features.astype(np.float32)
    eta = np.clip(start, -_MOST_ETA, _MOST_ETA)
    n, smallest = len(totals.counts), max(5, len(totals.counts) * draws // 300)
    for _ in range(rounds):
        pieces, sums = totals.sums(eta)
        residual, share = totals.residuals(sums), pieces / sums[totals.zone]
        drawn = _draw(share, n, draws, rng)
        splits = DecisionTreeRegressor(
            max_leaf_nodes=leaves, min_samples_leaf=smallest, max_features=0.5, random_state=int(rng.integers(2**31))
        )
        zone = totals.zone[drawn]
        splits.fit(X32[totals.area.indices[drawn]], residual[zone], sample_weight=totals.weight[zone])
        node = splits.apply(X32)
        tree = Tree(splits, rate * _steps(totals, share, node, residual, splits.tree_.node_count))
        eta = np.clip(eta + tree.steps[node], -_MOST_ETA, _MOST_ETA)
        yield tree


def _draw(share: Floats, n: int, draws: int, rng: np.random.Generator) -> Ints:
    """Entries of ``area``, ``draws`` of each zone, with probability ``share`` (systematic sampling)."""
    at = np.arange(n)[:, None] + (np.arange(draws) + rng.random((n, draws))) / draws
    # The shares of each zone add up to 1 but for rounding, so their running sum tells zones apart by its whole part.
    drawn = np.searchsorted(np.cumsum(share), at.ravel() * (1 - 1e-12))
    return np.asarray(np.minimum(drawn, len(share) - 1), dtype=np.int64)


def _steps(totals: Totals, share: Floats, node: Ints, residual: Floats, n_nodes: int) -> Floats:
    """Steps of the leaves by weighted least squares of the residuals, held back as by one more zone (ridge)."""
    leaves = np.flatnonzero(np.bincount(node))
    n, k = len(residual), len(leaves)
    of_node = np.zeros(n_nodes, dtype=np.int64)
    of_node[leaves] = np.arange(k)
    where = totals.zone * k + of_node[node[totals.area.indices]]
    shares = totals.centred(_add_up(where, share, n * k).reshape(n, k))
    weighted = shares * totals.weight[:, None]
    steps = np.zeros(n_nodes)
    steps[leaves] = np.linalg.solve(shares.T @ weighted + np.eye(k), weighted.T @ residual)
    return steps


def _add_up(where: Ints, values: Floats, n: int) -> Floats:
    return np.asarray(np.bincount(where, weights=values, minlength=n), dtype=np.float64)
