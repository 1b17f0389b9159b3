"""How errors grow from place to place, as a small function of what any place has: a prediction and a distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from geopov.regression._inputs import Floats

MIN_CLUSTERS = 50
"""Held-out errors from which on a scale is learned; with fewer its own noise costs more width than it saves."""
MAX_FACTOR = 3.0
"""The scale lies between a typical place's divided and multiplied by this."""

_CENTRAL_SHARE = 0.95  # beyond it too few errors tell how they go on
_PENALTY_CLUSTERS = 4.0


@dataclass(frozen=True)
class ErrorScale:
    """Expected absolute error of a place over that of a typical place, in [1/3, 3].

    The logarithm is a quadratic in the prediction plus a line in the distance from the support, both held at their end
    values beyond the central 95% of the clusters they were learned from, so that nothing is extrapolated. It is fitted
    as a gamma regression of absolute errors (variance proportional to the squared mean, as for errors of one shape and
    many sizes), with a ridge penalty that weighs as much as about four clusters at the ends of the range.

    Attributes
    ----------
    linear, quadratic, outward : float
        Coefficients on the prediction, its square and the distance, each brought to -1..1 over its range.
    typical : float
        Mean of the logarithm over the clusters it was learned from, taken off.
    mean_range, distance_range : (float, float)
        Of the central 95%, in their units.
    """

    linear: float = 0.0
    quadratic: float = 0.0
    outward: float = 0.0
    typical: float = 0.0
    mean_range: tuple[float, float] = (0.0, 0.0)
    distance_range: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def fit(cls, errors: Floats, mean: Floats, distance: Floats, *, min_clusters: int = MIN_CLUSTERS) -> Self:
        """Learn the scale from absolute held-out errors (n,); constant with fewer than ``min_clusters``."""
        if len(errors) < min_clusters or not (errors > 0).any():
            return cls()
        tails = [(1 - _CENTRAL_SHARE) / 2, (1 + _CENTRAL_SHARE) / 2]
        mean_low, mean_high = np.quantile(mean, tails)
        near, far = np.quantile(distance, tails)
        mean_range, distance_range = (float(mean_low), float(mean_high)), (float(near), float(far))
        terms = _terms(mean, distance, mean_range, distance_range)
        coefficients = _gamma_regression(terms, errors)
        linear, quadratic, outward = coefficients.tolist()
        return cls(linear, quadratic, outward, float((terms @ coefficients).mean()), mean_range, distance_range)

    def __call__(self, mean: Floats, distance: Floats) -> Floats:
        """The scale (n,) at predictions ``mean`` (n,) and ``distance`` (n,); NaN where either is."""
        terms = _terms(mean, distance, self.mean_range, self.distance_range)
        logarithm = terms @ np.array([self.linear, self.quadratic, self.outward]) - self.typical
        return np.asarray(np.exp(np.clip(logarithm, -math.log(MAX_FACTOR), math.log(MAX_FACTOR))))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What :func:`dataclasses.asdict` made of it, after a passage through JSON."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return cls(**values)


def _terms(
    mean: Floats, distance: Floats, mean_range: tuple[float, float], distance_range: tuple[float, float]
) -> Floats:
    """The (n, 3) terms of the logarithm."""
    u, v = _to_unit(mean, mean_range), _to_unit(distance, distance_range)
    return np.column_stack([u, u**2, v])


def _to_unit(values: Floats, ends: tuple[float, float]) -> Floats:
    """Values (n,) brought to -1..1 over a range and held at its ends; zero where the range is empty."""
    low, high = ends
    if high <= low:
        return np.asarray(values * 0.0)  # NaN stays NaN
    return np.asarray(2 * (np.clip(values, low, high) - low) / (high - low) - 1)


def _gamma_regression(terms: Floats, errors: Floats) -> Floats:
    """Coefficients (k,) of a gamma regression of ``errors`` (n,) on ``terms`` (n, k) with a logarithmic link.

    The likelihood with its intercept and dispersion maximised out, which is convex. scikit-learn's GammaRegressor
    minimises the same, but takes no error of zero and warns where terms are constant.
    """
    with np.errstate(divide="ignore"):
        logarithm = np.log(errors)  # -inf is an error without weight
    penalty, average = _PENALTY_CLUSTERS / len(errors), terms.mean(axis=0)

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        excess = logarithm - terms @ coefficients
        gradient = average - softmax(excess) @ terms + penalty * coefficients
        value = logsumexp(excess) + average @ coefficients + penalty / 2 * coefficients @ coefficients
        return float(value), gradient

    tight = {"ftol": 1e-12, "gtol": 1e-6}
    return np.asarray(minimize(loss, np.zeros(terms.shape[1]), jac=True, method="L-BFGS-B", options=tight).x)
