"""A small study with known truth: wealth follows the brightness of a two-band scene in UTM."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine
from pyproj import Transformer
from scipy.ndimage import gaussian_filter

RES_M, SIDE = 30.0, 900
WEST, NORTH = 500_000.0, 9_000_000.0


def write_scene(path: Path, *, seed: int = 1) -> np.ndarray:
    """A 27 km square of smooth brightness and of noise, uint8, with a nodata corner; returns the bands."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 60)
    bright = 128 + 100 * smooth / np.abs(smooth).max()
    bands = np.clip(np.stack([bright + rng.normal(0, 4, bright.shape), rng.uniform(1, 255, bright.shape)]), 1, 255)
    bands = bands.astype("uint8")
    bands[:, :60, :60] = 0
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 2, "dtype": "uint8", "nodata": 0}
    profile |= {"crs": "EPSG:32736", "transform": Affine(RES_M, 0, WEST, 0, -RES_M, NORTH)}
    with rasterio.open(path, "w", tiled=True, blockxsize=256, blockysize=256, compress="deflate", **profile) as out:
        out.write(bands)
    return bands


def write_clusters(path: Path, bands: np.ndarray, *, seed: int = 2, n: int = 120) -> None:
    """Clusters whose wealth is the mean brightness of their 16 pixels, plus noise; two of them without a position."""
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(80, SIDE - 20, n), rng.integers(80, SIDE - 20, n)
    x, y = WEST + (cols + 0.5) * RES_M, NORTH - (rows + 0.5) * RES_M
    lon, lat = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True).transform(x, y)
    wealth = [
        bands[0, r - 8 : r + 8, c - 8 : c + 8].mean() / 50 + rng.normal(0, 0.1) for r, c in zip(rows, cols, strict=True)
    ]
    table = pd.DataFrame({"cluster": [f"c{i:03d}" for i in range(n)], "lon": lon, "lat": lat, "wealth": wealth})
    table["urban"] = table["wealth"] > table["wealth"].median()
    table.loc[[3, 7], ["lon", "lat"]] = 0.0
    table.to_csv(path, index=False)


def small_study() -> dict[str, Any]:
    """The study's YAML as a dictionary, to be varied by a test."""
    return {
        "name": "small",
        "catalog": "catalog.yaml",
        "scenes": ["scene"],
        "clusters": {"kind": "points", "source": "clusters", "id": "cluster"},
        "outcome": {"column": "wealth", "unit": "index", "label": "Asset wealth"},
        "tiles": {"size_px": 16, "resolution_m": 30},
        "features": [{"name": "band_statistics", "windows_px": [8, 16]}],
        "baseline": [{"name": "band_statistics", "bands": [2], "statistics": ["mean"]}],
        "regression": {"block_km": 4},
        "map": {
            "title": "Asset wealth",
            "source": "a generated scene",
            "cell_m": 900,
            "unit": "index",
            "style": "asset_wealth",
        },
    }


@pytest.fixture(scope="session")
def study_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``study_folder`` holds, made once; to be copied and never written to."""
    folder = tmp_path_factory.mktemp("study_template")
    bands = write_scene(folder / "scene.tif")
    write_clusters(folder / "clusters.csv", bands)
    sources: dict[str, dict[str, Any]] = {
        "scene": {"uri": "scene.tif", "kind": "raster", "crs": "EPSG:32736", "nodata": 0, "units": "digital number"},
        "clusters": {"uri": "clusters.csv", "kind": "survey"},
    }
    sources["scene"]["bands"] = ["bright", "noise"]
    for source in sources.values():
        source |= {"licence": "CC0-1.0", "citation": "generated for this test", "year": 2020}
    (folder / "catalog.yaml").write_text(yaml.safe_dump(sources), encoding="utf-8")
    (folder / "study.yaml").write_text(yaml.safe_dump(small_study(), sort_keys=False), encoding="utf-8")
    return folder


@pytest.fixture
def study_folder(study_template: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with scene, clusters, catalogue and ``study.yaml``."""
    return shutil.copytree(study_template, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def geopov() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command in a process of its own."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "geopov", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)

    return run
