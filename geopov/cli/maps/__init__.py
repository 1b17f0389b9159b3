"""``geopov maps``: predict, share people over cells, count the poor, and hand maps on."""

from __future__ import annotations

import typer

from geopov.cli.maps import admin, density, pictures, poverty, predict, share

app = typer.Typer(help="Predict, disaggregate, draw, style and hand on maps.", no_args_is_help=True)
for part in (predict, density, poverty, admin, pictures, share):
    # Typer adds the commands of a nameless group to the group above.
    app.add_typer(part.app)
