"""A run that is stopped, by an error, a kill or a full disk, loses little, leaves no half map, and ends the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps import BlockValues, HoleWarning, Region, predict
from geopov.maps.blocks import PerCell

UTM = CRS.from_epsg(32645)
GRID = CellGrid(UTM, Affine(1000, 0, 256_000, 0, -1000, 3_200_000), 40, 40)
SPAWN = multiprocessing.get_context("fork")


class Noise:
    """Noise that is a block's own: 25 blocks of 8 x 8 cells on GRID, written down as they are asked for."""

    band_names = ("a", "b")
    units = ""
    description = "noise"
    block_cells = 8

    def __init__(self, log, *, fingerprint="noise 1", fail_at=None, holes=(), pause_s=0.0):
        self.log = log
        self.fingerprint = fingerprint
        self.fail_at, self.holes, self.pause_s = fail_at, holes, pause_s

    def __call__(self, block, inside):
        place = block.rows[0], block.columns[0]
        time.sleep(self.pause_s)
        if len(self.asked()) == self.fail_at:
            raise RuntimeError("the power went")
        with self.log.open("a") as stream:
            stream.write(f"{place[0]} {place[1]}\n")
        values = np.random.default_rng(place).normal(size=(2, *inside.shape))
        return BlockValues(values, ("a hole",) if place in self.holes else ())

    def asked(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return predict(Noise(folder / "log"), GRID, path=folder / "map.tif").read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "maps" / "map.tif"


@pytest.fixture
def noise(tmp_path):
    return lambda **options: Noise(tmp_path / "log", **options)


def stop(noise, path, after, **options):
    """Have a run fail at one of its blocks, and forget what it asked for."""
    noise().log.unlink(missing_ok=True)
    with pytest.raises(RuntimeError, match="power"):
        predict(noise(fail_at=after, **options), GRID, path=path)
    noise().log.unlink(missing_ok=True)


def files(path):
    return sorted(item for item in (path.parent / "map.tif.unfinished" / "blocks").glob("*/*"))


def alone(path):
    return [item.name for item in path.parent.iterdir()] == ["map.tif"]


def test_what_was_finished_is_not_made_again(noise, path, undisturbed):
    stop(noise, path, 11)
    assert len(files(path)) == 11
    assert not path.exists()
    steps = []
    predict(noise(), GRID, path=path, progress=lambda *step: steps.append(step))
    assert steps == [(n, 25) for n in range(11, 26)]
    assert len(set(noise().asked())) == 14
    assert path.read_bytes() == undisturbed
    assert alone(path)


def test_the_folder_says_what_it_is(noise, path):
    stop(noise, path, 3)
    told = json.loads((path.parent / "map.tif.unfinished" / "job.json").read_text())
    assert told["map"] == "map.tif"
    assert "goes on from here" in told["about"]
    assert told["job"]["cells"] == [40, 40]


@pytest.mark.parametrize("change", ["fingerprint", "grid", "mask", "bands", "block_cells"])
def test_blocks_of_another_map_are_not_used(noise, path, undisturbed, change):
    other, grid, mask = noise(fail_at=5), GRID, None
    if change == "fingerprint":
        other.fingerprint = "noise 2"
    elif change == "bands":
        other.band_names = ("b", "a")
    elif change == "block_cells":
        other.block_cells = 4
    elif change == "grid":
        grid = replace(GRID, height=39)
    else:
        mask = Region(shapely.box(0, 0, 300_000, 3_300_000), UTM)
    with pytest.raises(RuntimeError, match="power"):
        predict(other, grid, path=path, mask=mask)
    other.log.unlink()
    predict(noise(), GRID, path=path)
    assert len(noise().asked()) == 25
    assert path.read_bytes() == undisturbed


def test_what_cannot_be_told_apart_is_begun_anew(noise, path):
    stop(noise, path, 5, fingerprint="")
    assert not list(path.parent.iterdir())
    calls = []

    class Formula:
        band_names, units, description = ("sum",), "", ""

        def __call__(self, lon, lat):
            calls.append(len(lon))
            if len(calls) == 3:
                raise RuntimeError("the power went")
            return (lon + lat)[None]

    for tell in ("", "formula 1"):
        calls.clear()
        blocks = PerCell(Formula(), block_cells=8)
        blocks.fingerprint = tell
        with pytest.raises(RuntimeError, match="power"):
            predict(blocks, GRID, path=path)
        predict(blocks, GRID, path=path)
        assert len(calls) == (3 + 25 if not tell else 3 + 23)


def cut(file, content):
    file.write_bytes(content[:-9])


def flip(file, content):
    file.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])


