"""``geopov features``: tiles to features, one module a subcommand."""

from __future__ import annotations

import typer

from geopov.cli.features import classify, compare, context, explain, extract, points, pretrain, table

app = typer.Typer(
    help="Features of tiles: from statistics, filters, or a network, which may be trained here.", no_args_is_help=True
)
app.command("points")(points.points)
app.command("pretrain")(pretrain.pretrain)
app.command("context")(context.context)
app.command("extract")(extract.extract)
app.command("table")(table.table)
app.command("compare")(compare.compare)
app.command("train-classifier")(classify.train_classifier)
app.command("classify")(classify.classify)
app.command("explain")(explain.explain)
app.command("list")(extract.list_extractors)
