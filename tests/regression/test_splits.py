"""Every cluster tested once, blocks whole, buffers kept, whatever the places."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from geopov.errors import RegressionError
from geopov.regression import GivenFolds, RandomFolds, SpatialBlocks


def _clusters(lon: np.ndarray, lat: np.ndarray, **columns: object) -> gpd.GeoDataFrame:
    ids = [f"c{i}" for i in range(len(lon))]
    return gpd.GeoDataFrame({"cluster_id": ids, **columns}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")


@st.composite
def places(draw: st.DrawFn) -> gpd.GeoDataFrame:
    """Clusters in a few towns and scattered, anywhere on Earth, across the antimeridian too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lon0, lat0 = draw(st.floats(-180, 180)), draw(st.floats(-70, 70))
    n = draw(st.integers(40, 120))
    lon = (lon0 + rng.uniform(-3, 3, n) + 180) % 360 - 180
    lat = lat0 + np.where(
        rng.random(n) < 0.4, rng.choice([-2.0, 1.0], n) + rng.normal(0, 0.02, n), rng.uniform(-3, 3, n)
    )
    return _clusters(lon, lat)


@settings(max_examples=40, deadline=None)
@given(
    places(), st.integers(2, 6), st.integers(0, 5), st.sampled_from([10.0, 37.0, 60.0]), st.sampled_from([0.0, 15.0])
)
def test_spatial_blocks(clusters: gpd.GeoDataFrame, n_folds: int, seed: int, block_km: float, buffer_km: float) -> None:
    splits = SpatialBlocks(block_km, n_folds=n_folds, seed=seed, buffer_km=buffer_km)
    folds, blocks = splits.assign(clusters), splits.block_ids(clusters)
    tested = np.concatenate([test for _, test in splits.split(clusters)])
    assert sorted(tested) == list(range(len(clusters)))
    assert set(folds) == set(range(n_folds))
    assert all(len(set(folds[blocks == block])) == 1 for block in set(blocks))
    largest = np.bincount(blocks).max()
    assert np.ptp(np.bincount(folds)) <= largest  # no fold exceeds another by more than one block
    lon, lat = clusters.geometry.x.to_numpy(), clusters.geometry.y.to_numpy()
    geod = Geod(ellps="WGS84")
    for train, test in splits.split(clusters):
        assert not set(train) & set(test)
        a, b = np.repeat(train, len(test)), np.tile(test, len(train))
        distance_km = geod.inv(lon[a], lat[a], lon[b], lat[b])[2] / 1000
        assert buffer_km == 0 or distance_km.min() > buffer_km * (1 - 1e-6)
        if buffer_km == 0:
            assert len(train) + len(test) == len(clusters)
    order = np.random.default_rng(0).permutation(len(clusters))
    np.testing.assert_array_equal(splits.assign(clusters.iloc[order]), folds[order])


@pytest.mark.parametrize("lat", [-55.0, 0.0, 30.0, 65.0])
def test_blocks_are_square_kilometres_on_the_ground(lat: float) -> None:
    rng = np.random.default_rng(0)
    half_lat = 1.5
    half_lon = half_lat / np.cos(np.radians(lat))
    clusters = _clusters(
        rng.uniform(10 - half_lon, 10 + half_lon, 4000), rng.uniform(lat - half_lat, lat + half_lat, 4000)
    )
    blocks = SpatialBlocks(50).block_ids(clusters)
    geod = Geod(ellps="WGS84")
    for block in np.flatnonzero(np.bincount(blocks) > 60)[:8]:
        lon, at = clusters.geometry.x[blocks == block], clusters.geometry.y[blocks == block]
        north_km = geod.inv(lon.mean(), at.min(), lon.mean(), at.max())[2] / 1000
        east_km = geod.inv(lon.min(), at.mean(), lon.max(), at.mean())[2] / 1000
        assert 35 < north_km < 53
        assert 35 < east_km < 53


