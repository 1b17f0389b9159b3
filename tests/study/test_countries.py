"""Several studies through the command line: each a job, here and on a cluster; failed, killed, resumed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from geopov.cli import main
from geopov.errors import StudyError
from geopov.study.countries import _record, _snakemake_says, read_countries, run_countries

SLURM = ("sbatch", "sacct", "srun", "sinfo", "scontrol", "squeue", "scancel", "sacctmgr", "sshare")


def _write(folder: Path, name: str, **changes: Any) -> Path:
    """The small study under another name; without a map it is done in half the time."""
    study = yaml.safe_load((folder / "study.yaml").read_text()) | {"name": name} | changes
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in study.items() if value is not None}, sort_keys=False))
    return path


def _quick(folder: Path, name: str, **changes: Any) -> Path:
    return _write(folder, name, map=None, baseline=None, **changes)


@pytest.fixture
def refused(study_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(study_folder)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["geopov", "run", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    return run


def test_two_of_one_name(study_folder: Path, refused: Callable[..., str]) -> None:
    shutil.copy(study_folder / "study.yaml", study_folder / "copy.yaml")
    _write(study_folder, "other")
    assert "the same name: small (study.yaml, copy.yaml)" in refused("study.yaml", "other.yaml", "copy.yaml")
    assert "the same name: small (study.yaml, study.yaml)" in refused("study.yaml", "study.yaml")
    assert not (study_folder / "work").exists()


def test_studies_that_cannot_be_read_are_all_named(study_folder: Path, refused: Callable[..., str]) -> None:
    _write(study_folder, "odd", tiles={"size_px": 16})
    message = refused("study.yaml", "odd.yaml", "nowhere.yaml")
    assert "2 of 3 studies cannot be read" in message
    assert "tiles.resolution_m: missing" in message
    assert "no study file nowhere.yaml" in message


def test_options_are_checked_first(study_folder: Path, refused: Callable[..., str]) -> None:
    assert "the scheduler is 'thread'; expected serial" in refused("study.yaml", "--scheduler", "thread")
    assert "memory_mb is 0.0; expected" in refused("study.yaml", "--memory-mb", "0")
    assert "there is no profile slum" in refused("study.yaml", "--profile", "slum")
    assert not (study_folder / "work").exists()


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_dry_run_of_both_workflows(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], profile: str
) -> None:
    _write(study_folder, "other")
    monkeypatch.chdir(study_folder)

    def run(*studies: str) -> str:
        monkeypatch.setattr(
            sys, "argv", ["geopov", "run", *studies, "--work", "out", "--profile", profile, "--dry-run"]
        )
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        assert stopped.value.code == 0, err
        return out + err

    assert f"profiles/{profile} for setting default" in (several := run("study.yaml", "other.yaml"))
    assert "country" in several
    assert several.count("to do") == 2
    shutil.rmtree(study_folder / "out")
    one = run("study.yaml")
    for stage in ("clusters", "features", "regression", "map", "report"):
        assert stage in one
    assert not (study_folder / "out" / "clusters.parquet").exists()


def test_dry_run_names_every_study_that_cannot_run(study_folder: Path, refused: Callable[..., str]) -> None:
    _write(study_folder, "wrong", outcome={"column": "welth", "unit": "index", "label": "Wealth"})
    message = refused("study.yaml", "wrong.yaml", "--dry-run")
    assert "1 of 2 studies cannot be run as they are: 1. wrong: " in message
    assert "welth" in message


def test_a_country_is_redone_when_its_files_change(study_folder: Path) -> None:
    ((path, study),) = read_countries([study_folder / "study.yaml"]).items()
    before = _record(path, study)
    assert _record(path, study) == before
    scene = study_folder / "scene.tif"
    os.utime(scene, ns=(0, 1))
    assert _record(path, study) != before
    scene.unlink()
    assert _record(path, study)["sources"]["scene"][0][1] is None  # which its own run says
    (study_folder / "catalog.yaml").unlink()
    assert "catalog.yaml" in _record(path, study)["sources"]


def test_reason_of_a_job_that_the_cluster_ended(tmp_path: Path) -> None:
    log = tmp_path / ".snakemake" / "log" / "2026.snakemake.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "Error in rule country:\n"
        "    message: SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'. Reason: Unknown.\n"
        "    jobid: 2\n    input: .countries/kenya.json\n    output: .countries/kenya.done\n    log: kenya/run.log\n"
    )
    assert _snakemake_says(tmp_path) == {
        "kenya": "SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'. Reason: Unknown."
    }


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands, which run jobs on this machine; the folder of the jobs."""
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in SLURM:
        (commands / name).symlink_to(Path(__file__).with_name("fake_slurm.sh"))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(jobs))
    # A test does not wait as long for a file or a job as a cluster's users may have to.
    impatient = {"slurm-init-seconds-before-status-checks": 1, "seconds-between-status-checks": 1}
    (tmp_path / "impatient").mkdir()
    (tmp_path / "impatient" / "config.yaml").write_text(yaml.safe_dump(impatient | {"latency-wait": 5, "retries": 0}))
    return jobs


def _times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def killed_later() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_on_a_cluster_then_killed_then_resumed(
    study_folder: Path, geopov: Any, cluster: Path, killed_later: list[subprocess.Popen[bytes]]
) -> None:
    _quick(study_folder, "good")
    _quick(study_folder, "bad", outcome={"column": "welth", "unit": "index", "label": "Wealth"})
    command = ["run", "bad.yaml", "good.yaml", "--work", "out"]

    on_cluster = ["--profile", "slurm", "--profile", "impatient", "--memory-mb", "1600"]
    # Snakemake asks after its jobs less and less often, so that on a busy machine this takes minutes.
    words = [sys.executable, "-m", "geopov", *command, *on_cluster]
    first = subprocess.run(words, cwd=study_folder, capture_output=True, text=True, check=False, timeout=900)
    assert first.returncode == 2, first.stderr
    table = " ".join(first.stdout.split())
    assert "good done out/good/report.html" in table
    assert "bad failed the study 'bad' cannot run; 1 problem: 1. clusters: clusters.csv has no column 'welth'" in table
    asked = [(job / "asked").read_text() for job in sorted(cluster.iterdir())]
    assert len(asked) == 2
    for line in asked:
        assert "-p short -t 1440 --mem 3000 --ntasks=1 --cpus-per-task=8" in line
    finished = _times(study_folder / "out" / "good")

    with (study_folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "geopov", *command], cwd=study_folder, stdout=log, stderr=log, start_new_session=True
        )
    killed_later.append(process)
    deadline = time.monotonic() + 120
    (study_folder / "out" / "bad" / "run.log").unlink()
    while not (study_folder / "out" / "bad" / "run.log").exists():
        assert process.poll() is None, (study_folder / "log.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(StudyError, match=r"another run is at work in .*out; wait for it to end"):
        run_countries(read_countries([study_folder / "good.yaml"]), work=study_folder / "out")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    last = geopov(*command, cwd=study_folder)
    assert last.returncode == 2, last.stderr
    assert "bad: done" not in last.stdout
    assert "no column 'welth'" in " ".join(last.stdout.split())
    assert _times(study_folder / "out" / "good") == finished, "a finished country is kept as it is"
