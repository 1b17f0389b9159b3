"""Resampled tiles: against planes whose answer is known, GDAL's average, and themselves read another way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.warp import Resampling, reproject

from geopov.grid import transform_xy
from geopov.raster import Scene
from geopov.tiles import TileSet, TileSpec, extract
from geopov.tiles.resample import band_width, gather, nearest, weigh

# The oracle, rasterio 1.4, multiplies transforms in a way that affine 3.1 is about to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]
Noise = Callable[..., np.ndarray]

WGS84 = Geod(ellps="WGS84")


def centres_of(tiles: TileSet, i: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a tile's pixel centres in its scene's CRS, each (size, size)."""
    row, size = tiles.index.iloc[i], tiles.spec.total_px
    along = np.arange(size) + 0.5
    x, y = np.meshgrid(row["left"] + along * row["pixel_width"], row["top"] - along * row["pixel_height"])
    return x, y


def plane(width: int, height: int, dtype: str = "float64") -> np.ndarray:
    """3 x column + 5 x row, at pixel centres."""
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return (3 * column + 5 * row + 100).astype(dtype)[None]


CRS_CASES = [
    ("EPSG:32736", (500_000.0, 9_700_000.0), 10.0, 10.0),
    ("EPSG:3857", (1_700_000.0, -480_000.0), 38.2, 38.1),
    ("EPSG:3857", (1_700_000.0, 8_400_000.0), 38.2, 18.4),
    ("EPSG:4326", (29.0, 60.2), 0.0002, 15.0),
    ("EPSG:4326", (-60.0, -35.0), 0.001, 100.0),
    ("ESRI:54009", (2_500_000.0, -3_650_000.0), 250.0, 250.0),
]


