"""``geopov run``: a whole study from its YAML."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geopov.cli._common import console, progress_bar


def run(
    study: Annotated[Path, typer.Argument(help="The study's YAML, e.g. pipelines/nepal.yaml.")],
    work: Annotated[Path | None, typer.Option(help="Work folder; default work/NAME.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Processor cores to use; default all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the study and list the stages to run.")] = False,
) -> None:
    """Make every output of a study: clusters, features, model, map, picture and report.

    Everything is checked first, and all that is wrong is said at once. Run it again after a change or after a kill:
    only what is missing or has changed is made.

    \b
    Example:
      geopov run pipelines/nepal.yaml
      geopov run pipelines/nepal.yaml --work /tmp/nepal --cores 4
    """
    from geopov.study import prepare_study, run_study

    with progress_bar("Fetching sources") as progress:
        prepared = prepare_study(study, work=work, progress=progress)
    folder = run_study(prepared, work=work, cores=cores, dry_run=dry_run, say=console.print)
    if not dry_run:
        _summary(folder)


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
