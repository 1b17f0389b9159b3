from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from geopov.errors import SurveyError
from geopov.grid import geodesic_area_km2
from geopov.survey import density_outliers, dropped, read_areas
from geopov.survey.areas.polygons import find_owners

KEYS = {"polygon_key": ["code"], "count_key": ["id"], "population": "people"}


def squares(codes: list[object], lat: float = 27.0) -> gpd.GeoDataFrame:
    """Squares of 0.1 degrees side by side."""
    shapes = [box(80 + i / 10, lat, 80.1 + i / 10, lat + 0.1) for i in range(len(codes))]
    return gpd.GeoDataFrame({"code": codes}, geometry=shapes, crs="EPSG:4326")


def test_density_uses_the_area_on_the_ellipsoid():
    areas = read_areas(squares([1], lat=60.0), pd.DataFrame({"id": [1], "people": [500]}), **KEYS)
    # The parallels of the square densified, since a geodesic between its corners leaves them.
    west_east = np.linspace(80, 80.1, 200)
    ring_lon = np.concatenate([west_east, west_east[::-1]])
    ring_lat = np.concatenate([np.full(200, 60.0), np.full(200, 60.1)])
    area = geodesic_area_km2(ring_lon, ring_lat)
    assert areas["area_km2"].item() == pytest.approx(area, rel=1e-6)
    assert areas["density"].item() == pytest.approx(500 / area, rel=1e-6)
    assert areas["log_density"].item() == pytest.approx(np.log(500 / area), rel=1e-6)


def test_pieces_of_one_area_are_united():
    whole = read_areas(squares([1, 2]), pd.DataFrame({"id": [1, 2], "people": [600, 100]}), **KEYS)
    polygons = squares([1, 2])
    polygons = gpd.GeoDataFrame(
        {"code": [1, 1, 2]},
        geometry=[box(80, 27, 80.03, 27.1), box(80.03, 27, 80.1, 27.1), polygons.geometry[1]],
        crs="EPSG:4326",
    )
    areas = read_areas(polygons, pd.DataFrame({"id": [1, 2], "people": [600, 100]}), **KEYS)
    assert areas["pieces"].tolist() == [2, 1]
    np.testing.assert_allclose(areas["density"], whole["density"])
    assert areas.geometry.geom_equals_exact(whole.geometry, 1e-9).all()


def test_overlapping_pieces_do_not_count_their_ground_twice():
    polygons = gpd.GeoDataFrame(
        {"code": [1, 1]}, geometry=[box(80, 27, 80.07, 27.1), box(80.03, 27, 80.1, 27.1)], crs="EPSG:4326"
    )
    counts = pd.DataFrame({"id": [1], "people": [600]})
    one = read_areas(squares([1]), counts, **KEYS)["area_km2"]
    np.testing.assert_allclose(read_areas(polygons, counts, **KEYS)["area_km2"], one)


def test_the_point_is_the_centroid_or_inside():
    horseshoe = Polygon([(0, 0), (3, 0), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)])
    polygons = gpd.GeoDataFrame({"code": [1, 2]}, geometry=[horseshoe, box(5, 0, 6, 1)], crs="EPSG:4326")
    points = read_areas(polygons, pd.DataFrame({"id": [1, 2], "people": [1, 1]}), **KEYS).geometry
    assert horseshoe.contains(points[0])
    assert not horseshoe.contains(horseshoe.centroid)
    assert points[1].distance(polygons.geometry[1].centroid) < 1e-3


def test_what_is_not_joined_is_listed_on_both_sides():
    polygons = squares(["01", "2", "9", None]).assign(name=["p", "q", "r", "s"])
    counts = pd.DataFrame({"id": [1, 2, 3, 4], "people": [10, 0, 30, 40]})
    areas = read_areas(polygons, counts, **KEYS, polygon_name="name")
    assert areas["cluster_id"].tolist() == ["1"]
    left_out = dropped(areas)
    assert left_out[["source", "id"]].to_numpy().tolist() == [
        ["polygons", "s"],
        ["polygons", "r"],
        ["counts", "3"],
        ["counts", "4"],
        ["clusters", "2"],
    ]
    assert left_out["reason"].tolist()[-1].startswith("no people")


