"""What is kept of a training while it runs: its history, the best weights so far, and the state to resume from.

Imports torch and lightning; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geopov._validation import atomic_path
from geopov.errors import FeatureError
from geopov.features.training.module import TrainingModule

__all__ = ["Course", "Progress", "best_epoch", "is_over", "read_history"]

BEST, LAST = "best.pth", "last.ckpt"
History = list[dict[str, Any]]


def best_epoch(history: History) -> int:
    """The epoch, from 0, with the smallest loss on the validation split; the first of equals."""
    losses = [record["validation"]["loss"] for record in history]
    return losses.index(min(losses))


def is_over(history: History, *, epochs: int, patience: int) -> bool:
    """Whether all epochs are done, or the last ``patience`` of them brought nothing."""
    return len(history) >= epochs or (bool(history) and len(history) - 1 - best_epoch(history) >= patience)


class Course(Callback):
    """Writes the best weights and the last state after each epoch, and stops early.

    The order makes a kill at any moment harmless: the state is written last, and an epoch that is repeated gives what
    it gave before.

    Parameters
    ----------
    folder : Path
        Where they are written.
    epochs, patience : int
        When it is over.
    """

    def __init__(self, folder: Path, *, epochs: int, patience: int) -> None:
        self._folder, self._epochs, self._patience = folder, epochs, patience
        self.history: History = []

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What came out of one."""
        self.history = list(state_dict["history"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the epoch."""
        assert isinstance(pl_module, TrainingModule)
        loss, found = float(trainer.callback_metrics["train_loss"]), pl_module.validation
        if not math.isfinite(loss) or not math.isfinite(found["loss"] or 0):
            raise FeatureError(
                f"the loss is no number after epoch {len(self.history) + 1}: the training diverged. Lower "
                "learning_rate and backbone_learning_rate, or take precision='32-true'."
            )
        self.history.append({"train_loss": loss, "validation": found})
        if trainer.is_global_zero and best_epoch(self.history) == len(self.history) - 1:
            self._keep_weights(pl_module)
        partial = self._folder / f"{LAST}.partial"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self._folder / LAST)
        trainer.should_stop = is_over(self.history, epochs=self._epochs, patience=self._patience)

    def _keep_weights(self, module: TrainingModule) -> None:
        with atomic_path(self._folder / BEST) as partial:
            torch.save(module.network.state_dict(), partial)


class Progress(Callback):
    """Passes on how many tiles the training has seen, and how many it will see at most."""

    def __init__(self, report: Callable[[int, int], None], *, epochs: int) -> None:
        self._report, self._epochs = report, epochs

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report batches done over all epochs."""
        n_batches = int(trainer.num_training_batches)
        if trainer.is_global_zero:
            self._report(trainer.current_epoch * n_batches + batch_idx + 1, self._epochs * n_batches)


def read_history(folder: Path) -> History:
    """The history in the last checkpoint; empty where there is none."""
    if not (folder / LAST).is_file():
        return []
    state = torch.load(folder / LAST, map_location="cpu", weights_only=True)
    history: History = state["callbacks"][Course.__qualname__]["history"]
    return history
