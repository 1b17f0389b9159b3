"""``geopov run``: a whole study from its YAML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from geopov.cli._common import console, progress_bar
from geopov.cli._options import MemoryMb, Strict, Workers

if TYPE_CHECKING:
    from geopov.study import Study
    from geopov.study.countries import Country
    from geopov.study.engine import StageOptions


def run(
    studies: Annotated[
        list[Path], typer.Argument(metavar="STUDY...", help="YAMLs of studies, e.g. pipelines/nepal.yaml.")
    ],
    work: Annotated[
        Path | None, typer.Option(help="Work folder; default work/NAME. Of several studies, their folders' parent.")
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Processor cores to use at once; default all, or what a profile says.")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="local|slurm|FOLDER",
            help="Where jobs run: ours, or a Snakemake profile of yours. Of two, the later one's entries count.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            envvar="GEOPOV_SCHEDULER",
            help="Of a map's blocks: serial, threads, processes, or a Dask scheduler's address such as tcp://host:8786.",
        ),
    ] = None,
    workers: Workers = None,
    memory_mb: MemoryMb = None,
    strict: Strict = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what a run will take: tiles, bytes, time, memory, disk.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the studies and list the jobs to run.")] = False,
) -> None:
    """Make every output of a study: clusters, features, model, map, picture and report.

    Everything is checked first, and all that is wrong is said at once. Run it again after a change or after a kill:
    only what is missing or has changed is made. Several studies are a job each, and one that fails stops no other.

    \b
    Example:
      geopov run pipelines/nepal.yaml
      geopov run pipelines/nepal.yaml --work /tmp/nepal --cores 4
      geopov run countries/*.yaml --work africa --profile slurm
    """
    from geopov.study import prepare_study, run_study
    from geopov.study.engine import Engine, StageOptions

    options = StageOptions(scheduler=scheduler, workers=workers, memory_mb=memory_mb, strict=strict)
    engine: dict[str, Any] = {"cores": cores, "profiles": profile or (), "options": options, "dry_run": dry_run}
    Engine(**engine)  # what is wrong with it is said before anything is fetched
    if len(studies) > 1:
        _many(studies, work, engine, estimate=estimate)
        return
    with progress_bar("Fetching sources") as progress:
        prepared = prepare_study(studies[0], work=work, progress=progress)
    if estimate:
        from geopov.cli._estimate import print_estimate
        from geopov.study.estimate import estimate_study

        print_estimate(estimate_study(prepared, work=work, options=options), console)
        return
    folder = run_study(prepared, work=work, say=console.print, **engine)
    if not dry_run:
        _summary(folder)


def _many(paths: Sequence[Path], work: Path | None, engine: Mapping[str, Any], *, estimate: bool) -> None:
    from geopov.study.countries import read_countries, run_countries

    studies = read_countries(paths)
    if estimate or engine["dry_run"]:
        prepared = _prepare(studies, work or Path("work"))
    if estimate:
        _estimate_many(prepared, work or Path("work"), engine["options"])
        return
    countries = run_countries(studies, work=work, say=console.print, **engine)
    _table_of_countries(countries)
    if any(country.state == "failed" for country in countries):
        raise typer.Exit(2)


def _prepare(studies: Mapping[Path, Study], parent: Path) -> list[Study]:
    """Fetch and check everything, and say all that is wrong with any of the studies at once."""
    from geopov.errors import GeopovError, StudyError
    from geopov.study import prepare_study

    prepared, problems = [], []
    for path, study in studies.items():
        try:
            with progress_bar(f"Fetching sources of {study.name}") as progress:
                prepared.append(prepare_study(path, work=parent / study.name, progress=progress))
        except GeopovError as error:
            problems.append(f"{study.name}: {error}")
    if problems:
        raise StudyError(f"{len(problems)} of {len(studies)} studies cannot be run as they are:", problems)
    return prepared


def _estimate_many(studies: Sequence[Study], parent: Path, options: StageOptions) -> None:
    """A table a study, and one of them all, run one after another."""
    from geopov.cli._estimate import print_estimate
    from geopov.study.estimate import Cost, Estimate, estimate_study

    estimates = []
    for study in studies:
        estimates.append(estimate_study(study, work=parent / study.name, options=options))
        print_estimate(estimates[-1], console)
    print_estimate(
        Estimate(
            study=f"all {len(studies)} studies",
            stages=tuple(
                replace(each.total, name=each.study, jobs=1, cost=Cost(each.seconds, each.total.cost.cpu_seconds))
                for each in estimates
                if each.stages
            ),
            seconds=sum(each.seconds for each in estimates),
            scratch_bytes=max(each.scratch_bytes for each in estimates),
            from_scratch=all(each.from_scratch for each in estimates),
            cores=estimates[0].cores,
            busy=max(each.busy for each in estimates),
            probe_seconds=sum(each.probe_seconds for each in estimates),
        ),
        console,
    )


def _table_of_countries(countries: Iterable[Country]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("study", "", "maps and report, or why not"):
        table.add_column(heading, overflow="fold")
    colours = {"done": "green", "failed": "red", "to do": "yellow"}
    for country in countries:
        lines = [f"{country.reason}", f"log: {_short(country.log)}"] if country.state == "failed" else []
        lines += [_short(path) for path in country.outputs] if country.state == "done" else []
        table.add_row(country.name, f"[{colours[country.state]}]{country.state}[/]", Text("\n".join(lines)))
    console.print(table, highlight=False)


def _short(path: Path) -> str:
    """As seen from the current folder, if it lies there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _summary(folder: Path) -> None:
    scores: dict[str, Any] = json.loads((folder / "model" / "scores.json").read_text(encoding="utf-8"))
    block_km = scores["splits"]["block_km"]
    table = Table(title=f"{scores['label']}: {scores['n']} clusters, predicted from other {block_km:g} km blocks")
    for heading in ("", "R²", "95% interval", "r²", "RMSE"):
        table.add_column(heading)
    for row in scores["scores"]:
        if row["subset"] == "all":
            interval = f"{_figure(row['R2_low'])} to {_figure(row['R2_high'])}"
            table.add_row(
                row["predictor"], _figure(row["R2"]), interval, _figure(row["r2_pearson"]), _figure(row["rmse"])
            )
    console.print(table)
    console.print(scores["verdict"], highlight=False)
    left_out = Counter(row["reason"] for row in scores["dropped"])
    for reason, count in left_out.items():
        console.print(f"left out: {count} ({reason})", highlight=False, markup=False)
    for name, what in (("map.tif", "map, for QGIS"), ("map.png", "picture"), ("report.html", "report")):
        if (folder / name).exists():
            console.print(f"{what}: {folder / name}", soft_wrap=True, highlight=False)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
