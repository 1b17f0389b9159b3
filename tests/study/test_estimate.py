"""What a study will take: counts are exact, costs add up, and the command's table tells them."""

from __future__ import annotations

import io
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from geopov import tiles
from geopov.cli._estimate import print_estimate
from geopov.errors import StudyError
from geopov.grid import as_crs, transform_xy
from geopov.maps import Region
from geopov.raster import Scene
from geopov.study import prepare_study
from geopov.study.engine import StageOptions
from geopov.study.estimate import Cost, Estimate, StageEstimate, estimate_study
from geopov.study.estimate.counts import count_blocks, reading_of
from geopov.study.estimate.estimator import _jobs
from geopov.study.estimate.probe_features import sample_runs
from geopov.study.estimate.result import line, makespan

UTM = as_crs("EPSG:32736")


def square(west: float, south: float, side: float) -> Region:
    return Region(shapely.box(west, south, west + side, south + side), UTM)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """512 x 512 pixels of 10 m in four blocks of 256, two bands of uint16, no missing value."""
    profile = {"driver": "GTiff", "width": 512, "height": 512, "count": 2, "dtype": "uint16", "crs": "EPSG:32736"}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "transform": Affine(10, 0, 5e5, 0, -10, 9e6)}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile) as out:
        out.write(np.random.default_rng(0).integers(0, 9999, (2, 512, 512)).astype("uint16"))
    return Scene.open(tmp_path / "scene.tif")


