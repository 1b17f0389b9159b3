"""Small-area estimation: direct estimates of a survey and a map's covariates, each weighed by what it is worth.

The area-level model of Fay & Herriot (1979): the direct estimate of an area is its true mean plus a sampling error of
known variance, and the true mean is a linear function of covariates plus an effect of the area,

    direct_i = theta_i + e_i,  theta_i = x_i' beta + u_i,  var(e_i) = psi_i,  var(u_i) = sigma2.

The empirical best linear unbiased predictor (EBLUP) is ``gamma_i direct_i + (1 - gamma_i) x_i' beta`` with
``gamma_i = sigma2 / (sigma2 + psi_i)``: the direct estimate where it is precise, the synthetic one where it is not.

References
----------
Fay, R. E. & Herriot, R. A. (1979). Estimates of income for small places: an application of James-Stein procedures to
census data. Journal of the American Statistical Association 74(366), 269-277.
Rao, J. N. K. & Molina, I. (2015). Small Area Estimation, 2nd edition, Wiley, chapter 6.
"""

# Written here, though samplics has it: that package is archived, its iterations end without an answer, or with a wrong
# one, in about 1 of 100 worlds of 20 areas (tests/maps/test_small_area.py compares the others), and it knows neither
# areas without a direct estimate nor the covariance of the coefficients that their error needs.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar

from geopov._validation import check_columns, check_unique, some
from geopov.errors import MapError

Floats = npt.NDArray[np.float64]
Scale = Literal["identity", "arcsine"]
Variances = Literal["missing", "all", "given"]
Likelihood = Literal["reml", "adjusted"]

_WHAT = "the table of areas"
_MADE = ("variance_used", "direct_variance", "smoothed", "gamma", "synthetic", "synthetic_mse", "eblup", "eblup_mse")


@dataclass(frozen=True)
class FayHerriot:
    """A fitted area-level model.

    Attributes
    ----------
    table : DataFrame
        The areas as given, and: ``variance_used`` (sampling variance on the model's scale, NaN where the direct
        estimate was not used), ``direct_variance`` (the same, in the square of the estimates' unit), ``smoothed``
        (whether it comes from the variance function), ``gamma`` (weight of the direct estimate, 0 without one),
        ``synthetic`` and ``synthetic_mse`` (from covariates alone), ``eblup`` and ``eblup_mse`` (the synthetic
        estimate where there is no direct one; NaN where a covariate is missing).
    coefficients : DataFrame
        Indexed by ``intercept`` and the covariates: ``estimate`` and ``se``, on the model's scale.
    area_variance : float
        Of the areas' effects (sigma2), on the model's scale.
    scale : {"identity", "arcsine"}
        What the model is linear in.
    notes : list of str
        What a reader of the table should know.
    """

    table: pd.DataFrame
    coefficients: pd.DataFrame
    area_variance: float
    scale: Scale
    notes: list[str]


