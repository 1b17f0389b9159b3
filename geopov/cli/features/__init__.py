"""``geopov features``: tiles to features, one module a subcommand."""

from __future__ import annotations

import typer

from geopov.cli.features import extract

app = typer.Typer(help="Features of tiles, from statistics or a network.", no_args_is_help=True)
app.command("extract")(extract.extract)
app.command("list")(extract.list_extractors)
