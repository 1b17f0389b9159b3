"""Zones on a grid: the exact share of every cell in every zone, and counts taken apart with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import scipy.sparse
import shapely

from geopov._validation import some
from geopov.errors import MapError
from geopov.grid import CellGrid, transform_xy
from geopov.maps.density.zone_geometry import cell_area_km2, reproject
from geopov.raster.coverage import polygon_coverage

if TYPE_CHECKING:
    from geopov.maps.density.zones import Zones

Floats = npt.NDArray[np.float64]

# Of a zone's area; a little sticks out where a grid was laid around corners only.
_MAX_OUTSIDE = 0.01


@dataclass(frozen=True)
class ZoneCells:
    """How a grid's cells lie in zones.

    Attributes
    ----------
    zones : Zones
        The n zones.
    grid : CellGrid
        Of height x width cells.
    fraction : csr_matrix (n, height x width)
        Share of the cell's area that is land inside the zone, cells in the order of their rows.
    inside : array (height, width)
        Share of the cell's area, land or not, inside any zone; above 1 only where zones overlap.
    problems : list of dict
        What was found and lived with: ``zone_id``, ``problem``, ``value``.
    """

    zones: Zones
    grid: CellGrid
    fraction: scipy.sparse.csr_matrix
    inside: Floats
    problems: list[dict[str, object]] = field(default_factory=list)

    @cached_property
    def area_km2(self) -> Floats:
        """True ground area of each cell (height, width)."""
        return cell_area_km2(self.grid)

    @cached_property
    def land(self) -> Floats:
        """Share of the cell's area (height, width) that is land inside any zone; above 1 only where zones overlap."""
        return np.asarray(self.fraction.sum(axis=0)).reshape(self.grid.height, self.grid.width)

    def mean(self, values: npt.ArrayLike) -> Floats:
        """Mean over each zone's land, cells weighted by their ground area in it.

        Parameters
        ----------
        values : array (height, width) or (height x width,), or with a leading axis k
            NaN where unknown; those cells are left out.

        Returns
        -------
        array (n,) or (k, n)
            NaN for a zone without a known cell.
        """
        flat = self._flat(values)
        known = np.isfinite(flat)
        area = self.area_km2.ravel()
        total = self.fraction @ (np.where(known, flat, 0.0) * area).T
        weight = self.fraction @ (known * area).T
        mean: Floats = np.full(total.shape, np.nan)
        np.divide(total, weight, out=mean, where=weight > 0)
        return mean.T

    def sum(self, people: npt.ArrayLike) -> Floats:
        """Sum over each zone of a quantity given per cell, such as people.

        A cell on a border is split between its zones in proportion to their land in it, so that what lies in any zone
        is counted exactly once.

        Parameters
        ----------
        people : array
            Shaped as in :meth:`mean`; NaN counts as nothing.

        Returns
        -------
        array (n,) or (k, n)
        """
        flat = np.nan_to_num(self._flat(people), nan=0.0)
        land = self.land.ravel()
        return np.asarray((self.fraction @ np.divide(flat, land, out=np.zeros_like(flat), where=land > 0).T).T)

    def _flat(self, values: npt.ArrayLike) -> Floats:
        array = np.asarray(values, dtype=np.float64)
        height, width = self.grid.height, self.grid.width
        if array.shape[-2:] == (height, width):
            return array.reshape(*array.shape[:-2], height * width)
        if array.ndim in (1, 2) and array.shape[-1] == height * width:
            return array
        raise MapError(f"the values have shape {array.shape}; expected ({height}, {width}) or ({height * width},).")


def zone_cells(zones: Zones, grid: CellGrid, *, land: npt.ArrayLike | None = None) -> ZoneCells:
    """Lay zones on a grid, border cells by exact fraction.

    Parameters
    ----------
    zones : Zones
        From :func:`geopov.maps.density.zones.read_zones`.
    grid : CellGrid
        Must cover the populated zones.
    land : array (height, width), optional
        Share of each cell that can be lived on, 1 minus water; NaN counts as land. Zones with people whose land is
        all masked keep their whole area and are named in ``problems``.

    Raises
    ------
    MapError
        If the grid is not projected, ``land`` has another shape or values outside 0 to 1, or over 1% of a populated
        zone lies outside the grid.
    """
    if not grid.crs.is_projected:
        raise MapError(f"the grid's CRS is {grid.crs.name}, in degrees; cells need one in metres, such as a UTM zone.")
    polygons = _in_cells(zones.table.geometry, grid)
    whole = polygon_coverage(polygons, height=grid.height, width=grid.width)
    counts = zones.counts
    covered = np.asarray(whole.sum(axis=1)).ravel()
    _check_covered(zones, covered, shapely.area(polygons), grid)
    problems: list[dict[str, object]] = []
    fraction = whole
    if land is not None:
        share, unknown = _check_land(land, grid)
        if unknown:
            problems.append({"zone_id": "", "problem": "cells with unknown land taken as land", "value": unknown})
        fraction = whole.multiply(share.reshape(1, -1)).tocsr()
        fraction.eliminate_zeros()
        masked = (np.diff(fraction.indptr) == 0) & (covered > 0) & (counts > 0)
        if masked.any():
            keep = scipy.sparse.diags(masked.astype(np.float64))
            fraction = (fraction + keep @ whole).tocsr()
        for i in np.flatnonzero(masked):
            what = "no land inside, people kept on its whole area"
            problems.append({"zone_id": zones.ids[i], "problem": what, "value": float(counts[i])})
    inside = np.asarray(whole.sum(axis=0)).reshape(grid.height, grid.width)
    return ZoneCells(zones, grid, fraction, inside, problems)


