"""``geopov survey describe``: what is in files, what is missing, and where the clusters lie, before anything is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geopov.cli._common import console
from geopov.cli.survey._shared import PLAIN, show
from geopov.errors import SurveyError
from geopov.survey import FileDescription, clusters_in, describe_files, draw_clusters, read_clusters, text_map

app = typer.Typer()


@app.command(epilog="Example: geopov survey describe RWHR61DT.ZIP RWGE61FL.ZIP --picture clusters.png")
def describe(
    files: Annotated[
        list[Path], typer.Argument(help="DHS zips, LSMS files, folders, tables, or clusters that geopov wrote.")
    ],
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the clusters as a PNG.")] = None,
    outcome: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Colour the clusters of one GeoParquet by a column.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the descriptions as JSON, and nothing else.")] = False,
) -> None:
    """Say what is in files, what is missing and what to do next, and draw the clusters."""
    described = describe_files(files)
    if outcome is not None and (picture is None or [each.kind for each in described] != ["clusters"]):
        raise SurveyError(
            "--outcome colours the clusters of one file that geopov wrote, in a picture; give that file alone, and "
            "--picture."
        )
    if as_json:
        typer.echo(json.dumps([each.to_dict() for each in described], indent=1, ensure_ascii=False))
    else:
        for each in described:
            _print(each)
    points = read_clusters(files[0]) if outcome is not None else clusters_in(files)
    if len(points) == 0:
        if picture is not None:
            raise SurveyError(f"there is no position in {', '.join(map(str, files))}, so no picture of clusters.")
        return
    if not as_json:
        console.print(text_map(points, width=min(console.width, 100)), **PLAIN)
    if picture is not None:
        title = ", ".join(sorted(points["survey"].unique())) if "survey" in points else files[0].stem
        unit = points.attrs.get("units", {}).get(outcome, "") if outcome else ""
        draw_clusters(points, picture, title=title, outcome=outcome, unit=unit)
        if not as_json:
            console.print(f"Clusters drawn in {picture}.", **PLAIN)


def _print(file: FileDescription) -> None:
    size = "" if file.rows is None else f", {file.rows:,} rows x {file.columns:,} columns"
    console.print(f"{file.file}: {file.what}{size}", style="bold", **PLAIN)
    origin = {"survey": file.survey, "country": file.country, "version": file.version, "year": file.year}
    origin |= {"encoding": file.encoding, "CRS": file.crs, "datum": file.datum}
    known = [f"{name} {value}" for name, value in origin.items() if value is not None]
    if known:
        console.print(f"  {', '.join(known)}", **PLAIN)
    for fact in file.facts:
        console.print(f"  {fact}", **PLAIN)
    if file.kind == "clusters":
        show(read_clusters(file.source), Path(file.source))
    elif file.variables:
        table = Table("variable", "what it is", "in the file as", "missing")
        for variable in file.variables:
            missing = "–" if variable.missing is None else f"{variable.missing:.1%}"
            table.add_row(variable.name, variable.label, variable.column or "not there", missing)
        console.print(table)
    for problem in file.problems:
        console.print(f"  ! {problem}", style="yellow", **PLAIN)
    if file.next_step:
        console.print(f"  Next: {file.next_step}", **PLAIN)