@pytest.mark.parametrize(("crs", "origin", "pixel", "ground"), CRS_CASES)
@pytest.mark.parametrize("ratio", [0.3, 0.77, 1.4, 2.6, 7.3])
@pytest.mark.parametrize("size", [12, 45])
def test_ground_size_and_plane(
    raster: Raster, points: Points, crs: str, origin: Any, pixel: float, ground: float, ratio: float, size: int
) -> None:
    """A tile is as long on the ground as it should be, and shows a plane as the plane is at its pixels' centres."""
    extent = int(size * ratio * 2) + 60
    path = raster("a", plane(extent, extent), crs=crs, origin=origin, pixel=pixel)
    x, y = origin[0] + extent * pixel * 0.51, origin[1] - extent * pixel * 0.49
    tiles = extract(path, points(x, y, crs), TileSpec(size, ground * ratio))
    row = tiles.index.iloc[0]
    half = size / 2
    cx, cy = row["left"] + half * row["pixel_width"], row["top"] - half * row["pixel_height"]
    assert (cx, cy) == pytest.approx((x, y), abs=1e-6 * pixel + 1e-9)
    for dx, dy in ((half * row["pixel_width"], 0), (0, half * row["pixel_height"])):
        lon, lat = transform_xy(crs, "EPSG:4326", np.array([cx - dx, cx + dx]), np.array([cy - dy, cy + dy]))
        _, _, length = WGS84.inv(lon[0], lat[0], lon[1], lat[1])
        assert length == pytest.approx(tiles.spec.ground_m, rel=0.005)
    batch = tiles.read([0])
    assert batch.valid.all()
    px, py = centres_of(tiles)
    expected = 3 * (px - origin[0]) / pixel + 5 * (origin[1] - py) / pixel + 100
    # Bilinear is exact on a plane; an area average takes whole source pixels for the parts it covers at its edges,
    # which is off by up to 1/8 pixel of slope a side, shared out over the pixel's length.
    wide, tall = row["pixel_width"] / pixel, row["pixel_height"] / pixel
    slack = sum(slope * 0.25 / r for slope, r in ((3, wide), (5, tall)) if r >= 1) + 1e-6
    np.testing.assert_allclose(batch.data[0, 0], expected, atol=slack, rtol=0)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_whole_factors_average_whole_pixels(raster: Raster, points: Points, pixels: Noise, factor: int) -> None:
    size = 40
    data = pixels(1, 2, size * factor, size * factor, "float64")
    path = raster("a", data, crs="EPSG:32736", pixel=10.0)
    centre = points(500_000 + size * factor * 5, 9_700_000 - size * factor * 5)
    # On the meridian of the zone a grid metre is 1/0.9996 of a true one: ask for exactly the grid's pixels.
    tiles = extract(path, centre, TileSpec(size, 10 * factor / 0.9996))
    row = tiles.index.iloc[0]
    assert row["pixel_width"] == pytest.approx(10 * factor, rel=1e-5)
    expected = data.reshape(2, size, factor, size, factor).mean(axis=(2, 4))
    batch = tiles.read([0])
    np.testing.assert_allclose(batch.data[0][:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=2e-3)


@pytest.mark.parametrize("ratio", [1.116, 1.9, 3.7])
@pytest.mark.parametrize("size", [20, 70])
@pytest.mark.parametrize("holes", [False, True])
def test_area_average_is_gdal_average(
    raster: Raster, points: Points, pixels: Noise, ratio: float, size: int, holes: bool
) -> None:
    extent = int(size * ratio) + 40
    data = pixels(2, 2, extent, extent, "float32")
    if holes:
        missing = np.random.default_rng(5).random((extent, extent)) < 0.3
        data[:, missing] = -1
    path = raster("a", data, nodata=-1)
    tiles = extract(path, points(500_000 + extent * 5.03, 9_700_000 - extent * 4.98), TileSpec(size, 10 * ratio))
    row = tiles.index.iloc[0]
    grid = Affine(row["pixel_width"], 0, row["left"], 0, -row["pixel_height"], row["top"])
    expected = np.full((2, size, size), -1, dtype="float32")
    with rasterio.open(path) as dataset:
        reproject(
            rasterio.band(dataset, [1, 2]), expected, dst_transform=grid, dst_crs=dataset.crs,
            resampling=Resampling.average, src_nodata=-1, dst_nodata=-1,
        )  # fmt: skip
    batch = tiles.read([0])
    # GDAL keeps a pixel with any valid share; we ask for half.
    assert (expected[0][batch.valid[0]] != -1).all()
    assert batch.valid.mean() > (0.6 if holes else 0.999)
    valid = np.broadcast_to(batch.valid[0], expected.shape)
    np.testing.assert_allclose(batch.data[0][valid], expected[valid], rtol=2e-4)


def test_bilinear_is_gdal_bilinear(raster: Raster, points: Points, pixels: Noise) -> None:
    data = pixels(3, 1, 60, 60, "float32")
    path = raster("a", data)
    tiles = extract(path, points(500_301.0, 9_699_702.0), TileSpec(50, 4.0))
    row = tiles.index.iloc[0]
    grid = Affine(row["pixel_width"], 0, row["left"], 0, -row["pixel_height"], row["top"])
    expected = np.zeros((1, 50, 50), dtype="float32")
    with rasterio.open(path) as dataset:
        reproject(
            rasterio.band(dataset, 1), expected[0], dst_transform=grid, dst_crs=dataset.crs,
            resampling=Resampling.bilinear,
        )  # fmt: skip
    np.testing.assert_allclose(tiles.read([0]).data[0], expected, rtol=1e-3)


@pytest.mark.parametrize("ratio", [0.4, 1.3, 3.2])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_nearest_takes_the_pixel_under_the_centre(
    raster: Raster, points: Points, pixels: Noise, ratio: float, dtype: str
) -> None:
    extent, size = 160, 33
    data = pixels(4, 2, extent, extent, dtype)
    data[:, 70:75, 60:90] = 3
    path = raster("a", data, nodata=3)
    tiles = extract(path, points(500_807.0, 9_699_211.0), TileSpec(size, 10 * ratio, resampling="nearest"))
    x, y = centres_of(tiles)
    column, row = np.floor((x - 500_000) / 10).astype(int), np.floor((9_700_000 - y) / 10).astype(int)
    batch = tiles.read([0])
    expected = data[:, row, column]
    np.testing.assert_array_equal(batch.valid[0], (expected != 3).all(axis=0))
    np.testing.assert_array_equal(batch.data[0], np.where(batch.valid[0], expected, 0))


def test_whole_numbers_are_rounded(raster: Raster, points: Points) -> None:
    data = np.zeros((1, 80, 80), dtype="uint8")
    data[:, :, ::2] = 1
    data[:, ::2] += 200
    path = raster("a", data)
    batch = extract(path, points(500_400.0, 9_699_600.0), TileSpec(10, 20 / 0.9996)).read([0])
    # Means of 200, 201, 0 and 1.
    assert set(np.unique(batch.data)) <= {100, 101}
    flat = raster("b", np.full((1, 80, 80), 255, dtype="uint8"))
    assert (extract(flat, points(500_400.0, 9_699_600.0), TileSpec(13, 17.0)).read([0]).data == 255).all()


@pytest.mark.parametrize("ratio", [0.5, 2.5])
def test_a_constant_stays_constant_around_holes(raster: Raster, points: Points, ratio: float) -> None:
    data = np.full((1, 120, 120), 42.5, dtype="float32")
    data[:, np.random.default_rng(0).random((120, 120)) < 0.4] = np.nan
    path = raster("a", data)
    batch = extract(path, points(500_600.0, 9_699_400.0), TileSpec(40, 10 * ratio)).read([0])
    assert 0.3 < batch.valid.mean() < 1
    np.testing.assert_allclose(batch.data[0, 0][batch.valid[0]], 42.5, rtol=1e-5)
    assert (batch.data[0, 0][~batch.valid[0]] == 0).all()


def test_padding_is_invalid_and_zero(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(6, 1, 100, 100, "float32"))
    batch = extract(path, points(500_000.0, 9_700_000.0), TileSpec(40, 15.0)).read([0])
    np.testing.assert_array_equal(batch.valid[0, 20:, 20:], True)
    assert not batch.valid[0, :20].any()
    assert not batch.valid[0, :, :20].any()
    assert (batch.data[0, 0][~batch.valid[0]] == 0).all()


def test_coarsest_level_that_is_fine_enough(raster: Raster, points: Points, pixels: Noise) -> None:
    path = raster("a", pixels(7, 1, 512, 512), overviews=[2, 4, 8])
    centre = points(502_560.0, 9_697_440.0)
    for resolution, level in ((8, 0), (15, 0), (25, 1), (39, 1), (44.6, 2), (79, 2), (500, 3)):
        plan = extract(path, centre, TileSpec(8, resolution)).source.plan  # type: ignore[attr-defined]
        assert plan.pieces.level.tolist() == [level], resolution


@pytest.mark.parametrize(
    ("other", "pixel"), [("EPSG:4326", 0.0003), ("EPSG:3857", 30.0), ("ESRI:54009", 25.0), ("EPSG:32735", 20.0)]
)
@pytest.mark.parametrize("resolution", [10, 70])
def test_a_file_in_another_crs_is_brought_over(
    raster: Raster, points: Points, other: str, pixel: float, resolution: float
) -> None:
    """A plane in UTM coordinates, sampled by a file in another CRS, is that plane again on the tile."""
    reference = raster("reference", np.ones((1, 400, 400), dtype="float32"))
    to_other = Transformer.from_crs("EPSG:32736", other, always_xy=True)
    west, south, east, north = to_other.transform_bounds(500_000, 9_696_000, 504_000, 9_700_000)
    origin = (west - 5 * pixel, north + 5 * pixel)
    width, height = int((east - west) / pixel) + 10, int((north - south) / pixel) + 10
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = to_other.transform(origin[0] + column * pixel, origin[1] - row * pixel, direction="INVERSE")
    values = ((x - 500_000) * 0.3 + (9_700_000 - y) * 0.1).astype("float64")[None]
    warped = raster("warped", values, crs=other, origin=origin, pixel=pixel)
    scene = Scene.open([reference, warped])
    size = 40 if resolution == 70 else 60
    tiles = extract(scene, points(502_003.0, 9_698_011.0), TileSpec(size, resolution))
    batch = tiles.read([0])
    assert batch.valid.all()
    px, py = centres_of(tiles)
    expected = (px - 500_000) * 0.3 + (9_700_000 - py) * 0.1
    # Metres of the plane; a hundredth of a source pixel.
    np.testing.assert_allclose(batch.data[0, 1], expected, atol=0.3 * 0.01 * 30)


def test_a_file_in_another_crs_keeps_its_holes(raster: Raster, points: Points) -> None:
    reference = raster("reference", np.ones((1, 300, 300), dtype="float32"))
    lon, lat = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True).transform(501_500, 9_698_500)
    values = np.full((1, 100, 100), 5.0, dtype="float32")
    values[:, 50:] = -1
    other = raster("other", values, crs="EPSG:4326", origin=(lon - 0.05, lat + 0.05), pixel=0.001, nodata=-1)
    for resampling in ("auto", "nearest"):
        batch = extract(Scene.open([reference, other]), points(501_500.0, 9_698_500.0),
                        TileSpec(40, 10, resampling=resampling)).read([0])  # fmt: skip
        assert batch.valid[0, :19].all()
        assert not batch.valid[0, 21:].any()
        np.testing.assert_allclose(batch.data[0, 1][batch.valid[0]], 5, rtol=1e-6)
        assert (batch.data[0][:, ~batch.valid[0]] == 0).all()


