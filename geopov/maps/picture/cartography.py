"""What makes a picture a map: its scale on the ground, the direction of north, and lines of longitude and latitude."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pyproj import CRS, Transformer

from geopov.grid import Bounds, ground_scale, transform_xy

_DEGREE_STEPS = (30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
# Scale bars of maps whose scale changes more than this from edge to edge say for which latitude they are true.
_SCALE_TOLERANCE = 0.01


@dataclass(frozen=True)
class View:
    """The part of the ground that a picture shows.

    Attributes
    ----------
    crs : CRS
        Of ``bounds``.
    bounds : Bounds
        West, south, east, north.
    """

    crs: CRS
    bounds: Bounds

    @property
    def centre(self) -> tuple[float, float]:
        """The middle, x and y, in ``crs``."""
        west, south, east, north = self.bounds
        return (west + east) / 2, (south + north) / 2

    @property
    def lonlat_centre(self) -> tuple[float, float]:
        """Longitude and latitude of the middle."""
        x, y = self.centre
        lon, lat = transform_xy(self.crs, "EPSG:4326", np.array([x]), np.array([y]))
        return float(lon[0]), float(lat[0])

    @property
    def unit_aspect(self) -> float:
        """How much longer one unit of y is drawn than one of x: 1 in metres, 1 / cos(latitude) in degrees."""
        if not self.crs.is_geographic:
            return 1.0
        scale_x, scale_y = ground_scale(self.crs, *map(np.array, self.centre))
        return float(scale_y[0] / scale_x[0])

    @property
    def aspect(self) -> float:
        """Width over height as drawn."""
        west, south, east, north = self.bounds
        return (east - west) / ((north - south) * self.unit_aspect)

    @property
    def metres_wide(self) -> float:
        """Metres on the ground from the left to the right edge, along the middle."""
        scale_x, _ = ground_scale(self.crs, *map(np.array, self.centre))
        return float(scale_x[0]) * (self.bounds[2] - self.bounds[0])

    @property
    def scale_varies(self) -> bool:
        """Whether the scale bar is true only near the middle."""
        x, _ = self.centre
        _, south, _, north = self.bounds
        scale_x, _ = ground_scale(self.crs, np.array([x, x]), np.array([south, north]))
        return bool(abs(scale_x[1] / scale_x[0] - 1) > _SCALE_TOLERANCE)

    @property
    def north(self) -> float:
        """Direction of true north at the middle, in degrees clockwise from up."""
        if self.crs.is_geographic:
            return 0.0
        lon, lat = self.lonlat_centre
        x, y = transform_xy("EPSG:4326", self.crs, np.array([lon, lon]), np.array([lat - 0.01, lat + 0.01]))
        return math.degrees(math.atan2(x[1] - x[0], y[1] - y[0]))


@dataclass(frozen=True)
class GridLine:
    """A line of equal longitude or latitude: its label and its course, x and y in the view's CRS."""

    label: str
    x: np.ndarray
    y: np.ndarray


def round_length(limit: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not above ``limit``."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(m * power for m in (1, 2, 5) if m * power <= limit * (1 + 1e-9))


def format_length(metres: float) -> str:
    """Such as ``500 m`` or ``20 km``."""
    return f"{metres / 1000:,.6g} km" if metres >= 1000 else f"{metres:,.6g} m"


def format_degrees(value: float, positive: str, negative: str) -> str:
    """Such as ``27.5° S``."""
    number = f"{abs(value):.6g}°"
    if abs(value) < 1e-9:
        return number
    return f"{number} {positive if value > 0 else negative}"


def graticule(view: View, *, lines: int = 4) -> tuple[list[GridLine], list[GridLine]]:
    """Meridians and parallels through a view, at round degrees, about ``lines`` of each."""
    to_lonlat = Transformer.from_crs(view.crs, "EPSG:4326", always_xy=True)
    west, south, east, north = to_lonlat.transform_bounds(*view.bounds, densify_pts=21)
    along_lat, along_lon = np.linspace(south, north, 101), np.linspace(west, east, 101)
    meridians = [
        GridLine(format_degrees(lon, "E", "W"), *transform_xy("EPSG:4326", view.crs, np.full(101, lon), along_lat))
        for lon in _round_degrees(west, east, lines)
    ]
    parallels = [
        GridLine(format_degrees(lat, "N", "S"), *transform_xy("EPSG:4326", view.crs, along_lon, np.full(101, lat)))
        for lat in _round_degrees(south, north, lines)
    ]
    return meridians, parallels


def _round_degrees(low: float, high: float, lines: int) -> list[float]:
    step = next((step for step in _DEGREE_STEPS if (high - low) / step >= lines - 1), _DEGREE_STEPS[-1])
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(k * step, 6) for k in range(first, last + 1)]
