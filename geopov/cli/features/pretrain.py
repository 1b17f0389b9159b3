"""``geopov features pretrain``: tiles and labels to a trained network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from geopov.cli._common import console, progress_bar
from geopov.cli._options import CatalogFile, Nodata, SceneNames, read_points
from geopov.cli.features._tiles import ContextPx, ResolutionM, SavedTiles, SizePx, open_or_cut


def pretrain(
    points: Annotated[
        Path,
        typer.Option(
            "--points", metavar="FILE", help="GeoParquet with cluster_id, split and the label, as `points` writes."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the network.")],
    tiles_folder: SavedTiles = None,
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    band: Annotated[
        list[str] | None, typer.Option("--band", help="Band the network sees, by name or number; repeat it.")
    ] = None,
    nodata: Nodata = None,
    size_px: SizePx = None,
    resolution_m: ResolutionM = None,
    context_px: ContextPx = 0,
    backbone: Annotated[
        str, typer.Option("--backbone", help="efficientnet_lite0, a network of torchvision, or timm/NAME.")
    ] = "resnet18",
    weights: Annotated[
        str, typer.Option("--weights", help="imagenet, a .pth file, or none for a random start.")
    ] = "imagenet",
    stretch: Annotated[str, typer.Option("--stretch", help="linear or log.")] = "linear",
    lo: Annotated[list[float] | None, typer.Option("--lo", help="Lower limit; repeat it for one a band.")] = None,
    hi: Annotated[list[float] | None, typer.Option("--hi", help="Upper limit; repeat it for one a band.")] = None,
    input_px: Annotated[int | None, typer.Option("--input-px", help="Resize tiles to this side.")] = None,
    task: Annotated[str, typer.Option("--task", help="classification, ordinal or regression.")] = "classification",
    label: Annotated[
        str | None, typer.Option("--label", help="Column to learn; default lights_class, for a regression lights.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="At most.")] = 20,
    frozen_epochs: Annotated[int, typer.Option("--frozen-epochs", help="In which only the head learns.")] = 1,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Of the head.")] = 1e-3,
    backbone_learning_rate: Annotated[float, typer.Option("--backbone-learning-rate", help="Of the rest.")] = 1e-4,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of AdamW.")] = 1e-4,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Tiles a step, on each device.")] = 64,
    balance: Annotated[
        bool, typer.Option("--balance/--no-balance", help="Let each class count alike, or each tile.")
    ] = True,
    augment: Annotated[
        list[str] | None,
        typer.Option("--augment", help="flip, quarter_turn, colour_jitter or none; repeat it. Default: the first two."),
    ] = None,
    schedule: Annotated[str, typer.Option("--schedule", help="Of the rates: cosine or constant.")] = "cosine",
    patience: Annotated[int, typer.Option("--patience", help="Epochs without gain, then stop.")] = 5,
    precision: Annotated[str, typer.Option("--precision", help="Such as bf16-mixed, on a GPU.")] = "32-true",
    accelerator: Annotated[str, typer.Option("--accelerator", help="auto, cpu, gpu.")] = "auto",
    devices: Annotated[str, typer.Option("--devices", help="How many, or auto.")] = "1",
    strategy: Annotated[str, typer.Option("--strategy", help="Such as ddp, of Lightning.")] = "auto",
    logger: Annotated[str | None, typer.Option("--logger", help="csv or tensorboard, into DIR/logs.")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that read ahead; 0 for a thread.")] = 0,
    threads: Annotated[int | None, typer.Option("--threads", help="Of the computation on a CPU.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all random steps.")] = 0,
    licence: Annotated[str, typer.Option("--licence", help="Terms of use of the new weights.")] = "",
) -> None:
    """Train a network to tell nightlights, or any other label, from tiles.

    The folder gets network.pth and card.json; `--extractor '{"name": "pretrained", "weights": "DIR"}'` uses them. Run
    again after it was killed, it goes on from the last finished epoch and ends with the same bytes.

    \b
    Example:
      geopov features pretrain --tiles tiles/ --points points.parquet -o networks/lights
      geopov features pretrain --scene s2.tif --points points.parquet --size-px 224 --resolution-m 10 \\
        --backbone efficientnet_lite0 --task ordinal --workers 4 -o networks/lights
    """
    from geopov.features.networks.card import NetworkCard
    from geopov.features.training.fit import pretrain as train

    labels = read_points(points)
    cut = open_or_cut(tiles_folder, (scene, catalog, None, nodata), labels, size_px, resolution_m, context_px)
    options: dict[str, Any] = {"lo": lo or None, "hi": hi or None}
    if band:
        options["bands"] = [int(name) if name.isdigit() else name for name in band]
    if augment:
        options["augment"] = [] if augment == ["none"] else augment
    with progress_bar("Training") as progress:
        train(
            cut,
            labels,
            folder=output,
            backbone=backbone,
            weights=None if weights == "none" else weights,
            stretch=stretch,  # type: ignore[arg-type]
            input_px=input_px,
            task=task,  # type: ignore[arg-type]
            label=label,
            epochs=epochs,
            frozen_epochs=frozen_epochs,
            learning_rate=learning_rate,
            backbone_learning_rate=backbone_learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            class_weights="balanced" if balance else None,
            schedule=schedule,  # type: ignore[arg-type]
            patience=patience,
            precision=precision,
            accelerator=accelerator,
            devices=int(devices) if devices.isdigit() else devices,
            strategy=strategy,
            logger=logger,  # type: ignore[arg-type]
            workers=workers,
            threads=threads,
            seed=seed,
            licence=licence,
            progress=progress,
            **options,
        )
    # With several devices, Lightning starts this command once for each; one of them tells.
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    training = NetworkCard.read(output).training
    for split in ("validation", "test"):
        found = {key: value for key, value in (training[split] or {}).items() if value is not None}
        if found:
            numbers = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            console.print(f"{split}: {numbers}", highlight=False)
    console.print(f"best of {training['epochs']} epochs: {training['best_epoch']} -> {output}", highlight=False)
