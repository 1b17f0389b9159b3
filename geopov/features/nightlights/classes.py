"""Classes of light: by a Gaussian mixture, by quantiles, or at given edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from sklearn.mixture import GaussianMixture

from geopov.errors import FeatureError

Floats = npt.NDArray[np.float64]

JEAN_2016_EDGES = (3.0, 35.0)
"""Of DMSP digital numbers: low 0-3, medium 3-35 and high 35-63 (Jean et al. 2016, supplement)."""

# Evenly spaced order statistics stand for the whole sample: a mixture does not change with more of them, and unlike a
# random draw they add no noise.
_SAMPLE = 20_000
# Points on which boundaries of a mixture are looked for before they are found exactly.
_GRID = 10_000


@dataclass(frozen=True)
class LightsClasses:
    """Classes of light, numbered from the darkest.

    Attributes
    ----------
    edges : tuple of float
        Ascending, in the unit of the lights; a value at an edge belongs to the brighter class.
    method : str
        "given", "quantiles" or "mixture".

    Examples
    --------
    >>> LightsClasses.given(JEAN_2016_EDGES).assign([0, 3, 34.9, 63]).tolist()
    [0, 1, 1, 2]
    """

    edges: tuple[float, ...]
    method: str = "given"

    def __post_init__(self) -> None:
        edges = np.asarray(self.edges, dtype=float)
        if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise FeatureError(
                f"class edges are {list(self.edges)!r}; expected ascending finite numbers, such as [3, 35]."
            )

    def __len__(self) -> int:
        return len(self.edges) + 1

    @property
    def names(self) -> list[str]:
        """One a class, such as ``below 3``, ``3 to 35`` and ``35 and above``."""
        edges = [f"{edge:.3g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        return [f"below {edges[0]}", *between, f"{edges[-1]} and above"]

    def assign(self, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The class of each value, from 0.

        Raises
        ------
        FeatureError
            If a value is missing.
        """
        values = np.asarray(values, dtype=float)
        if np.isnan(values).any():
            raise FeatureError(
                f"{int(np.isnan(values).sum())} of {values.size} lights are missing; leave them out first."
            )
        return np.searchsorted(np.asarray(self.edges), values, side="right").astype(np.int64)

    @classmethod
    def given(cls, edges: Sequence[float]) -> LightsClasses:
        """Classes that part at given values."""
        return cls(tuple(float(edge) for edge in edges))

    @classmethod
    def quantiles(cls, values: npt.ArrayLike, *, n: int = 3) -> LightsClasses:
        """Classes of equal size.

        Where so many places are dark that they alone fill the first class or more, they are the first class, and the
        lit ones are divided among the others.

        Parameters
        ----------
        values : array (n_values,)
            Lights of the training region.
        n : int
            Number of classes.

        Raises
        ------
        FeatureError
            If the values are too alike to be divided.
        """
        values = _check(values, n)
        edges = np.quantile(values, np.arange(1, n) / n)
        if edges[0] <= values.min():
            lit = values[values > values.min()]
            edges = np.quantile(lit, np.arange(n - 1) / (n - 1)) if len(lit) else edges
        sizes = np.bincount(np.searchsorted(edges, values, side="right"), minlength=n)
        if (np.diff(edges) <= 0).any() or (sizes == 0).any():
            raise FeatureError(
                f"the lights take too few values for {n} classes by quantiles (edges {edges.tolist()}); take fewer "
                "classes, or give the edges."
            )
        return cls(tuple(edges.tolist()), "quantiles")

    @classmethod
    def fit_mixture(
        cls, values: npt.ArrayLike, *, n: int = 3, scale: Literal["linear", "log"] = "linear", seed: int = 0
    ) -> LightsClasses:
        """Classes by a mixture of normal distributions, parted where the darker ones become the less likely.

        Jean et al. (2016) so found low, medium and high light in digital numbers. Radiance spans orders of magnitude;
        ``scale="log"`` fits the logarithm of 1 + value.

        Parameters
        ----------
        values : array (n_values,)
            Lights of the training region.
        n : int
            Number of classes.
        scale : {"linear", "log"}
            See above.
        seed : int
            Of the starting points of expectation maximisation.

        Raises
        ------
        FeatureError
            If there are fewer than ``n`` different values, or two components lie within each other.
        """
        values = _check(values, n)
        if scale not in ("linear", "log"):
            raise FeatureError(f"scale is {scale!r}; expected 'linear' or 'log'.")
        if scale == "log" and values.min() <= -1:
            raise FeatureError(
                f"the least of the lights is {values.min():g}; scale='log' needs them cleaned, 0 or more."
            )
        ordered = np.sort(np.log1p(values) if scale == "log" else values)
        thinned = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), _SAMPLE)).round().astype(int)]
        # The dark places share one value, so that their component would have no spread at all.
        mixture = GaussianMixture(n, n_init=3, random_state=seed, reg_covar=1e-6 * float(np.var(thinned)), max_iter=500)
        mixture.fit(thinned[:, None])
        edges = _boundaries(mixture, float(ordered[-1]))
        if None in edges or (np.diff(np.asarray(edges, dtype=float)) <= 0).any():
            means = np.sort(mixture.means_[:, 0])
            raise FeatureError(
                f"a mixture of {n} normal distributions (means {means.round(3).tolist()}) does not part the lights "
                f"into {n} classes; take fewer, or classes by quantiles or given edges."
            )
        found = np.asarray(edges, dtype=float)
        return cls(tuple((np.expm1(found) if scale == "log" else found).tolist()), "mixture")

    def to_dict(self) -> dict[str, Any]:
        """Method, edges and names, JSON-able."""
        return {"method": self.method, "edges": list(self.edges), "names": self.names}


def _check(values: npt.ArrayLike, n: int) -> Floats:
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise FeatureError(f"n is {n!r}; expected at least two classes.")
    array = np.asarray(values, dtype=float).ravel()
    array = np.asarray(array[np.isfinite(array)])
    if len(np.unique(array)) < n:
        raise FeatureError(
            f"the lights of the training region take {len(np.unique(array))} different values; {n} classes need at "
            "least as many. Is the region all dark, or the wrong band read?"
        )
    finite: Floats = array
    return finite


def _boundaries(mixture: GaussianMixture, brightest: float) -> list[float | None]:
    """Where, going up from the darkest mean, the components above the first, the second... become the likelier ones."""
    order = np.argsort(mixture.means_[:, 0])
    grid = np.linspace(mixture.means_[order[0], 0], brightest, _GRID)

    def brighter(x: Floats, k: int) -> Floats:
        share: Floats = mixture.predict_proba(np.reshape(x, (-1, 1)))[:, order[k + 1 :]].sum(axis=1)
        return share - 0.5

    edges: list[float | None] = []
    for k in range(len(order) - 1):
        above = np.flatnonzero(brighter(grid, k) >= 0)
        if not len(above) or above[0] == 0:
            edges.append(None)
            continue
        low, high = grid[above[0] - 1], grid[above[0]]
        edges.append(float(brentq(lambda x, k=k: brighter(np.array([x]), k)[0], low, high)))
    return edges
