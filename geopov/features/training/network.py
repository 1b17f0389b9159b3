"""From cached pixels to what the network sees, and the network: a trunk and a head.

Imports torch; reached only from inside :func:`geopov.features.training.fit.pretrain`.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from geopov.features.networks.backbones import Backbone
from geopov.features.networks.engines import PooledNetwork
from geopov.features.training.loader import Batch

__all__ = ["Planes", "TileNetwork", "View"]


# Networks that were trained for weeks follow the statistics of their batches at a hundredth a step; in the few hundred
# steps of a pretraining those would stay behind the weights, and what is saved would not be what was trained.
_LEAST_MOMENTUM = 0.1


@dataclass(frozen=True, kw_only=True)
class View:
    """How pixels become planes; the result equals that of :class:`geopov.features.preprocess.Preprocessing`.

    Attributes
    ----------
    order : tuple of int
        Which band of the cache each plane shows.
    stretch : {"linear", "log"}
        Between the limits.
    lo, hi, mean, std : tuple of float
        One a plane.
    side_px : int
        Side of the network's input, context included.
    share : float
        Side of the tile as a share of its side with context.
    """

    order: tuple[int, ...]
    stretch: str
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side_px: int
    share: float


class Planes(nn.Module):
    """Pixels (n, band, y, x) to normalised planes (n, plane, side, side), on the device they are on."""

    lo: torch.Tensor
    hi: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        for name in ("lo", "hi", "mean", "std"):
            column = torch.tensor(getattr(view, name), dtype=torch.float32)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Planes of a batch; zero, which is the training tiles' mean, where a pixel is invalid."""
        pixels = batch.pixels
        if self.view.order != tuple(range(pixels.shape[1])):
            pixels = pixels[:, list(self.view.order)]
        planes, lo, hi = pixels.float().clamp(self.lo, self.hi), self.lo, self.hi
        if self.view.stretch == "log":
            planes, lo, hi = planes.log_(), lo.log(), hi.log()
        planes = planes.sub_(lo).div_(hi - lo)
        if batch.jitter.shape[1]:
            planes = _jittered(planes, batch.jitter, self.mean)
        planes = planes.sub_(self.mean).div_(self.std)
        if batch.valid.ndim == 3:
            planes.masked_fill_(~batch.valid[:, None], 0)
        side = self.view.side_px
        if side != planes.shape[-1]:
            smaller = side < planes.shape[-1]
            planes = functional.interpolate(
                planes, size=(side, side), mode="bilinear", align_corners=False, antialias=smaller
            )
        return planes.contiguous(memory_format=torch.channels_last)


def _jittered(unit: torch.Tensor, jitter: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """Brightness and contrast about ``grey``, each times its factor, on the scale 0 to 1; all planes alike."""
    brightness, contrast = jitter[:, 0, None, None, None], jitter[:, 1, None, None, None]
    return unit.mul_(brightness).sub_(grey).mul_(contrast).add_(grey).clamp_(0, 1)


class TileNetwork(nn.Module):
    """A trunk, pooled over the tile, and a linear head."""

    def __init__(self, backbone: Backbone, *, n_logits: int, share: float, seed: int) -> None:
        super().__init__()
        self.pooled = PooledNetwork(backbone.trunk, share=share)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(backbone.n_features, n_logits)
        self.frozen = False
        self.requires_grad_(True)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
                module.momentum = max(module.momentum, _LEAST_MOMENTUM)

    @property
    def trunk(self) -> nn.Module:
        """All but the head."""
        return self.pooled.trunk

    def freeze(self, frozen: bool) -> None:
        """Hold the trunk still, the running statistics of its batch norms included, or let it learn."""
        self.frozen = frozen
        self.trunk.train(not frozen)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Numbers (n, n_logits) of planes (n, plane, y, x)."""
        with torch.no_grad() if self.frozen else nullcontext():
            features = self.pooled(planes)
        logits: torch.Tensor = self.head(features)
        return logits
