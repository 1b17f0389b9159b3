"""From the study and the probe's measurements to the estimate."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from geopov.errors import StudyError
from geopov.study.config import Study
from geopov.study.engine import StageOptions
from geopov.study.estimate.measure import Finished, run_measured
from geopov.study.estimate.result import Estimate
from geopov.study.estimate.rows import Probed, rows_of
from geopov.study.execution import usable_cores
from geopov.study.runner import work_folder
from geopov.study.workflow import workflow_arguments

__all__ = ["estimate_study"]

# What a stage's process imports before it looks at its options, and then the probe's own work.
_START = "import geopov.cli.{}; from geopov.study.estimate import probe; probe.{}()"


def estimate_study(
    study: Study, *, work: str | Path | None = None, options: StageOptions | None = None, probe_s: float = 10.0
) -> Estimate:
    """What a run of a study will take on this machine.

    Stages that are up to date in the work folder are not counted. The survey stage is run as it is, into a temporary
    folder, since all else depends on its clusters; of every other stage a small piece is measured in a process that
    starts as the stage does.

    Parameters
    ----------
    study : Study
        From :func:`geopov.study.prepare_study`.
    work : path, optional
        Its work folder, as for :func:`geopov.study.run_study`.
    options : StageOptions, optional
        How the run's stages would compute. Of a cluster nothing is measured: its blocks are taken to be computed here.
    probe_s : float
        Seconds to measure the rates of extraction, training and mapping in, all together; preparing a network for its
        engine, and the smallest piece of each, come on top.

    Raises
    ------
    StudyError
        If the study cannot be run at all: its first stage, or the probe, fails.
    """
    began = time.perf_counter()
    folder = work_folder(study, work)
    with tempfile.TemporaryDirectory(prefix="geopov-estimate-") as temporary:
        probe = _Probe(study, folder, Path(temporary), options or StageOptions(), probe_s)
        probed = probe.all()
    rows = rows_of(study, probed, cores=usable_cores(), scheduler=probe.options.scheduler)
    return replace(rows, probe_seconds=time.perf_counter() - began)


class _Probe:
    """Runs what has to be measured, one process after another."""

    def __init__(self, study: Study, work: Path, temporary: Path, options: StageOptions, probe_s: float) -> None:
        self.study, self.work, self.folder, self.options, self.probe_s = study, work, temporary, options, probe_s
        self.fresh = not (work / "clusters.parquet").is_file()

    def all(self) -> Probed:
        before = self._run("run", "rehearse", self._request([]))
        jobs = _jobs(before.output)
        wanted = _wanted(self.study, jobs, self.work)
        found: dict[str, Finished] = {"start": before}
        clusters, points = self.work / "clusters.parquet", self.work / "network" / "points.parquet"
        if "clusters" in jobs:
            clusters = self.folder / "clusters.parquet"
            found["clusters"] = self._stage("clusters", ["survey"], ["-o", str(clusters)])
        if "points" in jobs:
            points = self.folder / "points.parquet"
            found["points"] = self._stage(
                "points", ["features", "points"], ["--away-from", str(clusters), "-o", str(points)]
            )
        answer: dict[str, Any] = {}
        sample = self.folder / "map.tif"
        if wanted:
            found["probe"] = self._run(
                "features", "main", self._request(wanted, clusters=clusters, points=points, sample=sample)
            )
            answer = json.loads((self.folder / "answer.json").read_text(encoding="utf-8"))
        if sample.is_file():
            found["picture"] = self._stage(
                "picture", ["maps", "render", str(sample)], ["-o", str(self.folder / "map.png")]
            )
        files = {"clusters": clusters, "points": points}
        sizes = {name: path.stat().st_size for name, path in files.items() if path.is_file()}
        return Probed(jobs=jobs, found=found, answer=answer, sizes=sizes, from_scratch=self.fresh)

    def _request(self, wanted: list[str], **paths: Path) -> dict[str, Any]:
        request: dict[str, Any] = {"study": self.study.model_dump(mode="json"), "work": str(self.work)}
        request |= {"wanted": wanted, "probe_s": self.probe_s, "scheduler": self.options.scheduler or "threads"}
        request |= {"workers": self.options.workers, "memory_mb": self.options.memory_mb}
        request |= {"answer": str(self.folder / "answer.json"), "points": None}
        return request | {name: str(path) for name, path in paths.items()}

    def _run(self, command: str, function: str, request: Mapping[str, Any]) -> Finished:
        file, log = self.folder / "request.json", self.folder / "log.txt"
        file.write_text(json.dumps(dict(request) | {"spawned": time.time()}), encoding="utf-8")
        done = run_measured([sys.executable, "-c", _START.format(command, function), str(file)], log=log)
        if done.status != 0:
            raise StudyError(f"the probe of the study failed: {_last_line(done.output)}. Run the study to see more.")
        return done

    def _stage(self, rule: str, command: list[str], output: list[str]) -> Finished:
        """Run a stage's own command, with other files."""
        options = shlex.split(workflow_arguments(self.study)[rule].options)
        done = run_measured([sys.executable, "-m", "geopov", *command, *options, *output], log=self.folder / "log.txt")
        if done.status != 0:
            raise StudyError(f"`geopov {' '.join(command[:2])}` of this study fails: {_last_line(done.output)}")
        return done


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a message"


def _jobs(output: str) -> dict[str, int]:
    """Rules that Snakemake's dry run would run, with how many jobs each has."""
    found: dict[str, int] = {}
    for name, count in re.findall(r"^([a-z]\w*) +(\d+)$", output, re.MULTILINE):
        if name not in ("all", "total"):
            found[name] = int(count)
    return found


def _wanted(study: Study, jobs: Mapping[str, int], work: Path) -> list[str]:
    """Stages to probe: those that would run and are no matter of seconds."""
    wanted = [rule for rule in ("network", "regression", "map") if rule in jobs]
    roles = list(study.extractors)
    if "features" in jobs:
        done = jobs["features"] < len(roles)
        roles = [role for role in roles if not (done and (work / "features" / f"{role}.nc").is_file())]
        wanted += [f"features/{role}" for role in roles]
    return wanted
