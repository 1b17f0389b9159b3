"""``geopov survey``: from survey files, tables and census areas to clusters, and a look at what is in them."""

from __future__ import annotations

import typer

from geopov.cli.survey import describe, microdata, tables

app = typer.Typer(help="DHS and LSMS files, tables, households and census areas to clusters.", no_args_is_help=True)
for part in (microdata, tables, describe):
    # Typer adds the commands of a nameless group to the group above.
    app.add_typer(part.app)