def test_warp_agrees_with_gdal_on_noise(raster: Raster, points: Points, pixels: Noise) -> None:
    reference = raster("reference", np.ones((1, 100, 100), dtype="float32"), pixel=100.0)
    lon, lat = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True).transform(505_000, 9_695_000)
    other = raster("other", pixels(8, 1, 300, 300, "float32"), crs="EPSG:4326", origin=(lon - 0.15, lat + 0.15),
                   pixel=0.001)  # fmt: skip
    for resampling, method in (("auto", Resampling.bilinear), ("nearest", Resampling.nearest)):
        spec = TileSpec(50, 80.0, resampling=resampling)  # type: ignore[arg-type]
        tiles = extract(Scene.open([reference, other]), points(505_000.0, 9_695_000.0), spec)
        row = tiles.index.iloc[0]
        grid = Affine(row["pixel_width"], 0, row["left"], 0, -row["pixel_height"], row["top"])
        expected = np.zeros((50, 50), dtype="float32")
        with rasterio.open(other) as dataset:
            reproject(rasterio.band(dataset, 1), expected, dst_transform=grid, dst_crs="EPSG:32736", resampling=method,
                      tolerance=0)  # fmt: skip
        found = tiles.read([0]).data[0, 1]
        if resampling == "nearest":
            assert (found == expected).mean() > 0.995
        else:
            np.testing.assert_allclose(found, expected, rtol=2e-2)
            assert np.abs(found - expected).mean() < 0.05


