from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.warp
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from geopov._validation import sha256_of
from geopov.catalog import open_catalog
from geopov.errors import SurveyError
from geopov.raster import Scene
from geopov.testing import write_sample_world
from geopov.testing.sample.fields import Place, refine, smooth_noise
from geopov.testing.sample.night import NOISE_FLOOR

SMALL = {"size_km": 16.0, "n_clusters": 80, "n_zones": 24}
FILES = ("scene.tif", "lights.tif", "clusters.csv", "zones.gpkg", "truth.tif", "catalog.yaml")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_sample_world(tmp_path_factory.mktemp("world"), seed=100, **SMALL)


@pytest.fixture(scope="module")
def truth(world):
    with rasterio.open(world.truth) as file:
        return file.read(1), file.read(2), file.transform


def test_a_seed_gives_the_same_bytes_and_another_seed_others(world, tmp_path):
    tiny = {"size_km": 8.0, "n_clusters": 20, "n_zones": 6}
    one, again, other = (
        write_sample_world(tmp_path / name, seed=int(name[0]), **tiny) for name in ("1", "1again", "2")
    )
    for name in FILES:
        bytes_ = (one.folder / name).read_bytes()
        assert (again.folder / name).read_bytes() == bytes_
        assert (other.folder / name).read_bytes() != bytes_
    assert sorted(path.name for path in world.folder.iterdir()) == sorted(FILES)


def test_the_catalogue_names_the_files_and_their_hashes(world, tmp_path):
    catalog = open_catalog(world.catalog, cache_dir=tmp_path, offline=True)
    assert list(catalog) == ["sample_scene", "sample_lights", "sample_clusters", "sample_zones", "sample_truth"]
    assert catalog["sample_scene"].open().band_names == ["blue", "green", "red", "nir"]
    assert catalog["sample_lights"].open().band_names == ["radiance"]
    for source, file in zip(
        catalog.values(), ("scene.tif", "lights.tif", "clusters.csv", "zones.gpkg", "truth.tif"), strict=True
    ):
        assert source.sha256 == (sha256_of(world.folder / file),)


def test_the_rasters_lie_on_one_another(world):
    scene, lights = Scene.open(world.scene), Scene.open(world.lights)
    with rasterio.open(scene.files[0]) as file:
        assert (file.width, file.height, file.dtypes[0], file.res) == (1600, 1600, "uint8", (10.0, 10.0))
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        assert file.read(1).min() > 0
    assert lights.bounds[0] <= west
    assert lights.bounds[1] <= south
    assert lights.bounds[2] >= east
    assert lights.bounds[3] >= north


def test_the_survey_office_gives_out_no_truth(world):
    table = pd.read_csv(world.clusters)
    columns = ["cluster_id", "lon", "lat", "urban", "weight", "year", "households", "asset_wealth", "log_consumption"]
    assert list(table) == columns
    assert len(table) == 80
    assert table["cluster_id"].is_unique
    assert table["urban"].sum() == 28
    # Each stratum counts by its people.
    assert table["weight"].sum() == pytest.approx(80, abs=1e-3)


def test_positions_are_displaced_by_the_rule(world):
    table = world.true_clusters
    _, _, metres = Geod(ellps="WGS84").inv(table["true_lon"], table["true_lat"], table["lon"], table["lat"])
    np.testing.assert_allclose(metres / 1000, table["displaced_km"], atol=2e-4)
    assert (table.loc[table["urban"], "displaced_km"] <= 2).all()
    assert (table["displaced_km"] <= 10).all()
    assert (table.loc[~table["urban"], "displaced_km"] <= 5).mean() > 0.9
    assert table["displaced_km"].mean() > 0.5


def test_the_survey_measures_wealth_with_noise(world, truth):
    table = world.true_clusters
    assert 0.9 < np.corrcoef(table["asset_wealth"], table["true_wealth"])[0, 1] < 1
    assert 0.6 < np.corrcoef(table["log_consumption"], table["true_wealth"])[0, 1] < 0.98
    # What the clusters are is what the truth shows where they truly lie.
    wealth, _, transform = truth
    x, y = Place("EPSG:32736", transform.c, transform.f, len(wealth)).cells(
        *table[["true_lon", "true_lat"]].T.to_numpy()
    )
    there = wealth[x.astype(int), y.astype(int)]
    assert np.corrcoef(there, table["true_wealth"])[0, 1] > 0.9


