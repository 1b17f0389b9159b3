"""Points to features and cells to a map: one path, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from geopov import features, regression, survey, tiles
from geopov._validation import sha256_of
from geopov.errors import MapError, StudyError
from geopov.maps import Region
from geopov.study import extract_features, open_scenes, predict_map

SPEC = tiles.TileSpec(size_px=16, resolution_m=30)


@pytest.fixture
def clusters(study_folder: Path) -> gpd.GeoDataFrame:
    return survey.read_clusters(
        study_folder / "clusters.csv", id_column="cluster", lon_column="lon", lat_column="lat", outcomes=["wealth"]
    )


def _fitted(folder: Path, clusters: gpd.GeoDataFrame, **window: float) -> regression.WelfareModel:
    scenes = open_scenes([[str(folder / "scene.tif")]])
    array = extract_features(scenes, clusters, SPEC, features.build("band_mean"), **window)
    splits = regression.SpatialBlocks(block_km=4, tile_km=regression.footprint_km(array.attrs))
    options = {"outcome": "wealth", "splits": splits, "folder": folder / "model", "random_folds": False}
    _, model = regression.evaluate(regression.WelfareRidge(), array, clusters, **options)
    return model


def test_features_tell_where_they_come_from(study_folder: Path, clusters: gpd.GeoDataFrame) -> None:
    scenes = open_scenes([[str(study_folder / "scene.tif")]])
    array = extract_features(scenes, clusters, SPEC, features.build("band_mean"), window_km=2, n_tiles=4)
    assert json.loads(array.attrs["window"]) == {"window_km": 2, "n_tiles": 4}
    assert json.loads(array.attrs["scenes"])[0]["files"][0]["sha256"] == sha256_of(study_folder / "scene.tif")
    assert array["n_tiles"].max() == 4


def test_a_logarithm_is_mapped_in_its_unit(study_folder: Path, clusters: gpd.GeoDataFrame) -> None:
    model = _fitted(study_folder, clusters)
    scenes = open_scenes([[str(study_folder / "scene.tif")]])
    for transform in ("none", "exp"):
        predict_map(scenes, model, path=study_folder / f"{transform}.tif", cell_m=3000, transform=transform, unit="x")
    with rasterio.open(study_folder / "none.tif") as plain, rasterio.open(study_folder / "exp.tif") as exponential:
        assert exponential.units[:3] == ("x", "x", "x")
        np.testing.assert_allclose(exponential.read([1, 2, 3]), np.exp(plain.read([1, 2, 3])), rtol=1e-5)
        np.testing.assert_array_equal(exponential.read(4), plain.read(4))


def test_region_must_meet_the_scene(study_folder: Path, clusters: gpd.GeoDataFrame) -> None:
    model = _fitted(study_folder, clusters)
    scenes = open_scenes([[str(study_folder / "scene.tif")]])
    with pytest.raises(MapError, match="does not meet the scenes"):
        predict_map(
            scenes, model, path=study_folder / "m.tif", cell_m=3000, region=Region.from_bounds((10.0, 50.0, 11.0, 51.0))
        )
    assert not (study_folder / "m.tif").exists()


def test_bands_are_for_files_not_for_sources(study_folder: Path) -> None:
    from geopov.catalog import open_catalog

    catalog = open_catalog(study_folder / "catalog.yaml")
    assert open_scenes([["scene"]], catalog=catalog)[0].band_names == ["bright", "noise"]
    assert open_scenes([[str(study_folder / "scene.tif")]], bands=[2])[0].band_names == ["band_2"]
    with pytest.raises(StudyError, match="the catalogue says them"):
        open_scenes([["scene"]], catalog=catalog, bands=[1])
    with pytest.raises(StudyError, match="kind raster"):
        open_scenes([["clusters"]], catalog=catalog)
