"""Tasks in this thread, in threads and in processes: the same results, a few at a time, whatever is killed."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import numpy as np
import pytest

from geopov import errors
from geopov.errors import GeopovError, StudyError
from geopov.study import open_run
from geopov.study.execution.clusters import _loaded
from geopov.study.execution.software import differences, software

# This module is none that another process could import.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SCHEDULERS = ("serial", "threads:2", "processes:2")


class Lattice:
    """A payload that tells which processes loaded it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.matrix = np.random.default_rng(0).normal(size=(60, 60))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        with (self.folder / "loads").open("a") as loads:
            loads.write(f"{os.getpid()}\n")

    def pids(self) -> list[int]:
        """The processes that began a task, in order."""
        return [int(line) for line in (self.folder / "pids").read_text().split()]


def digest(lattice: Lattice, task: int) -> str:
    with (lattice.folder / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    noise = np.random.default_rng(task).normal(size=(60, 60))
    return hashlib.sha256(np.linalg.svd(lattice.matrix @ noise)[0].tobytes()).hexdigest()


def slow_digest(lattice: Lattice, task: int) -> str:
    found = digest(lattice, task)
    time.sleep(0.2)
    return found


def fail(_: None, task: int) -> int:
    if task == 2:
        raise StudyError("two things are wrong:", ["this", "that"])
    return task


def take_memory(_: None, task: int) -> int:
    if task == 5:
        taken = np.ones(1 << 28)
        time.sleep(30)
        return len(taken)
    return task


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, Any]]:
    """A run of each kind; the processes may take 700 MiB each, and a task may kill one of them but not two."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        open_run("serial") as serial,
        open_run("threads", workers=2) as threads,
        open_run("processes:2", memory_mb=700) as processes,
    ):
        yield dict(zip(SCHEDULERS, (serial, threads, processes), strict=True))


@pytest.fixture
def lattice(tmp_path: Path) -> Lattice:
    return Lattice(tmp_path)


def test_results_do_not_depend_on_the_scheduler(opened: dict[str, Any], lattice: Lattice) -> None:
    expected = {task: digest(lattice, task) for task in range(30)}
    for scheduler in SCHEDULERS:
        (lattice.folder / "pids").unlink()
        assert dict(opened[scheduler](digest, lattice, range(30))) == expected
        assert (set(lattice.pids()) == {os.getpid()}) == (scheduler != "processes:2")
    loads = (lattice.folder / "loads").read_text().split()
    assert len(loads) == len(set(loads)) == 2


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_tasks_are_drawn_a_few_ahead(opened: dict[str, Any], scheduler: str) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            drawn.append(len(drawn))
            yield drawn[-1]

    results = opened[scheduler](pow, 2, endless())
    for taken in range(1, 21):
        task, result = next(results)
        assert result == 2**task
        assert len(drawn) <= taken + 4
    results.close()
    assert list(opened[scheduler](pow, 2, [])) == []


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_error_of_a_task_is_raised_as_it_is(opened: dict[str, Any], scheduler: str) -> None:
    drawn: list[int] = []
    tasks = (drawn.append(task) or task for task in range(100))
    with pytest.raises(StudyError, match="two things") as caught:
        list(opened[scheduler](fail, None, tasks))
    assert caught.value.problems == ("this", "that")
    assert len(drawn) < 50
    assert sorted(opened[scheduler](fail, None, [0, 1, 3])) == [(0, 0), (1, 1), (3, 3)]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_error_of_who_names_the_tasks_is_raised(opened: dict[str, Any], scheduler: str) -> None:
    def tasks() -> Iterator[int]:
        yield 0
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(opened[scheduler](fail, None, tasks()))


def test_interrupted_threads_leave_the_rest_undone(lattice: Lattice) -> None:
    def interrupted() -> None:
        with open_run("threads:2") as run:
            for _ in run(slow_digest, lattice, range(100)):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(lattice.pids()) <= 4


def test_a_killed_process_loses_nothing(opened: dict[str, Any], lattice: Lattice) -> None:
    results, killed = {}, 0
    for task, result in opened["processes:2"](slow_digest, lattice, range(16)):
        results[task] = result
        if len(results) == 3:
            killed = lattice.pids()[-1]
            os.kill(killed, signal.SIGKILL)
    assert killed in lattice.pids()
    assert results == {task: digest(lattice, task) for task in range(16)}


def test_a_task_too_large_for_any_process_is_named(opened: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=r"2 workers died one after the other with the task 5, .*more memory"):
        list(opened["processes:2"](take_memory, None, range(6)))


# What a user's script does; the guard is what starting processes asks of one.
SCRIPT = """
import os, time
from geopov.study import open_run

