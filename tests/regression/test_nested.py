"""Nested ridge against nested GridSearchCV, and against fitting one fold and one outcome at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from geopov.errors import RegressionError
from geopov.regression import WelfareRidge, nested_ridge
from geopov.regression._inputs import inner_splits

ALPHAS = np.logspace(-1, 6, 8)

Pairs = list[tuple[np.ndarray, np.ndarray]]


def _data(n: int, p: int, q: int = 2, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated, positive features of very different size, q outcomes, and blocks."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 5))
    X = np.maximum(shared @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)), 0) * 10.0 ** rng.uniform(-3, 3, p)
    return X, shared[:, :1] + rng.normal(size=(n, q)) + np.arange(q) * 50, rng.integers(0, 14, n)


def _pairs(groups: np.ndarray, *, n_folds: int = 3) -> Pairs:
    return list(GroupKFold(n_folds).split(groups, groups=groups))


def _with_buffer(pairs: Pairs) -> Pairs:
    """Some training rows of each fold are left out, and one test row of the first fold; nothing is in order."""
    rng = np.random.default_rng(7)
    cut = [(rng.permutation(train)[: int(0.9 * len(train))], rng.permutation(test)) for train, test in pairs]
    return [(cut[0][0], cut[0][1][1:]), *cut[1:]]


def _grid_search(X: np.ndarray, y: np.ndarray, groups: np.ndarray | None, *steps: Any) -> GridSearchCV:
    return GridSearchCV(
        make_pipeline(*steps, Ridge()),
        {"ridge__alpha": ALPHAS},
        cv=inner_splits(X, n_folds=5, groups=groups),
        scoring="neg_mean_squared_error",
    ).fit(X, y)


@pytest.mark.parametrize(("n", "p"), [(160, 9), (120, 75), (80, 200)])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("extrapolate", [True, False])
def test_equals_nested_grid_search(n: int, p: int, grouped: bool, extrapolate: bool) -> None:
    X, Y, groups = _data(n, p)
    pairs = _with_buffer(_pairs(groups))
    found = nested_ridge(X, Y, pairs, groups=groups if grouped else None, alphas=ALPHAS, extrapolate=extrapolate)
    clip = [] if extrapolate else [MinMaxScaler(clip=True)]
    for fold, (train, test) in enumerate(pairs):
        blocks = groups[train] if grouped else None
        for outcome in range(2):
            oracle = _grid_search(X[train], Y[train, outcome], blocks, *clip, StandardScaler())
            assert found.alpha[fold, outcome] == oracle.best_params_["ridge__alpha"]
            np.testing.assert_allclose(found.predicted[test, outcome], oracle.predict(X[test]), rtol=1e-9, atol=1e-9)
            for inner_train, held_out in inner_splits(X[train], n_folds=5, groups=blocks):
                rows = train[inner_train]
                model = clone(oracle.best_estimator_).fit(X[rows], Y[rows, outcome])
                expected = model.predict(X[train[held_out]])
                np.testing.assert_allclose(found.inner[fold][held_out, outcome], expected, rtol=1e-9, atol=1e-9)
    untested = np.setdiff1d(np.arange(n), np.concatenate([test for _, test in pairs]))
    assert len(untested) == 1
    assert np.isnan(found.predicted[untested]).all()


@pytest.mark.parametrize(("n", "p"), [(120, 20), (70, 150)])
@pytest.mark.parametrize("extrapolate", [True, False])
def test_principal_components_equal_grid_search_with_pca(n: int, p: int, extrapolate: bool) -> None:
    X, Y, groups = _data(n, p)
    pairs = _pairs(groups)
    found = nested_ridge(X, Y, pairs, groups=groups, alphas=ALPHAS, extrapolate=extrapolate, n_components=6)
    clip = [] if extrapolate else [MinMaxScaler(clip=True)]
    for fold, (train, test) in enumerate(pairs):
        for outcome in range(2):
            steps = [*clip, StandardScaler(), PCA(6, svd_solver="full")]
            oracle = _grid_search(X[train], Y[train, outcome], groups[train], *steps)
            assert found.alpha[fold, outcome] == oracle.best_params_["ridge__alpha"]
            np.testing.assert_allclose(found.predicted[test, outcome], oracle.predict(X[test]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "options", [{}, {"alphas": ALPHAS, "extrapolate": True}, {"n_components": 3, "inner_folds": 3}]
)
@pytest.mark.parametrize(("n", "p"), [(150, 12), (90, 130)])
@pytest.mark.parametrize("grouped", [True, False])
def test_hold_out_equals_cloning_and_fitting(n: int, p: int, grouped: bool, options: dict[str, Any]) -> None:
    X, Y, groups = _data(n, p, 1)
    pairs, model = _with_buffer(_pairs(groups)), WelfareRidge(**options)
    found = model.hold_out(X, Y[:, 0], pairs, groups=groups if grouped else None)
    for fold, (train, test) in enumerate(pairs):
        fitted = clone(model).fit(X[train], Y[train, 0], groups=groups[train] if grouped else None)
        assert found.alpha[fold, 0] == pytest.approx(fitted.alpha_, rel=1e-12)
        np.testing.assert_allclose(found.predicted[test, 0], fitted.predict(X[test]), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.inner[fold][:, 0], fitted.inner_predictions_, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(12, 60), p=st.integers(1, 70), seed=st.integers(0, 2**16), weighted=st.booleans())
def test_many_outcomes_equal_one_at_a_time(n: int, p: int, seed: int, weighted: bool) -> None:
    X, Y, _ = _data(n, p, 3, seed=seed)
    pairs = list(KFold(3).split(X))
    groups = np.arange(n) % 6
    weights = np.random.default_rng(seed).integers(1, 4, n) if weighted else None
    together = nested_ridge(X, Y, pairs, groups=groups, sample_weight=weights)
    for outcome in range(3):
        alone = nested_ridge(X, Y[:, outcome], pairs, groups=groups, sample_weight=weights)
        np.testing.assert_array_equal(alone.alpha[:, 0], together.alpha[:, outcome])
        np.testing.assert_allclose(alone.predicted[:, 0], together.predicted[:, outcome], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", [8, 120])
def test_weights_repeat_rows_and_zero_leaves_them_out(p: int) -> None:
    X, Y, groups = _data(70, p)
    weights = np.random.default_rng(1).integers(0, 4, 70)
    pairs = _pairs(groups)
    found = nested_ridge(X, Y, pairs, groups=groups, alphas=ALPHAS, inner_folds=99, sample_weight=weights)
    for fold, (train, test) in enumerate(pairs):
        repeated = np.repeat(train, weights[train])
        model = WelfareRidge(alphas=ALPHAS, inner_folds=99).fit(X[repeated], Y[repeated, 0], groups=groups[repeated])
        assert found.alpha[fold, 0] == model.alpha_
        np.testing.assert_allclose(found.predicted[test, 0], model.predict(X[test]), rtol=1e-9, atol=1e-9)
        assert np.array_equal(np.isnan(found.inner[fold][:, 0]), weights[train] == 0)


@pytest.mark.parametrize("p", [6, 90])
def test_a_feature_that_is_all_but_constant_without_one_cluster(p: int) -> None:
    """Its mean over all rows is 1e7 standard deviations away: sums of squares alone would lose it."""
    X, Y, groups = _data(60, p)
    X[:, 1] = 5.0 + 1e-3 * Y[:, 0]
    X[0, 1] = 1e6
    pairs = [(np.arange(50), np.arange(50, 60))]
    found = nested_ridge(X, Y, pairs, groups=groups, alphas=ALPHAS, extrapolate=True)
    oracle = _grid_search(X[:50], Y[:50, 0], groups[:50], StandardScaler())
    assert found.alpha[0, 0] == oracle.best_params_["ridge__alpha"]
    for inner_train, held_out in inner_splits(X[:50], n_folds=5, groups=groups[:50]):
        expected = clone(oracle.best_estimator_).fit(X[inner_train], Y[inner_train, 0]).predict(X[held_out])
        np.testing.assert_allclose(found.inner[0][held_out, 0], expected, rtol=1e-7)


def test_equal_penalties_of_equal_error_give_the_first() -> None:
    X, Y, groups = _data(60, 5)
    found = nested_ridge(X, Y, _pairs(groups), groups=groups, alphas=[30.0, 3.0, 30.0])
    mirrored = nested_ridge(X, Y, _pairs(groups), groups=groups, alphas=[3.0, 30.0, 3.0])
    np.testing.assert_array_equal(found.alpha, mirrored.alpha)


def test_is_the_same_to_the_bit_every_time_and_tells_of_progress() -> None:
    X, Y, groups = _data(90, 60)
    seen: list[tuple[int, int]] = []
    first = nested_ridge(X, Y, _pairs(groups), groups=groups, progress=lambda *done: seen.append(done))
    again = nested_ridge(X, Y, _pairs(groups), groups=groups)
    np.testing.assert_array_equal(first.predicted, again.predicted)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def _broken(case: str) -> dict[str, Any]:
    X, Y, groups = _data(40, 6)
    pairs = _pairs(groups)
    call: dict[str, Any] = {"X": X, "Y": Y, "pairs": pairs, "groups": groups}
    if case == "overlap":
        call["pairs"] = [(np.arange(30), np.arange(28, 40))]
    elif case == "twice":
        call["pairs"] = [pairs[0], pairs[0]]
    elif case == "masks":
        call["pairs"] = [(np.arange(40) < 30, np.arange(40) >= 30)]
    elif case == "beyond":
        call["pairs"] = [(np.arange(30), np.array([40]))]
    elif case == "no training":
        call["pairs"] = [(np.arange(0), np.arange(40))]
    elif case == "no folds":
        call["pairs"] = []
    elif case == "features":
        X[3, 2] = np.inf
    elif case == "outcomes":
        Y[[3, 4], 1] = np.nan
    elif case == "shapes":
        call["Y"] = Y[:-1]
    elif case == "components":
        call["n_components"] = 7
    elif case == "half a component":
        call["n_components"] = 2.5
    elif case == "groups":
        call["groups"] = groups[:-1]
    elif case == "one group":
        call["groups"] = np.zeros(40)
    elif case == "constant":
        X[:] = 1.0
    return call


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("overlap", r"fold 0 tests 2 rows that it is trained on, such as row 28"),
        ("twice", r"fold 1 tests rows that an earlier fold"),
        ("masks", r"type bool; expected row numbers from 0 to 39"),
        ("beyond", r"expected row numbers from 0 to 39"),
        ("no training", r"fold 0 has 0 training"),
        ("no folds", r"no folds"),
        ("features", r"1 of 40 rows of features"),
        ("outcomes", r"2 of 40 rows of outcomes"),
        ("shapes", r"shape \(40, 6\) and outcomes \(39, 2\)"),
        ("components", r"n_components is 7; expected a whole number from 1 to 6"),
        ("half a component", r"n_components is 2.5"),
        ("groups", r"groups have shape \(39,\); expected \(40,\)"),
        ("one group", r"one group \(spatial block\)"),
        ("constant", r"all 6 features are constant"),
    ],
)
def test_bad_input_is_named(case: str, words: str) -> None:
    call = _broken(case)
    with pytest.raises(RegressionError, match=words):
        nested_ridge(call.pop("X"), call.pop("Y"), call.pop("pairs"), **call)
