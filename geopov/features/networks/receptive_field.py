"""How far a network looks: which pixels of an image can change a cell of its final map.

Found by watching rather than by knowing the architecture: pixels are made NaN, and the cells that turn NaN have seen
them. Imports torch; reached only through a network's extractor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from geopov.errors import FeatureError

__all__ = ["ReceptiveField", "receptive_field"]

# Images are low, since columns are all that is asked about. What does not fit into a low one, as where convolutions are
# not padded, is shown higher ones; what has no end within the widest is said to have none.
_HEIGHTS_PX = (32, 64, 128, 256)
_WIDTHS_PX = (1024, 4096, 12288)
# A whole number of any stride that networks have.
_STRIDES_PX = 960


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that a cell of the final map looks at, of the network's input.

    Cell k has a square of its own, from ``k * stride_px`` to ``(k + 1) * stride_px``; it looks beyond that to the left
    (and up) by ``before_px`` and to the right (and down) by ``after_px``, which differ where padding is not symmetric.

    Attributes
    ----------
    before_px, after_px : int
        Pixels outside its own square that can change a cell; the larger of both directions of the image. Negative where
        a cell does not even look at all of its square.
    stride_px : int
        Between cells.
    """

    before_px: int
    after_px: int
    stride_px: int

    @property
    def radius_px(self) -> int:
        """Pixels of context after which a network sees all that it can, on either side."""
        return max(self.before_px, self.after_px, 0)

    @property
    def size_px(self) -> int:
        """Side of all that a cell looks at: what is commonly called the receptive field."""
        return self.before_px + self.stride_px + self.after_px


def receptive_field(trunk: nn.Module, n_bands: int) -> ReceptiveField | None:
    """The receptive field of a trunk's final map, or None where it has no end.

    Convolutions are replaced by what matters of them, namely that an output is NaN where its window holds a NaN; that
    makes the search fast, and exact where fast algorithms for convolution would spread a NaN over their own tiles.

    Parameters
    ----------
    trunk : Module
        (n, n_bands, y, x) to (n, c, y', x'), in evaluation mode.
    n_bands : int
        Bands it reads.

    Returns
    -------
    ReceptiveField or None
        None if every cell sees the whole image, as with squeeze-and-excitation, or more than about 6,000 px.

    Raises
    ------
    FeatureError
        If the trunk takes no image of the sizes that are tried, or its cells are not evenly spaced.

    Notes
    -----
    Published values for comparison: Araujo, Norris and Sim (2019), Computing Receptive Fields of Convolutional Neural
    Networks, Distill, https://doi.org/10.23915/distill.00021.
    """
    probe = _Probe(trunk, n_bands)
    found = probe.field()
    if found is None or not probe.oblong:
        return found
    # Windows that are wider than high, as Inception has, come with others that are higher than wide.
    other = _Probe(trunk, n_bands, transposed=True).field()
    if other is None or other.stride_px != found.stride_px:
        raise FeatureError(f"the network sees rows otherwise than columns: {other} and {found}.")
    return ReceptiveField(max(found.before_px, other.before_px), max(found.after_px, other.after_px), found.stride_px)


