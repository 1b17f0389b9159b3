from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from geopov.errors import FeatureError
from geopov.features import BandStatistics, extract, read_features, write_features


@pytest.fixture
def features(fake_tiles, rng):
    tiles = fake_tiles(rng.random((7, 2, 4, 4)), clusters=["é", "b", "b", "c", "d", "e", "e"], band_names=["x", "µ"])
    return extract(BandStatistics(), tiles)


def test_what_is_written_is_read(features, tmp_path):
    path = write_features(features, tmp_path / "deep" / "features.nc")
    assert read_features(path).identical(features)
    assert [p.name for p in path.parent.iterdir()] == ["features.nc"]


def test_equal_features_give_equal_bytes(features, tmp_path):
    first = write_features(features, tmp_path / "a.nc").read_bytes()
    write_features(features.copy(deep=True), tmp_path / "b.nc")
    assert (tmp_path / "b.nc").read_bytes() == first
    code = "import sys; from geopov.features import *; write_features(read_features(sys.argv[1]), sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.nc", tmp_path / "c.nc"], check=True)
    assert hashlib.sha256((tmp_path / "c.nc").read_bytes()).digest() == hashlib.sha256(first).digest()


def test_no_clusters_left_can_be_written_too(features, tmp_path):
    empty = features.isel(cluster=slice(0))
    assert read_features(write_features(empty, tmp_path / "e.nc")).shape == empty.shape


def test_wrong_files(features, tmp_path):
    with pytest.raises(FeatureError, match="no features file"):
        read_features(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(FeatureError, match="cannot be read as NetCDF"):
        read_features(tmp_path / "text.nc")
    xr.DataArray(np.zeros(3), dims="x", name="other").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(FeatureError, match="no variable 'features'"):
        read_features(tmp_path / "other.nc")
    whole = write_features(features, tmp_path / "whole.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatureError, match="cannot be read as NetCDF"):
        read_features(tmp_path / "cut.nc")


def test_wrong_arrays(features, tmp_path):
    with pytest.raises(FeatureError, match="expected \\('cluster', 'feature'\\)"):
        write_features(features.T, tmp_path / "t.nc")
    with pytest.raises(FeatureError, match="cluster_id"):
        write_features(features.drop_vars("cluster_id"), tmp_path / "t.nc")
    assert not list(tmp_path.iterdir())
