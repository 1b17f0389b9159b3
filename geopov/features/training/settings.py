"""How a network is trained: what decides the result, and apart from it what decides only where and how fast it runs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from geopov._validation import check_positive, sha256_of, some
from geopov.errors import FeatureError
from geopov.features._input import Band, check_bands
from geopov.features._stretch import Stretch
from geopov.features.networks.card import Task

__all__ = ["Augmentation", "Logger", "Machine", "Schedule", "Settings"]

Augmentation = Literal["flip", "quarter_turn", "colour_jitter"]
Logger = Literal["csv", "tensorboard"]
Schedule = Literal["cosine", "constant"]

LIGHTS, LIGHTS_CLASS = "lights", "lights_class"
STATE, CACHE = ".training", ".cache"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the result of a training, apart from the tiles and their labels.

    The attributes are the parameters of :func:`geopov.features.training.fit.pretrain`.
    """

    backbone: str
    weights: str | None
    bands: tuple[Band, ...] | None
    stretch: Stretch
    lo: float | tuple[float, ...] | None
    hi: float | tuple[float, ...] | None
    input_px: int | None
    task: Task
    label: str
    epochs: int
    frozen_epochs: int
    learning_rate: float
    backbone_learning_rate: float
    weight_decay: float
    batch_size: int
    class_weights: Literal["balanced"] | None
    augment: tuple[Augmentation, ...]
    schedule: Schedule
    patience: int
    precision: str
    seed: int
    licence: str

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise FeatureError(f"task is {self.task!r}; expected one of {some(get_args(Task))}.")
        if self.bands is not None:
            bands = check_bands(self.bands, "bands")
            if not bands:
                raise FeatureError("bands is empty; expected at least one, or nothing for all of the tiles' bands.")
            object.__setattr__(self, "bands", bands)
        for name in ("epochs", "patience"):
            _check_count(getattr(self, name), name, least=1)
        # A batch norm has no variance to learn from in a batch of one.
        _check_count(self.batch_size, "batch_size", least=2)
        for name in ("frozen_epochs", "seed"):
            _check_count(getattr(self, name), name, least=0)
        for name in ("learning_rate", "backbone_learning_rate"):
            check_positive(getattr(self, name), name, FeatureError)
        if self.schedule not in get_args(Schedule):
            raise FeatureError(f"schedule is {self.schedule!r}; expected one of {some(get_args(Schedule))}.")
        decay = self.weight_decay
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < math.inf:
            raise FeatureError(f"weight_decay is {decay!r}; expected a number, 0 or more.")
        if self.class_weights not in ("balanced", None):
            raise FeatureError(f"class_weights is {self.class_weights!r}; expected 'balanced' or nothing.")
        object.__setattr__(self, "augment", _checked_augment(self.augment))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types; a file of weights by its hash, so that the same bytes elsewhere are the same."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        if self.weights not in ("imagenet", None):
            values["weights"] = _identity(Path(str(self.weights)))
        return values


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how fast a training runs; the result depends on it no more than floating-point numbers do.

    The attributes are the parameters of :func:`geopov.features.training.fit.pretrain`.
    """

    accelerator: str
    devices: int | str | Sequence[int]
    strategy: str
    workers: int
    threads: int | None
    logger: Logger | None

    def __post_init__(self) -> None:
        _check_count(self.workers, "workers", least=0)
        if self.threads is not None:
            _check_count(self.threads, "threads", least=1)
        if self.logger is not None and self.logger not in get_args(Logger):
            raise FeatureError(f"logger is {self.logger!r}; expected one of {some(get_args(Logger))}, or nothing.")


def as_weights(weights: str | os.PathLike[str] | None) -> str | None:
    """The weights as text or nothing."""
    return None if weights is None else os.fspath(weights)


def _identity(path: Path) -> str:
    if not path.is_file():
        raise FeatureError(
            f"there are no weights {path}; expected 'imagenet', a .pth file, or nothing for a random start."
        )
    return f"sha256:{sha256_of(path)}"


def _check_count(value: Any, name: str, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FeatureError(f"{name} is {value!r}; expected a whole number, {least} or more.")


def _checked_augment(augment: Any) -> tuple[Augmentation, ...]:
    names = (augment,) if isinstance(augment, str) else tuple(augment)
    if unknown := [name for name in names if name not in get_args(Augmentation)]:
        raise FeatureError(
            f"augment names {some(map(repr, unknown))}; expected some of {some(get_args(Augmentation))}."
        )
    return tuple(name for name in get_args(Augmentation) if name in names)
