"""The card beside a trained network: what it looks at, what it was trained on, and the hash of its weights.

A trained network is a folder of two files: ``network.pth``, a plain state dict with the keys ``trunk.*`` and
``head.*``, and ``card.json``. Neither holds code, and this module imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from geopov import __version__
from geopov._validation import atomic_path, sha256_of, some
from geopov.errors import FeatureError
from geopov.features._input import Band, check_bands
from geopov.features._stretch import Stretch, as_numbers, check_stretch

__all__ = ["CARD", "WEIGHTS", "NetworkCard", "Task"]

CARD, WEIGHTS = "card.json", "network.pth"

Task = Literal["classification", "ordinal", "regression"]

_ONE_A_BAND = "finite numbers, one a band"


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """What a trained network looks at, what it gives, and how it came about.

    Attributes
    ----------
    backbone : str
        As in :func:`geopov.features.build`.
    bands : tuple of str or int
        Bands it looks at: names, or numbers counted from 1.
    stretch : {"linear", "log"}
        How values between ``lo`` and ``hi`` are spread over 0 to 1.
    lo, hi : tuple of float
        Limits in the unit of the bands, one a band.
    mean, std : tuple of float
        On the scale 0 to 1, one a band.
    input_px : int or None
        Side of the network's input; None for the tile as it is.
    tile : dict
        ``size_px``, ``resolution_m`` and ``context_px`` of the tiles it was trained on.
    task : {"classification", "ordinal", "regression"}
        What its outputs are: one logit a class; one a step between neighbouring classes, K - 1 for K classes (Niu et
        al. 2016); or one number.
    outputs : tuple of str
        Names of the classes from the first to the last; of the one number for a regression, such as ``log_lights``.
    class_edges : tuple of float or None
        Where the classes part, in ``unit``, where they are classes of a number.
    unit : str
        Of the label.
    start : dict
        Origin of the initial weights: that of :class:`geopov.features.networks.weights.WeightsCard`.
    data : dict
        What it was trained on: numbers of tiles by split, sha256 of the points, scenes.
    training : dict
        Epochs, optimiser, seed, augmentation, class weights and scores.
    licence : str
        Terms of use of the weights.
    sha256 : str
        Of ``network.pth``.
    geopov : str
        Version that trained it.
    """

    backbone: str
    bands: tuple[Band, ...]
    stretch: Stretch
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_px: int | None
    tile: dict[str, Any]
    task: Task
    outputs: tuple[str, ...]
    unit: str
    sha256: str
    class_edges: tuple[float, ...] | None = None
    start: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    geopov: str = __version__

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", check_bands(self.bands, "bands"))
        for name in ("lo", "hi", "mean", "std"):
            object.__setattr__(self, name, _one_a_band(getattr(self, name), name, len(self.bands)))
        check_stretch(self.stretch, self.lo, self.hi)
        if min(self.std) <= 0:
            raise FeatureError(f"std is {list(self.std)}; expected numbers above zero.")
        _check_tile(self.tile)
        _check_outputs(self.task, self.outputs)
        object.__setattr__(self, "outputs", tuple(self.outputs))
        if self.class_edges is not None:
            object.__setattr__(self, "class_edges", as_numbers(self.class_edges, "class_edges", "finite numbers"))
        self._as_json()

    @property
    def class_titles(self) -> list[str]:
        """The outputs in words: a class that is a number gets what it stands for, where its edges are known."""
        if self.class_edges is None or len(self.class_edges) != len(self.outputs) - 1:
            return [f"class {name}" if name.isdigit() else name for name in self.outputs]
        edges = [f"{edge:.3g}" for edge in self.class_edges]
        between = [f"{low} to {high}" for low, high in pairwise(edges)]
        ranges = [f"below {edges[0]}", *between, f"at least {edges[-1]}"]
        return [
            f"class {name}: {extent} {self.unit}".rstrip() for name, extent in zip(self.outputs, ranges, strict=True)
        ]

    @property
    def n_logits(self) -> int:
        """Numbers the head gives for a tile: one fewer than classes where the task is ordinal."""
        return len(self.outputs) - (self.task == "ordinal")

    @property
    def context_px(self) -> int:
        """Context around the tiles it was trained on, on each side."""
        return int(self.tile["context_px"])

    def summary(self) -> dict[str, Any]:
        """What a report says of the network: JSON types, without the course of the training."""
        names = ("backbone", "bands", "task", "outputs", "class_edges", "unit", "tile", "start", "data", "sha256")
        found = {name: getattr(self, name) for name in names} | {"titles": self.class_titles}
        found["training"] = {key: value for key, value in self.training.items() if key not in ("history", "asked")}
        return found

    def write(self, folder: str | Path) -> Path:
        """Write ``card.json`` beside the weights, once they are there.

        Raises
        ------
        FeatureError
            If the folder's ``network.pth`` is not there or has another hash than the card.
        """
        folder = Path(folder)
        self._check_weights(folder)
        with atomic_path(folder / CARD) as partial:
            partial.write_text(self._as_json(), encoding="utf-8")
        return folder / CARD

    @classmethod
    def read(cls, folder: str | Path) -> NetworkCard:
        """Read the card of a trained network, and verify that the weights beside it are the ones it speaks of.

        Raises
        ------
        FeatureError
            If there is no such folder, a file is missing or damaged, or the hash of the weights is another.
        """
        folder = Path(folder)
        content = _read_json(folder)
        known, needed = {f.name for f in fields(cls)}, set(cls.__dataclass_fields__) - _OPTIONAL
        if missing := sorted(needed - set(content)):
            raise FeatureError(f"{folder / CARD} lacks {some(missing, 20)}; expected the card of a trained network.")
        if unknown := sorted(set(content) - known):
            raise FeatureError(
                f"{folder / CARD} has the unknown keys {some(unknown, 20)}; it was written by "
                f"geopov {content.get('geopov', 'of an unknown version')}, and this is {__version__}."
            )
        try:
            card = cls(**content)
        except (FeatureError, TypeError) as error:
            raise FeatureError(f"{folder / CARD} is wrong: {error}") from None
        card._check_weights(folder)
        return card

    def _check_weights(self, folder: Path) -> None:
        path = folder / WEIGHTS
        if not path.is_file():
            raise FeatureError(f"{folder} holds no {WEIGHTS}, the weights that {CARD} belongs to.")
        if (found := sha256_of(path)) != self.sha256:
            raise FeatureError(
                f"{path} has sha256 {found}, but its card says {self.sha256}: the file is damaged, or belongs to "
                "another card. Copy the whole folder again, or train the network again."
            )

    def _as_json(self) -> str:
        try:
            return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise FeatureError(
                f"the card holds what JSON cannot ({error}); give None where there is no number."
            ) from None


_OPTIONAL = {"class_edges", "start", "data", "training", "licence", "geopov"}


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if not path.is_file():
        raise FeatureError(
            f"there is no trained network in {folder}: it has no {CARD}. `geopov features pretrain` makes such folders."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FeatureError(f"{path} is no valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise FeatureError(f"{path} holds a {type(content).__name__}; expected the card of a trained network.")
    return content


def _one_a_band(value: Any, name: str, n_bands: int) -> tuple[float, ...]:
    numbers = as_numbers(value, name, _ONE_A_BAND)
    if numbers is None or len(numbers) != n_bands:
        raise FeatureError(f"{name} is {value!r} for {n_bands} bands; expected {_ONE_A_BAND}.")
    return numbers


def _check_tile(tile: Any) -> None:
    keys = ("size_px", "resolution_m", "context_px")
    if not isinstance(tile, Mapping) or any(not _is_number(tile.get(key)) for key in keys):
        raise FeatureError(f"tile is {tile!r}; expected the numbers {', '.join(keys)}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_outputs(task: Any, outputs: Any) -> None:
    if task not in get_args(Task):
        raise FeatureError(f"task is {task!r}; expected one of {', '.join(get_args(Task))}.")
    named = isinstance(outputs, list | tuple) and all(isinstance(name, str) for name in outputs)
    if not named or len(set(outputs)) != len(outputs):
        raise FeatureError(f"outputs is {outputs!r}; expected different names.")
    if (task == "regression") != (len(outputs) == 1) or not outputs:
        expected = "one name" if task == "regression" else "two classes or more"
        raise FeatureError(f"outputs is {list(outputs)!r} and the task {task}; expected {expected}.")
