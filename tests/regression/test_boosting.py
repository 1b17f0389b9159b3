"""Gradient boosting against a grid search, and what blocks and threads do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from geopov.errors import RegressionError
from geopov.regression.boosting import WelfareBoosting


@parametrize_with_checks([WelfareBoosting(max_depths=(2,), learning_rates=(0.2,), max_rounds=20)])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def steps(*, n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two features of which the outcome is a step and an interaction, and groups."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    y = (X[:, 0] > 0) * (1.0 + np.sign(X[:, 1])) + 0.3 * rng.normal(size=n)
    return X, y, rng.integers(0, 20, n)


def test_equals_grid_search() -> None:
    X, y, groups = steps()
    ours = WelfareBoosting(max_depths=(1, 2), learning_rates=(0.1, 0.3), max_rounds=12).fit(X, y, groups=groups)
    # Threads of the oracle's would spin against other processes.
    with threadpool_limits(limits=1, user_api="openmp"):
        oracle = GridSearchCV(
            HistGradientBoostingRegressor(early_stopping=False, min_samples_leaf=10),
            {"learning_rate": [0.1, 0.3], "max_depth": [1, 2], "max_iter": range(1, 13)},
            cv=list(GroupKFold(5).split(X, y, groups)),
            scoring="neg_mean_squared_error",
        ).fit(X, y)
    chosen = {"learning_rate": ours.learning_rate_, "max_depth": ours.max_depth_, "max_iter": ours.n_rounds_}
    assert chosen == oracle.best_params_
    errors = -oracle.cv_results_["mean_test_score"].reshape(2, 2, 12).transpose(1, 0, 2)
    np.testing.assert_allclose(ours.cv_mse_, errors, rtol=1e-10)
    new = steps(seed=1)[0]
    np.testing.assert_allclose(ours.predict(new), oracle.predict(new), rtol=1e-12)


def test_finds_an_interaction_that_no_sum_of_features_holds() -> None:
    X, y, groups = steps(n=600)
    new, truth, _ = steps(n=600, seed=1)
    deep = WelfareBoosting().fit(X, y, groups=groups)
    flat = WelfareBoosting(max_depths=(1,)).fit(X, y, groups=groups)
    assert deep.max_depth_ > 1
    assert deep.score(new, truth) > flat.score(new, truth) + 0.05
    assert deep.score(new, truth) > 0.85


def test_noise_is_predicted_by_about_its_mean() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 2)), rng.normal(size=400)
    model = WelfareBoosting().fit(X, y, groups=rng.integers(0, 40, 400))
    assert model.n_rounds_ < 20
    assert model.predict(rng.normal(size=(100, 2))).std() < 0.35


def test_rounds_are_chosen_for_new_blocks() -> None:
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(20), 20)
    X = block[:, None] + 0.1 * rng.random((400, 1))
    y = rng.normal(size=20)[block]
    within = WelfareBoosting().fit(X, y, groups=rng.integers(0, 20, 400))
    between = WelfareBoosting().fit(X, y, groups=block)
    # A feature that names the block is worth a great deal within blocks, and nothing in a new one.
    assert within.cv_mse_.min() < 0.3 * np.var(y)
    assert between.cv_mse_.min() > 0.8 * np.var(y)
    assert between.n_rounds_ < within.n_rounds_


def test_predictions_stay_within_what_was_seen() -> None:
    X, y, groups = steps()
    model = WelfareBoosting().fit(X, y, groups=groups)
    far = model.predict([[1e6, 1e6], [-1e6, -1e6]])
    assert np.all((far > y.min()) & (far < y.max()))


def test_same_numbers_on_any_number_of_threads() -> None:
    X, y, groups = steps(n=2000)
    found = []
    for threads in (1, 4):
        with threadpool_limits(limits=threads, user_api="openmp"):
            found.append(WelfareBoosting(max_rounds=20).fit(X, y, groups=groups).predict(X))
    assert np.array_equal(*found)


def test_too_few_clusters_to_split_get_their_mean() -> None:
    X = np.arange(12.0)[:, None]
    np.testing.assert_allclose(WelfareBoosting(max_rounds=3).fit(X, X[:, 0]).predict(X), 5.5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_depths": ()}, "empty"),
        ({"learning_rates": ()}, "empty"),
        ({"max_depths": (0,)}, "max_depths holds 0"),
        ({"max_rounds": 2.5}, "max_rounds holds 2.5"),
        ({"min_samples_leaf": 0}, "min_samples_leaf holds 0"),
        ({"learning_rates": (0.1, 0)}, "above 0, at most 1"),
        ({"inner_folds": 1}, "inner_folds is 1"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    X = np.arange(40.0)[:, None]
    with pytest.raises(RegressionError, match=message):
        WelfareBoosting(**parameters).fit(X, X[:, 0])


def test_constant_features() -> None:
    with pytest.raises(RegressionError, match="constant"):
        WelfareBoosting().fit(np.ones((8, 1)), np.arange(8.0))