def work(payload, task):
    time.sleep(0.1)
    return os.getpid()

if __name__ == "__main__":
    with open_run("processes:2") as run:
        for task, pid in run(work, None, range(1000)):
            if task == 0:
                print("begun", pid, flush=True)
"""


def test_an_interrupted_script_is_quiet_and_leaves_nothing(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    (home / "script.py").write_text(SCRIPT, encoding="utf-8")
    script = subprocess.Popen(
        [sys.executable, "-B", "script.py"],
        cwd=home,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout is not None
    begun = script.stdout.readline().split()
    os.killpg(script.pid, signal.SIGINT)  # as the terminal does at Ctrl-C
    out, err = script.communicate(timeout=60)
    assert begun[0] == "begun"
    assert out == ""
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "distributed" not in err.replace("geopov/study/execution", "")
    assert [path.name for path in home.iterdir()] == ["script.py"]
    assert list(scratch.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun[1]), 0)


@pytest.mark.parametrize(
    ("scheduler", "options", "message"),
    [
        ("dask", {}, "the scheduler is 'dask'; expected 'serial'"),
        ("threads:0", {}, "the scheduler is 'threads:0'; expected"),
        ("processes:", {}, "the scheduler is 'processes:'; expected"),
        ("tcp:8786", {}, "the scheduler is 'tcp:8786'; expected"),
        ("serial:1", {}, "the scheduler is 'serial:1'; expected"),
        ("threads", {"workers": 0}, "workers is 0; expected at least 1"),
        ("threads:2", {"workers": 3}, "'threads:2' and workers is 3; give one"),
        ("serial", {"workers": 2}, "workers is 2 with the scheduler 'serial'"),
        ("threads", {"memory_mb": 100}, "memory_mb is 100 with the scheduler 'threads'"),
        ("tcp://127.0.0.1:1", {"memory_mb": 100}, "workers are started with theirs"),
        ("processes", {"memory_mb": -1}, "memory_mb is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(scheduler: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message), open_run(scheduler, **options):
        pass


def _classes(base: type[GeopovError]) -> Iterator[type[GeopovError]]:
    yield base
    for derived in base.__subclasses__():
        yield from _classes(derived)


@pytest.mark.parametrize("error", sorted(set(_classes(GeopovError)), key=lambda error: error.__name__))
def test_errors_travel_between_processes(error: Callable[[str], GeopovError]) -> None:
    raised = error("scene.tif: what was given\nand what to do")
    other = pickle.loads(pickle.dumps(raised))
    assert type(other) is type(raised)
    assert (str(other), vars(other)) == (str(raised), vars(raised))
    assert set(errors.__all__) <= {found.__name__ for found in _classes(GeopovError)}


def test_a_worker_that_runs_other_software_refuses_its_work() -> None:
    assert differences(software()) == ""
    theirs = software() | {"numpy": "1.0", "python": "3.9"}
    del theirs["scipy"]
    with pytest.raises(StudyError, match=r"python 3\.9 \(here .*numpy 1\.0 \(here .*scipy missing \(here "):
        _loaded(pickle.dumps((theirs, b"never read")))
    assert "cannot be loaded (ModuleNotFoundError" in differences(ModuleNotFoundError("No module named 'geopov'"))
