from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from geopov.grid import CellGrid
from geopov.raster.write import write_cog

QGIS_PYTHON = "/usr/bin/python3"


class Field:
    """A predictor with three values a cell: its longitude, its latitude, and their product."""

    band_names = ("lon", "lat", "product")
    units = ("degrees", "degrees", "degrees²")
    description = "Where the cell is"

    def __call__(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return np.stack([lon, lat, lon * lat]).astype("float32")


@pytest.fixture
def grid() -> CellGrid:
    """12 columns and 9 rows of 1 km south-east of Pokhara, Nepal."""
    return CellGrid(CRS.from_epsg(32645), Affine(1000, 0, 200_000, 0, -1000, 3_120_000), 12, 9)


@pytest.fixture
def field() -> Field:
    return Field()


@pytest.fixture
def make_map(tmp_path):
    """Write bands of a (height, width) map of Nepal's south; keyword values override those of write_cog."""

    def write(bands: dict[str, np.ndarray], name: str = "map.tif", **options) -> Path:
        values = np.stack(list(bands.values())).astype("float32")
        place = {"crs": "EPSG:32645", "transform": Affine(1000, 0, 200_000, 0, -1000, 3_120_000)}
        size = {"height": values.shape[1], "width": values.shape[2]}
        return write_cog(tmp_path / name, [(0, values)], band_names=list(bands), **(place | size | options))

    return write


@pytest.fixture
def density(make_map):
    """A map of log density with interval and support, a third of it nodata."""

    def write(height: int = 60, width: int = 90, **options) -> Path:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:height, :width]
        mean = 2 + 7 * x / width + rng.normal(0, 0.3, (height, width))
        mean[: height // 3, : width // 2] = np.nan
        half = 0.4 + y / height
        support = np.where(np.isnan(mean), np.nan, (x > width / 4).astype(float))
        tags = {"style": "log_density", "title": "Density", "source": "A census", "year": "2021", "interval": "90%"}
        bands = {"mean": mean, "lower": mean - half, "upper": mean + half, "in_support": support}
        return make_map(bands, **({"units": "ln(people/km²)", "tags": tags} | options))

    return write


@pytest.fixture(scope="session")
def qgis():
    """Runs a script in the Python that QGIS is installed for."""
    env = {"PATH": os.environ["PATH"], "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": "/tmp"}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [QGIS_PYTHON, *map(str, arguments)]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    if not Path(QGIS_PYTHON).exists() or run("-c", "import qgis.core").returncode:
        pytest.skip("QGIS is not installed for /usr/bin/python3: apt-get install qgis python3-qgis")
    return run
