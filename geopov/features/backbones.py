"""Networks without their heads: from an image to the final feature map.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.fx.passes.shape_prop import ShapeProp

from geopov._optional import require
from geopov._validation import sha256_of, some
from geopov.catalog.cache import offline_from_environment
from geopov.errors import FeatureError, OfflineError
from geopov.features.weights import EFFICIENTNET_LITE0, WeightsCard, fetch_weights

__all__ = ["Backbone", "load_backbone", "network_names"]

LITE0 = "efficientnet_lite0"
State = dict[str, torch.Tensor]

_PURPOSE = "Extracting features with a network"
# Their tokens are tied to one input size, or have no final map to pool over the middle of.
_TRANSFORMERS = ("vit_", "swin_", "maxvit_")
_HEADS = ("classifier", "fc", "head", "avgpool")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# (value - 127) / 128 on the scale 0-255, as the weights were trained.
_LITE0_MEAN, _LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class Backbone:
    """A network cut after its final feature map.

    Attributes
    ----------
    trunk : Module
        (n, 3, y, x) to (n, n_features, y', x'), in evaluation mode.
    n_features : int
        Channels of the final map.
    mean, std : three floats
        Of the images it was trained on, on the scale 0 to 1.
    weights : WeightsCard
        Where its weights come from.
    """

    trunk: nn.Module
    n_features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: WeightsCard


def network_names() -> list[str]:
    """Names that :func:`load_backbone` knows."""
    models = require("torchvision", purpose=_PURPOSE).models
    names = [name for name in models.list_models(module=models) if not name.startswith(_TRANSFORMERS)]
    return [LITE0, *names]


def load_backbone(name: str, *, weights: str | None, seed: int) -> Backbone:
    """Build a network, give it its weights, and cut off its head.

    Parameters
    ----------
    name : str
        ``efficientnet_lite0`` or a convolutional classifier of torchvision.
    weights : str, optional
        ``"imagenet"``, the path of a state dict (``.pth``), or None for a random start from ``seed``.
    seed : int
        Used without weights only.

    Raises
    ------
    FeatureError
        If the name is unknown, or the weights cannot be had or belong to another network.
    """
    # The caller's random numbers are left as they were; a network is initialised before its weights are loaded.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = _load_lite0(weights, seed) if name == LITE0 else _load_torchvision(name, weights, seed)
    backbone.trunk.eval().requires_grad_(False)
    return backbone


def _load_lite0(weights: str | None, seed: int) -> Backbone:
    timm = require("timm", purpose=f"The network {LITE0}")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    trunk = _Lite0Trunk(network)
    card = WeightsCard("random", f"seed {seed}", None)
    if weights is not None:
        path = fetch_weights() if weights == "imagenet" else Path(weights)
        state = lite0_state(read_state(path))
        _load_state(network, state, head=("classifier",), path=path)
        source = EFFICIENTNET_LITE0.uri if weights == "imagenet" else path.name
        card = WeightsCard("imagenet" if weights == "imagenet" else "file", source, sha256_of(path))
    return Backbone(trunk, int(network.num_features), _LITE0_MEAN, _LITE0_STD, card)


class _Lite0Trunk(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        feature_map: torch.Tensor = self.network.forward_features(images)
        return feature_map


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


def _load_torchvision(name: str, weights: str | None, seed: int) -> Backbone:
    models = require("torchvision", purpose=_PURPOSE).models
    if name not in network_names():
        raise FeatureError(_unknown(name))
    # These two would otherwise take minutes to draw weights that are replaced at once.
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    mean, std = _IMAGENET_MEAN, _IMAGENET_STD
    card = WeightsCard("random", f"seed {seed}", None)
    if weights == "imagenet":
        published = models.get_model_weights(name).DEFAULT
        path = _torchvision_file(name, published)
        network = models.get_model(name, weights=published, progress=False, **options)
        card = WeightsCard("imagenet", str(published.url), sha256_of(path))
        mean, std = tuple(published.transforms().mean), tuple(published.transforms().std)
    else:
        network = models.get_model(name, weights=None, **options)
        if weights is not None:
            _load_state(network, read_state(Path(weights)), head=_HEADS, path=Path(weights))
            card = WeightsCard("file", Path(weights).name, sha256_of(Path(weights)))
    trunk, n_features = _cut(network.eval())
    return Backbone(trunk, n_features, mean, std, card)


def _torchvision_file(name: str, published: Any) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    remedy = (
        f"Download {published.url} on another machine and give weights='path/to/{path.name}', or put it into "
        f"{path.parent}; or use the network {LITE0!r}, whose weights come from the package registry."
    )
    if not path.is_file():
        if offline_from_environment():
            raise OfflineError(f"offline mode is on (GEOPOV_OFFLINE), and {path} is not there. {remedy}")
        try:
            published.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise FeatureError(f"the ImageNet weights of {name} cannot be downloaded ({error}). {remedy}") from error
    return path


def _cut(network: nn.Module) -> tuple[nn.Module, int]:
    """The network up to its last feature map: the last (n, c, y, x) of more than one pixel before pooling and head."""
    graph_module = torch.fx.symbolic_trace(network)
    with torch.inference_mode():
        ShapeProp(graph_module).propagate(torch.zeros(1, 3, 224, 224))
    last = None
    for node in graph_module.graph.nodes:
        shape = getattr(node.meta.get("tensor_meta"), "shape", ())
        if len(shape) == 4 and min(shape[2:]) > 1 and not str(node.target).startswith(_HEADS):
            last = node
        elif node.op == "output":
            graph_module.graph.erase_node(node)
    assert last is not None  # transformers were refused by name
    with graph_module.graph.inserting_after(last):
        graph_module.graph.output(last)
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module, int(last.meta["tensor_meta"].shape[1])


def read_state(path: Path) -> State:
    """A state dict from a ``.pth`` file, loaded without running anything in it.

    Raises
    ------
    FeatureError
        If there is no such file, or it holds anything but named tensors.
    """
    if not path.is_file():
        raise FeatureError(
            f"there are no weights {path}; expected 'imagenet', a .pth file, or null for a random start."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no weights make the reader fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureError(
            f"{path} does not load as plain weights ({reason}). Save them with torch.save(model.state_dict(), path)."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FeatureError(f"{path} is no state dict of tensors; save it with torch.save(model.state_dict(), path).")
    return state


def _load_state(network: nn.Module, state: State, *, head: tuple[str, ...], path: Path) -> None:
    """Load all but the head, which may have been trained for other classes."""
    wanted = {key: value.shape for key, value in network.state_dict().items() if not key.startswith(head)}
    known = set(network.state_dict()) | {key for key in state if key.startswith(head)}
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in known]
    reshaped = [
        f"{key} {tuple(state[key].shape)} not {tuple(shape)}"
        for key, shape in wanted.items()
        if key in state and state[key].shape != shape
    ]
    problems = [
        f"{label}: {some(keys)}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if keys
    ]
    if problems:
        raise FeatureError(f"{path} holds the weights of another network; {'; '.join(problems)}.")
    network.load_state_dict({key: state[key] for key in wanted}, strict=False)


def _unknown(name: str) -> str:
    if name.startswith(_TRANSFORMERS):
        return f"{name} is a transformer; expected a convolutional network, whose final map can be pooled at any size."
    close = difflib.get_close_matches(name, network_names(), n=3, cutoff=0.5)
    hint = f"did you mean {some(map(repr, close))}?" if close else "see `geopov features list`."
    return f"there is no extractor {name!r}; {hint}"
