"""``geopov maps``: pictures, QGIS styles and summaries of maps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from geopov.cli._common import console, progress_bar
from geopov.cli._options import BandNames, CatalogFile, Nodata, SceneNames, open_scene_options

app = typer.Typer(help="Predict, draw, style and describe maps.", no_args_is_help=True)

_STYLES = "density, log_density, asset_wealth, consumption, log_consumption or generic; default: the map's own."
MapFile = Annotated[Path, typer.Argument(metavar="MAP", help="A GeoTIFF.")]
StyleName = Annotated[str | None, typer.Option("--style", metavar="NAME", help=_STYLES)]
Band = Annotated[int, typer.Option("--band", min=1, help="Band to show.")]


class Transform(StrEnum):
    """What the map shows of what the model predicts."""

    none = "none"
    exp = "exp"


@app.command()
def predict(
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="model.npz of `geopov regression fit`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MAP", help="GeoTIFF to write.")],
    cell_m: Annotated[float, typer.Option("--cell-m", help="Side of a cell in metres.")],
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    region: Annotated[
        Path | None, typer.Option("--region", metavar="FILE", help="Polygons to map; default: all of the scenes.")
    ] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option("--bounds", metavar="W S E N", help="Region in degrees, instead of --region."),
    ] = None,
    crs: Annotated[str | None, typer.Option("--crs", help="Of the map, in metres; default: a local one.")] = None,
    transform: Annotated[
        Transform, typer.Option("--transform", help="exp: the model predicts a logarithm, map its unit (the median).")
    ] = Transform.none,
    unit: Annotated[str | None, typer.Option("--unit", help="Of the mapped values; default: the model's.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="What the map shows; stored in it.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Whose data it is; stored in it.")] = None,
    style: StyleName = None,
) -> None:
    """Predict every cell of a region: mean, lower, upper and in_support, as a Cloud Optimized GeoTIFF.

    The model carries the extractor and the tiles its features were made with; cells are treated as clusters were.

    Example: geopov maps predict --model wealth/model.npz --scene viirs.tif --cell-m 1000 --bounds 27 -31 30 -28
    -o wealth.tif
    """
    from geopov.errors import MapError
    from geopov.maps import Region
    from geopov.regression import WelfareModel
    from geopov.study import predict_map

    if region is not None and bounds is not None:
        raise MapError("both --region and --bounds are given; expected one of them.")
    chosen = Region.from_file(region) if region is not None else Region.from_bounds(bounds) if bounds else None
    tags = {key: value for key, value in (("source", source), ("style", style)) if value}
    with progress_bar("Predicting the map") as progress:
        predict_map(
            open_scene_options(scene or [], catalog, band, nodata),
            WelfareModel.load(model),
            path=output,
            cell_m=cell_m,
            region=chosen,
            crs=crs,
            transform=transform.value,
            unit=unit,
            title=title,
            tags=tags,
            progress=progress,
        )
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def render(
    path: MapFile,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="PNG to write; default: beside it.")] = None,
    style: StyleName = None,
    title: Annotated[str | None, typer.Option(help="Headline; default: the map's own.")] = None,
    source: Annotated[str | None, typer.Option(help="Whose data it is; default: the map's own.")] = None,
    year: Annotated[str | None, typer.Option(help="Of the data; default: the map's own.")] = None,
    band: Band = 1,
    width_px: Annotated[int, typer.Option(help="Width of the picture.")] = 1800,
) -> None:
    """Draw a map as a PNG with legend, unit, scale bar, and how sure it is.

    Example: geopov maps render density.tif -o density.png --style log_density --title "Nepal, 2025"
    """
    from geopov import maps

    output = output or path.with_suffix(".png")
    maps.render(path, output, style=style, title=title, source=source, year=year, band=band, width_px=width_px)
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def style(
    path: MapFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="QML to write; default: beside the map, where QGIS looks.")
    ] = None,
    style: StyleName = None,
    band: Band = 1,
) -> None:
    """Write a QGIS style file, which QGIS applies when the map is opened.

    Example: geopov maps style density.tif --style log_density
    """
    from geopov import maps

    output = output or path.with_suffix(".qml")
    maps.write_qml(maps.style_of(path, style=style, band=band), output, band=band)
    console.print(str(output), markup=False, soft_wrap=True)


@app.command()
def info(path: MapFile) -> None:
    """Show bands, units, CRS, layout, statistics and provenance of a map.

    Example: geopov maps info density.tif
    """
    from geopov import maps

    with maps.RasterMap.open(path) as raster:
        summary = raster.summary()
    console.print(_facts(summary))
    console.print(_bands(summary))


def _facts(summary: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("size", f"{summary['width']} x {summary['height']} cells")
    table.add_row("CRS", escape(summary["crs"]))
    table.add_row("bounds", ", ".join(f"{edge:,.9g}" for edge in summary["bounds"]))
    table.add_row("Cloud Optimized", "yes" if summary["cloud_optimized"] else "no")
    for key, value in summary["tags"].items():
        table.add_row(escape(key), escape(value))
    return table


def _bands(summary: dict[str, Any]) -> Table:
    table = Table("band", "name", "unit", "type", "nodata", "valid", "min", "mean", "max", "sd")
    for number, band in enumerate(summary["bands"], start=1):
        figures = [f"{band[key]:.4g}" for key in ("min", "mean", "max", "sd")]
        words = [escape(band["name"]), escape(band["unit"]), band["dtype"], str(band["nodata"])]
        table.add_row(str(number), *words, f"{band['valid']:.1%}", *figures)
    return table
