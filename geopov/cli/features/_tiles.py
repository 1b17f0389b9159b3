"""Tiles of a command: saved ones, or cut around its points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geopov.cli._options import open_scene_options
from geopov.errors import FeatureError

if TYPE_CHECKING:
    import geopandas as gpd

    from geopov.tiles import TileSet

SavedTiles = Annotated[
    Path | None, typer.Option("--tiles", metavar="DIR", help="Tiles that `geopov tiles extract` saved.")
]
SizePx = Annotated[int | None, typer.Option("--size-px", help="Side of a tile in pixels.")]
ResolutionM = Annotated[float | None, typer.Option("--resolution-m", help="Side of a pixel in metres.")]
ContextPx = Annotated[int, typer.Option("--context-px", help="Pixels to add around each tile.")]

SceneOptions = tuple[Sequence[str] | None, Path | None, Sequence[str] | None, float | None]
"""Of ``--scene``, ``--catalog``, ``--band`` and ``--nodata``."""


def open_or_cut(
    folder: Path | None,
    scene: SceneOptions,
    points: gpd.GeoDataFrame | None,
    size_px: int | None,
    resolution_m: float | None,
    context_px: int,
) -> TileSet:
    """The tiles of ``--tiles``, or those around points on scenes."""
    from geopov import tiles

    scenes, catalog, bands, nodata = scene
    if folder is not None:
        if scenes:
            raise FeatureError("--tiles and --scene are given; expected saved tiles or scenes.")
        return tiles.TileSet.open(folder)
    if not scenes or points is None or size_px is None or resolution_m is None:
        raise FeatureError(
            "expected --tiles, or else --scene, points, --size-px and --resolution-m, to cut tiles around the points."
        )
    spec = tiles.TileSpec(size_px=size_px, resolution_m=resolution_m, context_px=context_px)
    return tiles.extract(open_scene_options(scenes, catalog, bands, nodata), points, spec)
