"""Variograms of values whose correlation is known, by hand and by simulation, and the blocks they ask for."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from geopov.errors import RegressionError
from geopov.regression._positions import local_km, squares
from geopov.regression.splits import SpatialBlocks
from geopov.regression.variogram import (
    BlockAdvice,
    EmpiricalVariogram,
    Variogram,
    empirical_variogram,
    fit_variogram,
    suggest_block_km,
)


def _field(positions: np.ndarray, variogram: Variogram, seed: int) -> np.ndarray:
    distance = cdist(positions, positions)
    covariance = (variogram.sill - variogram.nugget) * variogram.correlation(distance)
    covariance += (variogram.nugget + 1e-9) * np.eye(len(positions))
    return np.linalg.cholesky(covariance) @ np.random.default_rng([seed, 7]).normal(size=len(positions))


def _clusters(n: int, *, seed: int = 0, side_degrees: float = 3.0) -> gpd.GeoDataFrame:
    rng = np.random.default_rng(seed)
    places = gpd.points_from_xy(28 + rng.uniform(0, side_degrees, n), -rng.uniform(0, side_degrees, n))
    return gpd.GeoDataFrame({"cluster_id": [f"c{i}" for i in range(n)]}, geometry=places, crs="EPSG:4326")


def _advice(n: int, variogram: Variogram, *, seed: int = 0, side_degrees: float = 3.0) -> BlockAdvice:
    clusters = _clusters(n, seed=seed, side_degrees=side_degrees)
    return suggest_block_km(clusters, _field(local_km(clusters), variogram, seed), seed=seed)


def test_three_places_by_hand() -> None:
    found = empirical_variogram([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]], [1.0, 3.0, 7.0], max_km=8.0)
    np.testing.assert_allclose(found.distance_km, [3, 4, 5])
    np.testing.assert_allclose(found.semivariance, [2, 8, 18])
    np.testing.assert_allclose(found.pairs, [1, 1, 1])


def test_relative_to_the_values_that_make_up_the_pairs() -> None:
    """A town whose values vary ten times more than those of villages, far apart: the town's pairs count relatively."""
    positions = np.array([[0.0, 0.0], [1.0, 0.0], [100.0, 0.0], [150.0, 0.0]])
    values = np.array([-10.0, 10.0, 1.0, -1.0])
    plain = empirical_variogram(positions, values, max_km=60.0)
    found = empirical_variogram(positions, values, relative=True, max_km=60.0)
    np.testing.assert_allclose(plain.semivariance, [200, 2])
    np.testing.assert_allclose(found.semivariance, 2 * values.var() * np.ones(2))  # correlation -1 in both


def test_clusters_close_together_where_values_vary_most_hide_no_correlation() -> None:
    rng = np.random.default_rng(0)
    towns = np.repeat(rng.uniform(0, 300, (15, 2)), 12, axis=0) + rng.normal(0, 3, (180, 2))
    positions = np.vstack([towns, rng.uniform(0, 300, (220, 2))])
    values = _field(positions, Variogram(0.2, 1.0, 25.0), 0) * np.repeat([2.0, 0.5], [180, 220])
    for relative, rises in ((False, False), (True, True)):
        found = empirical_variogram(positions, values, relative=relative)
        near, far = found.distance_km < 6, found.distance_km > 60
        levels = [np.average(found.semivariance[rows], weights=found.pairs[rows]) for rows in (near, far)]
        assert (levels[0] < 0.8 * levels[1]) == rises
    assert fit_variogram(found).range_km == pytest.approx(25, rel=0.6)