def test_wealth_is_standardised_over_people(truth):
    wealth, people, _ = truth
    mean = np.average(wealth, weights=people)
    assert abs(mean) < 0.1
    assert np.sqrt(np.average((wealth - mean) ** 2, weights=people)) == pytest.approx(1, abs=0.1)


def test_the_census_counts_everybody_once(world, truth):
    zones = gpd.read_file(world.zones)
    assert zones["population"].sum() == truth[1].sum()
    plane = zones.to_crs("EPSG:32736").geometry
    assert plane.area.sum() == pytest.approx(256e6, rel=1e-5)
    assert shapely.union_all(plane.to_numpy()).area == pytest.approx(256e6, rel=1e-5)
    assert zones["zone_id"].is_unique


def test_the_poor_live_in_the_dark(world, truth):
    table = world.true_clusters
    with rasterio.open(world.lights) as file:
        light = np.array([value[0] for value in file.sample(zip(table["true_lon"], table["true_lat"], strict=True))])
        noise = file.read(1)
    poor = (table["true_wealth"] < table["true_wealth"].median()).to_numpy()
    assert (light[poor] < NOISE_FLOOR).mean() > 0.6
    assert (light[~poor] < NOISE_FLOOR).mean() < 0.4
    # The sensor's noise goes below zero, as the real one's does.
    assert noise.min() < 0


def test_wealth_shows_in_the_image_where_it_is_dark(world, truth):
    wealth, people, _ = truth
    with rasterio.open(world.scene) as file:
        blue = file.read(1).astype(float)
    # The brightest pixel of a cell over its median: a new roof, whatever the soil, the shade and the haze.
    cells = blue.reshape(160, 10, 160, 10).transpose(0, 2, 1, 3).reshape(160, 160, 100)
    contrast = cells.max(axis=2) - np.median(cells, axis=2)
    settled = (people >= 4) & (people <= 12) & (wealth < 0)
    poorest = settled & (wealth < np.median(wealth[settled]))
    assert settled.sum() > 200
    assert contrast[settled & ~poorest].mean() > contrast[poorest].mean() + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size_km": 3.0}, "size_km is 3.0; expected 8 to 200"),
        ({"size_km": 10.05}, "a multiple of 0.1"),
        ({"n_clusters": 1}, "n_clusters is 1"),
        ({"n_zones": 0}, "n_zones 0"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, arguments, message):
    with pytest.raises(SurveyError, match=message):
        write_sample_world(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_refine_by_hand():
    # Centres of 2 cells lie at 1 and 3 of 4 half cells' edges; pixels at 0.5, 1.5, 2.5, 3.5.
    np.testing.assert_allclose(refine(np.array([[0.0, 1.0], [0.0, 1.0]]), factor=2), [[0, 0.25, 0.75, 1]] * 4)
    np.testing.assert_allclose(refine(np.array([[0.0, 0.0], [8.0, 8.0]]), 1, 3, factor=2), [[2.0] * 4, [6.0] * 4])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 30))
def test_refined_rows_are_those_of_the_whole(seed, first, count):
    grid = np.random.default_rng(seed).normal(size=(6, 4))
    last = min(first + count, 60)
    np.testing.assert_array_equal(refine(grid, first, last), refine(grid)[first:last])


def test_noise_is_smooth_over_the_length_asked_for():
    surface = smooth_noise(np.random.default_rng(0), 400, correlation_cells=8)
    assert surface.mean() == pytest.approx(0, abs=1e-5)
    assert surface.std() == pytest.approx(1, abs=1e-5)
    assert np.mean(surface[:, :-8] * surface[:, 8:]) == pytest.approx(np.exp(-1), abs=0.06)


def test_a_place_goes_to_degrees_and_back():
    place = Place("EPSG:32736", 480_000.0, 9_350_000.0, 100)
    row, col = np.array([0.0, 12.5, 100.0]), np.array([3.0, 50.0, 99.0])
    np.testing.assert_allclose(place.cells(*place.lonlat(row, col)), [row, col], atol=1e-6)
