"""People per cell: census counts shared over the cells of their zones, and nobody lost on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse

from geopov._validation import check_columns, some
from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.zone_cells import ZoneCells, fractions_of, people_shares, representative_cells
from geopov.maps.density.zone_geometry import cell_area_km2
from geopov.maps.density.zone_notes import allocation_notes
from geopov.raster.write import write_cog

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """People in each cell of a grid.

    Attributes
    ----------
    grid : CellGrid
        Of height x width cells.
    people : array (height, width)
        People per cell; NaN outside all zones.
    land : array (height, width)
        Share of the cell that they live on: land inside the zones.
    zones : DataFrame
        A row a zone: ``zone_id``, ``count``, ``allocated``, ``cells`` (how many it touches), ``area_km2``, and
        ``fallback``: empty, ``area`` (no weight in it, shared by area) or ``point`` (no cell, all in one).
    notes : list of str
        What a reader of the map should know.
    method : str
        How the weights were made.
    lower, upper : array (height, width), optional
        Bounds of ``people``.
    attrs : dict
        Provenance, written as tags.
    inside : array (height, width), optional
        Share of the cell, land or not, inside the zones; default: all of it.
    """

    grid: CellGrid
    people: Floats
    land: Floats
    zones: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    method: str = ""
    lower: Floats | None = None
    upper: Floats | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    inside: Floats | None = None

    @cached_property
    def area_km2(self) -> Floats:
        """True ground area of each cell (height, width)."""
        return cell_area_km2(self.grid)

    @property
    def total(self) -> float:
        """People in all cells."""
        return float(np.nansum(self.people))

    def density(self) -> Floats:
        """People per km² of land (height, width); NaN where there are no zones, or no land and nobody."""
        return self._per_km2(self.people)

    def _per_km2(self, people: Floats) -> Floats:
        land = self.land * self.area_km2
        density = np.full(people.shape, np.nan)
        np.divide(people, land, out=density, where=land > 0)
        return density

    def cell_shares(self, polygons: gpd.GeoSeries) -> scipy.sparse.csr_matrix:
        """Which share of each cell's people each polygon holds, taking them as spread evenly over the zones in it.

        Parameters
        ----------
        polygons : GeoSeries (n,)
            In any CRS. Where together they reach beyond the zones in a cell, nobody is counted twice for it.

        Returns
        -------
        csr_matrix (n, height x width)
            Cells in the order of their rows.

        Raises
        ------
        MapError
            If the polygons have no CRS.
        """
        if polygons.crs is None:
            raise MapError("the polygons have no CRS; set it, for example polygons.set_crs('EPSG:4326').")
        inside = np.ones(self.people.shape) if self.inside is None else self.inside
        return people_shares(fractions_of(polygons, self.grid), inside)

    def totals(self, polygons: gpd.GeoDataFrame, *, id_column: str) -> pd.Series:
        """People inside each polygon, cells on its border by exact fraction.

        Polygons that cover the zones together hold everybody. See :meth:`cell_shares` for how a cell is split.

        Parameters
        ----------
        polygons : GeoDataFrame
            In any CRS.
        id_column : str
            Names them in the result.

        Returns
        -------
        Series
            People by ``id_column``, in the order of the polygons.

        Raises
        ------
        MapError
            If there is no such column, or no CRS.
        """
        check_columns(polygons, [id_column], "the table of polygons", MapError)
        people = self.cell_shares(polygons.geometry) @ np.nan_to_num(self.people, nan=0.0).ravel()
        return pd.Series(np.asarray(people), index=pd.Index(polygons[id_column]), name="people")

    def write(
        self,
        path: str | Path,
        *,
        title: str,
        source: str,
        year: int | str,
        tags: Mapping[str, str] | None = None,
    ) -> Path:
        """Write a Cloud Optimized GeoTIFF: people per cell, density, and where known the bounds of people.

        Overviews average, so that they show people per cell of the full resolution, and densities.

        Parameters
        ----------
        path : path
            Of the file.
        title, source : str
            What the map shows and what it was made from.
        year : int or str
            Of the count.
        tags : mapping of str to str, optional
            Further provenance.

        Returns
        -------
        Path
            ``path``.
        """
        bands = {"people": self.people, "density": self.density()}
        bands |= {name: band for name, band in (("lower", self.lower), ("upper", self.upper)) if band is not None}
        provenance = {"title": title, "source": source, "year": str(year), "style": "people", "method": self.method}
        provenance |= {"total_people": f"{self.total:.6f}", "notes": "\n".join(self.notes)}
        for name, value in self.attrs.items():
            provenance[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        return write_cog(
            path,
            [(0, np.stack(list(bands.values())).astype(np.float32))],
            crs=self.grid.crs,
            transform=self.grid.transform,
            width=self.grid.width,
            height=self.grid.height,
            band_names=list(bands),
            units=["people per km² of land" if name == "density" else "people per cell" for name in bands],
            nodata=math.nan,
            description=title,
            tags={name: value for name, value in (provenance | dict(tags or {})).items() if value},
            overview_resampling="average",
        )


def allocate(cells: ZoneCells, weights: npt.ArrayLike, *, method: str = "weights") -> Population:
    """Share each zone's count over its cells in proportion to a relative density.

    Dasymetric mapping: cell c of zone z gets ``count_z * w_c * a_zc / sum over c of w_c * a_zc``, with ``w`` the
    weight and ``a_zc`` the ground area of the zone's land in the cell. Only ratios of weights within a zone matter.

    Parameters
    ----------
    cells : ZoneCells
        From :func:`geopov.maps.density.zones.zone_cells`.
    weights : array (height, width)
        Relative density, 0 or more; NaN counts as 0.
    method : str
        Names the weights in the result.

    Returns
    -------
    Population
        Every zone's people are in it to double precision. A populated zone whose weights are all 0 is shared by area;
        one that has no cell goes to the cell of a point inside it. Both are named in ``notes``.

    Raises
    ------
    MapError
        If the weights have another shape, or are negative or infinite.

    References
    ----------
    Mennis, J. (2003). Generating surface models of population using dasymetric mapping. The Professional Geographer
    55(1), 31-42.
    """
    grid, zones = cells.grid, cells.zones
    given = np.asarray(weights, dtype=np.float64)
    weight = _check_weights(given, grid)
    amount = cells.fraction.multiply(cells.area_km2.reshape(1, -1)).tocsr()
    weighted = _row_scaled(amount, weight)
    sums = np.asarray(weighted.sum(axis=1)).ravel()
    populated = zones.counts > 0
    n_cells = np.diff(cells.fraction.indptr)
    by_area = populated & (n_cells > 0) & (sums == 0)
    by_point = populated & (n_cells == 0)
    shares = _normalised(weighted) + scipy.sparse.diags(by_area.astype(np.float64)) @ _normalised(amount)
    shares = (shares + _points(cells, by_point)).tocsr()
    people = np.asarray(shares.T @ zones.counts).reshape(grid.height, grid.width)
    allocated = np.asarray(shares.sum(axis=1)).ravel() * zones.counts
    table = pd.DataFrame(zones.table.drop(columns="geometry"))[["zone_id", "count", "area_km2"]]
    fallback = np.where(by_point, "point", np.where(by_area, "area", ""))
    table = table.assign(allocated=allocated, cells=n_cells, fallback=fallback)
    land, inside = cells.land.copy(), cells.inside.copy()
    here = people > 0
    # A zone too small to have a cell still stands on ground of its own.
    for share in (land, inside):
        share[here & (share == 0)] = 1.0
    people[(inside == 0) & ~here] = np.nan
    return Population(
        grid=grid,
        people=people,
        land=np.minimum(land, 1.0),
        zones=table[["zone_id", "count", "allocated", "cells", "area_km2", "fallback"]],
        notes=allocation_notes(cells, given, by_area=by_area, by_point=by_point),
        method=method,
        inside=np.minimum(inside, 1.0),
    )


def _check_weights(weight: Floats, grid: CellGrid) -> Floats:
    if weight.shape != (grid.height, grid.width):
        raise MapError(f"the weights have shape {weight.shape}; expected ({grid.height}, {grid.width}), one a cell.")
    if (weight < 0).any() or np.isinf(weight).any():
        raise MapError(
            f"{int((weight < 0).sum())} weights are negative and {int(np.isinf(weight).sum())} infinite; expected "
            "relative densities, 0 or more. Was a nodata value read as data?"
        )
    return np.nan_to_num(weight, nan=0.0)


def _row_scaled(amount: scipy.sparse.csr_matrix, weight: Floats) -> scipy.sparse.csr_matrix:
    """Amount times weight, each row divided by its largest weight so that nothing over- or underflows."""
    values = weight.ravel()[amount.indices]
    row = np.repeat(np.arange(amount.shape[0]), np.diff(amount.indptr))
    largest = np.zeros(amount.shape[0])
    np.maximum.at(largest, row, values)
    scaled = np.divide(values, largest[row], out=np.zeros_like(values), where=values > 0)
    return scipy.sparse.csr_matrix((amount.data * scaled, amount.indices, amount.indptr), shape=amount.shape)


def _normalised(amount: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Rows that add up to 1, where they have anything."""
    sums = np.asarray(amount.sum(axis=1)).ravel()
    return scipy.sparse.diags(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)) @ amount


def _points(cells: ZoneCells, which: npt.NDArray[np.bool_]) -> scipy.sparse.csr_matrix:
    """A share of 1 in the cell of each of these zones' representative point."""
    rows = np.flatnonzero(which)
    at = representative_cells(cells.zones.table.geometry[which], cells.grid)
    if (at < 0).any():
        lost = some(cells.zones.ids[i] for i in rows[at < 0])
        raise MapError(f"{int((at < 0).sum())} zones with people lie outside the grid ({lost}); enlarge it.")
    return scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, at)), shape=cells.fraction.shape)
