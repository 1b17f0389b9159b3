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
from geopov.regression._positions import Ground, local_km
from geopov.regression.leakage import check_leakage
from geopov.regression.splits import LeaveOneCountryOut, LeaveOneSurveyOut, Splits


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


def _offsets_km(clusters: gpd.GeoDataFrame, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Straight on the ground, and the larger of east and north, by the geodesic between two clusters."""
    lon, lat = clusters.geometry.x.to_numpy(), clusters.geometry.y.to_numpy()
    azimuth, _, distance = Geod(ellps="WGS84").inv(lon[a], lat[a], lon[b], lat[b])
    east, north = distance * np.sin(np.radians(azimuth)), distance * np.cos(np.radians(azimuth))
    return distance / 1000, np.maximum(np.abs(east), np.abs(north)) / 1000


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


@settings(max_examples=40, deadline=None)
@given(places(), st.integers(0, 5), st.sampled_from([2.0, 6.72, 30.0]), st.sampled_from([0.0, 5.0, 12.0]))
def test_tiles_and_buffer_leave_out_what_is_too_near_and_nothing_else(
    clusters: gpd.GeoDataFrame, seed: int, tile_km: float, buffer_km: float
) -> None:
    splits = SpatialBlocks(37.0, n_folds=4, seed=seed, buffer_km=buffer_km, tile_km=tile_km)
    pairs = list(splits.split(clusters))
    for train, test in pairs:
        out = np.setdiff1d(np.arange(len(clusters)), np.concatenate([train, test]))
        for rows, kept in ((train, True), (out, False)):
            distance, offset = _offsets_km(clusters, np.repeat(rows, len(test)), np.tile(test, len(rows)))
            # 1% for the azimuth, which is taken at one end.
            slack = 0.99 if kept else 1.01
            near = (offset < tile_km * slack) | (distance <= buffer_km * slack)
            near_any = near.reshape(len(rows), len(test)).any(axis=1)
            assert not near_any.any() if kept else near_any.all()
    check_leakage(clusters, pairs, tile_km=tile_km, buffer_km=buffer_km)
    order = np.random.default_rng(seed).permutation(len(clusters))
    for (train, test), (train_again, test_again) in zip(pairs, splits.split(clusters.iloc[order]), strict=True):
        assert set(train) == set(order[train_again])
        assert set(test) == set(order[test_again])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.sampled_from([0.0, 8.0]), st.sampled_from([0.0, 6.72, 25.0]))
def test_leave_one_country_out(seed: int, n_countries: int, buffer_km: float, tile_km: float) -> None:
    rng = np.random.default_rng(seed)
    n = 80
    country = np.concatenate([np.arange(n_countries), rng.integers(0, n_countries, n - n_countries)])
    clusters = _clusters(
        20 + country * 0.5 + rng.uniform(0, 0.6, n), rng.uniform(-3, 3, n), country=country.astype(str)
    )
    splits = LeaveOneCountryOut(buffer_km=buffer_km, tile_km=tile_km)
    pairs = list(splits.split(clusters))
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(n))
    assert splits.fold_names(clusters) == sorted(set(clusters["country"]))
    for name, (train, test) in zip(splits.fold_names(clusters), pairs, strict=True):
        assert set(clusters["country"].iloc[test]) == {name}
        assert name not in set(clusters["country"].iloc[train])
        distance, offset = _offsets_km(clusters, np.repeat(train, len(test)), np.tile(test, len(train)))
        assert distance.min() > buffer_km * 0.99
        assert offset.min() >= tile_km * 0.99
    np.testing.assert_array_equal(splits.block_ids(clusters), splits.assign(clusters))
    check_leakage(clusters, pairs, tile_km=tile_km, buffer_km=buffer_km)


def test_tiles_overlap_along_east_and_north_not_across() -> None:
    """9 km east and 9 km north is 12.7 km away: tiles of 10 km overlap, in a corner; tiles of 8.9 km do not."""
    lon, lat, _ = Geod(ellps="WGS84").fwd(30.0, 50.0, 45.0, 9000 * np.sqrt(2))
    clusters = _clusters(
        np.array([30.0, lon, 31.0, 32.0]), np.array([50.0, lat, 50.0, 50.0]), part=["a", "b", "c", "c"]
    )
    kept = {
        side: [list(train) for train, _ in GivenFolds("part", tile_km=side).split(clusters)] for side in (8.9, 10.0)
    }
    assert kept == {8.9: [[1, 2, 3], [0, 2, 3], [0, 1]], 10.0: [[2, 3], [2, 3], [0, 1]]}


def test_tiles_are_measured_at_the_place_not_on_a_plane_of_the_continent() -> None:
    """On a plane laid at the middle of Africa a square in the far north-west lies askew; on the ground it does not."""
    lon, lat, _ = Geod(ellps="WGS84").fwd(-16.0, 36.0, 45.0, 6500 * np.sqrt(2))
    clusters = _clusters(
        np.array([-16.0, lon, 50.0, 50.0, 20.0]),
        np.array([36.0, lat, -34.0, -33.0, 0.0]),
        part=["a", "b", "c", "c", "c"],
    )
    np.testing.assert_allclose(Ground.of(clusters).offset_km(np.array([0]), np.array([1])), 6.5, rtol=1e-3)
    on_plane = np.abs(np.diff(local_km(clusters)[:2], axis=0)).max()
    assert abs(on_plane - 6.5) > 0.5
    assert [len(train) for train, _ in GivenFolds("part", tile_km=6.6).split(clusters)] == [3, 3, 2]
    assert [len(train) for train, _ in GivenFolds("part", tile_km=6.4).split(clusters)] == [4, 4, 2]


def test_leave_one_survey_out() -> None:
    country = ["uga", "rwa", "uga", "rwa", "ken", "ken"]
    clusters = _clusters(
        np.linspace(28, 31, 6), np.zeros(6) - 1, country=country, year=[2011.0, 2014, 2016, 2014, 2014, 2014]
    )
    splits = LeaveOneSurveyOut()
    assert splits.fold_names(clusters) == ["ken 2014", "rwa 2014", "uga 2011", "uga 2016"]
    np.testing.assert_array_equal(splits.assign(clusters), [2, 1, 3, 1, 0, 0])
    named = clusters.assign(survey=["KE71", "RW70", "UG60", "RW70", "KE71", "KE71"])
    assert splits.fold_names(named) == ["KE71", "RW70", "UG60"]
    with pytest.raises(RegressionError, match=r"no 'survey' either.*no column 'year'"):
        splits.assign(clusters.drop(columns="year"))
    with pytest.raises(RegressionError, match="1 of 6 clusters have no value in the columns 'country' and 'year'"):
        splits.assign(clusters.assign(year=[np.nan, 2014, 2016, 2014, 2014, 2014]))


def test_leave_one_country_out_needs_three_countries() -> None:
    clusters = _clusters(np.linspace(28, 31, 6), np.zeros(6) - 1, country=["rwa", "uga"] * 3)
    with pytest.raises(RegressionError, match=r"2 different values \(rwa, uga\).*SpatialBlocks"):
        LeaveOneCountryOut().assign(clusters)
    with pytest.raises(RegressionError, match="no column 'country'"):
        LeaveOneCountryOut().assign(clusters.drop(columns="country"))


@pytest.mark.parametrize(
    ("splits", "leaks"), [(SpatialBlocks(9), False), (GivenFolds("a"), False), (RandomFolds(), True)]
)
def test_random_folds_alone_say_that_they_leak(splits: Splits, leaks: bool) -> None:
    assert splits.leaks is leaks
    assert "leaks" not in splits.describe()


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
    assert splits.describe() == {"name": "GivenFolds", "column": "country", "buffer_km": 0.0, "tile_km": 0.0}
    assert splits.fold_names(clusters) == ["ken", "rwa", "uga"]
    assert SpatialBlocks(30, n_folds=3).fold_names(clusters) == ["1", "2", "3"]
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
        (lambda: SpatialBlocks(10, tile_km=float("inf")), "tile_km"),
        (lambda: LeaveOneCountryOut(tile_km=-1), "tile_km"),
        (lambda: LeaveOneSurveyOut(buffer_km=-1), "buffer_km"),
    ],
)
def test_bad_parameters(make, word: str) -> None:
    with pytest.raises(RegressionError, match=word):
        make()
