"""How tiles are read: each block once, memory in bounds, threads that end, errors that come through."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geopov.errors import RasterError, TileError
from geopov.raster import Block, BlockReader, Scene
from geopov.tiles import TileSet, TileSpec, extract
from geopov.tiles.extract import PlannedTiles
from geopov.tiles.schedule import make_schedule

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]
Noise = Callable[..., np.ndarray]


def source_of(tiles: TileSet) -> PlannedTiles:
    assert isinstance(tiles.source, PlannedTiles)
    return tiles.source


def random_points(points: Points, n: int, extent_m: float, seed: int = 0) -> gpd.GeoDataFrame:
    rng = np.random.default_rng(seed)
    return points(500_000 + rng.uniform(0, extent_m, n), 9_700_000 - rng.uniform(0, extent_m, n))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """How often each unit was decoded, by the real reader."""
    count: Counter[Any] = Counter()
    real = BlockReader.read

    def read(self: BlockReader, file: Any, level: Any, row: int, column: int) -> Block:
        count[(file.path, level.overview, row, column)] += 1
        return real(self, file, level, row, column)

    monkeypatch.setattr(BlockReader, "read", read)
    return count


@pytest.mark.parametrize("block", [256, None])
def test_each_touched_block_is_decoded_once(
    raster: Raster, points: Points, pixels: Noise, decoded: Counter[Any], block: int | None
) -> None:
    path = raster("a", pixels(0, 2, 1500, 1500), block=block)
    size, table = 60, random_points(points, 150, 15_000)
    tiles = extract(path, table, TileSpec(size, 10))
    plan = source_of(tiles).schedule(16)
    n = sum(len(batch) for batch in tiles.iter_batches(16))
    assert n == 150
    assert set(decoded.values()) == {1}
    assert len(decoded) == plan.n_units == plan.n_decodes
    level = Scene.open(path).files[0].levels[0]
    expected = set()
    for left, top in tiles.index[["left", "top"]].itertuples(index=False):
        column, row = round((left - 500_000) / 10), round((9_700_000 - top) / 10)
        rows = range(max(row, 0) // level.unit_height, min(row + size - 1, 1499) // level.unit_height + 1)
        columns = range(max(column, 0) // level.unit_width, min(column + size - 1, 1499) // level.unit_width + 1)
        expected |= set(itertools.product(rows, columns))
    assert {key[2:] for key in decoded} == expected


def test_stack_and_overviews_are_decoded_once(
    raster: Raster, points: Points, pixels: Noise, decoded: Counter[Any]
) -> None:
    fine = raster("fine", pixels(0, 1, 1200, 1200), block=256, overviews=[2, 4])
    coarse = raster("coarse", pixels(1, 1, 400, 400), pixel=30.0, block=128)
    table = random_points(points, 80, 12_000)
    tiles = extract(Scene.open([fine, coarse]), table, TileSpec(30, 45))
    list(tiles.iter_batches(8))
    assert set(decoded.values()) == {1}
    assert {key[1] for key in decoded} == {1, None}


def test_a_small_cache_decodes_again_but_never_more_than_a_step_needs(
    raster: Raster, points: Points, pixels: Noise, decoded: Counter[Any]
) -> None:
    path = raster("a", pixels(0, 1, 2000, 2000), block=256)
    tiles = extract(path, random_points(points, 120, 20_000), TileSpec(300, 10), cache_mb=0.3)
    plan = source_of(tiles).schedule(16)
    list(tiles.iter_batches(16))
    assert sum(decoded.values()) == plan.n_decodes > plan.n_units == len(decoded)
    # Two steps of at most nine blocks of 128 KiB.
    assert plan.peak_bytes <= 0.3 * 2**20 + 9 * 2**17


@given(st.integers(1, 60), st.floats(0.05, 4), st.integers(1, 30), st.integers(0, 100))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_schedules_are_sound(
    tmp_path_factory: pytest.TempPathFactory, points: Points, n: int, cache_mb: float, batch_size: int, seed: int
) -> None:
    """Whatever a step uses is held then; what is dropped was held; every tile comes once; nothing is left over."""
    path = tmp_path_factory.getbasetemp() / "schedule.tif"
    if not path.exists():
        with rasterio.open(
            path, "w", driver="GTiff", width=3000, height=3000, count=1, dtype="uint8", crs="EPSG:32736",
            transform=rasterio.Affine(10, 0, 500_000, 0, -10, 9_700_000), tiled=True, blockxsize=256, blockysize=256,
            sparse_ok=True,
        ):  # fmt: skip
            pass
    tiles = extract(path, random_points(points, n, 30_000, seed), TileSpec(200, 10))
    plan = source_of(tiles).plan
    schedule = make_schedule(plan, batch_size=batch_size, cache_mb=cache_mb)
    held: set[int] = set()
    decodes = 0
    for step in schedule.steps:
        new, gone, used = set(step.decode.tolist()), set(step.drop.tolist()), set(step.uses.tolist())
        assert not new & held
        held |= new
        decodes += len(new)
        assert used <= held
        needed = plan.touch_unit[np.isin(plan.pieces.tile[plan.touch_piece], step.tiles)]
        assert used == set(needed.tolist())
        assert gone <= held
        held -= gone
    assert not held
    assert decodes == schedule.n_decodes
    assert sorted(np.concatenate(schedule.batches).tolist()) == list(range(n))
    assert all(len(batch) == batch_size for batch in schedule.batches[:-1])
    if schedule.peak_bytes <= cache_mb * 2**20:
        assert schedule.n_decodes == schedule.n_units


def test_memory_is_bounded_by_the_batch(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(0, 2, 1500, 1500), block=256)

    def peak(n: int) -> int:
        tiles = extract(path, random_points(points, n, 15_000), TileSpec(64, 10), cache_mb=2)
        tracemalloc.start()
        for _ in tiles.iter_batches(32):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(50)
    small, large = peak(200), peak(2000)
    everything = 2000 * 2 * 64 * 64 * 2
    assert large < everything / 3
    assert large < 2 * small


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("geopov-tiles")]


def test_stopping_early_leaves_no_thread_and_no_handle(
    raster: Raster, points: Points, pixels: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    real = rasterio.open
    path = raster("a", pixels(0, 1, 1000, 1000), block=256)
    tiles = extract(path, random_points(points, 200, 10_000), TileSpec(32, 10))
    monkeypatch.setattr(rasterio, "open", lambda *a, **k: opened.append(real(*a, **k)) or opened[-1])
    batches = tiles.iter_batches(4)
    next(batches)
    assert running()
    batches.close()  # type: ignore[attr-defined]
    assert not running()
    assert opened
    assert all(dataset.closed for dataset in opened)


def test_damage_in_the_middle_names_the_file(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("cut", pixels(0, 1, 1200, 1200), block=256)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.6)])
    tiles = extract(path, random_points(points, 100, 12_000), TileSpec(32, 10))
    with pytest.raises(RasterError, match=r"cut\.tif: the pixels at row \d+, column \d+.*fetch it again"):
        list(tiles.iter_batches(8))
    assert not running()


def test_a_file_that_went_away(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("gone", pixels(0, 1, 100, 100))
    tiles = extract(path, points(500_500.0, 9_699_500.0), TileSpec(32, 10))
    path.unlink()
    with pytest.raises(RasterError, match=r"gone\.tif"):
        list(tiles.iter_batches())


def test_bad_arguments(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(0, 1, 100, 100))
    table, spec = points(500_500.0, 9_699_500.0), TileSpec(8, 10)
    with pytest.raises(TileError, match="threads is 0"):
        extract(path, table, spec, threads=0)
    with pytest.raises(TileError, match="cache_mb is -1"):
        extract(path, table, spec, cache_mb=-1)
    with pytest.raises(TileError, match="no scene was given"):
        extract([], table, spec)
    with pytest.raises(TileError, match="no CRS; set it"):
        extract(path, table.set_crs(None, allow_override=True), spec)
    with pytest.raises(TileError, match="stand more than once"):
        extract(path, table.iloc[[0, 0]], spec)
    with pytest.raises(TileError, match=r"\(0, 0\)"):
        extract(path, points(0.0, 0.0, "EPSG:4326"), spec)
    with pytest.raises(TileError, match="no column 'cluster_id'"):
        extract(path, table.rename(columns={"cluster_id": "tile_id"}), spec)
    with pytest.raises(TileError, match="batch_size is 0"):
        extract(path, table, spec).iter_batches(0)
    with pytest.raises(TileError, match="the tiles are 0 to 0"):
        extract(path, table, spec).read([1])


def test_several_tiles_a_cluster_and_points_in_another_crs(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(0, 1, 300, 300))
    table = points([501_000.0, 502_000.0, 502_000.0], [9_699_000.0, 9_698_000.0, 9_699_000.0])
    table["tile_id"] = ["x", "y", "z"]
    table["cluster_id"] = ["one", "two", "two"]
    plain = extract(path, table, TileSpec(16, 10))
    assert plain.index["tile_id"].tolist() == ["x", "y", "z"]
    assert plain.index["cluster_id"].tolist() == ["one", "two", "two"]
    other = extract(path, table.to_crs("EPSG:3857"), TileSpec(16, 10))
    np.testing.assert_array_equal(plain.read([0, 1, 2]).data, other.read([0, 1, 2]).data)


def test_a_hundred_thousand_points_are_planned_at_once(raster: Raster, points: Points) -> None:
    path = raster("a", np.ones((1, 400, 400), dtype="uint8"), crs="EPSG:4326", origin=(80.0, 30.0), pixel=0.004)
    rng = np.random.default_rng(0)
    table = points(rng.uniform(80, 81.6, 100_000), rng.uniform(28.4, 30, 100_000), "EPSG:4326")
    tiles = extract(path, table, TileSpec(4, 440))
    schedule = source_of(tiles).schedule(2048)
    assert schedule.n_decodes == schedule.n_units == 4
    assert len(schedule.batches) == 49


def test_the_plan_in_words(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(0, 1, 600, 600), overviews=[2], block=256)
    told = source_of(extract(path, points([501_000.0, 900_000.0], 9_699_000.0), TileSpec(16, 20))).describe()
    assert "1 lie on no scene" in told
    assert "1 copied, 0 resampled" in told
    assert "a.tif: overview 0, 1 windows" in told
