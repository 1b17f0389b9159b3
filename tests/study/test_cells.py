"""A model over blocks of cells: cells are treated as clusters were, whoever computes them and in whatever order."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine

from geopov import features, regression, survey, tiles
from geopov.errors import RasterError, StudyError
from geopov.grid import CellBlock, CellGrid, transform_xy
from geopov.maps import HoleWarning, Region
from geopov.study import CellModel, cells, extract_features, large_tiles, open_scenes, predict, predict_map
from tests.study.conftest import NORTH, WEST, write_clusters, write_scene

CONTEXT_PX = 128  # all that this network sees, and what aligning takes
NETWORK = {"name": "squeezenet1_1", "weights": None, "bands": [1, 2, 1], "lo": 0, "hi": 255, "context_px": CONTEXT_PX}
MEAN = {"name": "band_mean", "context_px": CONTEXT_PX}
CELL_M = 900.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    write_clusters(folder / "clusters.csv", write_scene(folder / "scene.tif"))
    return folder


@pytest.fixture(scope="module")
def clusters(folder: Path) -> gpd.GeoDataFrame:
    columns = {"id_column": "cluster", "lon_column": "lon", "lat_column": "lat", "outcomes": ["wealth"]}
    return survey.read_clusters(folder / "clusters.csv", **columns)


def _fit(folder: Path, clusters: gpd.GeoDataFrame, spec: Any, *, context_px: int = 0, **window: float) -> Any:
    scenes = open_scenes([[str(folder / "scene.tif")]])
    tile = tiles.TileSpec(size_px=32, resolution_m=30, context_px=context_px)
    array = extract_features(scenes, clusters, tile, features.build(spec), **window)
    splits = regression.SpatialBlocks(block_km=6, tile_km=regression.footprint_km(array.attrs))
    options = {"outcome": "wealth", "splits": splits, "folder": folder / "model", "random_folds": False}
    return scenes, regression.evaluate(regression.WelfareRidge(), array, clusters, **options)[1]


@pytest.fixture(scope="module")
def network(folder: Path, clusters: gpd.GeoDataFrame) -> Any:
    return _fit(folder, clusters, [NETWORK, MEAN], context_px=CONTEXT_PX)


def _grid(crs: str = "EPSG:32736") -> CellGrid:
    bounds = (WEST, NORTH - 27_000, WEST + 27_000, NORTH)
    return CellGrid.from_bounds(bounds, cell_m=CELL_M, bounds_crs=crs, crs=crs)


def _whole_block() -> CellBlock:
    blocks = [block for block in _grid().blocks(8) if block.centres()[0].shape == (8, 8)]
    return blocks[len(blocks) // 2]


def _all(model: CellModel) -> np.ndarray:
    grid = _grid()
    values = np.full((4, grid.height, grid.width), np.nan, dtype=np.float32)
    for block in grid.blocks(model.block_cells):
        (top, bottom), (left, right) = block.rows, block.columns
        inside = np.ones((bottom - top, right - left), dtype=bool)
        values[:, top:bottom, left:right] = model(block, inside).values
    return values


@pytest.mark.parametrize("window", [{}, {"window_km": 3.0, "n_tiles": 4}])
def test_cells_are_treated_as_clusters_were(folder: Path, clusters: gpd.GeoDataFrame, window: dict[str, float]) -> None:
    scenes, model = _fit(folder, clusters, "band_mean", **window)
    cells = CellModel(scenes, model, cell_m=CELL_M)
    assert cells.mode == "crops"
    x, y = _grid().centres()
    lon, lat = transform_xy("EPSG:32736", "EPSG:4326", x.ravel(), y.ravel())
    points = gpd.GeoDataFrame(
        {"cluster_id": np.arange(len(lon)).astype(str)}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
    )
    array = extract_features(scenes, points, cells.spec, features.build("band_mean"), **window)
    expected = model.predict(array)
    found = _all(cells).reshape(4, -1)[:, array["cluster_id"].to_numpy().astype(int)]
    # Windows of cells beside the scene reach into it; a prediction does not reach beyond it.
    seen = np.isfinite(found[0])
    assert seen.sum() > 800
    np.testing.assert_allclose(found[0][seen], expected["mean"][seen], rtol=1e-6)
    np.testing.assert_array_equal(found[3][seen], expected["in_support"][seen])


@pytest.mark.parametrize("window", [{}, {"window_km": 2.0, "n_tiles": 4}])
def test_features_are_equal_in_both_modes(
    folder: Path, clusters: gpd.GeoDataFrame, network: Any, window: dict[str, float]
) -> None:
    scenes, model = (
        _fit(folder, clusters.head(60), [MEAN, NETWORK], context_px=CONTEXT_PX, **window) if window else network
    )
    shared = CellModel(scenes, model, cell_m=CELL_M, block_px=256)
    crops = CellModel(scenes, model, cell_m=CELL_M, mode="crops")
    assert (shared.mode, shared.block_cells, crops.mode) == ("shared", 8, "crops")
    assert shared.fingerprint != crops.fingerprint
    block = _whole_block()
    wanted = np.zeros((8, 8), dtype=bool)
    wanted[2:5, 1:7] = True
    x, y = block.centres()
    lon, lat = transform_xy("EPSG:32736", "EPSG:4326", x, y)
    one, other = shared._slide(block, wanted, None), crops._crop(lon[wanted], lat[wanted], None)
    assert np.isfinite(one).all()
    # With all that the network sees around each tile they differ by rounding alone, wherever a cell lies.
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * float(np.abs(other).max()))
    mean = slice(0, 2) if window else slice(-2, None)
    np.testing.assert_allclose(one[:, mean], other[:, mean], rtol=1e-6)


def test_a_cell_does_not_depend_on_the_region_nor_on_the_process(network: Any) -> None:
    scenes, model = network
    cells = CellModel(scenes, model, cell_m=CELL_M, block_px=256)
    block = _whole_block()
    (top, bottom), (left, right) = block.rows, block.columns
    whole = cells(block, np.ones((bottom - top, right - left), dtype=bool)).values
    corner = _grid().transform
    part = Affine(CELL_M, 0, corner.c + (left + 3) * CELL_M, 0, -CELL_M, corner.f - (top + 2) * CELL_M)
    cut = next(iter(CellGrid(_grid().crs, part, 3, 4).blocks(8)))
    assert (cut.rows, cut.columns) == ((0, 4), (0, 3))
    again = pickle.loads(pickle.dumps(cells))
    assert again.fingerprint == cells.fingerprint
    inside = np.ones((4, 3), dtype=bool)
    inside[1, 2] = False
    found = again(cut, inside).values
    np.testing.assert_array_equal(found[:, inside], whole[:, 2:6, 3:6][:, inside])
    assert np.isnan(found[:, 1, 2]).all()


def test_beside_the_scene_nothing_is_known(network: Any) -> None:
    scenes, model = network
    cells = CellModel(scenes, model, cell_m=CELL_M, block_px=256)
    far = CellBlock(CellGrid(_grid().crs, Affine(CELL_M, 0, WEST - 90_000, 0, -CELL_M, NORTH), 8, 8), 0, 0, 8)
    assert np.isnan(cells(far, np.ones((8, 8), dtype=bool)).values).all()


def test_bytes_do_not_depend_on_workers_memory_or_region(network: Any, tmp_path: Path) -> None:
    scenes, model = network
    options: dict[str, Any] = {"cell_m": CELL_M, "block_px": 256, "crs": "EPSG:32736"}
    first = predict_map(scenes, model, path=tmp_path / "one.tif", scheduler="serial", **options)
    other = predict_map(scenes, model, path=tmp_path / "two.tif", workers=3, memory_mb=60_000, **options)
    assert first.read_bytes() == other.read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))
    corner = Region.from_bounds((WEST + 9_500, NORTH - 15_000, WEST + 15_000, NORTH - 9_500), crs="EPSG:32736")
    district = predict_map(scenes, model, path=tmp_path / "part.tif", region=corner, **options)
    with rasterio.open(first) as country, rasterio.open(district) as part:
        window = rasterio.windows.from_bounds(*part.bounds, country.transform).round_offsets().round_lengths()
        values, expected = part.read(), country.read(window=window)
        seen = np.isfinite(values[0])
        assert seen.sum() >= 30
        np.testing.assert_array_equal(values[:, seen], expected[:, seen])
        assert country.tags()["mode"] == "shared"


def test_memory_that_holds_no_block_is_refused(network: Any, tmp_path: Path) -> None:
    scenes, model = network
    with pytest.raises(StudyError, match="one block needs about"):
        predict_map(scenes, model, path=tmp_path / "m.tif", cell_m=CELL_M, memory_mb=10)
    with pytest.raises(StudyError, match="memory-limit"):
        predict_map(scenes, model, path=tmp_path / "m.tif", cell_m=CELL_M, memory_mb=10, scheduler="tcp://10.0.0.1:1")


def test_sharing_needs_context(folder: Path, clusters: gpd.GeoDataFrame) -> None:
    scenes, model = _fit(folder, clusters, "band_mean")
    with pytest.raises(StudyError, match="context_px"):
        CellModel(scenes, model, cell_m=CELL_M, mode="shared")
    with pytest.raises(StudyError, match="mode is 'fast'"):
        CellModel(scenes, model, cell_m=CELL_M, mode="fast")


def test_pixels_that_cannot_be_read_are_a_named_hole(folder: Path, clusters: gpd.GeoDataFrame, tmp_path: Path) -> None:
    _, model = _fit(folder, clusters, "band_mean")
    content = bytearray((folder / "scene.tif").read_bytes())
    with rasterio.open(folder / "scene.tif") as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    content[offset : offset + 2000] = b"\xff" * 2000
    (tmp_path / "damaged.tif").write_bytes(content)
    scenes, path = open_scenes([[str(tmp_path / "damaged.tif")]]), tmp_path / "map.tif"
    with pytest.raises(RasterError, match="row 256, column 256 cannot be read"):
        predict_map(scenes, model, path=path, cell_m=CELL_M, strict=True)
    assert not path.exists()
    with pytest.warns(HoleWarning, match="rows 256 to 511, columns 256 to 511"):
        predict_map(scenes, model, path=path, cell_m=CELL_M)
    whole = predict_map(open_scenes([[str(folder / "scene.tif")]]), model, path=tmp_path / "whole.tif", cell_m=CELL_M)
    with rasterio.open(path) as holed, rasterio.open(whole) as sound:
        assert "damaged.tif" in holed.tags()["holes"]
        assert "holes" not in sound.tags()
        values, expected = holed.read(1), sound.read(1)
    lost = np.isfinite(expected) & np.isnan(values)
    # The block of 256 pixels is 7.7 km wide, which are 8.5 cells, those half of whose tiles is left not counted.
    assert 49 <= lost.sum() <= 90
    beside = np.isfinite(values)
    assert np.isclose(values[beside], expected[beside], rtol=0.2).all()


def test_pixels_are_read_while_others_compute(
    folder: Path, network: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scenes, model = network
    at_work, most, reading = [0], [0], []
    read, compute = large_tiles.read_window, cells.feature_stage.block_features

    def watched_read(*args: Any, **options: Any) -> Any:
        reading.append(at_work[0])
        return read(*args, **options)

    def watched(*args: Any, **options: Any) -> Any:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        try:
            return compute(*args, **options)
        finally:
            at_work[0] -= 1

    monkeypatch.setattr(large_tiles, "read_window", watched_read)
    monkeypatch.setattr(cells.feature_stage, "block_features", watched)
    predict_map(scenes, model, path=tmp_path / "map.tif", cell_m=CELL_M, mode="shared", block_px=240, workers=1)
    assert most == [1]
    assert sum(reading) > 1


def test_as_many_blocks_at_once_as_memory_is_free(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, model = network
    predictor = CellModel(scenes, model, cell_m=CELL_M)
    asked = {"workers": None, "memory_mb": None}
    monkeypatch.setattr(predict, "usable_cores", lambda: 8)
    for free, expected in ((100, 8), (3.5, 3), (0.1, 1)):
        monkeypatch.setattr(predict, "_free_bytes", lambda free=free: free * predictor.block_bytes)
        assert predict.blocks_at_once(predictor, "threads", **asked) == expected
    # Who says how many knows what there is.
    assert predict.blocks_at_once(predictor, "threads:6", **asked) == 6
    assert predict.blocks_at_once(predictor, "processes", **asked) == 8
    assert predict.blocks_at_once(predictor, "tcp://10.0.0.1:8786", **asked) is None
