"""Which baselines a sample allows, and what each of them predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geopov.regression import SpatialBlocks, WelfareRidge
from geopov.regression.baselines import LABELS, Baseline, GroupMean, TrainingMean, baselines_for
from geopov.regression.boosting import WelfareBoosting
from geopov.regression.neighbours import WelfareNeighbours
from geopov.regression.sample import Sample, join

ALL = [
    "nightlights_ridge",
    "nightlights_knn",
    "nightlights_boosting",
    "random_convolution",
    "urban_rural",
    "country_mean",
    "kriging",
    "training_mean",
]


@pytest.fixture(scope="module")
def sample(country: Any, as_features: Callable[..., Any]) -> Sample:
    """A sample that allows every baseline, in two countries east and west."""
    clusters = country.clusters.assign(country=np.where(country.clusters.geometry.x < 29.5, "west", "east"))
    convolved = as_features(country.features.to_numpy()[:, :6], list(clusters["cluster_id"]))
    return join(
        country.features,
        clusters,
        outcome="asset_wealth",
        lights=country.lights,
        others={"random_convolution": convolved},
    )


@pytest.fixture(scope="module")
def fold(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    splits = SpatialBlocks(block_km=60, n_folds=4)
    train, test = next(iter(splits.split(sample.clusters)))
    return train, test, splits.block_ids(sample.clusters)


def named(sample: Sample) -> dict[str, Baseline]:
    return {baseline.name: baseline for baseline in baselines_for(sample)}


def tiny(**columns: list[Any]) -> Sample:
    """Six clusters of which nothing is known but these columns; the outcome is 0 to 5."""
    y = np.arange(6.0)
    return Sample(
        clusters=pd.DataFrame(columns, index=range(6)),
        X=y[:, None],
        y=y,
        lights=None,
        feature_names=("f",),
        dropped=pd.DataFrame(),
        attrs={},
    )


def test_every_baseline_in_order_and_with_a_label(sample: Sample) -> None:
    found = baselines_for(sample)
    assert [baseline.name for baseline in found] == ALL == list(LABELS)
    assert [baseline.label for baseline in found] == list(LABELS.values())


def without_urban(sample: Sample) -> Sample:
    return replace(sample, clusters=sample.clusters.drop(columns="urban"))


def all_urban(sample: Sample) -> Sample:
    return replace(sample, clusters=sample.clusters.assign(urban=True))


def one_missing(sample: Sample) -> Sample:
    urban = sample.clusters["urban"].astype(object)
    urban.iloc[3] = None
    return replace(sample, clusters=sample.clusters.assign(urban=urban))


def one_country(sample: Sample) -> Sample:
    return replace(sample, clusters=sample.clusters.assign(country="west"))


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (without_urban, {"urban_rural"}),
        (all_urban, {"urban_rural"}),
        (one_missing, {"urban_rural"}),
        (one_country, {"country_mean"}),
        (lambda sample: replace(sample, lights=None), {name for name in ALL if name.startswith("nightlights")}),
        (lambda sample: replace(sample, others={}), {"random_convolution"}),
    ],
)
def test_only_what_the_sample_allows(sample: Sample, change: Callable[[Sample], Sample], missing: set[str]) -> None:
    assert [baseline.name for baseline in baselines_for(change(sample))] == [n for n in ALL if n not in missing]


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("nightlights_ridge", WelfareRidge()),
        ("nightlights_knn", WelfareNeighbours()),
        ("nightlights_boosting", WelfareBoosting()),
        ("random_convolution", WelfareRidge()),
    ],
)
def test_regressions_see_their_columns_and_whole_blocks(
    sample: Sample, fold: tuple[np.ndarray, ...], name: str, estimator: Any
) -> None:
    train, test, blocks = fold
    columns = sample.others["random_convolution"] if name == "random_convolution" else sample.lights
    assert columns is not None
    expected = estimator.fit(columns[train], sample.y[train], groups=blocks[train]).predict(columns[test])
    assert np.array_equal(named(sample)[name].predict(sample, train, test, blocks), expected)


@pytest.mark.parametrize("name", ALL)
def test_what_test_clusters_answered_is_not_looked_at(sample: Sample, fold: tuple[np.ndarray, ...], name: str) -> None:
    train, test, blocks = fold
    before = named(sample)[name].predict(sample, train, test, blocks)
    y = sample.y.copy()
    y[test] = 1e6
    secret = replace(sample, y=y)
    assert np.array_equal(named(secret)[name].predict(secret, train, test, blocks), before)
    assert before.shape == test.shape
    assert np.isfinite(before).all()


def test_group_means_by_hand() -> None:
    sample = tiny(urban=[True, True, False, False, True, False])
    train, test = np.array([0, 1, 2, 3]), np.array([5, 4])
    predicted = GroupMean("urban_rural", "urban").predict(sample, train, test, np.arange(6))
    assert predicted.tolist() == [2.5, 0.5]


def test_a_country_left_out_gets_the_mean_of_countries_not_of_clusters() -> None:
    sample = tiny(country=["a", "a", "a", "b", "c", "a"])
    train, test = np.array([0, 1, 2, 3]), np.array([4, 5])
    predicted = GroupMean("country_mean", "country").predict(sample, train, test, np.arange(6))
    # Country a has mean 1 and b 3: an unknown one is given 2, where the mean of the clusters is 1.5.
    assert predicted.tolist() == [2.0, 1.0]
    assert TrainingMean().predict(sample, train, test, np.arange(6)).tolist() == [1.5, 1.5]


def test_a_smooth_field_is_best_told_by_neighbours(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    east = sample.clusters.geometry.x.to_numpy()
    smooth = replace(sample, y=np.sin(4 * east))
    test = rng.choice(len(east), 60, replace=False)
    train = np.setdiff1d(np.arange(len(east)), test)
    errors = {
        name: float(np.mean((baseline.predict(smooth, train, test, np.arange(len(east))) - smooth.y[test]) ** 2))
        for name, baseline in named(smooth).items()
    }
    assert min(errors, key=errors.__getitem__) == "kriging"
    assert errors["kriging"] < 0.1 * errors["training_mean"]


def test_nightlights_that_carry_welfare_are_used(sample: Sample, fold: tuple[np.ndarray, ...]) -> None:
    train, test, blocks = fold
    baselines = named(sample)

    def mse(name: str) -> float:
        return float(np.mean((baselines[name].predict(sample, train, test, blocks) - sample.y[test]) ** 2))

    for name in ("nightlights_ridge", "nightlights_knn", "nightlights_boosting"):
        assert mse(name) < 0.85 * mse("training_mean")
