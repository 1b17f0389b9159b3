"""What a run is started with: options of stages, profiles, locks of its folder, and why a log says that it failed."""

from __future__ import annotations

import errno
import fcntl
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from geopov.errors import StudyError
from geopov.study.engine import Engine, StageOptions, last_error, only_run_in, pipeline_file
from geopov.study.runner import _where_it_says_why


def test_options_travel_by_environment() -> None:
    assert StageOptions().environment == {}
    options = StageOptions(scheduler="tcp://10.0.0.1:8786", workers=4, memory_mb=2000.0, strict=True)
    assert options.environment == {
        "GEOPOV_SCHEDULER": "tcp://10.0.0.1:8786",
        "GEOPOV_WORKERS": "4",
        "GEOPOV_MEMORY_MB": "2000",
        "GEOPOV_STRICT": "1",
    }


@pytest.mark.parametrize(
    "scheduler", ["serial", "threads", "processes:4", "tls://node-7.cluster:80", "tcp://[::1]:8786"]
)
def test_schedulers(scheduler: str) -> None:
    assert StageOptions(scheduler=scheduler).environment == {"GEOPOV_SCHEDULER": scheduler}


@pytest.mark.parametrize(
    "scheduler",
    ["", "thread", "threads:0", "serial:1", "tcp://", "tcp://host", "http://host:80", "tcp://a b:1", "tcp://h:x"],
)
def test_no_scheduler(scheduler: str) -> None:
    with pytest.raises(StudyError, match=r"expected serial, threads, .* or the address .* tcp://10\.0\.0\.1"):
        StageOptions(scheduler=scheduler)


@pytest.mark.parametrize(("name", "value"), [("memory_mb", 0), ("memory_mb", float("nan")), ("workers", -1)])
def test_numbers_above_zero(name: str, value: float) -> None:
    with pytest.raises(StudyError, match=f"{name} is {value!r}"):
        StageOptions(**{name: value})  # type: ignore[arg-type]


def test_profiles_are_found(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    command = Engine(profiles=("slurm", str(tmp_path))).command("Snakefile", tmp_path, tmp_path / "study.json")
    given = [value for option, value in pairwise(command) if option == "--profile"]
    assert given == [str(pipeline_file("profiles") / "slurm"), str(tmp_path)]
    assert (Path(given[0]) / "config.yaml").is_file()
    assert "--cores" not in command  # the profile's
    assert "--cores" in Engine().command("Snakefile", tmp_path, tmp_path / "study.json")


def test_no_such_profile(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no profile slrum; expected local, slurm, or the folder"):
        Engine(profiles=("slrum",))
    with pytest.raises(StudyError, match=r"config\.yaml"):
        Engine(profiles=(str(tmp_path),))


def test_one_run_in_a_folder(tmp_path: Path) -> None:
    said: list[str] = []
    with only_run_in(tmp_path, said.append), pytest.raises(StudyError) as refused, only_run_in(tmp_path, said.append):
        pass
    assert str(refused.value) == (
        f"another run is at work in {tmp_path}; wait for it to end, or give this one its own folder with --work."
    )
    with only_run_in(tmp_path, said.append):
        pass
    assert said == []


def test_what_a_killed_run_leaves(tmp_path: Path) -> None:
    half, goes_on = tmp_path / "model" / ".model.1-2.partial.npz", tmp_path / "map.tif.unfinished" / "0_0.npy"
    for path in (half, goes_on):
        path.parent.mkdir()
        path.touch()
    with only_run_in(tmp_path, print):
        assert not half.exists()
        assert goes_on.exists()


def test_folder_of_many_leaves_their_files_alone(tmp_path: Path) -> None:
    theirs, own = tmp_path / "kenya" / ".map.1-2.partial.tif", tmp_path / ".countries" / ".kenya.1-2.partial.json"
    for path in (theirs, own):
        path.parent.mkdir()
        path.touch()
    with only_run_in(tmp_path, print, leftovers=own.parent):
        assert theirs.exists(), "another run may be writing it"
        assert not own.exists()


def test_stages_hold_their_lock_together_and_a_run_waits_for_them(tmp_path: Path) -> None:
    with only_run_in(tmp_path, print) as locks:
        assert locks.stage is not None
    said: list[str] = []
    with locks.stage.open("r+") as here, locks.stage.open("r+") as there:  # as on two nodes of a cluster
        fcntl.flock(here, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(there, fcntl.LOCK_SH | fcntl.LOCK_NB)
        ends = threading.Timer(0.3, lambda: [fcntl.flock(file, fcntl.LOCK_UN) for file in (here, there)])
        ends.start()
        with only_run_in(tmp_path, said.append):
            assert said == ["waiting for a stage that a killed run left behind"]
            assert not ends.is_alive() or ends.finished.is_set()
            fcntl.flock(here, fcntl.LOCK_SH | fcntl.LOCK_NB)  # while a run is at work, its stages may
        ends.join()


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    half = tmp_path / ".model.1-2.partial.npz"
    half.touch()
    said: list[str] = []
    with only_run_in(tmp_path, said.append) as locks:
        assert locks.stage is None, "stages could not take it either"
        assert half.exists(), "nobody knows whether it is still written"
    assert said == [f"the file system of {tmp_path} has no locks; make sure that no other run is at work there"]


GENERIC = "Error: a stage of the run in /w/kenya failed; its message stands above. Mend it and run it again.\n"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", None),
        ("Reading 0:00:01\n" + GENERIC, None),
        (f"Error: scene.tif: a block cannot be read.\n{GENERIC}", "scene.tif: a block cannot be read."),
        ("Error: 2 problems:\n  1. a\n  2. b\nbye\n", "2 problems: 1. a 2. b"),
        ("Error: first.\nError: second.\n", "second."),
        (f"Traceback:\n  File\nnumpy.MemoryError: 9 GiB\n{GENERIC}", "numpy.MemoryError: 9 GiB"),
    ],
)
def test_last_error(tmp_path: Path, log: str, reason: str | None) -> None:
    path = tmp_path / "run.log"
    assert last_error(path) is None
    path.write_text(log)
    assert last_error(path) == reason


def test_a_stage_that_failed_on_a_cluster_is_named_with_its_log(tmp_path: Path) -> None:
    assert _where_it_says_why(tmp_path, 0.0) == "its message stands above"
    log = tmp_path / ".snakemake" / "slurm_logs" / "rule_features" / "model" / "7.log"
    log.parent.mkdir(parents=True)
    log.write_text("Error: scene.tif is cut short.\n")
    assert _where_it_says_why(tmp_path, 0.0) == f"features/model: scene.tif is cut short (log: {log})"
    assert _where_it_says_why(tmp_path, log.stat().st_mtime + 1) == "its message stands above"  # of an earlier run
