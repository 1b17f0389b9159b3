"""What a survey and a census make of the people: clusters with noise and displaced positions, and zones with counts."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy.spatial import cKDTree

from geopov.testing._world import Bounds, displace
from geopov.testing.sample.fields import Place
from geopov.testing.sample.people import People

__all__ = ["PUBLISHED", "draw_census", "draw_survey"]

PUBLISHED = ["cluster_id", "lon", "lat", "urban", "weight", "year", "households", "asset_wealth", "log_consumption"]
"""Columns of the table that the survey office gives out."""

_HOUSEHOLDS = 20
_URBAN_SHARE = 0.35
# Standard deviations: an asset index of one household around its wealth; what 20 households' diaries leave.
_ASSET_SD = 0.6
_CONSUMPTION_SD = 0.25


def draw_survey(
    rng: np.random.Generator, people: People, n: int, *, place: Place, bounds: Bounds, year: int
) -> pd.DataFrame:
    """Clusters of 20 neighbouring households, drawn in proportion to people, in an urban and a rural stratum.

    Parameters
    ----------
    rng : Generator
        Of all draws.
    people : People
        Those who are asked.
    n : int
        Clusters.
    place : Place
        Where the country lies.
    bounds : west, south, east, north
        In degrees; no published position lies outside.
    year : int
        Of the survey.

    Returns
    -------
    DataFrame
        The columns :data:`PUBLISHED`, and the truth: ``true_lon``, ``true_lat``, ``displaced_km``, and
        ``true_wealth``, the mean wealth of the cluster's households.
    """
    at = people.houses.astype(np.intp)
    is_urban = people.urban[at[:, 0], at[:, 1]]
    size = people.household_size.astype(float)
    lon, lat = place.lonlat(*people.houses.T)
    west, south, east, north = bounds
    inside = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    parts = []
    for urban, count in ((True, round(_URBAN_SHARE * n)), (False, n - round(_URBAN_SHARE * n))):
        stratum = np.flatnonzero((is_urban == urban) & inside)
        share = size[stratum] / size[stratum].sum()
        centres = rng.choice(stratum, count, replace=False, p=share)
        weight = size[is_urban == urban].sum() / size.sum() * n / count
        parts.append(pd.DataFrame({"house": centres, "urban": urban, "weight": weight}))
    drawn = pd.concat(parts, ignore_index=True).sample(frac=1.0, random_state=int(rng.integers(1 << 31)))
    drawn = drawn.reset_index(drop=True)

    centre = drawn["house"].to_numpy()
    _, asked = cKDTree(people.houses).query(people.houses[centre], k=_HOUSEHOLDS)
    wealth = people.house_wealth[asked]
    index = (wealth + _ASSET_SD * rng.standard_normal(wealth.shape)).mean(axis=1)
    true = wealth.mean(axis=1)
    spending = 1.1 + 0.55 * true + _CONSUMPTION_SD * rng.standard_normal(n)
    clusters = pd.DataFrame(
        {"cluster_id": [f"w{i:04d}" for i in range(1, n + 1)], "lon": lon[centre], "lat": lat[centre]}
    )
    clusters = clusters.assign(
        urban=drawn["urban"], weight=drawn["weight"].round(6), year=year, households=_HOUSEHOLDS, region=1,
        asset_wealth=index.round(5), log_consumption=spending.round(5),
        true_lon=lon[centre], true_lat=lat[centre], true_wealth=true,
    )  # fmt: skip
    moved_lon, moved_lat, distance_km = displace(rng, clusters, bounds=bounds, n_regions=1)
    clusters = clusters.assign(lon=moved_lon.round(6), lat=moved_lat.round(6), displaced_km=distance_km)
    return clusters[[*PUBLISHED, "true_lon", "true_lat", "displaced_km", "true_wealth"]]


def draw_census(rng: np.random.Generator, people: People, n_zones: int, *, place: Place) -> gpd.GeoDataFrame:
    """Zones (EPSG:4326) that tile the country, smaller where many live, with ``population`` and ``households``."""
    n = len(people.wealth)
    seeds = people.houses[rng.choice(len(people.houses), n_zones // 2, replace=False)]
    seeds = np.concatenate([seeds, rng.uniform(0, n, (n_zones - len(seeds), 2))])
    _, zone = cKDTree(seeds).query(people.houses)
    frame = shapely.box(0, 0, n, n)
    cells = shapely.voronoi_polygons(shapely.MultiPoint(seeds[:, ::-1]), extend_to=frame, ordered=True)
    shapes = shapely.intersection(np.array(list(cells.geoms)), frame)
    shapes = shapely.transform(shapes, lambda xy: np.stack(place.lonlat(xy[:, 1], xy[:, 0]), axis=1))
    counts = pd.DataFrame(
        {
            "zone_id": [f"z{i:03d}" for i in range(1, n_zones + 1)],
            "population": np.bincount(zone, weights=people.household_size, minlength=n_zones).astype(int),
            "households": np.bincount(zone, minlength=n_zones),
        }
    )
    # Seven decimals are a centimetre; neighbours share their vertices, and so still meet.
    return gpd.GeoDataFrame(counts, geometry=shapely.set_precision(shapes, 1e-7), crs="EPSG:4326")
