"""The network under training, as Lightning runs it.

Imports torch and lightning; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule

from geopov.features.networks.card import Task
from geopov.features.training.loader import Batch, Batches
from geopov.features.training.losses import Target
from geopov.features.training.network import Planes, TileNetwork, View
from geopov.features.training.settings import Settings
from geopov.features.training.tasks import scores

__all__ = ["TrainingModule", "score"]


class TrainingModule(LightningModule):
    """Loss, optimiser, schedule and validation.

    Parameters
    ----------
    network : TileNetwork
        To be trained.
    view : View
        How it sees tiles.
    target : Target
        What it should say of each row of the cache.
    settings : Settings
        Rates and epochs.
    loaders : callable
        From a split, and a device's ``rank`` among ``world``, to its batches.
    """

    def __init__(
        self,
        network: TileNetwork,
        view: View,
        target: Target,
        settings: Settings,
        loaders: Callable[..., Batches],
    ) -> None:
        super().__init__()
        self.network = network
        self.planes = Planes(view)
        self.target = target
        self._settings = settings
        self.loaders = loaders
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.validation: dict[str, float | None] = {}

    def train_dataloader(self) -> Batches:
        """The device's share of the training tiles."""
        batches = self._share("train")
        # Lightning starts to iterate before it tells the epoch, which after a resume is not the first.
        batches.set_epoch(self.trainer.fit_loop.epoch_progress.current.ready)
        return batches

    def val_dataloader(self) -> Batches:
        """The device's share of the validation tiles."""
        return self._share("validation")

    def _share(self, split: str) -> Batches:
        trainer = self.trainer
        on_gpu = trainer.strategy.root_device.type == "cuda"
        return self.loaders(split, rank=trainer.global_rank, world=trainer.world_size, pin=on_gpu)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW (Loshchilov & Hutter 2019), the trunk at its own rate."""
        network, settings = self.network, self._settings
        groups: list[dict[str, Any]] = [
            {"params": list(network.head.parameters()), "lr": settings.learning_rate},
            {"params": list(network.trunk.parameters()), "lr": settings.backbone_learning_rate},
        ]
        # Weights without a gradient, as a frozen trunk's, are passed over, decay included.
        return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)

    def on_train_epoch_start(self) -> None:
        """Freeze or free the trunk; draw the network's own random numbers, if any, from seed and epoch."""
        self.network.train()
        self.network.freeze(self.current_epoch < self._settings.frozen_epochs)
        torch.manual_seed(int(np.random.SeedSequence([self._settings.seed, self.current_epoch]).generate_state(1)[0]))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the rates. They follow from the position alone, so that a resumed training needs no memory of them."""
        settings, n_batches = self._settings, int(self.trainer.num_training_batches)
        done = (self.current_epoch + batch_idx / n_batches) / settings.epochs
        factor = (1 + math.cos(math.pi * done)) / 2 if settings.schedule == "cosine" else 1.0
        rates = (settings.learning_rate, settings.backbone_learning_rate)
        for group, rate in zip(self.trainer.optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate * factor

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """Loss of one batch."""
        logits = self.network(self.planes(batch))
        loss = self.target.loss(logits, batch.rows)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.rows))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep what the network says; scores are computed over all tiles at once."""
        self._seen.append((batch.rows, self.network(self.planes(batch)).float()))

    def on_validation_epoch_end(self) -> None:
        """Loss and scores on the validation split."""
        rows, logits = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        if self.trainer.world_size > 1:
            rows, logits = self.all_gather((rows, logits))
        found = score(self.target, rows.reshape(-1), logits.reshape(-1, logits.shape[-1]))
        self.validation = found
        numbers = {f"validation_{key}": value for key, value in found.items() if value is not None}
        # The same on all devices; syncing is what Lightning asks for.
        self.log_dict(numbers, sync_dist=True)


def score(target: Target, rows: torch.Tensor, logits: torch.Tensor) -> dict[str, float | None]:
    """Loss and scores of the rows of a split; a row that several devices were given counts once."""
    order = rows.cpu().numpy()
    _, first = np.unique(order, return_index=True)
    once = torch.from_numpy(first).to(rows.device)
    rows, logits = rows[once], logits[once]
    loss = float(target.loss(logits, rows))
    if not math.isfinite(loss):
        return {"loss": loss}
    values: npt.NDArray[np.float64] = target.values.cpu().numpy()[order[first]]
    said = target.in_unit(logits).cpu().numpy()
    task: Task = target.task
    return {"loss": loss, **scores(said, values, task)}