def fay_herriot(
    areas: pd.DataFrame,
    *,
    covariates: Sequence[str],
    area_column: str = "area",
    variances: Variances = "missing",
    scale: Scale = "identity",
    limits: tuple[float, float] | None = None,
    likelihood: Likelihood = "reml",
) -> FayHerriot:
    """EBLUP of each area's mean and its mean squared error.

    A sampling variance is *not known* where it is missing, or 0 (all answers alike, or one primary sampling unit):
    taken at its word, a 0 would give the direct estimate of the poorest sample full weight.

    Parameters
    ----------
    areas : DataFrame
        One row an area: ``area_column`` (unique), ``estimate`` (NaN where the survey has none), ``variance`` (its
        sampling variance), ``n`` (households), and the covariates. All other columns are carried along.
    covariates : sequence of str
        Columns of numbers; an empty list shrinks towards the common mean.
    area_column : str
        Names an area.
    variances : {"missing", "all", "given"}
        What to do about variances: ``missing`` replaces those not known by :func:`smooth_variances`, ``all`` replaces
        every one (estimated variances of few sampling units are noise themselves), ``given`` replaces none and treats
        direct estimates without one as absent.
    scale : {"identity", "arcsine"}
        ``arcsine`` models asin(sqrt(share)), whose sampling variance depends little on the share, and transforms back
        by the mean and variance of the share under a normal predictor (no naive back-transformation).
    likelihood : {"reml", "adjusted"}
        How the variance of areas' effects is estimated. With few areas that say little REML often finds 0, gives the
        direct estimates no weight and its intervals cover too seldom. ``adjusted`` (Li & Lahiri, 2010: the restricted
        likelihood times sigma2) never does; estimates are a little worse, intervals cover what they say or more.
    limits : (lowest, highest), optional
        Estimates beyond are set to the limit and counted in the notes, as shares from 0 to 1.

    Returns
    -------
    FayHerriot
        With the MSE of Datta & Lahiri (2000), g1 + g2 + 2 g3, less the adjusted likelihood's bias in g1 (not below 0);
        for areas without a direct estimate ``sigma2 + x' cov(beta) x``. On the arcsine scale these are turned into
        variances of the share.

    Raises
    ------
    MapError
        If a column is missing or no number, areas repeat, shares lie outside 0 to 1 on the arcsine scale, variances
        are negative, covariates are collinear, or too few areas have a direct estimate.

    References
    ----------
    Prasad, N. G. N. & Rao, J. N. K. (1990). The estimation of the mean squared error of small-area estimators. Journal
    of the American Statistical Association 85(409), 163-171.
    Datta, G. S. & Lahiri, P. (2000). A unified measure of uncertainty of estimated best linear unbiased predictors in
    small area estimation problems. Statistica Sinica 10, 613-627.
    Li, H. & Lahiri, P. (2010). An adjusted maximum likelihood method for solving small area estimation problems.
    Journal of Multivariate Analysis 101(4), 882-892.
    """
    for name, value, known in (
        ("variances", variances, get_args(Variances)),
        ("scale", scale, get_args(Scale)),
        ("likelihood", likelihood, get_args(Likelihood)),
    ):
        if value not in known:
            raise MapError(f"{name} is {value!r}; expected {' or '.join(map(repr, known))}.")
    _check_columns(areas, covariates, area_column)
    areas = areas.reset_index(drop=True)
    notes: list[str] = []
    direct, given, households = (_numbers(areas, column) for column in ("estimate", "variance", "n"))
    x = np.column_stack([np.ones(len(areas)), *(_numbers(areas, column) for column in covariates)])
    if len(negative := np.flatnonzero(given < 0)):
        raise MapError(f"{_WHAT} has negative variances ({some(areas.loc[negative, area_column])}); correct them.")
    y, variance = (direct, given) if scale == "identity" else _to_arcsine(direct, given)
    used, smoothed = _variances(y, variance, households, variances, areas[area_column], notes)
    complete = np.isfinite(x).all(axis=1)
    sampled = complete & np.isfinite(y) & np.isfinite(used)
    _name(notes, areas.loc[np.flatnonzero(~complete), area_column], "areas lack a covariate and have no model estimate")
    _name(
        notes,
        areas.loc[np.flatnonzero(complete & ~sampled), area_column],
        "areas without a usable direct estimate: synthetic",
    )
    _check_design(x[sampled], covariates)

    fit = _fit(y[sampled], x[sampled], used[sampled], adjusted=likelihood == "adjusted")
    synthetic, spread = x @ fit.beta, np.einsum("ij,jk,ik->i", x, fit.covariance, x)
    mean, mse = synthetic.copy(), fit.area_variance + spread
    mean[sampled], mse[sampled] = fit.eblup, fit.mse
    synthetic_mse, direct_variance = fit.area_variance + spread, used
    if scale == "arcsine":
        direct_variance = _from_arcsine(y, used)[1]
        (synthetic, synthetic_mse), (mean, mse) = _from_arcsine(synthetic, synthetic_mse), _from_arcsine(mean, mse)
    if fit.area_variance == 0:
        notes.append("the variance between areas is estimated as 0: every EBLUP is the synthetic estimate")
    table = areas.assign(
        variance_used=np.where(sampled, used, np.nan),
        direct_variance=np.where(sampled, direct_variance, np.nan),
        smoothed=smoothed & sampled,
        gamma=np.where(sampled, fit.area_variance / (fit.area_variance + used), np.where(complete, 0.0, np.nan)),
        synthetic=_limited(synthetic, limits, "synthetic estimates", notes),
        synthetic_mse=synthetic_mse,
        eblup=_limited(mean, limits, "EBLUPs", notes),
        eblup_mse=mse,
    )
    table.attrs = {}
    coefficients = pd.DataFrame(
        {"estimate": fit.beta, "se": np.sqrt(np.diag(fit.covariance))}, index=["intercept", *covariates]
    )
    return FayHerriot(table, coefficients, fit.area_variance, scale, notes)


