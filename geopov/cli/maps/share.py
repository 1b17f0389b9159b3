"""``geopov maps project|page|stac``: maps handed on, to QGIS, to a browser, to a catalogue."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from geopov.cli._common import console
from geopov.cli.maps._options import Source, Title, Year
from geopov.errors import MapError

app = typer.Typer()

Maps = Annotated[list[Path], typer.Argument(metavar="MAP...", help="GeoTIFFs; the first is shown first.")]


@app.command()
def project(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Work folder of `geopov run`.")],
    title: Annotated[str, typer.Option("--title", help="Of the project.")],
    source: Source = None,
) -> None:
    """Write project.qgz into a study's folder: maps, uncertainty, clusters, folds, residuals and a print layout.

    Example: geopov maps project work/nepal_density --title "Population density of Nepal"
    """
    from geopov import maps

    path = maps.project_for_study(folder, title=title, source=source or "")
    console.print(str(path), markup=False, soft_wrap=True)


@app.command()
def page(
    paths: Maps,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="HTML file; needs no other and no network.")
    ],
    clusters: Annotated[Path | None, typer.Option(metavar="FILE", help="Survey clusters (GeoParquet).")] = None,
    outcome: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the clusters that is drawn.")] = None,
    admin: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Units with a table, as of `geopov maps admin`.")
    ] = None,
    admin_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of them that is drawn.")] = None,
    unit: Annotated[str, typer.Option(help="Of the outcome and of the units' column.")] = "",
    title: Title = None,
    source: Source = None,
    year: Year = None,
) -> None:
    """Write one HTML page with the maps: layers to switch, zoom, value and interval of any place.

    Example: geopov maps page headcount.tif poor.tif --clusters clusters.parquet --outcome headcount -o poverty.html
    """
    from geopov import maps

    if (clusters is None) != (outcome is None) or (admin is None) != (admin_column is None):
        raise MapError(
            "a table needs the column that is drawn: --clusters with --outcome, --admin with --admin-column."
        )
    vectors = []
    if clusters is not None or admin is not None:
        # The page holds all; the GeoPackage that its layers are made through is not kept.
        with TemporaryDirectory() as folder:
            layers = maps.write_layers(
                Path(folder) / "layers.gpkg",
                clusters=None if clusters is None else maps.read_vector(clusters, "clusters"),
                admin=None if admin is None else maps.read_vector(admin, "units"),
                outcome=outcome,
                admin_column=admin_column,
                unit=unit,
                admin_unit=unit,
            )
        vectors = [maps.PageVectors(layer) for layer in layers]
    shown = [maps.PageLayer(path) for path in paths]
    maps.write_page(output, layers=shown, vectors=vectors, title=title, source=source, year=year)
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def stac(
    paths: Maps,
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Folder of the catalogue.")],
    name: Annotated[str, typer.Option("--id", help="Of the collection, without spaces.")],
    title: Annotated[str, typer.Option("--title", help="Of the collection.")],
    description: Annotated[str, typer.Option("--description", help="Of the collection.")],
    year: Annotated[int | None, typer.Option("--year", help="Of the data; default each map's own.")] = None,
    licence: Annotated[str, typer.Option("--license", help="SPDX identifier, or other.")] = "other",
) -> None:
    """Write a STAC collection with an item a map: where, when, of what, made from what.

    Example: geopov maps stac headcount.tif poor.tif --id malawi --title "Poverty in Malawi" --description "..."
    -o stac/
    """
    from geopov import maps

    collection = maps.Collection(id=name, title=title, description=description, license=licence)
    console.print(str(maps.write_stac(folder, paths, collection=collection, year=year)), markup=False, soft_wrap=True)
