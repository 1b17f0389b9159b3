"""What displacement costs a model, measured by displacing known points again.

Coordinates that were moved blur the link between a place and its welfare: r² falls, for a reason that has nothing to do
with the model. Simulation and extrapolation (SIMEX: Cook & Stefanski 1994, Journal of the American Statistical
Association 89:1314) measures how much: move the points further, by known multiples of the rule, watch the score fall,
and follow the curve back to where nothing was moved. Independent moves add in variance, so points displaced once and
moved again by a multiple k of the rule carry 1 + k² times its variance: the score is a function of k², and undisplaced
points lie at -1.

SIMEX was made for Gaussian errors. A move of uniform distance is not Gaussian, nor is the sum of two the same shape as
one; what adds is the variance of the jitter's two components. So the curve is an approximation. In simulated fields of
welfare whose truth is known, the rational curve comes close to it, and the quadratic one, which is cautious, corrects
too little where the field changes within the displacement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import Geod

from geopov._validation import check_points
from geopov.errors import SurveyError
from geopov.survey.displacement.moves import Floats, move
from geopov.survey.displacement.positions import DisplacementRule, as_rule, reach_by_rule

Score = Callable[[gpd.GeoDataFrame], float]
Extrapolant = Literal["quadratic", "rational"]

_WGS84 = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Attenuation:
    """How a score falls as points are displaced.

    Attributes
    ----------
    table : DataFrame
        A row a multiple of the rule, 0 (the points as given) first: ``multiple``, ``variance`` (that the move adds, in
        units of the rule's), ``mean_km`` (mean distance of the move), ``score`` (mean over the draws), ``spread``
        (standard deviation over the draws).
    undisplaced : float
        The score with nothing moved: extrapolated for points given as displaced, else the score of the points as given.
    low, high : float
        95% interval of ``undisplaced``, for the chance of which displacement was published and of the draws made here.
        The choice of clusters and of the extrapolant are not in it.
    displaced : bool
        Whether the points were given as displaced.
    extrapolant : str
        "quadratic" or "rational".
    """

    table: pd.DataFrame
    undisplaced: float
    low: float
    high: float
    displaced: bool
    extrapolant: str

    @property
    def given(self) -> float:
        """The score of the points as given."""
        return float(self.table["score"].iloc[0])

    @property
    def lost(self) -> float:
        """What one displacement by the rule costs, in units of the score."""
        once = np.interp(0.0 if self.displaced else 1.0, self.table["multiple"], self.table["score"])
        return self.undisplaced - float(once)

    def text(self, score: str = "r²") -> str:
        """A sentence for reports."""
        if not self.displaced:
            last = self.table.iloc[-1]
            fall = f"from {self.given:.3f} to {last['score']:.3f} at a mean jitter of {last['mean_km']:.1f} km"
            return f"As known positions are displaced, {score} goes {fall}."
        return (
            f"{score} is {self.given:.3f} at the displaced positions; at the true ones it would be about "
            f"{self.undisplaced:.3f} ({self.low:.3f} to {self.high:.3f}, by SIMEX with a {self.extrapolant} curve)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values."""
        values = {name: getattr(self, name) for name in ("undisplaced", "low", "high", "displaced", "extrapolant")}
        return {"table": self.table.to_dict(orient="records"), **values}


def attenuation(
    points: gpd.GeoDataFrame,
    score: Score,
    *,
    rule: DisplacementRule | str,
    multiples: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    n_draws: int = 20,
    seed: int = 0,
    displaced: bool = True,
    extrapolant: Extrapolant = "rational",
    within: gpd.GeoDataFrame | None = None,
) -> Attenuation:
    """Move points further by multiples of a rule, score them, and extrapolate to no displacement.

    Parameters
    ----------
    points : GeoDataFrame
        Clusters with ``cluster_id`` and ``urban``, and whatever ``score`` needs.
    score : callable
        Takes the points in EPSG:4326, moved, and returns a number: for example r² of the outcome on features taken at
        their positions. It is called ``len(multiples) * n_draws + 1`` times.
    rule : DisplacementRule or str
        Of the survey.
    multiples : sequence of float
        Of the rule's distances, above zero.
    n_draws : int
        Moves of all points, for each multiple; the same directions at every multiple, so that luck does not bend the
        curve.
    seed : int
        As in :func:`geopov.survey.displacement.positions.displace`.
    displaced : bool
        Whether the points carry one displacement of the rule already, as published ones do. False for positions that
        are known, when nothing is extrapolated.
    extrapolant : {"rational", "quadratic"}
        Curve of the score over the variance v: a + b / (c + v), which is exact for r² of a linear model with Gaussian
        errors, or a + b v + c v², which bends less towards -1.
    within : GeoDataFrame, optional
        Polygons that points stay in.

    Returns
    -------
    Attenuation

    Raises
    ------
    SurveyError
        If multiples are not above zero or too few for the curve, the rule moves nothing, or a score is not finite.
    """
    multiples, rule = _checked_multiples(multiples, extrapolant), as_rule(rule)
    if n_draws < 2:
        raise SurveyError(f"n_draws is {n_draws}; expected at least 2, to tell the curve from luck.")
    origin = check_points(points, error=SurveyError)
    origin.attrs = dict(points.attrs)
    scores, mean_km = np.empty((len(multiples), n_draws)), np.zeros(len(multiples))
    given = _finite(score(origin))
    lon0, lat0 = origin.geometry.x.to_numpy(), origin.geometry.y.to_numpy()
    for row, multiple in enumerate(multiples):
        reach = reach_by_rule(origin, rule.scaled(multiple))
        lon, lat, _ = move(origin, reach, n_draws=n_draws, seed=seed, within=within)
        for draw in range(n_draws):
            moved = origin.set_geometry(gpd.points_from_xy(lon[:, draw], lat[:, draw]), crs="EPSG:4326")
            scores[row, draw] = _finite(score(moved))
            mean_km[row] += np.mean(_WGS84.inv(lon0, lat0, lon[:, draw], lat[:, draw])[2]) / 1000 / n_draws
    if not mean_km.any():
        raise SurveyError("the rule moves none of these points; there is no displacement to measure.")
    variance = np.array([0.0, *multiples]) ** 2
    table = pd.DataFrame(
        {
            "multiple": [0.0, *multiples],
            "variance": variance,
            "mean_km": [0.0, *mean_km],
            "score": [given, *scores.mean(axis=1)],
            "spread": [0.0, *scores.std(axis=1, ddof=1)],
        }
    )
    at, error = _simex(variance, given, scores, extrapolant) if displaced else (given, 0.0)
    return Attenuation(table, at, at - 1.96 * error, at + 1.96 * error, displaced, extrapolant)


def extrapolate(variance: Floats, scores: Floats, *, to: float = -1.0, extrapolant: Extrapolant) -> float:
    """The least-squares curve through scores (m,) over variances (m,), at the variance ``to``."""
    if extrapolant == "quadratic":
        return float(np.polyval(np.polyfit(variance, scores, 2), to))
    # Linear once the pole is fixed. It is kept away from -1, where nothing measured would bound the curve.
    poles = np.geomspace(1.5, 1000, 200)
    curves = [np.column_stack([np.ones(len(variance)), 1 / (pole + variance)]) for pole in poles]
    fits = [np.linalg.lstsq(curve, scores, rcond=None)[0] for curve in curves]
    misfit = [np.sum((curve @ fit - scores) ** 2) for curve, fit in zip(curves, fits, strict=True)]
    best = int(np.argmin(misfit))
    return float(fits[best] @ [1, 1 / (poles[best] + to)])


def _checked_multiples(multiples: Sequence[float], extrapolant: str) -> list[float]:
    if extrapolant not in get_args(Extrapolant):
        raise SurveyError(f"extrapolant is {extrapolant!r}; expected one of {', '.join(get_args(Extrapolant))}.")
    if len(set(multiples)) < 3 or not all(math.isfinite(multiple) and multiple > 0 for multiple in multiples):
        raise SurveyError(f"multiples are {multiples!r}; expected at least three, all above zero.")
    return sorted(set(multiples))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise SurveyError(f"the score of moved points is {value}; do features exist wherever points may be moved?")
    return float(value)


def _simex(variance: Floats, given: float, scores: Floats, extrapolant: Extrapolant) -> tuple[float, float]:
    """The extrapolated score and its standard error.

    The spread over draws grows from zero at no added variance; carried on to -1 it is minus the variance that the
    published displacement brought (Stefanski & Cook 1995, Journal of the American Statistical Association 90:1247).
    Added to it is the Monte Carlo error of the draws made here.
    """
    each = [extrapolate(variance, np.array([given, *column]), extrapolant=extrapolant) for column in scores.T]
    at = extrapolate(variance, np.array([given, *scores.mean(axis=1)]), extrapolant=extrapolant)
    spread = scores.var(axis=1, ddof=1)
    added = variance[1:]
    linear, bend = np.linalg.lstsq(np.column_stack([added, added**2]), spread, rcond=None)[0]
    # Noise can bend the curve below zero; the steepest chord is then the cautious choice.
    published = max(linear - bend, float(np.max(spread / added)))
    return at, math.sqrt(published + np.var(each, ddof=1) / len(each))