def smooth_variances(variance: npt.ArrayLike, households: npt.ArrayLike) -> Floats:
    """Sampling variances by a generalised variance function of the sample size: log variance on log n.

    The level is set so that the smoothed variances of the areas fitted add up to the given ones, since a mean of
    logarithms alone would be too low. Estimated zeros cannot be fitted, so where many variances are 0 the level is too
    high, on the safe side for the model.

    Parameters
    ----------
    variance : array (n,)
        Above 0 where known; others count for nothing.
    households : array (n,)
        Sample sizes.

    Returns
    -------
    array (n,)
        A variance wherever the sample size is above 0, else NaN.

    Raises
    ------
    MapError
        If fewer than three variances are known.

    References
    ----------
    Rivest, L.-P. & Belmonte, E. (2000). A conditional mean squared error of small area estimators. Survey Methodology
    26(1), 67-78.
    """
    given, size = np.asarray(variance, dtype=np.float64), np.asarray(households, dtype=np.float64)
    known = np.isfinite(given) & (given > 0) & (size > 0)
    if known.sum() < 3:
        raise MapError(
            f"{int(known.sum())} areas have a sampling variance above 0 and a sample size; a variance function needs "
            "at least 3. Give the missing variances, or leave those areas without: variances='given'."
        )
    log_size = np.log(np.where(size > 0, size, np.nan))
    centred = log_size - log_size[known].mean()
    slope = 0.0
    if np.ptp(log_size[known]) > 0:
        slope = float(centred[known] @ np.log(given[known]) / (centred[known] @ centred[known]))
    shape = np.exp(slope * centred)
    return np.asarray(shape * given[known].sum() / shape[known].sum(), dtype=np.float64)


@dataclass(frozen=True)
class _Fit:
    beta: Floats
    covariance: Floats
    area_variance: float
    eblup: Floats
    mse: Floats


def _fit(y: Floats, x: Floats, variance: Floats, *, adjusted: bool) -> _Fit:
    """Variance of areas' effects, generalised least squares, and EBLUP of the areas with a direct estimate."""
    # Columns of one size, since people and radiance differ by millions; the predictor does not depend on it.
    centre, size = x.mean(axis=0), x.std(axis=0)
    centre[0], size[0] = 0.0, 1.0
    turn = np.diag(1 / size)
    turn[0, 1:] = -centre[1:] / size[1:]
    z = x @ turn
    area_variance = _area_variance(y, z, variance, adjusted=adjusted)
    beta, covariance, _ = _least_squares(y, z, area_variance + variance)
    total = area_variance + variance
    gamma = area_variance / total
    estimates = gamma * y + (1 - gamma) * (z @ beta)
    information = (1 / total**2).sum()
    g1, g2 = gamma * variance, (1 - gamma) ** 2 * np.einsum("ij,jk,ik->i", z, covariance, z)
    g3 = (1 - gamma) ** 2 / total * 2 / information
    # The adjusted estimate is too high by 2 / (sigma2 tr V^-2) to the first order, and g1 with it.
    bias = (1 - gamma) ** 2 * 2 / (area_variance * information) if adjusted else 0.0
    # Where sigma2 is nearly 0 that order says more than g1 itself, which cannot be below 0.
    mse = np.maximum(g1 - bias, 0.0) + g2 + 2 * g3
    return _Fit(turn @ beta, turn @ covariance @ turn.T, area_variance, estimates, mse)


def _least_squares(y: Floats, x: Floats, total: Floats) -> tuple[Floats, Floats, float]:
    """Coefficients, their covariance, and -2 times the restricted log likelihood but for a constant."""
    covariance = np.asarray(np.linalg.inv((x.T / total) @ x), dtype=np.float64)
    beta = covariance @ (x.T @ (y / total))
    loss = np.log(total).sum() - np.linalg.slogdet(covariance)[1] + ((y - x @ beta) ** 2 / total).sum()
    return beta, covariance, float(loss)


