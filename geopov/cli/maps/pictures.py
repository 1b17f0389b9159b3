"""``geopov maps render|print|style|info``: pictures, sheets, QGIS styles and summaries of maps."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from geopov.cli._common import console
from geopov.cli.maps._options import Band, MapFile, Source, StyleName, Title, Year

app = typer.Typer()


class Orientation(StrEnum):
    """Of a sheet of paper."""

    auto = "auto"
    portrait = "portrait"
    landscape = "landscape"


@app.command()
def render(
    path: MapFile,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="PNG to write; default: beside it.")] = None,
    style: StyleName = None,
    title: Title = None,
    source: Source = None,
    year: Year = None,
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


@app.command("print")
def print_(
    path: MapFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="PDF or PNG to write.")],
    page: Annotated[str, typer.Option("--page", help="A5, A4, A3 or letter.")] = "A4",
    orientation: Annotated[
        Orientation, typer.Option("--orientation", help="auto: where the map is larger.")
    ] = Orientation.auto,
    style: StyleName = None,
    title: Title = None,
    source: Source = None,
    year: Year = None,
    band: Band = 1,
    dpi: Annotated[int, typer.Option("--dpi", min=50, help="Dots an inch of a PNG.")] = 300,
) -> None:
    """Draw a map on a sheet of paper: PDF with text as text, or PNG.

    Example: geopov maps print headcount.tif -o headcount.pdf --page A3
    """
    from geopov import maps

    words = {"style": style, "title": title, "source": source, "year": year}
    maps.print_map(path, output, page=page, orientation=orientation.value, band=band, dpi=dpi, **words)
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
