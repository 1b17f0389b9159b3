"""``geopov features table``: vectors of any origin as features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from geopov._validation import ID_COLUMN, some
from geopov.cli._common import console


def table(
    vectors: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV or Parquet, a row a cluster.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NetCDF file to write.")],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME", help="Column to take, numbers or vectors; repeat it. Default: all."),
    ] = None,
    id_column: Annotated[str, typer.Option("--id-column", metavar="NAME", help="Ids of the clusters.")] = ID_COLUMN,
) -> None:
    """Make features of the columns of a table: embeddings, statistics, another team's vectors.

    \b
    Example:
      geopov features table embeddings.parquet --column text -o text.nc
      geopov regression fit --features images.nc --block text=text.nc --clusters clusters.parquet \\
        --outcome asset_wealth -o wealth/
    """
    from geopov.features.store import write_features
    from geopov.features.table import read_vectors

    features = read_vectors(vectors, columns=column, id_column=id_column)
    write_features(features, output)
    console.print(f"{features.sizes['cluster']} clusters x {features.sizes['feature']} features -> {output}")
    dropped = json.loads(features.attrs["dropped"])
    if dropped:
        names = some(entry["cluster_id"] for entry in dropped)
        console.print(
            f"dropped {len(dropped)}: without a number in every column ({names})", highlight=False, markup=False
        )
