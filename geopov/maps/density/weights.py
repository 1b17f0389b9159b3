"""Where people are more likely within a zone: relative densities on the grid, and rasters brought there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from pyproj import Transformer
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.raster import Scene
from geopov.raster.coverage import quad_area, quad_coverage
from geopov.raster.file import RasterFile

Floats = npt.NDArray[np.float64]

# No quantity on Earth comes near; nodata values that a file does not declare do, such as -3.4e38.
_SENTINEL = 1e30

_PIXELS_AT_ONCE = 100_000


def equal_area(grid: CellGrid) -> Floats:
    """The same density everywhere in a zone: areal weighting, the baseline that every other method must beat."""
    return np.ones((grid.height, grid.width))


def proportional(values: npt.ArrayLike, *, power: float = 1.0, offset: float = 0.0) -> Floats:
    """Density in proportion to a raster: ``(values + offset) ** power``.

    Parameters
    ----------
    values : array (height, width)
        Such as radiance; below 0, which is noise around darkness, counts as 0. NaN stays unknown.
    power : float
        Under 1 it evens out what saturates or blooms.
    offset : float
        In the unit of the values, 0 or more: what darkness is worth.

    Raises
    ------
    MapError
        If ``power`` is not above 0 or ``offset`` is negative.
    """
    if not (np.isfinite(power) and power > 0):
        raise MapError(f"power is {power}; expected a number above 0, such as 1 or 0.5.")
    if not (np.isfinite(offset) and offset >= 0):
        raise MapError(f"offset is {offset}; expected 0 or more, in the unit of the values.")
    known = np.asarray(values, dtype=np.float64)
    return np.asarray((np.maximum(known, 0.0) + offset) ** power, dtype=np.float64)


def settlement(mask: npt.ArrayLike) -> Floats:
    """The same density on all settled ground and none elsewhere, as in HRSL.

    Parameters
    ----------
    mask : array (height, width)
        True where settled, or the settled share of each cell from 0 to 1; NaN counts as not settled.

    Raises
    ------
    MapError
        If values lie outside 0 to 1.

    References
    ----------
    Tiecke, T. G. et al. (2017). Mapping the world population one building at a time. arXiv:1712.05839.
    """
    share = np.nan_to_num(np.asarray(mask, dtype=np.float64), nan=0.0)
    if ((share < 0) | (share > 1)).any():
        raise MapError(f"the settlement mask reaches from {share.min():g} to {share.max():g}; expected 0 to 1.")
    return share


METHODS: dict[str, Callable[..., Floats]] = {
    "equal_area": equal_area,
    "proportional": proportional,
    "settlement": settlement,
}
"""Functions that make weights, by name."""


def resample_to(
    grid: CellGrid,
    scene: str | Path | Scene,
    *,
    band: int | str = 1,
    how: Literal["mean", "sum"] = "mean",
    nodata: float | None = None,
    valid_min: float | None = None,
) -> Floats:
    """A raster's values on the grid, each pixel shared over the cells it covers by exact area.

    Pixels are taken as quadrilaterals with straight sides in the grid's CRS, which meet without gaps; so a sum loses
    nothing that lies inside the grid.

    Parameters
    ----------
    grid : CellGrid
        Of height x width cells.
    scene : path or Scene
        In any CRS.
    band : int or str
        Number from 1, or name.
    how : {"mean", "sum"}
        ``mean`` for densities and measurements: weighted by area over the pixels with data. ``sum`` for counts, such
        as people per pixel: split in proportion to area.
    nodata : float, optional
        Missing value that replaces what the file says. NaN, infinity and values beyond 1e30 are always missing.
    valid_min : float, optional
        Values below are missing too, such as the -999 of a file that does not say so.

    Returns
    -------
    array (height, width)
        NaN where no pixel has data.

    Raises
    ------
    MapError
        If ``how`` is unknown, the band is not there, the raster does not meet the grid, or counts are negative.
    RasterError
        If the file cannot be opened as a scene.
    """
    if how not in ("mean", "sum"):
        raise MapError(f"how is {how!r}; expected 'mean' or 'sum'.")
    source = scene if isinstance(scene, Scene) else Scene.open(scene)
    file, number, missing = _find_band(source, band)
    missing = missing if nodata is None else float(nodata)
    total, weight = np.zeros(grid.height * grid.width), np.zeros(grid.height * grid.width)
    for values, corners in _pixels(file, number, missing, grid):
        if valid_min is not None:
            values, corners = values[values >= valid_min], corners[values >= valid_min]
        if how == "sum" and (values < 0).any():
            raise MapError(
                f"{source.name} holds counts below 0 (the least is {values.min():g}); if that is its nodata value, "
                "pass it as nodata, or valid_min=0 to leave out all of them."
            )
        covered = quad_coverage(corners, height=grid.height, width=grid.width)
        amount = values / quad_area(corners) if how == "sum" else values
        total += covered.T @ amount
        weight += np.asarray(covered.sum(axis=0)).ravel()
    result = np.full(total.shape, np.nan)
    np.divide(total, 1.0 if how == "sum" else weight, out=result, where=weight > 1e-9)
    if not np.isfinite(result).any():
        raise MapError(f"{source.name} has no data inside the grid; are they the same place?")
    return result.reshape(grid.height, grid.width)


def _find_band(scene: Scene, band: int | str) -> tuple[RasterFile, int, float | None]:
    names = scene.band_names
    slot = names.index(band) if isinstance(band, str) and band in names else -1
    if not isinstance(band, str) and 1 <= band <= len(names):
        slot = band - 1
    for file in scene.files:
        if slot in file.slots:
            position = file.slots.index(slot)
            return file, file.bands[position], file.nodata[position]
    raise MapError(f"{scene.name} has no band {band!r}; it has {len(names)}: {', '.join(names)}.")


def _pixels(
    file: RasterFile, number: int, missing: float | None, grid: CellGrid
) -> Iterator[tuple[Floats, npt.NDArray[Any]]]:
    """Values (n,) and corners (n, 4, 2), in cells of the grid, of the pixels with data that may touch it."""
    level = file.levels[0]
    to_grid = Transformer.from_crs(file.crs, grid.crs, always_xy=True)
    window = _window(file, grid)
    if window.width == 0 or window.height == 0:
        return
    west, _, _, north = grid.bounds
    rows = max(1, _PIXELS_AT_ONCE // max(window.width, 1))
    with rasterio.open(file.path) as dataset:
        for top in range(window.row_off, window.row_off + window.height, rows):
            height = min(rows, window.row_off + window.height - top)
            part = Window(window.col_off, top, window.width, height)
            try:
                raw = dataset.read(number, window=part)
                valid = dataset.dataset_mask(window=part) > 0 if file.has_mask else np.ones(raw.shape, dtype=bool)
            except RasterioIOError as error:
                raise MapError(f"{file.path} cannot be read, it may be cut short: {error}") from error
            # Compared in the file's own type: a nodata value written in decimals is rounded as the pixels were.
            if missing is not None and not np.isnan(missing):
                valid &= raw != raw.dtype.type(missing)
            values = raw.astype(np.float64)
            valid &= np.isfinite(values) & (np.abs(values) < _SENTINEL)
            x, y = np.meshgrid(
                level.left + level.dx * (window.col_off + np.arange(window.width + 1)),
                level.top - level.dy * (top + np.arange(height + 1)),
            )
            x, y = to_grid.transform(x, y)
            lattice = np.stack([(np.asarray(x) - west) / grid.cell_m, (north - np.asarray(y)) / grid.cell_m], axis=-1)
            corners = np.stack([lattice[:-1, :-1], lattice[:-1, 1:], lattice[1:, 1:], lattice[1:, :-1]], axis=2)
            valid &= np.isfinite(corners).all(axis=(2, 3))
            low, high = corners.min(axis=2), corners.max(axis=2)
            valid &= (high > 0).all(axis=-1) & (low < [grid.width, grid.height]).all(axis=-1)
            if valid.any():
                yield values[valid], corners[valid]


def _window(file: RasterFile, grid: CellGrid) -> Window:
    """The pixels that can touch the grid, with one around to spare."""
    level = file.levels[0]
    to_file = Transformer.from_crs(grid.crs, file.crs, always_xy=True)
    west, south, east, north = to_file.transform_bounds(*grid.bounds, densify_pts=51)
    if not np.isfinite([west, south, east, north]).all():
        return Window(0, 0, level.width, level.height)
    first_column = int(np.clip(np.floor((west - level.left) / level.dx) - 1, 0, level.width))
    last_column = int(np.clip(np.ceil((east - level.left) / level.dx) + 1, 0, level.width))
    first_row = int(np.clip(np.floor((level.top - north) / level.dy) - 1, 0, level.height))
    last_row = int(np.clip(np.ceil((level.top - south) / level.dy) + 1, 0, level.height))
    return Window(first_column, first_row, max(last_column - first_column, 0), max(last_row - first_row, 0))
