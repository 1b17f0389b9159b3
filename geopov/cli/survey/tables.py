"""``geopov survey points|areas|households``: clusters from tables whose columns the user names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geopov._validation import some
from geopov.cli._common import console
from geopov.cli.survey._shared import (
    PLAIN,
    Displacement,
    ImageryYears,
    MaxYearGap,
    NightlightsYears,
    Output,
    Years,
    finish,
    pairs,
)
from geopov.survey import (
    RULES,
    aggregate_households,
    build_areas,
    density_outliers,
    displacement_km,
    read_clusters,
    read_recipe,
)

app = typer.Typer()


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
    displacement: Annotated[
        Displacement | None, typer.Option(help="How the survey displaced its clusters; sets displacement_km.")
    ] = None,
    imagery_year: ImageryYears = None,
    nightlights_year: NightlightsYears = None,
    max_year_gap: MaxYearGap = None,
) -> None:
    """Clusters from a table with one row a cluster."""
    filters: dict[str, list[str]] = {}
    for column, value in pairs(where, "--where"):
        filters.setdefault(column, []).append(value)
    parameters: dict[str, Any] = {
        "id_column": id_column,
        "lon_column": lon,
        "lat_column": lat,
        "crs": crs,
        "outcomes": outcome or [],
        "where": filters,
        "rename": dict(pairs(rename, "--rename")),
        "keep": keep,
    }
    clusters = read_clusters(table, **parameters)
    if displacement is not None:
        clusters["displacement_km"] = displacement_km(clusters, RULES[displacement])
        parameters["displacement"] = displacement
    finish(
        clusters,
        output,
        command="points",
        inputs={"table": table},
        parameters=parameters,
        years=Years(imagery_year, nightlights_year, max_year_gap),
    )


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
    inputs = {name: Path(path) for name, path in pairs(files, "--input")}
    description = read_recipe(recipe)
    clusters = build_areas(description, inputs)
    parameters = {"recipe": description.model_dump(mode="json")}
    finish(clusters, output, command="areas", inputs=inputs, parameters=parameters)
    if "zone_match" in clusters:
        matches = clusters.drop_duplicates("zone_id")["zone_match"].value_counts()
        console.print(f"Zones matched by: {some((f'{how} ({count})' for how, count in matches.items()), 10)}.", **PLAIN)
        far = density_outliers(clusters)
        console.print(
            f"{len(far)} areas are 20 times denser or sparser than the median of their zone; most are real, "
            f"some have a wrong boundary. The most extreme: {', '.join(far['cluster_id'].head(5))}.",
            **PLAIN,
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
    finish(clusters, output, command="households", inputs=inputs, parameters=parameters)
