"""What the people of each cell might be instead: draws of their error that leave the census totals as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import ndtri

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.zone_cells import ZoneCells
from geopov.maps.poverty.lognormal import Floats
from geopov.maps.poverty.quintiles import people_band
from geopov.maps.poverty.random_field import RandomField
from geopov.maps.poverty.welfare_map import interval_level, read_rows
from geopov.maps.read import RasterMap

# Draws times cells of a strip; a handful of float64 arrays of this size are in memory at once, some 150 MB.
_DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class PeopleDraws:
    """An open population map with draws of its error.

    A draw of a cell is people x exp(t u - t² / 2), u a standard normal field and t the distance of the bounds on a log
    scale over that of the normal quantiles; its mean is the map's people. Where zones are given, the people of each
    zone are then multiplied by one factor a draw that gives back the zone's people on the map. A cell is divided among
    its zones by their land in it; people outside all zones are exact.

    Attributes
    ----------
    raster : RasterMap
        Bands ``people`` and maybe ``lower``, ``upper``.
    field : RandomField
        On the map's grid.
    zones : ZoneCells, optional
        On the same grid.
    """

    raster: RasterMap
    field: RandomField
    zones: ZoneCells | None = None

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, *, field: RandomField, zones: ZoneCells | None = None) -> Iterator[PeopleDraws]:
        """Open a population map and close it at the end of the block.

        Raises
        ------
        MapError
            If it has no band ``people``, one bound only, bounds of no stated level, or zones on another grid.
        """
        with RasterMap.open(path) as raster:
            people_band(raster)
            if (raster.band_number("lower") is None) != (raster.band_number("upper") is None):
                raise MapError(f"{path} has only one of the bands lower and upper; expected both, or neither.")
            if zones is not None:
                check_zone_grid(zones, field.grid)
            yield cls(raster, field, zones)

    @property
    def is_exact(self) -> bool:
        """Whether the map has no bounds, so that all draws are alike."""
        return self.raster.band_number("lower") is None

    @property
    def rows_per_strip(self) -> int:
        """Rows to draw at once."""
        return max(1, _DRAWN_AT_ONCE // (self.field.n_draws * self.field.grid.width))

    def counts(self, first: int, last: int) -> Floats:
        """People (rows, width) of rows ``first`` to ``last`` (exclusive); NaN where unknown."""
        people: Floats = read_rows(self.raster, [people_band(self.raster)], first, last)[0]
        if (people < 0).any():
            raise MapError(f"{self.raster.path} has cells with fewer than 0 people; is its nodata value declared?")
        return people

    def draws(self, first: int, last: int, cells: NDArray[np.int64]) -> Floats:
        """People (n_draws, k), or (1, k) where exact, of some cells of the rows, counted along rows from ``first``."""
        people = self._unconstrained(first, last, cells)
        if self._shares is None or self.is_exact:
            return people
        share = self._shares[:, first * self.field.grid.width + cells]
        in_zones = np.asarray(share.sum(axis=0)).ravel() > 0
        people[:, in_zones] *= (share.T @ self._factors).T[:, in_zones]
        people[:, ~in_zones] = self.counts(first, last).flat[cells[~in_zones]]
        return people

    def _unconstrained(self, first: int, last: int, cells: NDArray[np.int64]) -> Floats:
        people: Floats = self.counts(first, last).flat[cells]
        if self.is_exact:
            return people[None]
        sd = self._log_sd(first, last, cells)
        error = self.field.rows(first, last).reshape(self.field.n_draws, -1)[:, cells]
        return np.asarray(people * np.exp(sd * error - sd**2 / 2))

    def _log_sd(self, first: int, last: int, cells: NDArray[np.int64]) -> Floats:
        bands = [self.raster.band_names.index(name) + 1 for name in ("lower", "upper")]
        lower, upper = read_rows(self.raster, bands, first, last).reshape(2, -1)[:, cells]
        if not ((lower > 0) & (lower <= upper)).all():
            raise MapError(
                f"{self.raster.path} has populated cells whose lower bound is missing, 0 or above the upper; "
                "expected 0 < lower <= upper wherever there are people."
            )
        return np.asarray(np.log(upper / lower) / (2 * self._quantile))

    @cached_property
    def _quantile(self) -> float:
        return float(ndtri((1 + interval_level(self.raster)) / 2))

    @cached_property
    def _shares(self) -> scipy.sparse.csc_matrix | None:
        """Share of each cell's people (n_zones, cells) in each zone; columns add up to 1, or to 0 outside all."""
        if self.zones is None:
            return None
        land = self.zones.land.ravel()
        scale = np.divide(1.0, land, out=np.zeros_like(land), where=land > 0)
        return (self.zones.fraction @ scipy.sparse.diags(scale)).tocsc()

    @cached_property
    def _factors(self) -> Floats:
        """What to multiply each zone's people by in each draw (n_zones, n_draws)."""
        assert self._shares is not None
        grid = self.field.grid
        estimated, drawn = np.zeros(self._shares.shape[0]), np.zeros((self._shares.shape[0], self.field.n_draws))
        for first, last in grid.strips(self.rows_per_strip):
            count = self.counts(first, last)
            cells = np.flatnonzero(count > 0)
            share = self._shares[:, first * grid.width + cells]
            estimated += share @ count.flat[cells]
            drawn += share @ self._unconstrained(first, last, cells).T
        return np.divide(estimated[:, None], drawn, out=np.ones_like(drawn), where=drawn > 0)


def check_zone_grid(zones: ZoneCells, grid: CellGrid) -> None:
    """Raise unless zones were laid on the grid of the maps."""
    a = zones.grid
    near = np.allclose(np.array(a.transform), np.array(grid.transform), rtol=0, atol=1e-3 * a.cell_m)
    same_shape = (a.height, a.width) == (grid.height, grid.width)
    if not (same_shape and near and a.crs.equals(grid.crs, ignore_axis_order=True)):
        raise MapError(
            f"the zones lie on a grid of {_words(a)}, the maps on one of {_words(grid)}, or elsewhere; "
            "lay the zones on the maps' grid with zone_cells(zones, grid)."
        )


def _words(grid: CellGrid) -> str:
    return f"{grid.width} x {grid.height} cells of {grid.cell_m:g} m in {grid.crs.name}"
