"""A network opened up: from tiles to the map of any of its layers, and to the outputs of its head.

Imports torch; reached only through the functions of :mod:`geopov.features.explanation`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features._input import Array, band_positions, check_batch, enough_valid
from geopov.features.extractor import Extractor
from geopov.features.networks.engines import PooledNetwork, micro_batch
from geopov.features.networks.network import NetworkExtractor

__all__ = ["FINAL", "WatchedNetwork"]

FINAL = "final"
_CELLS = 4

Shape = tuple[int, ...]


class WatchedNetwork:
    """A network whose inner maps can be seen.

    Parameters
    ----------
    extractor : NetworkExtractor
        From :func:`geopov.features.build`.
    band_names : sequence of str
        Of the tiles.
    layer : str, optional
        Whose map to look at: the name of a layer of the trunk, or ``"final"`` for the final map, of which features are
        the mean. Default: the final map if it has four cells or more a side, else the last layer that has, since a map
        of fewer cells tells no places apart.

    Attributes
    ----------
    trunk : Module
        (n, n_bands, y, x) to (n, n_features, y', x').
    head : Module or None
        Of a pretrained network: (n, n_features) to (n, n_logits).
    """

    def __init__(self, extractor: Extractor, *, band_names: Sequence[str], layer: str | None = None) -> None:
        if not isinstance(extractor, NetworkExtractor):
            raise FeatureError(
                f"the extractor is a {type(extractor).__name__}; expected a network, which has maps to look at."
            )
        band_positions(extractor.preprocessing.bands, n_bands=len(band_names), band_names=band_names)
        self.extractor, self.band_names, self.layer = extractor, list(band_names), layer
        self.device = "cuda" if extractor.engine == "cuda" else "cpu"
        # Copied, so that hooks and devices do not touch the extractor's own engines.
        self.trunk: nn.Module = copy.deepcopy(extractor.backbone.trunk).to(self.device)
        head = None if extractor.trained is None else extractor.trained.head
        self.head: nn.Module | None = None if head is None else copy.deepcopy(head).to(self.device)

    def images(self, data: Array, valid: Array) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """What the network is shown of a batch (tile, band, y, x), and which tiles have enough valid pixels for it."""
        seen, total_px = self.extractor.preprocessing, int(data.shape[3])
        size_px = check_batch(data, valid, context_px=self.extractor.context_px)
        mean, std = self.extractor.backbone.mean, self.extractor.backbone.std
        planes = torch.from_numpy(seen.planes(data, valid, band_names=self.band_names, mean=mean, std=std))
        side = total_px if seen.input_px is None else round(seen.input_px * total_px / size_px)
        if side != total_px:
            planes = functional.interpolate(
                planes, size=(side, side), mode="bilinear", align_corners=False, antialias=side < total_px
            )
        return planes, enough_valid(valid, size_px=size_px, min_valid=seen.min_valid)

    def share(self, data: Array) -> float:
        """Side of the tile as a share of what is read around it, data (tile, band, y, x)."""
        return 1 - 2 * self.extractor.context_px / int(data.shape[3])

    def chunks(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The images in batches that suit the device, on the device."""
        height, width = images.shape[2:]
        for part in torch.split(images, micro_batch(height, width, engine=self.extractor.engine)):
            yield part.to(self.device)

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (tile, filter, y', x') of the layer, on the CPU."""
        return self.look(images, share=1)[0]

    @torch.inference_mode()
    def look(self, images: torch.Tensor, *, share: float) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps (tile, filter, y', x') of the layer and, where there is a head, its outputs (tile, logit)."""
        record: list[torch.Tensor] = []

        def keep(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            # The last time it is run counts: one activation may serve several places.
            record[:] = [output]

        network = self.trunk if self.head is None else self.classifier(share=share)
        hook = self.module(images).register_forward_hook(keep)
        maps, outputs = [], []
        try:
            for part in self.chunks(images):
                outputs.append(network(part).float().cpu())
                maps.append(record[0].float().cpu())
        finally:
            hook.remove()
        return torch.cat(maps), None if self.head is None else torch.cat(outputs)

    def classifier(self, *, share: float) -> nn.Module:
        """Trunk, mean over the middle ``share`` of the map, and head: (n, n_bands, y, x) to (n, n_logits)."""
        if self.head is None:
            raise FeatureError(
                f"{self.extractor.name} has no head, so it tells no classes; expected a network that was trained here, "
                'such as {"name": "pretrained", "weights": "networks/lights"}.'
            )
        return nn.Sequential(PooledNetwork(self.trunk, share=share), self.head).eval()

    def module(self, images: torch.Tensor) -> nn.Module:
        """The layer itself; which one that is by default is found out on the first call.

        Raises
        ------
        FeatureError
            If the trunk has none of that name that gives a map.
        """
        if self.layer is None:
            self.layer = self._finest_enough(images)
        if self.layer == FINAL:
            return self.trunk
        found = self._layers(images)
        if self.layer not in found:
            ends = {shape[1:]: f"{name} ({' x '.join(map(str, shape))})" for name, shape in found.items()}
            raise FeatureError(
                f"{self.extractor.name} has no layer {self.layer!r} with a map. The last ones of each size, with "
                f"filters x height x width, are {some(ends.values(), 12)}."
            )
        return self.trunk.get_submodule(self.layer)

    def _finest_enough(self, images: torch.Tensor) -> str:
        """The last layer whose map tells places apart; the final map where none does."""
        with torch.inference_mode():
            final = self.trunk(images[:1].to(self.device))
        if min(final.shape[2:]) >= _CELLS:
            return FINAL
        fine = [name for name, shape in self._layers(images).items() if min(shape[1:]) >= _CELLS]
        return fine[-1] if fine else FINAL

    @torch.inference_mode()
    def _layers(self, images: torch.Tensor) -> dict[str, Shape]:
        """Layers that give a map, in the order in which they are run, with its shape (filter, y', x')."""
        found: dict[str, Shape] = {}

        def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
            def after(_: nn.Module, __: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor) and output.ndim == 4:
                    found.pop(name, None)
                    found[name] = tuple(output.shape[1:])

            return module.register_forward_hook(after)

        hooks = [watch(name, module) for name, module in self.trunk.named_modules() if name]
        try:
            self.trunk(images[:1].to(self.device))
        finally:
            for hook in hooks:
                hook.remove()
        return found
