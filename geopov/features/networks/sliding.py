"""A network slid over a large block: one forward pass, and the mean of its map over each tile's box.

Neighbouring tiles share pixels, above all their context; a block computes each but once. Imports torch; reached only
through a network's extractor.
"""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from geopov.errors import FeatureError
from geopov.features.networks.engines import EngineName, Forward, make_map_engine
from geopov.features.networks.receptive_field import ReceptiveField, receptive_field

__all__ = ["Lattice", "SlidingNetwork", "box_means", "valid_counts"]

Floats = npt.NDArray[np.float64]

# Channels whose sums are held at once.
_CHANNELS = 64
# One at a time prepares what the threads share; what takes long is done once.
_PREPARING = threading.RLock()


class SlidingNetwork:
    """A trunk for images of any size.

    Parameters
    ----------
    trunk : Module
        (n, n_bands, y, x) to (n, c, y', x'), in evaluation mode.
    n_bands : int
        Bands it reads.
    engine : str
        As returned by :func:`geopov.features.networks.engines.choose_engine`.
    half : bool
        Half precision, on a GPU only.
    """

    def __init__(self, trunk: nn.Module, *, n_bands: int, engine: EngineName, half: bool) -> None:
        self.trunk, self.n_bands, self.engine, self.half = trunk, n_bands, engine, half
        self._field: tuple[ReceptiveField | None] | None = None
        self._forward: dict[tuple[int, int], Forward] = {}
        self._blank: nn.Module | None = None
        self._cells: dict[int, int] = {}

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """How far it sees; None without an end."""
        with _PREPARING:
            if self._field is None:
                self._field = (receptive_field(self.trunk, self.n_bands),)
            return self._field[0]

    def cells(self, side_px: int) -> int:
        """Side of the map of a square image."""
        with _PREPARING:
            if side_px not in self._cells:
                self._cells[side_px] = int(self._shape_only(side_px).shape[-1])
            return self._cells[side_px]

    def final_map(self, image: torch.Tensor) -> npt.NDArray[np.float32]:
        """The map (c, y', x') of one image (1, n_bands, y, x), computed by one thread; the same bytes in any."""
        field = self.receptive_field
        stride = 1 if field is None else field.stride_px
        # Networks may pad by what is left over a stride.
        over = int(image.shape[2]) % stride, int(image.shape[3]) % stride
        with _PREPARING:
            if over not in self._forward:
                height, width = (
                    stride * math.ceil(side / stride) + more for side, more in zip((192, 224), over, strict=True)
                )
                self._forward[over] = make_map_engine(
                    self.engine,
                    self.trunk,
                    torch.zeros(1, self.n_bands, height, width),
                    stride_px=stride,
                    half=self.half,
                )
        found: npt.NDArray[np.float32] = self._forward[over](image)[0]
        return found

    def activation_bytes(self, side_px: int) -> int:
        """Memory that the pass over a square image takes at its peak, the image and the map included."""
        with _PREPARING:
            self.cells(side_px)
            with _FusedNorms(), _Live() as live:
                self._shape_only(side_px)
        return int(live.peak)

    def _shape_only(self, side_px: int) -> torch.Tensor:
        """The map of a square image as a tensor without numbers."""
        if self._blank is None:
            self._blank = copy.deepcopy(self.trunk).to("meta")
        try:
            with torch.inference_mode():
                return torch.as_tensor(self._blank(torch.empty(1, self.n_bands, side_px, side_px, device="meta")))
        except RuntimeError as error:
            raise FeatureError(
                f"the network cannot take images of {side_px} px ({str(error).splitlines()[0]}). "
                "Give a larger input_px."
            ) from error


