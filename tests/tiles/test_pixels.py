"""Native tiles are rasterio windows, bit for bit, whatever the layout, type, CRS and marks of missing pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from geopov.grid import ground_scale
from geopov.raster import Scene
from geopov.tiles import TileSpec, extract

# The oracle, rasterio 1.4, multiplies transforms in a way that affine 3.1 is about to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]
Noise = Callable[..., np.ndarray]


def boundless(path: Path, column: int, row: int, size: int) -> np.ndarray:
    """The oracle: rasterio's window, padded with 0."""
    with rasterio.open(path) as dataset:
        found: np.ndarray = dataset.read(window=Window(column, row, size, size), boundless=True, fill_value=0)
    return found


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("layout", [{"block": 64}, {"block": None}, {"block": 64, "interleave": "band"}])
def test_native_windows(raster: Raster, points: Points, pixels: Noise, dtype: str, layout: dict[str, Any]) -> None:
    data = pixels(1, 3, 300, 400, dtype)
    path = raster("a", data, **layout)
    rng = np.random.default_rng(0)
    size = 37
    column, row = rng.integers(-size + 1, 400, 60), rng.integers(-size + 1, 300, 60)
    centres = points(500_000 + (column + size / 2) * 10, 9_700_000 - (row + size / 2) * 10)
    tiles = extract(path, centres, TileSpec(size, 10))
    batch = tiles.read(np.arange(60))
    assert batch.data.dtype == dtype
    inside = np.pad(np.ones((300, 400), dtype=bool), size)
    for i in range(60):
        np.testing.assert_array_equal(batch.data[i], boundless(path, column[i], row[i], size))
        expected = inside[row[i] + size : row[i] + 2 * size, column[i] + size : column[i] + 2 * size]
        np.testing.assert_array_equal(batch.valid[i], expected)


@pytest.mark.parametrize(
    ("crs", "origin", "pixel", "resolution_m"),
    [
        ("EPSG:32736", (500_000, 9_700_000), 10.0, 10),
        ("EPSG:32633", (300_000, 6_600_000), 30.0, 30),
        ("EPSG:3857", (1_700_000, -480_000), 38.2, 38.2 * 0.9972),
        ("EPSG:4326", (30.0, 0.5), 0.00025, 27.8),
        ("ESRI:54009", (2_500_000, 60_000), 250.0, None),
    ],
)
def test_native_in_any_crs(
    raster: Raster, points: Points, pixels: Noise, crs: str, origin: Any, pixel: float, resolution_m: float | None
) -> None:
    data = pixels(2, 2, 120, 150)
    path = raster("a", data, crs=crs, origin=origin, pixel=pixel)
    column, row, size = 41, 29, 32
    x, y = origin[0] + (column + size / 2) * pixel, origin[1] - (row + size / 2) * pixel
    scale_x, scale_y = ground_scale(crs, [x], [y])
    if crs == "ESRI:54009":
        # Equal-area, not equal-angle: a square pixel is no square on the ground, so nothing is native.
        assert abs(scale_x[0] / scale_y[0] - 1) > 0.01
        return
    assert resolution_m == pytest.approx(pixel * scale_x[0], rel=0.01)
    batch = extract(path, points(x, y, crs), TileSpec(size, resolution_m)).read([0])
    np.testing.assert_array_equal(batch.data[0], data[:, row : row + size, column : column + size])


@given(dx=st.floats(-0.49, 0.49), dy=st.floats(-0.49, 0.49), size=st.integers(1, 40), stretch=st.floats(0.991, 1.009))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_centre_within_half_a_pixel(
    raster: Raster, points: Points, pixels: Noise, dx: float, dy: float, size: int, stretch: float
) -> None:
    data = pixels(3, 1, 100, 100)
    path = raster("a", data)
    column, row = 30, 20
    # An odd offset off a pixel corner still picks the nearest window; 0.9996 is UTM's scale at its meridian.
    x, y = 500_000 + (column + size / 2 + dx) * 10, 9_700_000 - (row + size / 2 + dy) * 10
    batch = extract(path, points(x, y), TileSpec(size, 10 * stretch)).read([0])
    np.testing.assert_array_equal(batch.data[0], data[:, row : row + size, column : column + size])


