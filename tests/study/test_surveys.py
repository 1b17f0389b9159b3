"""Studies that start from survey files: DHS zips to a map, with what the survey stage knows in the report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml
from affine import Affine
from scipy.interpolate import RBFInterpolator
from shapely.geometry import box

from geopov.catalog import open_catalog
from geopov.errors import StudyError
from geopov.features import build
from geopov.maps import check_product
from geopov.raster import Scene
from geopov.regression import footprint_km
from geopov.study import describe_survey, extract_features, read_study
from geopov.study.checks import check_study
from geopov.survey import dropped, read_clusters
from geopov.testing import DhsTruth, write_dhs, write_lsms
from geopov.tiles import TileSpec

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WEST, SOUTH, EAST, NORTH = 30.0, -2.8, 31.5, -1.3
STEP = 0.01  # degrees, about a kilometre


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DhsTruth]:
    """DHS zips, and a scene of a kilometre a pixel whose brightness is the wealth of the true places, smoothed."""
    folder = tmp_path_factory.mktemp("rwanda")
    # Country files keep their distance from the edge, as a displaced point may leave the scene.
    bounds = (WEST + 0.1, SOUTH + 0.1, EAST - 0.1, NORTH - 0.1)
    truth = write_dhs(folder / "dhs", n_clusters=80, households=12, year=2014, bounds=bounds)
    x, y = np.meshgrid(np.arange(WEST, EAST, STEP) + STEP / 2, np.arange(NORTH, SOUTH, -STEP) - STEP / 2)
    places = truth.clusters[["lon", "lat"]].to_numpy()
    smooth = RBFInterpolator(places, truth.clusters["wealth"], smoothing=0.1, kernel="linear")
    wealth = smooth(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    noise = np.random.default_rng(5).normal(size=wealth.shape)
    profile = {"driver": "GTiff", "count": 2, "dtype": "float32", "crs": "EPSG:4326", "nodata": -9999}
    profile |= {
        "height": wealth.shape[0],
        "width": wealth.shape[1],
        "transform": Affine(STEP, 0, WEST, 0, -STEP, NORTH),
    }
    with rasterio.open(folder / "scene.tif", "w", **profile) as out:
        out.write(np.stack([wealth, noise]).astype("float32"))
    entry: dict[str, Any] = {"licence": "CC0-1.0", "citation": "generated for this test"}
    raster = {"kind": "raster", "crs": "EPSG:4326", "nodata": -9999, "units": "digital number", "year": 2016}
    sources = {
        "scene": {"uri": "scene.tif", "bands": ["bright", "noise"], **raster, **entry},
        "recode": {"uri": f"dhs/{truth.household_file.name}", "kind": "survey", "year": 2014, **entry},
        "gps": {"uri": f"dhs/{truth.position_file.name}", "kind": "survey", "year": 2014, **entry},
    }
    (folder / "catalog.yaml").write_text(yaml.safe_dump(sources), encoding="utf-8")
    (folder / "study.yaml").write_text(yaml.safe_dump(_study(), sort_keys=False), encoding="utf-8")
    return folder, truth


def _study(**changes: Any) -> dict[str, Any]:
    return {
        "name": "rwanda",
        "catalog": "catalog.yaml",
        "scenes": ["scene"],
        "clusters": {"kind": "dhs", "sources": ["recode", "gps"], "min_households": 5},
        "max_year_gap": 3,
        "outcome": {"column": "asset_wealth", "unit": "index", "label": "Asset wealth"},
        "tiles": {"size_px": 4, "resolution_m": 1000, "displacement_draws": 4},
        "features": [{"name": "band_statistics"}],
        "baseline": [{"name": "band_statistics", "bands": [2], "statistics": ["mean"]}],
        "regression": {"block_km": 30, "permutations": 5, "repeats": 2},
        **changes,
    }


def test_from_dhs_zips_to_a_report(folder: tuple[Path, DhsTruth], geopov: Run) -> None:
    where, _ = folder
    done = geopov("run", "study.yaml", "--work", "out", cwd=where)
    assert done.returncode == 0, done.stderr
    clusters = read_clusters(where / "out/clusters.parquet")
    assert len(clusters) == 78
    assert set(clusters["imagery_gap"]) == {2}
    assert (dropped(clusters)["source"] == "clusters").sum() == 2

    scores = json.loads((where / "out/model/scores.json").read_text())
    pooled = {row["predictor"]: row for row in scores["scores"] if row["subset"] == "all"}
    assert pooled["model"]["R2"] > 0.3
    assert scores["years"]["nightlights"] == [2016]
    assert scores["survey"]["measures"][0]["title"].startswith("Asset wealth")
    # Tiles at draws of the true place reach further than the tile itself, and training clusters keep that far away.
    assert scores["leakage"]["tile_km"] > 4 + 2 * 2
    report = (where / "out/report.html").read_text()
    for text in ("The survey", "Rank correlation with the survey", "displaced at random", "Loadings"):
        assert text in report, text


def test_a_survey_too_old_for_the_images_is_left_out(folder: tuple[Path, DhsTruth], geopov: Run) -> None:
    where, _ = folder
    (where / "near.yaml").write_text(yaml.safe_dump(_study(name="near", max_year_gap=1)), encoding="utf-8")
    done = geopov("run", "near.yaml", "--work", "near", cwd=where)
    assert done.returncode == 2
    assert "lie more than 1 years from the nearest image" in done.stderr.replace("\n", " ")
    assert not (where / "near/clusters.parquet").exists()


def test_draws_are_tiles_of_their_cluster(folder: tuple[Path, DhsTruth], tmp_path: Path) -> None:
    where, truth = folder
    table = truth.clusters[truth.clusters["located"]]
    clusters = gpd.GeoDataFrame(
        {"cluster_id": table["dhsid"], "urban": table["urban"], "displacement_km": np.where(table["urban"], 2.0, 5.0)},
        geometry=gpd.points_from_xy(table["lon_displaced"], table["lat_displaced"]),
        crs="EPSG:4326",
    )
    scene, spec = [Scene.open([where / "scene.tif"])], TileSpec(size_px=2, resolution_m=1000)
    extractor = build("band_mean")
    plain = extract_features(scene, clusters, spec, extractor)
    drawn = extract_features(scene, clusters, spec, extractor, displacement_draws=8, seed=1)
    again = extract_features(scene, clusters.iloc[::-1], spec, extractor, displacement_draws=8, seed=1)
    assert sorted(drawn["cluster_id"].to_numpy()) == sorted(plain["cluster_id"].to_numpy())
    np.testing.assert_allclose(drawn.sel(cluster=0) * 0, 0)
    order = np.argsort(again["cluster_id"].to_numpy())
    np.testing.assert_allclose(drawn.to_numpy()[np.argsort(drawn["cluster_id"].to_numpy())], again.to_numpy()[order])
    # The band of noise is averaged over tiles around, so it spreads less; the tile's own value it is not.
    assert drawn.to_numpy()[:, 1].std() < 0.7 * plain.to_numpy()[:, 1].std()
    assert footprint_km(drawn.attrs) > footprint_km(plain.attrs) + 2 * 2
    windows = extract_features(scene, clusters, spec, extractor, window_km=6, n_tiles=4, displacement_draws=3, seed=1)
    assert windows.sizes["cluster"] == len(clusters)


@pytest.fixture(scope="module")
def lsms(folder: tuple[Path, DhsTruth], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An LSMS survey on the same scene, a census by squares, and a study of poverty and of the number of poor."""
    where, here = folder[0], tmp_path_factory.mktemp("poverty")
    survey = write_lsms(here / "lsms", n_clusters=60, bounds=(WEST + 0.2, SOUTH + 0.2, EAST - 0.2, NORTH - 0.2))
    with rasterio.open(where / "scene.tif") as scene:
        lights, profile = np.exp(scene.read(1)), scene.profile | {"count": 1}
    with rasterio.open(here / "lights.tif", "w", **profile) as out:
        out.write(lights.astype("float32"), 1)
    corners = [(WEST + 0.25 * i, SOUTH + 0.25 * j) for i in range(6) for j in range(6)]
    table = {"code": [f"z{i:02d}" for i in range(36)], "district": [f"d{i // 12}" for i in range(36)]}
    squares = [box(x, y, x + 0.25, y + 0.25) for x, y in corners]
    zones = gpd.GeoDataFrame(table | {"people": np.arange(36) * 1000 + 500}, geometry=squares, crs="EPSG:4326")
    zones.to_file(here / "zones.gpkg")
    zones.dissolve("district", as_index=False)[["district", "geometry"]].to_file(here / "districts.gpkg")
    catalog = yaml.safe_load((where / "catalog.yaml").read_text())
    catalog["scene"]["uri"] = str(where / "scene.tif")
    catalog["lights"] = {**catalog["scene"], "uri": "lights.tif", "bands": ["radiance"]}
    for name, path in (("households", survey.household_file), ("places", survey.location_file)):
        catalog[name] = {**catalog["gps"], "uri": str(path)}
    for name in ("zones", "districts"):
        catalog[name] = {**catalog["gps"], "uri": f"{name}.gpkg", "kind": "vector", "crs": "EPSG:4326"}
    (here / "catalog.yaml").write_text(yaml.safe_dump(catalog), encoding="utf-8")
    files = {"households": "households", "locations": "places", "adapter": f"lsms/{survey.adapter_file.name}"}
    unit = "MWK per person per day"
    study = _study(clusters={"kind": "lsms", **files}, max_year_gap=None)
    study["outcome"] = {"column": "log_consumption_mwk", "unit": f"ln({unit})", "label": "Log consumption"}
    study["map"] = {"title": "Consumption", "source": "made up", "cell_m": 5000, "transform": "exp", "unit": unit}
    study["map"]["style"] = "consumption"
    study["population"] = {"zones": "zones", "id": "code", "count": "people", "method": "proportional"}
    study["population"]["raster"] = "lights"
    study["poverty"] = {"line": 400, "line_unit": unit, "within_sd": 0.5, "correlation_km": 20}
    study["poverty"] |= {"units": "districts", "units_id": "district"}
    return here, study


