"""How much context a network needs around its tiles: what it cannot see changes its features, what it can costs time.

    choice = choose_context("efficientnet_lite0", size_px=224, tolerance=0.01)
    extractor = build({"name": "efficientnet_lite0", "context_px": choice.context_px})

Imports no PyTorch; asking about a network does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError
from geopov.features._input import Array, check_context
from geopov.features.extractor import Concatenation, Extractor, Spec, build

if TYPE_CHECKING:
    from geopov.features.networks.network import NetworkExtractor
    from geopov.features.networks.sliding import Lattice

__all__ = ["ContextChoice", "SeamError", "choose_context", "seam_errors"]

Floats = npt.NDArray[np.float32]

_SEED = 0
"""Of the texture that stands for an image where none is given."""


@dataclass(frozen=True)
class SeamError:
    """What features lose where a network sees no further than some context.

    Attributes
    ----------
    context_px : int
        Context on each side, in pixels of the tiles.
    error : float
        Of tiles in the corners of a block that is cut with this context: L2 norm of the difference to features of the
        same tiles with all the network can see around them, as a share of the norm of those.
    crop_error : float
        The same of a tile cut by itself, with no more than the context on all four sides, as clusters' are.
    """

    context_px: int
    error: float
    crop_error: float

    @property
    def worst(self) -> float:
        """The larger of both."""
        return max(self.error, self.crop_error)


@dataclass(frozen=True)
class ContextChoice:
    """Context for an extractor's tiles.

    Attributes
    ----------
    context_px : int
        Context on each side, in pixels of the tiles.
    error : float
        Of features with it, see :attr:`SeamError.worst`; 0 where nothing outside it can matter.
    exact_px : int
        The least context that comes with no error at all.
    alignment_px : int
        What of both is given up to lay a network's cells at the same places of a scene in crops and in blocks
        (:func:`geopov.features.alignment_px`); the rest is what is seen on every side.
    """

    context_px: int
    error: float
    exact_px: int
    alignment_px: int = 0


def seam_errors(
    extractor: Extractor | Spec,
    *,
    size_px: int,
    contexts_px: Sequence[int] | None = None,
    image: Array | None = None,
) -> list[SeamError]:
    """Errors of an extractor's features by the context around its tiles.

    Parameters
    ----------
    extractor : Extractor or specification
        Its own ``context_px`` does not matter.
    size_px : int
        Side of the tiles, without context.
    contexts_px : sequence of int, optional
        Contexts to try. Default: none, and multiples of the network's stride, ever further apart, up to the exact one.
    image : array (band, y, x), optional
        Pixels to measure on. Default: a smooth random texture, on which errors are about those of real images.

    Returns
    -------
    list of SeamError
        In the order of the contexts. Extractors that are no network have no error at any context.

    Raises
    ------
    FeatureError
        If the network sees the whole image whatever its context, the image is too small, or several extractors side by
        side are given.
    """
    built = _built(extractor)
    if isinstance(built, Concatenation):
        raise FeatureError("several extractors side by side are given; ask about one at a time.")
    network = _network(built)
    if network is None:
        return [SeamError(context, 0.0, 0.0) for context in contexts_px or [0]]
    seams = _Seams(network, size_px, image, largest_px=max(contexts_px or [0]))
    contexts = list(contexts_px) if contexts_px is not None else seams.spread()
    return [seams.at(context) for context in contexts]


def choose_context(
    extractor: Extractor | Spec | Sequence[Spec],
    *,
    size_px: int,
    tolerance: float = 0.01,
    exact: bool = False,
    image: Array | None = None,
) -> ContextChoice:
    """The least context with which features are right to within a tolerance.

    Parameters
    ----------
    extractor : Extractor, specification, or a sequence of specifications
        Its own ``context_px`` does not matter.
    size_px : int
        Side of the tiles, without context.
    tolerance : float
        Of :attr:`SeamError.worst`, as a share: 0.01 is 1%.
    exact : bool
        Context beyond which the network sees nothing, in place of a tolerance.
    image : array (band, y, x), optional
        As in :func:`seam_errors`.

    Returns
    -------
    ContextChoice
        The smallest multiple of the network's stride, and one more for alignment; of several extractors the largest; 0
        for those that are no network. Where tiles are resized such that a stride is no whole number of pixels, it is
        the whole number below.

    Raises
    ------
    FeatureError
        As in :func:`seam_errors`, or if the tolerance is no number from 0.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < np.inf:
        raise FeatureError(f"tolerance is {tolerance!r}; expected a share of 0 or more, such as 0.01 for 1%.")
    built = _built(extractor)
    parts = built.parts if isinstance(built, Concatenation) else (built,)
    choices = [_choose(part, size_px, tolerance, exact, image) for part in parts]
    # More context than a part asked for does it no harm.
    context_px, exact_px, alignment_px = (
        max(getattr(choice, name) for choice in choices) for name in ("context_px", "exact_px", "alignment_px")
    )
    return ContextChoice(context_px, max(choice.error for choice in choices), exact_px, alignment_px)


