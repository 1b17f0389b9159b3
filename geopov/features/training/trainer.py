"""Lightning's Trainer, set up for one training, and quiet.

Imports lightning; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers import Logger as LightningLogger

from geopov.errors import FeatureError
from geopov.features.training.settings import Machine, Settings

__all__ = ["make_trainer", "quiet"]

LOGS = "logs"
# Strategies that by default wait for the gradient of every weight.
_WAITING = ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook")


def make_trainer(folder: Path, settings: Settings, machine: Machine, *, callbacks: Sequence[Callback]) -> Trainer:
    """A Trainer that does what the settings say, and nothing on its own account."""
    options: dict[str, Any] = {
        "accelerator": machine.accelerator,
        "devices": machine.devices,
        "precision": settings.precision,
        "max_epochs": settings.epochs,
        "logger": _logger(folder, machine) or False,
        "callbacks": list(callbacks),
        "default_root_dir": folder,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        # The batches know their device's share.
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    try:
        trainer = Trainer(strategy=machine.strategy, **options)
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        reason = str(error).strip().splitlines()[0]
        raise FeatureError(
            f"accelerator is {machine.accelerator!r}, devices {machine.devices!r}, strategy {machine.strategy!r} and "
            f"precision {settings.precision!r}, which Lightning cannot do here: {reason}"
        ) from error
    strategy = "ddp" if machine.strategy == "auto" else machine.strategy
    if strategy in _WAITING and trainer.world_size > 1 and settings.frozen_epochs:
        # While the trunk is frozen the devices must not wait for its gradients.
        trainer = Trainer(strategy=f"{strategy}_find_unused_parameters_true", **options)
    return trainer


def _logger(folder: Path, machine: Machine) -> LightningLogger | None:
    if machine.logger == "csv":
        return CSVLogger(folder, name=LOGS)
    if machine.logger == "tensorboard":
        return TensorBoardLogger(folder, name=LOGS)
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's announcements; what it warns of is left."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 still uses what torch 2.14 has deprecated.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*functional.all_gather is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
