"""Tiny seeded rasters and points for the tests of tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import Resampling

UTM = "EPSG:32736"
ORIGIN = (500_000.0, 9_700_000.0)


def make_raster(
    path: Path,
    data: np.ndarray,
    *,
    crs: Any = UTM,
    origin: tuple[float, float] = ORIGIN,
    pixel: float | tuple[float, float] = 10.0,
    nodata: float | None = None,
    mask: np.ndarray | None = None,
    block: int | None = 64,
    overviews: Sequence[int] = (),
    names: Sequence[str] = (),
    **profile: Any,
) -> Path:
    """Write ``data`` (band, y, x) as a GeoTIFF; ``block`` None makes strips."""
    dx, dy = pixel if isinstance(pixel, tuple) else (pixel, pixel)
    tiling = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
        path, "w", driver="GTiff", count=data.shape[0], height=data.shape[1], width=data.shape[2], dtype=data.dtype,
        crs=crs, transform=Affine(dx, 0, origin[0], 0, -dy, origin[1]), nodata=nodata, compress="deflate",
        **tiling, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(data)
        if names:
            dataset.descriptions = tuple(names)
        if mask is not None:
            dataset.write_mask(mask)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(list(overviews), Resampling.average)
    return path


def make_points(x: Any, y: Any, crs: Any = UTM) -> gpd.GeoDataFrame:
    """Points c0, c1... at coordinates in ``crs``, handed over in longitude and latitude."""
    x, y = np.broadcast_arrays(np.atleast_1d(x), np.atleast_1d(y))
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    return gpd.GeoDataFrame(
        {"cluster_id": [f"c{i}" for i in range(len(lon))]}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
    )


def noise(seed: int, bands: int, height: int, width: int, dtype: str = "uint16") -> np.ndarray:
    """Seeded values without a pattern, in the range of the type."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(100, 30, (bands, height, width)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(max(limits.min, -30_000), min(limits.max, 30_000), (bands, height, width)).astype(dtype)


@pytest.fixture
def raster(tmp_path: Path) -> Callable[..., Path]:
    """``raster(name, data, **options)``: :func:`make_raster` in the test's folder."""

    def write(name: str, data: np.ndarray, **options: Any) -> Path:
        return make_raster(tmp_path / f"{name}.tif", data, **options)

    return write


@pytest.fixture
def points() -> Callable[..., gpd.GeoDataFrame]:
    """:func:`make_points`."""
    return make_points


@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    """:func:`noise`."""
    return noise
