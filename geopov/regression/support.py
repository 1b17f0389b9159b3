"""Where a model may speak: a flag for places whose features look like nothing in the survey.

An interval learned from held-out clusters says nothing of a desert or a megacity when the survey has neither. The
support is an ellipsoid around the training clusters in the space of features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geopov.regression._inputs import Floats, Ints, check_varies, standardise

SUPPORT_SHARE = 0.99
"""Share of held-out clusters that count as inside the support."""


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


def support_limit(distances: Floats) -> float:
    """The distance beyond which a place is out of support: 99 of 100 held-out clusters lie nearer."""
    return float(np.quantile(distances, SUPPORT_SHARE))


def within_support(distances: Floats, folds: Ints) -> NDArray[np.bool_]:
    """Whether each cluster (n,) lies within the limit that the other folds' held-out distances set."""
    inside = np.empty(len(distances), dtype=bool)
    for fold in np.unique(folds):
        inside[folds == fold] = distances[folds == fold] <= support_limit(distances[folds != fold])
    return inside
