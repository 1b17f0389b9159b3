"""Files in network stores: asked again, never for ever, and what comes is what the file holds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine

from geopov.errors import RasterError
from geopov.raster import BlockReader, Scene, Unreadable, remote
from geopov.raster.file import read_header
from geopov.tiles import TileSpec, extract
from tests.raster.flaky_store import Store
from tests.tiles.conftest import make_points

# GDAL reads 16 kB of a file before it knows more; pixels lie behind.
PIXELS_FROM = 16_384


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store() as running:
        yield running


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, which no compression makes small: 2 bands of 512 x 512 pixels in blocks of 256."""
    folder = tmp_path_factory.mktemp("cog")
    data = np.random.default_rng(0).integers(0, 60_000, (2, 512, 512)).astype("uint16")
    profile = {"crs": "EPSG:32736", "transform": Affine(10, 0, 500_000, 0, -10, 9_700_000)}
    with rasterio.open(
        folder / "plain.tif", "w", driver="GTiff", count=2, height=512, width=512, dtype="uint16", **profile
    ) as dataset:
        dataset.write(data)
    options = {"blocksize": 256, "compress": "deflate", "overview_count": 1}
    rasterio.shutil.copy(folder / "plain.tif", folder / "cog.tif", driver="COG", **options)
    return folder / "cog.tif"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted in place of waited."""
    paused: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", paused.append)
    return paused


def read_all(path: str | Path, reader: BlockReader | None = None) -> np.ndarray:
    """The own pixels of a file, unit by unit."""
    file = Scene.open(str(path)).files[0]
    level = file.levels[0]
    whole = np.zeros((len(file.bands), level.height, level.width), dtype=file.dtype)
    with reader or BlockReader() as blocks:
        for row, column in np.ndindex(level.unit_rows, level.unit_columns):
            block = blocks.read(file, level, row, column)
            height, width = block.data.shape[1:]
            whole[:, block.row : block.row + height, block.column : block.column + width] = block.data
    return whole


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("https://a.org/b.tif", True),
        ("http://a.org/b.tif", True),
        ("s3://bucket/b.tif", True),
        ("gs://bucket/b.tif", True),
        ("/vsis3/bucket/b.tif", True),
        ("/vsicurl?max_retry=2&url=https://a.org/b.tif", True),
        ("/vsicurl_streaming/https://a.org/b.tif", True),
        ("/vsizip//vsigs/bucket/a.zip/b.tif", True),
        ("zip+https://a.org/a.zip!b.tif", True),
        ('NETCDF:"/vsicurl/https://a.org/b.nc":x', True),
        ("/vsizip/a.zip/b.tif", False),
        ("/data/https/b.tif", False),
        ("vsis3.tif", False),
        ("/vsimem/b.tif", False),
    ],
)
def test_what_is_remote(path: str, expected: bool) -> None:
    assert remote.is_remote(path) is expected


def test_a_sound_file_is_read_without_a_request_too_many(store: Store, cog: Path, hurry: list[float]) -> None:
    url = store.put(cog, "sound.tif")
    np.testing.assert_array_equal(read_all(url), read_all(cog))
    assert hurry == []
    requests = store.requests("sound.tif")
    # Its size, its header, four units: no folder is listed, no mask or overview beside it looked for.
    assert [method for method, _ in requests].count("HEAD") == 1
    assert len(requests) <= 6


@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_a_store_that_is_busy_at_first(store: Store, cog: Path, hurry: list[float], prefix: str) -> None:
    name = f"busy{len(prefix)}.tif"
    url = prefix + store.put(cog, name)
    store.fail(name, 503, times=2)
    np.testing.assert_array_equal(read_all(url), read_all(cog))
    assert hurry in ([0.5], [0.5, 3.0])
    assert store.requests(name)[:2] == [("HEAD", None)] * 2


@pytest.mark.parametrize("how", [503, "cut", "hang"])
def test_pixels_that_come_at_the_second_asking(
    store: Store, cog: Path, monkeypatch: pytest.MonkeyPatch, hurry: list[float], how: str | int
) -> None:
    if how == "hang":
        monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "0.6")
    name = f"later_{how}.tif"
    url = store.put(cog, name)
    # GDAL asks up to three times for a block before it gives up.
    store.fail(name, how, times=1 if how == "cut" else 3, from_byte=PIXELS_FROM)
    np.testing.assert_array_equal(read_all(url), read_all(cog))
    assert hurry[:1] == [0.5]
    assert how == "hang" or len(hurry) == 1


def test_a_transfer_that_always_breaks_off_is_an_error_or_a_hole(store: Store, cog: Path, hurry: list[float]) -> None:
    url = store.put(cog, "cut.tif")
    store.fail("cut.tif", "cut", from_byte=PIXELS_FROM)
    with pytest.raises(
        RasterError, match=r"cut\.tif: the pixels at row 0, column 0 cannot be read \(.*; tried 3 times\)\. The store"
    ):
        read_all(url)
    assert hurry == [0.5, 3.0]
    told: list[Unreadable] = []
    assert (read_all(url, BlockReader(on_unreadable=told.append)) == 0).all()
    assert [(hole.row, hole.column) for hole in told] == [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert all("tried 3 times" in hole.reason for hole in told)
    # What broke off is not kept as if it were the file.
    store.fail("cut.tif", 503, times=0)
    np.testing.assert_array_equal(read_all(url), read_all(cog))


def test_a_range_that_never_comes_is_a_hole_in_bounded_time(
    store: Store, cog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "0.4")
    url = store.put(cog, "hang.tif")
    # In the midst of the last block: what is read ahead of the block before is given up, and that block read again.
    store.fail("hang.tif", "hang", from_byte=cog.stat().st_size - 100_000)
    scene = Scene.open(url)
    points = make_points(502_560.0, 9_697_440.0)
    told: list[Unreadable] = []
    start = time.monotonic()
    batch = extract(scene, points, TileSpec(512, 10), on_unreadable=told.append).read([0])
    # 3 tries x 3 requests x 0.4 s, and room for a busy machine; without a limit a request waits for 30 s.
    assert 3 < time.monotonic() - start < 25
    (hole,) = told
    assert (hole.row, hole.column, hole.height, hole.width) == (256, 256, 256, 256)
    expected = read_all(cog)
    expected[:, 256:, 256:] = 0
    np.testing.assert_array_equal(batch.data[0], expected)
    assert not batch.valid[0, 256:, 256:].any()
    assert batch.valid.sum() == 512 * 512 - 256 * 256


def test_a_store_that_is_silent_ends_as_gdal_is_told(
    store: Store, cog: Path, monkeypatch: pytest.MonkeyPatch, hurry: list[float]
) -> None:
    """The limit on silence itself, not on the whole transfer; a user's environment sets it."""
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    url = store.put(cog, "silent.tif")
    store.fail("silent.tif", "hang")
    start = time.monotonic()
    with pytest.raises(RasterError, match=r"silent\.tif cannot be opened.*tried 3 times\).*does the store answer"):
        read_header(url)
    assert time.monotonic() - start < 25
    assert hurry == [0.5, 3.0]


