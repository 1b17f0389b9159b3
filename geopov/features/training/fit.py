"""``pretrain``: from tiles and labels to a network whose features can be extracted anywhere.

What needs torch is imported inside, so that this module is cheap to import.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import geopandas as gpd

from geopov._optional import require
from geopov._validation import atomic_path, some
from geopov.errors import FeatureError
from geopov.features._input import Band
from geopov.features._stretch import Stretch
from geopov.features.extract import Tiles
from geopov.features.extractor import build
from geopov.features.networks.card import CARD, NetworkCard, Task
from geopov.features.training.examples import read_examples
from geopov.features.training.settings import (
    CACHE,
    LIGHTS,
    LIGHTS_CLASS,
    STATE,
    Augmentation,
    Logger,
    Machine,
    Schedule,
    Settings,
    as_weights,
)

if TYPE_CHECKING:
    from geopov.features.networks.network import NetworkExtractor

__all__ = ["pretrain"]

_ASKED = "asked.json"


def pretrain(
    tiles: Tiles,
    labels: gpd.GeoDataFrame,
    *,
    folder: str | os.PathLike[str],
    backbone: str = "resnet18",
    weights: str | os.PathLike[str] | None = "imagenet",
    bands: Sequence[Band] | None = None,
    stretch: Stretch = "linear",
    lo: float | Sequence[float] | None = None,
    hi: float | Sequence[float] | None = None,
    input_px: int | None = None,
    task: Task = "classification",
    label: str | None = None,
    epochs: int = 20,
    frozen_epochs: int = 1,
    learning_rate: float = 1e-3,
    backbone_learning_rate: float = 1e-4,
    weight_decay: float = 1e-4,
    batch_size: int = 64,
    class_weights: Literal["balanced"] | None = "balanced",
    augment: Sequence[Augmentation] = ("flip", "quarter_turn"),
    schedule: Schedule = "cosine",
    patience: int = 5,
    precision: str = "32-true",
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = 1,
    strategy: str = "auto",
    logger: Logger | None = None,
    workers: int = 0,
    threads: int | None = None,
    seed: int = 0,
    licence: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> NetworkExtractor:
    """Train a network to tell a label from a tile, and return what it sees as an extractor of features.

    The trunk starts from ``weights``, learns at its own, lower rate after ``frozen_epochs`` in which only the head
    does, and is kept as it was in the epoch with the smallest loss on the validation split. Run again after it was
    killed, it goes on from the last finished epoch, and ends with the bytes that an undisturbed run gives.

    Parameters
    ----------
    tiles : TileSet
        Read once, into ``folder/.cache``, which is removed at the end. Those of no labelled point are passed over.
    labels : GeoDataFrame
        One row a point: ``cluster_id``, the label, and ``split`` ("train", "validation", "test"), whose parts should
        lie in separate places. Rows without a label or a split are left out.
    folder : path
        Gets ``network.pth`` and ``card.json`` when the training is over.
    backbone : str
        ``efficientnet_lite0``, a convolutional classifier of torchvision, or ``timm/NAME``.
    weights : str or path, optional
        ``"imagenet"``, the path of a state dict, or None for a random start. For other than three bands the first
        convolution is made over, see :func:`geopov.features.networks.inflate.inflated`.
    bands : sequence of str or int, optional
        Bands the network sees, by name or number from 1. Default: all, in their order.
    stretch, lo, hi, input_px
        See :class:`geopov.features.Preprocessing`. Default of the limits: 0 and 255 for bytes, else the 2nd and 98th
        percentile of the training tiles' valid pixels in each band.
    task : {"classification", "ordinal", "regression"}
        Classes; classes that have an order, by their steps (Niu et al. 2016); or a number.
    label : str, optional
        Column of the labels. Default: ``lights_class``, for a regression ``lights``. The column ``lights`` is learnt as
        log(1 + value), others as they are.
    epochs : int
        At most.
    frozen_epochs : int
        At the start, with the trunk held still, the statistics of its batch norms included.
    learning_rate, backbone_learning_rate : float
        Of the head and of the trunk.
    weight_decay : float
        Decoupled, of AdamW (Loshchilov & Hutter 2019).
    batch_size : int
        Tiles a step, on each device.
    class_weights : {"balanced"}, optional
        Let each class count alike; a regression has none.
    augment : sequence of {"flip", "quarter_turn", "colour_jitter"}
        Changes drawn for each tile in each epoch. An image from above has no upright, so that turns and flips are as
        true as itself. Jitter of brightness and contrast is not, where pixels are reflectances, and is never done
        unless it is named.
    schedule : {"cosine", "constant"}
        Of the rates: falling to zero along half a cosine over all epochs (Loshchilov & Hutter 2017), or as they are.
    patience : int
        Epochs without a smaller validation loss after which the training stops.
    precision : str
        Of Lightning's Trainer, such as "bf16-mixed" on a GPU.
    accelerator, devices, strategy
        Of Lightning's Trainer.
    logger : {"csv", "tensorboard"}, optional
        Writes losses and scores to ``folder/logs``.
    workers : int
        Processes that read ahead; 0 for a thread.
    threads : int, optional
        Of the computation on a CPU.
    seed : int
        Of the head, of a random start, of orders and augmentation.
    licence : str
        Terms of use of the new weights, for the card.
    progress : callable, optional
        Called with (batches done, batches in all epochs).

    Returns
    -------
    NetworkExtractor
        ``build({"name": "pretrained", "weights": folder})``.

    Raises
    ------
    FeatureError
        If the tiles, the labels and the settings do not fit together, the training diverges, or the folder holds a
        network, or part of a training, of other settings.
    MissingDependencyError
        If an extra is not installed.

    Examples
    --------
    >>> network = pretrain(tiles, points, folder="networks/lights", seed=0)  # doctest: +SKIP
    >>> features = extract(network, cluster_tiles)  # doctest: +SKIP
    """
    for module in ("torch", "torchvision", "lightning"):
        require(module, purpose="Training a network")
    settings = Settings(
        backbone=backbone,
        weights=as_weights(weights),
        bands=None if bands is None else tuple(bands),
        stretch=stretch,
        lo=_as_limit(lo),
        hi=_as_limit(hi),
        input_px=input_px,
        task=task,
        label=label or (LIGHTS if task == "regression" else LIGHTS_CLASS),
        epochs=epochs,
        frozen_epochs=frozen_epochs,
        learning_rate=learning_rate,
        backbone_learning_rate=backbone_learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        class_weights=class_weights,
        augment=tuple(augment),
        schedule=schedule,
        patience=patience,
        precision=precision,
        seed=seed,
        licence=licence,
    )
    machine = Machine(
        accelerator=accelerator, devices=devices, strategy=strategy, workers=workers, threads=threads, logger=logger
    )
    if logger == "tensorboard":
        require("tensorboard", purpose="Logging to TensorBoard")
    folder = Path(folder)
    examples = read_examples(tiles, labels, settings)
    asked = {"settings": settings.to_dict(), "points_sha256": examples.sha256, "tiles": _describe(tiles)}
    if (folder / CARD).is_file():
        _check_same(NetworkCard.read(folder).training.get("asked"), asked, f"{folder} holds a network")
        # What a kill between the last two steps of a training left.
        for part in (STATE, CACHE):
            shutil.rmtree(folder / part, ignore_errors=True)
    else:
        _start(folder, asked)
        from geopov.features.training.run import run

        run(tiles, examples, folder=folder, settings=settings, machine=machine, asked=asked, progress=progress)
    import torch

    # The caller's random numbers are left as they were.
    with torch.random.fork_rng(devices=[]):
        extractor: Any = build({"name": "pretrained", "weights": str(folder), "threads": threads})
    return extractor  # type: ignore[no-any-return]


def _as_limit(limit: float | Sequence[float] | None) -> float | tuple[float, ...] | None:
    return limit if limit is None or isinstance(limit, int | float) else tuple(limit)


def _describe(tiles: Tiles) -> dict[str, Any]:
    """What is known of the tiles without reading them."""
    source = getattr(tiles, "source", None)
    scenes = source.provenance().get("scenes", []) if source is not None else []
    return {
        "spec": tiles.spec.to_dict(),
        "bands": list(tiles.band_names),
        "n": len(tiles),
        "scenes": [{key: scene[key] for key in ("name", "files") if key in scene} for scene in scenes],
    }


def _start(folder: Path, asked: dict[str, Any]) -> None:
    """Note what is asked for, or check that a training begun here was asked for the same."""
    note = folder / STATE / _ASKED
    if note.is_file():
        _check_same(json.loads(note.read_text(encoding="utf-8")), asked, f"a training was begun in {folder}")
        return
    with atomic_path(note) as partial:
        partial.write_text(json.dumps(asked), encoding="utf-8")


def _check_same(before: Any, asked: dict[str, Any], what: str) -> None:
    # By way of JSON, as the earlier ones went.
    now = _flat(json.loads(json.dumps(asked)))
    then = _flat(before if isinstance(before, dict) else {})
    different = [
        f"{key} was {then.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if different:
        raise FeatureError(
            f"{what}, but of other settings: {some(different)}. Give the same ones to take it up again, or another "
            "folder; or remove this one."
        )


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for key, values in nested.items()
        for name, value in (values.items() if isinstance(values, dict) else [(key, values)])
    }
