"""Nearest neighbours against scikit-learn's regressor."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geopov.errors import RegressionError
from geopov.regression.neighbours import WelfareNeighbours


def test_equals_grid_search() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 2)) * [1, 50]
    y = np.tanh(X[:, 0]) + 0.3 * rng.normal(size=150)
    groups = rng.integers(0, 15, 150)
    ours = WelfareNeighbours(max_neighbours=30).fit(X, y, groups=groups)
    name = "kneighborsregressor__n_neighbors"
    oracle = GridSearchCV(
        make_pipeline(StandardScaler(), KNeighborsRegressor()),
        {name: range(1, 31)},
        cv=list(GroupKFold(5).split(X, y, groups)),
        scoring="neg_mean_squared_error",
    ).fit(X, y)
    assert ours.n_neighbours_ == oracle.best_params_[name]
    np.testing.assert_allclose(ours.cv_mse_, -oracle.cv_results_["mean_test_score"], rtol=1e-10)
    new = rng.normal(size=(40, 2)) * [1, 50]
    np.testing.assert_allclose(ours.predict(new), oracle.predict(new), rtol=1e-10)


def test_k_stays_within_small_training_folds() -> None:
    X = np.arange(8.0)[:, None]
    model = WelfareNeighbours(inner_folds=2).fit(X, X[:, 0])
    assert 1 <= model.n_neighbours_ <= 4


def test_bad_parameters_and_data() -> None:
    X = np.arange(8.0)[:, None]
    with pytest.raises(RegressionError, match="max_neighbours is 0"):
        WelfareNeighbours(max_neighbours=0).fit(X, X[:, 0])
    with pytest.raises(RegressionError, match="constant"):
        WelfareNeighbours().fit(np.ones((8, 1)), X[:, 0])