@dataclass(frozen=True)
class Lattice:
    """Where the cells of a network's map lie in a block, such that tiles are what they are in crops of their own.

    Attributes
    ----------
    size_px, context_px : int
        Of the tiles, in the block's pixels.
    side_px : int
        Side of the network's input for a tile with its context.
    stride_px : int
        Input pixels from one cell to the next.
    cells : int
        Side of the map of a tile with its context. Pooling of a crop takes these cells to divide the crop evenly, which
        they do unless ``side_px`` is no multiple of the stride; a block takes them so, too.
    """

    size_px: int
    context_px: int
    side_px: int
    stride_px: int
    cells: int

    @property
    def total_px(self) -> int:
        """Side of a tile with its context."""
        return self.size_px + 2 * self.context_px

    @property
    def scale(self) -> float:
        """Input pixels to a pixel of the block."""
        return self.side_px / self.total_px

    def resized(self, planes: npt.NDArray[np.float32]) -> torch.Tensor:
        """Planes (1, band, y, x) of a block as the network sees them.

        They are resized as a crop is, to the last digit of the scale, and get zeros to the right and below until their
        sides are a crop's plus whole strides: networks that pad unevenly lay their cells according to the remainder.
        """
        images = torch.from_numpy(planes)
        if self.side_px != self.total_px:
            # The least bit more, lest a whole number of pixels be rounded down.
            scale = math.nextafter(self.scale, math.inf)
            images = functional.interpolate(
                images, scale_factor=(scale, scale), mode="bilinear", align_corners=False, antialias=scale < 1
            )
        below, right = ((self.side_px - side) % self.stride_px for side in images.shape[2:])
        return functional.pad(images, (0, right, 0, below)) if below or right else images

    def spans(self, starts: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
        """First and last edge, in cells, of tiles that begin at these rows or columns of the block."""
        corner = (starts.astype(np.float64) - self.context_px) * self.scale / self.stride_px
        first, last = (edge / self.total_px * self.cells for edge in (self.context_px, self.total_px - self.context_px))
        return corner + first, corner + last

    def sees(self, field: ReceptiveField) -> bool:
        """Whether a crop has all pixels that its tile's cells look at."""
        first, last = (float(edge[0]) for edge in self.spans(np.array([self.context_px])))
        seen_from = math.floor(first + 1e-9) * self.stride_px - field.before_px
        seen_to = math.ceil(last - 1e-9) * self.stride_px + field.after_px
        return seen_from >= 0 and seen_to <= self.side_px


def box_means(
    cells: npt.NDArray[np.float32], rows: tuple[Floats, Floats], columns: tuple[Floats, Floats]
) -> npt.NDArray[np.float32]:
    """Means of a map over boxes, cells that a box covers in part counted in proportion.

    Parameters
    ----------
    cells : float32 array (c, y, x)
        The map.
    rows, columns : pair of float arrays (n,)
        First and last edge of each box, in cells.

    Returns
    -------
    float32 array (n, c)
        A row of NaN where a box holds anything but finite numbers. A row depends on its own box alone.
    """
    means = np.empty((len(rows[0]), len(cells)), dtype=np.float32)
    area = (rows[1] - rows[0]) * (columns[1] - columns[0])
    broken: npt.NDArray[np.bool_] = np.any(~np.isfinite(cells), axis=0)
    for start in range(0, len(cells), _CHANNELS):
        group = cells[start : start + _CHANNELS].astype(np.float64)
        group[:, broken] = 0
        means[:, start : start + _CHANNELS] = (_box_sums(group, rows, columns) / area).T
    if broken.any():
        means[_box_sums(broken[None].astype(np.float64), rows, columns)[0] > 1e-6] = np.nan
    return means


def _box_sums(cells: Floats, rows: tuple[Floats, Floats], columns: tuple[Floats, Floats]) -> Floats:
    """Sums (c, n) of cells (c, y, x) over boxes.

    Sums over all above and left of a point are linear in it within a cell, so that interpolating them is exact.
    """
    table = np.zeros((len(cells), cells.shape[1] + 1, cells.shape[2] + 1))
    np.cumsum(np.cumsum(cells, axis=1), axis=2, out=table[:, 1:, 1:])
    height, width = cells.shape[1:]

    def above_left(y: Floats, x: Floats) -> Floats:
        row, column = (np.clip(edge.astype(np.intp), 0, n - 1) for edge, n in ((y, height), (x, width)))
        dy, dx = y - row, x - column
        upper = table[:, row, column] * (1 - dx) + table[:, row, column + 1] * dx
        lower = table[:, row + 1, column] * (1 - dx) + table[:, row + 1, column + 1] * dx
        found: Floats = upper * (1 - dy) + lower * dy
        return found

    top, bottom = (np.clip(edge, 0, height) for edge in rows)
    left, right = (np.clip(edge, 0, width) for edge in columns)
    sums: Floats = above_left(bottom, right) - above_left(top, right) - above_left(bottom, left) + above_left(top, left)
    return sums


def valid_counts(
    valid: npt.NDArray[np.bool_], *, left: npt.NDArray[np.integer], top: npt.NDArray[np.integer], size_px: int
) -> npt.NDArray[np.int32]:
    """How many pixels (n,) of each tile of a block (y, x) are valid."""
    table = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(valid, axis=0, dtype=np.int32), axis=1, out=table[1:, 1:])
    right, bottom = left + size_px, top + size_px
    counts: npt.NDArray[np.int32] = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    return counts


class _FusedNorms(TorchFunctionMode):
    """Batch norms as parts of the convolutions before them, which is how engines run them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is functional.batch_norm else func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}  # type: ignore[no-untyped-call]
        for tensor in (*args, *(made if isinstance(made, list | tuple) else (made,))):
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, nn.Parameter):
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return made
