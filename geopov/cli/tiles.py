"""``geopov tiles``: cut tiles around points, or see what that would read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geopov.cli._common import console, progress_bar
from geopov.cli._options import BandNames, CatalogFile, Nodata, SceneNames, open_scene_options, read_points
from geopov.errors import TileError
from geopov.raster import Scene
from geopov.tiles import TileSet, TileSpec, tile_points
from geopov.tiles import extract as extract_tiles
from geopov.tiles.extract import PlannedTiles

app = typer.Typer(help="Cut tiles around points out of satellite scenes.", no_args_is_help=True)

# Paths and names are no markup, and a line that is too long for the screen may be cut by the screen only.
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}

PointsOption = Annotated[Path, typer.Option("--points", help="GeoParquet of points with a cluster_id.")]
SizeOption = Annotated[int, typer.Option("--size-px", help="Side of a tile in pixels.")]
ResolutionOption = Annotated[float, typer.Option("--resolution-m", help="Side of a pixel in metres on the ground.")]
ContextOption = Annotated[int, typer.Option("--context-px", help="Pixels to add around each tile.")]
WindowOption = Annotated[
    float | None, typer.Option("--window-km", help="Spread several tiles over a window of this side around each point.")
]
CountOption = Annotated[int | None, typer.Option("--n-tiles", help="Tiles in that window: 1, 4, 9, 16, 25, ... 100.")]
ResamplingOption = Annotated[
    str, typer.Option("--resampling", help="auto (area average or bilinear) or nearest (for classes).")
]
ThreadsOption = Annotated[int, typer.Option("--threads", help="Threads that read.")]
CacheOption = Annotated[float, typer.Option("--cache-mb", help="Megabytes of decoded blocks to hold.")]


@app.command()
def extract(
    scene: SceneNames,
    points: PointsOption,
    size_px: SizeOption,
    resolution_m: ResolutionOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    context_px: ContextOption = 0,
    window_km: WindowOption = None,
    n_tiles: CountOption = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    resampling: ResamplingOption = "auto",
    threads: ThreadsOption = 2,
    cache_mb: CacheOption = 256,
    geotiffs: Annotated[Path | None, typer.Option("--geotiffs", help="Also write a GeoTIFF a tile here.")] = None,
) -> None:
    """Cut tiles around points and save them to a folder.

    Example: geopov tiles extract --scene rwanda.tif --points clusters.parquet --size-px 224 --resolution-m 30 -o tiles
    """
    spec = _spec(size_px, resolution_m, context_px, resampling)
    scenes = open_scene_options(scene or [], catalog, band, nodata)
    tiles = _plan(scenes, points, spec, window_km, n_tiles, threads, cache_mb)
    with progress_bar("Cutting tiles") as progress:
        saved = tiles.save(output, progress=progress)
    if geotiffs is not None:
        with progress_bar("Writing GeoTIFFs") as progress:
            saved.write_geotiffs(geotiffs, progress=progress)
    outside = f"; {saved.n_outside} lie on no scene and are all invalid" if saved.n_outside else ""
    console.print(f"{len(saved)} tiles of {spec.total_px} x {spec.total_px} px in {output}{outside}.", **_PLAIN)


@app.command()
def plan(
    scene: SceneNames,
    points: PointsOption,
    size_px: SizeOption,
    resolution_m: ResolutionOption,
    context_px: ContextOption = 0,
    window_km: WindowOption = None,
    n_tiles: CountOption = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    resampling: ResamplingOption = "auto",
    cache_mb: CacheOption = 256,
) -> None:
    """Say what would be read, without reading it.

    Example: geopov tiles plan --scene rwanda.tif --points clusters.parquet --size-px 224 --resolution-m 30
    """
    spec = _spec(size_px, resolution_m, context_px, resampling)
    scenes = open_scene_options(scene or [], catalog, band, nodata)
    tiles = _plan(scenes, points, spec, window_km, n_tiles, 2, cache_mb)
    assert isinstance(tiles.source, PlannedTiles)
    console.print(tiles.source.describe(), **_PLAIN)


def _spec(size_px: int, resolution_m: float, context_px: int, resampling: str) -> TileSpec:
    return TileSpec.from_dict(
        {"size_px": size_px, "resolution_m": resolution_m, "context_px": context_px, "resampling": resampling}
    )


def _plan(
    scenes: list[Scene],
    points: Path,
    spec: TileSpec,
    window_km: float | None,
    n_tiles: int | None,
    threads: int,
    cache_mb: float,
) -> TileSet:
    table = read_points(points)
    if (window_km is None) != (n_tiles is None):
        raise TileError("--window-km and --n-tiles go together: the window, and how many tiles are spread over it.")
    if window_km is not None and n_tiles is not None:
        table = tile_points(table, spec, window_km=window_km, n_tiles=n_tiles)
    return extract_tiles(scenes, table, spec, threads=threads, cache_mb=cache_mb)
