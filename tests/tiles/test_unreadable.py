"""Tiles over pixels that cannot be read: invalid there and nowhere else, told once, filled by the next scene."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from geopov.errors import RasterError
from geopov.raster import BlockReader, Scene, Unreadable
from geopov.tiles import TileSet, TileSpec, extract
from tests.raster.damage import compressible, damage

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]

SIDE, UNIT = 768, 256
HOLE = slice(256, 512), slice(256, 512)


def everything(tiles: TileSet, batch_size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """All tiles in the order of their points."""
    size = tiles.spec.total_px
    data = np.zeros((len(tiles), len(tiles.band_names), size, size), dtype=tiles.dtype)
    valid = np.zeros((len(tiles), size, size), dtype=bool)
    for batch in tiles.iter_batches(batch_size):
        data[batch.positions], valid[batch.positions] = batch.data, batch.valid
    return data, valid


def middle_of(points: Points) -> gpd.GeoDataFrame:
    return points(500_000 + SIDE * 5, 9_700_000 - SIDE * 5)


def spread(points: Points, n: int = 24) -> gpd.GeoDataFrame:
    rng = np.random.default_rng(0)
    return points(500_000 + rng.uniform(0, SIDE * 10, n), 9_700_000 - rng.uniform(0, SIDE * 10, n))


@pytest.mark.parametrize("promises", [True, False])
def test_a_large_tile_has_a_hole_of_one_unit(raster: Raster, points: Points, promises: bool) -> None:
    """Also in a file whose header promises that no pixel is invalid, and in one that has a missing value."""
    path = raster("a", compressible(0, 2, SIDE, SIDE), block=UNIT, interleave="pixel", nodata=None if promises else 0)
    assert Scene.open(path).files[0].may_be_invalid is not promises
    table, spec = middle_of(points), TileSpec(SIDE, 10)
    before = extract(path, table, spec).read([0])
    assert before.valid.all()
    damage(path, {(1, 1)})
    told: list[Unreadable] = []
    batch = extract(path, table, spec, on_unreadable=told.append).read([0])
    valid = np.ones((SIDE, SIDE), dtype=bool)
    valid[HOLE] = False
    np.testing.assert_array_equal(batch.valid[0], valid)
    np.testing.assert_array_equal(batch.data, before.data * valid)
    (hole,) = told
    assert (hole.path, hole.row, hole.column, hole.height, hole.width) == (str(path), 256, 256, 256, 256)
    with pytest.raises(RasterError, match="row 256, column 256 cannot be read"):
        extract(path, table, spec).read([0])


def test_many_tiles_are_told_once_and_agree(raster: Raster, points: Points) -> None:
    """Whatever the batches, threads and cache, and when read again."""
    path = raster("a", compressible(0, 1, SIDE, SIDE), block=UNIT)
    table, spec = spread(points), TileSpec(100, 10)
    sound_data, sound_valid = everything(extract(path, table, spec))
    damage(path, {(1, 1), (0, 2)})
    results = []
    for batch_size, threads, cache_mb in ((4, 1, 256), (1, 3, 0.001), (24, 2, 0.1)):
        told: list[Unreadable] = []
        tiles = extract(path, table, spec, threads=threads, cache_mb=cache_mb, on_unreadable=told.append)
        results.append(everything(tiles, batch_size))
        assert sorted((hole.row, hole.column) for hole in told) == [(0, 512), (256, 256)]
    results.append(everything(tiles))
    assert len(told) == 2
    index = tiles.index
    for data, valid in results:
        np.testing.assert_array_equal(data, results[0][0])
        np.testing.assert_array_equal(valid, results[0][1])
    data, valid = results[0]
    np.testing.assert_array_equal(data, sound_data * valid[:, None])
    lost = np.zeros((SIDE + 200, SIDE + 200), dtype=bool)
    lost[100:][HOLE[0], 356:612] = True
    lost[100:356, 612:868] = True
    assert lost.sum() == 2 * UNIT**2
    for i, (left, top) in enumerate(index[["left", "top"]].itertuples(index=False)):
        row, column = round((9_700_000 - top) / 10) + 100, round((left - 500_000) / 10) + 100
        np.testing.assert_array_equal(
            valid[i], sound_valid[i] & ~lost[row : row + 100, column : column + 100], err_msg=str(i)
        )


@pytest.mark.parametrize(("nodata", "filled"), [(0, True), (None, False)])
def test_the_scene_beneath_fills_where_the_plan_asked_it(
    raster: Raster, points: Points, nodata: float | None, filled: bool
) -> None:
    """A scene that covers the tile and promises no invalid pixel is asked alone."""
    above = raster("above", compressible(0, 1, SIDE, SIDE), block=UNIT, nodata=nodata)
    beneath = raster("beneath", compressible(1, 1, SIDE, SIDE) + 1000, block=UNIT, nodata=nodata)
    table, spec = middle_of(points), TileSpec(SIDE, 10)
    upper, lower = (extract(path, table, spec).read([0]).data[0, 0] for path in (above, beneath))
    damage(above, {(1, 1)})
    told: list[Unreadable] = []
    batch = extract([above, beneath], table, spec, on_unreadable=told.append).read([0])
    expected = upper.copy()
    expected[HOLE] = lower[HOLE] if filled else 0
    np.testing.assert_array_equal(batch.data[0, 0], expected)
    assert batch.valid[0][HOLE].all() == filled
    assert batch.valid.sum() == SIDE**2 - (0 if filled else UNIT**2)
    assert [hole.path for hole in told] == [str(above)]


def test_a_stack_is_invalid_where_one_of_its_files_is(raster: Raster, points: Points) -> None:
    one = raster("one", compressible(0, 1, SIDE, SIDE), block=UNIT)
    two = raster("two", compressible(1, 1, SIDE // 2, SIDE // 2), pixel=20.0, block=128)
    damage(one, {(1, 1)})
    told: list[Unreadable] = []
    spec = TileSpec(SIDE, 10, resampling="nearest")
    batch = extract(Scene.open([one, two]), middle_of(points), spec, on_unreadable=told.append).read([0])
    assert not batch.valid[0][HOLE].any()
    assert batch.valid.sum() == SIDE**2 - UNIT**2
    assert (batch.data[0][:, ~batch.valid[0]] == 0).all()
    assert [hole.path for hole in told] == [str(one)]


@pytest.mark.parametrize("crs", ["EPSG:32736", "EPSG:32737"])
def test_resampled_and_warped_tiles_keep_what_is_far_from_a_hole(raster: Raster, points: Points, crs: str) -> None:
    """One scene of another grid and one of another CRS, under the grid of a coarse scene without a pixel."""
    grid = raster("grid", np.zeros((1, 240, 240), dtype="uint16"), nodata=0, pixel=32.0)
    path = raster("a", compressible(0, 1, SIDE, SIDE), block=UNIT, crs="EPSG:32736")
    table = middle_of(points)
    if crs == "EPSG:32737":
        x, y = table.to_crs(crs).geometry.iloc[0].coords[0]
        grid = raster("grid", np.zeros((1, 300, 300), dtype="uint16"), nodata=0, pixel=32.0, crs=crs,
                      origin=(x - 4800, y + 4800))  # fmt: skip
    spec = TileSpec(200, 32)
    before = extract([grid, path], table, spec).read([0])
    assert before.valid.all()
    damage(path, {(1, 1)})
    told: list[Unreadable] = []
    after = extract([grid, path], table, spec, on_unreadable=told.append).read([0])
    assert len(told) == 1
    # The hole is 80 pixels wide and in the middle; a zone off it lies about 2% aslant.
    assert not after.valid[0, 64:136, 64:136].any()
    far = np.ones((200, 200), dtype=bool)
    far[56:144, 56:144] = False
    assert after.valid[0][far].all()
    np.testing.assert_array_equal(after.data[0, 0][far], before.data[0, 0][far])


def test_a_file_that_went_away_stays_an_error(raster: Raster, points: Points) -> None:
    path = raster("gone", compressible(0, 1, SIDE, SIDE), block=UNIT)
    told: list[Unreadable] = []
    tiles = extract(path, middle_of(points), TileSpec(SIDE, 10), on_unreadable=told.append)
    path.unlink()
    with pytest.raises(RasterError, match=r"gone\.tif.*No such file"):
        tiles.read([0])
    with pytest.raises(RasterError, match=r"gone\.tif cannot be opened"):
        extract(path, middle_of(points), TileSpec(SIDE, 10), on_unreadable=told.append)
    assert told == []


def test_what_the_callable_raises_ends_the_reading(raster: Raster, points: Points) -> None:
    path = damage(raster("a", compressible(0, 1, SIDE, SIDE), block=UNIT), {(1, 1)})

    def refuse(hole: Unreadable) -> None:
        raise ArithmeticError(str(hole))

    tiles = extract(path, middle_of(points), TileSpec(SIDE, 10), on_unreadable=refuse)
    with pytest.raises(ArithmeticError, match=r"a\.tif: rows 256 to 511, columns 256 to 511 \(longitude 33\.02"):
        tiles.read([0])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geopov-tiles")]


def test_sound_files_are_read_once(raster: Raster, points: Points, monkeypatch: pytest.MonkeyPatch) -> None:
    """No try too many, no call of the callable, the same bytes."""
    path = raster("a", compressible(0, 1, SIDE, SIDE), block=UNIT)
    calls: list[object] = []
    real = BlockReader.read
    monkeypatch.setattr(BlockReader, "read", lambda *a: calls.append(a[1:]) or real(*a))
    told: list[Unreadable] = []
    with_callable = extract(path, middle_of(points), TileSpec(SIDE, 10), on_unreadable=told.append).read([0])
    assert len(calls) == 9
    plain = extract(path, middle_of(points), TileSpec(SIDE, 10)).read([0])
    np.testing.assert_array_equal(with_callable.data, plain.data)
    np.testing.assert_array_equal(with_callable.valid, plain.valid)
    assert told == []
