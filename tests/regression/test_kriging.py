"""Kriging against the kriging system solved by hand, Gaussian process regression, and what must hold of any weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.utils.estimator_checks import parametrize_with_checks

from geopov.errors import RegressionError
from geopov.regression.kriging import OrdinaryKriging
from geopov.regression.variogram import Variogram


@parametrize_with_checks([OrdinaryKriging(), OrdinaryKriging(n_neighbours=5, model="spherical")])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def _textbook(places: np.ndarray, y: np.ndarray, at: np.ndarray, variogram: Variogram) -> np.ndarray:
    """Weights from the system of semivariances with a Lagrange multiplier (Cressie 1993, section 3.2)."""
    n = len(places)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = variogram.semivariance(cdist(places, places))
    np.fill_diagonal(system, 0.0)
    right = np.vstack([variogram.semivariance(cdist(places, at)), np.ones(len(at))])
    return np.linalg.solve(system, right)[:n].T @ y


@pytest.fixture(scope="module")
def towns() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 100, (120, 2))
    y = np.sin(places[:, 0] / 20) + np.cos(places[:, 1] / 15) + 0.2 * rng.normal(size=120)
    return places, y, rng.uniform(0, 100, (50, 2))


@pytest.mark.parametrize(
    "variogram", [Variogram(0.0, 1.0, 60.0), Variogram(0.3, 1.5, 40.0), Variogram(0.2, 1.0, 50.0, "spherical")]
)
def test_the_kriging_system(towns: tuple[np.ndarray, np.ndarray, np.ndarray], variogram: Variogram) -> None:
    places, y, at = towns
    found = OrdinaryKriging(n_neighbours=120, variogram=variogram).fit(places, y).predict(at)
    np.testing.assert_allclose(found, _textbook(places, y, at, variogram), rtol=1e-7)


def test_each_neighbourhood_is_its_own_kriging_system(towns: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    places, y, at = towns
    variogram = Variogram(0.2, 1.0, 60.0)
    found = OrdinaryKriging(n_neighbours=12, variogram=variogram).fit(places, y).predict(at)
    for place, value in zip(at, found, strict=True):
        nearest = np.argsort(np.linalg.norm(places - place, axis=1))[:12]
        assert value == pytest.approx(_textbook(places[nearest], y[nearest], place[None], variogram)[0], rel=1e-7)


def test_gaussian_process_with_the_mean_that_kriging_estimates(
    towns: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    places, y, at = towns
    nugget, partial, range_km = 0.3, 1.2, 45.0
    correlation = np.exp(-3 * cdist(places, places) / range_km)
    solved = np.linalg.solve(correlation + nugget / partial * np.eye(120), np.column_stack([y, np.ones(120)]))
    mean = solved[:, 0].sum() / solved[:, 1].sum()
    process = GaussianProcessRegressor(Matern(range_km / 3, nu=0.5), alpha=nugget / partial, optimizer=None)
    expected = process.fit(places, y - mean).predict(at) + mean
    model = OrdinaryKriging(n_neighbours=120, variogram=Variogram(nugget, nugget + partial, range_km))
    np.testing.assert_allclose(model.fit(places, y).predict(at), expected, rtol=1e-7)


def test_half_way_between_two_clusters_is_their_mean() -> None:
    model = OrdinaryKriging(variogram=Variogram(0.1, 1.0, 30.0)).fit([[0.0, 0.0], [10.0, 0.0]], [1.0, 3.0])
    np.testing.assert_allclose(model.predict([[5.0, 0.0], [5.0, 40.0]]), [2.0, 2.0])


def test_without_nugget_clusters_are_predicted_exactly(towns: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    places, y, _ = towns
    for n_neighbours in (8, 120):
        model = OrdinaryKriging(n_neighbours=n_neighbours, variogram=Variogram(0.0, 1.0, 60.0)).fit(places, y)
        np.testing.assert_allclose(model.predict(places), y, atol=1e-7)


def test_with_a_nugget_clusters_are_smoothed(towns: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    places, y, _ = towns
    smoothed = OrdinaryKriging(variogram=Variogram(0.5, 1.0, 60.0)).fit(places, y).predict(places)
    assert smoothed.std() < y.std()


def test_clusters_at_one_place_count_as_often_as_they_are() -> None:
    """Pooling them is the same as moving them apart by a millimetre, without the singular system."""
    places = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [20.0, 0.0], [0.0, 30.0]])
    y, at = np.array([1.0, 2.0, 6.0, 4.0, 5.0]), np.array([[8.0, 5.0], [0.0, 0.0], [19.0, 1.0]])
    variogram = Variogram(0.4, 1.0, 50.0)
    found = OrdinaryKriging(variogram=variogram).fit(places, y).predict(at)
    apart = places + 1e-6 * np.arange(5)[:, None]
    np.testing.assert_allclose(found, _textbook(apart, y, at, variogram), rtol=1e-4)
    exact = OrdinaryKriging(variogram=Variogram(0.0, 1.0, 50.0)).fit(places, y).predict(at)
    assert exact[1] == pytest.approx(3.0)


def test_far_from_all_clusters_the_estimated_mean_is_predicted() -> None:
    model = OrdinaryKriging(variogram=Variogram(0.0, 1.0, 10.0)).fit([[0.0, 0.0], [1.0, 0.0], [500.0, 0.0]], [0, 0, 9])
    correlated = np.exp(-0.3)
    expected = 9 / (2 / (1 + correlated) + 1)  # two near clusters count for little more than one
    assert model.predict([[0.0, 9000.0]])[0] == pytest.approx(expected)


def test_pure_nugget_predicts_the_mean() -> None:
    places, y = np.random.default_rng(0).uniform(0, 9, (30, 2)), np.arange(30.0)
    model = OrdinaryKriging(variogram=Variogram(75.0, 75.0, 0.0)).fit(places, y)
    np.testing.assert_array_equal(model.predict(places[:3]), [14.5] * 3)
    constant = OrdinaryKriging().fit(places, np.full(30, 2.5))
    np.testing.assert_array_equal(constant.predict(places[:2]), [2.5, 2.5])


def test_fitted_variogram_predicts_a_field_and_does_no_harm_to_noise() -> None:
    rng = np.random.default_rng(3)
    places = rng.uniform(0, 300, (700, 2))
    signal = np.linalg.cholesky(np.exp(-3 * cdist(places, places) / 150) + 1e-9 * np.eye(700)) @ rng.normal(size=700)
    y = signal + 0.5 * rng.normal(size=700)
    model = OrdinaryKriging().fit(places[:500], y[:500])
    assert 60 < model.variogram_.range_km < 400
    assert np.corrcoef(model.predict(places[500:]), signal[500:])[0, 1] > 0.75
    noise = rng.normal(size=700)
    error = OrdinaryKriging().fit(places[:500], noise[:500]).predict(places[500:]) - noise[500:]
    assert np.mean(error**2) < 1.1 * np.var(noise[500:])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.sampled_from([3, 20]), st.floats(0, 0.9))
def test_shifts_scales_and_order(seed: int, n: int, n_neighbours: int, nugget: float) -> None:
    """Weights sum to one and depend on neither the values, the origin of the plane nor the order of the clusters."""
    rng = np.random.default_rng(seed)
    places, y, at = rng.uniform(0, 100, (n, 2)), rng.normal(size=n), rng.uniform(-20, 120, (7, 2))

    def predict(places: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
        model = OrdinaryKriging(n_neighbours=n_neighbours, variogram=Variogram(nugget, 1.0, 50.0))
        return model.fit(places, y).predict(at)

    expected, order = predict(places, y, at), rng.permutation(n)
    np.testing.assert_allclose(predict(places, 100 + 3 * y, at), 100 + 3 * expected, rtol=1e-6)
    np.testing.assert_allclose(predict(places + 500, y, at + 500), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predict(places[order], y[order], at), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(predict(places, y, at[3:5]), expected[3:5], rtol=1e-6, atol=1e-8)


def test_thousands_of_clusters_are_predicted_in_batches() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 3000, (6000, 2))
    field = np.sin(places[:, 0] / 200) + np.cos(places[:, 1] / 300)
    predicted = OrdinaryKriging().fit(places[:5000], field[:5000]).predict(places)
    np.testing.assert_allclose(predicted[:5000], field[:5000], atol=0.05)
    assert np.corrcoef(predicted[5000:], field[5000:])[0, 1] > 0.99


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: OrdinaryKriging(n_neighbours=1).fit(np.eye(3), np.arange(3.0)), "n_neighbours is 1"),
        (lambda: OrdinaryKriging(n_neighbours=True).fit(np.eye(3), np.arange(3.0)), "n_neighbours is True"),
        (lambda: OrdinaryKriging(model="linear").fit(np.eye(3), np.arange(3.0)), "'linear'"),  # type: ignore[arg-type]
        (lambda: Variogram(2.0, 1.0, 9.0), "nugget 2, sill 1"),
        (lambda: Variogram(0.0, 1.0, float("nan")), "range nan km"),
        (lambda: OrdinaryKriging().fit(np.zeros((3, 2)), np.arange(3.0)), "all 3 positions are the same"),
        (lambda: OrdinaryKriging().fit(np.array([[0, np.nan], [1, 2]]), np.arange(2.0)), "NaN or infinity"),
        (lambda: OrdinaryKriging().fit(np.eye(2), np.array([1.0, np.nan])), "1 of 2 outcomes"),
    ],
)
def test_bad_input(call: Callable[[], object], word: str) -> None:
    with pytest.raises(RegressionError, match=word):
        call()
