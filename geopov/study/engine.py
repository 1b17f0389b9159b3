"""What one study and many countries share: Snakemake's command line, its profiles, and the locks of a work folder."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from geopov import _optional
from geopov._validation import check_positive
from geopov.errors import StudyError

__all__ = ["PROFILES", "STAGE_LOCK", "Engine", "Locks", "StageOptions", "last_error", "only_run_in", "pipeline_file"]

STAGE_LOCK = "GEOPOV_STAGE_LOCK"
"""Environment variable: the lock file that every stage of a run holds while it works."""

PROFILES = ("local", "slurm")
"""Snakemake profiles that come with geopov."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class StageOptions:
    """How stages compute, never what.

    They reach the stages through the environment, so that changing one makes no finished stage run again.

    Attributes
    ----------
    scheduler : str or None
        ``serial``, ``threads``, ``processes``, either with ``:N`` for how many, or the address of a Dask scheduler (``tcp://HOST:PORT``).
    workers : int or None
        Blocks of a map computed at once.
    memory_mb : float or None
        What a stage may take.
    strict : bool
        A part of a scene that cannot be read ends the stage, instead of leaving a hole.

    Raises
    ------
    StudyError
        If the scheduler is none of those, or a number is not above zero.
    """

    scheduler: str | None = None
    workers: int | None = None
    memory_mb: float | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        address = r"(tcp|tls)://([^\s/:]+|\[[0-9a-fA-F:.]+\]):\d{1,5}"
        kinds = rf"serial|(threads|processes)(:[1-9]\d*)?|{address}"
        if self.scheduler is not None and not re.fullmatch(kinds, self.scheduler):
            raise StudyError(
                f"the scheduler is {self.scheduler!r}; expected serial, threads, threads:4, processes, processes:4, or "
                "the address of a Dask scheduler such as tcp://10.0.0.1:8786."
            )
        for name in ("workers", "memory_mb"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name, StudyError)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that ``geopov features extract`` and ``geopov maps predict`` read; others of them are unset."""
        values: dict[str, object] = {
            "SCHEDULER": self.scheduler,
            "WORKERS": self.workers,
            "MEMORY_MB": None if self.memory_mb is None else f"{self.memory_mb:g}",
            "STRICT": "1" if self.strict else None,
        }
        return {f"GEOPOV_{name}": str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Locks:
    """Held by a run while it works.

    Attributes
    ----------
    run : int
        Descriptor, for Snakemake to inherit: if geopov alone is killed, Snakemake works on and still holds it.
    stage : Path or None
        What stages hold together; None where the file system has no locks.
    """

    run: int
    stage: Path | None


@dataclass(frozen=True)
class Engine:
    """What a workflow is run with.

    Attributes
    ----------
    cores : int or None
        At once; default all of this machine, or what the profile says.
    profiles : sequence of str
        Snakemake profiles: ``local``, ``slurm``, or a folder or file of one's own. Of two, the later one's entries
        count.
    dry_run : bool
        Only list the jobs.
    options : StageOptions or None
        For the stages; without, those of the environment.

    Raises
    ------
    StudyError
        If there is no such profile.
    MissingDependencyError
        If Snakemake is not installed.
    """

    cores: int | None = None
    profiles: Sequence[str] = ()
    dry_run: bool = False
    options: StageOptions | None = None

    def __post_init__(self) -> None:
        _optional.require("snakemake", purpose="Running a study")
        if "slurm" in self.profiles:
            _optional.require("snakemake_executor_plugin_slurm", purpose="The profile slurm")
        for profile in self.profiles:
            _profile_path(profile)

    def command(self, workflow: str, folder: Path, config: Path, *, keep_going: bool = False) -> list[str]:
        """Snakemake's command line for a workflow of ours, in a work folder."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(pipeline_file(workflow))]
        command += ["--directory", str(folder), "--configfile", str(config)]
        for profile in self.profiles:
            command += ["--profile", str(_profile_path(profile))]
        if self.cores or not self.profiles:
            command += ["--cores", str(self.cores or os.cpu_count() or 1)]
        # Our own lock does not outlive its process, Snakemake's does. Parameters decide with time stamps what to redo.
        command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input"]
        if keep_going:
            command.append("--keep-going")
        if self.dry_run:
            return [*command, "--dry-run", "--quiet", "rules"]
        return command if self.profiles else [*command, "--quiet", "all"]

    def run(
        self,
        workflow: str,
        folder: Path,
        config: Path,
        *,
        locks: Locks,
        keep_going: bool = False,
        watch: Callable[[], None] = lambda: None,
    ) -> bool:
        """Run the workflow; whether all of it went well. ``watch`` is called about once a second."""
        environment = dict(os.environ)
        if self.options is not None:
            for name in ("SCHEDULER", "WORKERS", "MEMORY_MB", "STRICT"):
                environment.pop(f"GEOPOV_{name}", None)
            environment |= self.options.environment
        if locks.stage is not None:
            environment[STAGE_LOCK] = str(locks.stage)
        command = self.command(workflow, folder, config, keep_going=keep_going)
        with subprocess.Popen(command, env=environment, pass_fds=(locks.run,)) as process:
            try:
                while True:
                    try:
                        return process.wait(timeout=1) == 0
                    except subprocess.TimeoutExpired:
                        watch()
            except KeyboardInterrupt:
                process.wait()  # the signal went to Snakemake too, which takes back the jobs that it has submitted
                raise


