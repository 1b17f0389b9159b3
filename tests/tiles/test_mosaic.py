"""Several scenes: which one a tile is from, and that nothing but the tile itself decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from pyproj import Transformer

from geopov.errors import TileError
from geopov.raster import Scene
from geopov.tiles import TileSet, TileSpec, extract

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]
Noise = Callable[..., np.ndarray]


def constant(value: int, height: int = 100, width: int = 100) -> np.ndarray:
    return np.full((1, height, width), value, dtype="uint16")


def test_the_scene_with_the_greater_share_comes_first(raster: Raster, points: Points) -> None:
    left = raster("left", constant(1))
    right = raster("right", constant(2), origin=(500_800.0, 9_700_000.0))
    tiles = extract([left, right], points([500_300.0, 500_850.0, 500_950.0, 501_500.0], 9_699_500.0), TileSpec(20, 10))
    # Wholly on both: the first given. Partly on the first: the one that holds it all.
    assert tiles.index["scene"].tolist() == ["left", "left", "right", "right"]
    assert [int(d.mean()) for d in tiles.read([0, 1, 2, 3]).data] == [1, 1, 2, 2]
    swapped = extract([right, left], points([500_300.0, 500_850.0, 500_900.0], 9_699_500.0), TileSpec(20, 10))
    assert swapped.index["scene"].tolist() == ["left", "left", "right"]


def test_what_one_scene_lacks_comes_from_the_next(raster: Raster, points: Points) -> None:
    hole = constant(1)
    hole[:, 40:60, 40:60] = 0
    first = raster("first", hole, nodata=0)
    second = raster("second", np.where(np.arange(100) < 55, 2, 0)[None, None].repeat(100, 1).astype("uint16"), nodata=0)
    third = raster("third", constant(3))
    batch = extract([first, second, third], points(500_500.0, 9_699_500.0), TileSpec(100, 10)).read([0])
    assert batch.valid.all()
    expected = constant(1)
    expected[:, 40:60, 40:55], expected[:, 40:60, 55:60] = 2, 3
    np.testing.assert_array_equal(batch.data[0], expected)


def test_a_seam_between_scenes_leaves_no_gap(raster: Raster, points: Points) -> None:
    left = raster("left", constant(1))
    right = raster("right", constant(2), origin=(501_000.0, 9_700_000.0))
    batch = extract([left, right], points(500_950.0, 9_699_500.0), TileSpec(40, 10)).read([0])
    assert batch.valid.all()
    np.testing.assert_array_equal(batch.data[0, 0, 0], [1] * 25 + [2] * 15)


def two_zones(raster: Raster, pixels: Noise, dtype: str = "uint16") -> list[Path]:
    """Granules of UTM 36 and 37 that overlap about 36 degrees east, one with holes, both as imagery of one ground."""
    east = Transformer.from_crs("EPSG:4326", "EPSG:32736", always_xy=True).transform(36.0, -2.0)
    west = Transformer.from_crs("EPSG:4326", "EPSG:32737", always_xy=True).transform(36.0, -2.0)
    a, b = pixels(1, 2, 300, 300), pixels(2, 2, 300, 300)
    a, b = np.where(a == 0, 1, a).astype(dtype), np.where(b == 0, 1, b).astype(dtype)
    a[:, np.random.default_rng(3).random((300, 300)) < 0.2] = 0
    one = raster("zone36", a, origin=(east[0] - 2000, east[1] + 1500), nodata=0)
    two = raster("zone37", b, origin=(west[0] - 1000, west[1] + 1500), crs="EPSG:32737", nodata=0)
    return [one, two]


def scattered(n: int, points: Points, seed: int = 0) -> gpd.GeoDataFrame:
    rng = np.random.default_rng(seed)
    return points(rng.uniform(35.975, 36.025, n), rng.uniform(-2.02, -1.98, n), "EPSG:4326")


def everything(tiles: TileSet, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    size = tiles.spec.total_px
    data = np.full((len(tiles), tiles.n_bands, size, size), 12345, dtype=tiles.dtype)
    valid = np.zeros((len(tiles), size, size), dtype=bool)
    seen = []
    for batch in tiles.iter_batches(batch_size):
        data[batch.positions], valid[batch.positions] = batch.data, batch.valid
        seen += batch.positions.tolist()
    assert sorted(seen) == list(range(len(tiles)))
    return data, valid


@pytest.mark.parametrize("spec", [TileSpec(32, 10), TileSpec(24, 13.7), TileSpec(40, 6, context_px=3),
                                  TileSpec(20, 33, resampling="nearest")])  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_not_one_bit_depends_on_how_it_is_read(
    raster: Raster, points: Points, pixels: Noise, spec: TileSpec, dtype: str
) -> None:
    scenes = two_zones(raster, pixels, dtype)
    table = scattered(90, points)
    tiles = extract(scenes, table, spec)
    assert set(tiles.index["scene"]) == {"zone36", "zone37", ""}
    data, valid = everything(tiles)
    assert 0.4 < valid.mean() < 1
    assert (data.swapaxes(0, 1)[:, ~valid] == 0).all()
    for batch_size, threads, cache_mb in ((1, 1, 256), (7, 3, 0.001), (1000, 2, 0.3)):
        again = everything(extract(scenes, table, spec, threads=threads, cache_mb=cache_mb), batch_size)
        np.testing.assert_array_equal(again[0], data)
        np.testing.assert_array_equal(again[1], valid)
    order = np.random.default_rng(9).permutation(90)
    shuffled = everything(extract(scenes, table.iloc[order], spec))
    np.testing.assert_array_equal(shuffled[0], data[order])
    np.testing.assert_array_equal(shuffled[1], valid[order])
    for i in np.flatnonzero(tiles.index["scene"] != "")[::20]:
        alone = everything(extract(scenes, table.iloc[[i]], spec))
        np.testing.assert_array_equal(alone[0][0], data[i])
        np.testing.assert_array_equal(alone[1][0], valid[i])
    some = tiles.read([5, 3, 5, 88])
    np.testing.assert_array_equal(some.data, data[[5, 3, 5, 88]])
    np.testing.assert_array_equal(some.valid, valid[[5, 3, 5, 88]])


def test_a_plane_across_two_zones(raster: Raster, points: Points) -> None:
    """What is filled from the other zone lies where it should: a plane in degrees stays one across the seam."""
    paths = []
    for zone, crs in ((36, "EPSG:32736"), (37, "EPSG:32737")):
        to_zone = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        x, y = to_zone.transform(36.0, -2.0)
        left, top = x - (2000 if zone == 36 else 1000), y + 1500
        column, row = np.meshgrid(np.arange(300) + 0.5, np.arange(300) + 0.5)
        lon, lat = to_zone.transform(left + 10 * column, top - 10 * row, direction="INVERSE")
        values = ((lon - 36) * 1e5 + (lat + 2) * 1e4).astype("float64")[None]
        if zone == 36:
            values[:, :, 180:] = np.nan
        paths.append(raster(f"z{zone}", values, crs=crs, origin=(left, top)))
    tiles = extract(paths, points(36.0, -2.0, "EPSG:4326"), TileSpec(60, 10))
    assert tiles.index["scene"].tolist() == ["z36"]
    batch = tiles.read([0])
    assert batch.valid.all()
    row = tiles.index.iloc[0]
    along = np.arange(60) + 0.5
    x, y = np.meshgrid(row["left"] + along * row["pixel_width"], row["top"] - along * row["pixel_height"])
    lon, lat = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True).transform(x, y)
    # The plane rises by about 9 a pixel.
    np.testing.assert_allclose(batch.data[0, 0], (lon - 36) * 1e5 + (lat + 2) * 1e4, atol=0.05)


def test_points_beyond_all_scenes_are_counted(raster: Raster, points: Points) -> None:
    tiles = extract(raster("a", constant(5)), points([500_500.0, 700_000.0], 9_699_500.0), TileSpec(10, 10))
    assert tiles.n_outside == 1
    assert tiles.index["scene"].tolist() == ["a", ""]
    data, valid = everything(tiles)
    assert valid[0].all()
    assert not valid[1].any()
    assert (data[1] == 0).all()


def test_no_point_on_any_scene_names_both_extents(raster: Raster, points: Points) -> None:
    scene = raster("lake", constant(5))
    with pytest.raises(
        TileError, match=r"none of the 2 points.*20\.0000, 10\.0000, 21.*lake 33\.0000, -2\.7.*right CRS"
    ):
        extract(scene, points([20.0, 21.0], [10.0, 11.0], "EPSG:4326"), TileSpec(10, 10))


def test_swapped_longitude_and_latitude(raster: Raster, points: Points) -> None:
    scene = raster("lake", constant(5))
    lon, lat = Transformer.from_crs("EPSG:32736", "EPSG:4326", always_xy=True).transform(500_500, 9_699_500)
    with pytest.raises(TileError, match="look swapped"):
        extract(scene, points(lat, lon, "EPSG:4326"), TileSpec(10, 10))
    wild = gpd.GeoDataFrame({"cluster_id": ["a"]}, geometry=gpd.points_from_xy([-1.9], [103.2]), crs="EPSG:4326")
    with pytest.raises(TileError, match="look swapped"):
        extract(scene, wild, TileSpec(10, 10))


def test_scenes_must_agree_in_their_bands(raster: Raster, points: Points) -> None:
    one = raster("one", constant(1), names=("red",))
    two = raster("two", constant(1).repeat(2, axis=0), names=("red", "nir"))
    with pytest.raises(TileError, match=r"one has red; two has red, nir\. Choose the same"):
        extract([one, two], points(500_500.0, 9_699_500.0), TileSpec(10, 10))
    extract([one, Scene.open(two, bands=["red"])], points(500_500.0, 9_699_500.0), TileSpec(10, 10))


def test_scenes_of_one_name_are_told_apart(raster: Raster, points: Points) -> None:
    a = Scene.open(raster("a", constant(1)))
    b = replace(Scene.open(raster("b", constant(2), origin=(502_000.0, 9_700_000.0))), name="a")
    tiles = extract([a, b], points([500_500.0, 502_500.0], 9_699_500.0), TileSpec(10, 10))
    assert tiles.index["scene"].tolist() == ["a", "a_2"]


def test_types_of_scenes_are_joined(raster: Raster, points: Points) -> None:
    whole = raster("whole", constant(7))
    real = raster("real", constant(3).astype("float32") + 0.5, origin=(502_000.0, 9_700_000.0))
    tiles = extract([whole, real], points([500_500.0, 502_500.0], 9_699_500.0), TileSpec(10, 10))
    assert tiles.dtype == np.float32
    assert [float(d.mean()) for d in tiles.read([0, 1]).data] == [7, 3.5]


@pytest.mark.parametrize("lon", [-179.97, 179.97])
def test_degrees_counted_from_0_to_360(raster: Raster, points: Points, lon: float) -> None:
    """A scene in longitudes 179 to 181 serves points on either side of the 180th meridian."""
    data = np.broadcast_to(np.arange(200, dtype="uint16"), (1, 100, 200)).copy()
    path = raster("pacific", data, crs="EPSG:4326", origin=(179.0, 0.5), pixel=0.01)
    tiles = extract(path, points(lon, 0.0, "EPSG:4326"), TileSpec(10, 1113.0))
    batch = tiles.read([0])
    assert batch.valid.all()
    assert batch.data.mean() == pytest.approx(((lon % 360) - 179) * 100 - 0.5, abs=1)
