"""The first convolution of a network, made over from red, green and blue for any number of bands.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import torch
from torch import nn

from geopov.errors import FeatureError

__all__ = ["inflate", "inflated", "stem_names"]

RGB = 3


def stem_names(network: nn.Module) -> list[str]:
    """Names of the convolutions that read the image: those with three input channels."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == RGB and module.groups == 1
    ]


def inflated(filters: torch.Tensor, n_bands: int) -> torch.Tensor:
    """Filters (n, 3, y, x) for red, green and blue as filters (n, n_bands, y, x).

    The first three bands keep the filters of red, green and blue, further ones get the mean of the three, and all are
    scaled by 3 / n_bands, so that an image whose bands are all alike gives the responses it gave before (the rule by
    which Carreira & Zisserman 2017 inflate filters along time). With one or two bands each gets the mean of the three,
    scaled so: one band gets their sum.
    """
    mean = filters.mean(dim=1, keepdim=True)
    kept = filters if n_bands >= RGB else filters[:, :0]
    further = mean.expand(-1, n_bands - kept.shape[1], -1, -1)
    return torch.cat([kept, further], dim=1) * (RGB / n_bands)


def inflate(network: nn.Module, n_bands: int) -> None:
    """Make ``network`` read ``n_bands`` bands instead of three, in place.

    Raises
    ------
    FeatureError
        If none of its convolutions reads three channels.
    """
    if n_bands == RGB:
        return
    names = stem_names(network)
    if not names:
        raise FeatureError(f"this network has no first convolution on three channels to make over for {n_bands} bands.")
    for name in names:
        stem = network.get_submodule(name)
        assert isinstance(stem, nn.Conv2d)
        # In place, since timm's convolutions are classes of their own.
        stem.in_channels = n_bands
        stem.weight = nn.Parameter(inflated(stem.weight.detach(), n_bands))
