"""Many countries: each study is one job of ``pipelines/countries.smk``, and one that fails does not stop the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geopov import __version__
from geopov._validation import some
from geopov.catalog import open_catalog
from geopov.errors import GeopovError, StudyError
from geopov.study.config import Study, read_study
from geopov.study.engine import Engine, StageOptions, last_error, only_run_in
from geopov.study.runner import write_if_changed

# Names of studies do not begin with a dot, so no country's folder is taken for this one.
_HOME = ".countries"


@dataclass(frozen=True)
class Country:
    """What became of one study among many.

    Attributes
    ----------
    name : str
        The study's.
    folder : Path
        Its work folder.
    state : {"done", "failed", "to do"}
        "to do" only in a dry run.
    outputs : tuple of Path
        Its maps and its report, those that are there.
    reason : str
        Why it failed: the last error that it printed.
    """

    name: str
    folder: Path
    state: Literal["done", "failed", "to do"]
    outputs: tuple[Path, ...] = ()
    reason: str = ""

    @property
    def log(self) -> Path:
        """Everything that it printed."""
        return self.folder / "run.log"


def read_countries(paths: Sequence[str | Path]) -> dict[Path, Study]:
    """Read several studies and check that each has a name of its own.

    Raises
    ------
    StudyError
        With what is wrong with any of the files, or names that stand twice.
    """
    studies: dict[Path, Study] = {}
    problems: list[str] = []
    for path in map(Path, paths):
        try:
            studies[path.resolve()] = read_study(path)
        except StudyError as error:
            problems.append(str(error))
    if problems:
        raise StudyError(f"{len(problems)} of {len(paths)} studies cannot be read:", problems)
    names: dict[str, list[str]] = {}
    for path in map(Path, paths):
        names.setdefault(studies[path.resolve()].name, []).append(str(path))
    twice = [f"{name} ({some(files)})" for name, files in names.items() if len(files) > 1]
    if twice:
        raise StudyError(
            f"several studies have the same name: {'; '.join(twice)}. A study's name is its work folder's: give each "
            "its own."
        )
    return studies


def run_countries(
    studies: Mapping[Path, Study],
    *,
    work: str | Path | None = None,
    cores: int | None = None,
    dry_run: bool = False,
    profiles: Sequence[str] = (),
    options: StageOptions | None = None,
    say: Callable[[str], None] = print,
) -> list[Country]:
    """Make every output of many studies, each in its own folder below one.

    Each study is a job that does what :func:`geopov.study.run_study` does. Finished countries are kept, until their
    study, their catalogue's entries or their files change; a failed one does not stop the others. A run that was killed
    is resumed by calling this again.

    Parameters
    ----------
    studies : mapping
        From :func:`read_countries`.
    work : path, optional
        Parent of the work folders; default ``work`` below the current folder.
    cores, dry_run, profiles, options, say
        As for :func:`geopov.study.run_study`; jobs are countries.

    Returns
    -------
    list of Country
        In the order of the studies.

    Raises
    ------
    StudyError
        If another run is at work in the folder, or a profile is not there.
    """
    engine = Engine(cores=cores, profiles=profiles, dry_run=dry_run, options=options)
    parent = (Path(work) if work is not None else Path("work")).absolute()
    home = parent / _HOME
    with only_run_in(parent, say, leftovers=home) as locks:
        for path, study in studies.items():
            write_if_changed(home / f"{study.name}.json", _record(path, study))
        waiting = [study for study in studies.values() if not _is_done(study, parent)]
        for study in waiting:
            _stamp(study, parent).unlink(missing_ok=True)
            if not dry_run:
                (parent / study.name / "run.log").unlink(missing_ok=True)
        content = {"studies": {study.name: str(path) for path, study in studies.items()}}
        write_if_changed(home / "countries.json", content)
        news = _News(parent, [study.name for study in waiting], say)
        engine.run("countries.smk", parent, home / "countries.json", locks=locks, keep_going=True, watch=news)
        news()
    messages = _snakemake_says(parent)
    return [_outcome(study, parent, messages, dry_run=dry_run) for study in studies.values()]


def _record(path: Path, study: Study) -> dict[str, Any]:
    """What a country is made from. A change of it makes its job run, which then finds out which stages have to."""
    record: dict[str, Any] = {"study": study.model_dump(mode="json"), "file": str(path), "geopov": __version__}
    files = [getattr(study.clusters, "recipe", None), getattr(study.clusters, "adapter", None)]
    record["files"] = [_print_of(Path(file)) for file in files if file is not None]
    if study.sample_world is not None:
        return record
    try:
        catalog = open_catalog(study.catalog)
        record["sources"] = {
            name: [[uri.text, sha256 or _print_of(file)] for uri, sha256, file in catalog[name].located]
            for name in study.sources
        }
    except GeopovError as error:
        # Its own job will say so, and the others run.
        record["sources"] = str(error)
    return record


def _print_of(path: Path) -> list[int] | None:
    """Size and time of a file: a country's rasters are too large to hash for each of many countries beforehand."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None


def _stamp(study: Study, parent: Path) -> Path:
    return parent / _HOME / f"{study.name}.done"


def _outputs(study: Study, parent: Path) -> list[Path]:
    maps = ["map.tif", *(f"{name}.tif" for name in study.products)] if study.map is not None else []
    return [parent / study.name / name for name in [*maps, "report.html"]]


def _is_done(study: Study, parent: Path) -> bool:
    """Finished since its record last changed, and nobody has taken its maps away."""
    stamp, record = _stamp(study, parent), parent / _HOME / f"{study.name}.json"
    if not stamp.is_file() or stamp.stat().st_mtime < record.stat().st_mtime:
        return False
    return all(path.is_file() for path in _outputs(study, parent))


class _News:
    """Says of each country when it is finished, once."""

    def __init__(self, parent: Path, names: list[str], say: Callable[[str], None]) -> None:
        self.parent, self.waiting, self.say = parent, names, say
        self.n = len(names)

    def __call__(self) -> None:
        for name in [name for name in self.waiting if (self.parent / _HOME / f"{name}.done").is_file()]:
            self.waiting.remove(name)
            self.say(f"{name}: done ({self.n - len(self.waiting)} of {self.n})")


def _outcome(study: Study, parent: Path, messages: Mapping[str, str], *, dry_run: bool) -> Country:
    folder = parent / study.name
    outputs = tuple(path for path in _outputs(study, parent) if path.is_file())
    if _is_done(study, parent):
        return Country(study.name, folder, "done", outputs)
    if dry_run:
        return Country(study.name, folder, "to do", outputs)
    log = folder / "run.log"
    reason = last_error(log) or messages.get(study.name)
    if reason is None:
        reason = (
            "ended without a message, as when it is killed for taking too much memory or time"
            if log.is_file()
            else "was not started; what Snakemake says stands above"
        )
    return Country(study.name, folder, "failed", outputs, reason)


def _snakemake_says(parent: Path) -> dict[str, str]:
    """What the newest of Snakemake's logs says of each failed country: a cluster's reason, if it ended the job."""
    logs = sorted((parent / ".snakemake" / "log").glob("*.snakemake.log"), key=lambda path: path.stat().st_mtime)
    text = logs[-1].read_text(encoding="utf-8", errors="replace") if logs else ""
    found = re.findall(
        rf"^Error in rule country:\n\s+message: (.+)\n(?:\s+.*\n)*?\s+output: {re.escape(_HOME)}/(\S+)\.done",
        text,
        re.MULTILINE,
    )
    return {name: message for message, name in found}