def fractions_of(shapes: gpd.GeoSeries, grid: CellGrid) -> scipy.sparse.csr_matrix:
    """Share (n, height x width) of each cell's area inside each of n polygons, whatever lies outside left out."""
    return polygon_coverage(_in_cells(shapes, grid), height=grid.height, width=grid.width)


def people_shares(fraction: scipy.sparse.csr_matrix, inside: npt.NDArray[np.float64]) -> scipy.sparse.csr_matrix:
    """Which share of each cell's people each polygon holds.

    Parameters
    ----------
    fraction : csr_matrix (n, cells)
        Of the cells' areas, by polygon, as of :func:`fractions_of`.
    inside : array of as many cells
        Share of the cell that its people are spread over. Where polygons together reach beyond it, nobody is counted
        twice for that.
    """
    claimed = np.minimum(np.asarray(fraction.sum(axis=0)).ravel(), 1.0)
    whole = np.maximum(inside.ravel(), claimed)
    return fraction.multiply(np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0)).tocsr()


def representative_cells(shapes: gpd.GeoSeries, grid: CellGrid) -> npt.NDArray[np.int64]:
    """The cell, counted along rows, that holds a point inside each polygon; -1 where that lies outside the grid."""
    points = shapely.point_on_surface(shapes.to_numpy())
    x, y = transform_xy(shapes.crs, grid.crs, shapely.get_x(points), shapely.get_y(points))
    west, _, _, north = grid.bounds
    column = np.floor((x - west) / grid.cell_m).astype(np.int64)
    row = np.floor((north - y) / grid.cell_m).astype(np.int64)
    within = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    return np.where(within, row * grid.width + column, -1)


def _in_cells(shapes: gpd.GeoSeries, grid: CellGrid) -> npt.NDArray[np.object_]:
    """Polygons in units of cells from the grid's upper left corner, y downwards."""
    moved = reproject(shapes, grid.crs, piece_m=max(grid.cell_m, 250.0))
    west, _, _, north = grid.bounds
    corner, scale = np.array([west, north]), np.array([1.0, -1.0]) / grid.cell_m
    cells: npt.NDArray[np.object_] = shapely.transform(moved, lambda xy: (xy - corner) * scale)
    return cells


def _check_covered(zones: Zones, covered: Floats, area: Floats, grid: CellGrid) -> None:
    share = np.divide(covered, area, out=np.zeros_like(covered), where=area > 0)
    lost = (share < 1 - _MAX_OUTSIDE) & (zones.counts > 0)
    # Too small to cover any cell measurably is not the same as outside.
    specks = np.flatnonzero(lost & (covered == 0))
    lost[specks] = representative_cells(zones.table.geometry.iloc[specks], grid) < 0
    if lost.any():
        named = some(f"{zones.ids[i]} ({1 - share[i]:.0%})" for i in np.flatnonzero(lost))
        raise MapError(
            f"{int(lost.sum())} zones with people lie outside the grid of {grid.width} x {grid.height} cells, in whole "
            f"or in part: {named}. Their people would be crowded inside or lost; lay the grid around the zones with "
            "Region.from_polygons(zones.table).grid(cell_m=...), or read only the zones that it covers."
        )


def _check_land(land: npt.ArrayLike, grid: CellGrid) -> tuple[Floats, int]:
    share = np.asarray(land, dtype=np.float64)
    if share.shape != (grid.height, grid.width):
        raise MapError(f"land has shape {share.shape}; expected ({grid.height}, {grid.width}), one share a cell.")
    unknown = np.isnan(share)
    if ((share < 0) | (share > 1)).any():
        raise MapError(f"land reaches from {np.nanmin(share):g} to {np.nanmax(share):g}; expected shares from 0 to 1.")
    return np.where(unknown, 1.0, share), int(unknown.sum())
