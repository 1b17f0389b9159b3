"""Ridge regression of welfare on image features, its penalty chosen by inner cross-validation.

The method's own regression (Jean et al. 2016): hundreds to thousands of correlated CNN features against a few hundred
clusters. The algebra is ours because it is where the time goes: one reduction of a Gram matrix, in the smaller of its
two shapes (p × p, or n × n when there are more features than clusters), serves all penalties of a training fold, with
the numbers that ``GridSearchCV(make_pipeline(StandardScaler(), Ridge()))`` gives on the same folds.

What that pipeline lacks is a bound. A capital city held out as a block has features that no training cluster comes
near, and a line drawn through villages leaves the Earth there: one fold decides R². So a feature that lies outside its
training range is taken at the end of that range, in the inner folds too, as a tree or a neighbour would.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from geopov.regression._inputs import (
    Floats,
    Ints,
    check_features,
    check_training_data,
    check_weights,
)
from geopov.regression._nested_inputs import check_groups
from geopov.regression.nested import NestedFit, Progress, Settings, choose_each, nested_ridge


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
    n_components : int, optional
        Regress on so many leading principal components of the standardised features, taken again inside each training
        fold, instead of on all features.

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
    inner_predictions_ : array (n,)
        Of each training row by the inner model that had not seen it, at ``alpha_``; NaN where its weight is zero.
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
    inner_predictions_: Floats
    n_features_in_: int

    def __init__(
        self,
        alphas: ArrayLike | None = None,
        inner_folds: int = 5,
        extrapolate: bool = False,
        n_components: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.inner_folds = inner_folds
        self.extrapolate = extrapolate
        self.n_components = n_components

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
            If anything is NaN, every feature is constant, there is one cluster or one group only, or a training fold
            has fewer principal components than ``n_components``.
        """
        X, y = check_training_data(self, X, y)
        weights = check_weights(sample_weight, X)
        everything = (np.arange(len(X)), check_groups(groups, len(X)))
        (chosen,) = choose_each(X, y[:, None], weights, [everything], self._settings())
        self.alphas_, self.cv_mse_, self.alpha_ = chosen.alphas, chosen.cv_mse[:, 0], float(chosen.alpha[0])
        self.coef_, self.intercept_ = chosen.coefficients[:, 0], float(chosen.intercept[0])
        self.low_, self.high_ = chosen.low, chosen.high
        self.inner_predictions_ = chosen.inner[:, 0]
        return self

    def predict(self, X: Any) -> Floats:
        """Predicted outcome (n,) of features (n, p)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return np.asarray(np.clip(X, self.low_, self.high_) @ self.coef_ + self.intercept_)

    def hold_out(
        self,
        X: Any,
        y: Any,
        pairs: Iterable[tuple[Ints, Ints]],
        groups: ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> NestedFit:
        """Predictions of each fold's test rows by this model fitted on its training rows.

        What cloning and fitting fold by fold gives, with the algebra shared.

        Parameters
        ----------
        X : array (n, p)
            Features.
        y : array (n,)
            Outcome.
        pairs : list of (train, test)
            Row numbers of the folds.
        groups : array (n,), optional
            Spatial block of each cluster; blocks are kept whole by the inner folds.
        progress : callable, optional
            Called with folds done and folds in all.

        Returns
        -------
        NestedFit
            With one outcome: ``predicted`` (n, 1), ``alpha`` (folds, 1).
        """
        return nested_ridge(X, y, pairs, groups=groups, progress=progress, **vars(self._settings()))

    def _settings(self) -> Settings:
        return Settings(self.alphas, self.inner_folds, self.extrapolate, self.n_components)
