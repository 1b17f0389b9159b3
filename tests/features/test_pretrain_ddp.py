"""Training on several devices, started from the command line as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import typer
from affine import Affine
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("lightning")

from geopov.cli.features.pretrain import pretrain  # noqa: E402
from geopov.features.networks.card import NetworkCard  # noqa: E402
from geopov.features.training.predict import TrainedNetwork  # noqa: E402
from geopov.tiles import TileSpec, extract  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
        reason="torch was built without gloo, by which processes on CPUs exchange gradients",
    ),
]
app = typer.Typer()
app.command()(pretrain)

# Squares of 16 px in rows and columns; the last columns are for validation and for testing.
ROWS, COLUMNS, SIDE = 8, 8, 16


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A scene of squares of three shades, their centres with shade and split, and the tiles around them."""
    folder = tmp_path_factory.mktemp("ddp")
    rng = np.random.default_rng(0)
    shade = rng.integers(0, 3, (ROWS, COLUMNS))
    pixels = np.kron(shade, np.ones((SIDE, SIDE), dtype=int)) * 80 + rng.integers(
        1, 80, (3, ROWS * SIDE, COLUMNS * SIDE)
    )
    profile = {"driver": "GTiff", "count": 3, "height": ROWS * SIDE, "width": COLUMNS * SIDE, "dtype": "uint8"}
    transform = Affine(30, 0, 500_000, 0, -30, 8_000_000)
    with rasterio.open(folder / "scene.tif", "w", **profile, crs="EPSG:32736", transform=transform) as scene:
        scene.write(pixels.astype(np.uint8))
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    points = gpd.GeoDataFrame(
        {
            "cluster_id": [f"n{i:03d}" for i in range(ROWS * COLUMNS)],
            "lights_class": shade.ravel(),
            "split": np.select([column < COLUMNS - 3, column < COLUMNS - 1], ["train", "validation"], "test"),
        },
        geometry=gpd.points_from_xy(500_240 + 480 * column, 7_999_760 - 480 * row),
        crs="EPSG:32736",
    ).to_crs("EPSG:4326")
    points.to_parquet(folder / "points.parquet")
    tiles = extract(folder / "scene.tif", points, TileSpec(size_px=SIDE, resolution_m=30))
    return folder, tiles


HOW = ["--scene", "scene.tif", "--size-px", SIDE, "--resolution-m", 30, "--points", "points.parquet"]
# No batch norms, whose statistics are each device's own; each tile counts alike, so that the mean of the devices'
# losses is the loss of their tiles. The first of the epochs is with the trunk frozen.
HOW += ["--backbone", "squeezenet1_1", "--weights", "none", "--input-px", 32, "--no-balance", "--epochs", 6]
HOW += ["--learning-rate", 0.003, "--backbone-learning-rate", 0.001, "--accelerator", "cpu", "--threads", 1]


@pytest.fixture(scope="module")
def trained(study):
    """Trainings by batches of 8 tiles: on one device, and twice on two with 4 each, by either name of the strategy."""
    folder, _ = study
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        one = [*HOW, "--batch-size", 8, "-o", "one"]
        done = CliRunner().invoke(app, [str(word) for word in one])
        assert done.exit_code == 0, done.output
    for name, strategy in {"two": "auto", "again": "ddp"}.items():
        two = [*HOW, "--batch-size", 4, "--devices", 2, "--strategy", strategy, "-o", name]
        command = [sys.executable, "-m", "geopov", "features", "pretrain", *map(str, two)]
        # In a group of its own, so that none of its processes outlives it.
        started = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            _, said = started.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.communicate()
            raise
        assert started.returncode == 0, said
    return folder


def test_two_devices_learn_what_one_does(study, trained):
    _, tiles = study
    one, two = (
        TrainedNetwork.load(trained / name, threads=1, engine="eager").outputs(tiles) for name in ("one", "two")
    )
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-3 * np.abs(one).max())
    first, second = (NetworkCard.read(trained / name).training for name in ("one", "two"))
    assert first["epochs"] == second["epochs"] == 6
    for before, after in zip(first["history"], second["history"], strict=True):
        assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-2, abs=1e-3)
        assert after["validation"] == pytest.approx(before["validation"], rel=1e-2, abs=1e-3)
    assert second["validation"]["accuracy"] > 0.9
    assert second["test"] == pytest.approx(first["test"], rel=1e-2, abs=1e-3)


def test_two_devices_repeat_themselves(trained):
    for name in ("network.pth", "card.json"):
        assert (trained / "again" / name).read_bytes() == (trained / "two" / name).read_bytes()


def test_two_devices_leave_nothing_but_the_network(trained):
    for name in ("two", "again"):
        assert sorted(path.name for path in (trained / name).iterdir()) == ["card.json", "network.pth"]
