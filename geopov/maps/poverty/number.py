"""The number of poor: people times headcount, with the errors of both, by cell, by admin unit and for the country.

The estimate of a cell is its people times its expected headcount (:mod:`geopov.maps.poverty.indices`). Its interval,
and that of every total, comes from draws of what may be wrong:

- the level of log welfare, mean + s e, with s from the welfare map's interval; a cell's headcount is then
  Phi((ln z - m - s e) / sigma);
- the people of a cell, people x exp(t u - t² / 2), with t from the lower and upper people of the population map (on a
  log scale, keeping the mean); without such bands people are exact. Where census zones are given, each draw is brought
  back to their counts, since a census that is shared over a zone's cells can be wrong about cells but not about the
  zone.

e and u are independent standard normal fields, each correlated in space
(:class:`geopov.maps.poverty.random_field.RandomField`). That matters more than anything else here: errors of
neighbouring cells that were drawn apart would cancel, and a country's total would look known to a fraction of a
percent. An exponential variogram of residuals with effective range R (``geopov.regression.variogram``) gives large
areas the same variance as ``correlation_km`` = 0.47 R with its ``nugget_share``: both correlations then have one
integral over the plane, 2 pi (R / 3)² = pi correlation_km².

What is estimated is the number of poor that the model expects of people spread as in the survey. The chance of who
lives in a cell, which matters for a few hundred people and not for a district, is not part of it; nor is the error of
sigma, of the line, or of a census.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import ndtr

from geopov._validation import check_columns, check_unique
from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.zone_cells import ZoneCells, fractions_of
from geopov.maps.poverty.indices import PovertyModel, open_within
from geopov.maps.poverty.lognormal import Floats
from geopov.maps.poverty.people_draws import PeopleDraws, check_zone_grid
from geopov.maps.poverty.random_field import RandomField
from geopov.maps.poverty.welfare_map import (
    SUPPORT_UNIT,
    Strip,
    WelfareMap,
    check_same_grid,
    inherited_tags,
    interval_level,
)
from geopov.maps.read import RasterMap
from geopov.raster.write import write_cog

_FORMULA = (
    "poor = people x Phi((ln z - m) / sqrt(within_sd^2 + s^2)); bounds: quantiles of draws of "
    "people x exp(t u - t^2 / 2) x Phi((ln z - m - s e) / within_sd), e and u standard normal fields with correlation "
    "(1 - nugget_share) exp(-(distance / correlation_km)^2)"
)


@dataclass(frozen=True)
class PoorTotals:
    """Numbers of poor by admin unit, and of all of them together.

    Attributes
    ----------
    units : DataFrame
        A row a unit: its identifier, ``people``, ``people_unknown`` (of them, without a welfare estimate),
        ``people_outside_support``, ``poor``, ``lower``, ``upper`` and ``headcount`` (of people with an estimate).
        Bounds of different units do not add up: their errors partly cancel.
    national : Series
        The same for the whole map, its interval from the same draws.
    outside : Series
        The same for cells in none of the units, so that nobody is lost: units and outside add up to national in
        people and poor.
    """

    units: pd.DataFrame
    national: pd.Series
    outside: pd.Series


@dataclass(frozen=True)
class _Drawn:
    """Rows of the map of poor; cells are counted along rows within the strip.

    ``cells`` (k,) are those with people and a welfare estimate; ``draws`` is (n_draws, k), the rest (rows, width).
    """

    first: int
    people: Floats
    poor: Floats
    in_support: Floats
    cells: NDArray[np.int64]
    draws: Floats


@dataclass(frozen=True)
class PoorModel:
    """All that the number of poor is made of.

    Attributes
    ----------
    welfare : path
        A map of log consumption; see :class:`geopov.maps.poverty.welfare_map.WelfareMap`.
    population : path
        A map on the same grid with a band ``people`` (per cell) and, unless people are exact, ``lower`` and ``upper``
        with a tag ``interval``.
    poverty : PovertyModel
        Line and spread within cells.
    correlation_km : float
        Distance at which the correlation of errors has fallen to 1/e.
    nugget_share : float
        Share of the errors' variance that no two cells have in common; 0 gives the widest intervals of totals.
    n_draws : int
        Of the errors.
    seed : int
        Of the draws.
    zones : ZoneCells, optional
        Census zones on the grid, whose totals every draw of people keeps.
    """

    welfare: str | Path
    population: str | Path
    poverty: PovertyModel
    correlation_km: float
    nugget_share: float = 0.0
    n_draws: int = 200
    seed: int = 0
    zones: ZoneCells | None = None

    def write(self, path: str | Path, *, tags: Mapping[str, str] | None = None) -> Path:
        """Write the number of poor of each cell: a COG with bands ``poor``, ``lower``, ``upper``, ``in_support``.

        Raises
        ------
        MapError
            If the line is in another unit than the map, grids differ, bands or tags are missing, or there are too few
            draws for the interval.
        """
        level = self._level

        def strips() -> Iterator[tuple[int, Floats]]:
            for drawn in self._strips():
                bounds = np.stack([drawn.poor] * 2)
                if drawn.cells.size:
                    bounds.reshape(2, -1)[:, drawn.cells] = _bounds(drawn.draws, drawn.poor.flat[drawn.cells], level)
                yield drawn.first, np.stack([drawn.poor, *bounds, drawn.in_support])

        with RasterMap.open(self.welfare) as welfare:
            own = inherited_tags(welfare, population=self.population) | {"style": "poor", "formula": _FORMULA}
        title = f"Number of poor at {self.poverty.line:g} {self.poverty.line_unit}"
        own |= self.poverty.tags() | {"title": title, "constrained": "zones" if self.zones is not None else "no"}
        own |= {"correlation_km": f"{self.correlation_km:g}", "nugget_share": f"{self.nugget_share:g}"}
        own |= {"n_draws": str(self.n_draws), "seed": str(self.seed)}
        return write_cog(
            path,
            strips(),
            crs=self._grid.crs,
            transform=self._grid.transform,
            width=self._grid.width,
            height=self._grid.height,
            band_names=("poor", "lower", "upper", "in_support"),
            units=("poor people per cell",) * 3 + (SUPPORT_UNIT,),
            description=title,
            tags=own | dict(tags or {}),
        )

    def totals(self, polygons: gpd.GeoDataFrame, *, id_column: str) -> PoorTotals:
        """The number of poor in each polygon and in all the map.

        A cell that a border cuts gives each unit the share of the cell that the unit holds: of what lies in the census
        zones where they are given, else of what lies in any unit, so that nobody is left in the sea. People are taken
        to live evenly in a cell, so that units which are census zones get their counts up to the cells they share.

        Parameters
        ----------
        polygons : GeoDataFrame
            Admin units, in any CRS.
        id_column : str
            Names them, each once.

        Raises
        ------
        MapError
            As :meth:`write`; or if the polygons have no CRS or no such column, or two have one name.
        """
        check_columns(polygons, [id_column], "the table of polygons", MapError)
        check_unique(polygons[id_column], "the table of polygons", MapError)
        if polygons.crs is None:
            raise MapError("the polygons have no CRS; set it, for example polygons.set_crs('EPSG:4326').")
        level = self._level
        fraction = fractions_of(polygons.geometry, self._grid)
        if fraction.nnz == 0:
            raise MapError(
                f"none of the {len(polygons)} polygons meets the map; is their CRS {polygons.crs.name} right?"
            )
        shares = self._shares(fraction)
        figures, draws = np.zeros((shares.shape[0], 4)), np.zeros((shares.shape[0], self.n_draws))
        for drawn in self._strips():
            begin = drawn.first * self._grid.width
            share = shares[:, begin : begin + drawn.people.size]
            people, known = np.nan_to_num(drawn.people.ravel()), np.isfinite(drawn.poor.ravel())
            unsupported = people * (drawn.in_support.ravel() == 0)
            columns = [people, np.where(known, 0.0, people), unsupported, np.nan_to_num(drawn.poor.ravel())]
            figures += share @ np.column_stack(columns)
            draws += share[:, drawn.cells] @ drawn.draws.T
        table = pd.DataFrame(figures, columns=["people", "people_unknown", "people_outside_support", "poor"])
        table["lower"], table["upper"] = _bounds(draws.T, figures[:, 3], level)
        estimated = table["people"] - table["people_unknown"]
        table["headcount"] = (table["poor"] / estimated).where(estimated > 0)
        units = table.iloc[:-2].set_axis(pd.Index(polygons[id_column], name=id_column)).reset_index()
        return PoorTotals(units, table.iloc[-1].rename("national"), table.iloc[-2].rename("outside"))

    def _shares(self, fraction: scipy.sparse.csr_matrix) -> scipy.sparse.csc_matrix:
        """Share of each cell's people in each of n units, in none of them, and in the map (n + 2, cells)."""
        covered = np.asarray(fraction.sum(axis=0)).ravel()
        if self.zones is not None:
            check_zone_grid(self.zones, self._grid)
        whole = np.maximum(covered, self.zones.inside.ravel()) if self.zones is not None else covered
        scale = np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0)
        units = fraction @ scipy.sparse.diags(scale)
        outside = scipy.sparse.csr_matrix(np.maximum(1.0 - np.asarray(units.sum(axis=0)), 0.0).round(12))
        return scipy.sparse.vstack([units, outside, np.ones((1, len(whole)))]).tocsc()

    @cached_property
    def _grid(self) -> CellGrid:
        with RasterMap.open(self.population) as raster:
            return raster.grid

    @cached_property
    def _level(self) -> float:
        with RasterMap.open(self.welfare) as raster:
            level = interval_level(raster)
        needed = math.ceil(2 / (1 - level) - 1 - 1e-9)
        if self.n_draws < needed:
            raise MapError(f"n_draws is {self.n_draws}; {level:.0%} intervals need at least {needed}, better 200.")
        return level

    def _field(self, stream: int) -> RandomField:
        return RandomField(
            self._grid, self.correlation_km, self.n_draws, self.seed, stream=stream, nugget_share=self.nugget_share
        )

    def _strips(self) -> Iterator[_Drawn]:
        """Estimates and draws of the map, from north to south."""
        errors = self._field(0)
        with ExitStack() as stack:
            welfare = stack.enter_context(WelfareMap.open(self.welfare))
            within = stack.enter_context(open_within(self.poverty.within_sd, welfare))
            people = stack.enter_context(PeopleDraws.open(self.population, field=self._field(1), zones=self.zones))
            self.poverty.check_unit(welfare)
            check_same_grid(people.raster, welfare.raster)
            for strip in welfare.strips(people.rows_per_strip):
                last = strip.first + len(strip.mean)
                yield self._draw(strip, within(strip.first, last), people, errors)

    def _draw(self, strip: Strip, within_sd: Floats, people: PeopleDraws, errors: RandomField) -> _Drawn:
        last = strip.first + len(strip.mean)
        count = people.counts(strip.first, last)
        expected = self.poverty.index(strip.mean, within_sd, strip.error_sd)
        poor = np.where(count == 0, 0.0, count * expected)
        cells = np.flatnonzero(np.isfinite(poor) & (count > 0))
        mean_log = self.poverty.mean_log(strip.mean, within_sd)
        distance = (math.log(self.poverty.line) - mean_log) / within_sd
        error = errors.rows(strip.first, last).reshape(self.n_draws, -1)[:, cells]
        headcount = ndtr(distance.flat[cells] - (strip.error_sd / within_sd).flat[cells] * error)
        draws = headcount * people.draws(strip.first, last, cells)
        return _Drawn(strip.first, count, poor, strip.in_support, cells, draws)


def _bounds(draws: Floats, estimate: Floats, level: float) -> Floats:
    """Ends (2, k) of the interval that draws (n_draws, k) give, moved out to the estimate where it lies beyond.

    Quantiles at k / (n + 1): then a further draw falls between them with exactly the probability asked for.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.quantile(draws, tails, axis=0, method="weibull")
    return np.stack([np.minimum(lower, estimate), np.maximum(upper, estimate)])