@given(
    start=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    ratio=st.tuples(st.floats(0.2, 4), st.floats(0.2, 4)),
    size=st.sampled_from([1, 5, 31, 33, 50]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bands_of_weights_equal_one_dense_product(
    start: tuple[float, float], ratio: tuple[float, float], size: int, seed: int
) -> None:
    """The banded product is the plain one: weights built pixel by pixel by integrating in a thousand steps."""
    window = [int(np.ceil(s + 1.5 + size * r)) + 2 for s, r in zip(start, ratio, strict=True)]
    pixels = np.random.default_rng(seed).normal(size=(1, 1, *window))
    begin = [np.array([s + 1.0]) for s in start]
    scale = [np.array([r]) for r in ratio]
    band = [int(band_width(r, np.array([w]), size)[0]) for r, w in zip(scale, window, strict=True)]
    values, usable = weigh(
        pixels, np.ones((1, *window), dtype=bool), start=(begin[0], begin[1]), ratio=(scale[0], scale[1]),
        band=(band[0], band[1]), size=size,
    )  # fmt: skip
    dense = []
    for s, r, w in zip(begin, scale, window, strict=True):
        weights = np.zeros((size, w))
        for t in range(size):
            low, high = s[0] + t * r[0], s[0] + (t + 1) * r[0]
            if r[0] >= 1:
                for k in range(w):
                    weights[t, k] = max(0.0, min(high, k + 1) - max(low, k)) / r[0]
            else:
                place = (low + high) / 2 - 0.5
                k = int(np.floor(place))
                weights[t, k], weights[t, k + 1] = 1 - (place - k), place - k
        dense.append(weights)
    assert usable.all()
    np.testing.assert_allclose(values[0, 0], dense[0] @ pixels[0, 0] @ dense[1].T, atol=1e-9)


def test_tiles_together_are_the_tiles_alone() -> None:
    """Not one bit of a tile depends on the tiles computed beside it."""
    rng = np.random.default_rng(0)
    for size in (24, 50):
        pixels = rng.normal(size=(6, 2, 60, 70)).astype("float32")
        valid = rng.random((6, 60, 70)) < 0.8
        valid[:3] = True
        pixels *= valid[:, None]
        start = rng.random(6), rng.random(6)
        ratio = rng.uniform(1.1, 1.15, 6), rng.uniform(1.1, 1.15, 6)
        band = (60, 70) if size == 24 else (21, 21)
        together = weigh(pixels, valid, start=start, ratio=ratio, band=band, size=size)
        close = nearest(pixels, valid, start=start, ratio=ratio, size=size)
        lattice = rng.uniform(5, 55, (6, 2, 3, 3))
        whole = valid.all(axis=(1, 2))
        options = {"samples": (2, 1), "size": size, "interpolate": True}
        through = gather(pixels.swapaxes(0, 1).copy(), valid, whole=whole, lattice=lattice, **options)
        for i in range(6):
            one = np.s_[i : i + 1]
            alone = weigh(pixels[one], valid[one], start=(start[0][one], start[1][one]),
                          ratio=(ratio[0][one], ratio[1][one]), band=band, size=size)  # fmt: skip
            for a, b in zip(together, alone, strict=True):
                np.testing.assert_array_equal(a[one], b)
            alone = nearest(pixels[one], valid[one], start=(start[0][one], start[1][one]),
                            ratio=(ratio[0][one], ratio[1][one]), size=size)  # fmt: skip
            for a, b in zip(close, alone, strict=True):
                np.testing.assert_array_equal(a[one], b)
            own = {"whole": whole[one], "lattice": lattice[one]}
            alone = gather(pixels[one].swapaxes(0, 1).copy(), valid[one], **own, **options)
            for a, b in zip(through, alone, strict=True):
                np.testing.assert_array_equal(a[one], b)
