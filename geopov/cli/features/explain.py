"""``geopov features explain``: picture sheets of what a network sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geopov._validation import ID_COLUMN, check_columns
from geopov.cli._common import console, progress_bar
from geopov.cli._options import read_points
from geopov.cli.features.extract import read_spec
from geopov.errors import FeatureError

if TYPE_CHECKING:
    import pandas as pd


def explain(
    extractor: Annotated[
        str,
        typer.Option(help="A network: its name, a specification as JSON or in a file, or the folder of a trained one."),
    ],
    tiles_folder: Annotated[
        Path, typer.Option("--tiles", metavar="DIR", help="Tiles that `geopov tiles extract` saved.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for sheets and tables.")],
    filters: Annotated[
        list[int] | None, typer.Option("--filter", help="A filter to show, counted from 0; repeat it.")
    ] = None,
    n_filters: Annotated[int, typer.Option("--n-filters", min=1, help="Filters to choose where none is named.")] = 8,
    n_tiles: Annotated[int, typer.Option("--n-tiles", min=1, help="Tiles a row.")] = 8,
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="Whose maps to show; 'final' is the final map. A wrong name lists some."),
    ] = None,
    show: Annotated[
        list[str] | None, typer.Option("--show", help="Bands to draw as red, green and blue; repeat it.")
    ] = None,
    points: Annotated[
        Path | None, typer.Option("--points", metavar="FILE", help="GeoParquet with a value for each cluster.")
    ] = None,
    value: Annotated[str, typer.Option("--value", help="Its column, to write below the tiles.")] = "lights",
) -> None:
    """Draw the tiles that move a network's filters most and, for a trained network, its classes with Grad-CAM.

    \b
    Example:
      geopov features explain --extractor networks/lights --tiles tiles/ --points points.parquet -o explained/
      geopov features explain --extractor '{"name": "efficientnet_lite0", "input_px": 128}' --tiles tiles/ -o explained/
    """
    from geopov import features, tiles
    from geopov.features.explanation.report import explain as draw

    trained = Path(extractor).is_dir()
    spec = {"name": "pretrained", "weights": extractor} if trained else read_spec(extractor)
    bands = [int(name) if name.isdigit() else name for name in show] if show else None
    values = None if points is None else _values(points, value)
    with progress_bar("Looking at tiles") as progress:
        files = draw(
            features.build(spec),
            tiles.TileSet.open(tiles_folder),
            folder=output,
            filters=filters or None,
            n_filters=n_filters,
            n_tiles=n_tiles,
            layer=layer,
            show=bands,
            values=values,
            progress=progress,
        )
    for file in files:
        console.print(str(file), highlight=False, markup=False)


def _values(points: Path, column: str) -> pd.Series:
    table = read_points(points)
    check_columns(table, [ID_COLUMN, column], str(points), FeatureError)
    values: pd.Series = table.set_index(table[ID_COLUMN].astype(str))[column]
    return values
