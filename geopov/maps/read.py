"""A map on disk, as far as a picture, a style or a summary needs it: reduced, and with NaN for nodata."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError

from geopov.errors import MapError
from geopov.grid import Bounds, CellGrid, as_crs

_MAX_CELLS = 4_000_000


def read_vector(path: str | Path, what: str) -> gpd.GeoDataFrame:
    """A table with geometry: GeoParquet, or any other vector file that GDAL reads.

    Raises
    ------
    MapError
        If the file is not there or cannot be read; ``what`` says what was to be in it.
    """
    path = Path(path)
    if not path.exists():
        raise MapError(f"there is no file of {what} {path}.")
    try:
        return gpd.read_parquet(path) if path.suffix in {".parquet", ".geoparquet"} else gpd.read_file(path)
    except (ValueError, OSError, RuntimeError) as error:
        raise MapError(f"{path} is not a readable file of polygons: {error}") from error


@dataclass(frozen=True)
class RasterMap:
    """An open GeoTIFF.

    Attributes
    ----------
    path : Path
        Of the file.
    source : rasterio dataset
        Open for reading.
    """

    path: Path
    source: Any

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[RasterMap]:
        """Open a north-up raster with a CRS, and close it at the end of the block.

        Raises
        ------
        MapError
            If the file is not there, is no raster, has no CRS or is rotated.
        """
        path = Path(path)
        if not path.exists():
            raise MapError(f"there is no map {path}.")
        try:
            source = rasterio.open(path)
        except RasterioIOError as error:
            raise MapError(f"{path} is not a readable raster: {error}") from error
        with source:
            if source.crs is None:
                raise MapError(f"{path} has no CRS, so nobody knows where it lies; assign one: rio edit-info --crs.")
            transform = source.transform
            if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
                raise MapError(f"{path} is not north up; warp it first, for example with rio warp.")
            yield cls(path, source)

    @property
    def count(self) -> int:
        """Number of bands."""
        return int(self.source.count)

    @property
    def band_names(self) -> list[str]:
        """One a band; ``band 1``, ``band 2`` where the file has none."""
        return [name or f"band {band}" for band, name in enumerate(self.source.descriptions, start=1)]

    @property
    def units(self) -> list[str]:
        """One a band; empty where the file has none."""
        return [unit or "" for unit in self.source.units]

    @property
    def crs(self) -> CRS:
        """Of :attr:`bounds`."""
        return as_crs(self.source.crs)

    @property
    def crs_name(self) -> str:
        """Such as ``WGS 84 / UTM zone 45N (EPSG:32645)``."""
        authority = self.crs.to_authority()
        return f"{self.crs.name} ({':'.join(authority)})" if authority else str(self.crs.name)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north."""
        return tuple(self.source.bounds)

    @property
    def grid(self) -> CellGrid:
        """The raster's cells as a grid, to lay another map on.

        Raises
        ------
        MapError
            If they are not square cells in metres.
        """
        t = self.source.transform
        if not self.crs.is_projected or not math.isclose(t.a, -t.e, rel_tol=1e-6):
            raise MapError(
                f"{self.path} has cells of {t.a:g} x {-t.e:g} in {self.crs_name}; expected square cells in metres. "
                "Make both maps on a grid in metres, such as a UTM zone."
            )
        return CellGrid(self.crs, t, self.source.width, self.source.height)

    @property
    def tags(self) -> dict[str, str]:
        """The file's metadata."""
        return dict(self.source.tags())

    def words(self, band: int) -> dict[str, str]:
        """Title and unit of a band, as far as the file says them; the generic style takes them over."""
        return {"title": self.source.descriptions[band - 1] or "", "unit": self.units[band - 1]}

    def band_number(self, name: str) -> int | None:
        """Number (from 1) of the band called ``name``, if there is one."""
        return self.band_names.index(name) + 1 if name in self.band_names else None

    def read(self, band: int, *, max_cells: int = _MAX_CELLS) -> np.ndarray:
        """One band as float (y, x) with NaN for nodata, reduced to ``max_cells`` where it is larger.

        Measurements are averaged; bytes are taken for classes, which have no average, and thinned out.

        Raises
        ------
        MapError
            If there is no such band, or its bytes cannot be read.
        """
        if not 1 <= band <= self.count:
            raise MapError(f"{self.path} has no band {band}; it has {self.count}: {', '.join(self.band_names)}.")
        height, width = self.source.shape
        factor = max(1.0, math.sqrt(height * width / max_cells))
        shape = max(1, round(height / factor)), max(1, round(width / factor))
        how = Resampling.nearest if self.source.dtypes[band - 1] == "uint8" else Resampling.average
        try:
            values = self.source.read(band, out_shape=shape, masked=True, resampling=how)
        except RasterioIOError as error:
            raise MapError(f"{self.path} cannot be read, it may be cut short: {error}") from error
        filled: np.ndarray = values.astype(float).filled(np.nan)
        filled[~np.isfinite(filled)] = np.nan
        return filled

    def summary(self) -> dict[str, Any]:
        """Size, CRS, bounds, whether GDAL knows the file as Cloud Optimized, tags, and one dict of figures a band.

        Figures are those stored in the file, or else those of the band as :meth:`read` returns it.
        """
        return {
            "width": self.source.width,
            "height": self.source.height,
            "crs": self.crs_name,
            "bounds": self.bounds,
            "cloud_optimized": self.source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG",
            "tags": self.tags,
            "bands": [self._band_summary(band) for band in range(1, self.count + 1)],
        }

    def _band_summary(self, band: int) -> dict[str, Any]:
        named = {
            "name": self.band_names[band - 1],
            "unit": self.units[band - 1],
            "dtype": self.source.dtypes[band - 1],
            "nodata": self.source.nodatavals[band - 1],
        }
        tags = self.source.tags(band)
        keys = ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV", "VALID_PERCENT")
        if all(f"STATISTICS_{key}" in tags for key in keys):
            low, high, mean, sd, percent = (float(tags[f"STATISTICS_{key}"]) for key in keys)
            return named | {"min": low, "max": high, "mean": mean, "sd": sd, "valid": percent / 100}
        values = self.read(band)
        known = values[np.isfinite(values)]
        if known.size == 0:
            return named | dict.fromkeys(("min", "max", "mean", "sd"), math.nan) | {"valid": 0.0}
        figures = {"min": known.min(), "max": known.max(), "mean": known.mean(), "sd": known.std()}
        return named | {key: float(value) for key, value in figures.items()} | {"valid": known.size / values.size}