class _Probe:
    """A trunk that is asked which columns of its map have seen which columns of a long, low image."""

    def __init__(self, trunk: nn.Module, n_bands: int, *, transposed: bool = False) -> None:
        self.trunk, self.n_bands, self.transposed = trunk, n_bands, transposed
        self.oblong = False
        self.height = next((height for height in _HEIGHTS_PX if self._fits(height)), None)

    def field(self) -> ReceptiveField | None:
        """What the network sees along the image."""
        stride = self._stride()
        found = (self._reach(width, stride) for width in _WIDTHS_PX)
        reach = next((ends for ends in found if ends is not None), None)
        return None if reach is None else ReceptiveField(*reach, stride)

    def _stride(self) -> int:
        """Pixels from one cell to the next."""
        widths = _WIDTHS_PX[0], _WIDTHS_PX[0] + _STRIDES_PX
        short, long = (len(self._touched(width, 0, width)) for width in widths)
        stride = _STRIDES_PX / max(long - short, 1)
        if stride != int(stride):
            raise FeatureError(f"the network's map has a cell every {stride:g} pixels; expected a whole number.")
        return int(stride)

    def _reach(self, width: int, stride: int) -> tuple[int, int] | None:
        """Pixels before and after its own square that a cell sees; None where an image of this width does not tell."""
        low, high = width // 4, width - width // 4
        ends = self._ends(width, low, high)
        if ends is None:
            return None
        # Cell k sees from k * stride - before to (k + 1) * stride - 1 + after. The last cell that saw something left of
        # `low` saw the pixel where `low` can go no lower without its noticing; the first on the right alike.
        steps, down, up = 1 << max(stride - 1, 1).bit_length(), 0, 0
        while steps > 1:
            steps //= 2
            asked = self._ends(width, low - down - steps, high + up + steps)
            assert asked is not None
            down += steps * (asked[0] == ends[0])
            up += steps * (asked[1] == ends[1])
        last, first = ends
        return last * stride - (low - down - 1), high + up - (first + 1) * stride + 1

    def _ends(self, width: int, low: int, high: int) -> tuple[int, int] | None:
        """Last cell that has seen a pixel left of ``low``, and first that has seen one from ``high`` on."""
        clean = (~self._touched(width, low, high)).nonzero().flatten().tolist()
        # Without a clean cell the two cannot be told apart; where all are, nothing was seen to the very borders.
        return (clean[0] - 1, clean[-1] + 1) if clean else None

    def _touched(self, width: int, low: int, high: int) -> torch.Tensor:
        """Which columns of the map have seen a pixel outside ``low`` to ``high``."""
        if self.height is None:
            raise FeatureError(f"the network takes no image of {_HEIGHTS_PX[-1]} x {width} px to find how far it sees.")
        image = torch.zeros(1, self.n_bands, self.height, width)
        image[..., :low] = image[..., high:] = torch.nan
        return self._map(image).isnan().any(dim=1)[0].any(dim=0)

    def _map(self, image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), _WindowsOnly() as mode:
            if self.transposed:
                image = image.transpose(2, 3).contiguous()
            found = torch.as_tensor(self.trunk(image))
        self.oblong |= mode.oblong
        return found.transpose(2, 3) if self.transposed else found

    def _fits(self, height: int) -> bool:
        try:
            self._map(torch.zeros(1, self.n_bands, height, _WIDTHS_PX[0]))
        except RuntimeError:
            return False
        return True


class _WindowsOnly(TorchFunctionMode):
    """Convolutions that only tell which windows hold a NaN, and no batch norms, which tell nothing."""

    oblong = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.batch_norm:
            return args[0]
        if func is not functional.conv2d:
            return func(*args, **(kwargs or {}))
        found, square = _windows(*args, **(kwargs or {}))
        self.oblong |= not square
        return found


def _windows(
    input: torch.Tensor,  # noqa: A002  # as torch calls it
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[torch.Tensor, bool]:
    """What :func:`torch.nn.functional.conv2d` returns, every number replaced by zero, or NaN if its window has one.

    Also whether windows are as wide as high.

    Channels of all groups are taken together: what one of them has seen, those after it will mix anyhow.
    """
    # Sums of float64 are left to plain loops, where float32 might take a fast algorithm that mixes windows.
    marks = input.sum(dim=1, keepdim=True).isnan().double()
    ones = torch.ones(1, 1, *weight.shape[2:], dtype=torch.float64)
    sums = functional.conv2d(marks, ones, None, stride, padding, dilation)
    found = torch.where(sums > 0.5, torch.nan, 0.0).to(input.dtype)
    # Not a view of one channel, since activations are often computed in place.
    return found.repeat(1, weight.shape[0], 1, 1), weight.shape[2] == weight.shape[3]
