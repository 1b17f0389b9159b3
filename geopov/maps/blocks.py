"""A map in blocks: what a predictor must do, one block computed, and who computes them.

Every block is a pure function of its own place, so that a map has the same bytes in whatever order, by however many
workers and from whatever larger map its blocks come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from geopov.errors import MapError
from geopov.grid import CellBlock, transform_xy

T = TypeVar("T")
R = TypeVar("R")

# Cells are asked so many by so many: few enough for a short wait after a kill, enough for a call to be worth it.
_BLOCK_CELLS = 64


class HoleWarning(UserWarning):
    """A map is finished, but some of its cells could not be predicted since their pixels could not be read."""


@dataclass(frozen=True, eq=False)
class BlockValues:
    """What is known of a block.

    Attributes
    ----------
    values : float32 array (band, rows, columns)
        Of the block's cells inside the grid; NaN where unknown.
    holes : tuple of str
        One sentence on each stretch of pixels that could not be read: file, rows and columns, longitude and latitude.
    """

    values: np.ndarray
    holes: tuple[str, ...] = ()


class _Described(Protocol):
    @property
    def band_names(self) -> Sequence[str]:
        """One name a band, such as mean, lower, upper, in_support."""
        ...

    @property
    def units(self) -> str | Sequence[str]:
        """One unit for all bands, or one a band."""
        ...

    @property
    def description(self) -> str:
        """One line on what is predicted."""
        ...


class CellPredictor(_Described, Protocol):
    """Anything that knows a value for a place: another raster, a formula.

    A value must depend on its own place only. With an attribute ``fingerprint`` (str), which changes whenever the
    values would, a map that was cut short is resumed; without it is begun anew.
    """

    def __call__(self, lon: np.ndarray, lat: np.ndarray, /) -> np.ndarray:
        """Values (band, n) of the cells centred on ``lon``, ``lat``, each (n,) in degrees; NaN where unknown."""
        ...


class BlockPredictor(_Described, Protocol):
    """Anything that knows the values of a block of cells at once: a network slid over it, with a ridge behind it.

    A block's values must depend on its whole, uncut place only (:attr:`geopov.grid.CellBlock.whole`). Where blocks are
    computed by other processes, the predictor is pickled.
    """

    @property
    def block_cells(self) -> int:
        """Side of the blocks it wants, in cells."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever its values would. Empty: unknown, and a map that was cut short is begun anew."""
        ...

    def __call__(self, block: CellBlock, inside: np.ndarray, /) -> BlockValues:
        """Values of the block's cells in the grid, asked where ``inside``, bool (rows, columns), is True."""
        ...


class Run(Protocol):
    """Who computes the blocks: this process, others, other machines."""

    def __call__(self, function: Callable[[Any, T], R], payload: Any, tasks: Iterable[T], /) -> Iterator[tuple[T, R]]:
        """``function(payload, task)`` of each task with its task, in order of completion.

        The tasks are drawn one by one, never more than a few ahead, so that there may be millions of them.
        """
        ...


def in_this_process(function: Callable[[Any, T], R], payload: Any, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Run one task after another, here."""
    for task in tasks:
        yield task, function(payload, task)


@dataclass(frozen=True, eq=False)
class BlockTask:
    """A block to compute.

    Attributes
    ----------
    block : CellBlock
        Where it lies.
    inside : bool array (rows, columns)
        Its cells that are wanted; at least one.
    """

    block: CellBlock
    inside: np.ndarray

    def __str__(self) -> str:
        """Where it lies, for messages."""
        (top, bottom), (left, right) = self.block.rows, self.block.columns
        return f"the cells of rows {top} to {bottom - 1}, columns {left} to {right - 1}"


def compute_block(predictor: BlockPredictor, task: BlockTask) -> BlockValues:
    """One block, checked: NaN outside the mask and wherever the prediction is no finite number.

    Raises
    ------
    MapError
        If the predictor returns anything but BlockValues (band, rows, columns).
    """
    result = predictor(task.block, task.inside)
    if not isinstance(result, BlockValues):
        raise MapError(f"the predictor returned a {type(result).__name__} for a block; expected BlockValues.")
    values, expected = np.asarray(result.values), (len(predictor.band_names), *task.inside.shape)
    if values.shape != expected:
        raise MapError(
            f"the predictor returned an array of shape {values.shape} for a block of {task.inside.shape} cells; "
            f"expected {expected}: (band, rows, columns), the bands {', '.join(predictor.band_names)}."
        )
    with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite, and so unknown.
        values = values.astype(np.float32)
    # One NaN of all there are, or equal maps would differ in bytes.
    values = np.where(task.inside & np.isfinite(values), values, np.float32(np.nan))
    return BlockValues(values, tuple(result.holes))


class PerCell:
    """A CellPredictor asked block by block.

    Parameters
    ----------
    predictor : CellPredictor
        Called once a block with the cells inside the mask.
    block_cells : int
        Side of the blocks. The map does not depend on it, only memory, speed and what a kill can lose do.
    """

    def __init__(self, predictor: CellPredictor, *, block_cells: int = _BLOCK_CELLS) -> None:
        self.predictor = predictor
        self.block_cells = block_cells
        self.band_names = predictor.band_names
        self.units = predictor.units
        self.description = predictor.description
        self.fingerprint = str(getattr(predictor, "fingerprint", ""))

    def __call__(self, block: CellBlock, inside: np.ndarray) -> BlockValues:
        """Values of the cells ``inside``, bool (rows, columns).

        Raises
        ------
        MapError
            If the predictor returns another shape than (band, n).
        """
        x, y = block.centres()
        lon, lat = transform_xy(block.grid.crs, "EPSG:4326", x[inside], y[inside])
        predicted = np.asarray(self.predictor(lon, lat))
        expected = (len(self.band_names), len(lon))
        if predicted.shape != expected:
            raise MapError(
                f"the predictor returned an array of shape {predicted.shape} for {len(lon)} cells; "
                f"expected {expected}: one row a band ({', '.join(self.band_names)}), one column a cell."
            )
        values = np.full((len(self.band_names), *inside.shape), np.nan)
        values[:, inside] = predicted
        return BlockValues(values)
