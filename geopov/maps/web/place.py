"""Where a page's cells and features lie in Web Mercator, and which cell of a raster lies at a place there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer

from geopov.grid import Bounds

Floats = npt.NDArray[np.float64]

_RADIUS_M = 6378137.0
# How far a place may be shifted on the page, in cells.
_LATTICE_CELLS = 0.02
_MAX_NODES = 128


def _unwrapped(lon: Floats, lon0: float) -> Floats:
    """Longitudes within 180 degrees of ``lon0``, so that a map across the date line is in one piece."""
    turned: Floats = lon0 + (lon - lon0 + 180.0) % 360.0 - 180.0
    return turned


def to_mercator(crs: Any, x: Floats, y: Floats, lon0: float) -> tuple[Floats, Floats]:
    """Web Mercator of coordinates in ``crs``, longitudes within 180 degrees of ``lon0``; NaN where there is none."""
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    lon, lat = np.where(np.isfinite(lon), lon, np.nan), np.where(np.isfinite(lat), lat, np.nan)
    return mercator(_unwrapped(lon, lon0), lat)


def mercator(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Spherical Web Mercator (EPSG:3857), whose two formulas the viewer has, too; not beyond 85 degrees."""
    clipped = np.radians(np.clip(lat, -85.0, 85.0))
    return np.radians(lon) * _RADIUS_M, np.arctanh(np.sin(clipped)) * _RADIUS_M


def cell_lattice(crs: CRS, bounds: Bounds, shape: tuple[int, int], *, lon0: float) -> tuple[list[float], int, Floats]:
    """Web Mercator frame of a raster, and column and row (2, n + 1, n + 1) at even steps over it, north to south.

    Between them the viewer interpolates linearly; n is doubled until that is right to a fiftieth of a cell, so the
    page needs no formulas of any projection but its own.
    """
    west, south, east, north = bounds
    edge_x, edge_y = np.meshgrid(np.linspace(west, east, 65), np.linspace(south, north, 65))
    mx, my = to_mercator(crs, edge_x.ravel(), edge_y.ravel(), lon0)
    frame = [float(np.nanmin(mx)), float(np.nanmin(my)), float(np.nanmax(mx)), float(np.nanmax(my))]
    nodes = 8
    while True:
        lattice, fine = (_cell_positions(crs, bounds, shape, frame, n) for n in (nodes, 2 * nodes))
        # Along the sides of its meshes, too: the errors of a conformal projection cancel in their middles.
        error = np.abs(_twice_as_fine(lattice) - fine)
        if nodes >= _MAX_NODES or not np.nanmax(error) > _LATTICE_CELLS:
            return frame, nodes, lattice
        nodes *= 2


def _twice_as_fine(lattice: Floats) -> Floats:
    """Linear interpolation halfway between the nodes."""
    rows = np.repeat(lattice, 2, axis=1)[:, :-1]
    rows[:, 1::2] = (lattice[:, :-1] + lattice[:, 1:]) / 2
    both: Floats = np.repeat(rows, 2, axis=2)[:, :, :-1]
    both[:, :, 1::2] = (rows[:, :, :-1] + rows[:, :, 1:]) / 2
    return both


def _cell_positions(crs: CRS, bounds: Bounds, shape: tuple[int, int], frame: list[float], nodes: int) -> Floats:
    mx, my = np.meshgrid(np.linspace(frame[0], frame[2], nodes + 1), np.linspace(frame[3], frame[1], nodes + 1))
    lon, lat = np.degrees(mx / _RADIUS_M), np.degrees(np.arctan(np.sinh(my / _RADIUS_M)))
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    west, south, east, north = bounds
    height, width = shape
    found: Floats = np.stack([(x - west) / (east - west) * width, (north - y) / (north - south) * height])
    found[~np.isfinite(found)] = np.nan
    return found