def pipeline_file(name: str) -> Path:
    """A workflow or profile of ours: beside the package in an installation, in ``pipelines/`` in a checkout."""
    installed = Path(__file__).with_name(name)
    return installed if installed.exists() else Path(__file__).parents[2] / "pipelines" / name


def _profile_path(profile: str) -> Path:
    if profile in PROFILES:
        return pipeline_file("profiles") / profile
    path = Path(profile).absolute()
    names = [path / name for name in ("config.yaml", "profile.yaml")] if path.is_dir() else [path]
    if not any(name.is_file() for name in names):
        raise StudyError(
            f"there is no profile {profile}; expected {', '.join(PROFILES)}, or the folder of a Snakemake profile with "
            "a config.yaml in it."
        )
    return path


@contextmanager
def only_run_in(folder: Path, say: Callable[[str], None], *, leftovers: Path | None = None) -> Iterator[Locks]:
    """Hold the work folder: one run at a time, and none beside a stage that a killed run left behind.

    Parameters
    ----------
    folder : Path
        The work folder; made if it is not there.
    say : callable
        Receives lines for a person.
    leftovers : Path, optional
        Below which half-written files of killed stages are removed; default the whole work folder.

    Raises
    ------
    StudyError
        If another run is at work in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stage = folder.resolve() / ".stage.lock"
    with (folder / ".run.lock").open("w") as run_lock, stage.open("w") as stage_lock:
        try:
            has_locks = _lock(run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"another run is at work in {folder}; wait for it to end, or give this one its own folder with --work."
            ) from None
        if has_locks:
            try:
                _lock(stage_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for a stage that a killed run left behind")
                _lock(stage_lock, fcntl.LOCK_EX)
            # Maps that a resume goes on with lie in folders of visible names, and stay.
            for leftover in (leftovers or folder).rglob(".*.partial*"):
                leftover.unlink(missing_ok=True)
            _lock(stage_lock, fcntl.LOCK_UN)
        else:
            say(f"the file system of {folder} has no locks; make sure that no other run is at work there")
        yield Locks(run_lock.fileno(), stage if has_locks else None)


def _lock(file: IO[str], how: int) -> bool:
    """Lock a file; False where its file system cannot, as some that clusters share."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def last_error(log: Path) -> str | None:
    """Why a run failed, out of what it printed: the last error but the one that only says that a stage failed.

    Parameters
    ----------
    log : Path
        Everything that it printed.

    Returns
    -------
    str or None
        None if it ended without a word, as when it is killed.
    """
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    errors = re.findall(r"^Error: ((?!a stage of the run in ).*(?:\n  .*)*)", text, re.MULTILINE)
    crashes = re.findall(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b.*", text, re.MULTILINE)
    found = (errors or crashes)[-1:]
    return " ".join(found[0].split()) if found else None
