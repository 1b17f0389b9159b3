"""Cloud Optimized GeoTIFFs, written strip by strip, so that a country takes no more memory than a district."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.crs
import rasterio.shutil
import xarray as xr
from affine import Affine
from pyproj.exceptions import CRSError as ProjCRSError
from rasterio.errors import CRSError
from rasterio.windows import Window

from geopov._validation import some
from geopov.errors import RasterError
from geopov.grid import as_crs
from geopov.raster.checksums import BLOCK_PX, Checksums
from geopov.raster.disk import disk_errors, folder_beside
from geopov.raster.moments import Moments

__all__ = ["OverviewResampling", "check_cog", "write_cog", "write_dataarray"]

OverviewResampling = Literal["nearest", "average", "bilinear", "cubic", "mode"]
"""How overviews are made: ``average`` for quantities, ``nearest`` or ``mode`` for classes."""

_RESAMPLINGS: tuple[str, ...] = ("nearest", "average", "bilinear", "cubic", "mode")

# GDAL's block cache grows to 5% of the machine's memory. A map needs a few blocks: a larger cache was not faster.
_CACHE_BYTES = 8 << 20

# Uncompressed and sparse: a block that two strips share is rewritten in place, and blocks without data take no disk.
_SCRATCH = {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "sparse_ok": True}
# Bands are measurements: without this GDAL takes three or four bands of bytes for a photograph with transparency.
_SCRATCH |= {"photometric": "MINISBLACK", "alpha": "NO"}

# Deflate with a predictor is read by every GIS since the nineties; zstd is smaller, but needs a GDAL built with it.
_COG = {"driver": "COG", "compress": "DEFLATE", "predictor": "YES", "blocksize": BLOCK_PX, "bigtiff": "IF_SAFER"}


def write_cog(
    path: str | Path,
    strips: Iterable[tuple[int, np.ndarray]],
    *,
    crs: Any,
    transform: Affine,
    width: int,
    height: int,
    band_names: Sequence[str],
    dtype: str = "float32",
    nodata: float | None = math.nan,
    units: str | Sequence[str] = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
    overview_resampling: OverviewResampling = "average",
) -> Path:
    """Write a Cloud Optimized GeoTIFF from strips of rows.

    The strips go to an uncompressed file beside ``path``, which GDAL's COG driver then compresses with its overviews;
    the result is read back, and takes its name only when it is whole. Equal input gives equal bytes, however it is cut
    into strips. Memory does not grow with the raster, except for the width of the strips.

    Parameters
    ----------
    path : path
        Of the file to write; replaced if it exists.
    strips : iterable of (first_row, array (band, rows, width))
        North to south, without gap or overlap. NaN in a band of floats becomes ``nodata``.
    crs : CRS
        Of ``transform``: an EPSG code, WKT, a pyproj or a rasterio CRS.
    transform : Affine
        From (column, row) to x, y; of the upper left corner of the upper left cell.
    width, height : int
        Columns and rows of the whole raster.
    band_names : sequence of str
        One name a band, no two equal.
    dtype : str
        Of the file.
    nodata : float, optional
        The value that means "no data"; None if every cell has data.
    units : str or sequence of str
        One unit for all bands, or one a band.
    description : str
        One line on what the raster shows.
    tags : mapping of str to str, optional
        Provenance, stored as the file's metadata.
    overview_resampling : {"average", "nearest", "bilinear", "cubic", "mode"}
        How overviews are made.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    RasterError
        If rows are missing, repeated or of the wrong shape, names, units, nodata and dtype do not fit together, or the
        disk does not take the file. What was at ``path`` before is still there then.
    """
    path = Path(path)
    check_cog(
        crs=crs,
        transform=transform,
        width=width,
        height=height,
        band_names=band_names,
        dtype=dtype,
        nodata=nodata,
        units=units,
        overview_resampling=overview_resampling,
    )
    profile = _profile(crs, transform, width, height, len(band_names), dtype, nodata)
    with rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_CACHEMAX=_CACHE_BYTES), folder_beside(path) as folder:
        scratch, whole = folder / "strips.tif", folder / path.name
        with disk_errors(path):
            target = rasterio.open(scratch, "w", **profile)
        try:
            moments, checksums = _write_strips(target, strips, path)
            target.descriptions = tuple(band_names)
            target.units = _units(units, band_names)
            target.update_tags(AREA_OR_POINT="Area", **(tags or {}))
            if description:
                target.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
            for band, moment in enumerate(moments, start=1):
                target.update_tags(band, **moment.tags(width * height))
        finally:
            with disk_errors(path):
                target.close()
        with disk_errors(path):
            rasterio.shutil.copy(scratch, whole, overview_resampling=overview_resampling, **_COG)
            # GDAL does not tell of every write that fails, and network disks tell of theirs when asked to be done.
            if not checksums.match(whole):
                raise OSError("what was written cannot be read back")
            with whole.open("rb") as stream:
                os.fsync(stream.fileno())
            whole.replace(path)
    return path


def check_cog(
    *,
    crs: Any,
    transform: Affine,
    width: int,
    height: int,
    band_names: Sequence[str],
    dtype: str = "float32",
    nodata: float | None = math.nan,
    units: str | Sequence[str] = "",
    overview_resampling: str = "average",
) -> None:
    """Check the arguments of :func:`write_cog` before hours are spent on its strips.

    Raises
    ------
    RasterError
        If names, units, nodata and dtype do not fit together, or there is no CRS.
    """
    _profile(crs, transform, width, height, len(band_names), dtype, nodata)
    _check_bands(band_names, _units(units, band_names))
    if overview_resampling not in _RESAMPLINGS:
        raise RasterError(f"overview_resampling is {overview_resampling!r}; expected one of {', '.join(_RESAMPLINGS)}.")


def write_dataarray(path: str | Path, raster: xr.DataArray, *, crs: Any = None, **options: Any) -> Path:
    """Write a raster that is in memory as a Cloud Optimized GeoTIFF.

    Parameters
    ----------
    path : path
        Of the file to write.
    raster : DataArray (band, y, x)
        Coordinates: ``band`` the band names, ``y`` and ``x`` the cell centres, evenly spaced, north to south and west
        to east. Attributes ``crs``, ``nodata`` and ``units`` are used where present.
    crs : CRS, optional
        Overrides ``raster.attrs["crs"]``.
    **options
        As of :func:`write_cog`.

    Raises
    ------
    RasterError
        If dimensions, coordinates or CRS are not as described.
    """
    if raster.dims != ("band", "y", "x"):
        raise RasterError(f"the raster's dimensions are {raster.dims}; expected ('band', 'y', 'x').")
    crs = raster.attrs.get("crs") if crs is None else crs
    x, step_x = _even_spacing(raster, "x")
    y, step_y = _even_spacing(raster, "y")
    if step_x < 0 or step_y > 0:
        raise RasterError("the raster is not north up; sort it first: raster.sortby('x').sortby('y', ascending=False).")
    for name in ("nodata", "units"):
        if name in raster.attrs:
            options.setdefault(name, raster.attrs[name])
    values = raster.to_numpy()
    return write_cog(
        path,
        [(0, values)],
        crs=crs,
        transform=Affine(step_x, 0, x - step_x / 2, 0, step_y, y - step_y / 2),
        width=values.shape[2],
        height=values.shape[1],
        band_names=[str(name) for name in raster["band"].to_numpy()],
        **({"dtype": str(values.dtype)} | options),
    )


def _even_spacing(raster: xr.DataArray, dim: str) -> tuple[float, float]:
    centres = raster[dim].to_numpy().astype(float)
    if len(centres) < 2:
        raise RasterError(f"the raster has {len(centres)} cells along {dim}; two are needed to know their size.")
    step = (centres[-1] - centres[0]) / (len(centres) - 1)
    if step == 0 or not np.allclose(np.diff(centres), step, rtol=1e-4, atol=0):
        raise RasterError(f"the raster's {dim} coordinates are not evenly spaced; a GeoTIFF needs a regular grid.")
    return float(centres[0]), float(step)


def _profile(
    crs: Any, transform: Affine, width: int, height: int, count: int, dtype: str, nodata: float | None
) -> dict[str, Any]:
    if crs is None:
        raise RasterError("the raster has no CRS; name the one its transform is in, such as 'EPSG:32645'.")
    if width < 1 or height < 1:
        raise RasterError(f"the raster is {width} x {height} cells; expected at least one column and one row.")
    kind = np.dtype(dtype)
    if nodata is not None and not _fits(nodata, kind):
        raise RasterError(f"nodata is {nodata}, which {kind} cannot hold; choose a value within its range or None.")
    try:
        rasterio_crs = rasterio.crs.CRS.from_wkt(as_crs(crs).to_wkt())
    except (ProjCRSError, CRSError) as error:
        raise RasterError(f"{crs!r} is no CRS that can be written: {error}") from error
    size = {"width": width, "height": height, "count": count}
    return _SCRATCH | size | {"crs": rasterio_crs, "transform": transform, "dtype": kind.name, "nodata": nodata}


def _fits(value: float, kind: np.dtype[Any]) -> bool:
    if kind.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(kind).max)
    if kind.kind not in "iu" or not float(value).is_integer():
        return False
    return int(np.iinfo(kind).min) <= value <= int(np.iinfo(kind).max)


def _check_bands(band_names: Sequence[str], units: Sequence[str]) -> None:
    if isinstance(band_names, str) or not band_names or not all(band_names):
        raise RasterError(f"band_names are {band_names!r}; expected a list with one name a band.")
    repeated = sorted({name for name in band_names if list(band_names).count(name) > 1})
    if repeated:
        raise RasterError(f"band_names repeat {some(repeated)}; expected no two equal.")
    if len(units) != len(band_names):
        raise RasterError(f"{len(units)} units for {len(band_names)} bands; expected one unit, or one a band.")


def _units(units: str | Sequence[str], band_names: Sequence[str]) -> tuple[str, ...]:
    return (units,) * len(band_names) if isinstance(units, str) else tuple(units)


def _write_strips(target: Any, strips: Iterable[tuple[int, np.ndarray]], path: Path) -> tuple[list[Moments], Checksums]:
    """Write all strips, and return what each band's values look like and how to know them again."""
    moments, checksums = [Moments() for _ in range(target.count)], Checksums(target.count, target.width)
    kind = np.dtype(target.dtypes[0])
    next_row = 0
    for first_row, strip in strips:
        values = np.asarray(strip)
        _check_strip(values, first_row, next_row, target.count, target.height, target.width, kind)
        values, missing = _as_stored(values, kind, target.nodata)
        for band, moment in enumerate(moments):
            # Moments go row by row; a few at a time, since in doubles a strip of a wide map is much.
            for rows, unknown in zip(_few(values[band]), _few(missing[band]), strict=True):
                moment.add_rows(rows.astype(float), ~unknown & np.isfinite(rows))
        checksums.add_rows(values)
        with disk_errors(path):
            target.write(values, window=Window(0, first_row, target.width, values.shape[1]))
        next_row = first_row + values.shape[1]
    if next_row != target.height:
        raise RasterError(f"rows {next_row} to {target.height - 1} are missing: the strips ended too early.")
    return moments, checksums


