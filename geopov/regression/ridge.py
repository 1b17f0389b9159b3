"""Ridge regression of welfare on image features, its penalty chosen by inner cross-validation.

The method's own regression (Jean et al. 2016): hundreds to thousands of correlated CNN features against a few hundred
clusters. The algebra is ours because it is where the time goes: one eigendecomposition of a Gram matrix serves all
penalties of a training fold, in the smaller of its two shapes (p × p, or n × n when there are more features than
clusters), with the numbers that ``GridSearchCV(make_pipeline(StandardScaler(), Ridge()))`` gives on the same folds.

What that pipeline lacks is a bound. A capital city held out as a block has features that no training cluster comes
near, and a line drawn through villages leaves the Earth there: one fold decides R². So a feature that lies outside its
training range is taken at the end of that range, in the inner folds too, as a tree or a neighbour would.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from geopov.errors import RegressionError
from geopov.regression._inputs import (
    Floats,
    check_features,
    check_training_data,
    check_varies,
    check_weights,
    inner_splits,
    standardise,
)

# In units of the largest eigenvalue that n clusters and p standardised features can have, n × p: from a penalty that
# leaves the fit alone to one that flattens it to the mean, whatever the size of the problem.
_RELATIVE_ALPHAS = np.logspace(-6, 1, 30)


def ridge_path(Z: Floats, y: Floats, alphas: Floats) -> Floats:
    """Ridge coefficients for every penalty, from one eigendecomposition.

    Parameters
    ----------
    Z : array (n, p)
        Centred features.
    y : array (n,)
        Centred outcome.
    alphas : array (a,)
        Penalties, above zero.

    Returns
    -------
    array (p, a)
        Minimisers of ``|y - Z w|² + alpha |w|²``.
    """
    n, p = Z.shape
    if p <= n:
        values, vectors = np.linalg.eigh(Z.T @ Z)
        shrunk = (vectors.T @ (Z.T @ y))[:, None] / (np.maximum(values, 0)[:, None] + alphas)
        return np.asarray(vectors @ shrunk)
    values, vectors = np.linalg.eigh(Z @ Z.T)
    shrunk = (vectors.T @ y)[:, None] / (np.maximum(values, 0)[:, None] + alphas)
    return np.asarray(Z.T @ (vectors @ shrunk))


class WelfareRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Standardise, ridge, and choose the penalty by inner cross-validation on mean squared error.

    Parameters
    ----------
    alphas : array-like (a,), optional
        Penalties to choose from. Default: 30 multiples of n × p from 1e-6 to 10, the largest eigenvalue that n rows of
        p standardised features can have being n × p.
    inner_folds : int
        Folds of the inner cross-validation. Means and standard deviations are taken again inside each of them.
    extrapolate : bool
        False: features are clipped to the range they have in the training data before predicting. True: plain ridge.

    Attributes
    ----------
    alpha_ : float
        The penalty chosen: the first of ``alphas_`` with the smallest mean over folds of the mean squared error.
    alphas_ : array (a,)
        Penalties that were tried.
    cv_mse_ : array (a,)
        Mean squared error of each, in the outcome's unit squared.
    coef_ : array (p,)
        Outcome per unit of each feature as given (not standardised); zero where a feature is constant.
    intercept_ : float
        In the outcome's unit.
    low_, high_ : array (p,)
        Range of each feature that predictions are made within; infinite with ``extrapolate``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> y = X @ [1.0, 0.5, -1.0] + 2.0
    >>> model = WelfareRidge().fit(X, y)
    >>> [float(weight) for weight in model.coef_.round(2)]
    [1.0, 0.5, -1.0]
    """

    alpha_: float
    alphas_: Floats
    cv_mse_: Floats
    coef_: Floats
    intercept_: float
    low_: Floats
    high_: Floats
    n_features_in_: int

    def __init__(self, alphas: ArrayLike | None = None, inner_folds: int = 5, extrapolate: bool = False) -> None:
        self.alphas = alphas
        self.inner_folds = inner_folds
        self.extrapolate = extrapolate

    def fit(self, X: Any, y: Any, groups: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the penalty and fit all clusters with it.

        Parameters
        ----------
        X : array (n, p)
            Features.
        y : array (n,)
            Outcome.
        groups : array (n,), optional
            Spatial block of each cluster; blocks are kept whole by the inner folds.
        sample_weight : array (n,), optional
            Weights in the means, the fit and the inner errors. A weight of zero leaves the cluster out.

        Raises
        ------
        RegressionError
            If anything is NaN, every feature is constant, or there is one cluster or one group only.
        """
        X, y = check_training_data(self, X, y)
        weights = check_weights(sample_weight, X)
        counted = weights > 0
        if not counted.all():
            X, y, weights = X[counted], y[counted], weights[counted]
            groups = None if groups is None else np.asarray(groups)[counted]
        varies = standardise(X, weights).varies
        check_varies(varies)
        self.alphas_ = self._check_alphas(weights.sum() * varies.sum())
        splits = inner_splits(X, n_folds=self.inner_folds, groups=groups)
        errors = [self._validation_errors(X, y, weights, train, held_out) for train, held_out in splits]
        self.cv_mse_ = np.mean(errors, axis=0)
        self.alpha_ = float(self.alphas_[np.argmin(self.cv_mse_)])
        coefficients, intercepts = _fit_path(X, y, weights, np.array([self.alpha_]))
        self.coef_, self.intercept_ = coefficients[:, 0], float(intercepts[0])
        self.low_, self.high_ = self._range(X)
        return self

    def predict(self, X: Any) -> Floats:
        """Predicted outcome (n,) of features (n, p)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return np.asarray(np.clip(X, self.low_, self.high_) @ self.coef_ + self.intercept_)

    def _range(self, X: Floats) -> tuple[Floats, Floats]:
        if self.extrapolate:
            return np.full(X.shape[1], -np.inf), np.full(X.shape[1], np.inf)
        return X.min(axis=0), X.max(axis=0)

    def _check_alphas(self, largest: float) -> Floats:
        if self.alphas is None:
            return _RELATIVE_ALPHAS * largest
        alphas = np.asarray(self.alphas, dtype=np.float64)
        if alphas.ndim != 1 or len(alphas) == 0 or not np.all(np.isfinite(alphas) & (alphas > 0)):
            raise RegressionError(f"alphas are {self.alphas!r}; expected a list of finite numbers above zero.")
        return alphas

    def _validation_errors(self, X: Floats, y: Floats, weights: Floats, train: Any, held_out: Any) -> Floats:
        coefficients, intercepts = _fit_path(X[train], y[train], weights[train], self.alphas_)
        seen = np.clip(X[held_out], *self._range(X[train]))
        residuals = seen @ coefficients + intercepts - y[held_out, None]
        return np.asarray(weights[held_out] @ residuals**2 / weights[held_out].sum())


def _fit_path(X: Floats, y: Floats, weights: Floats, alphas: Floats) -> tuple[Floats, Floats]:
    """Coefficients (p, a) and intercepts (a,) on the features' own scale."""
    Z, mean, scale, varies = standardise(X, weights)
    centre = weights @ y / weights.sum()
    root = np.sqrt(weights)
    coefficients = ridge_path(Z * root[:, None], (y - centre) * root, alphas) / scale[:, None]
    coefficients[~varies] = 0.0  # the decomposition leaves rounding errors there
    return coefficients, centre - mean @ coefficients