def _choose(part: Extractor, size_px: int, tolerance: float, exact: bool, image: Array | None) -> ContextChoice:
    network = _network(part)
    if network is None:
        return ContextChoice(0, 0.0, 0)
    if exact:
        exact_px = exact_context(network, size_px)
        # Of a network without an end, asking for its reach has been an error already.
        aligned_px = network.alignment_px(size_px)
        return ContextChoice(exact_px + aligned_px, 0.0, exact_px + aligned_px, aligned_px)
    seams = _Seams(network, size_px, image)
    aligned_px = network.alignment_px(size_px)
    exact_px = seams.exact_px + aligned_px
    for context in contexts_on_lattice(network, size_px):
        if context >= seams.exact_px:
            break
        seen = network.with_context(context + aligned_px).slides(size_px)
        if seen and (found := seams.at(context)).worst <= tolerance:
            return ContextChoice(context + aligned_px, found.worst, exact_px, aligned_px)
    return ContextChoice(exact_px, 0.0, exact_px, aligned_px)


def contexts_on_lattice(network: NetworkExtractor, size_px: int) -> Iterator[int]:
    """Contexts that leave a tile's edges where they are among the network's strides, as far as pixels are whole."""
    stride = network.lattice(size_px).stride_px
    input_px = network.preprocessing.input_px or size_px
    last = 0
    for strides in count(1):
        # The number below, so that no cell is begun for the sake of a fraction of a pixel.
        if (context := strides * stride * size_px // input_px) > last:
            yield (last := context)


def exact_context(network: NetworkExtractor, size_px: int) -> int:
    """The least context beyond which the network sees nothing."""
    field = network.sliding.receptive_field
    candidates = contexts_on_lattice(network, size_px)
    return next(c for c in candidates if field is not None and network.with_context(c).lattice(size_px).sees(field))


def _built(extractor: Any) -> Extractor:
    if isinstance(extractor, str | Mapping | list | tuple):
        return build(extractor)
    built: Extractor = extractor
    return built


def _network(extractor: Extractor) -> NetworkExtractor | None:
    """The extractor, if it is a network; whether it can be slid is asked later."""
    if not hasattr(extractor, "sliding"):
        return None
    from geopov.features.networks.network import NetworkExtractor

    return extractor if isinstance(extractor, NetworkExtractor) else None


class _Seams:
    """Four tiles in an image that is large enough, and what their features are if cut out of it."""

    def __init__(self, network: NetworkExtractor, size_px: int, image: Array | None, *, largest_px: int = 0) -> None:
        self.network, self.size_px = network, size_px
        self.exact_px = exact_context(network, size_px)
        lattice = self._lattice(max(self.exact_px, largest_px))
        self.stride = lattice.stride_px
        # Everything is counted in pixels of the network's input, where cuts lie on whole strides.
        self.apart = -(-round(size_px * lattice.scale) // self.stride) * self.stride
        self.around = (round(lattice.context_px * lattice.scale) // self.stride + 2) * self.stride
        side = 2 * self.around + 2 * self.apart
        self.planes = _texture(network, side) if image is None else _planes(network, image, side, lattice)
        self._maps: dict[int, Floats] = {}

    def at(self, context_px: int) -> SeamError:
        """Errors with this context."""
        check_context(context_px)
        lattice = self._lattice(context_px)
        begin = self.around - round(context_px * lattice.scale) // self.stride * self.stride
        near = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        exact = self._features(self._whole(lattice.side_px), lattice, near, begin)
        block = self._features(self._map(begin, begin + lattice.side_px + self.apart), lattice, near, 0)
        alone = (np.array([0]), np.array([0]))
        crop = self._features(self._map(begin, begin + lattice.side_px), lattice, alone, 0)
        return SeamError(context_px, _difference(block, exact), _difference(crop, exact[:1]))

    def spread(self) -> list[int]:
        """Some contexts from none to the exact one."""
        chosen = [0]
        for context in contexts_on_lattice(self.network, self.size_px):
            if context >= self.exact_px:
                break
            if context >= chosen[-1] * 4 / 3:
                chosen.append(context)
        return [*chosen, self.exact_px]

    def _lattice(self, context_px: int) -> Lattice:
        return self.network.with_context(context_px).lattice(self.size_px)

    def _whole(self, side_px: int) -> Floats:
        """The map of the whole image, its side in strides leaving the remainder that a cut's leaves."""
        spare = (self.planes.shape[-1] - side_px) % self.stride
        if spare not in self._maps:
            self._maps[spare] = self._map(0, self.planes.shape[-1] - spare)
        return self._maps[spare]

    def _map(self, begin: int, end: int) -> Floats:
        import torch

        cut = np.ascontiguousarray(self.planes[:, :, begin:end, begin:end])
        return self.network.sliding.final_map(torch.from_numpy(cut))

    def _features(self, cells: Floats, lattice: Lattice, tiles: tuple[Array, Array], begin: int) -> Floats:
        """Features of tiles, given by their rows and columns, of a map whose image has the first cut at ``begin``."""
        from geopov.features.networks.sliding import box_means

        first, last = lattice.spans(np.array([lattice.context_px]))
        rows, columns = (
            (first + (begin + self.apart * place) / self.stride, last + (begin + self.apart * place) / self.stride)
            for place in tiles
        )
        return box_means(cells, rows, columns)


def _difference(found: Floats, exact: Floats) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _planes(network: NetworkExtractor, image: Array, side: int, lattice: Lattice) -> Floats:
    """An image (band, y, x) as the network sees it, cut to a square of ``side``."""
    if image.ndim != 3 or image.dtype.kind not in "uif":
        raise FeatureError(f"image is {image.dtype} with shape {image.shape}; expected numbers (band, y, x).")
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(image), axis=0)
    planes = network.planes(image[None], finite[None])
    seen = lattice.resized(planes).numpy()
    if min(seen.shape[2:]) < side:
        needed = int(np.ceil(side / lattice.scale)) + 1
        raise FeatureError(
            f"the image has {image.shape[1]} x {image.shape[2]} px; expected at least {needed} x {needed}, which hold "
            "four tiles and all that the network sees around them. Leave it out to take a random texture."
        )
    return np.ascontiguousarray(seen[:, :, :side, :side])


def _texture(network: NetworkExtractor, side: int) -> Floats:
    """Smooth noise whose amplitude falls with frequency as that of photographs does, as the network sees it."""
    bands = network.preprocessing.bands
    names = list(dict.fromkeys(bands))
    rng = np.random.default_rng(_SEED)
    frequency: npt.NDArray[np.float64] = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    noise: npt.NDArray[np.float64] = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((len(names) + 1, side, side))) / frequency, s=(side, side)
    )
    # Bands of one place are alike.
    values = noise[:-1] + 2 * noise[-1]
    values = np.clip(0.5 + 0.2 * values / np.std(values, axis=(1, 2), keepdims=True), 0, 1)
    mean, std = (np.asarray(numbers)[:, None, None] for numbers in (network.backbone.mean, network.backbone.std))
    planes: Floats = ((np.stack([values[names.index(band)] for band in bands]) - mean) / std).astype(np.float32)
    return planes[None]
