"""A Dask cluster of real processes: the map has the same bytes, whatever is killed or cut off."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from geopov import __version__, features, regression, survey, tiles
from geopov.errors import StudyError
from geopov.raster import Scene
from geopov.study import extract_features, open_run, open_scenes, predict_map
from geopov.study.execution import clusters
from tests.study.conftest import write_clusters, write_scene
from tests.study.network_namespaces import hosts, why_not

CELL_M = 150.0
DASK = (sys.executable, "-m", "dask")
# How soon a silent connection counts as broken: Dask waits 30 s, and cannot wait for less than 11.
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    write_clusters(folder / "clusters.csv", write_scene(folder / "scene.tif"))
    return folder


@pytest.fixture(scope="module")
def scenes(folder: Path) -> list[Scene]:
    return open_scenes([[str(folder / "scene.tif")]])


@pytest.fixture(scope="module")
def model(folder: Path, scenes: list[Scene]) -> regression.WelfareModel:
    columns = {"id_column": "cluster", "lon_column": "lon", "lat_column": "lat", "outcomes": ["wealth"]}
    clusters = survey.read_clusters(folder / "clusters.csv", **columns)
    spec = tiles.TileSpec(size_px=8, resolution_m=30)
    array = extract_features(scenes, clusters, spec, features.build("band_mean"))
    splits = regression.SpatialBlocks(block_km=4, tile_km=regression.footprint_km(array.attrs))
    options = {"outcome": "wealth", "splits": splits, "folder": folder / "model", "random_folds": False}
    return regression.evaluate(regression.WelfareRidge(), array, clusters, **options)[1]


@pytest.fixture(scope="module")
def expected(folder: Path, scenes: list[Scene], model: regression.WelfareModel) -> bytes:
    """The map as this thread makes it, 12 blocks."""
    return predict_map(scenes, model, path=folder / "serial.tif", cell_m=CELL_M, scheduler="serial").read_bytes()


@contextmanager
def started(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all its children, for as long as the block lasts."""
    environment = os.environ | environment | {"DASK_TEMPORARY_DIRECTORY": str(log.parent)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=log.parent, env=environment, start_new_session=True
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def wait_for(found: Callable[[], Any], log: Path) -> None:
    """Wait until something is found; a machine may be busy with other things."""
    for _ in range(2400):
        if found():
            return
        time.sleep(0.05)
    raise AssertionError(f"after two minutes:\n{log.read_text()}")


def wait_for_scheduler(log: Path) -> None:
    wait_for(lambda: "Scheduler at:" in log.read_text(), log)


def dask_scheduler(port: int, *options: str) -> tuple[str, ...]:
    return (*DASK, "scheduler", "--port", str(port), "--no-dashboard", "--dashboard-address", ":0", *options)


def dask_worker(address: str, *options: str) -> tuple[str, ...]:
    return (*DASK, "worker", address, "--nthreads", "1", "--no-dashboard", *options)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def address(port: int) -> str:
    return f"tcp://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def scheduler(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with started(*dask_scheduler(port, "--host", "127.0.0.1"), log=folder / "scheduler.log") as process:
        wait_for_scheduler(folder / "scheduler.log")
        yield process


@pytest.fixture(scope="module")
def workers(folder: Path, address: str, scheduler: Any) -> Iterator[list[subprocess.Popen[bytes]]]:
    with (
        started(*dask_worker(address), log=folder / "worker_1.log") as one,
        started(*dask_worker(address), log=folder / "worker_2.log") as other,
    ):
        yield [one, other]


def slowly(_: None, task: int) -> int:
    time.sleep(0.2)
    return task


def test_threads_make_the_same_map(folder: Path, scenes: list[Scene], model: Any, expected: bytes) -> None:
    made = predict_map(scenes, model, path=folder / "threads.tif", cell_m=CELL_M, scheduler="threads:2")
    assert made.read_bytes() == expected


@pytest.mark.slow
def test_processes_make_the_same_map_though_one_is_killed(
    folder: Path, scenes: list[Scene], model: Any, expected: bytes
) -> None:
    killed = []

    def kill_one(done: int, _: int) -> None:
        if done == 3:
            children = psutil.Process().children()
            killed.extend(child for child in children if "spawn_main" in " ".join(child.cmdline()))
            killed[0].kill()

    path = folder / "processes.tif"
    made = predict_map(scenes, model, path=path, cell_m=CELL_M, scheduler="processes:2", progress=kill_one)
    assert len(killed) == 2
    assert made.read_bytes() == expected


def test_a_cluster_is_waited_for_and_workers_of_other_versions_are_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path, address: str, workers: Any
) -> None:
    with open_run(address, workers=2) as run:
        assert sorted(run(pow, 2, range(20))) == [(task, 2**task) for task in range(20)]
    monkeypatch.setattr(clusters, "_NO_WORKER_S", 1.0)
    with pytest.raises(StudyError, match=r"has 2 workers after 1 s; expected at least 3"), open_run(address, workers=3):
        pass
    monkeypatch.undo()
    metadata = folder / "other" / "geopov-0.0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: geopov\nVersion: 0.0.1\n", encoding="utf-8")
    other = {"log": folder / "worker_3.log", "PYTHONPATH": str(folder / "other")}
    message = rf"1 of 3 workers at {address} .*\n  1\. tcp://\S+: geopov 0\.0\.1 \(here {__version__}\)"
    with (
        started(*dask_worker(address), **other),
        pytest.raises(StudyError, match=message),
        open_run(address, workers=3),
    ):
        pass


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_CONNECT_S", 1.0)
    with (
        pytest.raises(StudyError, match="no Dask scheduler answers"),
        open_run("tcp://127.0.0.1:1"),
    ):
        pass


