"""Training as a whole, on a small network and small tiles whose brightness tells the label."""

from __future__ import annotations

import json
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("lightning")

from geopov.errors import FeatureError, GeopovError  # noqa: E402
from geopov.features import build, extract  # noqa: E402
from geopov.features.networks.backbones import load_backbone  # noqa: E402
from geopov.features.networks.card import NetworkCard  # noqa: E402
from geopov.features.networks.trained import load_trained  # noqa: E402
from geopov.features.preprocess import Preprocessing  # noqa: E402
from geopov.features.training.fit import pretrain  # noqa: E402
from geopov.features.training.predict import TrainedNetwork  # noqa: E402

N, SIDE = 64, 16
SPLIT = np.repeat(["train", "validation", "test"], [40, 16, 8])
TINY = {
    "backbone": "shufflenet_v2_x0_5",
    "weights": None,
    "batch_size": 8,
    "epochs": 2,
    "threads": 1,
    "accelerator": "cpu",
}


class Tiles:
    def __init__(self, data, *, valid=None, context_px=0, bands=None):
        n, n_bands, side, _ = data.shape
        self.data, self.valid = data, np.ones((n, side, side), dtype=bool) if valid is None else valid
        self.band_names = bands or ["red", "nir", "swir", "blue"][:n_bands]
        spec = {"size_px": side - 2 * context_px, "resolution_m": 10.0, "context_px": context_px}
        self.spec = SimpleNamespace(context_px=context_px, to_dict=lambda: spec)
        self.index = gpd.GeoDataFrame(
            {"cluster_id": [f"n{i}" for i in range(n)]},
            geometry=gpd.points_from_xy(np.arange(n) / 10, np.zeros(n)),
            crs="EPSG:4326",
        )

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        # Not in the order of the index, as scenes are not read in it.
        order = np.random.default_rng(9).permutation(len(self))
        for start in range(0, len(self), 24):
            rows = order[start : start + 24]
            yield SimpleNamespace(data=self.data[rows], valid=self.valid[rows], positions=rows)


class UnreadableTiles(Tiles):
    def iter_batches(self, batch_size=256):
        raise AssertionError("read")


def world(*, n_bands=2, dtype=np.uint16, side=SIDE):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, N)
    data = (rng.integers(0, 80, (N, n_bands, side, side)) + 80 * classes[:, None, None, None]).astype(dtype)
    points = Tiles(data).index.assign(lights_class=classes, lights=classes * 2.0, split=SPLIT)
    return data, points


