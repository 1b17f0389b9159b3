"""``geopov maps admin``: from cells to admin units, alone or together with the survey's direct estimates."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from geopov.cli._common import console
from geopov.errors import MapError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer()


class Scale(StrEnum):
    """What the model of areas is linear in."""

    identity = "identity"
    arcsine = "arcsine"


class Variances(StrEnum):
    """Which sampling variances are replaced by smooth ones."""

    missing = "missing"
    all = "all"
    given = "given"


@app.command()
def admin(
    values: Annotated[Path, typer.Argument(metavar="MAP", help="Map whose bands are averaged over people.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="GeoPackage; a CSV goes beside it.")],
    population: Annotated[Path, typer.Option("--population", help="Map of people per cell.")],
    units: Annotated[Path, typer.Option("--units", metavar="FILE", help="Polygons.")],
    id_column: Annotated[str, typer.Option("--id", help="Column that names a unit.")],
    band: Annotated[list[str] | None, typer.Option("--band", help="Band to average; default all; repeat it.")] = None,
    direct: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV of direct estimates: area, estimate, variance, n, psus."),
    ] = None,
    covariate: Annotated[
        list[str] | None, typer.Option(help="Band that explains the direct estimates; default the first; repeat it.")
    ] = None,
    scale: Annotated[Scale, typer.Option(help="arcsine models shares.")] = Scale.identity,
    variances: Annotated[
        Variances, typer.Option(help="Smooth those not known, or all where areas have few sampling units.")
    ] = Variances.missing,
    loose_names: Annotated[bool, typer.Option("--loose-names", help="Match names without case and accents.")] = False,
    benchmark: Annotated[
        float | None, typer.Option(help="Direct estimate of the whole that the units have to agree with.")
    ] = None,
) -> None:
    """Average a map over the people of admin units; with direct estimates, combine both (Fay-Herriot).

    Example: geopov maps admin headcount.tif --population people.tif --units districts.gpkg --id name
    --direct direct.csv --benchmark 0.329 -o districts_poverty.gpkg
    """
    import pandas as pd

    from geopov import maps

    table = maps.aggregate(values, population, units, id_column=id_column, bands=band)
    notes = list(table.attrs["notes"])
    if direct is None and (covariate or benchmark is not None):
        raise MapError("--covariate and --benchmark explain and adjust direct estimates; give those with --direct.")
    if direct is not None:
        if not direct.is_file():
            raise MapError(f"--direct is {direct}, which is not there; expected a CSV of direct estimates.")
        joined = maps.match(table, pd.read_csv(direct, dtype={"area": str}), id_column=id_column, loose=loose_names)
        notes += joined.attrs["notes"]
        first = [name for name in table.columns if name not in (id_column, "people")][:1]
        fitted = maps.fay_herriot(joined, covariates=covariate or first, scale=scale.value, variances=variances.value)
        notes += fitted.notes
        combined = fitted.table
        if benchmark is not None:
            agreed = maps.benchmark(combined, target=benchmark)
            combined = agreed.table
            notes.append(f"benchmarked to {benchmark:g} by the factor {agreed.factors['factor'].iloc[0]:.4f}")
        table = maps.publication_table(combined)
    maps.write_admin(table, output, polygons=units, id_column=id_column)
    _show(table)
    for note in notes:
        console.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{output}\n{output.with_suffix('.csv')}", markup=False, soft_wrap=True)


def _show(table: pd.DataFrame) -> None:
    shown = Table(*map(str, table.columns))
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row))
    console.print(shown)