def test_a_cluster_makes_the_same_map_though_a_worker_is_killed(
    folder: Path, scenes: list[Scene], model: Any, expected: bytes, address: str, workers: Any
) -> None:
    def kill_one(done: int, _: int) -> None:
        if done == 3:
            kill(workers[0])

    path = folder / "cluster.tif"
    made = predict_map(scenes, model, path=path, cell_m=CELL_M, scheduler=address, workers=2, progress=kill_one)
    assert made.read_bytes() == expected


def test_a_lost_cluster_is_told_of(
    monkeypatch: pytest.MonkeyPatch, address: str, scheduler: Any, workers: list[Any]
) -> None:
    # The last test of this cluster: one worker is left, and now it goes, and then the scheduler.
    monkeypatch.setattr(clusters, "_NO_WORKER_S", 1.0)
    with open_run(address) as run:
        results = run(slowly, None, range(100))
        next(results)
        kill(workers[1])
        with pytest.raises(StudyError, match="no worker has been left for 1 s"):
            list(results)
        results = run(slowly, None, range(100))
        kill(scheduler)
        with pytest.raises(StudyError, match="the connection to the scheduler is lost"):
            list(results)


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are network namespaces")
def test_hosts_make_the_same_map_though_one_is_cut_off(folder: Path, expected: bytes, model: Any) -> None:
    path = folder / "hosts.tif"
    command = [sys.executable, "-m", "geopov", "maps", "predict", "--model", "model/model.npz", "--scene", "scene.tif"]
    command += ["--cell-m", str(CELL_M), "--workers", "2", "--scheduler", "tcp://10.77.0.1:8786", "-o", str(path)]
    with hosts("scheduler", "one", "other", "client") as network:

        def on(host: str, *command: str) -> Any:
            return started(*network.command(host, *command), log=folder / f"host_{host}.log", **IMPATIENT)

        with (
            on("scheduler", *dask_scheduler(8786)),
            on("one", *dask_worker("tcp://10.77.0.1:8786")),
            on("other", *dask_worker("tcp://10.77.0.1:8786")),
        ):
            wait_for_scheduler(folder / "host_scheduler.log")
            with on("client", *command) as client:
                finished = folder / "hosts.tif.unfinished" / "blocks"
                wait_for(lambda: client.poll() or any(finished.glob("*/*")), folder / "host_client.log")
                network.cut("one")
                assert client.wait(timeout=180) == 0, (folder / "host_client.log").read_text()
    assert "Removing worker" in (folder / "host_scheduler.log").read_text()
    assert path.read_bytes() == expected
