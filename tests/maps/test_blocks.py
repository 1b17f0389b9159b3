"""Every block is its own: the same bits from whatever map, order and worker it comes; what it lacks is told."""

from __future__ import annotations

import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from geopov.errors import MapError, RasterError
from geopov.grid import CellGrid
from geopov.maps import BlockValues, HoleWarning, Region, predict
from geopov.maps.blocks import BlockTask, PerCell, compute_block, in_this_process

UTM = CRS.from_epsg(32645)
WEST, NORTH = 203_000, 3_117_000


class Waves:
    """A predictor of cells whose values use all bits there are."""

    band_names = ("sine", "cosine")
    units = ""
    description = "waves"

    def __call__(self, lon, lat):
        return np.stack([np.sin(1e4 * lon) * np.exp(lat), np.cos(1e4 * lat) / lon])


class Blocks:
    """A predictor of blocks: the row and column of each cell, counted from the origin of the CRS."""

    band_names = ("row", "column")
    units = ("", "")
    description = "where"
    block_cells = 5
    fingerprint = "blocks 1"

    def __init__(self, *, holes=None):
        self.holes = holes or {}
        self.asked = []

    def __call__(self, block, inside):
        self.asked.append((block, inside))
        x, y = block.centres()
        return BlockValues(np.stack([-y, x]).astype("float32") / 1000, self.holes.get(block.rows[0], ()))


def place(column=0, row=0, width=23, height=17, cell_m=1000.0):
    return CellGrid(UTM, Affine(cell_m, 0, WEST + column * cell_m, 0, -cell_m, NORTH - row * cell_m), width, height)


def read(path):
    with rasterio.open(path) as source:
        return source.read()


@settings(max_examples=8, deadline=None)
@given(data=st.data(), cells=st.integers(1, 40), others=st.integers(1, 40), masked=st.booleans())
def test_a_district_is_cut_out_of_its_country(tmp_path_factory, data, cells, others, masked):
    folder = tmp_path_factory.mktemp("maps")
    column, row = data.draw(st.integers(0, 22)), data.draw(st.integers(0, 16))
    width, height = data.draw(st.integers(1, 23 - column)), data.draw(st.integers(1, 17 - row))
    mask = Region(shapely.box(WEST - 1, NORTH - 99_000, WEST + 99_000, NORTH + 1), UTM)
    if masked:
        mask = Region(shapely.Point(WEST + 11_000, NORTH - 8_000).buffer(9_000), UTM)
    district = place(column, row, width, height)
    if not mask.contains(*district.centres()).any():
        return
    country = read(predict(PerCell(Waves(), block_cells=cells), place(), path=folder / "country.tif", mask=mask))
    part = read(predict(PerCell(Waves(), block_cells=others), district, path=folder / "district.tif", mask=mask))
    assert part.tobytes() == country[:, row : row + height, column : column + width].tobytes()


def backwards(function, payload, tasks):
    while batch := list(islice(tasks, 4)):
        yield from ((task, function(payload, task)) for task in reversed(batch))


def threads(function, payload, tasks):
    with ThreadPoolExecutor(3) as pool:
        while batch := list(islice(tasks, 6)):
            yield from zip(batch, pool.map(lambda task: function(payload, task), batch), strict=True)


def elsewhere(function, payload, tasks):
    """As another process would have it."""
    for task in tasks:
        there = pickle.loads(pickle.dumps((function, payload, task)))
        yield task, pickle.loads(pickle.dumps(there[0](*there[1:])))


@pytest.mark.parametrize("run", [backwards, threads, elsewhere])
def test_the_file_does_not_depend_on_who_computes(tmp_path, run):
    mask = Region(shapely.Point(WEST + 11_000, NORTH - 8_000).buffer(8_000), UTM)
    blocks = PerCell(Waves(), block_cells=4)
    alone = predict(blocks, place(), path=tmp_path / "alone.tif", mask=mask)
    other = predict(blocks, place(), path=tmp_path / "other.tif", mask=mask, run=run)
    assert alone.read_bytes() == other.read_bytes()


def test_tasks_are_drawn_one_by_one():
    drawn = []
    results = in_this_process(lambda payload, task: payload * task, 10, (drawn.append(n) or n for n in range(5)))
    assert next(results) == (0, 0)
    assert next(results) == (1, 10)
    assert drawn == [0, 1]


def test_a_run_that_is_given_up_is_closed(tmp_path):
    closed = []

    def run(function, payload, tasks):
        try:
            for task in tasks:
                yield task, function(payload, task)
        finally:
            closed.append(True)

    with pytest.raises(MapError, match="would have a hole"):
        predict(Blocks(holes={2: ("gone",)}), place(), path=tmp_path / "map.tif", strict=True, run=run)
    assert closed == [True]


def test_a_run_that_loses_blocks(tmp_path):
    def lossy(function, payload, tasks):
        return islice(in_this_process(function, payload, tasks), 3)

    with pytest.raises(MapError, match="was changed or removed while the map was put together"):
        predict(Blocks(), place(), path=tmp_path / "map.tif", run=lossy)
    assert not (tmp_path / "map.tif").exists()


