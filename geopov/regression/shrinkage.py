"""Taking the shrinkage off: predictions of the mean given the image understate how poor the poor are.

A regression predicts the mean welfare of all places whose images look alike. Such predictions have the least squared
error and too little spread: the poorest places are predicted too rich, the richest too poor, and a headcount counted
from the map comes out too low. Two corrections of Pettersson, Jerzak and Daoud (2025, "One Map, Many Trials", arXiv
2508.01341) undo this at the price of a larger squared error. Both are fitted on predictions of training clusters by
models that had not seen them.

``linear``: held-out prediction is regressed on truth, prediction = a + b × truth, and the line is inverted.
``tweedie``: prediction - sigma² × the derivative of log p at the prediction, with the density p of the held-out
predictions and the standard deviation sigma of their errors. For Gaussian predictions with mean m and variance v this
is m + (prediction - m)(1 + sigma²/v), which is the linear correction when errors do not depend on the prediction.

Neither changes the order of places, nor therefore which fifth of them is called the poorest: ``recall_poorest_fifth``
and ``spearman`` move only as far as each fold has its own correction, or the Tweedie-type makes ties. What they buy is
in ``slope``, ``sd_ratio``, the bias by decile and in ``under_line_fifth``: whether places under a fixed line are
predicted under it. What they cost is in ``rmse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax
from sklearn.isotonic import IsotonicRegression

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats
from geopov.regression.scores import paired, score

METHODS = ("none", "linear", "tweedie")
"""Ways to take the shrinkage off; ``none`` leaves predictions as they are."""

MIN_SLOPE = 0.2
"""Predictions are stretched by at most the inverse: beyond five times, a correction is mostly noise."""

_KNOTS = 201


@dataclass(frozen=True)
class Deshrinkage:
    """A correction of predictions: intercept + stretch × prediction + what ``shifts`` interpolate.

    Attributes
    ----------
    method : {"none", "linear", "tweedie"}
        Which correction was asked for.
    slope : float
        Of held-out prediction on truth: 1 without shrinkage, NaN for a constant truth.
    sigma : float
        Standard deviation of truth - prediction, in the outcome's unit.
    intercept, stretch : float
        Of the line; 0 and 1 but for the linear correction.
    knots, shifts : tuple of float
        Predictions over the range of the held-out ones, and what is added there, in the outcome's unit; beyond the
        range the ends' shifts hold, since in the tail of a kernel density the gradient grows without bound. Empty but
        for the Tweedie-type correction.
    note : str
        Why less was corrected than asked for; empty where nothing stood in the way.
    """

    method: str
    slope: float
    sigma: float
    intercept: float = 0.0
    stretch: float = 1.0
    knots: tuple[float, ...] = ()
    shifts: tuple[float, ...] = ()
    note: str = ""

    @classmethod
    def fit(cls, observed: ArrayLike, predicted: ArrayLike, *, method: str) -> Self:
        """Learn a correction.

        Parameters
        ----------
        observed, predicted : array (n,)
            Of clusters that the predicting models had not seen, in the outcome's unit.
        method : {"none", "linear", "tweedie"}
            See the module.

        Returns
        -------
        Deshrinkage
            Predictions that do not rise with the truth hold nothing to stretch and are left as they are, and no
            prediction is stretched more than 1 / :data:`MIN_SLOPE` times; ``note`` says so.

        Raises
        ------
        RegressionError
            If the method is unknown, lengths differ, or values are missing.
        """
        if method not in METHODS:
            raise RegressionError(f"the de-shrinkage method is {method!r}; expected one of {', '.join(METHODS)}.")
        truth, values = paired(observed, predicted)
        slope, sigma = _slope(truth, values), float(np.std(truth - values))
        if method == "none":
            return cls(method, slope, sigma)
        # Squares of values below this are lost, and with them the spread.
        if not slope > 0 or float(np.std(values)) < np.sqrt(np.finfo(np.float64).tiny):
            return cls(method, slope, sigma, note="held-out predictions do not rise with the truth: left as they are")
        if method == "linear":
            stretch = 1 / max(slope, MIN_SLOPE)
            note = f"a slope of {slope:.2f} was taken as {MIN_SLOPE}" if slope < MIN_SLOPE else ""
            intercept = float(truth.mean() - stretch * values.mean())
            return cls(method, slope, sigma, intercept, stretch, note=note)
        # For Gaussian predictions the same bound as the slope's.
        largest = float(np.std(values)) * np.sqrt(1 / MIN_SLOPE - 1)
        note = f"sigma of {sigma:.3g} was taken as {largest:.3g}" if sigma > largest else ""
        knots, shifts = _tweedie_shifts(values, sigma=min(sigma, largest))
        return cls(method, slope, sigma, knots=tuple(knots.tolist()), shifts=tuple(shifts.tolist()), note=note)

    def apply(self, predicted: Floats) -> Floats:
        """Corrected predictions (n,), in the outcome's unit; NaN stays NaN."""
        corrected = self.intercept + self.stretch * np.asarray(predicted, dtype=np.float64)
        if self.knots:
            corrected = corrected + np.interp(predicted, self.knots, self.shifts)
        return corrected

    def to_dict(self) -> dict[str, Any]:
        """Numbers, text and lists that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` returned, read back."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return cls(**values)


def _slope(truth: Floats, values: Floats) -> float:
    """Of the least-squares line of ``values`` on ``truth``; NaN where the truth does not vary."""
    if np.ptp(truth) == 0:
        return np.nan
    if np.ptp(values) == 0:
        return 0.0  # not the rounding error that the sums below would make of it
    centred = truth - truth.mean()
    return float(centred @ (values - values.mean()) / (centred @ centred))


def _tweedie_shifts(values: Floats, *, sigma: float) -> tuple[Floats, Floats]:
    """Predictions (m,) over the range of the held-out ``values`` (n,), and what to add to each.

    Between two modes of the density, such as the rural and the urban places of a country, the formula can turn the
    order of predictions round: one just above the lower mode would end higher than one just below the upper. There it
    is levelled by isotonic regression, every prediction weighing as much as there are places like it.
    """
    knots = np.linspace(values.min(), values.max(), _KNOTS)
    density, gradient = _log_density_gradient(values, knots)
    order_kept = IsotonicRegression().fit_transform(knots, knots - sigma**2 * gradient, sample_weight=density)
    return knots, order_kept - knots


def _log_density_gradient(values: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Density p up to a factor, and d/dx log p(x), of a Gaussian kernel estimate from ``values`` (n,) at ``at`` (m,).

    The bandwidth is the normal-reference one for a first derivative (Chacón, Duong and Wand 2011, Stat Sin 21:807),
    wider than that for the density. A kernel density is wider than its data by the kernel's own variance; the data are
    drawn towards their mean to make up for it (Jones 1991, Comput Stat Data Anal 11:3), so that for Gaussian values the
    gradient is that of their own variance.
    """
    n, centre, spread = len(values), values.mean(), values.std()
    bandwidth = min((4 / (5 * n)) ** (1 / 7), 0.95)
    data = np.sqrt(1 - bandwidth**2) * (values - centre) / spread
    density, gradient = [], []
    for points in np.array_split((at - centre) / spread, max(1, n // 2000)):  # 20,000 clusters at once take 100 MB
        gap = data[:, None] - points
        exponent = -((gap / bandwidth) ** 2) / 2
        density.append(np.exp(logsumexp(exponent, axis=0)))
        gradient.append((softmax(exponent, axis=0) * gap).sum(axis=0) / bandwidth**2 / spread)
    # A floor, since far from an outlier the density is zero to the last digit.
    return np.concatenate(density) + 1e-9 * n, np.concatenate(gradient)


def bias_by_decile(observed: ArrayLike, predicted: ArrayLike) -> pd.DataFrame:
    """Mean of predicted - observed within each decile of the truth, the poorest first.

    Returns
    -------
    DataFrame
        ``decile`` 1 to 10, ``n``, the means ``observed`` and ``predicted``, and ``bias`` (above zero: predicted too
        rich). With fewer than ten clusters as many rows.
    """
    truth, values = paired(observed, predicted)
    rows = []
    for decile, members in enumerate(np.array_split(np.argsort(truth, kind="stable"), 10), start=1):
        if len(members):
            means = {"observed": float(truth[members].mean()), "predicted": float(values[members].mean())}
            bias = means["predicted"] - means["observed"]
            rows.append({"decile": decile, "n": len(members), **means, "bias": bias})
    return pd.DataFrame(rows)


def shrinkage_table(observed: ArrayLike, by_method: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """What each correction buys and costs.

    Parameters
    ----------
    observed : array (n,)
        In the outcome's unit.
    by_method : mapping of method to array (n,)
        Out-of-fold predictions, corrected inside the training folds; one of them under ``"none"``.

    Returns
    -------
    DataFrame
        One row a method: ``method``, ``slope``, ``sd_ratio``, ``rmse``, ``R2``, ``recall_poorest_fifth``,
        ``recall_poorest_tenth`` (see :func:`geopov.regression.score`), ``bias_poorest_decile``,
        ``bias_richest_decile``, ``under_line_fifth``: the share of the poorest fifth by survey that is predicted under
        the line that bounds it, and ``rmse_cost``: RMSE minus that of ``none``, in the outcome's unit.
    """
    if "none" not in by_method:
        raise RegressionError(
            f"the predictions are {', '.join(by_method) or 'none at all'}; expected one under 'none', as the cost is "
            "counted from it."
        )
    names = ("slope", "sd_ratio", "rmse", "R2", "recall_poorest_fifth", "recall_poorest_tenth")
    rows: list[dict[str, object]] = []
    for method, predicted in by_method.items():
        truth, values = paired(observed, predicted)
        found, bias = score(truth, values), bias_by_decile(truth, values)["bias"]
        line = np.quantile(truth, 0.2)
        rows.append(
            {
                "method": method,
                **{name: found[name] for name in names},
                "bias_poorest_decile": bias.iloc[0],
                "bias_richest_decile": bias.iloc[-1],
                "under_line_fifth": float(np.mean(values[truth <= line] <= line)),
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(rmse_cost=table["rmse"] - float(table.loc[table["method"] == "none", "rmse"].iloc[0]))
