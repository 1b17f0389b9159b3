"""``geopov maps density``: census counts by zone to people per cell."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geopov._validation import some
from geopov.cli._common import console
from geopov.cli.maps._options import OutputMap
from geopov.errors import MapError

app = typer.Typer()


class Method(StrEnum):
    """How cells are weighed."""

    equal_area = "equal_area"
    proportional = "proportional"
    settlement = "settlement"
    learned = "learned"


@app.command()
def density(
    zones: Annotated[Path, typer.Argument(metavar="ZONES", help="Polygons of the zones that people were counted in.")],
    output: OutputMap,
    id_column: Annotated[str, typer.Option("--id", help="Column that names a zone.")],
    count_column: Annotated[str, typer.Option("--count", help="Column of people, in the zones or in --counts.")],
    title: Annotated[str, typer.Option("--title", help="What the map shows; stored in it.")],
    source: Annotated[str, typer.Option("--source", help="Whose data it is; stored in it.")],
    year: Annotated[int, typer.Option("--year", help="Of the count.")],
    cell_m: Annotated[float | None, typer.Option("--cell-m", help="Side of a cell in metres.")] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="MAP", help="Take the cells of another map, to be used together.")
    ] = None,
    counts: Annotated[
        Path | None, typer.Option("--counts", metavar="FILE", help="Table of the counts (CSV or Parquet).")
    ] = None,
    counts_id: Annotated[str | None, typer.Option("--counts-id", help="Column of it that names a zone.")] = None,
    method: Annotated[Method, typer.Option("--method", help="How cells are weighed.")] = Method.learned,
    raster: Annotated[
        Path | None, typer.Option(help="proportional: what people are in proportion to; settlement: the mask.")
    ] = None,
    power: Annotated[float, typer.Option(help="proportional: to (raster + offset) ** power.")] = 1.0,
    offset: Annotated[float, typer.Option(help="What darkness is worth, in the raster's unit.")] = 0.1,
    lights: Annotated[Path | None, typer.Option(help="learned: radiance in nW/cm²/sr.")] = None,
    elevation: Annotated[Path | None, typer.Option(help="learned: metres above the sea.")] = None,
    covariate: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="learned: a further raster; repeat it.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="learned: column of the zones with their parent, one level up.")
    ] = None,
    water: Annotated[Path | None, typer.Option(help="Polygons where nobody lives.")] = None,
    allow_unmatched: Annotated[
        bool, typer.Option("--allow-unmatched", help="Go on without zones or counts that have no partner.")
    ] = False,
    crs: Annotated[str | None, typer.Option("--crs", help="Of the map, in metres; default: a local one.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the learned density.")] = 0,
) -> None:
    """Share counted people over cells; the cells of a zone add up to its count.

    Example: geopov maps density districts.gpkg --id code --count people --cell-m 500 --lights viirs.tif
    --title "Population" --source "Census, VIIRS" --year 2021 -o people.tif
    """
    from geopov import maps

    table = maps.read_zones(
        zones,
        id_column=id_column,
        count_column=count_column,
        counts=counts,
        counts_id_column=counts_id,
        allow_unmatched=allow_unmatched,
    )
    known = maps.Covariates(lights, elevation, dict(_pair(text) for text in covariate or []))
    given = lights is not None or elevation is not None or bool(covariate)
    groups = None
    if group is not None:
        polygons = maps.read_vector(zones, "zones")
        if group not in polygons:
            raise MapError(f"{zones} has no column {group!r}; its columns are {some(polygons.columns, 20)}.")
        parents = polygons.assign(**{id_column: polygons[id_column].astype(str)}).drop_duplicates(id_column)
        groups = parents.set_index(id_column)[group].reindex(table.ids).tolist()
    grid = None
    if like is not None:
        with maps.RasterMap.open(like) as other:
            grid = other.grid
    people = maps.map_density(
        table,
        cell_m=cell_m,
        grid=grid,
        method=method.value,
        raster=raster,
        power=power,
        offset=offset,
        known=known if given else None,
        water=water,
        groups=groups,
        crs=crs,
        seed=seed,
    )
    people.write(output, title=title, source=source, year=year)
    console.print(f"{people.total:,.0f} of {table.total:,.0f} people, {people.method}", markup=False)
    _problems(table.problems)
    for note in people.notes:
        console.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print(str(output), markup=False, soft_wrap=True)


def _problems(problems: list[dict[str, object]]) -> None:
    if not problems:
        return
    shown = Table("in the zones", "n", "which")
    for what in dict.fromkeys(str(problem["problem"]) for problem in problems):
        names = [str(problem["zone_id"]) for problem in problems if problem["problem"] == what]
        shown.add_row(what, str(len(names)), some(filter(None, names), 6))
    console.print(shown)


def _pair(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise MapError(f"--covariate is {text!r}; expected NAME=FILE.")
    return name, Path(path)
