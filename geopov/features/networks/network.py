"""Features from the final map of a convolutional network.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from geopov import __version__
from geopov.errors import FeatureError
from geopov.features._input import Array, band_positions, check_batch, check_context, enough_valid
from geopov.features.networks.backbones import Backbone, load_backbone
from geopov.features.networks.engines import (
    EngineName,
    Forward,
    PooledNetwork,
    choose_engine,
    forward_all,
    make_engine,
    micro_batch,
)
from geopov.features.networks.sliding import Lattice, SlidingNetwork, box_means, valid_counts
from geopov.features.networks.trained import PRETRAINED, network_in, seen_by
from geopov.features.preprocess import Preprocessing
from geopov.features.shared import check_block

__all__ = ["PRETRAINED", "NetworkExtractor"]

# Share of a network's reach that tiles must see around them for a block to stand for crops.
_LEAST_SEEN = 0.5


class NetworkExtractor:
    """A convolutional network without its head: the final feature map, averaged over the tile.

    With ``context_px`` the network sees more than the tile, and the map is averaged over the tile in its middle: what a
    network slid over a large image would give. These features differ from those of tiles without context, because the
    border of a tile cut short is padded with zeros; clusters and map cells must therefore use one mode, which
    :func:`geopov.features.extract` enforces.

    Parameters
    ----------
    name : str
        ``efficientnet_lite0``, a convolutional classifier of torchvision, ``timm/NAME`` for one of timm, or
        ``pretrained`` for a network that :func:`geopov.features.training.fit.pretrain` trained.
    weights : str or path, optional
        ``"imagenet"``, the path of a state dict (``.pth``), or None for a random start. Of a pretrained network: its
        folder, whose card decides bands, stretch, limits, ``input_px`` and, unless given, ``context_px``.
    weights_sha256 : str, optional
        What the weights must hash to; a specification saved with a model carries it.
    seed : int
        Of the random start.
    context_px : int, optional
        Context around the tiles, on each side. Default: 0, or that of the tiles a pretrained network was trained on.
    engine : {"auto", "eager", "fused", "onnxruntime", "cuda"}
        How the network is run; "auto" takes what is fastest here. Engines agree to about 1e-6 of the features' scale,
        not to the bit; one engine repeats itself to the bit.
    threads : int, optional
        Threads of one forward pass on a CPU; default: PyTorch's number.
    half : bool
        Half precision on a GPU, at a cost of about three digits.
    **preprocessing
        See :class:`geopov.features.Preprocessing`.

    Attributes
    ----------
    trained : TrainedParts or None
        Card and head of a pretrained network.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: str | os.PathLike[str] | None = "imagenet",
        weights_sha256: str | None = None,
        seed: int = 0,
        context_px: int | None = None,
        engine: EngineName = "auto",
        threads: int | None = None,
        half: bool = False,
        **preprocessing: Any,
    ) -> None:
        weights = None if weights is None else os.fspath(weights)
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise FeatureError(f"threads is {threads!r}; expected a whole number above zero, or nothing.")
        self.name = name
        self.engine = choose_engine(engine)
        if half and self.engine != "cuda":
            raise FeatureError(f"half is asked for, but the engine is {self.engine!r}; half precision needs a GPU.")
        self._asked: dict[str, Any] = {"weights": weights, "seed": seed, "engine": engine, "half": half}
        self._threads, self._half = threads, half
        self.trained = network_in(weights, preprocessing) if name == PRETRAINED else None
        trained_px = 0
        if self.trained is not None:
            self._backbone, trained_px = self.trained.backbone, self.trained.card.context_px
            self.preprocessing = Preprocessing(**seen_by(self.trained), **preprocessing)
        else:
            self.preprocessing = Preprocessing(**preprocessing)
            self._backbone = load_backbone(name, weights=weights, seed=seed, n_bands=len(self.preprocessing.bands))
        self.context_px = trained_px if context_px is None else context_px
        check_context(self.context_px)
        found = self._backbone.weights.sha256
        if weights_sha256 is not None and found != weights_sha256:
            raise FeatureError(
                f"the weights of {name} have sha256 {found}; the features were made with {weights_sha256}."
            )
        self._band_names: tuple[str, ...] | None = None
        # Shared by the copies that for_bands makes: preparing an engine takes seconds.
        self._engines: dict[tuple[int, float], Forward] = {}
        self._preparing = threading.Lock()
        self._sliding = SlidingNetwork(
            self._backbone.trunk, n_bands=len(self.preprocessing.bands), engine=self.engine, half=half
        )

    @property
    def backbone(self) -> Backbone:
        """The network without its head."""
        return self._backbone

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
        seen = self.preprocessing.to_dict()
        if self.name == PRETRAINED:
            seen = {"min_valid": seen["min_valid"]}
        spec |= seen | {"context_px": self.context_px}
        return spec | {key: self._asked[key] for key in ("engine", "half") if self._asked[key] not in ("auto", False)}

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
        return {
            "extractor": self.spec(),
            "weights": asdict(self._backbone.weights),
            "preprocessing": self.preprocessing.to_dict(),
            "mean": list(self._backbone.mean),
            "std": list(self._backbone.std),
            "pooling": "mean of the final feature map over the tile",
            "engine": self.engine,
            "geopov": __version__,
        } | ({"trained": self.trained.card.summary()} if self.trained is not None else {})

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
        rows[enough] = self._forward(data, valid, np.flatnonzero(enough), size_px)
        return rows

    def slides(self, size_px: int | None = None) -> bool:
        """Whether it may be slid over a large block, for tiles of ``size_px`` (needed where tiles are resized).

        There must be an end to how far it sees, and context for at least half of that beside what aligning takes
        (:meth:`alignment_px`): with less, what a crop does not see decides features as much as what it does.
        """
        field = self._sliding.receptive_field
        if field is None or not self.context_px:
            return False
        seen_px = (self.context_px - self.alignment_px(size_px)) * self._scale(size_px)
        return seen_px >= _LEAST_SEEN * field.radius_px

    def alignment_px(self, size_px: int | None = None) -> int:
        """Pixels of a tile from one cell of the final map to the next: what crops and blocks are aligned to.

        Where cells begin decides features by as much as a third. Crops of clusters and blocks of a map are therefore
        cut such that cells begin at the same pixels of the scene, which takes up to so many pixels of the context.
        """
        field = self._sliding.receptive_field
        return 1 if field is None else max(1, round(field.stride_px / self._scale(size_px)))

    def _scale(self, size_px: int | None) -> float:
        input_px = self.preprocessing.input_px
        return 1.0 if input_px is None or size_px is None else input_px / size_px

    def aligned(self, data: Array, valid: Array, corners: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Features (tile, feature) of a batch as a block has them, see :func:`geopov.features.shared.tile_features`.

        Parameters
        ----------
        data, valid : array
            As for a call; ``context_px`` is at least :meth:`alignment_px`.
        corners : int array (tile, 2)
            Column and row of each tile's upper left pixel, context included, on its scene's grid.
        """
        size_px = check_batch(data, valid, context_px=self.context_px)
        enough = np.flatnonzero(enough_valid(valid, size_px=size_px, min_valid=self.preprocessing.min_valid))
        step = self.alignment_px(size_px)
        lattice, side = self.lattice(size_px), data.shape[-1] - step
        rows = np.full((len(data), self._backbone.n_features), np.nan, dtype=np.float32)

        def one(tile: int) -> npt.NDArray[np.float32]:
            x, y = (int(-corner) % step for corner in corners[tile])
            part = (slice(tile, tile + 1), Ellipsis, slice(y, y + side), slice(x, x + side))
            found = self._sliding.final_map(lattice.resized(self.planes(data[part], valid[part])))
            spans = (lattice.spans(np.array([self.context_px - edge])) for edge in (y, x))
            return np.asarray(box_means(found, *spans)[0])

        # Images of one thread each, side by side: threads never wait for one another, and do not decide a digit.
        with ThreadPoolExecutor(self._threads or torch.get_num_threads()) as pool:
            for tile, found in zip(enough.tolist(), pool.map(one, enough.tolist()), strict=True):
                rows[tile] = found
        return rows

    def block_features(
        self,
        data: Array,
        valid: npt.NDArray[np.bool_],
        *,
        left: npt.NDArray[np.integer],
        top: npt.NDArray[np.integer],
        size_px: int,
    ) -> npt.NDArray[np.float32]:
        """Features (n, feature) of tiles of one block, see :func:`geopov.features.shared.block_features`.

        Of a block that is one tile with its context they are those of that tile, to about 1e-6. Of tiles in a larger
        block they are those of crops with as much context as the network can see, provided that the crop's corner lies
        on a whole number of strides. Elsewhere cells are counted in proportion to what the tile covers of them, and
        differ as the crops themselves would if they were shifted by as much, to which networks are not indifferent.

        Raises
        ------
        FeatureError
            If it cannot be slid, see :meth:`slides`, or a tile with its context does not lie inside the block.
        """
        if not self.context_px:
            raise FeatureError(
                f"{self.name} was set up without context, and its features then depend on where a tile is cut. Give "
                "context_px, for clusters and cells alike; `geopov features context` says how much."
            )
        lattice = self.lattice(size_px)
        check_block(data, valid, left=left, top=top, size_px=size_px, context_px=self.context_px)
        left, top = left.astype(np.int64), top.astype(np.int64)
        counts = valid_counts(valid, left=left, top=top, size_px=size_px)
        enough = counts >= max(self.preprocessing.min_valid * size_px**2, 1)
        rows = np.full((len(left), self._backbone.n_features), np.nan, dtype=np.float32)
        if enough.any():
            found = self._sliding.final_map(lattice.resized(self.planes(data[None], valid[None])))
            rows[enough] = box_means(found, lattice.spans(top[enough]), lattice.spans(left[enough]))
        return rows

    def planes(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Normalised planes (tile, n_bands, y, x) of a batch, see :meth:`geopov.features.Preprocessing.planes`."""
        mean, std = self._backbone.mean, self._backbone.std
        return self.preprocessing.planes(data, valid, band_names=self._band_names, mean=mean, std=std)

    def with_context(self, context_px: int) -> NetworkExtractor:
        """The same network for tiles with another context."""
        check_context(context_px)
        other = copy.copy(self)
        other.context_px = context_px
        return other

    @property
    def sliding(self) -> SlidingNetwork:
        """The network for images of any size."""
        return self._sliding

    def lattice(self, size_px: int) -> Lattice:
        """Where the cells of the map lie in a block with tiles of ``size_px``.

        Raises
        ------
        FeatureError
            If there is no end to how far the network sees.
        """
        field = self._sliding.receptive_field
        if field is None:
            raise FeatureError(
                f"every feature of {self.name} looks at the whole image, so it cannot be slid over a block; compute "
                "crops, or take a network without squeeze-and-excitation, such as efficientnet_lite0 or resnet18."
            )
        total_px = size_px + 2 * self.context_px
        side = self._side(total_px, size_px)
        return Lattice(size_px, self.context_px, side, field.stride_px, self._sliding.cells(side))

    def block_bytes(self, side_px: int, *, size_px: int | None = None) -> int:
        """About how much memory a block of this side takes at its peak, see :func:`geopov.features.shared.block_bytes`.

        Where tiles are resized it grows with the network's input, which ``size_px`` decides.
        """
        input_px = self.preprocessing.input_px
        scaled = side_px if input_px is None or size_px is None else round(side_px * input_px / size_px)
        planes = 4 * len(self.preprocessing.bands) * (side_px**2 + scaled**2)
        return self._sliding.activation_bytes(scaled) + planes

    def _side(self, total_px: int, size_px: int) -> int:
        """Side of the network's input for a tile with its context."""
        input_px = self.preprocessing.input_px
        return total_px if input_px is None else round(input_px * total_px / size_px)

    def _forward(self, data: Array, valid: Array, kept: npt.NDArray[np.intp], size_px: int) -> npt.NDArray[np.float32]:
        """Features of the tiles ``kept``."""
        found = np.empty((len(kept), self._backbone.n_features), dtype=np.float32)
        if not len(kept):
            return found
        total_px = int(data.shape[-1])
        side = self._side(total_px, size_px)
        step = micro_batch(side, side, engine=self.engine)

        def prepare(part: int) -> torch.Tensor:
            rows = kept[part * step : (part + 1) * step]
            return self._images(data[rows], valid[rows], side, step)

        with self._preparing:
            engine = self._engine(prepare, side, size_px / total_px)
        n_parts = -(-len(kept) // step)
        for part, features in enumerate(
            forward_all(engine, prepare, n_parts, engine=self.engine, threads=self._threads)
        ):
            place = found[part * step : (part + 1) * step]
            place[:] = features[: len(place)]
        return found

    def _images(self, data: Array, valid: Array, side: int, n: int) -> torch.Tensor:
        """Tiles as the network sees them, filled up to ``n``."""
        planes = self.planes(data, valid)
        images = torch.from_numpy(planes)
        if side != planes.shape[-1]:
            shrinks = side < planes.shape[-1]
            images = functional.interpolate(
                images, size=(side, side), mode="bilinear", align_corners=False, antialias=shrinks
            )
        if len(images) < n:
            # One shape throughout, so that a tile's numbers do not depend on how many came with it.
            images = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, n - len(images)))
        return images

    def _engine(self, prepare: Callable[[int], torch.Tensor], side: int, share: float) -> Forward:
        key = (side, share)
        if key not in self._engines:
            images = prepare(0)
            network = PooledNetwork(self._backbone.trunk, share=share).eval()
            try:
                with torch.inference_mode():
                    network(images[:1])
            except RuntimeError as error:
                raise FeatureError(
                    f"{self.name} cannot take images of {side} px ({str(error).splitlines()[0]}). "
                    "Give a larger input_px."
                ) from error
            self._engines[key] = make_engine(self.engine, network, images, half=self._half)
        return self._engines[key]
