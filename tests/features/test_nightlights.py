from __future__ import annotations

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from geopov.errors import FeatureError, RasterError
from geopov.features.nightlights.footprints import TilePlaces
from geopov.features.nightlights.harmonise import Calibration, published_calibration
from geopov.features.nightlights.lights import open_lights
from geopov.raster import BlockReader, Scene

REAL = Path(os.environ.get("GEOPOV_REAL_DATA", "../shared/data"))


def write(path, data, *, left=30.0, top=0.0, pixel=0.004, crs="EPSG:4326", **profile):
    data = np.asarray(data)
    data = data[None] if data.ndim == 2 else data
    count, height, width = data.shape
    transform = Affine(pixel, 0, left, 0, -pixel, top)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=data.dtype,
        crs=crs,
        transform=transform,
        **profile,
    ) as file:
        file.write(data)
    return path


def boxes(*bounds, crs="EPSG:4326"):
    return gpd.GeoSeries([shapely.box(*one) for one in bounds], crs=crs)


def test_a_mean_weighs_each_pixel_by_its_exact_share(tmp_path):
    lights = open_lights(
        write(tmp_path / "l.tif", np.array([[1, 2], [3, 4]], dtype="float32"), pixel=1.0), noise_floor=0
    )

    # A quarter of each pixel; then all of the first and half of the second; then a pixel's middle.
    over = boxes((30.5, -1.5, 31.5, -0.5), (30, -1, 31.5, 0), (31.25, -1.75, 31.75, -1.25))

    assert lights.mean_over(over).tolist() == pytest.approx([2.5, (1 + 2 * 0.5) / 1.5, 4.0], abs=1e-12)


def test_corners_and_polygons_give_the_same_mean(tmp_path, rng):
    lights = open_lights(write(tmp_path / "l.tif", rng.gamma(0.3, 8, (60, 70)).astype("float32")))
    centres = np.column_stack([rng.uniform(30.02, 30.26, 40), rng.uniform(-0.22, -0.02, 40)])
    corners = TilePlaces.at(*centres.T, crs="EPSG:32636").corners(1500.0)
    turned = gpd.GeoSeries([shapely.Polygon(one) for one in corners], crs="EPSG:32636")

    # Sides are straight in the CRS of the lights for both.
    np.testing.assert_allclose(
        lights.mean_over(corners, crs="EPSG:32636"), lights.mean_over(turned), rtol=1e-9, atol=1e-12
    )


def test_means_agree_with_exactextract_and_do_not_depend_on_strips(tmp_path, rng, monkeypatch):
    exactextract = pytest.importorskip("exactextract")
    data = np.where(rng.random((80, 90)) < 0.1, -9999, rng.gamma(0.3, 8, (80, 90))).astype("float32")
    path = write(tmp_path / "l.tif", data, nodata=-9999, tiled=True, blockxsize=16, blockysize=16)
    middles = gpd.GeoSeries(gpd.points_from_xy(rng.uniform(30.03, 30.33, 60), rng.uniform(-0.29, -0.03, 60)), crs=4326)
    shapes = gpd.GeoDataFrame(geometry=middles.set_crs(None, allow_override=True).buffer(0.011), crs=4326)
    lights = open_lights(path, noise_floor=0)

    means = lights.mean_over(shapes, min_valid=0.01)

    expected = exactextract.exact_extract(str(path), shapes, "mean", output="pandas")["mean"]
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    monkeypatch.setattr("geopov.features.nightlights.footprints._PIXELS_AT_ONCE", 500)
    monkeypatch.setattr("geopov.features.nightlights.footprints._CELLS_AT_ONCE", 200)
    np.testing.assert_allclose(lights.mean_over(shapes, min_valid=0.01), means, rtol=1e-12)


def test_every_block_is_decoded_once(tmp_path, rng, monkeypatch):
    path = write(
        tmp_path / "l.tif", rng.random((1024, 1024)).astype("float32"), tiled=True, blockxsize=256, blockysize=256
    )
    monkeypatch.setattr("geopov.features.nightlights.footprints._PIXELS_AT_ONCE", 50_000)
    read = []
    places = TilePlaces.at(rng.uniform(30.1, 34.0, 500), rng.uniform(-4.0, -0.1, 500), crs="EPSG:4326")
    lights = open_lights(path, noise_floor=0)
    decode = BlockReader.read
    monkeypatch.setattr(BlockReader, "read", lambda self, *unit: read.append(unit[2:]) or decode(self, *unit))

    lights.mean_over(places.corners(8000.0), crs="EPSG:4326")

    assert len(read) == len(set(read)) == 16


