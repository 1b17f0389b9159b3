"""Saved tiles are the tiles that were saved; folders that are not whole are refused; GeoTIFFs lie where tiles do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from geopandas.testing import assert_geodataframe_equal

from geopov._validation import sha256_of
from geopov.errors import RasterError, TileError
from geopov.tiles import TileSet, TileSpec, extract

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]
Noise = Callable[..., np.ndarray]


@pytest.fixture
def tiles(raster: Raster, points: Points, pixels: Noise) -> TileSet:
    """Thirty tiles of 21 px, two bands, with holes, some beyond the edge and one beyond the scene."""
    data = pixels(0, 2, 300, 300)
    data[:, 100:140, 50:250] = 9
    path = raster("a", data, nodata=9, names=("red", "nir"))
    rng = np.random.default_rng(1)
    x, y = rng.uniform(500_000, 503_000, 30), rng.uniform(9_697_000, 9_700_000, 30)
    x[17] = 900_000
    return extract(path, points(x, y), TileSpec(21, 10))


def test_saved_and_opened_is_the_same(tiles: TileSet, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    saved = tiles.save(tmp_path / "tiles", batch_size=8, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(8, 30), (16, 30), (24, 30), (30, 30)]
    for again in (saved, TileSet.open(tmp_path / "tiles")):
        assert (again.spec, again.band_names, again.dtype) == (tiles.spec, ["red", "nir"], np.uint16)
        assert (len(again), again.n_outside) == (30, 1)
        assert_geodataframe_equal(again.index, tiles.index, check_dtype=False)
        everything = np.arange(30)
        a, b = tiles.read(everything), again.read(everything)
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_array_equal(a.valid, b.valid)
        batches = list(again.iter_batches(7))
        assert [len(batch) for batch in batches] == [7, 7, 7, 7, 2]
        np.testing.assert_array_equal(np.concatenate([batch.positions for batch in batches]), everything)
        np.testing.assert_array_equal(np.concatenate([batch.valid for batch in batches]), a.valid)
        np.testing.assert_array_equal(again.read([3, 29, 3]).data, a.data[[3, 29, 3]])


def test_saving_twice_gives_the_same_bytes(tiles: TileSet, tmp_path: Path) -> None:
    tiles.save(tmp_path / "one", batch_size=4)
    tiles.save(tmp_path / "two", batch_size=30).save(tmp_path / "three")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["index.parquet", "tiles.json", "tiles.npy", "valid.npy"]
    for name in names:
        assert len({sha256_of(tmp_path / folder / name) for folder in ("one", "two", "three")}) == 1, name


def test_provenance_names_inputs_by_hash_and_no_folder(tiles: TileSet, tmp_path: Path) -> None:
    tiles.save(tmp_path / "tiles")
    text = (tmp_path / "tiles" / "tiles.json").read_text()
    assert str(tmp_path) not in text
    sidecar = json.loads(text)
    assert sidecar["scenes"][0]["files"] == [{"name": "a.tif", "sha256": sha256_of(tmp_path / "a.tif")}]
    assert sidecar["spec"] == tiles.spec.to_dict()
    assert sidecar["n_outside"] == 1


def test_saving_over_tiles_replaces_them_and_over_anything_else_refuses(tiles: TileSet, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    tiles.save(folder)
    tiles.save(folder)
    assert len(TileSet.open(folder)) == 30
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("irreplaceable")
    with pytest.raises(TileError, match="thesis exists and holds no saved tiles"):
        tiles.save(other)
    assert (other / "chapter.txt").exists()


def test_a_save_that_fails_leaves_nothing(tiles: TileSet, tmp_path: Path) -> None:
    (tmp_path / "a.tif").unlink()
    with pytest.raises(RasterError):
        tiles.save(tmp_path / "out" / "tiles")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["tiles.npy", "valid.npy", "index.parquet", "tiles.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "absent"])
def test_a_damaged_folder_is_refused(tiles: TileSet, tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "tiles"
    tiles.save(folder)
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with pytest.raises(TileError, match=r"cannot be opened|holds no saved tiles"):
        TileSet.open(folder)


@pytest.mark.parametrize("name", ["tiles.npy", "valid.npy", "index.parquet"])
def test_files_of_two_sets_do_not_mix(tiles: TileSet, raster: Raster, points: Points, pixels: Noise,
                                      tmp_path: Path, name: str) -> None:  # fmt: skip
    tiles.save(tmp_path / "tiles")
    extract(raster("b", pixels(1, 1, 90, 90)), points(500_500.0, 9_699_500.0), TileSpec(9, 10)).save(tmp_path / "other")
    (tmp_path / "other" / name).replace(tmp_path / "tiles" / name)
    with pytest.raises(TileError, match="do not belong together"):
        TileSet.open(tmp_path / "tiles")


def test_no_pickle_is_loaded(tiles: TileSet, tmp_path: Path) -> None:
    tiles.save(tmp_path / "tiles")
    np.save(tmp_path / "tiles" / "tiles.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TileError, match="cannot be opened"):
        TileSet.open(tmp_path / "tiles")


@pytest.mark.parametrize("saved", [False, True])
def test_geotiffs(tiles: TileSet, tmp_path: Path, saved: bool) -> None:
    source = tiles.save(tmp_path / "tiles") if saved else tiles
    written = source.write_geotiffs(tmp_path / "tif")
    assert [path.name for path in written] == [f"c{i}.tif" for i in range(30) if i != 17]
    for path in written:
        position = int(path.stem[1:])
        row, batch = tiles.index.iloc[position], tiles.read([position])
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(), batch.data[0])
            np.testing.assert_array_equal(dataset.dataset_mask() > 0, batch.valid[0])
            assert dataset.descriptions == ("red", "nir")
            assert dataset.crs.to_epsg() == 32736
            assert (dataset.transform.c, dataset.transform.f) == (row["left"], row["top"])


def test_a_geotiff_is_cut_into_the_same_tile(tiles: TileSet, tmp_path: Path) -> None:
    """The georeference is right: a tile cut around the same point out of the tile's own file is that tile."""
    path = tiles.write_geotiffs(tmp_path / "tif")[4]
    again = extract(path, tiles.index.iloc[[4]][["cluster_id", "geometry"]], tiles.spec)
    a, b = tiles.read([4]), again.read([0])
    np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_array_equal(a.valid, b.valid)


def test_file_names_are_safe_and_distinct(raster: Raster, points: Points, pixels: Noise, tmp_path: Path) -> None:
    table = points([500_100.0, 500_200.0, 500_300.0, 500_400.0], 9_699_500.0)
    table["cluster_id"] = ["../../etc/passwd", "a/1", "a_1", "A_1"]
    written = extract(raster("a", pixels(0, 1, 90, 90)), table, TileSpec(5, 10)).write_geotiffs(tmp_path / "tif")
    assert len({path.name.lower() for path in written}) == 4
    assert {path.parent for path in written} == {tmp_path / "tif"}
    assert all(path.is_file() for path in written)
