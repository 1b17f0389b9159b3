from __future__ import annotations

import shutil
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from geopov.errors import FeatureError
from geopov.features.classification.apply import classify, open_classifier
from geopov.features.classification.classifier import train_classifier
from geopov.features.classification.two_stage import TwoStage, train_two_stage

pytest.importorskip("torch")
pytest.importorskip("lightning")

NETWORK = {
    "backbone": "squeezenet1_1",
    "weights": None,
    "epochs": 2,
    "frozen_epochs": 0,
    "backbone_learning_rate": 1e-3,
    "batch_size": 32,
    "accelerator": "cpu",
    "threads": 1,
}


@dataclass
class Batch:
    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray


class Spec:
    context_px = 0

    def to_dict(self):
        return {"size_px": 24, "resolution_m": 10.0, "context_px": 0}


class Tiles:
    def __init__(self, data):
        self.data, self.spec, self.band_names = data, Spec(), ["grey"]
        at = np.arange(len(data))
        self.index = gpd.GeoDataFrame(
            {"tile_id": [f"t{i:03d}" for i in at], "cluster_id": [f"c{i:03d}" for i in at]},
            geometry=gpd.points_from_xy(28 + 0.01 * (at % 20), -29 + 0.01 * (at // 20)),
            crs="EPSG:4326",
        )

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        for start in range(0, len(self), batch_size):
            rows = np.arange(start, min(start + batch_size, len(self)))
            yield Batch(self.data[rows], np.ones((len(rows), 24, 24), bool), rows)


def land(n=240, seed=0):
    """One tile in six has a bright square on it; its class is written 2, and the other's 10."""
    rng = np.random.default_rng(seed)
    kinds = (rng.random(n) < 1 / 6).astype(int)
    data = rng.normal(90, 15, (n, 1, 24, 24))
    data[:, :, 8:16, 8:16] += 90 * kinds[:, None, None, None]
    tiles = Tiles(np.clip(data, 0, 255).astype(np.uint8))
    return tiles, tiles.index[["cluster_id", "geometry"]].assign(kind=np.array([10, 2])[kinds])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tiles, labels = land()
    folder = tmp_path_factory.mktemp("network") / "kinds"
    return tiles, labels, folder, train_classifier(tiles, labels, label="kind", folder=folder, **NETWORK)


def test_its_scores_are_the_networks_without_the_weights_of_the_classes(trained):
    from geopov.features.training.predict import TrainedNetwork

    tiles, _, folder, classifier = trained
    network = TrainedNetwork.load(folder / "network", threads=1)
    assert classifier.classes == ("2", "10") == network.card.outputs
    weights = np.asarray(network.card.training["class_weights"])
    assert weights[0] > 3 * weights[1]
    logits = network.outputs(tiles).astype(float) - np.log(weights)
    expected = softmax(logits / classifier.calibration.temperature, axis=1)
    table = classify(classifier, tiles)
    np.testing.assert_allclose(table[["p_2", "p_10"]], expected, atol=1e-4)


def test_a_folder_that_moved_opens_and_says_the_same(trained, tmp_path):
    tiles, _, folder, classifier = trained
    shutil.copytree(folder, tmp_path / "moved")
    pd.testing.assert_frame_equal(classify(open_classifier(tmp_path / "moved"), tiles), classify(classifier, tiles))


def test_asking_again_trains_nothing_and_writes_the_same(trained):
    tiles, labels, folder, _ = trained
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    steps = []
    train_classifier(
        tiles, labels, label="kind", folder=folder, progress=lambda done, total: steps.append(total), **NETWORK
    )
    assert steps == []
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files
    for path, (content, written) in before.items():
        assert path.read_bytes() == content
        if path.parent.name == "network":
            assert path.stat().st_mtime_ns == written
        assert b"/tmp" not in content
    with pytest.raises(FeatureError, match="epochs was 2 and is 3"):
        train_classifier(tiles, labels, label="kind", folder=folder, **NETWORK | {"epochs": 3})


def test_other_weights_beside_the_head_are_refused(trained, tmp_path):
    shutil.copytree(trained[2], tmp_path / "damaged")
    weights = tmp_path / "damaged" / "network" / "network.pth"
    weights.write_bytes(weights.read_bytes() + b"0")
    with pytest.raises(FeatureError, match="has sha256"):
        open_classifier(tmp_path / "damaged")


def test_what_the_classifier_sets_itself_is_refused(trained, tmp_path):
    tiles, labels, _, _ = trained
    with pytest.raises(FeatureError, match="task is set by the classifier itself"):
        train_classifier(tiles, labels, label="kind", folder=tmp_path, task="regression", **NETWORK)


def test_a_network_is_the_second_stage(trained, tmp_path):
    tiles, labels, _, alone = trained
    both = train_two_stage(
        tiles, labels, label="kind", positive="2", folder=tmp_path, first="band_mean", sensitivity=0.9, **NETWORK
    )
    table = classify(both, tiles)
    kept = (table["stage"] == 2).to_numpy()
    assert isinstance(both, TwoStage)
    assert 0.05 < kept.mean() < 0.9
    # The network is the same as without a first pass; its temperature is that of the tiles let through.
    np.testing.assert_array_equal(both.second.weights, alone.weights)
    assert both.second.calibration.n_tiles < alone.calibration.n_tiles
