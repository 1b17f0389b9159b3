"""A trained network from its folder: the card, the trunk and the head.

Imports torch; reached only through :func:`geopov.features.build` and the modules of training and explaining.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geopov._validation import atomic_path, sha256_of, some
from geopov.errors import FeatureError
from geopov.features.networks.backbones import Backbone, load_backbone
from geopov.features.networks.card import WEIGHTS, NetworkCard
from geopov.features.networks.state import State, read_state
from geopov.features.networks.weights import WeightsCard

__all__ = ["PRETRAINED", "TrainedParts", "load_trained", "network_in", "save_weights", "seen_by"]

PRETRAINED = "pretrained"
"""Name of the extractor whose weights are a folder that training wrote."""


@dataclass(frozen=True)
class TrainedParts:
    """What a folder of a trained network holds.

    Attributes
    ----------
    card : NetworkCard
        What it looks at and what it was trained on.
    backbone : Backbone
        The trunk with the trained weights and the card's mean and std, in evaluation mode and without gradients.
    head : Linear
        From the mean of the final map (n, n_features) to the outputs (n, n_logits), likewise.
    """

    card: NetworkCard
    backbone: Backbone
    head: nn.Linear


def save_weights(folder: str | Path, trunk: nn.Module, head: nn.Linear) -> str:
    """Write ``network.pth`` into a folder and return its sha256, for the card that is written after it."""
    path = Path(folder) / WEIGHTS
    parts: dict[str, nn.Module] = {"trunk": trunk, "head": head}
    state = {
        f"{part}.{key}": value.detach().cpu().contiguous()
        for part, module in parts.items()
        for key, value in module.state_dict().items()
    }
    with atomic_path(path) as partial, partial.open("wb") as stream:
        # Into a stream, since an archive written to a path carries the path's name, and a repeat gives the same bytes.
        torch.save(state, stream)
    return sha256_of(path)


def load_trained(folder: str | Path) -> TrainedParts:
    """Load a trained network, once its card says that the weights are the right ones.

    Raises
    ------
    FeatureError
        If the folder holds no trained network, or its card and its weights do not fit together.
    """
    folder = Path(folder)
    card = NetworkCard.read(folder)
    state = read_state(folder / WEIGHTS)
    backbone = load_backbone(card.backbone, weights=None, seed=0, n_bands=len(card.bands))
    head = nn.Linear(backbone.n_features, card.n_logits)
    for part, module in (("trunk", backbone.trunk), ("head", head)):
        _load(module, _part(state, part), f"{folder / WEIGHTS}: the {part}")
    head.eval().requires_grad_(False)
    origin = WeightsCard("trained", folder.name, card.sha256)
    return TrainedParts(card, replace(backbone, mean=card.mean, std=card.std, weights=origin), head)


def _part(state: State, part: str) -> State:
    return {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}


def _load(module: nn.Module, state: State, what: str) -> None:
    own = module.state_dict()
    wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    if wrong or len(state) != len(own):
        odd = wrong or sorted(set(state) - set(own))
        raise FeatureError(f"{what} is not that of the network its card names: {some(odd)}.")
    module.load_state_dict(state)


def network_in(folder: str | None, asked: dict[str, Any]) -> TrainedParts:
    """The network in the folder that an extractor names, unless it asks to see tiles otherwise than in training."""
    if folder is None or folder == "imagenet":
        raise FeatureError(
            f"weights is {folder!r}; the extractor {PRETRAINED!r} needs the folder of a trained network, such as "
            "weights: networks/lights."
        )
    if fixed := sorted(set(asked) - {"min_valid"}):
        raise FeatureError(
            f"{', '.join(fixed)} cannot be given with {PRETRAINED!r}: the card in {folder} says what the network was "
            "trained on."
        )
    return load_trained(folder)


def seen_by(trained: TrainedParts) -> dict[str, Any]:
    """How a trained network sees tiles: parameters of :class:`geopov.features.Preprocessing`."""
    card = trained.card
    return {key: getattr(card, key) for key in ("bands", "stretch", "lo", "hi", "input_px")}
