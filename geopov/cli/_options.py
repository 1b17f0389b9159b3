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


BandNames = Annotated[
    list[str] | None, typer.Option("--band", help="A band of the files to keep, by name or number; repeat it.")
]
Nodata = Annotated[float | None, typer.Option("--nodata", help="Missing value, in place of what the files say.")]

# Where and how the work is done. None of these changes a number, so that a study can pass them on in the environment
# without any stage running again for it.
Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler",
        envvar="GEOPOV_SCHEDULER",
        help="serial, threads, processes, or the address of a Dask scheduler such as tcp://host:8786.",
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, envvar="GEOPOV_WORKERS", help="At work side by side; default: cores.")
]
MemoryMb = Annotated[
    float | None,
    typer.Option("--memory-mb", envvar="GEOPOV_MEMORY_MB", help="Memory to stay within: fewer blocks side by side."),
]
Strict = Annotated[
    bool,
    typer.Option("--strict/--no-strict", envvar="GEOPOV_STRICT", help="Pixels that cannot be read end the run."),
]


def open_scene_options(
    scenes: Sequence[str], catalog: Path | None, bands: Sequence[str] | None = None, nodata: float | None = None
) -> list[Scene]:
    """The scenes of ``--scene``, ``--catalog``, ``--band`` and ``--nodata``."""
    from geopov.catalog import open_catalog
    from geopov.study import open_scenes

    # A file may have a comma in its own name.
    names = [[text] if Path(text).exists() else text.split(",") for text in scenes]
    chosen = [int(name) if name.isdigit() else name for name in bands] if bands else None
    found = None if catalog is None else open_catalog(catalog)
    return open_scenes(names, catalog=found, bands=chosen, nodata=nodata)


def read_points(path: Path) -> gpd.GeoDataFrame:
    """The points of ``--points``; nothing is dropped here, so that nothing is lost unseen."""
    import geopandas as gpd

    try:
        return gpd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise SurveyError(
            f"{path} cannot be read as GeoParquet ({error}). `geopov survey points` makes one from a table."
        ) from error