def empty(file, content):
    file.write_bytes(b"")


def swap(file, content):
    shutil.copy(file.parent / "0000000", file)


def lose(file, content):
    file.unlink()


@pytest.mark.parametrize("harm", [cut, flip, empty, swap, lose])
def test_a_damaged_block_is_made_again(noise, path, undisturbed, harm):
    stop(noise, path, 11)
    file = files(path)[7]
    harm(file, file.read_bytes())
    predict(noise(), GRID, path=path)
    assert len(noise().asked()) == 15
    assert path.read_bytes() == undisturbed


def test_a_block_with_a_hole_is_tried_again(noise, path, undisturbed):
    stop(noise, path, 11, holes=[(8, 0)])
    assert len(files(path)) == 11
    predict(noise(), GRID, path=path)
    assert len(noise().asked()) == 15
    assert path.read_bytes() == undisturbed
    stop(noise, path, 11, holes=[(8, 0)])
    with pytest.warns(HoleWarning, match="1 times: a hole"):
        predict(noise(holes=[(8, 0)]), GRID, path=path)


def test_an_older_map_stays_until_the_new_one_is_whole(noise, path):
    path.parent.mkdir()
    path.write_bytes(b"an older map")
    stop(noise, path, 11)
    assert path.read_bytes() == b"an older map"


def test_a_folder_of_somebody_else_is_left_alone(noise, path):
    folder = path.parent / "map.tif.unfinished"
    folder.mkdir(parents=True)
    (folder / "thesis.docx").write_text("all of it")
    with pytest.raises(MapError, match=r"map\.tif\.unfinished is in the way"):
        predict(noise(), GRID, path=path)
    assert [item.name for item in folder.iterdir()] == ["thesis.docx"]


def test_a_place_that_cannot_be_written(noise, path):
    path.parent.write_text("a file")
    with pytest.raises(MapError, match=r"the map cannot be written to .*maps: "):
        predict(noise(), GRID, path=path)


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def make(noise, path):
    """A map in a process of its own; while the map is put together, the process looks out for its own end."""
    os.environ["OMP_NUM_THREADS"] = "1"
    predict(noise, GRID, path=path)


def test_two_at_work_on_one_map(noise, path, undisturbed):
    other = SPAWN.Process(target=make, args=(noise(pause_s=0.05), path))
    other.start()
    until(lambda: len(noise().asked()) > 2)
    with pytest.raises(MapError, match=rf"map.tif is being made by process {other.pid} on .* stop it"):
        predict(noise(), GRID, path=path)
    other.join()
    assert other.exitcode == 0
    assert len(noise().asked()) == 25
    assert path.read_bytes() == undisturbed
    assert alone(path)


def test_killed_again_and_again(noise, path, undisturbed):
    kills = (2, 9, 17)
    for blocks in kills:
        other = SPAWN.Process(target=make, args=(noise(pause_s=0.01), path))
        other.start()
        until(lambda blocks=blocks: len(noise().asked()) >= blocks)
        other.kill()
        other.join()
        assert other.exitcode == -signal.SIGKILL
        assert not path.exists()
    predict(noise(), GRID, path=path)
    assert len(set(noise().asked())) == 25
    assert len(noise().asked()) <= 25 + len(kills)  # One block was in flight at each kill.
    assert path.read_bytes() == undisturbed
    assert alone(path)


def die_in_assembly(noise, path):
    def watch():
        until(lambda: any((path.parent / "map.tif.unfinished").glob(".*.partial/*")))
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    predict(noise, GRID, path=path)
    time.sleep(30)


