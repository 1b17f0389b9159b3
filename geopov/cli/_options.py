"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geopov.errors import SurveyError

if TYPE_CHECKING:
    import geopandas as gpd

    from geopov.raster import Scene

SceneNames = Annotated[
    list[str] | None,
    typer.Option(
        "--scene",
        metavar="FILE[,FILE...]",
        help="A raster, or several stacked as bands; with --catalog also names of sources. Repeat it for a mosaic.",
    ),
]
CatalogFile = Annotated[
    Path | None, typer.Option("--catalog", metavar="FILE", help="Where scenes are looked up by name.")
]


def open_scene_options(scenes: Sequence[str], catalog: Path | None) -> list[Scene]:
    """The scenes of ``--scene`` and ``--catalog``."""
    from geopov.catalog import open_catalog
    from geopov.study import open_scenes

    # A file may have a comma in its own name.
    names = [[text] if Path(text).exists() else text.split(",") for text in scenes]
    return open_scenes(names, catalog=None if catalog is None else open_catalog(catalog))


def read_points(path: Path) -> gpd.GeoDataFrame:
    """The points of ``--points``; nothing is dropped here, so that nothing is lost unseen."""
    import geopandas as gpd

    try:
        return gpd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SurveyError(
            f"{path} cannot be read as GeoParquet ({error}). `geopov survey points` makes one from a table."
        ) from error
