"""A country made up: regions, towns, wealth that varies over the ground, and clusters drawn from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyproj import Geod

_GEOD = Geod(ellps="WGS84")
Bounds = tuple[float, float, float, float]


def draw_clusters(
    rng: np.random.Generator, n: int, *, bounds: Bounds, regions: Sequence[str], urban_share: float
) -> pd.DataFrame:
    """``cluster`` 1..n, ``urban``, ``region`` (1-based), true ``lon``, ``lat``, and mean ``wealth`` of the cluster.

    Regions are strips from west to east, so that the one a point lies in can be told by its longitude.
    """
    west, south, east, north = bounds
    x, y = rng.random(n), rng.random(n)
    urban = np.zeros(n, dtype=bool)
    urban[rng.permutation(n)[: round(urban_share * n)]] = True
    # Smooth over a third of the country, so that neighbours are alike and displacement matters.
    field = 0.45 * np.sin(2 * np.pi * (x + 0.3 * y)) + 0.35 * np.cos(2 * np.pi * (y - 0.5 * x))
    wealth = -0.35 + field + 1.1 * urban + rng.normal(0, 0.25, n)
    return pd.DataFrame(
        {
            "cluster": np.arange(1, n + 1),
            "urban": urban,
            "region": np.minimum((x * len(regions)).astype(int), len(regions) - 1) + 1,
            "lon": west + (east - west) * x,
            "lat": south + (north - south) * y,
            "wealth": wealth,
        }
    )


def displace(
    rng: np.random.Generator, clusters: pd.DataFrame, *, bounds: Bounds, n_regions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Longitude, latitude and distance in km after displacement by the rule of the DHS Program.

    A random direction and a random distance up to 2 km (urban), 5 km (rural), 10 km (1% of the rural), drawn again
    until the point lies in the region it came from (Burgert et al. 2013, DHS Spatial Analysis Reports 7).
    """
    n = len(clusters)
    urban = clusters["urban"].to_numpy()
    reach_m = np.where(urban, 2000.0, np.where(rng.random(n) < 0.01, 10_000.0, 5000.0))
    lon, lat = clusters["lon"].to_numpy().copy(), clusters["lat"].to_numpy().copy()
    distance_m = np.zeros(n)
    west, south, east, north = bounds
    left = np.arange(n)
    while len(left):
        angle, step = rng.uniform(0, 360, len(left)), reach_m[left] * rng.random(len(left))
        true = clusters.iloc[left]
        lon[left], lat[left], _ = _GEOD.fwd(true["lon"].to_numpy(), true["lat"].to_numpy(), angle, step)
        distance_m[left] = step
        strip = np.floor((lon[left] - west) / (east - west) * n_regions) + 1
        inside = (strip == true["region"].to_numpy()) & (lat[left] > south) & (lat[left] < north)
        left = left[~inside]
    return lon, lat, distance_m / 1000