def card_of(folder):
    return NetworkCard.read(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "network"
    data, points = world()
    points.attrs["nightlights"] = json.dumps({"unit": "nW/cm²/sr", "classes": {"edges": [1.0, 3.0]}})
    seen = []
    extractor = pretrain(
        Tiles(data),
        points,
        folder=folder,
        progress=lambda done, total: seen.append((done, total)),
        logger="csv",
        licence="CC0-1.0",
        **TINY,
    )
    return SimpleNamespace(folder=folder, data=data, points=points, extractor=extractor, progress=seen)


def test_the_card_says_what_was_done(trained):
    card = card_of(trained.folder)
    assert (card.backbone, card.bands, card.task, card.outputs) == (
        "shufflenet_v2_x0_5",
        ("red", "nir"),
        "classification",
        ("0", "1", "2"),
    )
    assert (card.class_edges, card.unit, card.licence) == ((1.0, 3.0), "nW/cm²/sr", "CC0-1.0")
    assert card.start == {"origin": "random", "source": "seed 0", "sha256": None}
    counts = {
        split: {str(c): int(n) for c, n in enumerate(np.bincount(trained.points["lights_class"][split == SPLIT]))}
        for split in ("train", "validation", "test")
    }
    assert card.data["tiles"] == counts
    training = card.training
    assert training["augmentation"] == ["flip", "quarter_turn"]
    assert training["validation"] == training["history"][training["best_epoch"] - 1]["validation"]
    in_train = np.bincount(trained.points["lights_class"][SPLIT == "train"])
    np.testing.assert_allclose(training["class_weights"], 40 / (3 * in_train))
    assert not {"time", "date"} & set(json.dumps(training).split('"'))


def test_limits_and_scale_come_from_the_training_tiles_alone(trained):
    card = card_of(trained.folder)
    values = trained.data[SPLIT == "train"].transpose(1, 0, 2, 3).reshape(2, -1).astype(float)
    lo, hi = np.percentile(values, (2, 98), axis=1)
    np.testing.assert_allclose((card.lo, card.hi), (lo, hi))
    unit = (np.clip(values, lo[:, None], hi[:, None]) - lo[:, None]) / (hi - lo)[:, None]
    np.testing.assert_allclose((card.mean, card.std), (unit.mean(1), unit.std(1)), rtol=1e-5)


def test_nothing_but_the_network_and_its_logs_is_left(trained):
    assert sorted(path.name for path in trained.folder.iterdir()) == ["card.json", "logs", "network.pth"]
    logged = next((trained.folder / "logs").rglob("metrics.csv")).read_text().splitlines()
    assert {"train_loss", "validation_loss", "validation_accuracy"} <= set(logged[0].split(","))
    assert trained.progress == [(i, 10) for i in range(1, 11)]


def test_outputs_equal_a_plain_forward_pass_of_the_saved_weights(trained):
    parts, card = load_trained(trained.folder), card_of(trained.folder)
    seen = Preprocessing(bands=card.bands, lo=card.lo, hi=card.hi)
    tiles = Tiles(trained.data)
    planes = seen.planes(tiles.data, tiles.valid, band_names=tiles.band_names, mean=card.mean, std=card.std)
    with torch.inference_mode():
        expected = parts.head(parts.backbone.trunk(torch.from_numpy(planes)).mean((2, 3))).numpy()
    network = TrainedNetwork.load(trained.folder, threads=1, engine="eager")
    np.testing.assert_allclose(network.outputs(tiles), expected, atol=1e-4 * np.abs(expected).max())
    odds = np.exp(expected)
    np.testing.assert_allclose(network.probabilities(tiles), odds / odds.sum(1, keepdims=True), atol=1e-4)
    test = card.training["test"]
    assert test["accuracy"] == np.mean(expected[56:].argmax(1) == trained.points["lights_class"][56:])


def test_tiles_with_too_few_valid_pixels_get_no_outputs(trained):
    valid = np.ones((N, SIDE, SIDE), dtype=bool)
    valid[3] = False
    found = TrainedNetwork.load(trained.folder, threads=1, engine="eager").outputs(Tiles(trained.data, valid=valid))
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [3]


def test_the_extractor_goes_on_to_features(trained):
    spec = trained.extractor.spec()
    features = extract(build(spec | {"engine": "eager"}), Tiles(trained.data))
    assert features.shape == (N, 1024)
    assert spec["weights_sha256"] == card_of(trained.folder).sha256


def test_a_finished_folder_is_returned_unread(trained):
    before = {path: path.read_bytes() for path in trained.folder.glob("*.*")}
    tiles = UnreadableTiles(trained.data)
    pretrain(tiles, trained.points, folder=trained.folder, licence="CC0-1.0", **TINY)
    assert {path: path.read_bytes() for path in trained.folder.glob("*.*")} == before


@pytest.mark.parametrize(("change", "what"), [({"seed": 1}, "seed was 0 and is 1"), ({"patience": 3}, "patience")])
def test_a_folder_of_other_settings_is_refused(trained, change, what):
    with pytest.raises(FeatureError, match=what):
        pretrain(
            UnreadableTiles(trained.data), trained.points, folder=trained.folder, licence="CC0-1.0", **TINY | change
        )


def test_other_points_are_other_settings(trained):
    points = trained.points.assign(lights_class=trained.points["lights_class"].iloc[::-1].to_numpy())
    with pytest.raises(FeatureError, match="points_sha256"):
        pretrain(Tiles(trained.data), points, folder=trained.folder, licence="CC0-1.0", **TINY)


@pytest.mark.parametrize("task", ["classification", "ordinal", "regression"])
def test_each_task_is_learnt(tmp_path, task):
    data, points = world(n_bands=3, dtype=np.uint8)
    # Without batch norms, whose running statistics need more steps than this.
    how = {"backbone": "squeezenet1_1", "learning_rate": 0.003, "backbone_learning_rate": 0.001, "epochs": 7}
    pretrain(Tiles(data), points, folder=tmp_path / "n", task=task, input_px=32, **TINY | how)
    card = card_of(tmp_path / "n")
    found = card.training["validation"]
    assert (found["R2"] if task == "regression" else found["accuracy"]) > 0.7
    assert (card.lo, card.hi) == ((0.0,) * 3, (255.0,) * 3)
    network = TrainedNetwork.load(tmp_path / "n", threads=1, engine="eager")
    outputs = network.outputs(Tiles(data))
    if task == "regression":
        assert (card.outputs, card.unit) == (("log_lights",), "log(1 + lights)")
        test = SPLIT == "test"
        error = outputs[test, 0] - np.log1p(points["lights"][test])
        assert card.training["test"]["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-3)
        with pytest.raises(FeatureError, match="no probabilities"):
            network.probabilities(Tiles(data))
    else:
        assert outputs.shape == (N, 3 if task == "classification" else 2)
        chances = network.probabilities(Tiles(data))
        np.testing.assert_allclose(chances.sum(1), 1)
        assert np.mean(chances[40:56].argmax(1) == points["lights_class"][40:56]) == found["accuracy"]


def test_a_frozen_trunk_stays_as_it_was_statistics_included(tmp_path):
    data, points = world()
    pretrain(Tiles(data), points, folder=tmp_path / "n", **TINY | {"frozen_epochs": 2, "seed": 5})
    start = load_backbone("shufflenet_v2_x0_5", weights=None, seed=5, n_bands=2).trunk.state_dict()
    end = load_trained(tmp_path / "n").backbone.trunk.state_dict()
    assert any("running_mean" in key for key in start)
    for key, value in start.items():
        assert torch.equal(value, end[key]), key


def test_a_freed_trunk_learns_statistics_included(tmp_path):
    data, points = world()
    # One epoch, so that the network that is kept is one whose trunk was free.
    pretrain(Tiles(data), points, folder=tmp_path / "n", **TINY | {"epochs": 1, "frozen_epochs": 0, "seed": 0})
    start = load_backbone("shufflenet_v2_x0_5", weights=None, seed=0, n_bands=2).trunk.state_dict()
    end = load_trained(tmp_path / "n").backbone.trunk.state_dict()
    assert all(not torch.equal(start[key], end[key]) for key in start if key.endswith(("weight", "running_var")))


def test_processes_that_read_ahead_change_nothing(tmp_path):
    data, points = world()
    options = TINY | {"augment": ("flip", "quarter_turn", "colour_jitter"), "epochs": 1, "frozen_epochs": 0}
    for workers in (0, 2):
        pretrain(Tiles(data), points, folder=tmp_path / str(workers), workers=workers, **options)
    for name in ("network.pth", "card.json"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_tensorboard_reads_what_was_logged(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    data, points = world()
    pretrain(Tiles(data), points, folder=tmp_path / "n", **TINY | {"epochs": 1, "logger": "tensorboard"})
    [events] = (tmp_path / "n" / "logs").rglob("events.*")
    accumulator = reader.EventAccumulator(str(events))
    accumulator.Reload()
    assert {"train_loss", "validation_loss"} <= set(accumulator.Tags()["scalars"])


def test_the_rates_fall_along_a_cosine_or_stay(tmp_path):
    data, points = world()
    for schedule in ("cosine", "constant"):
        pretrain(Tiles(data), points, folder=tmp_path / schedule, **TINY | {"epochs": 2, "schedule": schedule})
    assert card_of(tmp_path / "cosine").sha256 != card_of(tmp_path / "constant").sha256
    with pytest.raises(FeatureError, match="schedule is 'stairs'"):
        pretrain(Tiles(data), points, folder=tmp_path / "c", **TINY | {"schedule": "stairs"})


def test_random_numbers_of_the_caller_are_left_alone(tmp_path):
    data, points = world()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    pretrain(Tiles(data), points, folder=tmp_path / "n", **TINY | {"epochs": 1})
    assert torch.equal(torch.rand(2), expected)


def test_context_is_pooled_over_the_middle_and_invalid_tiles_are_left_out(tmp_path):
    data, points = world(side=32)
    valid = np.ones((N, 32, 32), dtype=bool)
    valid[[0, 50], 10:] = False
    tiles = Tiles(data, valid=valid, context_px=8)
    pretrain(tiles, points, folder=tmp_path / "n", **TINY | {"epochs": 1, "input_px": 24})
    card = card_of(tmp_path / "n")
    assert (card.context_px, card.input_px) == (8, 24)
    assert card.data["n_too_few_valid_pixels"] == 2
    assert sum(card.data["tiles"]["train"].values()) == 39
    outputs = TrainedNetwork.load(tmp_path / "n", threads=1, engine="eager").outputs(tiles)
    assert np.flatnonzero(np.isnan(outputs[:, 0])).tolist() == [0, 50]
    assert card.training["test"]["accuracy"] == np.mean(outputs[56:].argmax(1) == points["lights_class"][56:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "clustering"}, "task is 'clustering'"),
        ({"augment": ["rotate"]}, "rotate"),
        ({"epochs": 0}, "epochs is 0"),
        ({"label": "roof"}, "no column 'roof'"),
        ({"bands": ["thermal"]}, "no band 'thermal'"),
        ({"backbone": "resnet19"}, "resnet19"),
        ({"lo": 5, "hi": 1}, "lo below hi"),
        ({"weights": "nowhere.pth"}, "nowhere.pth"),
        ({"precision": "7-bit"}, "precision '7-bit'"),
        ({"accelerator": "abacus"}, "accelerator is 'abacus'"),
        ({"logger": "stone"}, "logger is 'stone'"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_wrong_input_is_named_before_anything_is_read(tmp_path, options, message):
    data, points = world()
    with pytest.raises(GeopovError, match=message):
        pretrain(UnreadableTiles(data), points, folder=tmp_path / "n", **TINY | options)


def test_a_training_that_diverges_says_so(tmp_path):
    data, points = world()
    with pytest.raises(FeatureError, match="diverged"):
        pretrain(Tiles(data), points, folder=tmp_path / "n", **TINY | {"learning_rate": 1e38, "epochs": 2})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_in_half_precision(tmp_path):
    data, points = world()
    options = TINY | {"backbone": "squeezenet1_1", "accelerator": "gpu", "precision": "bf16-mixed", "epochs": 7}
    rates = {"learning_rate": 0.003, "backbone_learning_rate": 0.001}
    pretrain(Tiles(data), points, folder=tmp_path / "n", input_px=32, **options | rates)
    assert card_of(tmp_path / "n").training["validation"]["accuracy"] > 0.7
