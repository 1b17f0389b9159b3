from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.testing import CliRunner

from geopov.cli.features import app
from geopov.cli.features.extract import read_spec
from geopov.errors import FeatureError
from geopov.features import build, extract, read_features
from geopov.tiles import TileSet, TileSpec
from geopov.tiles import extract as extract_tiles


@pytest.fixture
def planned(tmp_path, rng):
    """Tiles of a small scene around three clusters, the last of which lies beside it."""
    path = tmp_path / "scene.tif"
    pixels = rng.integers(1, 255, (3, 80, 80), dtype=np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 80, "width": 80, "dtype": "uint8", "crs": "EPSG:32736"}
    with rasterio.open(path, "w", **profile, transform=Affine(30, 0, 500_000, 0, -30, 8_000_000)) as dataset:
        dataset.write(pixels)
    points = gpd.GeoDataFrame(
        {"cluster_id": ["a", "b", "far"]},
        geometry=gpd.points_from_xy([500_900, 501_500, 560_000], [7_999_100, 7_998_500, 7_999_000]),
        crs="EPSG:32736",
    ).to_crs("EPSG:4326")
    return extract_tiles(path, points, TileSpec(size_px=16, resolution_m=30))


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_tiles_planned_and_saved_give_the_same_features(planned, tmp_path):
    extractor = build(
        [{"name": "band_statistics"}, {"name": "squeezenet1_1", "weights": None, "engine": "eager", "input_px": 32}]
    )
    array = extract(extractor, planned)
    assert array.shape == (2, 3 * 6 + 512)
    assert [entry["cluster_id"] for entry in json.loads(array.attrs["dropped"])] == ["far"]
    assert extract(extractor, planned.save(tmp_path / "tiles")).identical(array)


def test_extract_command(planned, tmp_path):
    planned.save(tmp_path / "tiles")
    spec = tmp_path / "spec.yaml"
    spec.write_text("- name: band_mean\n- {name: band_statistics, bands: [1], windows_px: [8]}\n")
    done = invoke("extract", "--tiles", tmp_path / "tiles", "--extractor", spec, "-o", tmp_path / "f.nc")
    assert done.exit_code == 0, done.output
    assert "dropped 1: outside the scenes (far)" in done.output
    array = read_features(tmp_path / "f.nc")
    saved = TileSet.open(tmp_path / "tiles")
    assert json.loads(array.attrs.pop("scenes")) == saved.source.provenance()["scenes"]
    assert array.identical(extract(build(read_spec(str(spec))), saved))
    first = (tmp_path / "f.nc").read_bytes()
    invoke("extract", "--tiles", tmp_path / "tiles", "--extractor", spec, "-o", tmp_path / "f.nc")
    assert (tmp_path / "f.nc").read_bytes() == first


def test_nothing_is_written_when_nothing_is_valid(planned, tmp_path):
    planned.save(tmp_path / "tiles")
    spec = '{"name": "band_mean", "min_valid": 1, "windows_px": [99]}'
    done = invoke("extract", "--tiles", tmp_path / "tiles", "--extractor", spec, "-o", tmp_path / "f.nc")
    assert isinstance(done.exception, FeatureError)
    assert not (tmp_path / "f.nc").exists()


def test_list_command():
    names = invoke("list").output.split()
    assert {"band_statistics", "efficientnet_lite0", "resnet18", "convnext_tiny"} <= set(names)
    assert "vit_b_16" not in names


def test_specifications_on_the_command_line(tmp_path):
    assert read_spec("band_mean") == "band_mean"
    assert read_spec('[{"name": "band_mean"}]') == [{"name": "band_mean"}]
    with pytest.raises(FeatureError, match="no valid JSON"):
        read_spec("{name: band_mean}")
    with pytest.raises(FeatureError, match="not there"):
        read_spec(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(FeatureError, match="not readable as YAML"):
        read_spec(str(tmp_path / "bad.yaml"))
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(FeatureError, match="expected one specification or a list"):
        read_spec(str(tmp_path / "empty.yaml"))
