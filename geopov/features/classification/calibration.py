"""Probabilities that mean what they say: scaled on tiles the classifier was not fitted on, and checked on others.

A classifier's scores rank tiles well and still say 99% where 80% are right (Guo et al. 2017, "On calibration of modern
neural networks", ICML). One number or one monotone curve, fitted on the validation tiles, mends that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features.comparison.intervals import clopper_pearson

__all__ = ["Calibration", "CalibrationMethod", "calibration_scores", "fit_calibration", "reliability"]

CalibrationMethod = Literal["temperature", "isotonic", "none"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Where validation tiles are told apart without error the best temperature is 0, and every probability 0 or 1.
_TEMPERATURES = (0.05, 100.0)
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Calibration:
    """The way from a classifier's logits to probabilities.

    Attributes
    ----------
    method : {"temperature", "isotonic", "none"}
        "temperature": softmax(logits / T) (Guo et al. 2017, section 4.2). "isotonic": one non-decreasing curve a class
        from the softmax, the classes then brought to sum 1 (Zadrozny & Elkan 2002, "Transforming classifier scores
        into accurate multiclass probability estimates", KDD); of two classes, the second has the curve and the first
        the rest. "none": the softmax.
    n_tiles : int
        Validation tiles it was fitted on.
    temperature : float
        T; 1 unless the method is "temperature". Above 1 it makes the classifier less sure.
    curves : tuple of (x, y)
        Corners of the isotonic curves, one a class (of two classes, only the second's); empty for other methods.
    """

    method: CalibrationMethod
    n_tiles: int
    temperature: float = 1.0
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def probabilities(self, logits: npt.NDArray[Any]) -> Floats:
        """Probabilities (tile, class), rows of sum 1, of logits (tile, class); rows of NaN stay rows of NaN."""
        raw: Floats = softmax(np.asarray(logits, dtype=float) / self.temperature, axis=1)
        if self.method != "isotonic":
            return raw
        first = raw.shape[1] - len(self.curves)
        found = np.column_stack([np.interp(raw[:, first + i], x, y) for i, (x, y) in enumerate(self.curves)])
        if first:
            return np.column_stack([1 - found[:, 0], found[:, 0]])
        total = found.sum(axis=1, keepdims=True)
        # Where every curve says 0 they tell nothing apart.
        even = np.full_like(found, 1 / found.shape[1])
        shares: Floats = np.divide(found, total, out=even, where=(total > 0) | np.isnan(total))
        return shares

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON types."""
        parts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return parts

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any], *, origin: Path) -> Calibration:
        """What :meth:`to_dict` gave, read from ``origin``; raises FeatureError if it is something else."""
        try:
            curves = tuple((tuple(map(float, x)), tuple(map(float, y))) for x, y in parts["curves"])
            found = cls(parts["method"], int(parts["n_tiles"]), float(parts["temperature"]), curves)
        except (KeyError, TypeError, ValueError) as error:
            raise FeatureError(f"{origin} holds no calibration ({error!r}); train the classifier again.") from error
        _check_method(found.method)
        return found


def fit_calibration(logits: npt.NDArray[Any], codes: npt.NDArray[Any], *, method: CalibrationMethod) -> Calibration:
    """Calibrate on tiles that the classifier was not fitted on.

    Parameters
    ----------
    logits : array (tile, class)
        Scores before the softmax.
    codes : int array (tile,)
        True classes, as positions on axis 1 of ``logits``.
    method : {"temperature", "isotonic", "none"}
        See :class:`Calibration`. Temperature scaling has one number to fit and suits a few dozen tiles; isotonic curves
        want hundreds a class.

    Returns
    -------
    Calibration

    Raises
    ------
    FeatureError
        If shapes do not fit, a score is missing, or, for isotonic curves, a class has no tile.
    """
    _check_method(method)
    scores, truth = _checked(logits, codes)
    if method == "temperature":
        return Calibration(method, len(truth), temperature=_temperature(scores, truth))
    if method == "isotonic":
        absent = np.flatnonzero(np.bincount(truth, minlength=scores.shape[1]) == 0)
        if len(absent):
            raise FeatureError(
                f"classes {some(absent)} (counted from 0) have no tile among the {len(truth)} to calibrate on, and a "
                "curve needs some of each. Label more tiles, or take calibration='temperature'."
            )
        return Calibration(method, len(truth), curves=_curves(softmax(scores, axis=1), truth))
    return Calibration(method, len(truth))


