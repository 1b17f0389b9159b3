"""A block's large tile holds the pixels that a crop of each cell would hold, and the context around them."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import calculate_default_transform, reproject

from geopov import tiles
from geopov.errors import RasterError
from geopov.grid import CellBlock, CellGrid, transform_xy
from geopov.raster import Scene
from geopov.study.large_tiles import LargeTile, block_side_cells, large_tile_px, large_tiles
from tests.study.conftest import NORTH, SIDE, WEST, write_scene

SPEC = tiles.TileSpec(size_px=32, resolution_m=30, context_px=16)


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    write_scene(path)
    return path


def _block(cell_m: float = 450, cells: int = 12, *, grid_crs: str = "EPSG:32736") -> CellBlock:
    """A block in the middle of the scene, cut by its grid on two sides."""
    x, y = transform_xy("EPSG:32736", grid_crs, np.array([WEST + 12_000]), np.array([NORTH - 12_000]))
    corner = Affine(cell_m, 0, cell_m * round(float(x[0]) / cell_m), 0, -cell_m, cell_m * round(float(y[0]) / cell_m))
    grid = CellGrid.from_bounds((0, 0, 1, 1), cell_m=cell_m, bounds_crs=grid_crs, crs=grid_crs)
    return next(iter(CellGrid(grid.crs, corner, 7, 9).blocks(cells)))


def _crops(scene: Scene, block: CellBlock, spec: tiles.TileSpec, **window: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = block.whole.centres()
    lon, lat = transform_xy(block.grid.crs, "EPSG:4326", x.ravel(), y.ravel())
    ids = np.arange(len(lon)).astype(str)
    points = gpd.GeoDataFrame({"cluster_id": ids}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")
    if window:
        points = tiles.tile_points(points, spec, **window)
    batch = tiles.extract(scene, points, spec).read(np.arange(len(points)))
    return batch.data, batch.valid


def _box(found: LargeTile, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and mask of a tile with its context."""
    (at,) = np.flatnonzero(found.number == number)
    left, top = found.left[at] - SPEC.context_px, found.top[at] - SPEC.context_px
    rows, columns = slice(top, top + SPEC.total_px), slice(left, left + SPEC.total_px)
    return found.data[:, rows, columns], found.valid[rows, columns]


@pytest.mark.parametrize("align_px", [1, 32])
@pytest.mark.parametrize("window", [{}, {"window_km": 3.0, "n_tiles": 4}])
def test_boxes_hold_the_pixels_of_crops(scene_file: Path, window: dict[str, float], align_px: int) -> None:
    scene, block = Scene.open(scene_file), _block()
    (found,) = large_tiles([scene], block, SPEC, **window, align_px=align_px)
    data, valid = _crops(scene, block, SPEC, **window)
    assert found.number.tolist() == list(range(144 * int(window.get("n_tiles", 1))))
    for number, (crop, mask) in enumerate(zip(data, valid, strict=True)):
        pixels, known = _box(found, number)
        np.testing.assert_array_equal(pixels, crop)
        np.testing.assert_array_equal(known, mask)


