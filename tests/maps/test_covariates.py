from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import CRS
from shapely.geometry import box

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.covariates import focal_mean, lights, outline_size, position, stack, terrain

GRID = CellGrid(CRS.from_epsg(32645), Affine(1000, 0, 200_000, 0, -1000, 3_120_000), 12, 9)
WIDE = CellGrid(CRS.from_epsg(32645), Affine(1000, 0, 200_000, 0, -1000, 3_120_000), 61, 61)


def test_a_mean_of_one_bright_cell_is_the_gaussian():
    values = np.zeros((61, 61))
    values[30, 30] = 1.0
    mean = focal_mean(values, grid=WIDE, radius_km=4.0)
    assert mean.sum() == pytest.approx(1.0)
    # exp(-r² / 2s²): 4 km away it is e^-0.5 of the peak, along either axis and down the other.
    assert mean[30, 34] / mean[30, 30] == pytest.approx(np.exp(-0.5), rel=1e-6)
    assert mean[26, 30] == pytest.approx(mean[30, 34])


def test_unknown_cells_have_no_weight_in_a_mean():
    values = np.full((9, 12), 5.0)
    values[:, :3] = np.nan
    mean = focal_mean(values, grid=GRID, radius_km=1.0)
    assert mean[:, 2:] == pytest.approx(5.0)
    assert np.isnan(focal_mean(np.full((9, 12), np.nan), grid=GRID, radius_km=1.0)).all()


@given(arrays(float, (9, 12), elements=st.floats(-50, 50)), st.floats(0.6, 20))
def test_a_mean_stays_within_its_values(values, radius_km):
    mean = focal_mean(values, grid=GRID, radius_km=radius_km)
    assert mean.min() >= values.min() - 1e-9
    assert mean.max() <= values.max() + 1e-9


def test_lights_of_one_lamp():
    radiance = np.zeros((9, 12))
    radiance[4, 5] = 2.0
    radiance[0, 0] = -0.7
    layers = lights(radiance, grid=GRID, radii_km=(1, 4), thresholds=(1, 5))
    assert layers["log_light"][4, 5] == pytest.approx(np.log(2.1))
    assert layers["log_light"][0, 0] == pytest.approx(np.log(0.1))
    assert layers["log_light_squared"][0, 0] == pytest.approx(np.log(0.1) ** 2)
    assert layers["to_light_1"][4, 8] == pytest.approx(np.log1p(3.0))
    assert layers["to_light_1"][1, 1] == pytest.approx(np.log1p(5.0))
    # Nothing is that bright: as far as the grid reaches.
    assert layers["to_light_5"] == pytest.approx(np.log1p(15.0))
    assert layers["lit_1km"].max() == layers["lit_1km"][4, 5] < 1
    assert set(layers) == {
        *("log_light", "log_light_squared", "to_light_1", "to_light_5"),
        *(f"{name}_{radius}km" for name in ("log_light", "light", "lit") for radius in (1, 4)),
    }


def test_radii_within_a_cell_are_left_out():
    layers = lights(np.ones((9, 12)), grid=GRID, radii_km=(0.3, 2), thresholds=())
    assert [name for name in layers if name.endswith("km")] == ["log_light_2km", "light_2km", "lit_2km"]


def test_unknown_light_stays_unknown_and_is_no_distance():
    radiance = np.full((9, 12), 3.0)
    radiance[2, 2] = np.nan
    layers = lights(radiance, grid=GRID, radii_km=(2,), thresholds=(1,))
    assert np.isnan(layers["log_light"][2, 2])
    assert layers["log_light_2km"][2, 2] == pytest.approx(np.log(3.1))
    assert layers["to_light_1"][2, 2] == pytest.approx(np.log1p(1.0))


