"""``geopov run``: check everything, fetch, then let Snakemake make what is missing or has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from geopov import __version__
from geopov._validation import atomic_path, sha256_of
from geopov.catalog import Catalog, open_catalog
from geopov.errors import StudyError
from geopov.study.checks import check_study
from geopov.study.config import Study, read_study
from geopov.study.context import with_context
from geopov.study.engine import Engine, StageOptions, last_error, only_run_in
from geopov.study.sections import SampleWorld


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
    study = with_context(study)
    check_study(study, catalog, progress=progress)
    return study


def run_study(
    study: Study,
    *,
    work: str | Path | None = None,
    cores: int | None = None,
    dry_run: bool = False,
    profiles: Sequence[str] = (),
    options: StageOptions | None = None,
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
        Default: all, or what the profile says.
    dry_run : bool
        Only list the stages that would run.
    profiles : sequence of str
        Snakemake profiles that say where stages run: ``local``, ``slurm``, or the folder of one.
    options : StageOptions, optional
        How stages compute, in place of what the environment says; changing it makes no finished stage run again.
    say : callable
        Receives lines for a person.

    Raises
    ------
    StudyError
        If another run is at work in the folder, a profile is not there, or a stage failed.
    """
    engine = Engine(cores=cores, profiles=profiles, dry_run=dry_run, options=options)
    catalog = open_catalog(study.catalog)
    folder = work_folder(study, work)
    with only_run_in(folder, say) as locks:
        write_if_changed(folder / "study.json", study.model_dump(mode="json"))
        for name in study.sources:
            write_if_changed(folder / "inputs" / f"{name}.json", _record(catalog, name))
        started = time.time()
        if not engine.run("Snakefile", folder, folder / "study.json", locks=locks):
            raise StudyError(
                f"a stage of the run in {folder} failed; {_where_it_says_why(folder, started)}. Mend it and run the "
                "same command again: finished stages are kept."
            )
    return folder


def _where_it_says_why(folder: Path, started: float) -> str:
    """Messages of stages that ran as jobs of a cluster lie in their logs; others stand above."""
    home = folder / ".snakemake" / "slurm_logs"
    failed = sorted(log for log in home.rglob("*.log") if log.stat().st_mtime >= started)
    reasons = []
    for log in failed:
        stage = str(log.parent.relative_to(home)).removeprefix("rule_")
        reasons.append(f"{stage}: {(last_error(log) or 'ended without a message').rstrip('.')} (log: {log})")
    return "; ".join(reasons) if reasons else "its message stands above"


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
        write_if_changed(stamp, made)
    return home / "catalog.yaml"


def _record(catalog: Catalog, name: str) -> dict[str, Any]:
    """What a source is now. Its content, not its time stamp, decides whether a stage has to run again."""
    files = [
        # Fetching has just held files to the catalogue's sha256; what lies in a cloud is read in place and not hashed.
        {"uri": uri.text, "sha256": sha256 or (sha256_of(path) if path.is_file() else None)}
        for uri, sha256, path in catalog[name].located
    ]
    return {"name": name, "files": files}


def write_if_changed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON unless it is there already, so that time stamps say when something changed."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")
