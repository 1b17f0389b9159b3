"""How far apart two clusters must be before they are two: the variogram, and the block size it asks for.

Half the mean squared difference of two values, as a function of the distance between them, rises from the *nugget*
(noise, and what varies within less than the closest clusters) to the *sill* at the *range*, beyond which places know
nothing of each other (Matheron 1963, Economic Geology 58:1246). Residuals of a model are what matters for its
validation: blocks narrower than their range leave part of every error known (Roberts et al. 2017, Ecography 40:913).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar, nnls
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from geopov._validation import check_positive
from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints
from geopov.regression._positions import local_km, squares

Model = Literal["exponential", "spherical"]

_N_BINS = 20
_MAX_PAIRS = 4_000_000
_FEWEST_PAIRS = 30

_N_NEAREST = 8
_FEWEST_BLOCKS = 10
_SMALLEST_BLOCK_KM = 10.0
_SMALLEST_SIDE_KM = 0.001
# Webster and Oliver (1992, Journal of Soil Science 43:177) find variograms of under 50 places of little use and ask for
# 100; below 30 even the shuffling test has no power.
_FEWEST_CLUSTERS = 30
_ENOUGH_CLUSTERS = 100


@dataclass(frozen=True)
class EmpiricalVariogram:
    """Semivariance by distance.

    Attributes
    ----------
    distance_km : array (k,)
        Mean distance of the pairs in each bin.
    semivariance : array (k,)
        In the values' unit squared.
    pairs : array (k,)
        Number of pairs.
    """

    distance_km: Floats
    semivariance: Floats
    pairs: Floats


@dataclass(frozen=True)
class Variogram:
    """A model of the semivariance.

    Attributes
    ----------
    nugget, sill : float
        Semivariance next to a place and far from it, in the values' unit squared. Equal where nothing is correlated.
    range_km : float
        Distance at which the sill is reached (spherical), or 95% of the way to it (exponential: the effective range,
        three times the distance in the exponent). 0 where nothing is correlated.
    model : str
        ``"exponential"`` or ``"spherical"``.
    """

    nugget: float
    sill: float
    range_km: float
    model: Model = "exponential"

    def __post_init__(self) -> None:
        if not (0 <= self.nugget <= self.sill < np.inf and 0 <= self.range_km < np.inf):
            raise RegressionError(
                f"the variogram has nugget {self.nugget:g}, sill {self.sill:g} and range {self.range_km:g} km; "
                "expected finite numbers, with 0 <= nugget <= sill and a range of at least 0."
            )

    @property
    def nugget_share(self) -> float:
        """Nugget over sill, NaN where the values do not vary."""
        return self.nugget / self.sill if self.sill > 0 else np.nan

    def correlation(self, distance_km: Floats) -> Floats:
        """Of the spatial part, 1 at no distance; of any shape."""
        return _correlation(np.asarray(distance_km, dtype=np.float64), self.range_km, self.model)

    def semivariance(self, distance_km: Floats) -> Floats:
        """At distances above zero, of any shape."""
        return self.sill - (self.sill - self.nugget) * self.correlation(distance_km)


def empirical_variogram(
    positions_km: ArrayLike,
    values: ArrayLike,
    *,
    relative: bool = False,
    max_km: float | None = None,
    seed: int = 0,
) -> EmpiricalVariogram:
    """Matheron's estimator: half the mean squared difference of the pairs in each bin of distance.

    Bins widen with distance, as the squares of whole numbers do, since the rise near zero is what a fit needs and pairs
    are few there. A bin of fewer than 30 pairs is joined to the next (Journel and Huijbregts 1978).

    Parameters
    ----------
    positions_km : array (n, d)
        Positions on a plane.
    values : array (n,)
        Residuals, or an outcome.
    relative : bool
        Divide by the variance of those values that make up the pairs of a bin, and multiply by that of all: one minus
        the correlation of neighbours (the non-ergodic correlogram of Isaaks and Srivastava 1988, Mathematical Geology
        20:313). Surveys put clusters close together in cities, where welfare varies most, so that near pairs can differ
        more than far ones although neighbours are alike.
    max_km : float, optional
        Longest distance looked at. Default: half the diagonal of the positions, as beyond it the pairs all join
        opposite edges.
    seed : int
        Above 2,000 places, which of them are paired with all others.

    Raises
    ------
    RegressionError
        If shapes differ, a number is not finite, or there are not two different positions.
    """
    positions, z = _check_values(positions_km, values)
    n = len(z)
    if max_km is not None:
        check_positive(max_km, "max_km", RegressionError)
    longest = float(np.linalg.norm(np.ptp(positions, axis=0))) / 2 if max_km is None else max_km
    if not longest > 0:
        raise RegressionError(
            f"all {n} positions are the same, so nothing can be said of distance; expected at least two places."
        )
    edges = longest * (np.arange(1, _N_BINS + 1) / _N_BINS) ** 2
    n_anchors = min(n, max(1, _MAX_PAIRS // n))
    anchors = np.sort(np.random.default_rng(seed).permutation(n)[:n_anchors]) if n_anchors < n else np.arange(n)
    z = z - z.mean()  # sums of squares of large numbers would lose their differences
    sums = np.zeros((5, _N_BINS + 1))
    for rows in np.array_split(anchors, max(1, len(anchors) * n // 500_000)):
        distance = cdist(positions[rows], positions)
        bins = np.searchsorted(edges, distance)
        # A place is no pair with itself. Two anchors meet twice, which changes no mean.
        bins[np.arange(len(rows)), rows] = _N_BINS
        a, b = z[rows, None], z
        for total, quantity in zip(sums, (None, distance, (a - b) ** 2 / 2, a + b, a**2 + b**2), strict=True):
            weights = None if quantity is None else np.ravel(quantity)
            total += np.bincount(bins.ravel(), weights, minlength=_N_BINS + 1)
    if not sums[0, :-1].any():
        if max_km is None:
            return empirical_variogram(positions, z, relative=relative, max_km=2 * longest, seed=seed)
        raise RegressionError(f"no two places are within max_km={max_km:g} of each other; take a larger one.")
    sums = np.add.reduceat(sums[:, :-1], _starts(sums[0, :-1] / (2 if n_anchors == n else 1)), axis=1)
    pairs, (distance, gamma, mean, square) = sums[0], sums[1:] / sums[0]
    if relative:
        variance = square / 2 - (mean / 2) ** 2
        gamma = np.divide(gamma * z.var(), variance, out=np.zeros_like(gamma), where=variance > 0)
    return EmpiricalVariogram(distance, gamma, pairs / (2 if n_anchors == n else 1))


def _starts(pairs: Floats) -> Ints:
    """First bin of each group of bins that together hold enough pairs; the last group takes what is left."""
    enough = min(_FEWEST_PAIRS, pairs.sum() / _N_BINS)
    starts, held = [0], 0.0
    for k, count in enumerate(pairs):
        if held >= enough and pairs[k:].sum() >= enough:
            starts.append(k)
            held = 0.0
        held += count
    return np.array(starts)


def fit_variogram(empirical: EmpiricalVariogram, *, model: Model = "exponential") -> Variogram:
    """Least squares of the semivariances, weighted by pairs / distance.

    Cressie's weights (1985, Mathematical Geology 17:563) let the many far pairs decide, pairs / distance² the few near
    ones. In between, the range came out best on simulated fields of 150 and 400 places, ranges of 10% and 33% of the
    extent and nuggets of 10% and 50%: its logarithm was off by 0.22 to 0.96 (root mean square), against 0.29 to 1.48
    and 0.23 to 1.55. The range is sought between the shortest distance of the empirical variogram and twice its
    longest; above the longest it only says that values still drift apart there.

    Raises
    ------
    RegressionError
        If the model is unknown.
    """
    if model not in ("exponential", "spherical"):
        raise RegressionError(f"the variogram model is {model!r}; expected 'exponential' or 'spherical'.")
    distance, gamma = empirical.distance_km, empirical.semivariance
    weights = np.sqrt(empirical.pairs / np.maximum(distance, 1e-3 * distance[-1]))
    weights /= np.linalg.norm(weights)
    level = float(weights**2 @ gamma)
    if not level > 0:
        return Variogram(0.0, 0.0, 0.0, model)

    def fit(log_range: float) -> tuple[Floats, float]:
        """Nugget and partial sill, which are linear once the range is given, and the misfit."""
        rise = 1 - _correlation(distance, np.exp(log_range), model)
        parts, misfit = nnls(np.column_stack([weights, weights * rise]), weights * gamma / level)
        return parts, float(misfit)

    # The misfit has several valleys in the range: look everywhere, then walk down the deepest.
    low, high = np.log(max(distance[0], 1e-3 * distance[-1])), np.log(2 * distance[-1])
    grid = np.linspace(low, high, 60)
    lowest = int(np.argmin([fit(log_range)[1] for log_range in grid]))
    around = (grid[max(lowest - 1, 0)], grid[min(lowest + 1, len(grid) - 1)])
    log_range = float(minimize_scalar(lambda at: fit(at)[1], bounds=around, method="bounded").x)
    nugget, partial = (float(part) * level for part in fit(log_range)[0])
    if lowest == 0 or partial < 1e-3 * (nugget + partial):
        return Variogram(level, level, 0.0, model)
    return Variogram(nugget, nugget + partial, float(np.exp(log_range)), model)


@dataclass(frozen=True)
class BlockAdvice:
    """The block size that a model's residuals ask for.

    Attributes
    ----------
    block_km : float
        To give to :class:`geopov.regression.SpatialBlocks`.
    range_km : float
        Distance over which residuals are correlated: 0 if they are not, NaN with too few clusters to tell.
    nugget_share : float
        Share of the residuals' variance that no neighbour knows; NaN as above.
    text : str
        One sentence for a reader.
    """

    block_km: float
    range_km: float
    nugget_share: float
    text: str


def suggest_block_km(clusters: gpd.GeoDataFrame, residuals: ArrayLike, *, seed: int = 0) -> BlockAdvice:
    """A block as wide as the effective range of the residuals (Roberts et al. 2017; blockCV, Valavi et al. 2019).

    Neighbours count as correlated when the mean squared difference of each cluster to its nearest 8 is smaller than in
    all but 5% of 199 shufflings (Geary's c); a variogram fitted to noise has a range too. Blocks are at least 10 km
    wide, twice the displacement of rural clusters in DHS, and small enough to leave ten of them. Of several countries
    the range within them is taken: what they differ in as wholes is for :class:`LeaveOneCountryOut` to show.

    Parameters
    ----------
    clusters : GeoDataFrame
        Points with a CRS and ``cluster_id``.
    residuals : array (n,)
        Of held-out predictions, observed minus predicted.
    seed : int
        Of the shufflings, and of the grid that blocks are counted in.

    Raises
    ------
    RegressionError
        If there is not one finite residual a cluster, or all clusters lie at one place.
    """
    positions, values = _check_values(local_km(clusters), residuals)
    values, longest, where = _within_countries(clusters, positions, values)
    if len(values) < _FEWEST_CLUSTERS:
        block = _widest_km(positions, max(longest, _SMALLEST_BLOCK_KM), seed)
        text = (
            f"{len(values)} clusters are too few to measure how far residuals are correlated, for which about "
            f"{_ENOUGH_CLUSTERS} are needed; wide blocks are the safe choice, and {_km(block)} km leaves several."
        )
        return BlockAdvice(block, np.nan, np.nan, text)
    fitted = fit_variogram(empirical_variogram(positions, values, relative=True, max_km=longest, seed=seed))
    rough = f"; with {len(values)} clusters this is rough" if len(values) < _ENOUGH_CLUSTERS else ""
    if fitted.range_km == 0 or not _neighbours_alike(positions, values, seed):
        block = _widest_km(positions, _SMALLEST_BLOCK_KM, seed)
        text = (
            "Residuals of neighbouring clusters are not shown to be more alike than those of distant ones, so blocks "
            f"of any size will do, and {_km(block)} km is the smallest sensible size{rough}."
        )
        return BlockAdvice(block, 0.0, 1.0, text)
    wanted = max(fitted.range_km, _SMALLEST_BLOCK_KM)
    block = _widest_km(positions, wanted, seed)
    reach = f"Residuals are correlated up to about {_km(fitted.range_km)} km{where}"
    if fitted.range_km > longest:
        text = (
            f"Residuals are still correlated at {_km(longest)} km{where}, half the extent of the survey, so no block "
            f"is wide enough; with {_km(block)} km, so that {_FEWEST_BLOCKS} are left, scores hold near the survey only"
        )
    elif block < wanted:
        text = f"{reach}; blocks wider than {_km(block)} km would be too few, so scores stay somewhat optimistic"
    else:
        share = f"{fitted.nugget_share:.0%}"
        text = f"{reach} (nugget {share} of their variance), so blocks should be at least {_km(block)} km wide"
    return BlockAdvice(block, fitted.range_km, fitted.nugget_share, f"{text}{rough}.")


def _within_countries(clusters: gpd.GeoDataFrame, positions: Floats, values: Floats) -> tuple[Floats, float, str]:
    """Values without the means of countries, half the diagonal of the largest, and words to say so."""
    longest = float(np.linalg.norm(np.ptp(positions, axis=0))) / 2
    if "country" not in clusters or clusters["country"].nunique() < 2:
        return values, longest, ""
    codes = np.unique(clusters["country"].astype(str).to_numpy(dtype=str), return_inverse=True)[1]
    means = np.bincount(codes, values) / np.bincount(codes)
    extents = [np.linalg.norm(np.ptp(positions[codes == code], axis=0)) / 2 for code in range(len(means))]
    return values - means[codes], float(max(extents)) or longest, " within countries"


def _neighbours_alike(positions: Floats, values: Floats, seed: int) -> bool:
    _, nearest = cKDTree(positions).query(positions, min(_N_NEAREST + 1, len(values)))
    row = np.repeat(np.arange(len(values)), nearest.shape[1])
    other = nearest.ravel()
    rng = np.random.default_rng(seed)
    observed = np.mean((values[row] - values[other]) ** 2)
    shuffled = [rng.permutation(values) for _ in range(199)]
    as_small = sum(np.mean((other_values[row] - other_values[other]) ** 2) <= observed for other_values in shuffled)
    return bool((1 + as_small) / 200 <= 0.05)


def _widest_km(positions: Floats, wanted_km: float, seed: int) -> float:
    """The wanted side, or the widest below it that leaves ten blocks, in two significant digits."""
    fewest = min(_FEWEST_BLOCKS, len(np.unique(positions, axis=0)))
    block = _two_digits(wanted_km, up=True)
    while block > _SMALLEST_SIDE_KM and squares(positions, block, seed).max() + 1 < fewest:
        block = _two_digits(0.9 * block, up=False)
    return block


def _two_digits(value: float, *, up: bool) -> float:
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    # A range of exactly 50 km should not become 51 by rounding errors.
    steps = np.ceil(value / unit - 1e-9) if up else np.floor(value / unit + 1e-9)
    return float(f"{steps * unit:.6g}")


def _km(distance: float) -> str:
    return f"{distance:.0f}" if distance >= 10 else f"{distance:.2g}"


def _correlation(distance: Floats, range_km: float, model: str) -> Floats:
    if range_km == 0:
        return np.asarray(distance == 0, dtype=np.float64)
    scaled = distance / range_km
    if model == "exponential":
        return np.asarray(np.exp(-3 * scaled))
    return np.where(scaled < 1, 1 - 1.5 * scaled + 0.5 * scaled**3, 0.0)


def _check_values(positions_km: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    positions, numbers = np.asarray(positions_km, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if positions.ndim != 2 or numbers.shape != (len(positions),) or len(numbers) < 2:
        raise RegressionError(
            f"positions have shape {positions.shape} and values {numbers.shape}; expected (n, 2) and (n,) with n of at "
            "least 2."
        )
    bad = ~(np.isfinite(positions).all(axis=1) & np.isfinite(numbers))
    if bad.any():
        raise RegressionError(
            f"{int(bad.sum())} of {len(numbers)} positions or values are NaN or infinite; expected finite numbers. "
            "Drop those clusters."
        )
    return positions, numbers