def test_a_large_tile_does_not_depend_on_the_grid_that_cuts_it(scene_file: Path) -> None:
    block = _block()
    whole = CellBlock(block.whole, 0, 0, block.cells)
    ((one,), (other,)) = (large_tiles([Scene.open(scene_file)], b, SPEC) for b in (block, whole))
    for name in ("data", "valid", "number", "left", "top"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio's own arithmetic
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_scenes_in_other_projections_are_resampled_alike(scene_file: Path, tmp_path: Path, crs: str) -> None:
    moved = tmp_path / "moved.tif"
    with rasterio.open(scene_file) as source:
        transform, width, height = calculate_default_transform(source.crs, crs, SIDE, SIDE, *source.bounds)
        profile = source.profile | {"crs": crs, "transform": transform, "width": width, "height": height}
        with rasterio.open(moved, "w", **profile) as target:
            for band in (1, 2):
                reproject(rasterio.band(source, band), rasterio.band(target, band))
    scene, block = Scene.open(moved), _block(grid_crs="EPSG:6933")
    (found,) = large_tiles([scene], block, SPEC, align_px=32)
    data, valid = _crops(scene, block, SPEC)
    pairs = [(*_box(found, number), data[number], valid[number]) for number in range(144)]
    apart = np.array([np.abs(pixels.astype(float) - crop) for pixels, _, crop, _ in pairs])
    # The same samples of the scene; where they lie between two whole numbers, rounding may decide for either.
    assert apart.max() <= 1
    assert (apart > 0).mean() < 1e-3
    for _, known, _, mask in pairs:
        np.testing.assert_array_equal(known, mask)


def test_where_grids_meet_each_tile_lies_on_its_own(tmp_path: Path) -> None:
    """Pixels in degrees at 60 degrees of latitude, whose width changes by a hundredth within 40 km."""
    path, degrees = tmp_path / "north.tif", 30 / 111_000
    values = np.add.outer(np.arange(2200) // 4, np.arange(1200) // 3).astype(np.uint16)
    profile = {"driver": "GTiff", "width": 1200, "height": 2200, "count": 1, "dtype": "uint16", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=Affine(degrees, 0, 25, 0, -degrees, 60.4), **profile) as target:
        target.write(values, 1)
    scene, spec = Scene.open(path), tiles.TileSpec(size_px=32, resolution_m=30, context_px=16)
    x, y = transform_xy("EPSG:4326", "EPSG:6933", np.array([25.05]), np.array([60.37]))
    grid = CellGrid(_block(grid_crs="EPSG:6933").grid.crs, Affine(900, 0, float(x[0]), 0, -900, float(y[0])), 8, 24)
    block = CellBlock(grid, 0, 0, 24)
    data, _ = _crops(scene, block, spec)
    found = list(large_tiles([scene], block, spec, align_px=8))
    assert len(found) > 1
    assert sorted(np.concatenate([tile.number for tile in found]).tolist()) == list(range(len(data)))
    for tile in found:
        apart = [np.abs(_box(tile, k)[0].astype(float) - data[k]).max() for k in tile.number.tolist()]
        assert max(apart) <= 1
    # What nobody asks for is not read.
    wanted = np.zeros(len(data), dtype=bool)
    wanted[found[0].number[0]] = True
    (only,) = large_tiles([scene], block, spec, align_px=8, wanted=wanted)
    np.testing.assert_array_equal(only.data, found[0].data)


def test_blocks_hold_as_many_cells_as_pixels_ground_and_memory_allow() -> None:
    spec = tiles.TileSpec(size_px=224, resolution_m=10)
    options = {"block_px": 1536, "n_tiles": 1, "n_features": 512}
    assert block_side_cells(spec, cell_m=1000, **options) == 15
    assert block_side_cells(spec, cell_m=50_000, **options) == 1
    # A hundred kilometres at most, however coarse the pixels.
    assert block_side_cells(tiles.TileSpec(size_px=24, resolution_m=463), cell_m=2000, **options) == 50
    # 128 MiB of features in double precision.
    assert block_side_cells(spec, cell_m=20, **options) == 181
    assert large_tile_px(spec, 15_000, None) == 1728  # 1,500 + 224, in steps of 32


def test_damaged_pixels_are_an_error_unless_somebody_is_told(scene_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tif"
    content = bytearray(scene_file.read_bytes())
    with rasterio.open(scene_file) as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    content[offset : offset + 2000] = b"\xff" * 2000
    damaged.write_bytes(content)
    with pytest.raises(RasterError, match=r"damaged\.tif"):
        list(large_tiles([Scene.open(damaged)], _block(), SPEC))
    told: list[object] = []
    (found,) = large_tiles([Scene.open(damaged)], _block(), SPEC, on_unreadable=told.append)
    assert told
    assert not found.valid.all()
