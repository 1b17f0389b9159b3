"""A study through the command line: made, left alone, changed, killed, and wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rio_cogeo.cogeo import cog_validate

Run = Callable[..., "subprocess.CompletedProcess[str]"]
OUTPUTS = [
    *("clusters.parquet", "features/model.nc", "features/baseline.nc"),
    *("model/model.npz", "model/predictions.parquet", "model/scores.json"),
    *("map.tif", "map.qml", "map.png", "map.html", "project.qgz", "layers.gpkg", "report.html"),
]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def _names(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(".snakemake")}


def _times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in OUTPUTS}


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed: the study's folder, what it said and what it left in ``out``."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    bytes: dict[str, bytes]
    names: set[str]


@pytest.fixture(scope="module")
def whole(study_template: Path, tmp_path_factory: pytest.TempPathFactory, geopov: Run) -> Whole:
    folder = shutil.copytree(study_template, tmp_path_factory.mktemp("whole") / "study")
    done = geopov("run", "study.yaml", "--work", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return Whole(folder, done, _bytes(folder / "out"), _names(folder / "out"))


def test_run_makes_a_map_then_only_what_changed(whole: Whole, geopov: Run) -> None:
    study_folder, first = whole.folder, whole.done
    work = study_folder / "out"

    scores = json.loads((work / "model/scores.json").read_text())
    assert scores["n"] == 118
    assert len(scores["dropped"]) == 2
    pooled = {row["predictor"]: row for row in scores["scores"] if row["subset"] == "all"}
    assert pooled["model"]["R2"] > 0.8  # the scene shows the outcome
    assert pooled["nightlights_ridge"]["R2"] < 0.1  # the second band is noise
    valid, problems, _ = cog_validate(work / "map.tif")
    assert valid, problems
    with rasterio.open(work / "map.tif") as opened:
        assert opened.descriptions == ("mean", "lower", "upper", "in_support")
        mean, lower, upper = opened.read([1, 2, 3], masked=True)
        assert opened.crs.to_epsg() == 32736
    assert np.all((lower < mean) & (mean < upper))
    assert "map.tif" in first.stdout
    assert "report.html" in first.stdout

    times = _times(work)
    again = geopov("run", "study.yaml", "--work", "out", cwd=study_folder)
    assert again.returncode == 0, again.stderr
    assert _times(work) == times, "nothing changed, so nothing may run"

    written = (study_folder / "study.yaml").read_text()
    study = yaml.safe_load(written)
    study["map"]["title"] = "Another title"
    (study_folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    try:
        changed = geopov("run", "study.yaml", "--work", "out", cwd=study_folder)
    finally:
        (study_folder / "study.yaml").write_text(written)
    assert changed.returncode == 0, changed.stderr
    now = _times(work)
    kept = {name for name in OUTPUTS if now[name] == times[name]}
    assert kept >= {"clusters.parquet", "features/model.nc", "features/baseline.nc", "model/model.npz"}
    assert now["map.png"] != times["map.png"]


STAGES = ["survey points", "features extract", "regression fit", "maps predict", "maps render", "geopov report"]


def _stage_process(group: int, stage: str) -> bool:
    """Whether a process of this group is at work on the stage."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getpgid(int(entry.name)) != group:
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue
        if words[1:3] == [b"-m", b"geopov"] and stage in " ".join(["geopov", *(w.decode() for w in words[3:])]):
            return True
    return False


def _start_and_wait_for(stage: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "geopov", "run", "study.yaml", "--work", "killed", "--cores", "1"]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 120
    while not _stage_process(process.pid, stage):
        assert process.poll() is None, f"the run ended before {stage}: {(folder / 'log.txt').read_text()}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.0)  # into the stage's own work, past the start of the interpreter
    return process


needs_proc = pytest.mark.skipif(not Path("/proc").exists(), reason="finds the stage's process through /proc")


@needs_proc
def test_killed_in_any_stage_ends_with_the_same_bytes(whole: Whole, geopov: Run) -> None:
    study_folder = whole.folder
    for stage in STAGES:
        process = _start_and_wait_for(stage, study_folder)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = geopov("run", "study.yaml", "--work", "killed", cwd=study_folder)
    assert last.returncode == 0, last.stderr
    assert _bytes(study_folder / "killed") == whole.bytes
    assert _names(study_folder / "killed") == whole.names, "something was left behind"


@needs_proc
def test_no_second_run_beside_what_a_killed_run_left_at_work(study_folder: Path, geopov: Run) -> None:
    process = _start_and_wait_for("features extract", study_folder)
    process.kill()  # Snakemake and the stage live on
    process.wait()
    second = geopov("run", "study.yaml", "--work", "killed", cwd=study_folder)
    os.killpg(process.pid, signal.SIGKILL)
    assert second.returncode == 2
    assert "another run is at work" in second.stderr
    third = geopov("run", "study.yaml", "--work", "killed", cwd=study_folder)
    assert third.returncode == 0, third.stderr


def test_all_problems_are_said_at_once(study_folder: Path, geopov: Run) -> None:
    study = yaml.safe_load((study_folder / "study.yaml").read_text())
    study["outcome"]["column"] = "welth"
    study["features"] = [{"name": "band_statistics", "bands": [5]}]
    study["map"]["style"] = "pretty"
    (study_folder / "study.yaml").write_text(yaml.safe_dump(study))
    done = geopov("run", "study.yaml", "--work", "out", cwd=study_folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in ("welth", "5", "pretty"):
        assert word in done.stderr
    assert not (study_folder / "out").exists()
