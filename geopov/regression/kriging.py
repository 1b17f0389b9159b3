"""What the survey alone says of the places in between: ordinary kriging of the training clusters.

The baseline that sees no image. If a model of images does no better than a weighted mean of the nearest clusters, the
images have added nothing there. Kriging is the best such mean: unbiased, with the weights that the variogram of the
training clusters makes least in error (Matheron 1963; Cressie 1993, Statistics for Spatial Data, chapter 3).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints, check_features, check_training_data
from geopov.regression.variogram import Model, Variogram, empirical_variogram, fit_variogram

# Of the sill: far below what any survey could tell, far above the rounding of a solve between all but equal places.
_JITTER = 1e-10
_BATCH_NUMBERS = 4_000_000


class OrdinaryKriging(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Ordinary kriging on a plane, from the nearest training clusters.

    The mean is unknown and local: each prediction estimates its own from the clusters it is made of. The nugget is
    taken as noise of the measurement, so a prediction at a training cluster is smoothed; without a nugget it is exact.
    Clusters at one position are pooled to their mean, with the nugget divided by their number, which gives the same
    predictions. Where the variogram is nothing but nugget, neighbours say nothing and the mean is predicted.

    Parameters
    ----------
    n_neighbours : int
        Positions a prediction is made from. With no more training positions than that, all are used. On simulated
        fields of 600 clusters, whatever their nugget, 32 came within 0.004 of the R² that all of them give.
    model : {"exponential", "spherical"}
        Of the variogram; see :func:`geopov.regression.variogram.fit_variogram`.
    variogram : Variogram, optional
        Taken as it is. Default: fitted to the training clusters, relative to the variance at each distance, which made
        kriging better in all of five countries tried (r² .375 against .367 in Lesotho, .183 against .085 in Malawi).

    Attributes
    ----------
    variogram_ : Variogram
        The one used, its range in km.
    mean_ : float
        Of the training clusters, in the outcome's unit.

    Examples
    --------
    >>> places_km = [[0.0, 0.0], [10.0, 0.0]]
    >>> model = OrdinaryKriging(variogram=Variogram(0.0, 1.0, 30.0)).fit(places_km, [1.0, 3.0])
    >>> [float(value) for value in model.predict([[5.0, 0.0], [0.0, 0.0]]).round(6)]
    [2.0, 1.0]
    """

    variogram_: Variogram
    mean_: float
    n_features_in_: int

    def __init__(
        self, n_neighbours: int = 32, model: Model = "exponential", variogram: Variogram | None = None
    ) -> None:
        self.n_neighbours = n_neighbours
        self.model = model
        self.variogram = variogram

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the variogram and keep the training clusters.

        Parameters
        ----------
        X : array (n, 2)
            Kilometres east and north on a plane; other numbers of dimensions work alike.
        y : array (n,)
            Outcome.

        Raises
        ------
        RegressionError
            If anything is NaN, there is one cluster only, or all are at one place.
        """
        X, y = check_training_data(self, X, y)
        n_neighbours = self.n_neighbours
        if isinstance(n_neighbours, bool) or not isinstance(n_neighbours, int | np.integer) or n_neighbours < 2:
            raise RegressionError(f"n_neighbours is {n_neighbours!r}; expected a whole number of at least 2.")
        self.mean_ = float(y.mean())
        self.variogram_ = self.variogram or _fit(X, y, self.model)
        self._positions, of_row, self._counts = np.unique(X, axis=0, return_inverse=True, return_counts=True)
        self._means = np.bincount(of_row.reshape(-1), y) / self._counts
        return self

    def predict(self, X: Any) -> Floats:
        """Predicted outcome (n,) at positions (n, 2) in kilometres on the same plane."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        variogram = self.variogram_
        if not variogram.sill > variogram.nugget:
            return np.full(len(X), self.mean_)
        n = len(self._positions)
        if n <= self.n_neighbours:
            mean, dual = self._solve(np.arange(n)[None])
            return np.asarray(mean[0] + variogram.correlation(cdist(X, self._positions)) @ dual[0])
        _, neighbours = cKDTree(self._positions).query(X, self.n_neighbours)
        predicted = np.empty(len(X))
        for rows in np.array_split(np.arange(len(X)), -(-len(X) * self.n_neighbours**2 // _BATCH_NUMBERS)):
            mean, dual = self._solve(neighbours[rows])
            distance = np.linalg.norm(self._positions[neighbours[rows]] - X[rows, None], axis=2)
            predicted[rows] = mean + np.sum(variogram.correlation(distance) * dual, axis=1)
        return predicted

    def _solve(self, neighbours: Ints) -> tuple[Floats, Floats]:
        """Generalised least squares mean (b,) and dual weights (b, k) of each neighbourhood (b, k).

        A prediction is ``mean + r @ dual`` with r the correlations of the place with its neighbours: the dual form of
        the ordinary kriging system, in units of the sill without nugget.
        """
        variogram = self.variogram_
        places = self._positions[neighbours]
        distance = np.sqrt(np.sum((places[:, :, None] - places[:, None]) ** 2, axis=-1))
        system = variogram.correlation(distance)
        noise = variogram.nugget / (variogram.sill - variogram.nugget) / self._counts[neighbours]
        diagonal = np.arange(neighbours.shape[1])
        system[:, diagonal, diagonal] += noise + _JITTER
        values = self._means[neighbours]
        solved = np.linalg.solve(system, np.stack([values, np.ones_like(values)], axis=-1))
        mean = solved[..., 0].sum(axis=1) / solved[..., 1].sum(axis=1)
        return mean, solved[..., 0] - mean[:, None] * solved[..., 1]


def _fit(X: Floats, y: Floats, model: Model) -> Variogram:
    return fit_variogram(empirical_variogram(X, y, relative=True), model=model)
