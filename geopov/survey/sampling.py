"""Weighted means and their standard errors, by Taylor linearisation of the ratio sum(w y) / sum(w).

What is drawn (households of a cluster, primary sampling units of a stratum) is taken as drawn with replacement, which
errs on the safe side.

Sources: Cochran, W. G. (1977), Sampling Techniques, 3rd ed., ch. 6; Särndal, C.-E., Swensson, B. & Wretman, J. (1992),
Model Assisted Survey Sampling, ch. 5; Wolter, K. M. (2007), Introduction to Variance Estimation, 2nd ed., ch. 6;
Kish, L. (1965), Survey Sampling.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from geopov.errors import SurveyError

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def weighted_means(value: Numbers, weight: Numbers, codes: Codes) -> tuple[Numbers, Numbers]:
    """Weighted mean of each group and its standard error, over the values that are known.

    Parameters
    ----------
    value, weight : array (household)
        NaN values are left out.
    codes : int array (household)
        Group of each household, from 0.

    Returns
    -------
    mean, se : array (group)
        NaN for a group without values; the standard error, sqrt(n / (n - 1) sum(w² (y - mean)²)) / sum(w)
        (Särndal, Swensson & Wretman 1992, for households drawn with replacement), is NaN for a group of one.
    """
    groups = int(codes.max()) + 1 if len(codes) else 0
    known = ~np.isnan(value)
    codes, value, weight = codes[known], value[known], weight[known]
    n = np.bincount(codes, minlength=groups)
    share = weight / np.bincount(codes, weight, minlength=groups)[codes]
    mean = np.where(n > 0, np.bincount(codes, share * value, minlength=groups), np.nan)
    spread = np.bincount(codes, (share * (value - mean[codes])) ** 2, minlength=groups)
    factor = np.divide(n, n - 1, out=np.full(groups, np.nan), where=n > 1)
    return mean, np.sqrt(factor * spread)


def linearised_mean(
    value: Numbers,
    weight: Numbers,
    stratum: Codes,
    psu: Codes,
    of: npt.NDArray[np.bool_],
) -> dict[str, float]:
    """Mean of a group of households and what the design says of its error.

    Parameters
    ----------
    value, weight : array (household of the group)
        No missing values; weights above zero.
    stratum, psu : int array (household of the survey)
        Stratum and primary sampling unit of every household, from 0; units differ between strata.
    of : bool array (household of the survey)
        Which of them the group is.

    Returns
    -------
    dict
        The columns of :func:`geopov.survey.design.estimate`.
    """
    n, share = len(value), weight / weight.sum()
    mean = float(share @ value)
    residual = share * (value - mean)
    # Units of the survey without households of the group count too, with a total of zero.
    totals = np.bincount(psu[of], residual, minlength=psu.max() + 1)
    stratum_of = np.zeros(len(totals), dtype=np.intp)
    stratum_of[psu] = stratum
    units = np.bincount(stratum_of)
    single = units == 1
    # The residuals of all households sum to zero: their grand mean, from which a lone unit is measured, is zero too.
    centre = np.where(single, 0.0, np.bincount(stratum_of, totals) / units)
    spread = np.bincount(stratum_of, (totals - centre[stratum_of]) ** 2)
    psus, strata = len(np.unique(psu[of])), np.unique(stratum[of])
    variance = float((spread * np.where(single, 1.0, units / np.maximum(units - 1, 1))).sum()) if psus > 1 else np.nan
    at_random = float(share @ (value - mean) ** 2) / (n - 1) if n > 1 else np.nan
    return {
        "mean": mean,
        "se": variance**0.5,
        "cv": variance**0.5 / abs(mean) if mean else np.nan,
        "n": n,
        "n_effective": float(1 / (share @ share)),
        "deff": variance / at_random if at_random else np.nan,
        "psus": psus,
        "strata": len(strata),
        "single_psu_strata": int(single[strata].sum()),
    }


def within_cluster_sd(
    log_consumption: npt.ArrayLike, clusters: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> float:
    """Spread of log consumption among households of one cluster, pooled over clusters.

    ``sum w (y - cluster mean)² / sum over clusters of (W - sum w² / W)`` with W a cluster's sum of weights: unbiased
    for the variance whatever the weights, and the familiar n - 1 where they are equal. A cluster with one household
    says nothing and adds nothing.

    Parameters
    ----------
    log_consumption : array (household,)
        Natural logarithms.
    clusters : array (household,)
        Code of each household's cluster.
    weights : array (household,), optional
        People each household stands for (weight x size), so that the spread is that of people; default equal.

    Returns
    -------
    float
        Standard deviation of logs.

    Raises
    ------
    SurveyError
        If a value is missing, a weight is not positive, lengths differ, or no cluster has two households.
    """
    y = np.asarray(log_consumption, dtype=float)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    codes, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if not (y.shape == w.shape == cluster.shape):
        raise SurveyError(f"log_consumption, clusters and weights have lengths {len(y)}, {len(cluster)} and {len(w)}.")
    bad = ~np.isfinite(y) | ~np.isfinite(w) | (w <= 0)
    if bad.any():
        raise SurveyError(
            f"{int(bad.sum())} of {len(y)} households have no finite log consumption or no weight above zero; "
            "drop them first (the logarithm of 0 is none of a small amount)."
        )
    total, squares = np.bincount(cluster, w, len(codes)), np.bincount(cluster, w**2, len(codes))
    mean = np.bincount(cluster, w * y, len(codes)) / total
    several = np.bincount(cluster, minlength=len(codes)) > 1
    if not several.any():
        raise SurveyError("no cluster has two households, so nothing is known of the spread within clusters.")
    spread = np.bincount(cluster, w * (y - mean[cluster]) ** 2, len(codes))
    return math.sqrt(float(spread[several].sum() / (total - squares / total)[several].sum()))