def test_only_blocks_with_cells_inside_the_mask_are_asked(tmp_path):
    # Columns 8..13 and rows 4..8; and a corner that reaches into a block, but not to a centre in it.
    mask = Region(shapely.box(WEST + 8_000, NORTH - 9_000, WEST + 14_300, NORTH - 4_000), UTM)
    predictor, steps = Blocks(), []
    values = read(
        predict(predictor, place(), path=tmp_path / "map.tif", mask=mask, progress=lambda *a: steps.append(a))
    )
    rows, columns = np.mgrid[:17, :23]
    inside = (rows >= 4) & (rows < 9) & (columns >= 8) & (columns < 14)
    np.testing.assert_array_equal(np.isfinite(values).all(axis=0), inside)
    np.testing.assert_array_equal(values[0][inside], (rows - NORTH / 1000 + 0.5)[inside].astype("float32"))
    np.testing.assert_array_equal(values[1][inside], (columns + WEST / 1000 + 0.5)[inside].astype("float32"))
    for block, cells in predictor.asked:
        np.testing.assert_array_equal(cells, inside[slice(*block.rows), slice(*block.columns)])
        assert cells.any()
    assert steps == [(n, len(predictor.asked)) for n in range(1, len(predictor.asked) + 1)]


def test_what_is_no_number_is_unknown():
    class Wild(Blocks):
        def __call__(self, block, inside):
            values = np.ones((2, *inside.shape))
            values[0, 0, :4] = np.inf, -np.inf, 1e300, np.copysign(np.nan, -1)
            return BlockValues(values)

    block = next(place(width=4, height=1).blocks(5))
    inside = np.ones((1, 4), bool)
    known = compute_block(Wild(), BlockTask(block, inside))
    assert known.values.dtype == np.float32
    assert known.values[0].tobytes() == np.full(4, np.nan, "float32").tobytes()
    inside[0, 2] = False
    np.testing.assert_array_equal(compute_block(Wild(), BlockTask(block, inside)).values[1], [[1, 1, np.nan, 1]])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((2, 2, 2)), "returned a ndarray for a block; expected BlockValues"),
        (BlockValues(np.zeros((3, 2, 2))), r"shape \(3, 2, 2\) for a block of \(2, 2\) cells; expected \(2, 2, 2\)"),
    ],
)
def test_a_wrong_answer_is_named(tmp_path, returned, message):
    class Wrong(Blocks):
        def __call__(self, block, inside):
            return returned

    with pytest.raises(MapError, match=message):
        predict(Wrong(), place(width=2, height=2), path=tmp_path / "map.tif")
    assert not list(tmp_path.iterdir())


def test_a_description_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path):
    predictor = Blocks()
    with pytest.raises(RasterError, match="nodata is 1e\\+300"):
        predict(predictor, place(), path=tmp_path / "map.tif", nodata=1e300)
    with pytest.raises(MapError, match="is a folder"):
        predict(predictor, place(), path=tmp_path)
    assert not predictor.asked
    assert not list(tmp_path.iterdir())


def test_holes_are_told_once_in_the_map_and_in_a_warning(tmp_path):
    predictor = Blocks(holes={2: ("b.tif, rows 4-5: timeout", "a.tif, row 1: timeout"), 7: ("a.tif, row 1: timeout",)})
    with pytest.warns(HoleWarning, match=r"map.tif has .* 2 times: a.tif, row 1: timeout, b.tif, rows 4-5: timeout$"):
        path = predict(predictor, place(), path=tmp_path / "map.tif", run=backwards)
    with rasterio.open(path) as source:
        assert json.loads(source.tags()["holes"]) == ["a.tif, row 1: timeout", "b.tif, rows 4-5: timeout"]
    assert [item.name for item in tmp_path.iterdir()] == ["map.tif"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with rasterio.open(predict(Blocks(), place(), path=path)) as source:
            assert "holes" not in source.tags()


def test_a_map_tells_of_a_hundred_holes_and_how_many_more(tmp_path):
    predictor = Blocks(holes={2: tuple(f"hole {n:03d}" for n in range(130))})
    with pytest.warns(HoleWarning, match="130 times: hole 000, hole 001, hole 002 and 127 more"):
        path = predict(predictor, place(), path=tmp_path / "map.tif")
    with rasterio.open(path) as source:
        told = json.loads(source.tags()["holes"])
    assert told == [*(f"hole {n:03d}" for n in range(100)), "and 30 more"]


def test_strict_stops_at_a_hole_and_goes_on_when_it_is_mended(tmp_path):
    torn = Blocks(holes={7: ("a.tif, row 1: timeout",)})
    with pytest.raises(MapError, match=r"would have a hole: a\.tif, row 1: timeout 12 finished blocks are kept"):
        predict(torn, place(), path=tmp_path / "map.tif", strict=True)
    assert [item.name for item in tmp_path.iterdir()] == ["map.tif.unfinished"]
    whole = Blocks()
    path = predict(whole, place(), path=tmp_path / "map.tif", strict=True)
    assert len(torn.asked) == 13
    assert len(whole.asked) == 12
    assert path.read_bytes() == predict(Blocks(), place(), path=tmp_path / "other.tif").read_bytes()
