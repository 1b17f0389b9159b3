"""A study that trains its own network, on a small made-up country: from nightlights to a map, by `geopov run`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml
from rio_cogeo.cogeo import cog_validate

from geopov.catalog import open_catalog
from geopov.errors import StudyError
from geopov.study import load_model, predict_map, prepare_study, read_study, workflow_arguments
from geopov.study.stages import open_scenes

SAMPLE = Path(__file__).parents[2] / "pipelines" / "sample.yaml"


def small_study(**changes: Any) -> dict[str, Any]:
    """``pipelines/sample.yaml`` on a smaller country, with a network that is quick to train."""
    study: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
    study["sample_world"] = {"seed": 3, "size_km": 16.0, "n_clusters": 90, "n_zones": 20}
    study["tiles"] |= {"window_km": 0.96, "n_tiles": 4}
    study["pretrain"] |= {"n_points": 400, "split_block_km": 2}
    del study["pretrain"]["buffer_km"]
    study["pretrain"]["training"]["epochs"] = 2
    study["random_convolution"]["n_features"] = 16
    study["regression"] |= {"block_km": 3, "repeats": 1, "permutations": 2}
    study["map"]["cell_m"] = 4000
    return study | changes


def write(folder: Path, study: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_from_nightlights_to_a_map(tmp_path: Path) -> None:
    work = tmp_path / "work"
    command = [sys.executable, "-m", "geopov", "run", str(write(tmp_path, small_study())), "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]

    clusters, points = gpd.read_parquet(work / "clusters.parquet"), gpd.read_parquet(work / "network/points.parquet")
    report = json.loads(points.attrs["nightlights"])
    assert report["n_left_out_near_survey"] > 0
    utm = [table.to_crs("EPSG:32736").geometry for table in (points, clusters)]
    nearest_m = utm[0].distance(utm[1].union_all()).min()
    # A training tile and a window of tiles, side by side at their nearest.
    assert nearest_m > (480 + 960) / 2
    assert {"train", "validation", "test"} == set(points["split"])

    card = json.loads((work / "network/card.json").read_text())
    assert card["bands"] == ["red", "green", "blue"]
    assert card["data"]["nightlights"]["classes"]["method"] == "mixture"
    scores = json.loads((work / "model/scores.json").read_text())
    provenance = json.loads(scores["features"]["provenance"])
    assert provenance["trained"]["sha256"] == card["sha256"]
    assert {"nightlights_ridge", "random_convolution"} <= {row["predictor"] for row in scores["scores"]}
    page = (work / "report.html").read_text()
    assert "The network" in page
    assert "It never saw the survey" in page
    assert cog_validate(work / "map.tif")[0]
    assert (work / "people.tif").is_file()

    # Run again, nothing is made anew.
    stamp = (work / "network/network.pth").stat().st_mtime_ns
    assert subprocess.run(command, capture_output=True, check=False, timeout=600).returncode == 0
    assert (work / "network/network.pth").stat().st_mtime_ns == stamp

    # The folder is moved and the model opened from elsewhere: the network is found beside it.
    moved = work.rename(tmp_path / "moved")
    model = load_model(moved / "model/model.npz")
    scenes = open_scenes([["sample_scene", "sample_lights"]], catalog=open_catalog(moved / "world/catalog.yaml"))
    again = predict_map(scenes, model, path=tmp_path / "again.tif", cell_m=4000)
    with rasterio.open(again) as a, rasterio.open(moved / "map.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())


def test_options_reach_the_command_line(tmp_path: Path) -> None:
    study = small_study()
    study["pretrain"] |= {"classes": [0.5, 5], "harmonise": "hii", "noise_floor": 0.3}
    study["pretrain"]["training"] |= {"class_weights": None, "augment": [], "input_px": None}
    prepared = prepare_study(write(tmp_path, study), work=tmp_path / "work")
    arguments = workflow_arguments(prepared)
    for words in ("--classes 0.5,5", "--harmonise hii", "--noise-floor 0.3", "--points 400"):
        assert words in arguments["points"].options
    for words in ("--no-balance", "--augment none", "--band red --band green", "--weights none", "--epochs 2"):
        assert words in arguments["network"].options
    assert "input-px" not in arguments["network"].options
    assert '"weights": "network"' in arguments["features/model"].options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain": None}, "add the section pretrain"),
        ({"features": [{"name": "band_mean"}]}, "that no features use"),
        ({"sample_world": None}, "neither catalog nor sample_world"),
        ({"catalog": "catalog.yaml"}, "both catalog and sample_world"),
        ({"regression": {"block_km": 3, "banded": True}}, "at least two extractors"),
        ({"regression": {"block_km": 3, "banded": True, "components": 2}}, "mix the blocks"),
    ],
)
def test_sections_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_study(write(tmp_path, small_study(**changes)))


def test_a_misspelt_training_option_is_named(tmp_path: Path) -> None:
    study = small_study()
    study["pretrain"]["training"]["epoch"] = 3
    with pytest.raises(StudyError, match="did you mean 'epochs'"):
        prepare_study(write(tmp_path, study), work=tmp_path / "work")