def calibration_scores(probabilities: npt.NDArray[Any], codes: npt.NDArray[Any], *, n_bins: int = 15) -> dict[str, Any]:
    """How far probabilities can be believed.

    Parameters
    ----------
    probabilities : array (tile, class)
        Rows of sum 1.
    codes : int array (tile,)
        True classes, as positions on axis 1.
    n_bins : int
        Bins of equal width for the expected calibration error; 15 in Guo et al. 2017.

    Returns
    -------
    dict
        ``n_tiles``; ``accuracy`` (share whose most probable class is the true one); ``log_loss`` (mean negative
        logarithm of the true class's probability); ``brier`` (mean squared distance to the true class's indicator,
        summed over classes: 0 to 2); ``ece`` (expected calibration error: mean gap between the largest probability and
        the share right in its bin, weighted by tiles; Guo et al. 2017, equation 3).
    """
    found, truth = _checked(probabilities, codes)
    rows = np.arange(len(truth))
    indicator = np.zeros_like(found)
    indicator[rows, truth] = 1
    table = reliability(found.max(axis=1), found.argmax(axis=1) == truth, n_bins=n_bins)
    gaps = (table["observed"] - table["predicted"]).abs() * table["n_tiles"]
    return {
        "n_tiles": len(truth),
        "accuracy": float(np.mean(found.argmax(axis=1) == truth)),
        "log_loss": float(-np.log(np.clip(found[rows, truth], _SMALLEST, None)).mean()),
        "brier": float(((found - indicator) ** 2).sum(axis=1).mean()),
        "ece": float(gaps.sum() / len(truth)),
    }


def reliability(probability: npt.NDArray[Any], happened: npt.NDArray[Any], *, n_bins: int = 10) -> pd.DataFrame:
    """What was predicted beside what was observed, by bins of equal width: the points of a reliability diagram.

    Parameters
    ----------
    probability : array (tile,)
        Of one event, from 0 to 1.
    happened : bool array (tile,)
        Whether it was so.
    n_bins : int
        Bins from 0 to 1.

    Returns
    -------
    DataFrame
        One row a bin that has tiles: ``lower``, ``upper``, ``n_tiles``, ``predicted`` (mean probability), ``observed``
        (share), ``observed_lower`` and ``observed_upper`` (exact binomial 95% interval, Clopper & Pearson 1934).
    """
    values, events = np.asarray(probability, dtype=float), np.asarray(happened, dtype=bool)
    if isinstance(n_bins, bool) or not isinstance(n_bins, int) or n_bins < 1:
        raise FeatureError(f"n_bins is {n_bins!r}; expected a whole number above zero.")
    bins = np.clip(np.ceil(values * n_bins).astype(int) - 1, 0, n_bins - 1)
    rows = []
    for bin_ in np.unique(bins):
        inside = bins == bin_
        n, k = int(inside.sum()), int(events[inside].sum())
        observed = clopper_pearson(k, n)
        rows.append(
            {
                "lower": bin_ / n_bins,
                "upper": (bin_ + 1) / n_bins,
                "n_tiles": n,
                "predicted": float(values[inside].mean()),
                "observed": observed.value,
                "observed_lower": observed.low,
                "observed_upper": observed.high,
            }
        )
    return pd.DataFrame(rows)


def _temperature(logits: Floats, codes: Ints) -> float:
    """The T of least log loss: a convex problem in 1/T, whose slope crosses zero once."""
    centred = logits - logits.max(axis=1, keepdims=True)
    true = centred[np.arange(len(codes)), codes]

    def slope(inverse: float) -> float:
        log_p = inverse * centred - logsumexp(inverse * centred, axis=1, keepdims=True)
        return float(((np.exp(log_p) * centred).sum(axis=1) - true).mean())

    least, most = 1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]
    if slope(most) <= 0:
        return _TEMPERATURES[0]
    if slope(least) >= 0:
        return _TEMPERATURES[1]
    return float(1 / brentq(slope, least, most, xtol=1e-12))


def _curves(raw: Floats, codes: Ints) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    from sklearn.isotonic import IsotonicRegression

    classes = [1] if raw.shape[1] == 2 else list(range(raw.shape[1]))
    curves = []
    for class_ in classes:
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(raw[:, class_], codes == class_)
        curves.append((tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_))))
    return tuple(curves)


def _check_method(method: str) -> None:
    if method not in ("temperature", "isotonic", "none"):
        raise FeatureError(f"calibration is {method!r}; expected 'temperature', 'isotonic' or 'none'.")


def _checked(scores: npt.NDArray[Any], codes: npt.NDArray[Any]) -> tuple[Floats, Ints]:
    found, truth = np.asarray(scores, dtype=float), np.asarray(codes, dtype=np.intp)
    if found.ndim != 2 or found.shape[1] < 2 or truth.shape != found.shape[:1] or not len(truth):
        raise FeatureError(
            f"scores have shape {found.shape} and true classes {truth.shape}; expected (tile, class) and (tile,), with "
            "two classes or more and at least one tile."
        )
    if not np.isfinite(found).all():
        raise FeatureError("some scores are missing or infinite; leave out tiles with too few valid pixels.")
    if truth.min() < 0 or truth.max() >= found.shape[1]:
        raise FeatureError(
            f"true classes reach from {truth.min()} to {truth.max()}; expected 0 to {found.shape[1] - 1}."
        )
    return found, truth
