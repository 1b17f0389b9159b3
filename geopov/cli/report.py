"""``geopov report``: what the regression found, as one page for a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from geopov.cli._common import console


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="What `geopov regression fit` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The HTML file.")],
    maps: Annotated[
        list[Path] | None, typer.Option("--map", metavar="FILE", help="A picture of the map (.png); may be repeated.")
    ] = None,
    captions: Annotated[
        list[str] | None, typer.Option("--caption", help="What each --map shows, in their order. Default: the title.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Default: from the outcome.")] = None,
) -> None:
    """Write one self-contained HTML file with maps, scores against the baseline, uncertainty and provenance.

    Example: geopov report wealth/ --map wealth.png --caption "Asset wealth in 1 km cells" -o report.html
    """
    from geopov.errors import RegressionError
    from geopov.regression import render_report

    pictures, texts = maps or [], captions or []
    if texts and len(texts) != len(pictures):
        raise RegressionError(f"{len(pictures)} --map and {len(texts)} --caption are given; expected as many of each.")
    named = texts or [title or picture.stem.replace("_", " ") for picture in pictures]
    render_report(folders, output, maps=list(zip(pictures, named, strict=True)), title=title)
    console.print(Text(str(output)))