def test_a_large_mean_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    positions, values = rng.uniform(0, 100, (80, 2)), rng.normal(size=80)
    found = [empirical_variogram(positions, values + shift, relative=True).semivariance for shift in (0.0, 1e7)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_bins_hold_at_least_thirty_pairs() -> None:
    positions = np.random.default_rng(0).uniform(0, 100, (60, 2))
    assert empirical_variogram(positions, positions[:, 0]).pairs.min() >= 30


def test_two_places() -> None:
    found = empirical_variogram([[0.0, 0.0], [3.0, 4.0]], [1.0, 3.0])
    np.testing.assert_allclose([found.distance_km[0], found.semivariance[0], found.pairs[0]], [5, 2, 1])


def test_every_pair_up_to_half_the_diagonal_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    positions, values = rng.uniform(0, 100, (70, 2)), rng.normal(size=70)
    found = empirical_variogram(positions, values)
    distance, half_square = pdist(positions), pdist(values[:, None], "sqeuclidean") / 2
    near = distance <= np.linalg.norm(np.ptp(positions, axis=0)) / 2
    assert found.pairs.sum() == near.sum()
    assert found.pairs @ found.distance_km == pytest.approx(distance[near].sum())
    assert found.pairs @ found.semivariance == pytest.approx(half_square[near].sum())


def test_a_sample_of_places_gives_nearly_the_variogram_of_all() -> None:
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 300, (6000, 2))
    values = np.sin(positions[:, 0] / 30) + rng.normal(size=6000)
    found = empirical_variogram(positions, values, seed=1)
    again = empirical_variogram(positions, values, seed=1)
    np.testing.assert_array_equal(found.semivariance, again.semivariance)
    assert (found.semivariance != empirical_variogram(positions, values, seed=2).semivariance).any()
    distance, half_square = pdist(positions), pdist(values[:, None], "sqeuclidean") / 2
    middle = (distance > 60) & (distance < 120)
    ours = (found.distance_km > 60) & (found.distance_km < 120)
    expected = np.average(found.semivariance[ours], weights=found.pairs[ours])
    assert expected == pytest.approx(half_square[middle].mean(), rel=0.05)


@pytest.mark.parametrize("truth", [Variogram(0.3, 1.5, 40.0), Variogram(0.3, 1.5, 40.0, "spherical")])
def test_fit_recovers_a_variogram_without_error(truth: Variogram) -> None:
    distance = np.linspace(1, 100, 20)
    exact = EmpiricalVariogram(distance, truth.semivariance(distance), np.linspace(10, 900, 20))
    found = fit_variogram(exact, model=truth.model)
    np.testing.assert_allclose([found.nugget, found.sill, found.range_km], [0.3, 1.5, 40.0], rtol=1e-3)
    assert found.nugget_share == pytest.approx(0.2, rel=1e-3)


def test_models_at_known_distances() -> None:
    spherical, exponential = Variogram(1.0, 3.0, 10.0, "spherical"), Variogram(1.0, 3.0, 10.0)
    np.testing.assert_allclose(spherical.semivariance(np.array([5.0, 10.0, 20.0])), [1 + 2 * 0.6875, 3, 3])
    np.testing.assert_allclose(exponential.semivariance(np.array([10.0])), 3 - 2 * np.exp(-3))
    np.testing.assert_array_equal(Variogram(1.0, 1.0, 0.0).correlation(np.array([0.0, 1.0])), [1, 0])


@pytest.mark.parametrize("model", ["exponential", "spherical"])
@pytest.mark.parametrize("range_km", [40.0, 90.0])
def test_range_of_simulated_fields(model: str, range_km: float) -> None:
    """400 places, a fifth nugget: the median over 15 fields within 15%, four in five within a factor of 1.7."""
    truth = Variogram(0.2, 1.0, range_km, model)  # type: ignore[arg-type]
    ranges, nuggets, sills = [], [], []
    for seed in range(15):
        positions = np.random.default_rng(seed).uniform(0, 300, (400, 2))
        found = fit_variogram(empirical_variogram(positions, _field(positions, truth, seed)), model=truth.model)
        ranges.append(found.range_km / range_km)
        nuggets.append(found.nugget_share)
        sills.append(found.sill)
    assert np.median(ranges) == pytest.approx(1, rel=0.15)
    assert np.mean(np.abs(np.log(ranges)) < np.log(1.7)) >= 0.8
    assert np.median(nuggets) == pytest.approx(0.2, abs=0.08)
    assert np.median(sills) == pytest.approx(1, rel=0.15)


def test_blocks_as_wide_as_the_range() -> None:
    advised = [_advice(500, Variogram(0.2, 1.0, 60.0), seed=seed) for seed in range(12)]
    assert np.median([advice.block_km for advice in advised]) == pytest.approx(60, rel=0.2)
    found = [advice for advice in advised if "at least" in advice.text]
    assert len(found) >= 10
    for advice in found:
        assert advice.range_km <= advice.block_km * 1.001 <= advice.range_km * 1.2
        assert f"at least {advice.block_km:.0f} km wide" in advice.text
    capped = [advice for advice in advised if advice not in found]
    assert all(advice.block_km < advice.range_km and "too few" in advice.text for advice in capped)