def test_overview_windows(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(4, 2, 512, 512), overviews=[2, 4, 8])
    for level, factor in enumerate((2, 4, 8)):
        with rasterio.open(path, overview_level=level) as dataset:
            expected = dataset.read(window=Window(5, 9, 20, 20))
        centre = points(500_000 + 15 * 10 * factor, 9_700_000 - 19 * 10 * factor)
        batch = extract(path, centre, TileSpec(20, 10 * factor)).read([0])
        np.testing.assert_array_equal(batch.data[0], expected)


def test_context_is_around_the_tile(raster: Raster, points: Points, pixels: Noise) -> None:
    data = pixels(5, 1, 200, 200)
    path = raster("a", data)
    centre = points(501_000.0, 9_699_000.0)
    bare = extract(path, centre, TileSpec(24, 10)).read([0]).data[0]
    wide = extract(path, centre, TileSpec(24, 10, context_px=7)).read([0]).data[0]
    assert wide.shape == (1, 38, 38)
    np.testing.assert_array_equal(wide[:, 7:-7, 7:-7], bare)


@pytest.mark.parametrize("mark", ["tag", "argument", "mask", "nan"])
def test_missing_pixels(raster: Raster, points: Points, pixels: Noise, mark: str) -> None:
    hole = np.zeros((150, 150), dtype=bool)
    hole[40:80, 60:63] = hole[66, 20:90] = True
    data = pixels(6, 2, 150, 150, "float32" if mark == "nan" else "uint16")
    data[:, hole] = np.nan if mark == "nan" else 7
    if mark != "mask":
        data[0, hole] = 3  # missing in one band is missing
    data[:, ~hole & (data == 7).any(axis=0)] = 8
    options = {"tag": {"nodata": 7}, "mask": {"mask": ~hole}}.get(mark, {})
    scene = Scene.open(raster("a", data, **options), nodata=7 if mark == "argument" else None)
    batch = extract(scene, points(500_750.0, 9_699_250.0), TileSpec(80, 10)).read([0])
    window = np.s_[35:115, 35:115]
    np.testing.assert_array_equal(batch.valid[0], ~hole[window])
    np.testing.assert_array_equal(batch.data[0], np.where(hole, 0, data)[:, 35:115, 35:115])


def test_bands_in_one_file_or_one_each(raster: Raster, points: Points, pixels: Noise) -> None:
    data = pixels(7, 4, 130, 130)
    data[2, 50:60, 50:70] = 0
    together = raster("all", data, nodata=0)
    apart = [raster(f"b{i}", data[i : i + 1], nodata=0, block=(64, None, 32, 16)[i]) for i in range(4)]
    centres = points([500_600.0, 500_100.0, 501_250.0], [9_699_400.0, 9_699_900.0, 9_699_400.0])
    one = extract(together, centres, TileSpec(40, 10)).read([0, 1, 2])
    many = extract(Scene.open(apart), centres, TileSpec(40, 10)).read([0, 1, 2])
    np.testing.assert_array_equal(one.valid, many.valid)
    np.testing.assert_array_equal(one.data, many.data)
    picked = extract(Scene.open(together, bands=[3, 1]), centres, TileSpec(40, 10)).read([0, 1, 2])
    np.testing.assert_array_equal(picked.data[picked.valid.nonzero()[0]].shape[1], 2)
    both = picked.valid & one.valid
    np.testing.assert_array_equal(np.moveaxis(picked.data, 1, -1)[both], np.moveaxis(one.data[:, [2, 0]], 1, -1)[both])
