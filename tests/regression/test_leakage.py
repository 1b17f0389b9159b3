"""Folds that leak are refused, with the names of those involved; folds that do not are let through."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from geopov.errors import RegressionError
from geopov.regression.leakage import check_leakage

KM_PER_DEGREE = 110.574  # of latitude at the equator


def _row(km_north: list[float]) -> gpd.GeoDataFrame:
    ids = [f"c{i}" for i in range(len(km_north))]
    places = gpd.points_from_xy(np.full(len(ids), 30.0), np.array(km_north) / KM_PER_DEGREE)
    return gpd.GeoDataFrame({"cluster_id": ids}, geometry=places, crs="EPSG:4326")


def _pairs(*pairs: tuple[list[int], list[int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.array(train), np.array(test)) for train, test in pairs]


FOLDS = _pairs(([2, 3], [0, 1]), ([0, 1], [2, 3]))


def test_folds_apart_pass() -> None:
    check_leakage(_row([0, 2, 12, 15]), FOLDS, tile_km=9.9, buffer_km=9.9)


def test_an_overlapping_tile_is_named() -> None:
    message = (
        r"fold 1 leaks: training cluster c2 is 4\.00 km from test cluster c1; their tiles of 5 km overlap, .* 4\.00 km"
        r"\. 2 of 2 training clusters are too near\. Give the splits tile_km=5,"
    )
    with pytest.raises(RegressionError, match=message):
        check_leakage(_row([0, 2, 6, 6.5]), FOLDS, tile_km=5, buffer_km=0)


def test_a_cluster_inside_the_buffer_is_named() -> None:
    message = r"fold 1 leaks: training cluster c2 is 4\.00 km from test cluster c1; that is inside the buffer of 10 km"
    with pytest.raises(RegressionError, match=message + r".*1 of 2 training clusters.*buffer_km=10"):
        check_leakage(_row([0, 2, 6, 40]), FOLDS, tile_km=3, buffer_km=10)


def test_only_the_later_fold_leaks() -> None:
    clusters = _row([0, 2, 6, 40])
    with pytest.raises(RegressionError, match="fold 2 leaks: training cluster c0"):
        check_leakage(clusters, _pairs(([3], [0, 1]), ([0], [2])), tile_km=0, buffer_km=10)


def test_clusters_at_one_place_share_their_tile() -> None:
    clusters = _row([0, 50, 0, 90])
    with pytest.raises(RegressionError, match=r"c2 is 0\.00 km from test cluster c0"):
        check_leakage(clusters, FOLDS, tile_km=0.1, buffer_km=0)
    check_leakage(clusters, FOLDS, tile_km=0, buffer_km=0)


def test_a_cluster_on_both_sides() -> None:
    with pytest.raises(RegressionError, match=r"fold 2 trains on 1 of the clusters it tests \(c2\)"):
        check_leakage(_row([0, 2, 12, 15]), _pairs(([2, 3], [0, 1]), ([0, 1, 2], [2, 3])), tile_km=0, buffer_km=0)


@pytest.mark.parametrize(
    ("pairs", "where"),
    [
        (_pairs(([2, 3], [0, 1]), ([0], [1, 2])), "c1 in fold 1 and in fold 2"),
        (_pairs(([2, 3], [0, 0])), "c0 in fold 1 and in fold 1"),
    ],
)
def test_a_cluster_tested_twice(pairs: list[tuple[np.ndarray, np.ndarray]], where: str) -> None:
    with pytest.raises(RegressionError, match=where):
        check_leakage(_row([0, 2, 12, 15]), pairs, tile_km=0, buffer_km=0)


@pytest.mark.parametrize("test", [[4], [-1], [], [0.5], [[0]]])
def test_rows_of_another_table(test: list[object]) -> None:
    with pytest.raises(RegressionError, match="fold 1 is no list of row numbers from 0 to 3"):
        check_leakage(_row([0, 2, 12, 15]), [(np.array([2, 3]), np.array(test))], tile_km=0, buffer_km=0)


def test_bad_distances() -> None:
    with pytest.raises(RegressionError, match="tile_km"):
        check_leakage(_row([0, 2, 12, 15]), FOLDS, tile_km=-1, buffer_km=0)
    with pytest.raises(RegressionError, match="buffer_km"):
        check_leakage(_row([0, 2, 12, 15]), FOLDS, tile_km=0, buffer_km=float("nan"))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.floats(-60, 60), st.sampled_from([0.0, 4.0, 6.72]), st.sampled_from([0.0, 3.0, 8.0])
)
def test_leaks_are_found_exactly_where_brute_force_finds_them(
    seed: int, lat0: float, tile_km: float, buffer_km: float
) -> None:
    rng = np.random.default_rng(seed)
    n = 14
    lon, lat = (180 + rng.uniform(-0.4, 0.4, n)) % 360 - 180, lat0 + rng.uniform(-0.4, 0.4, n)
    clusters = gpd.GeoDataFrame(
        {"cluster_id": [f"c{i}" for i in range(n)]}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
    )
    train, test = np.arange(n // 2), np.arange(n // 2, n)
    a, b = np.repeat(train, len(test)), np.tile(test, len(train))
    azimuth, _, distance = Geod(ellps="WGS84").inv(lon[a], lat[a], lon[b], lat[b])
    offset = distance * np.maximum(np.abs(np.sin(np.radians(azimuth))), np.abs(np.cos(np.radians(azimuth))))
    margin = np.concatenate(
        [offset / 1000 / tile_km if tile_km else [], distance / 1000 / buffer_km if buffer_km else []]
    )
    if np.any(np.abs(margin - 1) < 0.01):
        return  # too close to call for an azimuth taken at one end
    if np.any(margin < 1):
        with pytest.raises(RegressionError, match="fold 1 leaks"):
            check_leakage(clusters, [(train, test)], tile_km=tile_km, buffer_km=buffer_km)
    else:
        check_leakage(clusters, [(train, test)], tile_km=tile_km, buffer_km=buffer_km)