def _area_variance(y: Floats, x: Floats, variance: Floats, *, adjusted: bool) -> float:
    """Where the restricted likelihood, times sigma2 if adjusted, is highest: first on a lattice, then near its best."""

    def loss(sigma2: float) -> float:
        return _least_squares(y, x, sigma2 + variance)[2] - (2 * math.log(sigma2) if adjusted else 0.0)

    # No spread between areas can be larger than that of the residuals without any weights, by more than chance.
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    highest = 100 * max(float(((y - x @ beta) ** 2).sum()) / (len(y) - x.shape[1]), float(np.median(variance)))
    lattice = highest * np.geomspace(1e-8, 1, 40)
    losses = [loss(sigma2) for sigma2 in lattice]
    best = int(np.argmin(losses))
    bounds = lattice[max(best - 1, 0)], lattice[min(best + 1, len(lattice) - 1)]
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9 * bounds[1]})
    if not adjusted and loss(0.0) <= found.fun:
        return 0.0
    return float(found.x)


def _check_columns(areas: pd.DataFrame, covariates: Sequence[str], area_column: str) -> None:
    if isinstance(covariates, str):
        raise MapError(f"covariates are {covariates!r}; expected a list of columns, [{covariates!r}].")
    check_columns(areas, [area_column, "estimate", "variance", "n", *covariates], _WHAT, MapError)
    check_unique(areas[area_column].astype(str), _WHAT, MapError)
    if taken := [column for column in _MADE if column in areas.columns]:
        raise MapError(f"{_WHAT} already has the column {some(taken)}, which the model makes; rename it.")


def _numbers(table: pd.DataFrame, column: str) -> Floats:
    try:
        values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise MapError(f"the column {column!r} of {_WHAT} is not numeric: {error}") from error
    return np.where(np.isfinite(values), values, np.nan)


def _variances(
    y: Floats, given: Floats, households: Floats, rule: Variances, names: pd.Series, notes: list[str]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Sampling variance to use, NaN where there is none, and which of them are smoothed."""
    present = np.isfinite(y)
    known = present & (given > 0)
    used = np.where(known, given, np.nan)
    replaced = present & (~known if rule == "missing" else rule == "all")
    if replaced.any():
        used[replaced] = smooth_variances(used, np.where(present, households, np.nan))[replaced]
        _name(notes, names[replaced], "sampling variances are from the variance function")
    return used, replaced


def _check_design(x: Floats, covariates: Sequence[str]) -> None:
    areas, columns = x.shape
    if areas < columns + 2:
        raise MapError(
            f"{areas} areas have a direct estimate with a variance and all covariates; {len(covariates)} covariates "
            f"need at least {columns + 2}. Take fewer covariates, or smaller areas."
        )
    size = np.linalg.norm(x - np.r_[0, x[:, 1:].mean(axis=0)], axis=0)
    flat = [name for name, of in zip(covariates, size[1:], strict=True) if not of > 0]
    if flat or np.linalg.matrix_rank((x - np.r_[0, x[:, 1:].mean(axis=0)]) / size) < columns:
        raise MapError(f"the covariates {some(flat or covariates)} are constant or collinear; leave some out.")


def _to_arcsine(share: Floats, variance: Floats) -> tuple[Floats, Floats]:
    if (share < 0).any() or (share > 1).any():
        raise MapError("estimates lie outside 0 to 1; the arcsine scale is for shares, others need scale='identity'.")
    slope = 4 * share * (1 - share)
    # At 0 and 1 the delta method knows nothing, and the variance was 0 anyway.
    return np.arcsin(np.sqrt(share)), np.divide(variance, slope, out=np.full_like(slope, np.nan), where=slope > 0)


def _from_arcsine(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of sin(t)^2 for a normal t, from E cos(kt) = cos(k mean) exp(-k^2 variance / 2)."""
    twice, four = np.cos(2 * mean) * np.exp(-2 * variance), np.cos(4 * mean) * np.exp(-8 * variance)
    return (1 - twice) / 2, np.maximum((1 + four) / 8 - twice**2 / 4, 0.0)


def _limited(values: Floats, limits: tuple[float, float] | None, what: str, notes: list[str]) -> Floats:
    if limits is None:
        return values
    beyond = int(((values < limits[0]) | (values > limits[1])).sum())
    if beyond:
        notes.append(f"{beyond} {what} lay beyond {limits[0]:g} to {limits[1]:g} and were set to the limit")
    return np.clip(values, *limits)


def _name(notes: list[str], names: pd.Series, what: str) -> None:
    if len(names):
        notes.append(f"{len(names)} {what}: {some(names, 20)}")
