"""AUROC and proportions with their intervals, and the paired test of two AUROCs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm, rankdata

from geopov.errors import FeatureError

__all__ = ["DeLongTest", "Estimate", "auroc_bootstrap", "auroc_delong", "clopper_pearson", "delong", "delong_test"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Resamples at once; more would only take memory.
_CHUNK = 64


class Estimate(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DeLongTest:
    """Two AUROCs of the same tiles.

    Attributes
    ----------
    difference : Estimate
        First minus second, with its interval.
    z : float
        Difference over its standard error.
    p_value : float
        Two-sided, of no difference.
    """

    difference: Estimate
    z: float
    p_value: float


def delong(positive: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """AUROCs of several scores of the same tiles, and their covariance.

    Parameters
    ----------
    positive : bool array (tile,)
        Whether a tile is of the class.
    scores : array (tile,) or (tile, score)
        Higher speaks for the class.

    Returns
    -------
    array (score,), array (score, score)
        AUROC, a tie counting half, and covariance.

    Raises
    ------
    FeatureError
        If there are fewer than two tiles of the class or fewer than two others, or a score is not finite.

    Notes
    -----
    The covariance is that of DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845, equations 4-6. What each
    tile contributes is found from ranks in O(n log n), as in Sun and Xu (2014), IEEE Signal Processing Letters 21,
    1389-1393, instead of by comparing all pairs.
    """
    positive, scores = _checked(positive, scores)
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=0)
    # The share of the other kind that each tile is ranked on the right side of.
    of_positives = (ranks[positive] - rankdata(scores[positive], axis=0)) / n
    of_negatives = 1 - (ranks[~positive] - rankdata(scores[~positive], axis=0)) / m
    covariance = _covariance(of_positives) / m + _covariance(of_negatives) / n
    return of_positives.mean(axis=0), covariance


def auroc_delong(positive: npt.ArrayLike, score: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """AUROC with DeLong's interval.

    Parameters
    ----------
    positive, score
        As in :func:`delong`, one score.
    level : float
        Of confidence.

    Notes
    -----
    The interval is symmetric and cut off at 0 and 1. Where the classes are separated without an error, DeLong's
    variance is zero and says nothing; then tiles of the class and others, paired at random, make min(m, n) independent
    pairs all in order, whose exact binomial limit (:func:`clopper_pearson`) is given in its place.

    Tiles are taken as independent. Neighbouring tiles are not, so that the interval is too narrow where tiles come in
    blocks; :func:`auroc_bootstrap` can draw whole blocks.
    """
    _check_level(level)
    positive, score = _checked(positive, score, one=True)
    aurocs, covariance = delong(positive, score)
    value, variance = float(aurocs[0]), float(covariance[0, 0])
    if variance == 0 and value in (0.0, 1.0):
        pairs = int(min(positive.sum(), (~positive).sum()))
        low, high = clopper_pearson(round(value) * pairs, pairs, level=level)[1:]
        return Estimate(value, low, high)
    reach = float(norm.ppf((1 + level) / 2)) * variance**0.5
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))


def delong_test(
    positive: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95
) -> DeLongTest:
    """Whether two scores of the same tiles differ in AUROC: DeLong's paired test.

    Parameters
    ----------
    positive : bool array (tile,)
        Whether a tile is of the class.
    first, second : array (tile,)
        Scores; higher speaks for the class.
    level : float
        Of the difference's interval.

    Notes
    -----
    Two scores that rank every tile alike differ by nothing: z 0, p 1.
    """
    _check_level(level)
    both = np.column_stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    aurocs, covariance = delong(positive, both)
    difference = float(aurocs[0] - aurocs[1])
    # Rounding may leave a variance that should be zero a little off it.
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    error = variance**0.5
    if error < 1e-9:
        z = 0.0 if abs(difference) < 1e-9 else float(np.copysign(np.inf, difference))
    else:
        z = difference / error
    reach = float(norm.ppf((1 + level) / 2)) * error
    estimate = Estimate(difference, max(-1.0, difference - reach), min(1.0, difference + reach))
    return DeLongTest(estimate, z, float(2 * norm.sf(abs(z))))


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """A proportion with its exact binomial interval.

    Parameters
    ----------
    successes, n : int
        So many of so many.
    level : float
        Of confidence, which the interval has at least.

    Returns
    -------
    Estimate
        NaN and 0 to 1 where ``n`` is 0: nothing is known.

    Notes
    -----
    Clopper and Pearson (1934), Biometrika 26, 404-413, by quantiles of the beta distribution.
    """
    _check_level(level)
    if not 0 <= successes <= n:
        raise FeatureError(f"successes is {successes} of n={n}; expected between 0 and n.")
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.isf(tail, successes + 1, n - successes))
    return Estimate(successes / n, low, high)


def auroc_bootstrap(
    positive: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    against: npt.ArrayLike | None = None,
    blocks: npt.ArrayLike | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """AUROC, the mean AUROC of several classes, or a difference of two, with a percentile bootstrap interval.

    Parameters
    ----------
    positive : bool array (tile,) or (tile, class)
        Whether a tile is of the class.
    scores : array like ``positive``
        Higher speaks for the class.
    against : array like ``scores``, optional
        Other scores of the same tiles, whose AUROC is taken off in every resample.
    blocks : array (tile,), optional
        Whole blocks are drawn instead of tiles, so that neighbours that resemble each other do not count as
        independent. Without blocks tiles are drawn within each class, whose shares stay as they are.
    level, n_resamples, seed
        Of confidence; number and seed of the resamples.

    Raises
    ------
    FeatureError
        As in :func:`delong`, or if over half of the resamples lack a class and so have no AUROC; fewer are left out.
    """
    _check_level(level)
    if n_resamples < 100:
        raise FeatureError(f"n_resamples is {n_resamples}; expected at least 100.")
    truth = np.asarray(positive, dtype=bool)
    truth = truth[:, None] if truth.ndim == 1 else truth
    contenders = [_by_score(truth, values) for values in (scores, against) if values is not None]
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, n_resamples, _CHUNK):
        size = min(_CHUNK, n_resamples - start)
        counts = _tiles_drawn(truth, size, rng) if blocks is None else _blocks_drawn(np.asarray(blocks), size, rng)
        drawn.append(_mean_auroc(contenders, counts))
    found = np.concatenate(drawn)
    found = found[np.isfinite(found)]
    if len(found) < n_resamples / 2:
        raise FeatureError(
            f"{n_resamples - len(found)} of {n_resamples} resamples of blocks lack a class; there are too few blocks "
            "for an interval. Make blocks smaller, or leave them out."
        )
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Estimate(float(_mean_auroc(contenders, np.ones((1, len(truth))))[0]), float(low), float(high))


class _ByScore:
    """AUROC of one class under many sets of weights; scores are sorted once."""

    def __init__(self, positive: Bools, scores: Floats) -> None:
        self._order = np.argsort(scores[:, 0], kind="stable")
        in_order = scores[self._order, 0]
        self._starts = np.flatnonzero(np.r_[True, in_order[1:] > in_order[:-1]])
        self._positive = positive[self._order]

    def auroc(self, weights: npt.NDArray[Any]) -> Floats:
        """AUROC (set,) of weights (set, tile); NaN where a kind has no weight."""
        ordered = weights[:, self._order].astype(np.float64)
        positives = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        negatives = np.add.reduceat(ordered * ~self._positive, self._starts, axis=1)
        # Those below count whole, ties half.
        below = np.cumsum(negatives, axis=1) - negatives / 2
        with np.errstate(invalid="ignore"):
            found: Floats = (positives * below).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1))
        return found


def _by_score(truth: Bools, scores: npt.ArrayLike) -> list[_ByScore]:
    values = np.asarray(scores, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.shape != truth.shape:
        raise FeatureError(f"scores are {values.shape}, positive is {truth.shape}; expected the same shape.")
    return [_ByScore(*_checked(truth[:, k], values[:, k], one=True)) for k in range(truth.shape[1])]


def _mean_auroc(contenders: list[list[_ByScore]], weights: npt.NDArray[Any]) -> Floats:
    """Mean over classes (set,), less that of a second contender where there is one."""
    means = [np.mean([column.auroc(weights) for column in columns], axis=0) for columns in contenders]
    found: Floats = means[0] if len(means) == 1 else means[0] - means[1]
    return found


def _tiles_drawn(truth: Bools, size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How often each tile is drawn (resample, tile), within tiles that are alike in all classes."""
    _, kind = np.unique(truth, axis=0, return_inverse=True)
    counts = np.zeros((size, len(truth)), dtype=np.int64)
    for number in range(int(kind.max()) + 1):
        members = np.flatnonzero(kind.ravel() == number)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=size)
    return counts


