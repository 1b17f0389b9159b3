"""``geopov maps consumption|poverty|quintiles|poor``: from predicted welfare to who is poor, where, and how many."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geopov.cli._common import console
from geopov.cli.maps._options import OutputMap
from geopov.errors import MapError

app = typer.Typer()


class OutcomeIs(StrEnum):
    """What the model predicted of a cluster."""

    log_of_mean = "log_of_mean"
    mean_of_log = "mean_of_log"


class Index(StrEnum):
    """Of Foster, Greer & Thorbecke."""

    headcount = "headcount"
    gap = "gap"
    severity = "severity"


Welfare = Annotated[
    Path, typer.Argument(metavar="WELFARE", help="Map of predicted log consumption, of `geopov maps predict`.")
]
Line = Annotated[float, typer.Option("--line", help="Poverty line, per person.")]
LineUnit = Annotated[str, typer.Option("--line-unit", help="Its unit; must be the map's.")]
WithinSd = Annotated[
    str,
    typer.Option(
        "--within-sd",
        help="SD of log consumption within a place, which `geopov survey lsms` prints; or a raster of it.",
    ),
]
Outcome = Annotated[OutcomeIs, typer.Option("--outcome-is", help="What the model predicted of a cluster.")]


@app.command()
def consumption(
    welfare: Welfare,
    output: OutputMap,
    outcome_is: Outcome = OutcomeIs.log_of_mean,
    estimate: Annotated[str, typer.Option("--estimate", help="mean (lognormal correction) or median.")] = "mean",
    within_sd: Annotated[
        str | None, typer.Option("--within-sd", help="Needed where the outcome is a mean of logarithms.")
    ] = None,
) -> None:
    """Map the mean consumption of the people of each cell, brought back from logarithms with a correction.

    Example: geopov maps consumption map.tif -o consumption.tif
    """
    from geopov import maps

    spread = None if within_sd is None else _spread(within_sd)
    maps.write_consumption(
        welfare, path=output, outcome_is=outcome_is.value, estimate=_estimate(estimate), within_sd=spread
    )
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def poverty(
    welfare: Welfare,
    output: OutputMap,
    line: Line,
    line_unit: LineUnit,
    within_sd: WithinSd,
    index: Annotated[Index, typer.Option("--index", help="Which of the three.")] = Index.headcount,
    outcome_is: Outcome = OutcomeIs.log_of_mean,
) -> None:
    """Map headcount, poverty gap or severity at a line, from how people are spread within a place.

    Example: geopov maps poverty map.tif --line 2.15 --line-unit "PPP USD per person per day" --within-sd 0.55
    -o headcount.tif
    """
    from geopov import maps

    model = maps.PovertyModel(line, line_unit, _spread(within_sd), outcome_is.value)
    maps.write_poverty(welfare, path=output, model=model, index=index.value)
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def quintiles(
    welfare: Welfare,
    output: OutputMap,
    population: Annotated[
        Path | None, typer.Option("--population", help="Map of people on the same grid; a fifth then is one of people.")
    ] = None,
) -> None:
    """Map the fifth of the people that a place belongs to, 1 the poorest.

    Example: geopov maps quintiles map.tif --population people.tif -o quintiles.tif
    """
    from geopov import maps

    maps.write_quintiles(welfare, path=output, population=population)
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def poor(
    welfare: Welfare,
    output: OutputMap,
    population: Annotated[Path, typer.Option("--population", help="Map of people on the same grid.")],
    line: Line,
    line_unit: LineUnit,
    within_sd: WithinSd,
    correlation_km: Annotated[
        float,
        typer.Option("--correlation-km", help="Distance over which errors of the welfare map resemble each other."),
    ],
    outcome_is: Outcome = OutcomeIs.log_of_mean,
    nugget_share: Annotated[
        float, typer.Option("--nugget-share", min=0, max=1, help="Share of the errors that no two cells share.")
    ] = 0.0,
    draws: Annotated[int, typer.Option("--draws", min=20, help="Of the errors.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of the draws.")] = 0,
    units: Annotated[
        Path | None, typer.Option("--units", metavar="FILE", help="Polygons to print and write totals of.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column that names a unit.")] = None,
    zones: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Census zones whose people every draw keeps.")
    ] = None,
    zones_id: Annotated[str | None, typer.Option("--zones-id", help="Column that names a zone.")] = None,
    zones_count: Annotated[str | None, typer.Option("--zones-count", help="Column of its people.")] = None,
) -> None:
    """Map the number of poor, people times headcount, with the errors of both; and its totals by admin unit.

    Example: geopov maps poor map.tif --population people.tif --line 2.15 --line-unit "PPP USD per person per day"
    --within-sd 0.55 --correlation-km 30 --units districts.gpkg --id name -o poor.tif
    """
    from geopov import maps
    from geopov._validation import atomic_path

    if (units is None) != (id_column is None):
        raise MapError("--units and --id go together: polygons, and the column that names them.")
    cells = None
    if zones is not None and zones_id is not None and zones_count is not None:
        with maps.RasterMap.open(population) as raster:
            cells = maps.zone_cells(maps.read_zones(zones, id_column=zones_id, count_column=zones_count), raster.grid)
    elif zones is not None or zones_id is not None or zones_count is not None:
        raise MapError("--zones, --zones-id and --zones-count go together: polygons, their names and their people.")
    model = maps.PoorModel(
        welfare=welfare,
        population=population,
        poverty=maps.PovertyModel(line, line_unit, _spread(within_sd), outcome_is.value),
        correlation_km=correlation_km,
        nugget_share=nugget_share,
        n_draws=draws,
        seed=seed,
        zones=cells,
    )
    model.write(output)
    console.print(str(output), markup=False, soft_wrap=True)
    if units is None or id_column is None:
        return
    totals = model.totals(maps.read_vector(units, "units"), id_column=id_column)
    with atomic_path(output.with_suffix(".csv")) as partial:
        totals.units.to_csv(partial, index=False, float_format="%.10g")
    table = Table(id_column, "people", "poor", "interval", "headcount")
    rows = [
        *totals.units.to_dict("records"),
        {id_column: "outside", **totals.outside},
        {id_column: "all", **totals.national},
    ]
    for row in rows:
        table.add_row(str(row[id_column]), *_figures(row))
    console.print(table)
    console.print(str(output.with_suffix(".csv")), markup=False, soft_wrap=True)


def _figures(row: dict[str, Any]) -> tuple[str, str, str, str]:
    people, count, lower, upper = (f"{row[key]:,.0f}" for key in ("people", "poor", "lower", "upper"))
    return people, count, f"{lower} to {upper}", f"{row['headcount']:.3f}"


def _spread(text: str) -> float | Path:
    """A number, or a raster of it."""
    try:
        return float(text)
    except ValueError:
        if Path(text).is_file():
            return Path(text)
    raise MapError(f"--within-sd is {text!r}; expected a number such as 0.55, or a raster of it on the map's grid.")


def _estimate(text: str) -> Any:
    if text not in ("mean", "median"):
        raise MapError(f"--estimate is {text!r}; expected mean or median.")
    return text
