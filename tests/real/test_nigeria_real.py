"""A published map through our writer: the wealth of Nigeria of Yeh et al. (2020) comes out as it went in."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS
from shapely.geometry import box

from geopov.grid import CellGrid, transform_xy
from geopov.maps.admin.units import aggregate
from geopov.maps.blocks import PerCell
from geopov.maps.cells import predict
from geopov.maps.read import RasterMap
from geopov.raster.write import write_cog

pytestmark = pytest.mark.real

# Cells of 7.65 km in Web Mercator, some 7.5 km on the ground: blocks of 16 are 120 km wide, as wide as a state.
BLOCK_CELLS = 16


class Published:
    """The published raster as a predictor: the value of the cell that a place lies in."""

    band_names = ("wealth",)
    units = ("index",)
    description = "Asset wealth, published"

    def __init__(self, path: Path) -> None:
        with rasterio.open(path) as source:
            self.values, self.transform, self.crs = source.read(1), source.transform, source.crs

    def __call__(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        x, y = transform_xy("EPSG:4326", self.crs, lon, lat)
        columns = (x - self.transform.c) / self.transform.a
        rows = (y - self.transform.f) / self.transform.e
        return self.values[None, np.floor(rows).astype(int), np.floor(columns).astype(int)]


@pytest.fixture
def published(real_data: Path) -> Path:
    return real_data / "nigeria/published_wealth_2012_2014_msnl.tif"


@pytest.fixture
def people(real_data: Path) -> Path:
    return real_data / "nigeria/population.tif"


@pytest.fixture
def grid() -> CellGrid:
    return CellGrid(CRS.from_epsg(3857), Affine(7650, 0, 290_700, 0, -7650, 1_568_250), 176, 143)


def raw(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        values: np.ndarray = source.read(1)
    return values


def block_means(wealth: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Population-weighted mean wealth of squares of cells; NaN where nobody lives."""
    rows, columns = (-(-side // BLOCK_CELLS) for side in wealth.shape)
    y, x = np.indices(wealth.shape) // BLOCK_CELLS
    known = np.isfinite(wealth) & np.isfinite(people)
    block, weight = (y * columns + x)[known], people[known].astype(float)
    totals = np.bincount(block, weight * wealth[known], minlength=rows * columns)
    with np.errstate(invalid="ignore"):
        return totals / np.bincount(block, weight, minlength=rows * columns)


def test_what_is_missing_is_nan_without_a_tag(published: Path, people: Path) -> None:
    for path in (published, people):
        with rasterio.open(path) as source:
            assert source.nodata is None
            assert np.isnan(source.read(1)).mean() == pytest.approx(0.3454, abs=1e-4)
    np.testing.assert_array_equal(np.isnan(raw(published)), np.isnan(raw(people)))


def test_written_map_is_the_published_one(published: Path, people: Path, grid: CellGrid, tmp_path: Path) -> None:
    ours = predict(Published(published), grid, path=tmp_path / "wealth.tif", tags={"style": "asset_wealth"})
    with rasterio.open(published) as source, rasterio.open(ours) as written:
        assert written.crs == source.crs
        assert written.transform == source.transform
        assert written.shape == source.shape
        assert np.isnan(written.nodata)
    before, after = raw(published), raw(ours)
    np.testing.assert_array_equal(after, before)
    known = np.isfinite(before)
    assert np.corrcoef(after[known], before[known])[0, 1] == pytest.approx(1, abs=1e-12)
    with RasterMap.open(ours) as raster:
        figures = raster.summary()
        assert figures["cloud_optimized"]
        assert figures["bands"][0]["mean"] == pytest.approx(before[known].mean(dtype=float), rel=1e-6)
        assert figures["bands"][0]["valid"] == pytest.approx(known.mean(), abs=1e-4)


def test_states_have_the_same_wealth(published: Path, people: Path, grid: CellGrid, tmp_path: Path) -> None:
    wealth = predict(Published(published), grid, path=tmp_path / "wealth.tif")
    size = {"crs": grid.crs, "transform": grid.transform, "width": grid.width, "height": grid.height}
    counted = write_cog(tmp_path / "people.tif", [(0, raw(people)[None])], band_names=["people"], **size)
    expected = block_means(raw(published), raw(people))
    np.testing.assert_array_equal(block_means(raw(wealth), raw(counted)), expected)
    lived = np.isfinite(expected)
    assert lived.sum() == 81
    side = BLOCK_CELLS * grid.cell_m
    west, _, _, north = grid.bounds
    columns = -(-grid.width // BLOCK_CELLS)
    corners = [(west + k % columns * side, north - k // columns * side) for k in np.flatnonzero(lived)]
    squares = [box(x, y - side, x + side, y) for x, y in corners]
    blocks = gpd.GeoDataFrame({"block": np.arange(len(squares))}, geometry=squares, crs=grid.crs)
    table = aggregate(wealth, counted, blocks, id_column="block")
    np.testing.assert_allclose(table["wealth"], expected[lived], rtol=0, atol=1e-6)
    assert table["people"].sum() == pytest.approx(float(np.nansum(raw(people), dtype=float)), rel=1e-6)
    # People live where it is less poor than the land is.
    assert np.average(expected[lived], weights=table["people"]) > np.nanmean(raw(published)) + 0.1


@pytest.mark.parametrize("block_cells", [5, 64])
def test_a_grid_of_our_own_keeps_the_figures(published: Path, tmp_path: Path, block_cells: int) -> None:
    bounds = (290_700, 474_300, 1_637_100, 1_568_250)
    grid = CellGrid.from_bounds(bounds, cell_m=7650, bounds_crs="EPSG:3857", crs="EPSG:3857")
    assert (grid.width, grid.height) == (176, 143)
    predictor = PerCell(Published(published), block_cells=block_cells)
    ours = predict(predictor, grid, path=tmp_path / "wealth.tif")
    np.testing.assert_array_equal(raw(ours), raw(published))
