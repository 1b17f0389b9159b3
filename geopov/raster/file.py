"""One raster file: its resolutions, its bands and what marks a pixel as missing, learned from its header alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import rasterio
from pyproj import CRS, Transformer
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from geopov.errors import RasterError
from geopov.grid import Bounds, as_crs
from geopov.raster.remote import FailedError, ask, is_remote

__all__ = ["Header", "Level", "RasterFile", "lonlat_bounds", "read_header"]

# Native blocks are read in groups of at least this side, so that strips and small blocks do not cost a call each;
# a strip as wide as a granule stops growing at as many pixels as a block of 512 x 512 holds.
_UNIT_SIDE_PX = 256
_UNIT_PIXELS = 512 * 512


@dataclass(frozen=True)
class Level:
    """One resolution of a file: its own pixels, or an overview.

    Attributes
    ----------
    overview : int or None
        GDAL's overview number; None for the file's own pixels.
    left, top : float
        Coordinates of the outer corner of the upper left pixel, in the file's CRS.
    dx, dy : float
        Pixel size in CRS units, both positive.
    width, height : int
        In pixels.
    unit_width, unit_height : int
        Size in pixels of a read unit: the native blocks that are decoded together.
    """

    overview: int | None
    left: float
    top: float
    dx: float
    dy: float
    width: int
    height: int
    unit_width: int
    unit_height: int

    @property
    def unit_columns(self) -> int:
        """Read units across."""
        return -(-self.width // self.unit_width)

    @property
    def unit_rows(self) -> int:
        """Read units down."""
        return -(-self.height // self.unit_height)

    def window(self, unit_row: int, unit_column: int) -> tuple[int, int, int, int]:
        """First row, first column, height and width in pixels of a read unit, which ends where the level ends."""
        row, column = unit_row * self.unit_height, unit_column * self.unit_width
        return row, column, min(self.unit_height, self.height - row), min(self.unit_width, self.width - column)


@dataclass(frozen=True)
class RasterFile:
    """One file of a scene.

    Attributes
    ----------
    path : str
        Path or GDAL URI.
    crs : CRS
        Of the file.
    levels : tuple of Level
        From the file's own pixels to its coarsest overview.
    bands : tuple of int
        Numbers (from 1) of the bands that are read.
    slots : tuple of int
        Position of each of them among the scene's bands.
    nodata : tuple of float or None
        Missing value of each band.
    has_mask : bool
        Whether a mask or an alpha band says which pixels are valid.
    dtype : dtype
        Of the pixels.
    """

    path: str
    crs: CRS
    levels: tuple[Level, ...]
    bands: tuple[int, ...]
    slots: tuple[int, ...]
    nodata: tuple[float | None, ...]
    has_mask: bool
    dtype: np.dtype[Any]

    def __fspath__(self) -> str:
        return self.path

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in the file's CRS."""
        level = self.levels[0]
        return level.left, level.top - level.height * level.dy, level.left + level.width * level.dx, level.top

    @cached_property
    def lonlat_bounds(self) -> Bounds:
        """West, south, east, north in degrees, as :func:`lonlat_bounds`; kept, since every plan asks every file."""
        return lonlat_bounds(self.crs, self.bounds)

    @property
    def may_be_invalid(self) -> bool:
        """Whether a pixel inside the file can be invalid: a mask, a missing value, or a type that holds NaN."""
        return self.has_mask or self.dtype.kind == "f" or any(value is not None for value in self.nodata)


