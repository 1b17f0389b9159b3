"""``geopov tiles``: what a user types, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from typer.testing import CliRunner

from geopov.cli.tiles import app
from geopov.errors import RasterError, SurveyError, TileError
from geopov.raster import Scene
from geopov.tiles import TileSet, TileSpec, extract, tile_points

Raster = Callable[..., Path]
Points = Callable[..., gpd.GeoDataFrame]
Noise = Callable[..., np.ndarray]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def clusters(points: Points, tmp_path: Path) -> Path:
    """GeoParquet of three clusters, one beyond the scene."""
    path = tmp_path / "clusters.parquet"
    points([500_800.0, 501_200.0, 800_000.0], 9_699_000.0).to_parquet(path)
    return path


def test_extract(raster: Raster, pixels: Noise, clusters: Path, tmp_path: Path) -> None:
    scene = raster("a", pixels(0, 2, 200, 200), names=("red", "nir"))
    out = tmp_path / "tiles"
    told = run("extract", "--scene", scene, "--points", clusters, "--size-px", 16, "--resolution-m", 10,
               "--context-px", 2, "--band", "nir", "--geotiffs", tmp_path / "tif", "-o", out)  # fmt: skip
    assert "3 tiles of 20 x 20 px" in told
    assert "1 lie on no scene" in told
    saved = TileSet.open(out)
    expected = extract(Scene.open(scene, bands=["nir"]), gpd.read_parquet(clusters), TileSpec(16, 10, context_px=2))
    np.testing.assert_array_equal(saved.read([0, 1, 2]).data, expected.read([0, 1, 2]).data)
    assert sorted(path.name for path in (tmp_path / "tif").iterdir()) == ["c0.tif", "c1.tif"]


def test_window_stack_and_mosaic(raster: Raster, pixels: Noise, clusters: Path, tmp_path: Path) -> None:
    a, b = raster("a", pixels(0, 1, 200, 200)), raster("b", pixels(1, 1, 100, 100), pixel=20.0)
    common = ("--points", clusters, "--size-px", 16, "--resolution-m", 10, "--window-km", 1, "--n-tiles", 4)
    run("extract", "--scene", f"{a},{b}", *common, "-o", tmp_path / "stack")
    run("extract", "--scene", a, "--scene", b, *common, "-o", tmp_path / "mosaic")
    stack, mosaic = TileSet.open(tmp_path / "stack"), TileSet.open(tmp_path / "mosaic")
    assert (len(stack), stack.band_names) == (12, ["a", "b"])
    assert (len(mosaic), mosaic.band_names) == (12, ["band_1"])
    table = tile_points(gpd.read_parquet(clusters), TileSpec(16, 10), window_km=1, n_tiles=4)
    assert stack.index["tile_id"].tolist() == table["tile_id"].tolist()


def test_plan_reads_nothing(raster: Raster, pixels: Noise, clusters: Path) -> None:
    scene = raster("a", pixels(0, 2, 600, 600), block=256)
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) // 3])  # the headers are in front; reading pixels would fail
    told = run("plan", "--scene", scene, "--points", clusters, "--size-px", 16, "--resolution-m", 10)
    assert "2 copied, 0 resampled" in told
    assert "1 lie on no scene" in told


@pytest.mark.parametrize(
    ("extra", "error", "said"),
    [
        (("--window-km", 1), TileError, "go together"),
        (("--resampling", "cubic"), TileError, "resampling is 'cubic'"),
        (("--band", "swir"), RasterError, "has no band 'swir'"),
    ],
)
def test_mistakes(
    raster: Raster, pixels: Noise, clusters: Path, tmp_path: Path, extra: tuple[object, ...], error: type, said: str
) -> None:
    scene = raster("a", pixels(0, 1, 100, 100))
    with pytest.raises(error, match=said):
        run("extract", "--scene", scene, "--points", clusters, "--size-px", 16, "--resolution-m", 10, *extra,
            "-o", tmp_path / "tiles")  # fmt: skip
    assert not (tmp_path / "tiles").exists()


def test_points_that_are_no_geoparquet(raster: Raster, pixels: Noise, tmp_path: Path) -> None:
    table = tmp_path / "clusters.csv"
    table.write_text("cluster_id,lon,lat\n")
    with pytest.raises(SurveyError, match=r"clusters\.csv cannot be read as GeoParquet.*geopov survey points"):
        run(
            "plan",
            "--scene",
            raster("a", pixels(0, 1, 50, 50)),
            "--points",
            table,
            "--size-px",
            4,
            "--resolution-m",
            10,
        )


@pytest.mark.parametrize("command", ["extract", "plan"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: geopov tiles {command}" in " ".join(run(command, "--help").split())


def test_mosaic_of_stacks_with_bands_in_files_of_their_own(raster: Raster, pixels: Noise, tmp_path: Path) -> None:
    names = [["T36_B04", "T36_B08"], ["T37_B04", "T37_B08"]]
    files = [[raster(name, pixels(i, 1, 50, 50)) for i, name in enumerate(group)] for group in names]
    scenes = [Scene.open(group) for group in files]
    x, y = scenes[0].bounds[0] + 250, scenes[0].bounds[3] - 250
    points = gpd.GeoDataFrame({"cluster_id": ["a"]}, geometry=gpd.points_from_xy([x], [y]), crs=scenes[0].crs)
    points.to_parquet(tmp_path / "one.parquet")
    given = [word for group in files for word in ("--scene", f"{group[0]},{group[1]}")]
    size = ["--size-px", 8, "--resolution-m", 10]
    run("extract", *given, "--points", tmp_path / "one.parquet", *size, "-o", tmp_path / "tiles")
    assert TileSet.open(tmp_path / "tiles").band_names == ["B04", "B08"]
