from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import typer
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from geopov.cli.features.points import points as points_command
from geopov.errors import FeatureError, GeopovError
from geopov.features.nightlights.blocks import deal_blocks
from geopov.features.nightlights.classes import LightsClasses
from geopov.features.nightlights.draws import _apportion, _fill
from geopov.features.nightlights.footprints import TilePlaces
from geopov.features.nightlights.lights import open_lights
from geopov.features.nightlights.sampling import sample_by_nightlights
from geopov.raster import Scene


def write(path, data, *, left=30.0, top=0.0, pixel=1 / 240, crs="EPSG:4326"):
    transform = Affine(pixel, 0, left, 0, -pixel, top)
    profile = {"count": 1, "height": data.shape[0], "width": data.shape[1], "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **profile) as file:
        file.write(data, 1)
    return path


@pytest.fixture(scope="module")
def country(tmp_path_factory):
    """A degree of dark land with towns: 240 x 240 pixels of 463 m."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:240, :240]
    light = rng.normal(0, 0.15, (240, 240))
    for _ in range(60):
        distance = np.hypot(y - rng.uniform(0, 240), x - rng.uniform(0, 240))
        light += rng.lognormal(2, 1.2) * np.exp(-((distance / rng.uniform(2, 7)) ** 2))
    return write(tmp_path_factory.mktemp("lights") / "lights.tif", light.astype("float32"))


@pytest.fixture(scope="module")
def lights(country):
    return open_lights(country)


@pytest.fixture(scope="module")
def survey():
    rng = np.random.default_rng(2)
    places = gpd.points_from_xy(rng.uniform(30, 31, 25), rng.uniform(-1, 0, 25))
    return gpd.GeoDataFrame({"cluster_id": [f"c{i}" for i in range(25)]}, geometry=places, crs="EPSG:4326")


def squares(points, side_m, crs):
    corners = TilePlaces.at(points.geometry.x, points.geometry.y, crs=crs).corners(side_m)
    return np.array([shapely.Polygon(one) for one in corners])


def test_points_hold_what_they_promise(lights):
    points = sample_by_nightlights(lights, n=900, size_px=32, resolution_m=30, seed=3)
    report = json.loads(points.attrs["nightlights"])

    assert points.crs.to_epsg() == 4326
    assert list(points.columns) == ["cluster_id", "lights", "lights_class", "split", "geometry"]
    assert points["cluster_id"].is_unique
    assert points["cluster_id"].iloc[0] == "n000001"
    classes = LightsClasses.given(report["classes"]["edges"])
    assert (classes.assign(points["lights"]) == points["lights_class"]).all()
    assert points["split"].value_counts().to_dict() == {"train": 630, "validation": 135, "test": 135}
    counts = points.groupby("split")["lights_class"].apply(lambda c: np.bincount(c, minlength=3).tolist())
    assert counts.to_dict() == report["counts"]
    # Nothing is drawn that the tile's own light does not say: the same mean, taken again.
    plane = "+proj=laea +lon_0=30.5 +lat_0=-0.5 +datum=WGS84 +units=m"
    again = lights.mean_over(TilePlaces.at(points.geometry.x, points.geometry.y, crs=plane).corners(960), crs=plane)
    np.testing.assert_allclose(again, points["lights"], atol=1e-9)


def test_classes_are_as_even_as_they_can_be(lights):
    points = sample_by_nightlights(lights, n=600, size_px=32, resolution_m=30, classes=[0.5, 5.0])
    random = sample_by_nightlights(lights, n=600, size_px=32, resolution_m=30, classes=[0.5, 5.0], stratify=False)
    report = json.loads(points.attrs["nightlights"])

    for split, total in (("train", 420), ("validation", 90), ("test", 90)):
        taken, there = np.array(report["counts"][split]), np.array(report["available"][split])
        assert taken.sum() == total
        short = taken == there
        assert taken[~short].max() - taken[~short].min() <= 1
        assert (taken[short] <= taken[~short].max()).all()
    shares = np.bincount(random["lights_class"]) / 600
    everywhere = np.sum(list(report["available"].values()), axis=0)
    assert shares == pytest.approx(everywhere / everywhere.sum(), abs=0.05)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32636", None])
def test_no_tile_of_one_split_overlaps_another(lights, crs):
    points = sample_by_nightlights(
        lights, n=1500, size_px=64, resolution_m=30, context_px=16, spacing_m=900, tiles_crs=crs, split_block_km=15
    )
    seen = squares(points, 96 * 30, crs or "EPSG:32636")
    split = points["split"].to_numpy()
    tree = shapely.STRtree(seen)

    one, other = tree.query(seen, predicate="intersects")

    assert (split[one] == split[other]).all()
    # They do overlap within a split, so that the gap is what keeps the others apart.
    assert (one != other).sum() > 1000


@pytest.mark.parametrize("buffer_km", [0.0, 4.0])
def test_tiles_keep_their_distance_from_the_survey(lights, survey, buffer_km):
    points = sample_by_nightlights(
        lights,
        n=4000,
        size_px=64,
        resolution_m=30,
        spacing_m=1500,
        away_from=survey,
        buffer_km=buffer_km,
        tiles_crs="EPSG:32636",
        stratify=False,
    )
    everywhere = sample_by_nightlights(
        lights, n=4000, size_px=64, resolution_m=30, spacing_m=1500, tiles_crs="EPSG:32636", stratify=False
    )
    tiles, near = squares(points, 1920, "EPSG:32636"), survey.to_crs("EPSG:32636").geometry.to_numpy()
    distance = shapely.distance(tiles[:, None], near[None]).min(axis=1)
    before = shapely.distance(squares(everywhere, 1920, "EPSG:32636")[:, None], near[None]).min(axis=1)
    report = json.loads(points.attrs["nightlights"])

    # 0.1%: metres of UTM are not quite those of the ground.
    assert distance.min() >= buffer_km * 1000 * 0.999
    assert distance.min() > 0
    assert before.min() <= buffer_km * 1000
    assert report["buffer_km"] == buffer_km
    assert report["n_left_out_near_survey"] == report["left_out"]["near_survey"] > 0
    # Nor is more left out than has to be.
    assert distance.min() < buffer_km * 1000 + 400


def test_the_same_seed_gives_the_same_points_and_bytes(lights, tmp_path):
    draws = [sample_by_nightlights(lights, n=300, size_px=32, resolution_m=30, seed=seed) for seed in (5, 5, 6)]
    for number, points in enumerate(draws):
        points.to_parquet(tmp_path / f"{number}.parquet")

    files = [(tmp_path / f"{number}.parquet").read_bytes() for number in range(3)]
    assert files[0] == files[1] != files[2]
    assert gpd.read_parquet(tmp_path / "0.parquet").attrs == draws[0].attrs


def test_tiles_lie_inside_an_image_and_middles_inside_a_country(lights, tmp_path):
    image = Scene.open(
        write(tmp_path / "image.tif", np.zeros((700, 900), "uint8"), left=2e5, top=9.97e6, pixel=60, crs="EPSG:32736")
    )
    land = gpd.GeoSeries([shapely.Point(30.5, -0.5).buffer(0.3)], crs="EPSG:4326")

    in_image = sample_by_nightlights(lights, n=400, size_px=32, resolution_m=60, region=image, classes="quantiles")
    in_land = sample_by_nightlights(lights, n=400, size_px=32, resolution_m=60, region=land, classes="quantiles")
    in_bounds = sample_by_nightlights(
        lights, n=400, size_px=32, resolution_m=60, region=(30.2, -0.8, 30.8, -0.2), classes="quantiles"
    )

    assert shapely.contains(shapely.box(*image.bounds), squares(in_image, 1920, image.crs)).all()
    assert shapely.contains(land.iloc[0], in_land.geometry.to_numpy()).all()
    assert shapely.contains(shapely.box(30.2, -0.8, 30.8, -0.2), squares(in_bounds, 1900, "EPSG:4326")).all()


def test_tiles_of_the_default_lattice_do_not_overlap_where_there_is_room(lights):
    points = sample_by_nightlights(lights, n=300, size_px=32, resolution_m=30)
    tiles = squares(points, 0.999 * 960, "+proj=laea +lon_0=30.5 +lat_0=-0.5 +datum=WGS84 +units=m")

    one, other = shapely.STRtree(tiles).query(tiles, predicate="intersects")
    assert (one == other).all()
    crowded = sample_by_nightlights(lights, n=3000, size_px=224, resolution_m=30)
    assert len(crowded) == 3000
    assert json.loads(crowded.attrs["nightlights"])["spacing_m"] < 224 * 30


def test_classes_are_found_on_training_alone(lights):
    points = sample_by_nightlights(lights, n=1000, size_px=32, resolution_m=30, classes="quantiles", stratify=False)
    report = json.loads(points.attrs["nightlights"])

    training, all_splits = np.array(report["available"]["train"]), np.sum(list(report["available"].values()), axis=0)
    # Equal halves of the lit there, and not exactly so elsewhere.
    assert abs(training[1] - training[2]) <= 1
    assert abs(all_splits[1] - all_splits[2]) > 1


def test_masked_flares_are_told_of(country):
    flares = gpd.GeoSeries([shapely.box(30.2, -0.4, 30.4, -0.2)], crs="EPSG:4326")

    points = sample_by_nightlights(
        open_lights(country, mask=flares, harmonise="hii"), n=300, size_px=32, resolution_m=30
    )

    report = json.loads(points.attrs["nightlights"])
    assert report["masked_places"] == 1
    # 22.3 x 22.1 km of tiles of 0.96 km.
    assert report["left_out"]["without_lights_for_the_mask"] == pytest.approx(22.26 * 22.11 / 0.96**2, rel=0.06)
    assert not points.within(shapely.box(30.205, -0.395, 30.395, -0.205)).any()
    assert report["harmonised"]
    assert report["unit"] == "DN"


def test_blocks_are_dealt_in_proportion_and_by_light():
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 300_000, (60_000, 2))
    bright = (xy[:, 0] < 60_000).astype(float) * rng.random(60_000)

    split = deal_blocks(xy, bright, block_m=15_000, gap_m=500, shares=(0.6, 0.2, 0.2), rng=rng)

    kept = split >= 0
    assert np.bincount(split[kept]) / kept.sum() == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    of_bright = np.bincount(split[kept & (bright > 0)], minlength=3)
    assert of_bright / of_bright.sum() == pytest.approx([0.6, 0.2, 0.2], abs=0.07)
    # Points nearer than the gap along an axis, so by the square root of two at least, are of one split.
    for one in range(3):
        others = xy[kept & (split != one)]
        assert cKDTree(others).query(xy[split == one], p=np.inf)[0].min() > 500


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_quotas_are_full_and_even(sizes, wanted):
    quota = _fill(sizes, wanted)

    assert quota.sum() == min(wanted, sum(sizes))
    assert (quota <= sizes).all()
    open_ = quota < np.array(sizes)
    if open_.any():
        assert quota[open_].max() - quota[open_].min() <= 1
        assert (quota <= quota[open_].min() + 1).all()


@given(st.integers(1, 10_000), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_shares_add_up(n, weights):
    shares = np.array(weights) / sum(weights)
    whole = _apportion(n, shares)

    assert whole.sum() == n
    assert (np.abs(whole - n * shares) < 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"size_px": 2.5}, "size_px is 2.5"),
        ({"resolution_m": -1}, "resolution_m"),
        ({"buffer_km": -1.0}, "buffer_km"),
        ({"shares": (0.5, 0.5, 0.5)}, "sum of 1"),
        ({"split_block_km": 1.0}, "nothing but the gap"),
        ({"split_block_km": 1e5}, "too few for 3 splits"),
        ({"classes": "otsu"}, "otsu"),
        ({"classes": [1e6]}, "training has no tile of the class 1e"),
        ({"region": (31, 0, 30, 1)}, "west < east"),
        ({"region": (10, 10, 11, 11)}, "no valid pixels"),
        ({"region": (-100, -50, 100, 50)}, "more than 70 degrees"),
        ({"size_px": 5000}, "do not fit into the region"),
        ({"spacing_m": 0}, "spacing_m"),
        ({"min_valid": 2}, "min_valid"),
    ],
)
def test_bad_input_is_named(lights, arguments, message):
    with pytest.raises(FeatureError, match=message):
        sample_by_nightlights(lights, **{"n": 100, "size_px": 32, "resolution_m": 30, **arguments})


def test_a_survey_everywhere_leaves_nothing(lights, survey):
    with pytest.raises(FeatureError, match="survey is everywhere"):
        sample_by_nightlights(lights, n=10, size_px=32, resolution_m=30, away_from=survey, buffer_km=100)
    bare = survey.set_crs(None, allow_override=True)
    with pytest.raises(FeatureError, match="no CRS"):
        sample_by_nightlights(lights, n=10, size_px=32, resolution_m=30, away_from=bare)


def test_the_command_writes_points_and_says_how_many(country, survey, tmp_path):
    survey.to_parquet(tmp_path / "clusters.parquet")
    app = typer.Typer()
    app.command()(points_command)
    arguments = ["--lights", str(country), "--size-px", "32", "--resolution-m", "30", "-n", "300"]
    arguments += ["--away-from", str(tmp_path / "clusters.parquet"), "--buffer-km", "3", "--classes", "0.5,5"]

    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "points.parquet")])

    assert result.exit_code == 0, result.output
    table = gpd.read_parquet(tmp_path / "points.parquet")
    assert len(table) == 300
    assert json.loads(table.attrs["nightlights"])["buffer_km"] == 3
    assert "300 of 300 points" in result.output
    assert "class 2, 5 and above nW/cm²/sr: train" in result.output
    assert "left out near survey" in result.output
    wrong = CliRunner().invoke(app, [*arguments, "--classes", "many", "-o", str(tmp_path / "p.parquet")])
    assert isinstance(wrong.exception, GeopovError)