def test_a_file_that_goes_away_is_an_error_even_where_holes_are_allowed(
    store: Store, cog: Path, hurry: list[float]
) -> None:
    url = store.put(cog, "gone.tif")
    file = Scene.open(url).files[0]
    store.fail("gone.tif", 404)
    told: list[Unreadable] = []
    with (
        BlockReader(on_unreadable=told.append) as reader,
        pytest.raises(RasterError, match=r"gone\.tif.*response code: 404"),
    ):
        reader.read(file, file.levels[0], 1, 1)
    assert told == []


@pytest.mark.parametrize(("status", "tries"), [(404, 2), (403, 2), (429, 3), (503, 3)])
def test_a_no_is_taken_for_an_answer_and_forgotten_again(
    store: Store, cog: Path, hurry: list[float], status: int, tries: int
) -> None:
    name = f"no{status}.tif"
    url = store.put(cog, name)
    store.fail(name, status)
    with pytest.raises(RasterError, match=rf"{name} cannot be opened.*{status}; tried {tries} times.*address right"):
        read_header(url)
    assert len(hurry) == (2 if tries == 3 else 0)
    # The file is put there meanwhile: what GDAL remembers of its absence must not outlive the next asking.
    store.fail(name, status, times=0)
    assert read_header(url).levels[0].width == 512


def test_options_of_the_calling_thread_hold_in_the_threads_that_read(store: Store, cog: Path) -> None:
    """rasterio's Env is one thread's own; tiles are read by others."""
    url = store.put(cog, "env.tif")
    scene, points = Scene.open(url), make_points(501_280.0, 9_698_720.0)
    store.fail("env.tif", "hang", from_byte=PIXELS_FROM)
    start = time.monotonic()
    with rasterio.Env(GDAL_HTTP_TIMEOUT=0.2), pytest.raises(RasterError, match="tried 3 times"):
        extract(scene, points, TileSpec(64, 10)).read([0])
    assert time.monotonic() - start < 25


def test_limits_do_not_leak_and_do_not_override(store: Store, cog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []

    def look() -> None:
        seen.append({name: remote.get_gdal_config(name) for name in remote.STORE_OPTIONS})

    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "7")
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "0.3")
    with rasterio.Env(GDAL_HTTP_CONNECTTIMEOUT=4):
        remote.ask("/vsicurl/http://a", look)
        assert remote.get_gdal_config("GDAL_HTTP_LOW_SPEED_TIME") is None
        assert remote.get_gdal_config("GDAL_HTTP_CONNECTTIMEOUT") == 4
    remote.ask("a.tif", look)
    assert float(str(seen[0].pop("GDAL_HTTP_TIMEOUT"))) == 0.3
    assert seen[0] == {
        "GDAL_HTTP_CONNECTTIMEOUT": 4,
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
        "GDAL_HTTP_LOW_SPEED_TIME": 10,
        "GDAL_HTTP_MAX_RETRY": 7,
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    }
    assert seen[1]["GDAL_HTTP_LOW_SPEED_TIME"] is None


def test_messages_have_one_line(store: Store, cog: Path) -> None:
    url = store.put(cog, "line.tif")
    store.fail("line.tif", 500)
    with pytest.raises(RasterError) as caught:
        read_header(url)
    assert "\n" not in str(caught.value)
    assert re.search(r"Is the address right", str(caught.value))
