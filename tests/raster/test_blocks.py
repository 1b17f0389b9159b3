"""Read units of damaged files: tried again, then an error or a hole of exactly that unit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from geopov.errors import RasterError
from geopov.raster import Block, BlockReader, Scene, Unreadable, remote
from tests.raster.damage import compressible, damage
from tests.tiles.conftest import make_raster, noise

SIDE, UNIT = 768, 256


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Nine units of one block each, without a missing value: its header promises that all pixels are valid."""
    return make_raster(tmp_path / "scene.tif", compressible(0, 2, SIDE, SIDE), block=UNIT, interleave="pixel")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", taken.append)
    return taken


def read_units(path: Path, reader: BlockReader, *, level: int = 0) -> dict[tuple[int, int], Block]:
    file = Scene.open(path).files[0]
    chosen = file.levels[level]
    with reader:
        return {
            (row, column): reader.read(file, chosen, row, column)
            for row, column in np.ndindex(chosen.unit_rows, chosen.unit_columns)
        }


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=4))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_holes_are_the_damaged_units_and_nothing_else(sound: Path, damaged: set[tuple[int, int]]) -> None:
    before = read_units(sound, BlockReader())
    path = damage(sound, damaged, to=sound.with_name("damaged.tif"))
    told: list[Unreadable] = []
    after = read_units(path, BlockReader(on_unreadable=told.append))
    assert {(hole.row // UNIT, hole.column // UNIT) for hole in told} == damaged
    assert len(told) == len(damaged)
    for unit, block in after.items():
        if unit in damaged:
            assert block.valid is not None
            assert not block.valid.any()
            assert not block.data.any()
            assert (block.data.shape, block.data.dtype) == (before[unit].data.shape, before[unit].data.dtype)
        else:
            assert block.valid is None
            np.testing.assert_array_equal(block.data, before[unit].data)


def test_without_a_callable_damage_is_an_error(sound: Path, pauses: list[float]) -> None:
    path = damage(sound, {(1, 2)})
    file = Scene.open(path).files[0]
    with BlockReader() as reader:
        reader.read(file, file.levels[0], 1, 1)
        with pytest.raises(
            RasterError,
            match=r"scene\.tif: the pixels at row 256, column 512 cannot be read \(.+; tried 2 times\)",
        ):
            reader.read(file, file.levels[0], 1, 2)
        # The handle that failed is gone; the next units come through a new one.
        reader.read(file, file.levels[0], 2, 2)
    assert pauses == [0.0]


def test_a_file_that_is_cut_short(sound: Path) -> None:
    before = read_units(sound, BlockReader())
    whole = sound.read_bytes()
    sound.write_bytes(whole[: int(len(whole) * 0.6)])
    told: list[Unreadable] = []
    after = read_units(sound, BlockReader(on_unreadable=told.append))
    # The units lie one after the other: 5 of 9 are whole.
    assert [(hole.row, hole.column) for hole in told] == [(256, 512), (512, 0), (512, 256), (512, 512)]
    for unit in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        np.testing.assert_array_equal(after[unit].data, before[unit].data)


def test_a_file_that_heals_is_read_at_the_second_try(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new try has a new handle: the damaged header and blocks of the old one are forgotten."""
    before = read_units(sound, BlockReader())
    whole = sound.read_bytes()
    file = Scene.open(sound).files[0]
    damage(sound, {(0, 0)})
    healed: list[float] = []

    def heal(seconds: float) -> None:
        healed.append(seconds)
        sound.write_bytes(whole)

    monkeypatch.setattr(remote.time, "sleep", heal)
    with BlockReader() as reader:
        np.testing.assert_array_equal(reader.read(file, file.levels[0], 0, 0).data, before[0, 0].data)
    assert healed == [0.0]


@pytest.mark.parametrize("opened_before", [False, True])
def test_a_file_that_went_away_is_an_error_with_or_without_a_callable(sound: Path, opened_before: bool) -> None:
    file = Scene.open(sound).files[0]
    damage(sound, {(0, 0)})
    told: list[Unreadable] = []
    with BlockReader(on_unreadable=told.append) as reader:
        if opened_before:
            reader.read(file, file.levels[0], 0, 1)
        sound.unlink()
        with pytest.raises(RasterError, match=r"scene\.tif: .* row 0, column 0 cannot be read.*No such file"):
            reader.read(file, file.levels[0], 0, 0)
    assert told == []


def test_units_known_to_be_unreadable_are_not_tried_again(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damage(sound, {(0, 0), (2, 1)})
    told: list[Unreadable] = []
    known: set[Any] = set()
    first = read_units(path, BlockReader(on_unreadable=told.append, unreadable=known))
    assert known == {(str(path), None, 0, 0), (str(path), None, 2, 1)}
    opened: list[Any] = []
    real: Callable[..., Any] = rasterio.open
    file = Scene.open(path).files[0]
    monkeypatch.setattr(rasterio, "open", lambda *a, **k: opened.append(a) or real(*a, **k))
    with BlockReader(on_unreadable=told.append, unreadable=known) as reader:
        again = reader.read(file, file.levels[0], 0, 0)
    np.testing.assert_array_equal(again.valid, first[0, 0].valid)
    assert len(told) == 2
    assert opened == []


def test_damage_to_a_mask_or_to_one_band_alone(tmp_path: Path) -> None:
    """A unit is one thing: what is lost of it in one band is lost in all."""
    data = compressible(1, 3, SIDE, SIDE, "uint8")
    apart = make_raster(tmp_path / "apart.tif", data, block=UNIT, interleave="band")
    damage(apart, {(1, 0)}, band=2)
    told: list[Unreadable] = []
    units = read_units(apart, BlockReader(on_unreadable=told.append))
    assert [(hole.row, hole.column) for hole in told] == [(256, 0)]
    assert not np.any(units[1, 0].valid)
    np.testing.assert_array_equal(units[0, 0].data, data[:, :UNIT, :UNIT])


def test_an_overview_is_a_level_of_its_own(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "scene.tif", compressible(0, 1, SIDE, SIDE), block=UNIT, overviews=[2])
    damage(path, {(0, 1)}, overview=0)
    assert all(block.valid is None for block in read_units(path, BlockReader()).values())
    told: list[Unreadable] = []
    read_units(path, BlockReader(on_unreadable=told.append), level=1)
    (hole,) = told
    assert (hole.level, hole.row, hole.column, hole.height, hole.width) == (0, 0, 256, 256, 128)
    assert hole.bounds == (500_000 + 256 * 20, 9_700_000 - 256 * 20, 500_000 + 384 * 20, 9_700_000)
    with pytest.raises(RasterError, match=r"row 0, column 256 of overview 0 cannot be read"):
        read_units(path, BlockReader(), level=1)


def test_an_unreadable_unit_says_where_it_lies(sound: Path) -> None:
    told: list[Unreadable] = []
    read_units(damage(sound, {(2, 1)}), BlockReader(on_unreadable=told.append))
    (hole,) = told
    assert (hole.path, hole.level, hole.row, hole.column, hole.height, hole.width) == (
        str(sound), None, 512, 256, 256, 256,
    )  # fmt: skip
    assert hole.bounds == (502_560, 9_700_000 - 7680, 505_120, 9_700_000 - 5120)
    west, south, east, north = hole.lonlat
    x, y = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True).transform(503_840, 9_700_000 - 6400)
    assert west < x < east
    assert south < y < north
    # 2,560 m at 3 degrees from the equator.
    assert (east - west, north - south) == pytest.approx((0.0231, 0.0231), abs=1e-3)
    assert str(hole).startswith(
        f"{sound}: rows 512 to 767, columns 256 to 511 (longitude 33.0230 to 33.0461, latitude -2.7837 to -2.7605) "
        "could not be read: "
    )
    assert str(hole).endswith("; tried 2 times.")
    assert "\n" not in str(hole)
    assert pickle.loads(pickle.dumps(hole)) == hole
    with pytest.raises(FrozenInstanceError):
        hole.row = 0  # type: ignore[misc]


def test_degrees_of_a_file_are_those_of_its_scene(tmp_path: Path) -> None:
    plain = Scene.open(make_raster(tmp_path / "plain.tif", noise(0, 1, 20, 30)))
    over = Scene.open(
        make_raster(tmp_path / "over.tif", noise(0, 1, 100, 200), crs="EPSG:4326", origin=(179.0, 0.5), pixel=0.01)
    )
    world = Scene.open(
        make_raster(tmp_path / "world.tif", noise(0, 1, 18, 36), crs="ESRI:54009", origin=(-18e6, 9e6), pixel=1e6)
    )
    for scene in (plain, over, world):
        assert scene.files[0].lonlat_bounds == scene.lonlat_bounds


def test_a_header_is_tried_again(sound: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    whole = sound.read_bytes()
    sound.write_bytes(b"no raster")
    with pytest.raises(RasterError, match=r"scene\.tif cannot be opened.*tried 2 times.*Is the path right"):
        Scene.open(sound)
    monkeypatch.setattr(remote.time, "sleep", lambda _: sound.write_bytes(whole))
    assert Scene.open(sound).width == SIDE
    assert pauses == [0.0]