def test_seed_changes_and_repeats_the_split() -> None:
    rng = np.random.default_rng(0)
    clusters = _clusters(rng.uniform(28, 31, 200), rng.uniform(-3, 0, 200))
    first = SpatialBlocks(40, seed=1).assign(clusters)
    np.testing.assert_array_equal(SpatialBlocks(40, seed=1).assign(clusters), first)
    assert (SpatialBlocks(40, seed=2).assign(clusters) != first).any()
    assert (RandomFolds(seed=1).assign(clusters) != RandomFolds(seed=2).assign(clusters)).any()


def test_too_few_blocks_names_a_size_that_works() -> None:
    rng = np.random.default_rng(0)
    clusters = _clusters(rng.uniform(28, 31, 100), rng.uniform(-3, 0, 100))
    with pytest.raises(
        RegressionError, match=r"block_km=2000 puts 100 clusters into \d blocks.*Take block_km="
    ) as raised:
        SpatialBlocks(2000).assign(clusters)
    suggested = float(str(raised.value).split("Take block_km=")[1].split()[0])
    assert SpatialBlocks(suggested).assign(clusters).max() == 4


def test_clusters_at_one_place_cannot_be_blocked() -> None:
    with pytest.raises(RegressionError, match="almost at one place"):
        SpatialBlocks(10, n_folds=2).assign(_clusters(np.full(9, 30.0), np.full(9, -2.0)))


def test_a_buffer_that_takes_everything_is_refused() -> None:
    rng = np.random.default_rng(0)
    clusters = _clusters(rng.uniform(28, 31, 60), rng.uniform(-3, 0, 60))
    with pytest.raises(RegressionError, match="buffer of 900 km"):
        list(SpatialBlocks(40, buffer_km=900).split(clusters))


def test_random_folds_are_even() -> None:
    clusters = _clusters(np.linspace(28, 31, 52), np.zeros(52) - 1)
    assert sorted(np.bincount(RandomFolds(n_folds=5).assign(clusters))) == [10, 10, 10, 11, 11]
    with pytest.raises(RegressionError, match="too few for 60 folds"):
        RandomFolds(n_folds=60).assign(clusters)


def test_given_folds() -> None:
    clusters = _clusters(np.linspace(28, 31, 6), np.zeros(6) - 1, country=["rwa", "uga", "rwa", "ken", "uga", "ken"])
    splits = GivenFolds("country")
    np.testing.assert_array_equal(splits.assign(clusters), [1, 2, 1, 0, 2, 0])
    np.testing.assert_array_equal(splits.block_ids(clusters), splits.assign(clusters))
    assert [list(test) for _, test in splits.split(clusters)] == [[3, 5], [0, 2], [1, 4]]
    assert splits.describe() == {"name": "GivenFolds", "column": "country", "buffer_km": 0.0}
    with pytest.raises(RegressionError, match="no column 'survey'"):
        GivenFolds("survey").assign(clusters)
    with pytest.raises(RegressionError, match="2 different values"):
        GivenFolds("country").assign(clusters[clusters["country"] != "ken"])
    with pytest.raises(RegressionError, match="1 of 6 clusters have no value"):
        GivenFolds("country").assign(clusters.assign(country=["rwa", None, "rwa", "ken", "uga", "ken"]))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SpatialBlocks(0), "block_km"),
        (lambda: SpatialBlocks(float("nan")), "block_km"),
        (lambda: SpatialBlocks(10, n_folds=1), "n_folds"),
        (lambda: SpatialBlocks(10, buffer_km=-1), "buffer_km"),
        (lambda: RandomFolds(n_folds=1), "n_folds"),
        (lambda: GivenFolds("a", buffer_km=-2), "buffer_km"),
    ],
)
def test_bad_parameters(make, word: str) -> None:
    with pytest.raises(RegressionError, match=word):
        make()