def test_slope_of_a_plane():
    y, x = np.mgrid[:61, :61]
    layers = terrain(100 + 30.0 * x + 40.0 * y, grid=WIDE, smooth_km=2)
    assert layers["slope"][30, 30] == pytest.approx(50.0)
    assert layers["elevation"][0, 0] == pytest.approx(0.1)
    assert layers["elevation_squared"][0, 0] == pytest.approx(0.01)
    assert layers["log_elevation"][0, 0] == pytest.approx(np.log(100))
    assert terrain(np.full((61, 61), -20.0), grid=WIDE)["log_elevation"] == pytest.approx(np.log(50))


def test_position_counts_from_the_middle():
    layers = position(WIDE)
    assert layers["east"][30, 30] == pytest.approx(0)
    assert layers["east"][0, 60] == pytest.approx(0.3)
    assert layers["north"][0, 0] == pytest.approx(0.3)


def test_outlines_tell_their_size_within_their_parent():
    west, _, _, north = GRID.bounds
    # Two parents side by side; in each a strip one cell high above a block three high: areas 6 and 18 km².
    shapes = [
        box(west + x, north - y1, west + x + 6000, north - y0)
        for x in (0, 6000)
        for y0, y1 in ((0, 1000), (1000, 4000))
    ]
    polygons = gpd.GeoDataFrame({"parent": list("aabb")}, geometry=shapes, crs=GRID.crs)
    size = outline_size(polygons, grid=GRID, parent_column="parent")
    assert size[0] == pytest.approx(-np.log(3) / 2, abs=1e-3)
    assert size[1:4] == pytest.approx(np.log(3) / 2, abs=1e-3)
    assert np.isnan(size[4:]).all()
    # The same outlines twice as wide say the same: only what is unlike its neighbours tells.
    half = outline_size(polygons.iloc[:2], grid=GRID, parent_column="parent")
    assert half[:4, :6] == pytest.approx(size[:4, :6], abs=1e-3)


def test_a_cell_between_two_outlines_has_their_mean():
    west, _, _, north = GRID.bounds
    shapes = [
        box(west, north - 1000, west + 2500, north),
        box(west + 2500, north - 1000, west + 12000, north),
    ]
    polygons = gpd.GeoDataFrame({"parent": [1, 1]}, geometry=shapes, crs=GRID.crs)
    size = outline_size(polygons, grid=GRID, parent_column="parent")
    assert size[0, 2] == pytest.approx((size[0, 0] + size[0, 11]) / 2, abs=1e-6)


def test_a_stack_keeps_order():
    values, names = stack({"b": np.zeros((2, 3)), "a": np.ones((2, 3))})
    assert names == ("b", "a")
    assert values.shape == (2, 2, 3)
    assert values[1].all()


def _one(shape, crs=GRID.crs):
    return gpd.GeoDataFrame({"parent": [1]}, geometry=[shape], crs=crs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: focal_mean(np.zeros((3, 3)), grid=GRID, radius_km=1), r"shape \(3, 3\); expected \(9, 12\)"),
        (lambda: focal_mean(np.zeros((9, 12)), grid=GRID, radius_km=0), "radius_km is 0"),
        (lambda: lights(np.full((9, 12), np.nan), grid=GRID), "no cell has a known radiance"),
        (lambda: lights(np.zeros((9, 12)), grid=GRID, offset=0), "offset is 0"),
        (lambda: lights(np.zeros((9, 12)), grid=GRID, radii_km=(1, -1)), "radius"),
        (lambda: stack({"a": np.zeros((2, 3)), "b": np.zeros((3, 2))}), "shapes"),
        (lambda: stack({}), "shapes"),
        (lambda: outline_size(_one(box(0, 0, 1, 1), crs=None), grid=GRID, parent_column="parent"), "no CRS"),
        (lambda: outline_size(_one(box(0, 0, 1, 1)), grid=GRID, parent_column="district"), "no column 'district'"),
        (lambda: outline_size(_one(box(0, 0, 0, 1)), grid=GRID, parent_column="parent"), "no area"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(MapError, match=message):
        call()
