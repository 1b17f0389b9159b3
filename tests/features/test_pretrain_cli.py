"""``geopov features pretrain`` on a small scene."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import typer
from affine import Affine
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("lightning")

from geopov.cli.features.pretrain import pretrain
from geopov.errors import FeatureError
from geopov.features.networks.card import NetworkCard
from geopov.tiles import TileSpec, extract

app = typer.Typer()
app.command()(pretrain)


@pytest.fixture
def study(tmp_path, rng):
    """A scene of 6 x 6 squares, light or dark, and a point in the middle of each."""
    light = rng.integers(0, 2, (6, 6))
    pixels = np.kron(light, np.ones((16, 16), dtype=int)) * 100 + rng.integers(1, 100, (3, 96, 96))
    profile = {"driver": "GTiff", "count": 3, "height": 96, "width": 96, "dtype": "uint8", "crs": "EPSG:32736"}
    with rasterio.open(
        tmp_path / "scene.tif", "w", **profile, transform=Affine(30, 0, 500_000, 0, -30, 8_000_000)
    ) as scene:
        scene.write(pixels.astype(np.uint8))
    rows, columns = np.divmod(np.arange(36), 6)
    points = gpd.GeoDataFrame(
        {
            "cluster_id": [f"n{i:06d}" for i in range(36)],
            "lights_class": light.ravel(),
            "split": np.select([columns < 4, columns == 4], ["train", "validation"], "test"),
        },
        geometry=gpd.points_from_xy(500_240 + 480 * columns, 7_999_760 - 480 * rows),
        crs="EPSG:32736",
    ).to_crs("EPSG:4326")
    points.to_parquet(tmp_path / "points.parquet")
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_scene_and_saved_tiles_give_the_same_network(study):
    points = study / "points.parquet"
    how = ["--backbone", "shufflenet_v2_x0_5", "--weights", "none", "--epochs", 1, "--frozen-epochs", 0, "--threads", 1]
    how += ["--batch-size", 8, "--accelerator", "cpu", "--points", points]
    cut = ["--scene", study / "scene.tif", "--size-px", 16, "--resolution-m", 30]
    first = invoke(*cut, *how, "-o", study / "a")
    assert first.exit_code == 0, first.output
    assert "best of 1 epochs: 1" in first.output
    assert "validation: loss" in first.output
    assert "test: loss" in first.output
    tiles = extract(study / "scene.tif", gpd.read_parquet(points), TileSpec(size_px=16, resolution_m=30))
    tiles.save(study / "tiles")
    second = invoke("--tiles", study / "tiles", *how, "--band", 3, "--band", 1, "-o", study / "b", "--augment", "none")
    assert second.exit_code == 0, second.output
    card = NetworkCard.read(study / "b")
    assert (card.bands, card.training["augmentation"]) == ((3, 1), [])
    third = invoke("--tiles", study / "tiles", *how, "-o", study / "c")
    assert third.exit_code == 0, third.output
    assert (study / "c" / "network.pth").read_bytes() == (study / "a" / "network.pth").read_bytes()
    scenes = NetworkCard.read(study / "a").data["scenes"]
    assert [scene["files"][0]["name"] for scene in scenes] == ["scene.tif"]
    assert str(study) not in (study / "a" / "card.json").read_text()


@pytest.mark.parametrize("arguments", [["--scene", "s.tif"], ["--tiles", "t", "--scene", "s.tif"]])
def test_what_is_missing_is_asked_for(study, arguments):
    found = invoke(*arguments, "--points", study / "points.parquet", "-o", study / "n")
    assert isinstance(found.exception, FeatureError)
    assert "--tiles" in str(found.exception)
