"""``geopov features train-classifier`` and ``classify``: tiles to classes of any label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geopov._validation import ID_COLUMN, atomic_path, check_columns
from geopov.cli._common import console, progress_bar
from geopov.cli._options import BandNames, CatalogFile, Nodata, SceneNames, read_points
from geopov.cli.features._tiles import ContextPx, ResolutionM, SavedTiles, SizePx, open_or_cut
from geopov.cli.features.extract import read_spec
from geopov.errors import FeatureError

if TYPE_CHECKING:
    import geopandas as gpd


def train_classifier(
    labels: Annotated[Path, typer.Option("--labels", metavar="FILE", help="GeoParquet of labelled points.")],
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="Column of the classes.")],
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the classifier.")],
    tiles_folder: SavedTiles = None,
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    size_px: SizePx = None,
    resolution_m: ResolutionM = None,
    context_px: ContextPx = 0,
    extractor: Annotated[
        str | None,
        typer.Option(help="Fit a logistic regression on these features, in place of training a network."),
    ] = None,
    training: Annotated[
        str | None, typer.Option("--training", metavar="JSON", help="Options of training the network, as of pretrain.")
    ] = None,
    positive: Annotated[
        list[str] | None, typer.Option("--positive", help="Two stages: a class the first pass looks for; repeat it.")
    ] = None,
    first: Annotated[str, typer.Option("--first-pass", help="Extractor of the first pass.")] = "band_statistics",
    sensitivity: Annotated[float, typer.Option(help="Share of wanted tiles the first pass must let through.")] = 0.95,
    calibration: Annotated[str, typer.Option(help="temperature, isotonic or none.")] = "temperature",
    block_km: Annotated[
        float | None, typer.Option("--block-km", help="Side of the blocks that part the splits.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and the training.")] = 0,
) -> None:
    """Train a classifier of tiles on any label, calibrate it, and say how well its probabilities hold.

    \b
    Example:
      geopov features train-classifier --labels roofs.parquet --label roof --tiles tiles/ -o roofs/
      geopov features train-classifier --labels roofs.parquet --label roof --scene s2.tif --size-px 64 \\
        --resolution-m 10 --positive metal --positive thatch --first-pass band_statistics \\
        --training '{"backbone": "resnet18", "epochs": 10}' -o roofs/
    """
    from geopov.features.classification.classifier import train_classifier as train
    from geopov.features.classification.two_stage import train_two_stage

    points = read_points(labels)
    tiles = open_or_cut(tiles_folder, (scene, catalog, band, nodata), points, size_px, resolution_m, context_px)
    options: dict[str, Any] = _training(training) | {
        "label": label,
        "folder": folder,
        "extractor": None if extractor is None else read_spec(extractor),
        "calibration": calibration,
        "block_km": block_km,
        "seed": seed,
    }
    with progress_bar("Training") as progress:
        if positive:
            options |= {"positive": positive, "first": read_spec(first), "sensitivity": sensitivity}
            checks = train_two_stage(tiles, points, progress=progress, **options).checks
            scores = checks["both_stages"]
        else:
            checks = train(tiles, points, progress=progress, **options).checks
            scores = checks["after"]
    console.print(
        f"accuracy {scores['accuracy']:.3f}, log loss {scores['log_loss']:.3f}, "
        f"expected calibration error {scores['ece']:.3f} on {scores['n_tiles']} test tiles -> {folder}",
        highlight=False,
    )
    if positive:
        kept, found = checks["kept"], checks["sensitivity_of_first_pass"]
        console.print(
            f"the first pass lets through {kept[0]:.1%} of the test tiles, and {found[0]:.1%} of the wanted "
            f"(95% interval {found[1]:.1%} to {found[2]:.1%})",
            highlight=False,
        )


def classify(
    classifier: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the classifier.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="GeoParquet, or CSV, to write.")],
    tiles_folder: SavedTiles = None,
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    points: Annotated[Path | None, typer.Option("--points", metavar="FILE", help="GeoParquet of points.")] = None,
    size_px: SizePx = None,
    resolution_m: ResolutionM = None,
    context_px: ContextPx = 0,
    page: Annotated[Path | None, typer.Option(help="HTML page of tiles beside their probabilities.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG of tiles beside their probabilities.")] = None,
    truth: Annotated[Path | None, typer.Option(help="GeoParquet of labelled points, shown beside.")] = None,
    n: Annotated[int, typer.Option("--n", help="Tiles on the page and on the sheet.")] = 60,
    order: Annotated[str, typer.Option(help="Which of them: spread, sure or doubtful.")] = "spread",
    show: Annotated[list[str] | None, typer.Option("--show", help="A band of the pictures; one or three.")] = None,
    stretch: Annotated[str, typer.Option(help="Of the pictures: linear or log.")] = "linear",
) -> None:
    """Write the probabilities of each tile, and pictures of tiles beside them.

    \b
    Example:
      geopov features classify roofs/ --tiles tiles/ --page roofs.html --sheet roofs.png -o roofs.parquet
    """
    from geopov.features.classification.apply import classify as apply
    from geopov.features.classification.apply import open_classifier
    from geopov.features.classification.sheet import write_page, write_sheet

    if output.suffix not in (".parquet", ".csv"):
        raise FeatureError(f"--output is {output}; expected a name that ends in .parquet or .csv.")
    chosen = open_classifier(classifier)
    where = None if points is None else read_points(points)
    tiles = open_or_cut(tiles_folder, (scene, catalog, band, nodata), where, size_px, resolution_m, context_px)
    with progress_bar("Classifying") as progress:
        table = apply(chosen, tiles, progress=progress)
    _write_table(table, output)
    counts = table["predicted"].value_counts()
    console.print(
        ", ".join(f"{name} {counts.get(name, 0)}" for name in chosen.classes) + f" of {len(table)} tiles -> {output}",
        highlight=False,
        markup=False,
    )
    pictures: dict[str, Any] = {
        "truth": None if truth is None else _truth(read_points(truth), chosen),
        "n": n,
        "order": order,
        "bands": [int(name) if name.isdigit() else name for name in show] if show else None,
        "stretch": stretch,
    }
    if page is not None:
        write_page(table, tiles, page, classifier=chosen, **pictures)
    if sheet is not None:
        write_sheet(table, tiles, sheet, **pictures)


def _training(text: str | None) -> dict[str, Any]:
    found = {} if text is None else read_spec(text)
    if not isinstance(found, dict):
        raise FeatureError(
            f"""--training is {text!r}; expected JSON such as '{{"backbone": "resnet18"}}', or a file."""
        )
    return found


def _truth(points: gpd.GeoDataFrame, classifier: Any) -> dict[str, str]:
    """Known classes by point, as the classifier calls them."""
    from geopov.features.classification.labels import class_names

    label = getattr(classifier, "second", classifier).card["label"]
    check_columns(points, [ID_COLUMN, label], "the table of --truth", FeatureError)
    known = points[points[label].notna()]
    return dict(zip(known[ID_COLUMN].astype(str), class_names(known[label], label), strict=True))


def _write_table(table: gpd.GeoDataFrame, output: Path) -> None:
    with atomic_path(output) as partial:
        if output.suffix == ".parquet":
            table.to_parquet(partial)
        else:
            plain = table.assign(lon=table.geometry.x, lat=table.geometry.y).drop(columns="geometry")
            plain.to_csv(partial, index=False)
