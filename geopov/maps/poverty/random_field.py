"""Errors that neighbouring cells share: Gaussian random fields drawn a few rows at a time, the same however cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse

from geopov._validation import check_positive
from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.poverty.lognormal import Floats

# Of the correlation length. Wider nodes would leave ripples in the correlation; beyond the reach the kernel is 3e-4.
_NODE_STEP, _REACH = 0.5, 2.0


@dataclass(frozen=True)
class RandomField:
    """Draws of a standard normal field with correlation ``(1 - nugget_share) exp(-(distance / correlation_km)²)``.

    White noise on a coarse grid of nodes is smoothed by the Gaussian kernel exp(-2 (distance / correlation_km)²), whose
    convolution with itself is that correlation (Higdon 2001, Space and space-time modeling using process convolutions,
    Duke University working paper 01-03), and each cell's weights are scaled to a variance of exactly 1. The kernel is a
    product of one along x and one along y, and every row of nodes has a generator of its own, so that a strip costs its
    own cells only and takes the same values in every cutting of the map.

    Attributes
    ----------
    grid : CellGrid
        Of height x width cells.
    correlation_km : float
        Distance at which the correlation of the shared part has fallen to 1/e; at least half a cell.
    n_draws : int
        Number of independent fields.
    seed : int
        Of the generators, 0 or more.
    stream : int
        Tells fields of one seed apart.
    nugget_share : float
        Share of the variance that no two cells have in common.
    """

    grid: CellGrid
    correlation_km: float
    n_draws: int
    seed: int
    stream: int = 0
    nugget_share: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.correlation_km, "correlation_km", MapError)
        if self.correlation_km * 1000 < self.grid.cell_m / 2:
            raise MapError(
                f"correlation_km is {self.correlation_km:g}, less than half a cell of {self.grid.cell_m:g} m; errors "
                "would be taken to cancel within a cell. Take the range of the model's residuals (their variogram)."
            )
        if not 0 <= self.nugget_share <= 1:
            raise MapError(f"nugget_share is {self.nugget_share!r}; expected a share from 0 to 1.")
        if self.n_draws < 1 or self.seed < 0:
            raise MapError(f"n_draws is {self.n_draws} and seed {self.seed}; expected 1 or more, and 0 or more.")

    def rows(self, first: int, last: int) -> Floats:
        """The draws (n_draws, rows, width) of rows ``first`` to ``last`` (exclusive)."""
        start, along_y = self._kernel(first, last)
        nodes = np.stack([self._noise(0, start + row, self._across.shape[1]) for row in range(along_y.shape[1])])
        shape = (last - first, self.n_draws, -1)
        # Sparse products add up in one order whatever the number of rows, which dense ones do not.
        by_row = (along_y @ nodes.reshape(len(nodes), -1)).reshape(-1, nodes.shape[2])
        shared = (self._across @ by_row.T).T.reshape(shape)
        field: Floats = np.moveaxis(shared, 1, 0) * np.sqrt(1 - self.nugget_share)
        if self.nugget_share:
            own = np.stack([self._noise(1, row, self.grid.width) for row in range(first, last)], axis=1)
            field += np.sqrt(self.nugget_share) * own
        return field

    @cached_property
    def _across(self) -> scipy.sparse.csr_matrix:
        return self._kernel(0, self.grid.width)[1]

    def _noise(self, part: int, row: int, size: int) -> Floats:
        generator = np.random.default_rng([self.seed, self.stream, part, row])
        return generator.standard_normal((self.n_draws, size))

    def _kernel(self, first: int, last: int) -> tuple[int, scipy.sparse.csr_matrix]:
        """Number of the first node that cells ``first`` to ``last`` need, and weights (cell, node) of norm 1."""
        step = _NODE_STEP * self.correlation_km * 1000 / self.grid.cell_m
        reach = round(_REACH / _NODE_STEP)
        centre = (np.arange(first, last) + 0.5) / step
        # Node 0 lies as far before the first cell as the kernel reaches.
        nearest = np.floor(centre).astype(int)[:, None] + np.arange(-reach + 1, reach + 1)
        weight = np.exp(-2 * ((nearest - centre[:, None]) * _NODE_STEP) ** 2)
        weight /= np.sqrt((weight**2).sum(axis=1, keepdims=True))
        start = int(nearest[0, 0])
        shape = (last - first, int(nearest[-1, -1]) - start + 1)
        cells = np.repeat(np.arange(last - first), 2 * reach)
        matrix = scipy.sparse.csr_matrix((weight.ravel(), (cells, (nearest - start).ravel())), shape=shape)
        return start + reach, matrix
