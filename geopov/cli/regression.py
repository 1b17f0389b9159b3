"""``geopov regression``: fit a welfare model and score it on places it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from geopov.cli._common import console, progress_bar

if TYPE_CHECKING:
    import xarray as xr

    from geopov.regression import CrossValidation, Splits

app = typer.Typer(help="Fit a model of welfare on features, and score it honestly.", no_args_is_help=True)


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
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", help="Leave out a country or a survey at a time: country, survey.")
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Let training tiles overlap test tiles; the report says so.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="Nightlights features to compare with (.nc).")
    ] = None,
    random_convolution: Annotated[
        Path | None,
        typer.Option("--random-convolution", metavar="FILE", help="Random convolutional features to compare with."),
    ] = None,
    deshrink: Annotated[
        str, typer.Option("--deshrink", help="Take the shrinkage off the map: none, linear or tweedie.")
    ] = "none",
    components: Annotated[
        int | None, typer.Option("--components", help="Reduce the features to so many principal components.")
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option(
            "--block", metavar="NAME=FILE", help="Further features, as a block with a penalty of its own; repeat it."
        ),
    ] = None,
    banded: Annotated[
        bool | None,
        typer.Option(
            "--banded/--no-banded",
            help="One penalty for each block of features, 'block:feature'. Default: where --block is given.",
        ),
    ] = None,
    n_iter: Annotated[
        int | None,
        typer.Option("--block-draws", min=1, help="Weightings of the blocks that --banded tries. Default: 10 a block."),
    ] = None,
    unit: Annotated[str, typer.Option("--unit", help="Unit of the outcome, for the report.")] = "",
    label: Annotated[str, typer.Option("--label", help="Name of the outcome, for the report.")] = "",
    coverage: Annotated[float, typer.Option("--coverage", help="Nominal coverage of the intervals.")] = 0.9,
    seed: Annotated[int, typer.Option("--seed", help="Of the blocks and the bootstraps.")] = 0,
    random_folds: Annotated[
        bool, typer.Option("--random-folds/--no-random-folds", help="Also show what random folds would have claimed.")
    ] = True,
    permutations: Annotated[
        int, typer.Option("--permutations", min=0, help="Fits with the images reshuffled: what chance would score.")
    ] = 0,
    repeats: Annotated[
        int, typer.Option("--repeats", min=0, help="Other divisions of the clusters to score the model under.")
    ] = 0,
    imagery_years: Annotated[
        list[int] | None, typer.Option("--imagery-year", help="Year the images are of; may be repeated.")
    ] = None,
    nightlights_years: Annotated[
        list[int] | None, typer.Option("--nightlights-year", help="Year the nightlights are of; may be repeated.")
    ] = None,
) -> None:
    """Cross-validate on spatial blocks, fit all clusters, write model.npz, predictions.parquet and scores.json.

    Example: geopov regression fit --features features.nc --clusters clusters.parquet --outcome asset_wealth
    --block-km 50 --baseline nightlights.nc -o wealth/

    Example: geopov regression fit --features images.nc --block lights=lights.nc --block text=text.nc
    --clusters clusters.parquet --outcome asset_wealth -o fused/
    """
    import geopandas as gpd

    from geopov._validation import sha256_of
    from geopov.errors import RegressionError
    from geopov.features import read_features
    from geopov.regression import SpatialBlocks, WelfareRidge, evaluate, footprint_km
    from geopov.regression.banded import BandedRidge
    from geopov.study import describe_survey

    named = _named_blocks(block or [])
    paths = {"features": features, "clusters": clusters} | {f"block {name}": path for name, path in named.items()}
    paths |= {"baseline": baseline} if baseline else {}
    paths |= {"random-convolution": random_convolution} if random_convolution else {}
    for name, path in paths.items():
        if not path.is_file():
            raise RegressionError(f"--{name} is {path}, which is not there; expected the file an earlier stage wrote.")
    X = _read_blocks(features, named)
    if banded is None:
        banded = bool(named)
    if banded and components is not None:
        raise RegressionError("--components and --banded are both given; expected one of them.")
    # Training clusters whose tiles would reach into test tiles are left out, unless they are asked for.
    tile_km = 0.0 if allow_overlap else footprint_km(X.attrs)
    splits = _given_splits(fold_column, leave_out, buffer_km=buffer_km, tile_km=tile_km) or SpatialBlocks(
        block_km=block_km, n_folds=folds, seed=seed, buffer_km=buffer_km, tile_km=tile_km
    )
    table = gpd.read_parquet(clusters)
    with progress_bar("Cross-validating") as progress:
        validation, _ = evaluate(
            BandedRidge(n_iter=n_iter, seed=seed) if banded else WelfareRidge(n_components=components),
            X,
            table,
            outcome=outcome,
            splits=splits,
            folder=output,
            baseline=None if baseline is None else read_features(baseline),
            others={} if random_convolution is None else {"random_convolution": read_features(random_convolution)},
            deshrink=deshrink,
            allow_overlap=allow_overlap,
            unit=unit,
            label=label,
            level=coverage,
            seed=seed,
            random_folds=random_folds,
            n_permutations=permutations,
            n_repeats=repeats,
            imagery_years=imagery_years or (),
            nightlights_years=nightlights_years or (),
            survey=describe_survey(table, window_km=footprint_km(X.attrs)),
            inputs={name: sha256_of(path) for name, path in paths.items()},
            progress=progress,
        )
    _show(validation, outcome)
    half_width = float((validation.predictions["upper"] - validation.predictions["mean"]).median())
    width = f"{half_width:.3g} {unit}".rstrip()
    held = f"{validation.coverage.measured:.0%} of held-out clusters (nominal {coverage:.0%})"
    console.print(Text(f"intervals of ± {width} (median) held for {held}"))


@app.command()
def score(
    clusters: Annotated[Path, typer.Option("--clusters", metavar="FILE", help="Survey clusters (GeoParquet).")],
    outcome: Annotated[str, typer.Option("--outcome", metavar="COLUMN", help="Column that was to be predicted.")],
    predicted: Annotated[str, typer.Option("--predicted", metavar="COLUMN", help="Column with the predictions.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for scores and predictions.")],
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", metavar="FILE", help="Table (Parquet or CSV) with cluster_id and predictions."),
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="COLUMN", help="Other predictions; may be repeated.")
    ] = None,
    fold_column: Annotated[
        str | None, typer.Option("--fold-column", metavar="COLUMN", help="The folds the predictions were made in.")
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", help="They left out one at a time: country, survey.")
    ] = None,
    block_km: Annotated[float, typer.Option("--block-km", help="Blocks that bootstraps draw, in km.")] = 50.0,
    unit: Annotated[str, typer.Option("--unit", help="Unit of the outcome, for the report.")] = "",
    label: Annotated[str, typer.Option("--label", help="Name of the outcome, for the report.")] = "",
    coverage: Annotated[float, typer.Option("--coverage", help="Nominal coverage of the intervals.")] = 0.9,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstraps.")] = 0,
) -> None:
    """Judge predictions that exist already, published ones or another team's; write what `geopov report` reads.

    Example: geopov regression score --clusters clusters.parquet --predictions published.parquet --outcome asset_wealth
    --predicted resnet --against nightlights --fold-column test_fold -o published/
    """
    import geopandas as gpd

    from geopov._validation import sha256_of
    from geopov.errors import RegressionError
    from geopov.regression import read_predictions, score_predictions

    paths = {"clusters": clusters} | ({"predictions": predictions} if predictions else {})
    for name, path in paths.items():
        if not path.is_file():
            raise RegressionError(f"--{name} is {path}, which is not there; expected a file.")
    splits = _given_splits(fold_column, leave_out, buffer_km=0.0, tile_km=0.0)
    if splits is None:
        raise RegressionError("neither --fold-column nor --leave-out is given; expected the folds of the predictions.")
    table = gpd.read_parquet(clusters)
    if predictions is not None:
        table = read_predictions(predictions, table, [predicted, *(against or [])])
    validation = score_predictions(
        table,
        outcome=outcome,
        predicted=predicted,
        against=against or [],
        splits=splits,
        folder=output,
        block_km=block_km,
        unit=unit,
        label=label,
        level=coverage,
        seed=seed,
        inputs={name: sha256_of(path) for name, path in paths.items()},
    )
    _show(validation, outcome)


def _named_blocks(texts: list[str]) -> dict[str, Path]:
    from geopov.errors import RegressionError

    named: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in (*named, "features"):
            raise RegressionError(f"--block is {text!r}; expected NAME=FILE, each name once and none 'features'.")
        named[name] = Path(path)
    return named


def _read_blocks(features: Path, named: dict[str, Path]) -> xr.DataArray:
    """The features alone, as they are, or fused with further blocks as the block ``features``."""
    from geopov.features import read_features
    from geopov.regression.fusion import fuse

    X = read_features(features)
    return fuse({"features": X} | {name: read_features(path) for name, path in named.items()}) if named else X


def _show(validation: CrossValidation, outcome: str) -> None:
    table = Table("predictor", "n", "R²", "95% interval", "r²", "RMSE", title=f"{outcome}, held-out places")
    for row in validation.scores[validation.scores["subset"] == "all"].to_dict("records"):
        # Zero added to a rounded value takes the sign off a negative zero.
        R2, low, high, r2 = (f"{round(row[name], 2) + 0.0:.2f}" for name in ("R2", "R2_low", "R2_high", "r2_pearson"))
        figures = (str(row["n"]), R2, f"{low} to {high}", r2, f"{row['rmse']:.3g}")
        table.add_row(row["predictor"], *("–" if "nan" in text else text for text in figures))
    console.print(table)
    console.print(Text(validation.verdict))
    console.print(f"{len(validation.predictions)} clusters used, {len(validation.dropped)} rows left out")


def _given_splits(fold_column: str | None, leave_out: str | None, *, buffer_km: float, tile_km: float) -> Splits | None:
    from geopov.errors import RegressionError
    from geopov.regression import GivenFolds, LeaveOneCountryOut, LeaveOneSurveyOut

    if fold_column is not None and leave_out is not None:
        raise RegressionError("--fold-column and --leave-out are both given; expected one of them, or neither.")
    if fold_column is not None:
        return GivenFolds(fold_column, buffer_km=buffer_km, tile_km=tile_km)
    if leave_out is None:
        return None
    ways = {"country": LeaveOneCountryOut, "survey": LeaveOneSurveyOut}
    if leave_out not in ways:
        raise RegressionError(f"--leave-out is {leave_out!r}; expected country or survey.")
    return ways[leave_out](buffer_km=buffer_km, tile_km=tile_km)
