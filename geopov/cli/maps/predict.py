"""``geopov maps predict``: a model and its scenes to a map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from geopov.cli._common import console, errors, progress_bar
from geopov.cli._options import (
    BandNames,
    CatalogFile,
    MemoryMb,
    Nodata,
    SceneNames,
    Scheduler,
    Strict,
    Workers,
    open_scene_options,
)
from geopov.cli.maps._options import StyleName

app = typer.Typer()


class Transform(StrEnum):
    """What the map shows of what the model predicts."""

    none = "none"
    exp = "exp"


class Mode(StrEnum):
    """How cells are computed."""

    auto = "auto"
    shared = "shared"
    crops = "crops"


@contextmanager
def hole_warnings() -> Iterator[None]:
    """Warnings of pixels that could not be read, as a line for a person."""
    from geopov.maps import HoleWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", HoleWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, HoleWarning):
            errors.print(f"[bold yellow]Warning:[/] [yellow]{escape(str(warning.message))}[/]", highlight=False)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


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
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="shared: slide networks over blocks of cells, for models whose clusters had context around their "
            "tiles; crops: one crop a cell; auto: shared where possible.",
        ),
    ] = Mode.auto,
    block_px: Annotated[
        int | None,
        typer.Option("--block-px", min=1, help="Side of a block of the shared mode, in pixels of the tiles."),
    ] = None,
    scheduler: Scheduler = "threads",
    workers: Workers = None,
    memory_mb: MemoryMb = None,
    strict: Strict = False,
) -> None:
    """Predict every cell of a region: mean, lower, upper and in_support, as a Cloud Optimized GeoTIFF.

    The model carries the extractor and the tiles its features were made with; cells are treated as clusters were.
    Finished blocks are kept in MAP.unfinished until the map is whole: a run that was stopped goes on from there. The
    map is the same to the bit whatever the scheduler, workers and memory.

    Example: geopov maps predict --model wealth/model.npz --scene viirs.tif --cell-m 1000 --bounds 27 -31 30 -28
    -o wealth.tif
    """
    from geopov.errors import MapError
    from geopov.maps import Region
    from geopov.study import load_model, predict_map
    from geopov.study.cells import BLOCK_PX

    if region is not None and bounds is not None:
        raise MapError("both --region and --bounds are given; expected one of them.")
    chosen = Region.from_file(region) if region is not None else Region.from_bounds(bounds) if bounds else None
    tags = {key: value for key, value in (("source", source), ("style", style)) if value}
    with hole_warnings(), progress_bar("Predicting the map") as progress:
        predict_map(
            open_scene_options(scene or [], catalog, band, nodata),
            load_model(model),
            path=output,
            cell_m=cell_m,
            region=chosen,
            crs=crs,
            transform=transform.value,
            unit=unit,
            title=title,
            tags=tags,
            mode=mode.value,
            block_px=block_px or BLOCK_PX,
            scheduler=scheduler,
            workers=workers,
            memory_mb=memory_mb,
            strict=strict,
            progress=progress,
        )
    console.print(str(output), markup=False, soft_wrap=True)
