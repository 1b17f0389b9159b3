"""The piece of ground that a picture of clusters shows."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
from pyproj import Geod

GEOD = Geod(ellps="WGS84")
Bounds = tuple[float, float, float, float]


def view_of(points: gpd.GeoDataFrame, *, margin: float) -> Bounds:
    """Bounds in degrees with a margin, at least some kilometres wide: one point and its circle have a map too."""
    west, south, east, north = (float(value) for value in points.total_bounds)
    pad = max(margin * max(east - west, north - south), 0.07)
    return west - pad, max(south - pad, -90.0), east + pad, min(north + pad, 90.0)


def shape_of(bounds: Bounds) -> float:
    """Height over width on the ground, with the scale of the middle latitude."""
    west, south, east, north = bounds
    return float((north - south) / ((east - west) * np.cos(np.radians((south + north) / 2))))


def degrees(value: float, positive: str, negative: str, bounds: Bounds) -> str:
    """A degree as people write it, with the decimals that the extent of the map calls for."""
    west, south, east, north = bounds
    decimals = 1 if max(east - west, north - south) >= 1 else 2
    return f"{abs(value):.{decimals}f}°{positive if value >= 0 else negative}"
