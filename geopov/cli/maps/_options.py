"""Options that several of the map commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_STYLES = "people, density, consumption, headcount, poor, asset_wealth, ...; default: the map's own."

MapFile = Annotated[Path, typer.Argument(metavar="MAP", help="A GeoTIFF.")]
StyleName = Annotated[str | None, typer.Option("--style", metavar="NAME", help=_STYLES)]
Band = Annotated[int, typer.Option("--band", min=1, help="Band to show.")]
OutputMap = Annotated[Path, typer.Option("-o", "--output", metavar="MAP", help="GeoTIFF to write.")]
Title = Annotated[str | None, typer.Option("--title", help="Headline; default: the map's own.")]
Source = Annotated[str | None, typer.Option("--source", help="Whose data it is; default: the map's own.")]
Year = Annotated[str | None, typer.Option("--year", help="Of the data; default: the map's own.")]