@dataclass(frozen=True)
class Header:
    """What :func:`read_header` finds: as :class:`RasterFile`, for all bands of the file.

    Attributes
    ----------
    path, crs, levels, nodata, has_mask
        As in :class:`RasterFile`.
    dtypes, labels, alpha : tuple
        Of each band: its type, its description or colour if it has one, whether it is an alpha band.
    """

    path: str
    crs: CRS
    levels: tuple[Level, ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    labels: tuple[str | None, ...]
    alpha: tuple[bool, ...]
    has_mask: bool

    def select(self, bands: Sequence[int], slots: Sequence[int], nodata: Sequence[float | None]) -> RasterFile:
        """The file with the bands (from 1) that go to ``slots`` of a scene."""
        dtype = np.result_type(*(self.dtypes[band - 1] for band in bands))
        # A file whose alpha band was asked for as data has no mask left.
        alpha_is_data = any(self.alpha[band - 1] for band in bands)
        return RasterFile(
            path=self.path,
            crs=self.crs,
            levels=self.levels,
            bands=tuple(bands),
            slots=tuple(slots),
            nodata=tuple(nodata),
            has_mask=self.has_mask and not alpha_is_data,
            dtype=dtype,
        )


def _open(path: str) -> Any:
    with warnings.catch_warnings():
        # A file without georeferencing gets an error of its own.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def lonlat_bounds(crs: CRS, bounds: Bounds) -> Bounds:
    """Bounds in degrees; west is above east where they cross the 180th meridian.

    Parameters
    ----------
    crs : CRS
        Of ``bounds``.
    bounds : west, south, east, north
    """
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    west, south, east, north = to_lonlat.transform_bounds(*bounds, densify_pts=21)
    if not np.isfinite([west, south, east, north]).all() or west < -180 or east > 180:
        # A whole-world projection has corners off the Earth, and some grids count longitude from 0 to 360.
        west, east = -180.0, 180.0
        south, north = (max(south, -90.0), min(north, 90.0)) if np.isfinite([south, north]).all() else (-90.0, 90.0)
    return float(west), float(south), float(east), float(north)


def read_header(path: str) -> Header:
    """Read what is known of a raster without its pixels.

    A file that does not open is tried once more, one in a network store twice, as :mod:`geopov.raster.remote` says.

    Raises
    ------
    RasterError
        If it cannot be read, has no CRS or does not lie straight and north up.
    """
    try:
        return ask(path, lambda: _read_header(path))
    except FailedError as error:
        advice = (
            "Is the address right, and does the store answer?"
            if is_remote(path)
            else "Is the path right and the file whole? Fetch it again."
        )
        raise RasterError(f"{path} cannot be opened as a raster ({error}). {advice}") from error


def _read_header(path: str) -> Header:
    with _open(path) as dataset:
        _check_placed(dataset, path)
        overviews = dataset.overviews(1) if dataset.count else []
        flags = dataset.mask_flag_enums[0] if dataset.count else []
        header = Header(
            path=path,
            crs=as_crs(dataset.crs),
            levels=(_level(dataset, None),),
            dtypes=tuple(dataset.dtypes),
            nodata=tuple(dataset.nodatavals),
            labels=tuple(_label(dataset, number) for number in dataset.indexes),
            alpha=tuple(interp == ColorInterp.alpha for interp in dataset.colorinterp),
            has_mask=MaskFlags.per_dataset in flags or MaskFlags.alpha in flags,
        )
    levels = list(header.levels)
    for overview in range(len(overviews)):
        with rasterio.open(path, overview_level=overview) as dataset:
            levels.append(_level(dataset, overview))
    return replace(header, levels=tuple(levels))


def _check_placed(dataset: Any, path: str) -> None:
    if dataset.count == 0:
        raise RasterError(f"{path} holds no band of its own; name one of its sub-datasets.")
    if dataset.crs is None:
        raise RasterError(f"{path} has no CRS. If you know it, write it in: gdal_edit.py -a_srs EPSG:... {path}")
    t = dataset.transform
    if t.b != 0 or t.d != 0 or t.a <= 0 or t.e >= 0:
        raise RasterError(
            f"{path} is rotated or not north up (transform {tuple(t)[:6]}); "
            f"lay it on a straight grid first: gdalwarp {path} straight.tif"
        )


def _level(dataset: Any, overview: int | None) -> Level:
    block_height, block_width = dataset.block_shapes[0]
    t = dataset.transform
    unit_width = min(block_width * -(-_UNIT_SIDE_PX // block_width), dataset.width)
    tallest = max(_UNIT_PIXELS // unit_width, 1)
    blocks = max(1, -(-min(_UNIT_SIDE_PX, tallest) // block_height))
    return Level(
        overview=overview,
        left=t.c,
        top=t.f,
        dx=t.a,
        dy=-t.e,
        width=dataset.width,
        height=dataset.height,
        unit_width=unit_width,
        unit_height=min(blocks * block_height, dataset.height),
    )


def _label(dataset: Any, number: int) -> str | None:
    description = dataset.descriptions[number - 1]
    if description:
        return str(description)
    colour = dataset.colorinterp[number - 1]
    unnamed = (ColorInterp.undefined, ColorInterp.gray, ColorInterp.palette)
    return None if colour in unnamed else str(colour.name)
