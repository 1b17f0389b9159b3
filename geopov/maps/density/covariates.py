"""What a learned density model looks at: night lights at many scales, terrain, position, and the size of small areas.

Each function returns layers by name, arrays (height, width) on one grid; :func:`stack` makes one array of them. They
use nothing but rasters and outlines, so that none can carry the counts that a model is scored with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import distance_transform_edt, gaussian_filter

from geopov._validation import check_columns, check_positive
from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.zone_cells import fractions_of
from geopov.maps.density.zone_geometry import ground_area_km2

__all__ = ["focal_mean", "lights", "outline_size", "position", "stack", "terrain"]

Floats = npt.NDArray[np.float64]
Layers = dict[str, Floats]

# A Gaussian has 0.3% of its weight beyond three standard deviations.
_TRUNCATE = 3.0


def focal_mean(values: npt.ArrayLike, *, grid: CellGrid, radius_km: float) -> Floats:
    """Mean around each cell, weighted by a Gaussian.

    Parameters
    ----------
    values : array (height, width)
        NaN where unknown; those cells have no weight (normalised convolution: Knutsson and Westin 1993).
    grid : CellGrid
        Of the values.
    radius_km : float
        Standard deviation of the Gaussian.

    Returns
    -------
    array (height, width)
        NaN where nothing is known within three radii.

    Raises
    ------
    MapError
        If the shape is not the grid's or the radius is not above 0.
    """
    check_positive(radius_km, "radius_km", MapError)
    array = _on_grid(values, grid, "values")
    known = np.isfinite(array)
    sigma = radius_km * 1000 / grid.cell_m
    total = gaussian_filter(np.where(known, array, 0.0), sigma, mode="nearest", truncate=_TRUNCATE)
    if known.all():
        return np.asarray(total)
    weight = gaussian_filter(known.astype(np.float64), sigma, mode="nearest", truncate=_TRUNCATE)
    mean = np.full(array.shape, np.nan)
    np.divide(total, weight, out=mean, where=weight > 1e-9)
    return mean


def lights(
    radiance: npt.ArrayLike,
    *,
    grid: CellGrid,
    radii_km: Sequence[float] = (1, 2, 4, 8, 16, 32),
    thresholds: Sequence[float] = (0.3, 1, 3, 10),
    offset: float = 0.1,
) -> Layers:
    """Night lights of a cell and of what surrounds it.

    Parameters
    ----------
    radiance : array (height, width)
        nW/cm²/sr; below 0, which is noise around darkness, counts as 0. NaN is unknown.
    grid : CellGrid
        Of the radiance.
    radii_km : sequence of float
        Of the surroundings; those under half a cell are left out, since they would repeat the cell itself.
    thresholds : sequence of float
        Radiances; the distance to the nearest brighter cell says how far a town of that size is.
    offset : float
        Added before the logarithm: about the noise of the product.

    Returns
    -------
    dict
        ``log_light`` and its square; for each radius the mean of the logarithm (``log_light_4km``: how even), the
        logarithm of the mean (``light_4km``: how much) and the lit share (``lit_4km``); for each threshold the
        logarithm of 1 + kilometres (``to_light_3``).

    Raises
    ------
    MapError
        If the shape is not the grid's, the offset or a radius is not above 0, or nothing is known.
    """
    check_positive(offset, "offset", MapError)
    light = np.maximum(_on_grid(radiance, grid, "radiance"), 0.0)
    if not np.isfinite(light).any():
        raise MapError("no cell has a known radiance; do the raster and the grid cover the same place?")
    log_light = np.log(light + offset)
    lit = np.where(np.isfinite(light), light > 0, np.nan)
    layers = {"log_light": log_light, "log_light_squared": log_light**2}
    for radius in radii_km:
        check_positive(radius, "a radius of radii_km", MapError)
        if radius * 1000 < grid.cell_m / 2:
            continue
        layers[f"log_light_{radius:g}km"] = focal_mean(log_light, grid=grid, radius_km=radius)
        layers[f"light_{radius:g}km"] = np.log(focal_mean(light, grid=grid, radius_km=radius) + offset / 10)
        layers[f"lit_{radius:g}km"] = focal_mean(lit, grid=grid, radius_km=radius)
    for threshold in thresholds:
        layers[f"to_light_{threshold:g}"] = np.log1p(_distance_km(np.nan_to_num(light) > threshold, grid))
    return layers


def terrain(elevation_m: npt.ArrayLike, *, grid: CellGrid, smooth_km: float = 3.0) -> Layers:
    """Elevation and slope.

    Parameters
    ----------
    elevation_m : array (height, width)
        Metres above the sea; NaN is unknown.
    grid : CellGrid
        Of the elevation.
    smooth_km : float
        Radius of the mean before the slope is taken; about half the resolution of the elevation.

    Returns
    -------
    dict
        ``elevation`` (km) and its square, ``log_elevation`` (of metres, 50 at least), ``slope`` (m per km).
    """
    height = _on_grid(elevation_m, grid, "elevation_m")
    along_y, along_x = np.gradient(focal_mean(height, grid=grid, radius_km=smooth_km), grid.cell_m / 1000)
    return {
        "elevation": height / 1000,
        "elevation_squared": (height / 1000) ** 2,
        "log_elevation": np.log(np.maximum(height, 50.0)),
        "slope": np.hypot(along_x, along_y),
    }


def position(grid: CellGrid) -> Layers:
    """Where a cell is, ``east`` and ``north`` in units of 100 km from the middle: slow trends within a country."""
    x, y = grid.centres()
    return {"east": (x - x.mean()) / 1e5, "north": (y - y.mean()) / 1e5}


def outline_size(polygons: gpd.GeoDataFrame, *, grid: CellGrid, parent_column: str) -> Floats:
    """How large the small administrative areas are here, beside others of the same parent.

    Small areas are drawn to hold similar numbers of people, so that their outlines tell of density without any count.
    Train with the outlines of the zones within their parents, predict with those of finer areas within the zones: the
    difference of logarithms means the same at both levels.

    Parameters
    ----------
    polygons : GeoDataFrame
        The small areas, in any CRS.
    grid : CellGrid
        Cells that several areas share get the mean, weighted by their shares.
    parent_column : str
        Names the larger area of each.

    Returns
    -------
    array (height, width)
        Logarithm of the area in km² less its mean in the parent; NaN where there is no area.

    Raises
    ------
    MapError
        If the column is missing, the polygons have no CRS, or one of them no area.
    """
    check_columns(polygons, [parent_column], "the table of small areas", MapError)
    if polygons.crs is None:
        raise MapError("the polygons have no CRS; set it, for example polygons.set_crs('EPSG:4326').")
    area = ground_area_km2(polygons.geometry)
    if not (area > 0).all():
        raise MapError(f"{int((~(area > 0)).sum())} of {len(area)} polygons have no area; drop them.")
    log_area = pd.Series(np.log(area))
    relative = log_area - log_area.groupby(polygons[parent_column].to_numpy()).transform("mean")
    fraction = fractions_of(polygons.geometry, grid)
    cover = np.asarray(fraction.sum(axis=0)).ravel()
    size = np.full(cover.shape, np.nan)
    np.divide(fraction.T @ relative.to_numpy(), cover, out=size, where=cover > 0)
    return size.reshape(grid.height, grid.width)


def stack(layers: Mapping[str, npt.ArrayLike]) -> tuple[Floats, tuple[str, ...]]:
    """Layers of one shape as an array (k, height, width), and their names.

    Raises
    ------
    MapError
        If there is no layer, or their shapes differ.
    """
    arrays = [np.asarray(layer, dtype=np.float64) for layer in layers.values()]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 2:
        raise MapError(f"the layers have shapes {sorted(shapes)}; expected one or more of one shape (height, width).")
    return np.stack(arrays), tuple(layers)


def _distance_km(there: npt.NDArray[np.bool_], grid: CellGrid) -> Floats:
    """To the nearest true cell; the diagonal of the grid where there is none."""
    if not there.any():
        return np.full(there.shape, np.hypot(*there.shape) * grid.cell_m / 1000)
    return np.asarray(distance_transform_edt(~there)) * grid.cell_m / 1000


def _on_grid(values: npt.ArrayLike, grid: CellGrid, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (grid.height, grid.width):
        raise MapError(f"{what} has shape {array.shape}; expected ({grid.height}, {grid.width}), one value a cell.")
    return array