def _few(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + 8] for first in range(0, len(rows), 8)]


def _as_stored(values: np.ndarray, kind: np.dtype[Any], nodata: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Values as the file will give them back, and where they are missing."""
    values = np.ascontiguousarray(values, dtype=kind)
    missing = np.isnan(values)
    if nodata is not None:
        missing |= values == kind.type(nodata)
    if missing.any():
        values = np.where(missing, kind.type(math.nan if nodata is None else nodata), values)
    # Blocks without data are not stored, and come back with the usual one of all NaN and of both zeros.
    return values + kind.type(0), missing


def _check_strip(
    values: np.ndarray, first_row: int, next_row: int, count: int, height: int, width: int, kind: np.dtype[Any]
) -> None:
    if values.ndim != 3 or values.shape[0] != count or values.shape[2] != width or values.shape[1] < 1:
        raise RasterError(f"the strip at row {first_row} has shape {values.shape}; expected ({count}, rows, {width}).")
    if first_row > next_row:
        raise RasterError(f"rows {next_row} to {first_row - 1} are missing: the next strip starts at row {first_row}.")
    if first_row < next_row:
        raise RasterError(
            f"a strip starts at row {first_row}, but rows up to {next_row - 1} are written; "
            "strips must come north to south without overlap."
        )
    if first_row + values.shape[1] > height:
        raise RasterError(f"the strip at row {first_row} ends at row {first_row + values.shape[1]} of {height}.")
    if not (np.can_cast(values.dtype, kind, "safe") or (kind.kind == "f" and values.dtype.kind in "fiu")):
        raise RasterError(
            f"the strip at row {first_row} is {values.dtype}, which {kind} cannot hold; "
            "convert it first (astype), or write another dtype."
        )
