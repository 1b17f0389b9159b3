"""Cells get the value of their own place, in the right orientation, only inside the mask, however the map is cut."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rio_cogeo import cog_validate

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps import Region, predict
from geopov.maps.blocks import PerCell


def test_every_cell_has_the_value_of_its_own_place(field, grid, tmp_path):
    path = predict(field, grid, path=tmp_path / "map.tif", tags={"a": "b"})
    with rasterio.open(path) as source:
        values = source.read()
        assert source.descriptions == field.band_names
        assert source.units == field.units
        assert source.tags()["TIFFTAG_IMAGEDESCRIPTION"] == "Where the cell is"
        assert source.tags()["a"] == "b"
        to_lonlat = Transformer.from_crs(32645, 4326, always_xy=True)
        for row, column in ((0, 0), (8, 11), (3, 7)):
            lon, lat = to_lonlat.transform(*source.xy(row, column))
            np.testing.assert_allclose(values[:2, row, column], [lon, lat], rtol=1e-6)
    assert cog_validate(path, strict=True)[0]


def test_longitude_grows_to_the_right_and_latitude_falls_downwards(field, grid, tmp_path):
    with rasterio.open(predict(field, grid, path=tmp_path / "map.tif")) as source:
        lon, lat = source.read([1, 2])
    assert (np.diff(lon, axis=1) > 0).all()
    assert (np.diff(lat, axis=0) < 0).all()


def test_cells_outside_the_mask_are_nodata(field, grid, tmp_path):
    mask = Region(shapely.box(202_000, 3_113_000, 205_000, 3_117_000), grid.crs)
    with rasterio.open(predict(field, grid, path=tmp_path / "map.tif", mask=mask, nodata=-1)) as source:
        inside = source.read(1) != -1
    expected = np.zeros((9, 12), bool)
    expected[3:7, 2:5] = True
    np.testing.assert_array_equal(inside, expected)


def test_the_predictor_sees_only_cells_inside_the_mask(field, grid, tmp_path):
    asked = []

    class Counting(type(field)):
        def __call__(self, lon, lat):
            asked.append(len(lon))
            return super().__call__(lon, lat)

    mask = Region(shapely.box(202_000, 3_113_000, 205_000, 3_117_000), grid.crs)
    steps = []
    # Block lines are anchored to the CRS: rows 0, 2, ... and columns 0, 2, ... of the grid begin blocks of two.
    blocks = PerCell(Counting(), block_cells=2)
    predict(blocks, grid, path=tmp_path / "map.tif", mask=mask, progress=lambda *a: steps.append(a))
    assert asked == [2, 1, 4, 2, 2, 1]
    assert steps == [(n, 6) for n in range(1, 7)]


@settings(max_examples=25, deadline=None)
@given(
    cells=st.integers(1, 30),
    cell_m=st.sampled_from([1000.0, 333.3, 0.1 + 0.2]),
    shape=st.lists(st.tuples(st.floats(0, 12), st.floats(0, 9)), min_size=3, max_size=8),
)
def test_the_map_does_not_depend_on_the_blocks(tmp_path_factory, field_class, cells, cell_m, shape):
    grid = CellGrid(CRS.from_epsg(32645), Affine(cell_m, 0, 200_000, 0, -cell_m, 3_120_000), 12, 9)
    hull = shapely.MultiPoint([grid.transform @ point for point in shape]).convex_hull.buffer(cell_m)
    mask = Region(hull, grid.crs)
    folder = tmp_path_factory.mktemp("blocks")
    whole = predict(field_class(), grid, path=folder / "whole.tif", mask=mask)
    blocks = PerCell(field_class(), block_cells=cells)
    cut = predict(blocks, grid, path=folder / "cut.tif", mask=mask)
    assert whole.read_bytes() == cut.read_bytes()


@pytest.fixture(scope="session")
def field_class():
    class Field:
        band_names = ("sum",)
        units = ""
        description = ""

        def __call__(self, lon, lat):
            return (lon + lat).astype("float32")[None]

    return Field


def fails(message, tmp_path, predictor, grid, **options):
    with pytest.raises(MapError, match=message):
        predict(predictor, grid, path=tmp_path / "map.tif", **options)
    assert not list(tmp_path.iterdir())


def test_a_wrong_shape_is_named(field, grid, tmp_path):
    class Transposed(type(field)):
        def __call__(self, lon, lat):
            return super().__call__(lon, lat).T

    fails(r"shape \(108, 3\) for 108 cells; expected \(3, 108\)", tmp_path, Transposed(), grid)


def test_a_predictor_that_knows_nothing(field, grid, tmp_path):
    class Ignorant(type(field)):
        def __call__(self, lon, lat):
            return np.full((3, len(lon)), np.nan)

    fails("knows none of the 108 cells", tmp_path, Ignorant(), grid)


def test_infinite_predictions_are_unknown(field, grid, tmp_path):
    class Exploding(type(field)):
        def __call__(self, lon, lat):
            values = super().__call__(lon, lat)
            values[0, 0] = np.inf
            return values

    with rasterio.open(predict(Exploding(), grid, path=tmp_path / "map.tif")) as source:
        assert np.isnan(source.read(1)[0, 0])


def test_a_grid_without_cells(field, grid, tmp_path):
    fails("12 x 0 cells", tmp_path, field, CellGrid(grid.crs, grid.transform, 12, 0))


def test_a_mask_between_cell_centres(field, grid, tmp_path):
    mask = Region(shapely.box(200_600, 3_119_600, 200_900, 3_119_900), grid.crs)
    fails("no cell centre of the grid .* lies inside", tmp_path, field, grid, mask=mask)


def test_a_mask_elsewhere(field, grid, tmp_path):
    fails("no cell centre", tmp_path, field, grid, mask=Region.from_bounds((10, 10, 11, 11)))


def test_blocks_without_cells(field, grid, tmp_path):
    fails("blocks are 0 cells wide", tmp_path, PerCell(field, block_cells=0), grid)
