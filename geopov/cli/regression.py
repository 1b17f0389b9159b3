"""``geopov regression``: fit a welfare model and score it on places it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from geopov.cli._common import console, progress_bar

app = typer.Typer(help="Fit a model of welfare on features, and score it honestly.", no_args_is_help=True)


@app.callback()
def _stage() -> None:
    """Keep ``fit`` a subcommand while it is the only one."""


@app.command()
def fit(
    features: Annotated[Path, typer.Option("--features", metavar="FILE", help="Features of the clusters (.nc).")],
    clusters: Annotated[Path, typer.Option("--clusters", metavar="FILE", help="Survey clusters (GeoParquet).")],
    outcome: Annotated[str, typer.Option("--outcome", metavar="COLUMN", help="Column of the clusters to predict.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for model, scores, predictions.")
    ],
    block_km: Annotated[float, typer.Option("--block-km", help="Side of a spatial block, in km.")] = 50.0,
    buffer_km: Annotated[float, typer.Option("--buffer-km", help="No training cluster this near to a test one.")] = 0.0,
    folds: Annotated[int, typer.Option("--folds", help="Number of spatial folds.")] = 5,
    fold_column: Annotated[
        str | None, typer.Option("--fold-column", metavar="COLUMN", help="Take folds from a column instead of blocks.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Nightlights features to compare with (.nc).")
    ] = None,
    unit: Annotated[str, typer.Option("--unit", help="Unit of the outcome, for the report.")] = "",
    label: Annotated[str, typer.Option("--label", help="Name of the outcome, for the report.")] = "",
    coverage: Annotated[float, typer.Option("--coverage", help="Nominal coverage of the intervals.")] = 0.9,
    seed: Annotated[int, typer.Option("--seed", help="Of the blocks and the bootstraps.")] = 0,
    random_folds: Annotated[
        bool, typer.Option("--random-folds/--no-random-folds", help="Also show what random folds would have claimed.")
    ] = True,
) -> None:
    """Cross-validate on spatial blocks, fit all clusters, write model.npz, predictions.parquet and scores.json.

    Example: geopov regression fit --features features.nc --clusters clusters.parquet --outcome asset_wealth
    --block-km 50 --baseline nightlights.nc -o wealth/
    """
    import geopandas as gpd

    from geopov._validation import sha256_of
    from geopov.errors import RegressionError
    from geopov.features import read_features
    from geopov.regression import GivenFolds, SpatialBlocks, Splits, WelfareRidge, evaluate

    paths = {"features": features, "clusters": clusters} | ({"baseline": baseline} if baseline else {})
    for name, path in paths.items():
        if not path.is_file():
            raise RegressionError(f"--{name} is {path}, which is not there; expected the file an earlier stage wrote.")
    splits: Splits = SpatialBlocks(block_km=block_km, n_folds=folds, seed=seed, buffer_km=buffer_km)
    if fold_column is not None:
        splits = GivenFolds(fold_column, buffer_km=buffer_km)
    with progress_bar("Cross-validating") as progress:
        validation, model = evaluate(
            WelfareRidge(),
            read_features(features),
            gpd.read_parquet(clusters),
            outcome=outcome,
            splits=splits,
            folder=output,
            baseline=None if baseline is None else read_features(baseline),
            unit=unit,
            label=label,
            level=coverage,
            seed=seed,
            random_folds=random_folds,
            inputs={name: sha256_of(path) for name, path in paths.items()},
            progress=progress,
        )
    table = Table("predictor", "n", "R²", "95% interval", "r²", "RMSE", title=f"{outcome}, held-out places")
    for row in validation.scores[validation.scores["subset"] == "all"].to_dict("records"):
        interval = f"{row['R2_low']:.2f} to {row['R2_high']:.2f}"
        figures = (str(row["n"]), f"{row['R2']:.2f}", interval, f"{row['r2_pearson']:.2f}", f"{row['rmse']:.3g}")
        table.add_row(row["predictor"], *("–" if "nan" in text else text for text in figures))
    console.print(table)
    console.print(Text(validation.verdict))
    console.print(f"{len(validation.predictions)} clusters used, {len(validation.dropped)} rows left out")
    width = f"{model.half_width:.3g} {unit}".rstrip()
    held = f"{validation.coverage.measured:.0%} of held-out clusters (nominal {coverage:.0%})"
    console.print(Text(f"intervals of ± {width} held for {held}"))