def test_footprints_are_where_tiles_are_cut(tmp_path):
    from geopov.tiles import TileSpec
    from geopov.tiles.plan import make_plan

    scene = Scene.open(
        write(
            tmp_path / "utm.tif", np.zeros((400, 400), dtype="uint8"), left=5e5, top=9.9e6, pixel=10, crs="EPSG:32736"
        )
    )
    lon, lat = np.array([33.01]), np.array([-0.92])
    placed = make_plan([scene], lon, lat, TileSpec(size_px=30, resolution_m=20)).placement

    corners = TilePlaces.at(lon, lat, crs=scene.crs).corners(600.0)[0]

    # Pixels resampled, so that nothing is moved to whole ones.
    assert corners[0] == pytest.approx([placed.left[0], placed.top[0]], abs=1e-3)
    assert corners[2] == pytest.approx(
        [placed.left[0] + 30 * placed.dx[0], placed.top[0] - 30 * placed.dy[0]], abs=1e-3
    )


def test_noise_and_negative_values_are_dark_and_missing_ones_are_missing(tmp_path):
    data = np.array([[-1.4, 0.59, 0.6, np.nan]], dtype="float32")
    lights = open_lights(write(tmp_path / "l.tif", data, pixel=1.0))

    pixels = boxes(*((30 + i, -1, 31 + i, 0) for i in range(4)))

    np.testing.assert_allclose(lights.mean_over(pixels), [0, 0, np.float32(0.6), np.nan])
    lower = open_lights(tmp_path / "l.tif", noise_floor=0)
    np.testing.assert_allclose(lower.mean_over(pixels), [0, np.float32(0.59), np.float32(0.6), np.nan])


def test_an_undeclared_missing_value_is_told_of(tmp_path):
    path = write(tmp_path / "l.tif", np.array([[-999, 3.0]], dtype="float32"), pixel=1.0)

    with pytest.raises(FeatureError, match=r"holds -999 nW/cm²/sr.*Scene.open\(path, nodata"):
        open_lights(path).mean_over(boxes((30, -1, 32, 0)))

    declared = open_lights(Scene.open(path, nodata=-999))
    assert declared.mean_over(boxes((30, -1, 32, 0))).tolist() == [3.0]


def test_too_little_valid_gives_nothing(tmp_path):
    lights = open_lights(write(tmp_path / "l.tif", np.array([[np.nan, 3.0, 3.0]], dtype="float32"), pixel=1.0))
    over = boxes((30, -1, 33, 0), (29, -1, 31.5, 0))

    np.testing.assert_allclose(lights.mean_over(over), [3.0, np.nan])
    np.testing.assert_allclose(lights.mean_over(over, min_valid=0.7), [np.nan, np.nan])
    np.testing.assert_allclose(lights.mean_over(over, min_valid=0.2), [3.0, 3.0])
    assert lights.mean_over(boxes((31, -1, 33, 0)), min_valid=1).tolist() == [3.0]


def test_dmsp_saturates_and_255_is_no_light(tmp_path):
    data = np.array([[0, 3, 63, 255]], dtype="uint8")
    lights = open_lights(write(tmp_path / "l.tif", data, pixel=1.0), sensor="dmsp")
    over = lights.to_pixels(boxes((30, -1, 33, 0), (32, -1, 34, 0)))

    found = lights.summarise(over)

    assert found["mean"].tolist() == pytest.approx([22.0, 63.0])
    assert found["saturated"].tolist() == pytest.approx([1 / 3, 1 / 2])
    assert found["valid"].tolist() == pytest.approx([1.0, 0.5])
    assert (lights.unit, lights.noise_floor) == ("DN", 0.0)


def test_black_marble_numbers_are_tenths_and_its_fill_value_is_missing(tmp_path):
    path = write(tmp_path / "l.tif", np.array([[4, 25, 65535]], dtype="uint16"), pixel=1.0)
    lights = open_lights(path, sensor="black_marble")

    means = lights.mean_over(boxes((30, -1, 31, 0), (31, -1, 32, 0), (32, -1, 33, 0)))

    np.testing.assert_allclose(means, [0.0, 2.5, np.nan], rtol=1e-6)


