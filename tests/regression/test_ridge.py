"""WelfareRidge against scikit-learn's own pieces, and what it says of bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from geopov.errors import RegressionError
from geopov.regression import WelfareRidge
from geopov.regression._inputs import inner_splits

ALPHAS = np.logspace(-2, 6, 25)


def _data(n: int, p: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 6))
    X = shared @ rng.normal(size=(6, p)) + rng.normal(size=(n, p)) + rng.uniform(-100, 100, p)
    X *= 10.0 ** rng.uniform(-3, 3, p)
    return X, shared @ rng.normal(size=6) + rng.normal(size=n), rng.integers(0, 12, n)


@pytest.mark.parametrize(("n", "p"), [(150, 8), (90, 90), (70, 260)])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("extrapolate", [True, False])
def test_equals_grid_search(n: int, p: int, grouped: bool, extrapolate: bool) -> None:
    X, y, groups = _data(n, p)
    new = _data(30, p, seed=1)[0]
    ours = WelfareRidge(alphas=ALPHAS, extrapolate=extrapolate).fit(X, y, groups=groups if grouped else None)
    splits = GroupKFold(5).split(X, y, groups) if grouped else inner_splits(X, n_folds=5)
    oracle = GridSearchCV(
        make_pipeline(*([] if extrapolate else [MinMaxScaler(clip=True)]), StandardScaler(), Ridge()),
        {"ridge__alpha": ALPHAS},
        cv=list(splits),
        scoring="neg_mean_squared_error",
    ).fit(X, y)
    assert ours.alpha_ == oracle.best_params_["ridge__alpha"]
    np.testing.assert_allclose(ours.cv_mse_, -oracle.cv_results_["mean_test_score"], rtol=1e-8)
    np.testing.assert_allclose(ours.predict(new), oracle.predict(new), rtol=1e-8, atol=1e-8)


def test_weights_equal_weighted_scaler_and_ridge_in_every_fold() -> None:
    X, y, groups = _data(80, 12)
    weights = np.random.default_rng(5).uniform(0.1, 4, 80)
    ours = WelfareRidge(alphas=ALPHAS, extrapolate=True).fit(X, y, groups=groups, sample_weight=weights)

    def fitted(rows: np.ndarray, alpha: float):
        scaler = StandardScaler().fit(X[rows], sample_weight=weights[rows])
        ridge = Ridge(alpha=alpha).fit(scaler.transform(X[rows]), y[rows], sample_weight=weights[rows])
        return lambda Z: ridge.predict(scaler.transform(Z))

    errors = [
        [
            np.average((fitted(train, alpha)(X[test]) - y[test]) ** 2, weights=weights[test])
            for train, test in GroupKFold(5).split(X, y, groups)
        ]
        for alpha in ALPHAS
    ]
    np.testing.assert_allclose(ours.cv_mse_, np.mean(errors, axis=1), rtol=1e-8)
    np.testing.assert_allclose(ours.predict(X), fitted(np.arange(80), ours.alpha_)(X), atol=1e-8)


@pytest.mark.parametrize("p", [10, 90])
def test_inner_predictions_are_made_by_models_that_had_not_seen_the_row(p: int) -> None:
    X, y, groups = _data(70, p)
    weights = np.ones(70)
    weights[[4, 9]] = 0
    model = WelfareRidge(alphas=ALPHAS, extrapolate=True).fit(X, y, groups=groups, sample_weight=weights)
    counted = np.flatnonzero(weights)
    for train, held_out in GroupKFold(5).split(counted, groups=groups[counted]):
        pipeline = make_pipeline(StandardScaler(), Ridge(alpha=model.alpha_)).fit(X[counted[train]], y[counted[train]])
        rows = counted[held_out]
        np.testing.assert_allclose(model.inner_predictions_[rows], pipeline.predict(X[rows]), atol=1e-8)
    assert np.flatnonzero(np.isnan(model.inner_predictions_)).tolist() == [4, 9]


@pytest.mark.parametrize("p", [12, 130])
def test_principal_components_equal_grid_search_with_pca(p: int) -> None:
    X, y, groups = _data(70, p)
    ours = WelfareRidge(alphas=ALPHAS, extrapolate=True, n_components=4).fit(X, y, groups=groups)
    oracle = GridSearchCV(
        make_pipeline(StandardScaler(), PCA(4, svd_solver="full"), Ridge()),
        {"ridge__alpha": ALPHAS},
        cv=list(GroupKFold(5).split(X, y, groups)),
        scoring="neg_mean_squared_error",
    ).fit(X, y)
    assert ours.alpha_ == oracle.best_params_["ridge__alpha"]
    np.testing.assert_allclose(ours.predict(X), oracle.predict(X), rtol=1e-8, atol=1e-8)


def test_as_many_components_as_features_change_nothing() -> None:
    X, y, groups = _data(60, 7)
    reduced = WelfareRidge(n_components=7).fit(X, y, groups=groups)
    np.testing.assert_allclose(reduced.predict(X), WelfareRidge().fit(X, y, groups=groups).predict(X), atol=1e-8)


def test_units_and_order_of_clusters_do_not_matter() -> None:
    X, y, _ = _data(60, 10)
    order = np.random.default_rng(3).permutation(60)
    first = WelfareRidge().fit(X, y)
    other = WelfareRidge().fit(X[order] * 1000, y[order])
    np.testing.assert_allclose(other.alpha_, first.alpha_)
    np.testing.assert_allclose(other.predict(X * 1000), first.predict(X), atol=1e-8)


def test_does_not_leave_the_range_of_the_training_unless_asked() -> None:
    X = np.linspace(0, 1, 50)[:, None]
    y = 3 * X[:, 0]
    beyond = np.array([[-5.0], [0.5], [9.0]])
    np.testing.assert_allclose(WelfareRidge().fit(X, y).predict(beyond), [0, 1.5, 3], atol=1e-3)
    np.testing.assert_allclose(WelfareRidge(extrapolate=True).fit(X, y).predict(beyond), [-15, 1.5, 27], atol=1e-2)


def test_recovers_a_linear_truth() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    model = WelfareRidge().fit(X, X @ [2.0, -1.0, 0.0, 0.5, 0.0] + 7)
    np.testing.assert_allclose(model.coef_, [2.0, -1.0, 0.0, 0.5, 0.0], atol=1e-3)
    assert model.intercept_ == pytest.approx(7, abs=1e-3)


def test_noise_is_flattened_to_the_mean() -> None:
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(100, 300)), rng.normal(size=100)
    assert WelfareRidge().fit(X, y).predict(rng.normal(size=(50, 300))).std() < 0.5 * y.std()


@pytest.mark.parametrize("p", [6, 200])
def test_constant_features_have_zero_weight(p: int) -> None:
    X, y, groups = _data(60, p)
    X[:, 2] = 1e6 + 0.1
    X[:, 4] = np.where(groups == 3, 1.0, 0.0)  # constant in the inner training folds without group 3
    model = WelfareRidge().fit(X, y, groups=groups)
    assert model.coef_[2] == 0
    assert np.isfinite(model.predict(X)).all()
    without = WelfareRidge(alphas=model.alphas_).fit(np.delete(X, 2, axis=1), y, groups=groups)
    np.testing.assert_allclose(model.predict(X), without.predict(np.delete(X, 2, axis=1)), atol=1e-8)


def _broken(case: str) -> tuple[np.ndarray, np.ndarray, dict]:
    X, y, _ = _data(30, 4)
    fit: dict = {}
    if case == "outcome":
        y[[3, 5]] = np.nan
    elif case == "features":
        X[[3, 5, 6], 1] = np.nan
    elif case == "one":
        X, y = X[:1], y[:1]
    elif case == "constant":
        X[:] = 3.0
    elif case == "one group":
        fit["groups"] = np.zeros(30)
    elif case == "zero weights":
        fit["sample_weight"] = np.zeros(30)
    return X, y, fit


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("outcome", r"2 of 30 outcomes are NaN.*dropna"),
        ("features", r"3 of 30 rows of features hold NaN.*in 1 of 4 columns.*Drop"),
        ("one", r"one sample.*at least two clusters"),
        ("constant", r"all 4 features are constant"),
        ("one group", r"one group \(spatial block\).*block_km"),
        ("zero weights", r"zero"),
    ],
)
def test_bad_data_is_named(case: str, words: str) -> None:
    X, y, fit = _broken(case)
    with pytest.raises((RegressionError, ValueError), match=words) as raised:
        WelfareRidge().fit(X, y, **fit)
    if case != "zero weights":  # scikit-learn may find that one first
        assert isinstance(raised.value, RegressionError)


@pytest.mark.parametrize("alphas", [[], [-1.0], [np.nan], [[1.0]]])
def test_bad_alphas(alphas: list) -> None:
    X, y, _ = _data(30, 4)
    with pytest.raises(RegressionError, match="alphas are"):
        WelfareRidge(alphas=alphas).fit(X, y)


@pytest.mark.parametrize("inner_folds", [1, 2.5, True])
def test_bad_inner_folds(inner_folds: object) -> None:
    X, y, _ = _data(30, 4)
    with pytest.raises(RegressionError, match="inner_folds"):
        WelfareRidge(inner_folds=inner_folds).fit(X, y)


@pytest.mark.parametrize("n_components", [0, 5, 1.0, True])
def test_bad_n_components(n_components: object) -> None:
    X, y, _ = _data(30, 4)
    with pytest.raises(RegressionError, match=r"n_components is .* from 1 to 4"):
        WelfareRidge(n_components=n_components).fit(X, y)


def test_equal_rows_are_never_divided() -> None:
    X = np.repeat(np.random.default_rng(0).normal(size=(9, 2)), 3, axis=0)
    for train, held_out in inner_splits(X, n_folds=4):
        assert not {tuple(row) for row in X[train]} & {tuple(row) for row in X[held_out]}
