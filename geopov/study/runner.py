"""``geopov run``: check everything, fetch, then let Snakemake make what is missing or has changed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geopov import __version__, _optional
from geopov._validation import atomic_path, sha256_of
from geopov.catalog import Catalog, open_catalog
from geopov.errors import StudyError
from geopov.study.checks import check_study
from geopov.study.config import Study, read_study
from geopov.study.sections import SampleWorld

STAGE_LOCK = "GEOPOV_STAGE_LOCK"
"""Environment variable: the lock file that every stage of a run holds while it works."""


def prepare_study(
    path: str | Path, *, work: str | Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Study:
    """Read a study, fetch its sources or make its sample world, and check everything.

    Parameters
    ----------
    path : path
        The study's YAML.
    work : path, optional
        Work folder, where a sample world is made; default ``work/NAME`` below the current folder.
    progress : callable, optional
        Called with (done, total) bytes while sources are fetched.

    Raises
    ------
    StudyError
        With every problem that can be known before anything runs.
    CatalogError
        If a source cannot be fetched.
    """
    study = read_study(path)
    if study.sample_world is not None:
        study = study.model_copy(update={"catalog": _sample_world(study.sample_world, work_folder(study, work))})
    catalog = open_catalog(study.catalog)
    check_study(study, catalog, progress=progress)
    return study


def run_study(
    study: Study,
    *,
    work: str | Path | None = None,
    cores: int | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Make every output of a study and return its work folder.

    A stage runs only if an input, a parameter or a source's bytes changed since its output was written. A run that was
    killed is resumed by calling this again.

    Parameters
    ----------
    study : Study
        From :func:`prepare_study`.
    work : path, optional
        Work folder; default ``work/NAME`` below the current folder.
    cores : int, optional
        Default: all.
    dry_run : bool
        Only list the stages that would run.
    say : callable
        Receives lines for a person.

    Raises
    ------
    StudyError
        If another run is at work in the folder, or a stage failed.
    """
    _optional.require("snakemake", purpose="Running a study")
    catalog = open_catalog(study.catalog)
    folder = work_folder(study, work)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_run_in(folder, say) as lock:
        _write_if_changed(folder / "study.json", study.model_dump(mode="json"))
        for name in study.sources:
            _write_if_changed(folder / "inputs" / f"{name}.json", _record(catalog, name))
        _snakemake(folder, lock=lock, cores=cores or os.cpu_count() or 1, dry_run=dry_run)
    return folder


def work_folder(study: Study, work: str | Path | None = None) -> Path:
    """Where a study's outputs go: ``work``, or ``work/NAME`` below the current folder."""
    return (Path(work) if work is not None else Path("work") / study.name).absolute()


def _sample_world(world: SampleWorld, folder: Path) -> Path:
    """The catalogue of the world, made unless this version of geopov has made it here before."""
    home, made = folder / "world", {"geopov": __version__, **world.model_dump()}
    stamp = home / "world.json"
    if not stamp.is_file() or json.loads(stamp.read_text(encoding="utf-8")) != made:
        from geopov.testing import write_sample_world

        stamp.unlink(missing_ok=True)
        write_sample_world(home, **world.model_dump())
        _write_if_changed(stamp, made)
    return home / "catalog.yaml"


def workflow_file() -> Path:
    """The Snakefile: beside the package in an installation, in ``pipelines/`` in a checkout."""
    installed = Path(__file__).with_name("Snakefile")
    return installed if installed.exists() else Path(__file__).parents[2] / "pipelines" / "Snakefile"


def _record(catalog: Catalog, name: str) -> dict[str, Any]:
    """What a source is now. Its content, not its time stamp, decides whether a stage has to run again."""
    files = [
        # Fetching has just held files to the catalogue's sha256; what lies in a cloud is read in place and not hashed.
        {"uri": uri.text, "sha256": sha256 or (sha256_of(path) if path.is_file() else None)}
        for uri, sha256, path in catalog[name].located
    ]
    return {"name": name, "files": files}


def _write_if_changed(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def _only_run_in(folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the work folder: one run at a time, and none beside a stage that a killed run left behind.

    Yields the descriptor of the lock, for Snakemake to inherit: if this process alone is killed, it works on.
    """
    with (folder / ".run.lock").open("w") as run_lock, _stage_lock(folder).open("w") as stage_lock:
        try:
            fcntl.flock(run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"another run is at work in {folder}; wait for it to end, or give this one its own folder with --work."
            ) from None
        try:
            fcntl.flock(stage_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for a stage that a killed run left behind")
            fcntl.flock(stage_lock, fcntl.LOCK_EX)
        for leftover in folder.rglob(".*.partial*"):
            leftover.unlink()
        fcntl.flock(stage_lock, fcntl.LOCK_UN)
        yield run_lock.fileno()


def _stage_lock(folder: Path) -> Path:
    return folder.resolve() / ".stage.lock"


def _snakemake(folder: Path, *, lock: int, cores: int, dry_run: bool) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(workflow_file()), "--directory", str(folder)]
    command += ["--configfile", str(folder / "study.json"), "--cores", str(cores)]
    # Our own lock does not outlive its process, Snakemake's does; and parameters decide with time stamps what to redo.
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input"]
    command += ["--dry-run", "--quiet", "rules"] if dry_run else ["--quiet", "all"]
    environment = os.environ | {STAGE_LOCK: str(_stage_lock(folder))}
    if subprocess.run(command, env=environment, pass_fds=(lock,), check=False).returncode != 0:
        raise StudyError(
            f"a stage of the run in {folder} failed; its message stands above. Mend it and run the same command again: "
            "finished stages are kept."
        )