def test_white_noise_needs_no_blocks() -> None:
    """Residuals of no pattern are called correlated in 5% of cases, by the test's own level; 60 fields, binomial."""
    found = [_advice(150, Variogram(1.0, 1.0, 0.0), seed=seed) for seed in range(60)]
    plain = [advice for advice in found if advice.range_km == 0]
    assert len(plain) >= 60 - 8
    assert all(advice.block_km == 10.0 and advice.nugget_share == 1.0 for advice in plain)
    assert all("any size will do" in advice.text and "10 km is the smallest" in advice.text for advice in plain)


def test_countries_are_looked_into_not_compared() -> None:
    clusters = _clusters(400)
    values = np.random.default_rng(0).normal(size=400)
    east = clusters.geometry.x > 29.5
    clusters["country"] = np.where(east, "uga", "rwa")
    advice = suggest_block_km(clusters, values + 5 * east)
    assert advice.range_km == 0
    apart = suggest_block_km(clusters.drop(columns="country"), values + 5 * east)
    assert apart.range_km > 100
    field = _field(local_km(clusters), Variogram(0.1, 1.0, 60.0), 1)
    assert "km within countries (nugget" in suggest_block_km(clusters, field + 5 * east).text


def test_a_range_beyond_the_survey_is_said() -> None:
    clusters = _clusters(200)
    trend = local_km(clusters)[:, 0]
    advice = suggest_block_km(clusters, trend / trend.std())
    assert "no block is wide enough" in advice.text
    assert len(set(squares(local_km(clusters), advice.block_km, 0))) >= 10


def test_blocks_stay_many_enough_for_folds() -> None:
    """A city of 20 km: the displacement of coordinates asks for blocks of 10 km, which would be four."""
    clusters = _clusters(200, side_degrees=0.18)
    advice = suggest_block_km(clusters, np.random.default_rng(0).normal(size=200))
    assert advice.block_km < 10
    assert SpatialBlocks(advice.block_km).assign(clusters).max() == 4


def test_few_clusters() -> None:
    advice = _advice(20, Variogram(0.1, 1.0, 60.0))
    assert np.isnan(advice.range_km)
    assert np.isnan(advice.nugget_share)
    assert "20 clusters are too few" in advice.text
    assert SpatialBlocks(advice.block_km).assign(_clusters(20)).max() == 4
    assert "with 60 clusters this is rough" in _advice(60, Variogram(0.1, 1.0, 60.0)).text


def test_residuals_that_do_not_vary() -> None:
    advice = suggest_block_km(_clusters(50), np.zeros(50))
    assert (advice.range_km, advice.block_km) == (0.0, 10.0)


def test_advice_does_not_depend_on_the_order_of_clusters() -> None:
    clusters = _clusters(150)
    values = _field(local_km(clusters), Variogram(0.1, 1.0, 80.0), 0)
    order = np.random.default_rng(0).permutation(150)
    again = suggest_block_km(clusters.iloc[order], values[order])
    assert again.range_km == pytest.approx(suggest_block_km(clusters, values).range_km, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: empirical_variogram(np.zeros((3, 2)), np.arange(3.0)), "all 3 positions are the same"),
        (lambda: empirical_variogram(np.eye(3), np.arange(2.0)), r"shape \(3, 3\) and values \(2,\)"),
        (lambda: empirical_variogram(np.eye(3), np.array([1.0, np.nan, 2.0])), "1 of 3 positions or values"),
        (lambda: empirical_variogram(np.eye(3), np.arange(3.0), max_km=-1), "max_km"),
        (lambda: empirical_variogram(np.eye(3), np.arange(3.0), max_km=1), "no two places are within max_km=1"),
        (lambda: fit_variogram(empirical_variogram(np.eye(3), np.arange(3.0)), model="linear"), "'linear'"),
        (lambda: suggest_block_km(_clusters(40), np.zeros(39)), r"values \(39,\)"),
    ],
)
def test_bad_input(call: Callable[[], object], word: str) -> None:
    with pytest.raises(RegressionError, match=word):
        call()
