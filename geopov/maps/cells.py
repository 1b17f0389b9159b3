"""A value for every cell of a grid, streamed to a Cloud Optimized GeoTIFF."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from geopov.errors import MapError
from geopov.grid import CellGrid, transform_xy
from geopov.maps.region import Region
from geopov.raster.write import OverviewResampling, write_cog


class CellPredictor(Protocol):
    """Anything that knows a value for a place: a network with a ridge behind it, another raster, a formula."""

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

    def __call__(self, lon: np.ndarray, lat: np.ndarray, /) -> np.ndarray:
        """Values (band, n) of the cells centred on ``lon``, ``lat``, each (n,) in degrees; NaN where unknown."""
        ...


def predict(
    predictor: CellPredictor,
    grid: CellGrid,
    *,
    path: str | Path,
    mask: Region | None = None,
    rows_per_strip: int = 64,
    nodata: float = math.nan,
    tags: Mapping[str, str] | None = None,
    overview_resampling: OverviewResampling = "average",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Predict every cell of a grid and write the map.

    One strip of rows is in memory at a time.

    Parameters
    ----------
    predictor : CellPredictor
        Called once a strip with the cells inside the mask.
    grid : CellGrid
        The cells.
    path : path
        Of the GeoTIFF to write.
    mask : Region, optional
        Cells whose centre lies outside become nodata; default: the whole grid.
    rows_per_strip : int
        Rows predicted at once. The file does not depend on it, only memory and speed do.
    nodata : float
        Written outside the mask and where the prediction is NaN.
    tags : mapping of str to str, optional
        Provenance, stored in the file. ``title``, ``source``, ``year``, ``style`` and ``interval`` ("90%") are used
        by :func:`geopov.maps.picture.render` where it is not told otherwise.
    overview_resampling : {"average", "nearest", "bilinear", "cubic", "mode"}
        How overviews are made.
    progress : callable, optional
        Called with (rows done, rows in all).

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If the grid has no cell, no cell lies inside the mask, the predictor returns another shape than (band, n), or
        it knows no cell at all. Nothing is written then.
    """
    if grid.width < 1 or grid.height < 1:
        raise MapError(f"the grid has {grid.width} x {grid.height} cells; expected at least one column and one row.")
    if rows_per_strip < 1:
        raise MapError(f"rows_per_strip is {rows_per_strip}; expected at least 1.")
    region = mask.to_crs(grid.crs) if mask is not None else None
    return write_cog(
        path,
        _strips(predictor, grid, region, rows_per_strip, progress),
        crs=grid.crs,
        transform=grid.transform,
        width=grid.width,
        height=grid.height,
        band_names=predictor.band_names,
        units=predictor.units,
        nodata=nodata,
        description=predictor.description,
        tags=tags,
        overview_resampling=overview_resampling,
    )


def _strips(
    predictor: CellPredictor,
    grid: CellGrid,
    region: Region | None,
    rows_per_strip: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, np.ndarray]]:
    asked = known = 0
    for first, last in grid.strips(rows_per_strip):
        x, y = grid.centres(first, last)
        inside = region.contains(x, y) if region is not None else np.ones(x.shape, dtype=bool)
        values = np.full((len(predictor.band_names), *x.shape), np.nan, dtype=np.float32)
        if inside.any():
            predicted = _call(predictor, *transform_xy(grid.crs, "EPSG:4326", x[inside], y[inside]))
            values[:, inside] = predicted
            asked += predicted.shape[1]
            known += int((~np.isnan(predicted)).any(axis=0).sum())
        yield first, values
        if progress is not None:
            progress(last, grid.height)
    if not asked:
        raise MapError(
            f"no cell centre of the grid ({grid.width} x {grid.height} cells of {grid.cell_m:g} m) lies inside the "
            "mask; choose smaller cells, or check that grid and mask are the same place."
        )
    if not known:
        raise MapError(f"the predictor knows none of the {asked} cells (all NaN); does its scene cover the grid?")


def _call(predictor: CellPredictor, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    predicted = np.asarray(predictor(lon, lat))
    expected = (len(predictor.band_names), len(lon))
    if predicted.shape != expected:
        raise MapError(
            f"the predictor returned an array of shape {predicted.shape} for {len(lon)} cells; "
            f"expected {expected}: one row a band ({', '.join(predictor.band_names)}), one column a cell."
        )
    return np.where(np.isfinite(predicted), predicted, np.nan)