def test_months_are_joined_by_their_median_where_they_were_seen(tmp_path):
    months = [
        write(tmp_path / f"m{i}.tif", np.array([row], dtype="float32"), pixel=1.0)
        for i, row in enumerate([[1, 0, 90], [2, 5, 8], [9, np.nan, 7]])
    ]
    seen = [
        write(tmp_path / f"c{i}.tif", np.array([row], dtype="uint16"), pixel=1.0)
        for i, row in enumerate([[3, 0, 2], [3, 4, 2], [1, 9, 2]])
    ]
    pixels = boxes((30, -1, 31, 0), (31, -1, 32, 0), (32, -1, 33, 0))

    assert open_lights(months).mean_over(pixels).tolist() == [2.0, 2.5, 8.0]
    # The second pixel was dark in the first month only because nobody looked.
    assert open_lights(months, observations=seen).mean_over(pixels).tolist() == [2.0, 5.0, 8.0]
    often = open_lights(months, observations=seen, min_observations=2)
    assert often.mean_over(pixels).tolist() == [1.5, 5.0, 8.0]


def test_composites_must_share_a_grid(tmp_path):
    one = write(tmp_path / "a.tif", np.ones((2, 2), dtype="float32"))
    other = write(tmp_path / "b.tif", np.ones((2, 2), dtype="float32"), left=30.004)

    with pytest.raises(FeatureError, match="different grids"):
        open_lights([one, other])
    with pytest.raises(FeatureError, match="1 bands for 2 composites"):
        open_lights([one, one], observations=one)


def test_flares_are_masked_with_all_pixels_they_touch(tmp_path):
    data = np.full((4, 4), 2, dtype="float32")
    data[1, 1] = 500
    path = write(tmp_path / "l.tif", data, pixel=0.01)
    flare = gpd.GeoDataFrame(geometry=[shapely.Point(30.015, -0.015)], crs=4326)
    whole = boxes((30, -0.04, 30.04, 0))

    lights = open_lights(path, mask=flare, mask_buffer_km=0.2)

    assert lights.mean_over(whole).tolist() == pytest.approx([2.0])
    assert open_lights(path).mean_over(whole).tolist() == pytest.approx([(15 * 2 + 500) / 16])
    assert lights.summarise(lights.to_pixels(whole))["masked"].tolist() == pytest.approx([1 / 16])
    assert lights.to_dict()["masked_places"] == 1
    # One that touches the neighbouring pixel takes both, from a file as well.
    boxes((30.012, -0.018, 30.021, -0.012)).to_file(tmp_path / "flares.gpkg")
    wider = open_lights(path, mask=tmp_path / "flares.gpkg")
    assert wider.summarise(wider.to_pixels(whole))["masked"].tolist() == pytest.approx([2 / 16])
    # A catalogue of the whole world: those elsewhere are none of this place.
    world = gpd.GeoDataFrame(geometry=[shapely.Point(30.015, -0.015), shapely.Point(-60, 89)], crs=4326)
    assert open_lights(path, mask=world, mask_buffer_km=0.2).to_dict()["masked_places"] == 1
    (widened,) = open_lights(path, mask=flare, mask_buffer_km=0.2).mask
    assert gpd.GeoSeries([widened], crs=4326).to_crs("EPSG:32636").area.item() == pytest.approx(
        np.pi * 200**2, rel=0.02
    )
    with pytest.raises(FeatureError, match="mask_buffer_km"):
        open_lights(path, mask=flare)
    with pytest.raises(FeatureError, match="no CRS"):
        open_lights(path, mask=boxes((30, -1, 31, 0), crs=None))


def test_satellite_years_are_brought_to_that_of_reference():
    same, other = published_calibration("elvidge2014:F121999"), published_calibration("elvidge2014:F182010")

    assert same(np.array([0, 1, 30, 63])).tolist() == [0, 1, 30, 63]
    # By hand: 2.343 + 0.5102 x 10 + 0.0065 x 100; dark stays dark, and 63 is the most there is.
    assert other(np.array([0, 10, 63])).tolist() == pytest.approx([0, 8.095, 2.343 + 0.5102 * 63 + 0.0065 * 63**2])
    assert published_calibration("elvidge2014:F141997")(np.array([63.0])).tolist() == pytest.approx([61.9307])
    assert published_calibration("elvidge2014:F162008")(np.array([63.0])).tolist() == pytest.approx([63.0])


