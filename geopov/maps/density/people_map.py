"""The map of people: zones and their counts, a way to weigh cells, and people per cell whose sums are the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np

from geopov._validation import check_positive
from geopov.errors import MapError
from geopov.grid import CellGrid, as_crs
from geopov.maps.density import covariates, weights
from geopov.maps.density.model import fit_density
from geopov.maps.density.population import Population, allocate
from geopov.maps.density.weights import Floats
from geopov.maps.density.zone_cells import ZoneCells, fractions_of, zone_cells
from geopov.maps.density.zones import Zones
from geopov.maps.read import read_vector

Method = Literal["equal_area", "proportional", "settlement", "learned"]
METHODS: tuple[Method, ...] = ("equal_area", "proportional", "settlement", "learned")
# Of zones that are as dark as the noise of the product, every cell counts a little.
_DARKNESS = 0.1


@dataclass(frozen=True)
class Covariates:
    """Rasters that cells are told apart by.

    Attributes
    ----------
    lights, elevation : path, optional
        Radiance in nW/cm²/sr, and metres above the sea; what surrounds a cell is made of them too.
    rasters : mapping of name to path
        Further ones, averaged over each cell as they are.
    """

    lights: str | Path | None = None
    elevation: str | Path | None = None
    rasters: Mapping[str, str | Path] = field(default_factory=dict)

    def on(self, grid: CellGrid) -> tuple[Floats, tuple[str, ...]]:
        """All layers (k, height, width) and their names; where a cell lies is always among them."""
        layers: dict[str, Floats] = dict(covariates.position(grid))
        if self.lights is not None:
            layers |= covariates.lights(weights.resample_to(grid, self.lights), grid=grid)
        if self.elevation is not None:
            layers |= covariates.terrain(weights.resample_to(grid, self.elevation), grid=grid)
        for name, path in self.rasters.items():
            layers[name] = weights.resample_to(grid, path)
        return covariates.stack(layers)


def map_density(
    zones: Zones,
    *,
    method: Method,
    raster: str | Path | None = None,
    power: float = 1.0,
    offset: float = _DARKNESS,
    known: Covariates | None = None,
    water: str | Path | gpd.GeoDataFrame | None = None,
    groups: Sequence[object] | None = None,
    level: float = 0.9,
    cell_m: float | None = None,
    crs: Any = None,
    grid: CellGrid | None = None,
    seed: int = 0,
) -> Population:
    """Share the people of zones over cells.

    Parameters
    ----------
    zones : Zones
        From :func:`geopov.maps.read_zones`.
    method : {"equal_area", "proportional", "settlement", "learned"}
        Evenly over the land of a zone; in proportion to ``(raster + offset) ** power``; over the settled cells of a
        mask (Tiecke et al. 2017); or by a density learned from the zones themselves
        (:func:`geopov.maps.fit_density`), with an interval.
    raster : path, optional
        For ``proportional`` what people are in proportion to; for ``settlement`` the mask, above 0 where settled.
    power, offset : float
        See :func:`geopov.maps.density.weights.proportional`.
    known : Covariates, optional
        What the learned density looks at; needed by it and by no other method.
    water : path or GeoDataFrame, optional
        Polygons where nobody lives.
    groups : sequence (n,), optional
        Parent of each zone, such as its district: one level up is where the learned density is chosen.
    level : float
        Of the interval of the learned density.
    cell_m : float, optional
        Side of a cell in metres; with ``crs``, default :func:`geopov.grid.local_crs`.
    crs : CRS, optional
        Of the cells, in metres.
    grid : CellGrid, optional
        In place of both: the cells of another map, such as ``RasterMap.grid``, to be used together with this one.
    seed : int
        Of the learned density.

    Returns
    -------
    Population
        Its zones' totals are the counts.

    Raises
    ------
    MapError
        If an input is missing or not used by the method, or as for the functions of its steps.
    """
    _check_inputs(method, raster, known, groups)
    grid = _grid_of(zones, cell_m, crs, grid)
    cells = zone_cells(zones, grid, land=None if water is None else 1.0 - _share_of(water, grid))
    if method == "equal_area":
        return allocate(cells, weights.equal_area(grid), method="equal area")
    if method == "learned":
        assert known is not None
        return _learned(cells, known, groups=groups, level=level, seed=seed)
    assert raster is not None
    values = weights.resample_to(grid, raster)
    if method == "settlement":
        return allocate(cells, weights.settlement(values > 0), method="settled cells")
    label = f"in proportion to ({Path(raster).name} + {offset:g})^{power:g}"
    return allocate(cells, weights.proportional(values, power=power, offset=offset), method=label)


def _learned(
    cells: ZoneCells, known: Covariates, *, groups: Sequence[object] | None, level: float, seed: int
) -> Population:
    layers, names = known.on(cells.grid)
    model = fit_density(
        cells, layers, names=names, model=("loglinear", "ridge", "forest", "boosting"), coarse_groups=groups, seed=seed
    )
    density = np.nan_to_num(model.predict(layers), nan=0.0)
    population = allocate(cells, density, method=f"learned density ({model.kind})")
    attrs = {"interval": f"{level:.0%}", "density_model": {"kind": model.kind, **model.settings}}
    return replace(model.with_interval(population, level=level), attrs={**population.attrs, **attrs})


def _grid_of(zones: Zones, cell_m: float | None, crs: Any, grid: CellGrid | None) -> CellGrid:
    if (grid is None) == (cell_m is None) or (grid is not None and crs is not None):
        raise MapError("the cells are given twice or not at all; expected cell_m (with a crs), or else a grid.")
    if grid is not None:
        return grid
    assert cell_m is not None
    check_positive(cell_m, "cell_m", MapError)
    west, south, east, north = (float(edge) for edge in zones.table.to_crs("EPSG:4326").total_bounds)
    target = None if crs is None else as_crs(crs)
    return CellGrid.from_bounds((west, south, east, north), cell_m=cell_m, crs=target)


def _check_inputs(method: str, raster: object, known: object, groups: object) -> None:
    if method not in METHODS:
        raise MapError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    needs_raster = method in ("proportional", "settlement")
    if needs_raster != (raster is not None):
        what = "needs a raster" if needs_raster else "uses no raster"
        raise MapError(f"the method {method} {what}; give one for proportional and settlement, and for no other.")
    if (method == "learned") != (known is not None):
        what = "needs covariates" if method == "learned" else "uses no covariates"
        raise MapError(f"the method {method} {what}; give them for learned, and for no other.")
    if groups is not None and method != "learned":
        raise MapError(f"the method {method} uses no groups of zones; they are for learned.")


def _share_of(water: str | Path | gpd.GeoDataFrame, grid: CellGrid) -> Floats:
    """Share (height, width) of each cell that some polygons cover."""
    shapes = water
    if not isinstance(shapes, gpd.GeoDataFrame):
        shapes = read_vector(shapes, "water")
    if shapes.crs is None:
        raise MapError("the polygons of water have no CRS; set it, for example water.set_crs('EPSG:4326').")
    whole = gpd.GeoSeries([shapes.geometry.make_valid().union_all()], crs=shapes.crs)
    covered = np.asarray(fractions_of(whole, grid).sum(axis=0)).ravel()
    share: Floats = np.clip(covered, 0.0, 1.0).reshape(grid.height, grid.width)
    return share
