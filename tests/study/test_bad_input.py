"""What users get wrong, through the command line: one red line names the thing and the remedy, with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely.geometry import Point

from geopov.cli import main

Refusal = Callable[..., str]
TILES = ["--size-px", "16", "--resolution-m", "30", "--extractor", "band_mean", "-o", "features.nc"]
FIT = [
    "--features",
    "features.nc",
    "--clusters",
    "clusters.parquet",
    "--outcome",
    "wealth",
    "--block-km",
    "4",
    "-o",
    "m",
]


@pytest.fixture
def refused(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command that must fail well; returns its message on one line."""
    monkeypatch.chdir(study_folder)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["geopov", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        message = capsys.readouterr().err
        assert stopped.value.code == 2, message
        assert "Traceback" not in message
        return " ".join(message.split())

    return run


@pytest.fixture
def done(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a command that must succeed."""
    monkeypatch.chdir(study_folder)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["geopov", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 0

    return run


def _survey(folder: Path, **columns: object) -> list[str]:
    table = pd.DataFrame({"cluster_id": ["a", "b", "c"], "lon": [120.1, 120.2, 120.3], "lat": [14.1, 14.2, 14.3]})
    table.assign(wealth=[1.0, 2.0, 3.0]).assign(**columns).to_csv(folder / "table.csv", index=False)
    return ["survey", "points", "table.csv", "--lon", "lon", "--lat", "lat", "--outcome", "wealth", "-o", "out.parquet"]


def test_longitude_and_latitude_swapped(study_folder: Path, refused: Refusal) -> None:
    command = _survey(study_folder)
    command[command.index("--lon") + 1], command[command.index("--lat") + 1] = "lat", "lon"
    assert "lat_column 'lon': swapped?" in refused(*command)
    assert "look swapped" in refused(*_survey(study_folder, lon=[14.1, 14.2, 14.3], lat=[120.1, 120.2, 120.3]))
    assert not (study_folder / "out.parquet").exists()


def test_swapped_within_range_is_seen_by_the_scene(study_folder: Path, refused: Refusal) -> None:
    table = pd.read_csv(study_folder / "clusters.csv")
    table.rename(columns={"lon": "lat", "lat": "lon"}).to_csv(study_folder / "clusters.csv", index=False)
    assert "Are longitude and latitude swapped" in refused("run", "study.yaml")


def test_metres_taken_for_degrees(study_folder: Path, refused: Refusal) -> None:
    message = refused(*_survey(study_folder, lon=[5e5, 5.1e5, 5.2e5], lat=[9e6, 9.1e6, 9.2e6]))
    assert "If they are projected coordinates, name their CRS" in message


def test_nothing_but_missing_positions(study_folder: Path, refused: Refusal) -> None:
    message = refused(*_survey(study_folder, lon=[0.0, 0.0, 0.0], lat=[0.0, 0.0, 0.0]))
    assert "(0, 0)" in message


def test_points_at_zero_do_not_reach_the_scene(study_folder: Path, refused: Refusal) -> None:
    points = gpd.GeoDataFrame({"cluster_id": ["a", "b"]}, geometry=[Point(0, 0), Point(33, -9)], crs="EPSG:4326")
    points.to_parquet(study_folder / "points.parquet")
    message = refused("features", "extract", "--scene", "scene.tif", "--points", "points.parquet", *TILES)
    assert "(0, 0)" in message
    assert "a" in message


def test_duplicate_ids(study_folder: Path, refused: Refusal) -> None:
    message = refused(*_survey(study_folder, cluster_id=["a", "a", "b"]))
    assert "stand more than once (a)" in message


def test_no_outcome_at_all(study_folder: Path, refused: Refusal) -> None:
    message = refused(*_survey(study_folder, wealth=[np.nan, np.nan, np.nan]))
    assert "no cluster is left: 3 dropped for no value of wealth" in message


def test_scene_that_meets_no_point(study_folder: Path, refused: Refusal, done: Callable[..., None]) -> None:
    done(*_survey(study_folder))
    message = refused("features", "extract", "--scene", "scene.tif", "--points", "out.parquet", *TILES)
    assert "120.1" in message or "120.2" in message
    assert not (study_folder / "features.nc").exists()


@pytest.fixture
def clusters(study_folder: Path, done: Callable[..., None]) -> Path:
    command = ["survey", "points", "clusters.csv", "--id", "cluster", "--lon", "lon", "--lat", "lat"]
    done(*command, "--outcome", "wealth", "-o", "clusters.parquet")
    return study_folder / "clusters.parquet"


def test_scene_without_crs(study_folder: Path, clusters: Path, refused: Refusal) -> None:
    with rasterio.open(study_folder / "scene.tif") as source:
        profile, pixels = source.profile, source.read()
    profile.pop("crs")
    with rasterio.open(study_folder / "bare.tif", "w", **profile) as out:
        out.write(pixels)
    message = refused("features", "extract", "--scene", "bare.tif", "--points", "clusters.parquet", *TILES)
    assert "bare.tif has no CRS" in message
    assert "gdal_edit.py -a_srs" in message


def test_truncated_scene(study_folder: Path, clusters: Path, refused: Refusal) -> None:
    whole = (study_folder / "scene.tif").read_bytes()
    (study_folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    message = refused("features", "extract", "--scene", "cut.tif", "--points", "clusters.parquet", *TILES)
    assert "cut.tif" in message
    assert not (study_folder / "features.nc").exists()


def test_band_that_is_not_there(study_folder: Path, clusters: Path, refused: Refusal) -> None:
    spec = ["--extractor", '{"name": "band_mean", "bands": [3]}']
    message = refused("features", "extract", "--scene", "scene.tif", "--points", "clusters.parquet", *TILES, *spec)
    assert "band 3 is asked for, but the tiles have 2" in message
    assert "numbers from 1 to 2" in message


@pytest.fixture
def features(study_folder: Path, clusters: Path, done: Callable[..., None]) -> Path:
    done("features", "extract", "--scene", "scene.tif", "--points", "clusters.parquet", *TILES)
    return study_folder / "features.nc"


def _rewrite(path: Path, change: Callable[[gpd.GeoDataFrame], gpd.GeoDataFrame]) -> None:
    change(gpd.read_parquet(path)).to_parquet(path)


def test_nan_outcome(clusters: Path, features: Path, refused: Refusal) -> None:
    _rewrite(clusters, lambda table: table.assign(wealth=table["wealth"].where(table.index > 3)))
    message = refused("regression", "fit", *FIT)
    assert "wealth" in message
    assert "NaN" in message


def test_one_cluster_only(clusters: Path, features: Path, refused: Refusal) -> None:
    _rewrite(clusters, lambda table: table.iloc[:1])
    assert "1 clusters into 1 blocks, too few for 5 folds" in refused("regression", "fit", *FIT)


def test_constant_features(study_folder: Path, clusters: Path, features: Path, refused: Refusal) -> None:
    from geopov.features import read_features, write_features

    array = read_features(features)
    write_features(array.copy(data=np.ones_like(array.to_numpy())), features)
    message = refused("regression", "fit", *FIT)
    assert "constant" in message


def test_debug_shows_where_it_came_from(study_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study_folder)
    monkeypatch.setattr(sys, "argv", ["geopov", "--debug", "run", "nothing.yaml"])
    with pytest.raises(Exception, match="no study file nothing"):
        main()
