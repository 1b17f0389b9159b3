"""Pixels that a file should hold and does not give."""

from __future__ import annotations

from dataclasses import dataclass

from geopov.grid import Bounds
from geopov.raster.file import Level, RasterFile, lonlat_bounds

__all__ = ["Unreadable"]


@dataclass(frozen=True)
class Unreadable:
    """A read unit that could not be read; ``str()`` is a sentence that says so.

    Attributes
    ----------
    path : str
        Path or GDAL URI of the file.
    level : int or None
        GDAL's number of the overview; None for the file's own pixels.
    row, column : int
        Of the upper left pixel in that level, from 0.
    height, width : int
        In pixels of that level.
    bounds : west, south, east, north
        In the file's CRS.
    lonlat : west, south, east, north
        In degrees; west is above east across the 180th meridian.
    reason : str
        What GDAL said, and how often it was tried.
    """

    path: str
    level: int | None
    row: int
    column: int
    height: int
    width: int
    bounds: Bounds
    lonlat: Bounds
    reason: str

    def __str__(self) -> str:
        west, south, east, north = self.lonlat
        overview = "" if self.level is None else f" of overview {self.level}"
        return (
            f"{self.path}: rows {self.row} to {self.row + self.height - 1}, "
            f"columns {self.column} to {self.column + self.width - 1}{overview} "
            f"(longitude {west:.4f} to {east:.4f}, latitude {south:.4f} to {north:.4f}) "
            f"could not be read: {self.reason}."
        )

    @classmethod
    def of_unit(cls, file: RasterFile, level: Level, unit_row: int, unit_column: int, reason: str) -> Unreadable:
        """A read unit of a file.

        Parameters
        ----------
        file : RasterFile
        level : Level
            Of the file.
        unit_row, unit_column : int
            Of the unit in the level.
        reason : str
            As the attribute.
        """
        row, column, height, width = level.window(unit_row, unit_column)
        west, north = level.left + column * level.dx, level.top - row * level.dy
        bounds = west, north - height * level.dy, west + width * level.dx, north
        return cls(
            path=file.path,
            level=level.overview,
            row=row,
            column=column,
            height=height,
            width=width,
            bounds=bounds,
            lonlat=lonlat_bounds(file.crs, bounds),
            reason=reason,
        )