def test_killed_while_it_is_put_together(noise, path, undisturbed):
    other = SPAWN.Process(target=die_in_assembly, args=(noise(), path))
    other.start()
    other.join()
    assert other.exitcode == -signal.SIGKILL
    assert not path.exists()
    assert list((path.parent / "map.tif.unfinished").glob(".*.partial"))
    predict(noise(), GRID, path=path)
    assert len(noise().asked()) == 25
    assert path.read_bytes() == undisturbed
    assert alone(path)


def test_children_of_the_killed_do_not_hold_its_lock(noise, path):
    def fork(log):
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        log.write_text("forked")
        time.sleep(30)

    class Forking(Noise):
        def __call__(self, block, inside):
            return fork(self.log)

    other = SPAWN.Process(target=make, args=(Forking(noise().log), path))
    other.start()
    until(lambda: noise().asked())
    other.kill()
    other.join()
    assert predict(noise(), GRID, path=path).exists()


WIDE = CellGrid(UTM, Affine(1000, 0, 256_000, 0, -1000, 3_200_000), 600, 600)


class Coarse(Noise):
    """600 x 600 cells in two bands: 2.9 MB, which do not compress."""

    block_cells = 128


def try_coarse(log, path, answer, limit_bytes=resource.RLIM_INFINITY):
    """What the map's error says; in a process of its own, where files may be limited."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
    try:
        predict(Coarse(log), WIDE, path=path)
    except MapError as error:
        answer.send(str(error))
    else:
        answer.send("")


def told(*arguments):
    ours, theirs = SPAWN.Pipe(duplex=False)
    other = SPAWN.Process(target=try_coarse, args=(*arguments[:2], theirs, *arguments[2:]))
    other.start()
    theirs.close()
    text = ours.recv()
    other.join()
    return text


@pytest.mark.parametrize("limit_bytes", [40_000, 1_500_000, 2_500_000])
def test_a_limit_on_files_leaves_blocks_to_go_on_from(tmp_path, path, limit_bytes):
    log = tmp_path / "log"
    text = told(log, path, limit_bytes)
    assert not path.exists()
    assert "the map cannot be written to" in text
    assert "MB are free there; up to" in text
    first = len(log.read_text().splitlines())
    if limit_bytes < 100_000:
        assert "File too large" in text
        assert (first, list(path.parent.iterdir())) == (1, [])
    else:
        assert first == 25
        assert "25 finished blocks are kept" in text
        assert "the same command goes on from them" in text
    predict(Coarse(log), WIDE, path=path)
    assert len(log.read_text().splitlines()) == (26 if first == 1 else 25)
    assert alone(path)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many bytes, or makes it so large."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(size_bytes):
        how = f"size={size_bytes}" if not folder.is_mount() else f"remount,size={size_bytes}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "none", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("only root may mount a disk in memory")
        return folder

    yield size
    subprocess.run(["umount", folder], capture_output=True, check=False)


# Blocks take 2.7 MB, rows of the map another 4.2, the compressed map and its overviews 3.6.
@pytest.mark.parametrize("size_bytes", [1_000_000, 4_000_000, 8_000_000, 9_000_000])
def test_a_full_disk(tmp_path, small_disk, size_bytes):
    log, path = tmp_path / "log", small_disk(size_bytes) / "map.tif"
    with pytest.raises(MapError, match=r"the map cannot be written to .* MB are free there; up to .* MB") as error:
        predict(Coarse(log), WIDE, path=path)
    assert not path.exists()
    first = len(log.read_text().splitlines())
    kept = len(files(path))
    assert f"{kept} finished blocks are kept" in str(error.value)
    assert kept == (first - 1 if size_bytes < 2_000_000 else 25)
    small_disk(30_000_000)
    predict(Coarse(log), WIDE, path=path)
    assert len(log.read_text().splitlines()) == (26 if first < 25 else 25)
    assert alone(path)
    whole = predict(Coarse(tmp_path / "log 2"), WIDE, path=tmp_path / "whole.tif")
    assert path.read_bytes() == whole.read_bytes()