def test_radiance_is_brought_to_digital_numbers_pixel_by_pixel(tmp_path):
    path = write(tmp_path / "l.tif", np.array([[0.1, 1.0, 10.0, 1000.0]], dtype="float32"), pixel=1.0)

    lights = open_lights(path, harmonise="hii")

    assert lights.unit == "DN"
    expected = [0.0, 19.40, 19.40 + 11.62 * np.log(10), 63.0]
    pixels = boxes(*((30 + i, -1, 31 + i, 0) for i in range(4)))
    assert lights.mean_over(pixels).tolist() == pytest.approx(expected)
    # Of the numbers, not the number of the mean.
    assert lights.mean_over(boxes((31, -1, 33, 0))).tolist() == pytest.approx([np.mean(expected[1:3])])
    described = lights.to_dict()
    assert described["harmonised"]
    assert "Human Impact Index" in described["harmonisation"]["citation"]
    assert not open_lights(path).to_dict()["harmonised"]


def test_harmonisations_are_checked(tmp_path):
    path = write(tmp_path / "l.tif", np.ones((2, 2), dtype="float32"))

    with pytest.raises(FeatureError, match=r"no harmonisation 'elvidge2014:F182020'.*F182012"):
        open_lights(path, sensor="dmsp", harmonise="elvidge2014:F182020")
    with pytest.raises(FeatureError, match="is for viirs, but the lights are of dmsp"):
        open_lights(path, sensor="dmsp", harmonise="hii")
    with pytest.raises(FeatureError, match="citation"):
        Calibration("log_linear", (1.0, 2.0), "viirs", " ", "own")
    with pytest.raises(FeatureError, match="3 finite numbers"):
        Calibration("quadratic", (1.0, 2.0), "dmsp", "Someone (2000)", "own")
    own = Calibration("quadratic", (0.0, 2.0, 0.0), "viirs", "Someone (2000), Table 1", "own")
    assert open_lights(path, harmonise=own).mean_over(boxes((30, -0.004, 30.004, 0))).tolist() == pytest.approx([2.0])


def test_bad_input_is_named(tmp_path):
    path = write(tmp_path / "l.tif", np.ones((2, 2), dtype="float32"))
    lights = open_lights(path)

    with pytest.raises(FeatureError, match="viirs, dmsp, black_marble"):
        open_lights(path, sensor="luojia")
    with pytest.raises(FeatureError, match="noise_floor"):
        open_lights(path, noise_floor=-1)
    with pytest.raises(RasterError):
        open_lights(tmp_path / "nothing.tif")
    with pytest.raises(FeatureError, match="not all polygons"):
        lights.mean_over(gpd.GeoSeries([shapely.Point(30, 0)], crs=4326))
    with pytest.raises(FeatureError, match=r"shape \(4, 2\)"):
        lights.mean_over(np.zeros((4, 2)))
    with pytest.raises(FeatureError, match="min_valid"):
        lights.mean_over(boxes((30, -1, 31, 0)), min_valid=0)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data of GEOPOV_REAL_DATA")
def test_lights_of_lesotho():
    exactextract = pytest.importorskip("exactextract")
    path = REAL / "lesotho" / "viirs_nightlights.tif"
    places = TilePlaces.at([27.48, 28.2], [-29.31, -29.5], crs="EPSG:32735")
    lights = open_lights(path, noise_floor=0)

    maseru, highlands = lights.mean_over(places.corners(6720.0), crs=places.crs)

    shapes = gpd.GeoDataFrame(geometry=[shapely.Polygon(c) for c in places.corners(6720.0)], crs=places.crs)
    expected = exactextract.exact_extract(str(path), shapes.to_crs(4326), "mean", output="pandas")["mean"]
    assert maseru == pytest.approx(expected[0], rel=1e-5)
    # Noise about zero that sums to less than nothing.
    assert expected[1] < 0 < highlands < 0.01 < 5 < maseru