def _blocks_drawn(blocks: npt.NDArray[Any], size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    names, block = np.unique(blocks, return_inverse=True)
    if len(names) < 2:
        raise FeatureError("all tiles are of one block; expected at least two blocks to draw from.")
    drawn: npt.NDArray[np.int64] = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size)
    return drawn[:, block.ravel()]


def _covariance(rows: Floats) -> Floats:
    return np.atleast_2d(np.cov(rows, rowvar=False))


def _checked(positive: npt.ArrayLike, scores: npt.ArrayLike, *, one: bool = False) -> tuple[Bools, Floats]:
    truth, values = np.asarray(positive), np.asarray(scores, dtype=np.float64)
    if truth.dtype != np.bool_ and not np.isin(truth, (0, 1)).all():
        raise FeatureError("positive holds other values than true and false, or 1 and 0.")
    truth = truth.astype(bool)
    values = values[:, None] if values.ndim == 1 else values
    if truth.ndim != 1 or values.ndim != 2 or len(values) != len(truth) or (one and values.shape[1] != 1):
        raise FeatureError(
            f"positive is {truth.shape}, scores are {np.shape(scores)}; expected a row of scores a tile."
        )
    if not np.isfinite(values).all():
        raise FeatureError(f"{int((~np.isfinite(values)).sum())} scores are not finite; leave those tiles out.")
    if truth.sum() < 2 or (~truth).sum() < 2:
        raise FeatureError(
            f"{int(truth.sum())} tiles are of the class and {int((~truth).sum())} are not; an AUROC with an interval "
            "needs at least two of each."
        )
    return truth, values


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise FeatureError(f"level is {level!r}; expected a confidence between 0 and 1, such as 0.95.")
