"""Blocks cover a grid once, and lie at the same places for a country and for each of its districts."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from geopov.errors import MapError
from geopov.grid import CellGrid

UTM = CRS.from_epsg(32645)


def make(column, row, width, height, side=250.0):
    """A grid whose first cell is so many cells east and south of the origin of the CRS."""
    return CellGrid(UTM, Affine(side, 0, column * side, 0, -side, -row * side), width, height)


corners = st.integers(-60, 60)
sides = st.integers(1, 20)


@settings(max_examples=30, deadline=None)
@given(corners, corners, sides, sides, st.integers(1, 30))
def test_each_cell_is_in_one_block(column, row, width, height, cells):
    grid = make(column, row, width, height)
    count = np.zeros((height, width), int)
    x, y = grid.centres()
    before = (-1, -1)
    for block in grid.blocks(cells):
        here = slice(*block.rows), slice(*block.columns)
        count[here] += 1
        assert count[here].size > 0
        bx, by = block.centres()
        np.testing.assert_array_equal(bx, x[here])
        np.testing.assert_array_equal(by, y[here])
        assert before < (block.rows[0], block.columns[0])  # Row by row from the north-west.
        before = block.rows[0], block.columns[0]
    assert (count == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.data(), corners, corners, sides, sides, st.integers(1, 30))
def test_a_district_is_divided_where_its_country_is(data, column, row, width, height, cells):
    dx, dy = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    part = make(column + dx, row + dy, data.draw(st.integers(1, width - dx)), data.draw(st.integers(1, height - dy)))
    wholes = {block.whole for block in make(column, row, width, height).blocks(cells)}
    assert {block.whole for block in part.blocks(cells)} <= wholes


@settings(max_examples=30, deadline=None)
@given(corners, corners, sides, sides, st.integers(1, 30))
def test_whole_blocks_are_uncut_and_hold_their_cells(column, row, width, height, cells):
    for block in make(column, row, width, height).blocks(cells):
        whole = block.whole
        assert (whole.width, whole.height, whole.cell_m) == (cells, cells, 250.0)
        x, y = block.centres()
        west, south, east, north = whole.bounds
        assert ((west < x) & (x < east) & (south < y) & (y < north)).all()
        # Its lines are multiples of the block's side from the origin.
        assert west % (cells * 250) == 0
        assert north % (cells * 250) == 0


@pytest.mark.parametrize("side", [333.3, 0.1 + 0.2, 92.7])
def test_cells_of_an_odd_size_are_at_the_same_places_to_the_bit(side):
    country = make(900, -9000, 60, 40, side)
    district = CellGrid(UTM, country.transform @ Affine.translation(37, 23), 20, 15)
    centres = {(block.whole, *cell) for block in country.blocks(16) for cell in _cells(block)}
    assert {(block.whole, *cell) for block in district.blocks(16) for cell in _cells(block)} <= centres


def _cells(block):
    x, y = block.centres()
    return zip(x.ravel().tolist(), y.ravel().tolist(), strict=True)


def test_blocks_without_cells():
    with pytest.raises(MapError, match="blocks are 0 cells wide; expected at least 1"):
        list(make(0, 0, 3, 3).blocks(0))
