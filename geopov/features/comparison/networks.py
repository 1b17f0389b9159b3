"""Which networks are compared: the sixteen of Bressem et al. (2020), newer ones, and how each starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from geopov._validation import some
from geopov.errors import FeatureError

__all__ = ["BRESSEM_2020", "MINIMUM_INPUT_PX", "NETWORK_SETS", "NEWER", "Contender", "contenders"]

BRESSEM_2020 = (
    "alexnet",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "timm/inception_v4",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg13",
    "vgg16",
    "vgg19",
)
"""The sixteen networks of Bressem et al. (2020), Comparing different deep learning architectures for classification of
chest radiographs, Scientific Reports 10, 13590."""

NEWER = (
    "efficientnet_lite0",
    "efficientnet_b0",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "regnet_y_1_6gf",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "timm/resnet18d",
    "convnext_tiny",
)
"""Others of a size that a survey's clusters can pay for."""

NETWORK_SETS = {"bressem2020": BRESSEM_2020, "newer": NEWER, "all": BRESSEM_2020 + NEWER}

MINIMUM_INPUT_PX = {"alexnet": 63, "timm/inception_v4": 75}
"""Networks whose first layers leave nothing of a smaller image."""

_RANDOM, _IMAGENET = "random", "imagenet"


@dataclass(frozen=True)
class Contender:
    """A network and what its training starts from.

    Attributes
    ----------
    backbone : str
        As in :func:`geopov.features.build`.
    weights : str or None
        ``"imagenet"``, the path of a state dict, or None for a random start.
    """

    backbone: str
    weights: str | None

    @property
    def start(self) -> str:
        """``random``, ``imagenet``, or the name of the file."""
        return _RANDOM if self.weights is None else _IMAGENET if self.weights == _IMAGENET else Path(self.weights).name

    @property
    def name(self) -> str:
        """Network and start, as the table and folders name it."""
        return f"{self.backbone.replace('/', '_')}-{self.start}"

    @classmethod
    def parse(cls, text: str, *, weights: str | os.PathLike[str] | None) -> Contender:
        """From ``NETWORK`` or ``NETWORK=START``, where START is ``imagenet``, ``random`` or the path of a state dict.

        Examples
        --------
        >>> Contender.parse("resnet18=random", weights="imagenet")
        Contender(backbone='resnet18', weights=None)
        """
        backbone, given, start = text.partition("=")
        if not backbone or (given and not start):
            raise FeatureError(f"{text!r} names no network; expected NETWORK or NETWORK=imagenet|random|FILE.")
        if not given:
            return cls(backbone, None if weights is None else os.fspath(weights))
        return cls(backbone, None if start == _RANDOM else start)


def contenders(
    networks: str | Iterable[str | Contender], *, weights: str | os.PathLike[str] | None = _IMAGENET
) -> list[Contender]:
    """What to compare, in order.

    Parameters
    ----------
    networks : str or iterable
        The name of a set (``bressem2020``, ``newer``, ``all``), or networks as :meth:`Contender.parse` takes them.
    weights : str, path or None
        Start of those that name none.

    Raises
    ------
    FeatureError
        If there are none, one stands twice, or a set is not known.
    """
    if isinstance(networks, str):
        if networks not in NETWORK_SETS:
            raise FeatureError(f"there is no set of networks {networks!r}; expected one of {some(NETWORK_SETS)}.")
        networks = NETWORK_SETS[networks]
    found = [item if isinstance(item, Contender) else Contender.parse(item, weights=weights) for item in networks]
    names = [contender.name for contender in found]
    if not found or len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise FeatureError(f"{some(twice)} stand more than once; give each network and start once." if twice
                           else "there are no networks to compare; name at least one.")  # fmt: skip
    return found
