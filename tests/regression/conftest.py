"""A simulated country: welfare varies smoothly over space, images show it through many noisy features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr


@dataclass(frozen=True)
class Country:
    clusters: gpd.GeoDataFrame
    features: xr.DataArray
    lights: xr.DataArray


def features_of(values: np.ndarray, ids: list[str], **attrs: str) -> xr.DataArray:
    names = [f"f{i}" for i in range(values.shape[1])]
    coords = {"cluster_id": ("cluster", np.asarray(ids, dtype=str)), "feature": names}
    return xr.DataArray(values, dims=("cluster", "feature"), coords=coords, attrs=attrs)


def simulate(*, n: int = 240, p: int = 40, seed: int = 0, noise: float = 0.5) -> Country:
    """Welfare is a smooth field over 300 x 300 km plus noise; features are noisy views of it, lights a bend of it."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(28.0, 31.0, n), rng.uniform(-3.0, 0.0, n)
    centres = rng.uniform([28, -3], [31, 0], size=(25, 2))
    bumps = np.exp(-((lon[:, None] - centres[:, 0]) ** 2 + (lat[:, None] - centres[:, 1]) ** 2) / (2 * 0.25**2))
    field = bumps @ rng.normal(size=25)
    field = (field - field.mean()) / field.std()
    welfare = field + noise * rng.normal(size=n)
    views = np.outer(field, rng.normal(size=p)) + rng.normal(size=(n, p)) + 10.0
    radiance = np.exp(field + 0.8 * rng.normal(size=n))
    ids = [f"c{i:04d}" for i in range(n)]
    clusters = gpd.GeoDataFrame(
        {"cluster_id": ids, "asset_wealth": welfare, "urban": field > 0.5},
        geometry=gpd.points_from_xy(lon, lat),
        crs="EPSG:4326",
    )
    lights = np.column_stack([radiance, np.log(radiance)])
    return Country(clusters, features_of(views, ids, extractor='{"name": "views"}'), features_of(lights, ids))


@pytest.fixture(scope="session")
def country() -> Country:
    return simulate()


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Country]:
    return simulate


@pytest.fixture(scope="session")
def as_features() -> Callable[..., xr.DataArray]:
    return features_of
