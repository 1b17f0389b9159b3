"""Weights by hand, and rasters brought to a grid: what a pixel holds goes where the pixel lies."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from geopov.errors import MapError, RasterError
from geopov.grid import CellGrid
from geopov.maps.density.weights import METHODS, equal_area, proportional, resample_to, settlement
from geopov.raster import Scene

GRID = CellGrid.from_bounds(
    (200_000, 3_111_000, 212_000, 3_120_000), cell_m=1000, bounds_crs="EPSG:32645", crs="EPSG:32645"
)


def origin(west, north, dx, dy):
    return Affine(dx, 0, west, 0, -dy, north)


def write(path, values, transform, crs, nodata=None, names=()):
    bands = np.atleast_3d(np.moveaxis(values, 0, -1)) if values.ndim == 3 else values[..., None]
    profile = {"driver": "GTiff", "dtype": values.dtype, "crs": crs, "transform": transform, "nodata": nodata}
    height, width, count = bands.shape
    with rasterio.open(path, "w", height=height, width=width, count=count, **profile) as target:
        target.write(np.moveaxis(bands, -1, 0))
        if names:
            target.descriptions = tuple(names)
    return path


def test_methods_by_hand(grid):
    assert equal_area(grid).shape == (9, 12)
    assert set(np.unique(equal_area(grid))) == {1.0}
    values = np.array([[4.0, 0.0, -0.3, np.nan]])
    np.testing.assert_allclose(proportional(values), [[4, 0, 0, np.nan]])
    np.testing.assert_allclose(proportional(values, power=0.5, offset=5), [[3, 5**0.5, 5**0.5, np.nan]])
    np.testing.assert_allclose(settlement(np.array([[True, False]])), [[1, 0]])
    np.testing.assert_allclose(settlement(np.array([[0.25, np.nan]])), [[0.25, 0]])
    assert list(METHODS.values()) == [equal_area, proportional, settlement]
    assert list(METHODS) == ["equal_area", "proportional", "settlement"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: proportional(np.ones(2), power=0), "power is 0"),
        (lambda: proportional(np.ones(2), power=np.nan), "power is nan"),
        (lambda: proportional(np.ones(2), offset=-1), "offset is -1"),
        (lambda: settlement(np.array([0, 255])), "from 0 to 255"),
    ],
)
def test_weights_that_cannot_be(make, message):
    with pytest.raises(MapError, match=message):
        make()


def test_aligned_blocks_are_plain_sums_and_means(tmp_path):
    values = np.random.default_rng(0).uniform(0, 9, (36, 48))
    path = write(tmp_path / "fine.tif", values, origin(200_000, 3_120_000, 250, 250), "EPSG:32645")
    blocks = values.reshape(9, 4, 12, 4)
    np.testing.assert_allclose(resample_to(GRID, path, how="sum"), blocks.sum(axis=(1, 3)))
    np.testing.assert_allclose(resample_to(GRID, path), blocks.mean(axis=(1, 3)))
    coarse = CellGrid(GRID.crs, Affine(100, 0, 200_000, 0, -100, 3_120_000), 120, 90)
    finer = resample_to(coarse, path, how="sum")
    assert finer.sum() == pytest.approx(values.sum())
    # Cells 3 to 5 of a row lie half across the border of two pixels.
    assert finer[0, 2] == pytest.approx((values[0, 0] + values[0, 1]) / 2 * 100 * 100 / 250**2)
    np.testing.assert_allclose(resample_to(coarse, path)[0, :3], [values[0, 0]] * 2 + [values[0, :2].mean()])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["ESRI:54009", "EPSG:4326", "EPSG:3857", "EPSG:6933"]), st.floats(0.05, 3), st.integers(0, 99))
def test_sums_are_kept_in_any_crs(tmp_path_factory, crs, size, seed):
    """A raster inside the grid keeps its total, whatever the size of its pixels."""
    rng = np.random.default_rng(seed)
    x, y = Transformer.from_crs(GRID.crs, crs, always_xy=True).transform(204_000, 3_117_000)
    unit = (1 / 111_000 if crs == "EPSG:4326" else 1) * size * 1000
    n = max(1, int(4 / size))
    values = rng.gamma(0.3, 100, (n, n)).astype("float32")
    path = write(tmp_path_factory.mktemp("sum") / "counts.tif", values, origin(x, y, unit, unit), crs)
    people = resample_to(GRID, path, how="sum")
    assert np.nansum(people) == pytest.approx(values.sum(dtype=float), rel=1e-9)


def test_each_cell_against_polygons(tmp_path):
    rng = np.random.default_rng(3)
    values = rng.uniform(1, 2, (12, 14)).astype("float64")
    values[3:5, 4:7] = np.nan
    transform = origin(83.93, 28.2, 0.012, 0.009)
    path = write(tmp_path / "degrees.tif", values, transform, "EPSG:4326")
    to_grid = Transformer.from_crs("EPSG:4326", GRID.crs, always_xy=True)
    total, weight = np.zeros((9, 12)), np.zeros((9, 12))
    x, y = GRID.centres()
    cells = shapely.box(x - 500, y - 500, x + 500, y + 500)
    for (row, column), value in np.ndenumerate(values):
        ring = [transform @ (column + i, row + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        pixel = shapely.Polygon(np.column_stack(to_grid.transform(*np.transpose(ring))))
        shared = shapely.area(shapely.intersection(cells, pixel))
        if np.isfinite(value):
            total += value * shared
            weight += shared
    with np.errstate(invalid="ignore"):
        expected = np.where(weight > 0, total / weight, np.nan)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(resample_to(GRID, path), expected, rtol=1e-7)


def test_means_agree_with_gdal(tmp_path):
    x = np.linspace(0, 6, 800)
    values = np.sin(x)[None, :] + np.cos(x)[:600, None]
    transform = origin(83.8, 28.3, 0.0005, 0.0005)
    path = write(tmp_path / "smooth.tif", values, transform, "EPSG:4326")
    ours, gdal = resample_to(GRID, path), np.empty((9, 12))
    reproject(
        values,
        gdal,
        src_transform=transform,
        src_crs="EPSG:4326",
        dst_transform=GRID.transform,
        dst_crs=GRID.crs,
        resampling=Resampling.average,
    )
    np.testing.assert_allclose(ours, gdal, atol=0.005)


@pytest.mark.parametrize(
    ("missing", "declared", "options"),
    [
        (-3.4028234663852886e38, None, {}),
        (-3.4028234663852886e38, -3.4028234663852886e38, {}),
        (np.inf, None, {}),
        (np.nan, None, {}),
        (-999.0, None, {"nodata": -999}),
        (-999.0, None, {"valid_min": -1.5}),
        (-0.1, -0.1, {}),
    ],
)
def test_missing_values_declared_or_not(tmp_path, missing, declared, options):
    values = np.full((9, 12), 2.0, dtype="float32")
    values[:, :6] = missing
    path = write(tmp_path / "holes.tif", values, GRID.transform, "EPSG:32645", nodata=declared)
    for how in ("mean", "sum"):
        result = resample_to(GRID, path, how=how, **options)
        assert np.isnan(result[:, :6]).all()
        np.testing.assert_allclose(result[:, 6:], 2)


def test_a_mask_is_heeded(tmp_path):
    path = write(tmp_path / "masked.tif", np.full((9, 12), 7, dtype="uint8"), GRID.transform, "EPSG:32645")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        mask = np.full((9, 12), 255, dtype="uint8")
        mask[4] = 0
        target.write_mask(mask)
    result = resample_to(GRID, path)
    assert np.isnan(result[4]).all()
    np.testing.assert_allclose(np.delete(result, 4, axis=0), 7)


def test_bands_by_number_and_name(tmp_path):
    values = np.stack([np.full((9, 12), 1.0), np.full((9, 12), 2.0)])
    path = write(tmp_path / "two.tif", values, GRID.transform, "EPSG:32645", names=("dry", "wet"))
    scene = Scene.open(path, bands=["wet", "dry"])
    assert resample_to(GRID, path, band="wet")[0, 0] == 2
    assert resample_to(GRID, path, band=2)[0, 0] == 2
    assert resample_to(GRID, scene, band=2)[0, 0] == 1
    for band in ("damp", 3, 0):
        with pytest.raises(MapError, match=r"has no band .*; it has 2: dry, wet"):
            resample_to(GRID, path, band=band)


def test_strips_do_not_show(tmp_path, monkeypatch):
    values = np.random.default_rng(0).uniform(0, 9, (50, 60))
    path = write(tmp_path / "fine.tif", values, origin(83.95, 28.2, 0.002, 0.002), "EPSG:4326")
    whole = resample_to(GRID, path)
    monkeypatch.setattr("geopov.maps.density.weights._PIXELS_AT_ONCE", 130)
    np.testing.assert_allclose(resample_to(GRID, path), whole, rtol=1e-12)


def test_rasters_that_do_not_fit(tmp_path):
    values = np.full((9, 12), -200.0)
    path = write(tmp_path / "counts.tif", values, GRID.transform, "EPSG:32645")
    with pytest.raises(MapError, match=r"counts below 0 \(the least is -200"):
        resample_to(GRID, path, how="sum")
    with pytest.raises(MapError, match="no data inside the grid"):
        resample_to(GRID, path, nodata=-200)
    with pytest.raises(MapError, match="how is 'median'"):
        resample_to(GRID, path, how="median")
    elsewhere = write(tmp_path / "far.tif", values, origin(10, 50, 1, 1), "EPSG:4326")
    with pytest.raises(MapError, match="no data inside the grid; are they the same place"):
        resample_to(GRID, elsewhere)
    with pytest.raises(RasterError, match="cannot be opened"):
        resample_to(GRID, tmp_path / "nowhere.tif")
