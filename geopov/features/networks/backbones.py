"""Networks without their heads: from an image to the final feature map.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geopov._optional import require
from geopov._validation import sha256_of, some
from geopov.catalog.cache import offline_from_environment
from geopov.errors import FeatureError, OfflineError
from geopov.features.networks.architecture import Architecture, cut_before
from geopov.features.networks.inflate import RGB, inflate, stem_names
from geopov.features.networks.state import State, load_state, read_state
from geopov.features.networks.timm_backbones import LITE0, TIMM, lite0_architecture, timm_architecture
from geopov.features.networks.weights import WeightsCard

__all__ = ["Backbone", "load_backbone", "network_names"]

_PURPOSE = "Extracting features with a network"
# Their tokens are tied to one input size, or have no final map to pool over the middle of.
_TRANSFORMERS = ("vit_", "swin_", "maxvit_")
_HEADS = ("classifier", "fc", "head", "avgpool")
# torchvision's files for these were trained on -1 to 1, to which the networks bring normalised bands themselves, though
# three of them only. Here the preprocessing does.
_OWN_SCALE = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Backbone:
    """A network cut after its final feature map.

    Attributes
    ----------
    trunk : Module
        (n, n_bands, y, x) to (n, n_features, y', x'), in evaluation mode and without gradients.
    n_features : int
        Channels of the final map.
    mean, std : tuple of float
        Of the images it was trained on, on the scale 0 to 1, one a band. What ImageNet does not know is taken from what
        it does: with other than three bands, those after the third (or all of one or two) get the mean of the three.
    weights : WeightsCard
        Where its weights come from.
    """

    trunk: nn.Module
    n_features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: WeightsCard


def network_names() -> list[str]:
    """Names that :func:`load_backbone` knows without looking into timm."""
    models = require("torchvision", purpose=_PURPOSE).models
    names = [name for name in models.list_models(module=models) if not name.startswith(_TRANSFORMERS)]
    return [LITE0, *names]


def load_backbone(name: str, *, weights: str | Path | None, seed: int, n_bands: int = RGB) -> Backbone:
    """Build a network, give it its weights, and cut off its head.

    Parameters
    ----------
    name : str
        ``efficientnet_lite0``, a convolutional classifier of torchvision, or ``timm/NAME`` for one of timm.
    weights : str or path, optional
        ``"imagenet"``, the path of a state dict (``.pth``), or None for a random start from ``seed``.
    seed : int
        Used without weights only.
    n_bands : int
        Bands it reads. For other than three the first convolution is made over by
        :func:`geopov.features.networks.inflate.inflated`, unless the file of weights is for so many bands already.

    Raises
    ------
    FeatureError
        If the name is unknown, or the weights cannot be had or belong to another network.
    """
    if isinstance(n_bands, bool) or not isinstance(n_bands, int) or n_bands < 1:
        raise FeatureError(f"n_bands is {n_bands!r}; expected a whole number above zero.")
    # The caller's random numbers are left as they were; a network is initialised before its weights are loaded.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _architecture(name)
    network = found.network.eval()
    card, ready = WeightsCard("random", f"seed {seed}", None), False
    if weights is not None:
        state, card = found.published() if weights == "imagenet" else _from_file(Path(weights))
        state = found.translate(state)
        ready = _reads(network, state) == n_bands
        if ready:
            inflate(network, n_bands)
        load_state(network, state, head=found.head, source=str(weights))
    if not ready:
        inflate(network, n_bands)
    trunk, n_features = found.cut(network, n_bands)
    trunk.eval().requires_grad_(False)
    mean, std = (_for_bands(values, n_bands) for values in (found.mean, found.std))
    return Backbone(trunk, n_features, mean, std, card)


def _architecture(name: str) -> Architecture:
    if name == LITE0:
        return lite0_architecture()
    return timm_architecture(name) if name.startswith(TIMM) else _torchvision(name)


def _from_file(path: Path) -> tuple[State, WeightsCard]:
    return read_state(path), WeightsCard("file", path.name, sha256_of(path))


def _reads(network: nn.Module, state: State) -> int | None:
    """How many bands the weights in ``state`` are for, where it holds the first convolution at all."""
    filters = [state[key] for name in stem_names(network) if (key := f"{name}.weight") in state]
    return int(filters[0].shape[1]) if filters and filters[0].ndim == 4 else None


def _for_bands(values: tuple[float, ...], n_bands: int) -> tuple[float, ...]:
    kept = values if n_bands >= RGB else ()
    return kept + (sum(values) / len(values),) * (n_bands - len(kept))


def _torchvision(name: str) -> Architecture:
    models = require("torchvision", purpose=_PURPOSE).models
    if name not in network_names():
        raise FeatureError(_unknown(name))
    published = models.get_model_weights(name).DEFAULT
    mean, std = tuple(published.transforms().mean), tuple(published.transforms().std)
    # These two would otherwise take minutes to draw weights that are replaced at once.
    options = {"init_weights": False, "transform_input": False} if name in _OWN_SCALE else {}
    if name in _OWN_SCALE:
        mean = std = (0.5, 0.5, 0.5)

    def imagenet() -> tuple[State, WeightsCard]:
        path = _torchvision_file(name, published)
        return read_state(path), WeightsCard("imagenet", str(published.url), sha256_of(path))

    network = models.get_model(name, weights=None, **options)
    return Architecture(network, _HEADS, mean, std, cut_before(_HEADS), imagenet)


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


def _unknown(name: str) -> str:
    if name.startswith(_TRANSFORMERS):
        return f"{name} is a transformer; expected a convolutional network, whose final map can be pooled at any size."
    close = difflib.get_close_matches(name, network_names(), n=3, cutoff=0.5)
    hint = f"did you mean {some(map(repr, close))}?" if close else "see `geopov features list`."
    return f"there is no extractor {name!r}; {hint}"
