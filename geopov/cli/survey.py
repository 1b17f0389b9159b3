"""``geopov survey``: from tables, households and census areas to clusters, and a look at what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import geopov
from geopov._validation import sha256_of, some
from geopov.cli._common import console
from geopov.errors import SurveyError
from geopov.survey import (
    aggregate_households,
    build_areas,
    density_outliers,
    dropped,
    read_clusters,
    read_recipe,
    write_clusters,
)

app = typer.Typer(help="Survey tables, households and census areas to clusters.", no_args_is_help=True)

Output = Annotated[Path, typer.Option("-o", "--output", help="GeoParquet file of the clusters.")]

# Paths and names are no markup, and a line that is too long for the screen may be cut by the screen only.
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@app.command(
    epilog="Example: geopov survey points dhs.parquet --lon lon --lat lat --outcome asset_wealth "
    "--where country=lesotho -o clusters.parquet"
)
def points(
    table: Annotated[Path, typer.Argument(help=".parquet, .csv, .dta, .gpkg, .geojson or .shp")],
    output: Output,
    id_column: Annotated[str, typer.Option("--id", help="Column that names a cluster.")] = "cluster_id",
    lon: Annotated[str | None, typer.Option(help="Column of longitude or x; default the file's geometry.")] = None,
    lat: Annotated[str | None, typer.Option(help="Column of latitude or y.")] = None,
    crs: Annotated[str, typer.Option(help="CRS of those columns.")] = "EPSG:4326",
    outcome: Annotated[list[str] | None, typer.Option(help="Column every cluster must have a number in.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE: take these rows only.")] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=NAME, for country, year, urban, weight, displacement_km."),
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Further column to keep; default all.")] = None,
) -> None:
    """Clusters from a table with one row a cluster."""
    filters: dict[str, list[str]] = {}
    for column, value in _pairs(where, "--where"):
        filters.setdefault(column, []).append(value)
    parameters: dict[str, Any] = {
        "id_column": id_column,
        "lon_column": lon,
        "lat_column": lat,
        "crs": crs,
        "outcomes": outcome or [],
        "where": filters,
        "rename": dict(_pairs(rename, "--rename")),
        "keep": keep,
    }
    clusters = read_clusters(table, **parameters)
    write_clusters(clusters, output, provenance=_provenance("points", {"table": table}, parameters))
    _report(clusters, output)


@app.command(
    epilog="Example: geopov survey areas pipelines/nepal_areas.yaml --input wards=wards.parquet "
    "--input demographics_ward=demographics_ward.csv ... -o clusters.parquet"
)
def areas(
    recipe: Annotated[Path, typer.Argument(help="YAML that says how polygons and counts fit together.")],
    output: Output,
    files: Annotated[list[str], typer.Option("--input", help="NAME=PATH for each input the recipe names.")],
) -> None:
    """Clusters from census areas: one point a polygon, with population, density and its logarithm."""
    inputs = {name: Path(path) for name, path in _pairs(files, "--input")}
    description = read_recipe(recipe)
    clusters = build_areas(description, inputs)
    parameters = {"recipe": description.model_dump(mode="json")}
    write_clusters(clusters, output, provenance=_provenance("areas", inputs, parameters))
    _report(clusters, output)
    if "zone_match" in clusters:
        matches = clusters.drop_duplicates("zone_id")["zone_match"].value_counts()
        console.print(
            f"Zones matched by: {some((f'{how} ({count})' for how, count in matches.items()), 10)}.", **_PLAIN
        )
        far = density_outliers(clusters)
        console.print(
            f"{len(far)} areas are 20 times denser or sparser than the median of their zone; most are real, "
            f"some have a wrong boundary. The most extreme: {', '.join(far['cluster_id'].head(5))}.",
            **_PLAIN,
        )


@app.command(
    epilog="Example: geopov survey households consumption.dta --locations geovariables.dta --on case_id "
    "--cluster ea_id --weight hh_wgt --size hhsize --outcome rexpaggpc --lon ea_lon_mod --lat ea_lat_mod "
    "-o clusters.parquet"
)
def households(
    table: Annotated[Path, typer.Argument(help="One row a household: .dta, .csv or .parquet")],
    output: Output,
    on: Annotated[str, typer.Option(help="Column that names a household, in both files.")],
    cluster: Annotated[str, typer.Option(help="Column that names its cluster.")],
    weight: Annotated[str, typer.Option(help="Column of the household weight.")],
    size: Annotated[str, typer.Option(help="Column of the number of members.")],
    outcome: Annotated[str, typer.Option(help="Column of consumption per person.")],
    lon: Annotated[str, typer.Option(help="Column of longitude.")],
    lat: Annotated[str, typer.Option(help="Column of latitude.")],
    locations: Annotated[Path | None, typer.Option(help="File of the coordinates; default the same file.")] = None,
    to_ppp_usd_per_day: Annotated[
        float | None, typer.Option(help="PPP USD per person per day that one unit of the outcome is.")
    ] = None,
    units: Annotated[str, typer.Option(help="Ends the outcome's name where it is not converted.")] = "national",
) -> None:
    """Clusters from households: means weighted by household weight times size."""
    parameters: dict[str, Any] = {
        "household_column": on,
        "cluster_column": cluster,
        "weight_column": weight,
        "size_column": size,
        "outcome": outcome,
        "lon_column": lon,
        "lat_column": lat,
        "to_ppp_usd_per_day": to_ppp_usd_per_day,
        "units": units,
    }
    clusters = aggregate_households(table, locations=locations, **parameters)
    inputs = {"households": table} | ({"locations": locations} if locations else {})
    write_clusters(clusters, output, provenance=_provenance("households", inputs, parameters))
    _report(clusters, output)


@app.command(epilog="Example: geopov survey describe clusters.parquet")
def describe(clusters: Annotated[Path, typer.Argument(help="GeoParquet file of clusters.")]) -> None:
    """Say what is in a file of clusters, where they lie, and what was left out."""
    _report(read_clusters(clusters), clusters)


def _report(clusters: Any, path: Path) -> None:
    west, south, east, north = clusters.total_bounds
    console.print(
        f"{path}: {len(clusters)} clusters, longitude {west:.3f}..{east:.3f}, latitude {south:.3f}..{north:.3f}",
        **_PLAIN,
    )
    for column in ("country", "year", "urban"):
        if column in clusters:
            counts = clusters[column].value_counts().sort_index()
            console.print(f"{column}: {some((f'{value} ({count})' for value, count in counts.items()), 12)}", **_PLAIN)
    numbers = clusters.select_dtypes("number").drop(columns=["year"], errors="ignore")
    if not numbers.empty:
        table = Table("column", "n", "mean", "sd", "min", "median", "max")
        for column, row in numbers.describe().T.iterrows():
            values = [row[name] for name in ("mean", "std", "min", "50%", "max")]
            table.add_row(str(column), f"{row['count']:.0f}", *(f"{value:.4g}" for value in values))
        console.print(table)
    left_out = dropped(clusters)
    if left_out.empty:
        console.print("Nothing was left out.")
        return
    table = Table("left out", "n", "reason", "which")
    for source, reason in left_out[["source", "reason"]].drop_duplicates().itertuples(index=False):
        ids = left_out.loc[(left_out["source"] == source) & (left_out["reason"] == reason), "id"]
        table.add_row(source, str(len(ids)), reason, some(ids, 6))
    console.print(table)


def _pairs(values: list[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = [value.partition("=") for value in values or []]
    for (name, equals, value), given in zip(pairs, values or [], strict=True):
        if not (name and equals and value):
            raise SurveyError(f"{option} is {given!r}; expected NAME=VALUE.")
    return [(name, value) for name, _, value in pairs]


def _provenance(command: str, inputs: dict[str, Path], parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "geopov": geopov.__version__,
        "command": f"survey {command}",
        "inputs_sha256": {name: sha256_of(path) for name, path in inputs.items()},
        "parameters": parameters,
    }