def _written(folder: Path, study: dict[str, Any]) -> Path:
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return folder / "study.yaml"


def test_from_an_lsms_survey_and_a_census_to_the_number_of_poor(lsms: tuple[Path, dict[str, Any]], geopov: Run) -> None:
    here, study = lsms
    _written(here, study)
    done = geopov("run", "study.yaml", "--work", "out", cwd=here)
    assert done.returncode == 0, done.stderr
    out = here / "out"
    for name in ("people", "consumption", "headcount", "gap", "severity", "quintile", "poor"):
        assert check_product(out / f"{name}.tif") == [], name
    districts = pd.read_csv(out / "poor.csv")
    assert districts["people"].sum() == pytest.approx((np.arange(36) * 1000 + 500).sum(), rel=1e-6)
    assert ((districts["lower"] <= districts["poor"]) & (districts["poor"] <= districts["upper"])).all()
    page = (out / "map.html").read_text()
    assert "Poverty headcount" in page
    assert "Number of poor" in page
    assert (out / "project.qgz").exists()
    again = geopov("run", "study.yaml", "--work", "out", "--dry-run", cwd=here)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_what_is_wrong_with_a_study_of_poverty(lsms: tuple[Path, dict[str, Any]]) -> None:
    here, study = lsms
    found = read_study(_written(here, study | {"outcome": study["outcome"] | {"column": "asset_wealth"}}))
    with pytest.raises(StudyError, match=r"outcome\.column is 'asset_wealth'; the clusters have .*headcount"):
        check_study(found, open_catalog(found.catalog))
    found = read_study(_written(here, study | {"population": study["population"] | {"raster": "zones"}}))
    with pytest.raises(StudyError, match="'zones': the catalogue says kind vector; expected a raster"):
        check_study(found, open_catalog(found.catalog))
    for changes, said in (
        ({"map": None}, "add a map"),
        ({"poverty": study["poverty"] | {"correlation_km": None}}, "needs poverty.correlation_km"),
        ({"population": None}, "add a population"),
        ({"poverty": study["poverty"] | {"units_id": None}}, "units and units_id go together"),
    ):
        with pytest.raises(StudyError, match=said):
            read_study(_written(here, study | changes))


def test_two_lines_are_one_too_many(tmp_path: Path) -> None:
    files = {"households": "households", "adapter": "malawi_ihs5_2019"}
    clusters = {"kind": "lsms", **files, "line_ppp_usd": 2.15, "line_national": 100}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(_study(clusters=clusters)), encoding="utf-8")
    with pytest.raises(StudyError, match="expected one poverty line"):
        read_study(tmp_path / "study.yaml")


def test_nothing_to_tell_of_a_plain_table() -> None:
    points = gpd.GeoDataFrame({"cluster_id": ["a"]}, geometry=gpd.points_from_xy([30], [-2]), crs="EPSG:4326")
    assert describe_survey(points) is None
    points["displacement_km"] = 5.0
    told = describe_survey(points, window_km=4)
    assert told is not None
    assert "smaller than the displacement of 1 of 1 clusters" in told["window"]
    assert describe_survey(points, window_km=10)["window"] is None
