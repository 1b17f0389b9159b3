"""Features from the final map of a convolutional network.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from geopov import __version__
from geopov.errors import FeatureError
from geopov.features._input import Array, band_positions, check_batch, check_context, enough_valid
from geopov.features.backbones import load_backbone
from geopov.features.engines import (
    EngineName,
    Forward,
    PooledNetwork,
    choose_engine,
    make_engine,
    micro_batch,
    torch_threads,
)
from geopov.features.preprocess import Preprocessing

__all__ = ["NetworkExtractor"]


class NetworkExtractor:
    """A convolutional network without its head: the final feature map, averaged over the tile.

    With ``context_px`` the network sees more than the tile, and the map is averaged over the tile in its middle: what a
    network slid over a large image would give. These features differ from those of tiles without context, because the
    border of a tile cut short is padded with zeros; clusters and map cells must therefore use one mode, which
    :func:`geopov.features.extract` enforces.

    Parameters
    ----------
    name : str
        ``efficientnet_lite0``, or a convolutional classifier of torchvision.
    weights : str or path, optional
        ``"imagenet"``, the path of a state dict (``.pth``), or None for a random start.
    weights_sha256 : str, optional
        What the weights must hash to; a specification saved with a model carries it.
    seed : int
        Of the random start.
    context_px : int
        Context around the tiles, on each side.
    engine : {"auto", "eager", "fused", "onnxruntime", "cuda"}
        How the network is run; "auto" takes what is fastest here. Engines agree to about 1e-6 of the features' scale,
        not to the bit; one engine repeats itself to the bit.
    threads : int, optional
        Threads of one forward pass on a CPU; default: PyTorch's number.
    half : bool
        Half precision on a GPU, at a cost of about three digits.
    **preprocessing
        See :class:`geopov.features.Preprocessing`.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: str | os.PathLike[str] | None = "imagenet",
        weights_sha256: str | None = None,
        seed: int = 0,
        context_px: int = 0,
        engine: EngineName = "auto",
        threads: int | None = None,
        half: bool = False,
        **preprocessing: Any,
    ) -> None:
        check_context(context_px)
        weights = None if weights is None else os.fspath(weights)
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise FeatureError(f"threads is {threads!r}; expected a whole number above zero, or nothing.")
        self.name = name
        self.context_px = context_px
        self.preprocessing = Preprocessing(**preprocessing)
        self.engine = choose_engine(engine)
        if half and self.engine != "cuda":
            raise FeatureError(f"half is asked for, but the engine is {self.engine!r}; half precision needs a GPU.")
        self._asked: dict[str, Any] = {"weights": weights, "seed": seed, "engine": engine, "half": half}
        self._threads, self._half = threads, half
        self._backbone = load_backbone(name, weights=weights, seed=seed)
        found = self._backbone.weights.sha256
        if weights_sha256 is not None and found != weights_sha256:
            raise FeatureError(
                f"the weights of {name} have sha256 {found}; the features were made with {weights_sha256}."
            )
        self._band_names: tuple[str, ...] | None = None
        # Shared by the copies that for_bands makes: preparing an engine takes seconds.
        self._engines: dict[tuple[int, float], Forward] = {}

    @property
    def feature_names(self) -> list[str]:
        """``f0000`` and so on, one a channel of the final map."""
        return [f"f{channel:04d}" for channel in range(self._backbone.n_features)]

    def for_bands(self, band_names: Sequence[str]) -> NetworkExtractor:
        """The same extractor for tiles whose bands have these names."""
        band_positions(self.preprocessing.bands, n_bands=len(band_names), band_names=band_names)
        bound = copy.copy(self)
        bound._band_names = tuple(band_names)
        return bound

    def spec(self) -> dict[str, Any]:
        """What :func:`geopov.features.build` needs to make it again, on this or another machine."""
        spec = {"name": self.name, "weights": self._asked["weights"], "weights_sha256": self._backbone.weights.sha256}
        if self._asked["weights"] is None:
            spec = {"name": self.name, "weights": None, "seed": self._asked["seed"]}
        spec |= self.preprocessing.to_dict() | {"context_px": self.context_px}
        return spec | {key: self._asked[key] for key in ("engine", "half") if self._asked[key] not in ("auto", False)}

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
        return {
            "extractor": self.spec(),
            "weights": asdict(self._backbone.weights),
            "mean": list(self._backbone.mean),
            "std": list(self._backbone.std),
            "pooling": "mean of the final feature map over the tile",
            "engine": self.engine,
            "geopov": __version__,
        }

    def __call__(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Features (tile, feature) of a batch.

        Parameters
        ----------
        data : array (tile, band, y, x)
            Pixel values.
        valid : bool array (tile, y, x)
            True where a pixel is valid in every band.

        Returns
        -------
        float32 array (tile, feature)
            Rows of NaN where a tile has too few valid pixels.
        """
        size_px = check_batch(data, valid, context_px=self.context_px)
        enough = enough_valid(valid, size_px=size_px, min_valid=self.preprocessing.min_valid)
        rows = np.full((len(data), self._backbone.n_features), np.nan, dtype=np.float32)
        mean, std = self._backbone.mean, self._backbone.std
        planes = self.preprocessing.planes(data[enough], valid[enough], band_names=self._band_names, mean=mean, std=std)
        with torch_threads(self._threads):
            rows[enough] = self._forward(torch.from_numpy(planes), size_px)
        return rows

    def _forward(self, planes: torch.Tensor, size_px: int) -> npt.NDArray[np.float32]:
        total_px = int(planes.shape[-1])
        input_px = self.preprocessing.input_px
        side = total_px if input_px is None else round(input_px * total_px / size_px)
        step = micro_batch(side, side, engine=self.engine)
        found = np.empty((len(planes), self._backbone.n_features), dtype=np.float32)
        for start in range(0, len(planes), step):
            part = planes[start : start + step]
            if side != total_px:
                part = functional.interpolate(
                    part, size=(side, side), mode="bilinear", align_corners=False, antialias=side < total_px
                )
            n = len(part)
            if n < step:
                # One shape throughout, so that a tile's numbers do not depend on how many came with it.
                part = functional.pad(part, (0, 0, 0, 0, 0, 0, 0, step - n))
            found[start : start + n] = self._engine(part, size_px / total_px)(part)[:n]
        return found

    def _engine(self, images: torch.Tensor, share: float) -> Forward:
        key = (int(images.shape[-1]), share)
        if key not in self._engines:
            network = PooledNetwork(self._backbone.trunk, share=share).eval()
            try:
                with torch.inference_mode():
                    network(images[:1])
            except RuntimeError as error:
                raise FeatureError(
                    f"{self.name} cannot take images of {key[0]} px ({str(error).splitlines()[0]}). "
                    "Give a larger input_px."
                ) from error
            self._engines[key] = make_engine(self.engine, network, images, threads=self._threads, half=self._half)
        return self._engines[key]
