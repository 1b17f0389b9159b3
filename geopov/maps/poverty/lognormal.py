"""Consumption spread lognormally: how widely within clusters, what exp() of a prediction leaves out, who is poor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from geopov.errors import MapError

Floats = NDArray[np.float64]


def smearing_factor(residuals: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Duan's smearing factor: the weighted mean of exp(residual), to multiply exp(prediction) by.

    Unlike exp(s² / 2) it takes no distribution for granted (Duan 1983, J Am Stat Assoc 78:605).

    Parameters
    ----------
    residuals : array (n,)
        Observed minus predicted logarithm, of clusters the model had not seen.
    weights : array (n,), optional
        Of the clusters; default equal.

    Raises
    ------
    MapError
        If there is no residual, one is not finite, or weights do not fit.
    """
    e = np.asarray(residuals, dtype=float)
    w = np.ones(e.shape) if weights is None else np.asarray(weights, dtype=float)
    if e.ndim != 1 or e.size == 0 or not np.isfinite(e).all():
        raise MapError(f"residuals are of shape {e.shape}; expected a list of finite ones, observed minus predicted.")
    if w.shape != e.shape or not (w >= 0).all() or not 0 < w.sum() < math.inf:
        raise MapError("the residuals' weights do not fit; expected one for each, not negative and not all zero.")
    return float(np.average(np.exp(e), weights=w))


def lognormal_fgt(mean_log: ArrayLike, sd_log: ArrayLike, line: float, *, alpha: int) -> Floats:
    """Poverty index P_alpha of Foster, Greer and Thorbecke for people with lognormal consumption.

    Parameters
    ----------
    mean_log, sd_log : array
        Mean and standard deviation (above zero) of log consumption; broadcast together.
    line : float
        In the unit of consumption.
    alpha : {0, 1, 2}
        Headcount, gap, severity.

    Returns
    -------
    array
        0 to 1, NaN where either is.
    """
    m, sd = np.broadcast_arrays(np.asarray(mean_log, dtype=float), np.asarray(sd_log, dtype=float))
    below = m - math.log(line)
    index = np.zeros(m.shape)
    for k in range(alpha + 1):
        # The exponential and Phi overflow and underflow apart, not together.
        term = np.exp(k * below + k**2 * sd**2 / 2 + log_ndtr(-below / sd - k * sd))
        index += (-1) ** k * math.comb(alpha, k) * term
    return np.asarray(np.clip(index, 0.0, 1.0))
