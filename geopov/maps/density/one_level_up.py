"""The kinds of density model, and the choice among them without the truth they are for.

Whole parents are held out; their totals are shared among their zones by models fitted to the other zones; the zones'
counts judge. That is the task of the map, one level up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

from geopov.maps.density.ecological import Floats, Totals, Tree, boosted, log_linear

Kind = Literal["loglinear", "boosting", "ridge", "forest"]
"""``loglinear`` and ``boosting`` are fitted to sums over cells (:mod:`geopov.maps.density.ecological`); ``ridge`` and
``forest`` to the mean covariates of zones, as maps of population commonly are (Stevens et al. 2015)."""

# In this order: boosting starts from the log-linear model, whose penalty is then known.
KINDS: tuple[Kind, ...] = ("loglinear", "ridge", "forest", "boosting")

Predictor = Callable[[Floats], Floats]
"""From standardised covariates (c, k) to the logarithm of density (c,)."""

_RATE, _LEAVES, _DRAWS = 0.1, 8, 25
_TREES_A_STAGE = 10


@dataclass(frozen=True)
class Candidate:
    """A kind of model and its settings; ``trees`` is 0 but for boosting, ``penalty`` NaN for a forest."""

    kind: Kind
    penalty: float = np.nan
    trees: int = 0


@dataclass(frozen=True)
class Linear:
    """A plane."""

    coefficients: Floats

    def __call__(self, features: Floats) -> Floats:
        """Logarithm of density (c,) of cells with ``features`` (c, k)."""
        return np.asarray(features @ self.coefficients)


@dataclass(frozen=True)
class Boosted:
    """A plane and trees upon it."""

    start: Linear
    trees: tuple[Tree, ...]

    def __call__(self, features: Floats) -> Floats:
        """Logarithm of density (c,) of cells with ``features`` (c, k)."""
        narrow = features.astype(np.float32)
        eta = self.start(features)
        for tree in self.trees:
            eta += tree(narrow)
        return eta


@dataclass(frozen=True)
class ZoneMeans:
    """A scikit-learn regressor of zones' log density on their mean covariates, asked about cells."""

    regressor: Any

    def __call__(self, features: Floats) -> Floats:
        """Logarithm of density (c,) of cells with ``features`` (c, k)."""
        return np.asarray(self.regressor.predict(features), dtype=np.float64)


def fit(totals: Totals, candidate: Candidate, *, seed: int) -> Predictor:
    """The candidate's model of all zones."""
    if candidate.kind in ("ridge", "forest"):
        return _zone_means(totals, candidate, seed)
    start = Linear(log_linear(totals, penalty=candidate.penalty))
    if candidate.kind == "loglinear":
        return start
    return Boosted(start, tuple(_boost(totals, start, candidate.trees, seed)))


def choose(
    totals: Totals, kinds: Sequence[Kind], *, penalties: Sequence[float], trees: int, n_folds: int, seed: int
) -> tuple[Candidate, pd.DataFrame, Floats]:
    """The candidate with the smallest mean absolute error one level up.

    Parameters
    ----------
    totals : Totals
        All zones.
    kinds : sequence of Kind
        To choose from.
    penalties : sequence of float
        For ``loglinear`` and ``ridge``; ``boosting`` starts from the best ``loglinear``.
    trees : int
        At most.
    n_folds : int
        Parts that parents are held out in, at random by ``seed``.

    Returns
    -------
    candidate : Candidate
        The best.
    tried : DataFrame
        A row a candidate: ``kind``, ``penalty``, ``trees``, ``mae``, ``r2``, ``log_rmse``.
    predicted : array (n,)
        People that the best one gives each zone while its parent is held out.
    """
    parents = int(totals.parent.max()) + 1
    fold = (np.random.default_rng(seed).permutation(parents) % min(n_folds, parents))[totals.parent]
    tests = [np.flatnonzero(fold == f) for f in np.unique(fold)]
    parts = [(totals.take(np.flatnonzero(fold != f)), totals.take(np.flatnonzero(fold == f))) for f in np.unique(fold)]
    wanted = [kind for kind in KINDS if kind in kinds or (kind == "loglinear" and "boosting" in kinds)]
    predicted: dict[Candidate, Floats] = {}
    for kind in wanted:
        planes = [c for c in predicted if c.kind == "loglinear"] if kind == "boosting" else []
        start = min(planes, key=lambda c: _mae(totals, predicted[c])).penalty if planes else np.nan
        for test, (train, rest) in zip(tests, parts, strict=True):
            for candidate, eta in _candidates(train, rest.features, kind, penalties, start, trees, seed):
                predicted.setdefault(candidate, np.zeros(len(totals.counts)))[test] = rest.shared(eta)
    best = min((c for c in predicted if c.kind in kinds), key=lambda c: _mae(totals, predicted[c]))
    tried = pd.DataFrame([_scores(totals, c, people) for c, people in predicted.items()])
    return best, tried, predicted[best]


def _candidates(
    train: Totals, features: Floats, kind: Kind, penalties: Sequence[float], start: float, trees: int, seed: int
) -> Iterator[tuple[Candidate, Floats]]:
    """Each candidate of a kind, and the logarithm of density it gives cells with ``features``."""
    if kind == "boosting":
        plane = Linear(log_linear(train, penalty=start))
        eta, narrow = plane(features), features.astype(np.float32)
        for done, tree in enumerate(_boost(train, plane, trees, seed), start=1):
            eta = eta + tree(narrow)
            if done % _TREES_A_STAGE == 0 or done == trees:
                yield Candidate("boosting", start, done), eta
        return
    for penalty in [np.nan] if kind == "forest" else penalties:
        candidate = Candidate(kind, penalty)
        yield candidate, fit(train, candidate, seed=seed)(features)


def _boost(totals: Totals, start: Linear, trees: int, seed: int) -> Iterator[Tree]:
    eta = start(totals.features)
    return boosted(totals, eta, rounds=trees, rate=_RATE, leaves=_LEAVES, draws=_DRAWS, seed=seed)


def _zone_means(totals: Totals, candidate: Candidate, seed: int) -> ZoneMeans:
    land = np.asarray(totals.area.sum(axis=1)).ravel()
    means = np.asarray(totals.area @ totals.features) / land[:, None]
    log_density = np.log(totals.counts / land)
    regressor = (
        Ridge(alpha=candidate.penalty * len(land))
        if candidate.kind == "ridge"
        else RandomForestRegressor(200, min_samples_leaf=3, max_features=1 / 3, random_state=seed)
    )
    return ZoneMeans(regressor.fit(means, log_density))


def _mae(totals: Totals, people: Floats) -> float:
    return float(np.abs(people - totals.counts).mean())


def _scores(totals: Totals, candidate: Candidate, people: Floats) -> dict[str, float | str]:
    error, spread = people - totals.counts, totals.counts - totals.counts.mean()
    return {
        "kind": candidate.kind,
        "penalty": candidate.penalty,
        "trees": candidate.trees,
        "mae": _mae(totals, people),
        "r2": float(1 - (error @ error) / (spread @ spread)),
        "log_rmse": float(np.sqrt(np.mean(np.log(totals.counts / people) ** 2))),
    }
