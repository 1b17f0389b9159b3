"""``geopov features compare``: several networks trained alike, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from geopov.cli._common import console, progress_bar
from geopov.cli._options import BandNames, CatalogFile, Nodata, SceneNames, open_scene_options, read_points
from geopov.errors import FeatureError

if TYPE_CHECKING:
    import geopandas as gpd

    from geopov.tiles import TileSet


def compare(
    points: Annotated[
        Path, typer.Option("--points", metavar="FILE", help="GeoParquet of labelled points with the column 'split'.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Networks and tables; run again to go on.")
    ],
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="NAME[=START]", help="START: imagenet, random or a .pth file; repeat it."),
    ] = None,
    networks: Annotated[
        Literal["bressem2020", "newer", "all"] | None, typer.Option("--networks", help="A set, in place of --network.")
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="Start of networks that name none: imagenet or random.")
    ] = "imagenet",
    label: Annotated[str, typer.Option("--label", help="Column of classes.")] = "lights_class",
    task: Annotated[
        Literal["classification", "ordinal"], typer.Option("--task", help="Ordinal: the classes have an order.")
    ] = "classification",
    tiles_folder: Annotated[
        Path | None, typer.Option("--tiles", metavar="DIR", help="Tiles of the points that were saved before.")
    ] = None,
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    size_px: Annotated[int | None, typer.Option("--size-px", help="Side of a tile in pixels.")] = None,
    resolution_m: Annotated[float | None, typer.Option("--resolution-m", help="Side of a pixel in metres.")] = None,
    input_px: Annotated[int | None, typer.Option("--input-px", help="Side tiles are resized to; 75 suits all.")] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 20,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 64,
    precision: Annotated[str, typer.Option("--precision", help="Such as bf16-mixed on a GPU.")] = "32-true",
    clusters: Annotated[
        Path | None, typer.Option("--clusters", metavar="FILE", help="Survey clusters, for the downstream r².")
    ] = None,
    cluster_tiles: Annotated[
        Path | None, typer.Option("--cluster-tiles", metavar="DIR", help="Their tiles, where --tiles are given.")
    ] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="Column of --clusters to predict.")] = None,
    block_km: Annotated[float | None, typer.Option("--block-km", help="Spatial blocks of that prediction.")] = None,
    interval_block_km: Annotated[
        float | None,
        typer.Option("--interval-block-km", help="Draw whole squares of test tiles for intervals, in place of DeLong."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    engine: Annotated[
        Literal["auto", "eager", "fused", "onnxruntime", "cuda"],
        typer.Option("--engine", help="That runs trained networks forward."),
    ] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1)] = None,
) -> None:
    """Train networks on the same tiles and compare them on the same test tiles.

    Sensitivity, specificity and AUROC of each class with 95% intervals, r² of a survey's outcome under spatial blocks,
    images a second and parameters: comparison.csv, .md, .html and .png in the output folder.

    \b
    Example:
      geopov features compare --points lights.parquet --scene landsat.tif --size-px 224 --resolution-m 30 \\
        --networks bressem2020 --clusters clusters.parquet --outcome asset_wealth --block-km 50 -o networks/
      geopov features compare --points lights.parquet --tiles tiles/ --network resnet18 \\
        --network efficientnet_lite0=random -o networks/
    """
    from geopov.features.comparison.bake_off import compare as compare_networks
    from geopov.features.comparison.order import ranked
    from geopov.features.comparison.table import write_comparison

    if bool(network) == bool(networks):
        raise FeatureError("expected --network, once or more, or --networks with a set; one of the two.")
    if (clusters is None) != (outcome is None) or (clusters is None) != (block_km is None):
        raise FeatureError("--clusters, --outcome and --block-km belong together; give all or none.")
    labels = read_points(points)
    survey = None if clusters is None else read_points(clusters)
    tiles, survey_tiles = _tiles(
        labels, survey, tiles_folder, cluster_tiles,
        cut={"scenes": scene, "catalog": catalog, "bands": band, "nodata": nodata},
        size_px=size_px, resolution_m=resolution_m,
    )  # fmt: skip
    scores, note = None, ""
    if survey is not None and outcome is not None and block_km is not None:
        from geopov.study import downstream_scores

        scores = downstream_scores(survey, outcome=outcome, block_km=block_km, seed=seed)
        note = f"Clusters: ridge on a network's features predicts {outcome}, whole blocks of {block_km:g} km held out."
    training: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "task": task, "precision": precision}
    with progress_bar("Training networks") as progress:
        table = compare_networks(
            networks or network or [],
            tiles,
            labels,
            folder=output,
            weights=None if weights == "random" else weights,
            label=label,
            training=training | {"input_px": input_px},
            downstream=scores,
            cluster_tiles=survey_tiles,
            block_km=interval_block_km,
            seed=seed,
            engine=engine,
            threads=threads,
            progress=progress,
        )
    page = write_comparison(table, output, note=note)
    for row in ranked(table).to_dict("records"):
        r2 = f", r² {row['downstream_r2']:.2f}" if "downstream_r2" in row else ""
        console.print(
            f"{row['network']} ({row['start']}): mean AUROC {row['auroc']:.3f}, 95% interval {row['auroc_low']:.3f} to "
            f"{row['auroc_high']:.3f}{r2}, {row['images_per_s']:,.0f} images a second",
            highlight=False,
        )
    console.print(f"-> {page}", highlight=False)


def _tiles(
    labels: gpd.GeoDataFrame,
    survey: gpd.GeoDataFrame | None,
    folder: Path | None,
    survey_folder: Path | None,
    *,
    cut: dict[str, Any],
    size_px: int | None,
    resolution_m: float | None,
) -> tuple[TileSet, TileSet | None]:
    """Tiles of the points and of the clusters, saved before or cut now."""
    from geopov import tiles

    if folder is not None:
        if cut["scenes"] or size_px is not None or resolution_m is not None:
            raise FeatureError("--tiles and --scene or a size are given; expected saved tiles or scenes.")
        if (survey is None) != (survey_folder is None):
            raise FeatureError("--clusters and --cluster-tiles belong together where --tiles are given.")
        return tiles.TileSet.open(folder), None if survey_folder is None else tiles.TileSet.open(survey_folder)
    if not cut["scenes"] or size_px is None or resolution_m is None or survey_folder is not None:
        raise FeatureError(
            "expected --tiles (and --cluster-tiles), or else all of --scene, --size-px and --resolution-m."
        )
    scenes = open_scene_options(cut["scenes"], cut["catalog"], cut["bands"], cut["nodata"])
    spec = tiles.TileSpec(size_px=size_px, resolution_m=resolution_m)
    return tiles.extract(scenes, labels, spec), None if survey is None else tiles.extract(scenes, survey, spec)
