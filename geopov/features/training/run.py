"""One training from the cache of tiles to the card, through Lightning's Trainer.

Imports torch and lightning; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from geopov.errors import FeatureError
from geopov.features._input import Band, band_positions
from geopov.features.extract import Tiles
from geopov.features.networks.backbones import Backbone, load_backbone
from geopov.features.networks.card import NetworkCard
from geopov.features.networks.engines import torch_threads
from geopov.features.networks.trained import save_weights
from geopov.features.preprocess import Preprocessing
from geopov.features.training.cache import TileCache, fill_cache
from geopov.features.training.course import BEST, LAST, Course, Progress, best_epoch, is_over, read_history
from geopov.features.training.examples import Examples
from geopov.features.training.limits import fit_limits, fit_mean_std, sample_values
from geopov.features.training.loader import Batches
from geopov.features.training.losses import Target, balanced_weights
from geopov.features.training.module import TrainingModule, score
from geopov.features.training.network import TileNetwork, View
from geopov.features.training.settings import CACHE, STATE, Machine, Settings
from geopov.features.training.trainer import make_trainer, quiet

__all__ = ["run"]


@dataclass(frozen=True)
class _Training:
    """What is trained, on what."""

    module: TrainingModule
    backbone: Backbone
    bands: tuple[Band, ...]
    examples: Examples
    class_weights: list[float] | None
    n_left_out: int


def run(
    tiles: Tiles,
    examples: Examples,
    *,
    folder: Path,
    settings: Settings,
    machine: Machine,
    asked: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train, from the last checkpoint if there is one; write the network and its card, and remove what led there."""
    state = folder / STATE
    course = Course(state, epochs=settings.epochs, patience=settings.patience)
    reports = [] if progress is None else [Progress(progress, epochs=settings.epochs)]
    repeatable = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    # The caller's random numbers are left as they were.
    own_random = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
    with torch_threads(machine.threads), own_random, quiet(), repeatable:
        # Before the tiles are read, so that a machine that is not there costs no time.
        trainer = make_trainer(folder, settings, machine, callbacks=[course, *reports])
        training = _prepare(tiles, examples, folder, settings, machine, asked)
        if not is_over(read_history(state), epochs=settings.epochs, patience=settings.patience):
            _fit(trainer, training.module, state / LAST)
        if trainer.is_global_zero:
            best = torch.load(state / BEST, map_location="cpu", weights_only=True)
            training.module.network.load_state_dict(best)
            tested = _test(training, trainer.strategy.root_device)
            _write(training, folder, tiles, settings, asked, tested)
            for part in (STATE, CACHE):
                shutil.rmtree(folder / part)
        # Other devices' processes go on once the network is there.
        trainer.strategy.barrier()


def _prepare(
    tiles: Tiles, examples: Examples, folder: Path, settings: Settings, machine: Machine, asked: dict[str, Any]
) -> _Training:
    names = list(tiles.band_names)
    bands = settings.bands or tuple(names)
    order = band_positions(bands, n_bands=len(names), band_names=names)
    seen = Preprocessing(
        bands=bands, stretch=settings.stretch, lo=settings.lo, hi=settings.hi, input_px=settings.input_px
    )
    backbone = load_backbone(settings.backbone, weights=settings.weights, seed=settings.seed, n_bands=len(bands))
    distinct = sorted(set(order))
    cache = fill_cache(
        folder / CACHE,
        tiles,
        positions=examples.positions,
        bands=distinct,
        min_valid=seen.min_valid,
        identity=asked,
    )
    examples = examples.only(cache.usable)
    train = examples.rows("train")
    view = _fit_view(cache, train, [distinct.index(band) for band in order], bands, tiles.spec.context_px, settings)
    if settings.weights == "imagenet" and len(bands) == 3:
        view = replace(view, mean=backbone.mean, std=backbone.std)
    n_classes = len(examples.classes)
    weights = balanced_weights(examples.values[train], n_classes) if n_classes and settings.class_weights else None
    target = Target(examples.values, train, task=settings.task, class_weights=weights)
    n_logits = max(n_classes - (settings.task == "ordinal"), 1)
    network = TileNetwork(backbone, n_logits=n_logits, share=view.share, seed=settings.seed)
    network.to(memory_format=torch.channels_last)
    _try_out(network, view, settings.backbone)
    loaders = partial(_batches, folder / CACHE, examples, settings, machine.workers)
    module = TrainingModule(network, view, target, settings, loaders)
    listed = None if weights is None else weights.tolist()
    return _Training(module, backbone, bands, examples, listed, int((~cache.usable).sum()))


