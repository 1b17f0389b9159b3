"""A training that is killed, at any moment, ends with the bytes that an undisturbed one gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("lightning")

# One process imports torch, and forks one child for each training: a child is killed by a real SIGKILL, and another
# takes the folder up again.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import geopandas as gpd
import numpy as np
import torch, torchvision, lightning.pytorch
from geopov.features.networks.card import NetworkCard
from geopov.features.training.fit import pretrain

root = Path(sys.argv[1])
n, side = 48, 16
rng = np.random.default_rng(0)
classes = rng.integers(0, 3, n)
data = (rng.integers(0, 100, (n, 2, side, side)) + 50 * classes[:, None, None, None]).astype(np.uint16)
die = lambda: os.kill(os.getpid(), signal.SIGKILL)


class Tiles:
    band_names = ["red", "nir"]
    spec = SimpleNamespace(context_px=0, to_dict=lambda: {"size_px": side, "resolution_m": 10.0, "context_px": 0})
    index = gpd.GeoDataFrame({"cluster_id": list(map(str, range(n)))}, geometry=gpd.points_from_xy([0.0] * n, [0] * n))

    def __init__(self, kill_at=None):
        self.kill_at = kill_at

    def __len__(self):
        return n

    def iter_batches(self, batch_size):
        for start in range(0, n, 16):
            if start == self.kill_at:
                die()
            rows = np.arange(start, start + 16)
            yield SimpleNamespace(data=data[rows], valid=np.ones((16, side, side), bool), positions=rows)


points = Tiles.index.set_crs(4326).assign(
    lights_class=classes, split=np.repeat(["train", "validation", "test"], [32, 8, 8])
)


def train(name, tiles=Tiles(), progress=None):
    pretrain(
        tiles, points, folder=root / name, backbone="shufflenet_v2_x0_5", weights=None, epochs=4, patience=2,
        batch_size=8, learning_rate=0.02, backbone_learning_rate=0.01, threads=1, progress=progress, accelerator="cpu",
        augment=("flip", "quarter_turn", "colour_jitter"),
    )


def at_batch(number):
    return lambda done, total: die() if done == number else None


def dying(name):
    if name == "reading":
        train(name, tiles=Tiles(kill_at=32))
    elif name == "before_card":
        NetworkCard.write = lambda self, folder: die()
        train(name)
    else:
        train(name, progress=at_batch(int(name.removeprefix("batch"))))


def child(job):
    pid = os.fork()
    if pid == 0:
        try:
            job()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


ends = {}
for name in sys.argv[2:]:
    first = child(lambda: dying(name)) if name != "undisturbed" else -1
    left = sorted(path.name for path in (root / name / ".training").glob("*")) if first != -1 else []
    ends[name] = [first, left, child(lambda: train(name))]
print(json.dumps(ends))
"""

# Four batches an epoch: in the fourth, the first of which was frozen; and when all that is missing is the card.
KILLS = ["reading", "batch13", "before_card"]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), "undisturbed", *KILLS],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return root, json.loads(found.stdout.splitlines()[-1]), found


def test_an_undisturbed_training_says_nothing(ends):
    _, exits, found = ends
    assert exits["undisturbed"][2] == 0, found.stderr
    assert found.stderr == ""
    assert len(found.stdout.splitlines()) == 1


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_training_ends_with_the_same_bytes(ends, kill):
    root, exits, found = ends
    first, left, second = exits[kill]
    assert first == 9, found.stderr  # SIGKILL
    assert second == 0, found.stderr
    kept = {"asked.json"} if kill == "reading" else {"asked.json", "best.pth", "last.ckpt"}
    assert set(left) == kept
    for name in ("network.pth", "card.json"):
        assert (root / kill / name).read_bytes() == (root / "undisturbed" / name).read_bytes()
    assert sorted(path.name for path in (root / kill).iterdir()) == ["card.json", "network.pth"]


def test_the_training_went_past_the_kills(ends):
    root, _, _ = ends
    training = json.loads(Path(root / "undisturbed" / "card.json").read_text())["training"]
    assert training["epochs"] == len(training["history"]) >= 3