def test_keys_of_several_columns_in_different_spellings():
    polygons = squares(["1.0", "०२"]).assign(district=[7.0, 7.0])
    counts = pd.DataFrame({"d": ["7", "07"], "w": [1, 2], "people": ["10", "20"], "label": ["x", "y"]})
    areas = read_areas(
        polygons, counts, polygon_key=["district", "code"], count_key=["d", "w"], population="people", keep=["label"]
    )
    assert areas["cluster_id"].tolist() == ["7-1", "7-2"]
    assert areas["population"].tolist() == [10.0, 20.0]
    assert areas["label"].tolist() == ["x", "y"]


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), people=st.lists(st.integers(1, 10**6), min_size=5, max_size=5))
def test_order_does_not_matter_and_no_one_is_lost(order, people):
    polygons, counts = squares([1, 2, 3, 3, 4]), pd.DataFrame({"id": range(5), "people": people})
    expected = read_areas(polygons, counts, **KEYS)
    found = read_areas(polygons.iloc[list(order)], counts.iloc[list(order)], **KEYS)
    pd.testing.assert_frame_equal(
        pd.DataFrame(found.drop(columns="geometry")).sort_values("cluster_id", ignore_index=True),
        pd.DataFrame(expected.drop(columns="geometry")).sort_values("cluster_id", ignore_index=True),
    )
    assert found["population"].sum() == sum(people[1:])


def test_owners_agree_with_overlay():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 3, (40, 2))
    small = gpd.GeoDataFrame(geometry=[box(x, y, x + 0.7, y + 0.6) for x, y in corners], crs="EPSG:6933")
    zones = gpd.GeoDataFrame(geometry=[box(i, j, i + 1, j + 1) for i in range(3) for j in range(3)], crs="EPSG:6933")
    small.index, zones.index = [f"s{i}" for i in range(40)], [f"z{i}" for i in range(9)]
    owners = find_owners(small, zones)
    pieces = gpd.overlay(
        small.reset_index(names="s"), zones.reset_index(names="z"), how="intersection", keep_geom_type=True
    )
    best = pieces.assign(part=pieces.area / (0.7 * 0.6)).sort_values("part").groupby("s").tail(1).set_index("s")
    assert owners["zone"].to_dict() == best["z"].reindex(owners.index).to_dict()
    np.testing.assert_allclose(owners["share"], best["part"].reindex(owners.index))


def test_a_polygon_outside_all_zones_has_no_owner():
    owners = find_owners(squares([1, 2]), squares([1]))
    assert owners["zone"].tolist()[0] == 0
    assert np.isnan(owners["zone"].tolist()[1])
    assert owners["share"].tolist() == [pytest.approx(1.0), pytest.approx(0.0)]


def test_density_outliers_are_measured_within_their_zone():
    areas = pd.DataFrame(
        {
            "cluster_id": list("abcdef"),
            "zone_id": ["x"] * 3 + ["y"] * 3,
            "population": 1.0,
            "area_km2": 1.0,
            "density": [1.0, 2.0, 50.0, 1000.0, 2000.0, 10.0],
        }
    )
    areas["log_density"] = np.log(areas["density"])
    far = density_outliers(areas)
    assert far["cluster_id"].tolist() == ["f", "c"]
    np.testing.assert_allclose(far["ratio"], [0.01, 25.0])


@pytest.mark.parametrize(
    ("polygons", "counts", "message"),
    [
        (squares([1]), {"id": [1, 1], "people": [1, 2]}, "stand more than once"),
        (squares([1]), {"id": [1], "people": [-1]}, "negative values"),
        (squares([1]), {"id": [1], "people": ["many"]}, "no number"),
        (squares([1]), {"id": [2], "people": [1]}, "name the same areas"),
        (squares([1]), {"id": [1], "people": [0]}, "no cluster is left"),
        (squares([1]), {"ward": [1], "people": [1]}, "no column 'id'"),
        (squares([1]).rename(columns={"code": "x"}), {"id": [1], "people": [1]}, "no column 'code'"),
        (squares([1]).set_crs(None, allow_override=True), {"id": [1], "people": [1]}, "no CRS"),
        (squares([1]).set_geometry(squares([1]).boundary), {"id": [1], "people": [1]}, "no polygons"),
        (pd.DataFrame({"code": [1]}), {"id": [1], "people": [1]}, "no geometry"),
    ],
)
def test_bad_input_is_named(polygons, counts, message):
    with pytest.raises(SurveyError, match=message):
        read_areas(polygons, pd.DataFrame(counts), **KEYS)


def test_keys_of_different_length():
    with pytest.raises(SurveyError, match="as many columns"):
        read_areas(squares([1]), pd.DataFrame(), polygon_key=["code"], count_key=["a", "b"], population="people")