def _fit_view(
    cache: TileCache, train: Any, order: list[int], bands: tuple[Band, ...], context_px: int, settings: Settings
) -> View:
    """Limits, mean and standard deviation from the training tiles, where they are not given."""
    sampled = sample_values(cache, train)
    values = [sampled[band] for band in order]
    names = [str(band) for band in bands]
    limits = fit_limits(values, stretch=settings.stretch, lo=settings.lo, hi=settings.hi, names=names)
    mean, std = fit_mean_std(values, limits, stretch=settings.stretch)
    total_px = int(cache.pixels.shape[-1])
    size_px = total_px - 2 * context_px
    side_px = total_px if settings.input_px is None else round(settings.input_px * total_px / size_px)
    return View(
        order=tuple(order),
        stretch=settings.stretch,
        lo=limits[0],
        hi=limits[1],
        mean=mean,
        std=std,
        side_px=side_px,
        share=size_px / total_px,
    )


def _try_out(network: TileNetwork, view: View, name: str) -> None:
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, len(view.order), view.side_px, view.side_px))
    except RuntimeError as error:
        raise FeatureError(
            f"{name} cannot take images of {view.side_px} px ({str(error).splitlines()[0]}). Give a larger input_px."
        ) from error


def _batches(
    cache: Path,
    examples: Examples,
    settings: Settings,
    workers: int,
    split: str,
    *,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Batches:
    learning = split == "train"
    return Batches(
        cache,
        examples.rows(split),
        batch_size=settings.batch_size,
        seed=settings.seed,
        shuffle=learning,
        augment=settings.augment if learning else (),
        workers=workers,
        rank=rank,
        world=world,
        pin=pin,
    )


def _fit(trainer: Trainer, module: TrainingModule, last: Path) -> None:
    module.train()
    trainer.fit(module, ckpt_path=last if last.is_file() else None, weights_only=True)


@torch.inference_mode()
def _test(training: _Training, device: torch.device) -> dict[str, float | None] | None:
    """Loss and scores on the test split, of the weights as they are; None without such a split."""
    module = training.module
    if not len(training.examples.rows("test")):
        return None
    module.eval().to(device)
    rows, logits = [], []
    for batch in module.loaders("test"):
        placed = type(batch)(*(part.to(device) for part in batch))
        rows.append(placed.rows)
        logits.append(module.network(module.planes(placed)))
    found = score(module.target, torch.cat(rows), torch.cat(logits))
    module.to("cpu")
    return found


def _write(
    training: _Training,
    folder: Path,
    tiles: Tiles,
    settings: Settings,
    asked: dict[str, Any],
    tested: dict[str, float | None] | None,
) -> None:
    network, view, examples = training.module.network, training.module.planes.view, training.examples
    history = read_history(folder / STATE)
    best = best_epoch(history)
    training.module.target.put_unit_into(network.head)
    card = NetworkCard(
        backbone=settings.backbone,
        bands=training.bands,
        stretch=settings.stretch,
        lo=view.lo,
        hi=view.hi,
        mean=view.mean,
        std=view.std,
        input_px=settings.input_px,
        tile=tiles.spec.to_dict(),
        task=settings.task,
        outputs=examples.classes or (examples.output,),
        class_edges=examples.class_edges,
        unit=examples.unit,
        start=asdict(training.backbone.weights),
        data={
            "tiles": examples.counts(),
            "n_too_few_valid_pixels": training.n_left_out,
            "points_sha256": examples.sha256,
            "nightlights": examples.report or None,
            "scenes": asked["tiles"]["scenes"],
        },
        training={
            "epochs": len(history),
            "best_epoch": best + 1,
            "optimiser": "AdamW",
            "seed": settings.seed,
            "augmentation": list(settings.augment),
            "class_weights": training.class_weights,
            "validation": history[best]["validation"],
            "test": tested,
            "history": history,
            "asked": asked,
        },
        licence=settings.licence,
        sha256=save_weights(folder, network.trunk, network.head),
    )
    card.write(folder)
