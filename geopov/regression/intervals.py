"""How wrong a prediction may be: intervals whose coverage is measured, and a flag where they do not apply.

Intervals are cross-conformal (Vovk 2015, Ann Math Artif Intell 74:9; Barber et al. 2021, Ann Stat 49:486): half their
width is a quantile of the absolute errors on clusters that the model had not seen, with the finite-sample correction.
Because the folds are spatial blocks, these are errors in new places, which is what a map makes. Conformal theory needs
places to be exchangeable and blocks are not quite, so the coverage is never assumed: each fold is covered with a width
taken from the other folds only, and what share of its clusters fell inside is counted.

None of it holds where the image looks like nothing in the survey (a desert, a megacity). The support is an ellipsoid
around the training clusters in the space of features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints, check_varies, standardise
from geopov.regression.scores import Bootstrap, interval


def half_width(errors: Floats, *, level: float) -> float:
    """Half the width of an interval that covers a new cluster with probability ``level``.

    Parameters
    ----------
    errors : array (n,)
        Absolute out-of-fold errors.
    level : float
        Nominal coverage, e.g. 0.9.

    Returns
    -------
    float
        The ceil((n + 1) × level)-th smallest error.

    Raises
    ------
    RegressionError
        If so few errors cannot give so high a level.
    """
    if not 0 < level < 1:
        raise RegressionError(f"level is {level!r}; expected a share between 0 and 1, such as 0.9.")
    rank = math.ceil((len(errors) + 1) * level - 1e-9)
    if rank > len(errors):
        needed = math.ceil(level / (1 - level) - 1e-9)
        raise RegressionError(
            f"{len(errors)} clusters cannot give {level:.0%} intervals; at least {needed} are needed. "
            "Take a lower level."
        )
    return float(np.sort(errors)[rank - 1])


def cross_conformal(errors: Floats, folds: Ints, *, level: float) -> Floats:
    """Half width (n,) for each cluster, from the errors of all folds but its own."""
    widths = np.empty(len(errors))
    for fold in np.unique(folds):
        widths[folds == fold] = half_width(errors[folds != fold], level=level)
    return widths


@dataclass(frozen=True)
class Coverage:
    """Share of clusters inside their interval.

    Attributes
    ----------
    nominal, measured : float
        What was aimed at and what was found, shares.
    low, high : float
        95% block-bootstrap interval of the measured share; NaN with fewer than 5 blocks.
    """

    nominal: float
    measured: float
    low: float
    high: float

    @classmethod
    def measure(
        cls, inside: np.ndarray, blocks: Ints, *, nominal: float, n_draws: int = 2000, seed: int = 0
    ) -> Coverage:
        """Count the share of ``inside`` (n,) bool, and bootstrap it over ``blocks`` (n,)."""
        _, numbered = np.unique(blocks, return_inverse=True)
        sizes, covered = np.bincount(numbered), np.bincount(numbered, weights=inside)
        low = high = np.nan
        if len(sizes) >= 5:
            counts = Bootstrap.draw(len(sizes), n_draws=n_draws, seed=seed).counts
            low, high = interval(counts @ covered / (counts @ sizes))
        return cls(nominal, float(np.mean(inside)), low, high)


@dataclass(frozen=True)
class Support:
    """The region of feature space that training clusters occupy.

    Distance is Mahalanobis' in standardised features with a covariance shrunk after Ledoit and Wolf (2004), which is
    invertible however many features there are. Along most directions of many CNN features the shrunk covariance is all
    but equal to its floor, so only the others are kept.

    Attributes
    ----------
    mean, scale : array (p,)
        Of the training features, in their units.
    directions : array (p, r)
        Principal directions kept, r much smaller than p for most features.
    gain : array (r,)
        What each takes off the squared length.
    floor : float
        Variance along all other directions, in standardised units.
    """

    mean: Floats
    scale: Floats
    directions: Floats
    gain: Floats
    floor: float

    @classmethod
    def fit(cls, X: Floats) -> Support:
        """Learn the region from training features (n, p)."""
        Z, mean, scale, varies = standardise(X)
        check_varies(varies)
        n, p = Z.shape
        # The smaller of the two Gram matrices; the larger has the same eigenvalues and zeros.
        values, vectors = np.linalg.eigh((Z.T @ Z if p <= n else Z @ Z.T) / n)
        shrinkage = _ledoit_wolf(Z, values)
        floor = max(shrinkage * varies.sum() / p, 1e-6)
        kept = (1 - shrinkage) * values > 0.01 * floor
        values, vectors = values[kept], vectors[:, kept]
        directions = vectors if p <= n else Z.T @ vectors / np.sqrt(n * values)
        gain = 1 / floor - 1 / ((1 - shrinkage) * values + floor)
        return cls(mean, scale, directions, gain, floor)

    def distance(self, X: Floats) -> Floats:
        """Distance (n,) of features (n, p) from the training clusters, whose root mean square is about one."""
        Z = (X - self.mean) / self.scale
        squared = np.einsum("ij,ij->i", Z, Z) / self.floor - (Z @ self.directions) ** 2 @ self.gain
        return np.asarray(np.sqrt(np.maximum(squared, 0) / len(self.mean)))


def _ledoit_wolf(Z: Floats, eigenvalues: Floats) -> float:
    """Weight of the identity in the shrunk covariance (Ledoit and Wolf 2004, J Multivar Anal 88:365).

    In terms of row sums and eigenvalues, which costs n × p where the p × p products of the definition cost n × p².
    """
    n, p = Z.shape
    mean = (Z**2).sum() / (n * p)
    of_squares = float(eigenvalues @ eigenvalues)
    spread = of_squares / p - mean**2
    noise = (((Z**2).sum(axis=1) ** 2).sum() / n - of_squares) / (n * p)
    return float(min(noise / spread, 1.0)) if spread > 0 else 1.0


SUPPORT_SHARE = 0.99
"""Share of held-out clusters that count as inside the support."""


def support_limit(distances: Floats) -> float:
    """The distance beyond which a place is out of support: 99 of 100 held-out clusters lie nearer."""
    return float(np.quantile(distances, SUPPORT_SHARE))


def within_support(distances: Floats, folds: Ints) -> np.ndarray:
    """Whether each cluster (n,) lies within the limit that the other folds' held-out distances set."""
    inside = np.empty(len(distances), dtype=bool)
    for fold in np.unique(folds):
        inside[folds == fold] = distances[folds == fold] <= support_limit(distances[folds != fold])
    return inside