def points(x: list[float], y: list[float]) -> gpd.GeoDataFrame:
    lon, lat = transform_xy(UTM, "EPSG:4326", np.array(x), np.array(y))
    ids = [str(i) for i in range(len(x))]
    return gpd.GeoDataFrame({"cluster_id": ids}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")


def test_reading_counts_tiles_pixels_and_blocks(scene: Scene) -> None:
    # Three tiles: two in the upper left block, one across the lower two, and one far outside.
    there = points([500_500, 500_900, 502_560, 600_000], [8_999_500, 8_999_300, 8_995_700, 8_999_500])
    spec = tiles.TileSpec(size_px=16, resolution_m=10, context_px=8)
    reading = reading_of(tiles.extract(scene, there, spec))
    assert reading.tiles == 3
    assert reading.pixels == 3 * 32 * 32
    assert reading.decoded_bytes == 3 * 256 * 256 * 2 * 2
    size = Path(scene.files[0].path).stat().st_size
    assert reading.read_bytes == pytest.approx(3 / 4 * size, rel=0.01)


def test_blocks_of_a_square_and_of_half_of_it() -> None:
    # 20 x 20 cells of 100 m whose corner lies on lines of blocks of 8 cells: 3 x 3 blocks, the last ones cut.
    region = square(500_000, 8_999_200, 2_000)
    grid = region.grid(cell_m=100, crs="EPSG:32736")
    assert (grid.width, grid.height) == (20, 20)
    everywhere = square(490_000, 8_980_000, 40_000)
    counts = count_blocks(grid, region, everywhere, block_cells=8)
    n_blocks = sum(1 for _ in grid.blocks(8))
    assert len(counts.blocks) == n_blocks
    assert counts.n_cells == 400
    # A scene under the western half alone.
    west = Region(shapely.box(490_000, 8_980_000, 501_000, 9_010_000), UTM)
    half = count_blocks(grid, region, west, block_cells=8)
    assert half.n_cells == 200
    assert len(half.blocks) < n_blocks


@settings(deadline=None, max_examples=25)
@given(side=st.integers(1, 30), x=st.integers(0, 40), y=st.integers(0, 40), cells=st.integers(1, 16))
def test_blocks_hold_the_cells_of_any_square(side: int, x: int, y: int, cells: int) -> None:
    whole = square(500_000, 8_990_000, 7_000).grid(cell_m=100, crs="EPSG:32736")
    region = square(500_000 + 100 * x, 8_990_000 + 100 * y, 100 * side)
    counts = count_blocks(whole, region, square(490_000, 8_980_000, 40_000), block_cells=cells)
    assert counts.n_cells == side**2
    assert len({(block.whole_row, block.whole_column) for block in counts.blocks}) == len(counts.blocks)


def test_cells_grow_with_the_area() -> None:
    everywhere = square(400_000, 8_900_000, 200_000)
    n_cells = []
    for side in (8_000, 16_000):
        region = square(500_000, 8_950_000, side)
        grid = region.grid(cell_m=200, crs="EPSG:32736")
        n_cells.append(count_blocks(grid, region, everywhere, block_cells=10).n_cells)
    assert n_cells[1] == 4 * n_cells[0]


def test_samples_are_runs_from_first_to_last() -> None:
    rows = sample_runs(1000, 64)
    assert len(rows) == 64
    assert rows[0] == 0
    assert rows[-1] == 999
    assert sample_runs(10, 16).tolist() == list(range(10))


def test_jobs_fill_the_cores() -> None:
    assert makespan([], 2) == 0
    assert makespan([(3, 1), (1, 1), (1, 1)], 2) == 3
    assert makespan([(3, 2), (1, 1), (1, 1)], 2) == 4
    assert makespan([(1, 99), (1, 99)], 2) == 2


@given(a=st.floats(0, 9), b=st.floats(1e-3, 9), few=st.integers(1, 50), more=st.integers(1, 50))
def test_a_line_through_two_calls(a: float, b: float, few: int, more: int) -> None:
    sizes = (few, few + more)
    call, each = line(*((n, Cost(a + b * n, a + b * n)) for n in sizes))
    assert call.seconds == pytest.approx(a, abs=1e-6)
    assert each.cpu_seconds == pytest.approx(b, abs=1e-6)


def test_jobs_of_a_dry_run() -> None:
    text = "job        count\n-------  -------\nfeatures       3\nall            1\ntotal          4\n"
    assert _jobs(text) == {"features": 3}


def shown(estimate: Estimate) -> str:
    stream = io.StringIO()
    print_estimate(estimate, Console(file=stream, width=140))
    return stream.getvalue()


def test_nothing_to_do_is_said() -> None:
    done = Estimate("small", (), 0.0, 0, False, 2, 0.0, 1.0)
    assert "up to date" in shown(done)


def test_the_table_adds_up() -> None:
    stages = (
        StageEstimate("a", tiles=2, pixels=20, cost=Cost(60, 90), memory_bytes=5, disk_bytes=7),
        StageEstimate("b", tiles=3, pixels=30, cost=Cost(60, 90), memory_bytes=9, disk_bytes=1),
    )
    estimate = Estimate("small", stages, 120.0, 0, True, 2, 0.6, 1.0)
    total = estimate.total
    assert (total.tiles, total.pixels, total.memory_bytes, total.disk_bytes) == (5, 50, 9, 8)
    assert total.cost == Cost(120, 180)
    text = shown(estimate)
    assert "2 min" in text
    assert "0.05 core-hours" in text
    assert "busy" in text


def test_a_small_study(study_folder: Path) -> None:
    study = prepare_study(study_folder / "study.yaml", work=study_folder / "work")
    options = StageOptions(workers=1, scheduler="processes")
    estimate = estimate_study(study, work=study_folder / "work", options=options, probe_s=0.1)
    rows = {stage.name: stage for stage in estimate.stages}
    assert set(rows) == {
        *("start and checks", "clusters", "features", "features of the baseline", "regression", "map"),
        "pictures, page, project, report",
    }
    assert estimate.from_scratch
    # 118 of 120 clusters have a position, each a tile of 16 px; the scene is 30 x 30 cells of 900 m.
    for role in ("features", "features of the baseline"):
        assert (rows[role].tiles, rows[role].pixels) == (118, 118 * 16**2)
    assert "1 at once" in rows["map"].note
    assert "processes of a stage is not counted" in shown(estimate)
    assert rows["map"].tiles == 900
    assert rows["map"].pixels == 900 * 16**2
    assert rows["pictures, page, project, report"].jobs == 5
    assert all(stage.cost.seconds > 0 and stage.memory_bytes > 0 for stage in estimate.stages)
    assert max(stage.cost.seconds for stage in estimate.stages) < estimate.seconds <= estimate.total.cost.seconds
    assert "pictures, page, project, report (5 processes)" in shown(estimate)
    # It leaves no output behind that a run would take for its own.
    assert not (study_folder / "work" / "clusters.parquet").exists()


def test_a_survey_that_cannot_be_read_is_named(study_folder: Path) -> None:
    study = prepare_study(study_folder / "study.yaml", work=study_folder / "work")
    (study_folder / "clusters.csv").unlink()
    with pytest.raises(StudyError, match=r"the probe of the study failed.*clusters\.csv"):
        estimate_study(study, work=study_folder / "work", probe_s=0.1)
