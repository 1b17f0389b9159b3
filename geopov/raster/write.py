"""Cloud Optimized GeoTIFFs, written strip by strip, so that a country takes no more memory than a district."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

from geopov._validation import atomic_path, some
from geopov.errors import RasterError
from geopov.grid import as_crs
from geopov.raster.moments import Moments

__all__ = ["OverviewResampling", "write_cog", "write_dataarray"]

OverviewResampling = Literal["nearest", "average", "bilinear", "cubic", "mode"]
"""How overviews are made: ``average`` for quantities, ``nearest`` or ``mode`` for classes."""

_RESAMPLINGS: tuple[str, ...] = ("nearest", "average", "bilinear", "cubic", "mode")

# GDAL's block cache grows to 5% of the machine's memory; a map needs no more than a few rows of blocks.
_CACHE_MB = 256

# Uncompressed and sparse: a block that two strips share is rewritten in place, and blocks without data take no disk.
_SCRATCH = {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True}
# Bands are measurements: without this GDAL takes three or four bands of bytes for a photograph with transparency.
_SCRATCH |= {"photometric": "MINISBLACK", "alpha": "NO"}

# Deflate with a predictor is read by every GIS since the nineties; zstd is smaller, but needs a GDAL built with it.
_COG = {"driver": "COG", "compress": "DEFLATE", "predictor": "YES", "blocksize": 512, "bigtiff": "IF_SAFER"}


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
    the result takes its name only when it is whole. Equal input gives equal bytes, however it is cut into strips.

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
        If rows are missing, repeated or of the wrong shape, or names, units, nodata and dtype do not fit together.
    """
    path = Path(path)
    profile = _profile(crs, transform, width, height, len(band_names), dtype, nodata)
    unit_list = [units] * len(band_names) if isinstance(units, str) else list(units)
    _check_bands(band_names, unit_list)
    if overview_resampling not in _RESAMPLINGS:
        raise RasterError(f"overview_resampling is {overview_resampling!r}; expected one of {', '.join(_RESAMPLINGS)}.")
    with (
        rasterio.Env(GDAL_PAM_ENABLED=False, GDAL_CACHEMAX=_CACHE_MB),
        atomic_path(path) as partial,
        _scratch_beside(partial) as scratch,
    ):
        with rasterio.open(scratch, "w", **profile) as target:
            moments = _write_strips(target, strips)
            target.descriptions = tuple(band_names)
            target.units = tuple(unit_list)
            target.update_tags(AREA_OR_POINT="Area", **(tags or {}))
            if description:
                target.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
            for band, moment in enumerate(moments, start=1):
                target.update_tags(band, **moment.tags(width * height))
        rasterio.shutil.copy(scratch, partial, overview_resampling=overview_resampling, **_COG)
    return path


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


@contextmanager
def _scratch_beside(partial: Path) -> Iterator[Path]:
    scratch = partial.with_name(f"{partial.stem}.strips.tif")
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _write_strips(target: Any, strips: Iterable[tuple[int, np.ndarray]]) -> list[Moments]:
    """Write all strips, and return what each band's values look like."""
    moments = [Moments() for _ in range(target.count)]
    kind = np.dtype(target.dtypes[0])
    next_row = 0
    for first_row, strip in strips:
        values = np.asarray(strip)
        _check_strip(values, first_row, next_row, target.count, target.height, target.width, kind)
        values = np.ascontiguousarray(values, dtype=kind)
        missing = np.isnan(values)
        if target.nodata is not None:
            if not math.isnan(target.nodata):
                values = np.where(missing, kind.type(target.nodata), values)
            missing |= values == kind.type(target.nodata)
        for band, moment in enumerate(moments):
            moment.add_rows(values[band].astype(float), ~missing[band] & np.isfinite(values[band]))
        target.write(values, window=Window(0, first_row, target.width, values.shape[1]))
        next_row = first_row + values.shape[1]
    if next_row != target.height:
        raise RasterError(f"rows {next_row} to {target.height - 1} are missing: the strips ended too early.")
    return moments


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
