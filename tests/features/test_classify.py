from __future__ import annotations

import json
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from geopov.errors import FeatureError
from geopov.features import extract
from geopov.features.classification.apply import classify, open_classifier
from geopov.features.classification.classifier import TileClassifier, train_classifier
from geopov.features.classification.labels import prepare_labels


@dataclass
class Spec:
    size_px: int
    resolution_m: float
    context_px: int = 0

    def to_dict(self):
        return {"size_px": self.size_px, "resolution_m": self.resolution_m, "context_px": self.context_px}


@dataclass
class Batch:
    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray


class Tiles:
    """Tiles in memory, 1 km apart in a row of columns, with every batch they gave counted."""

    def __init__(self, data, *, valid=None, context_px=0, band_names=None, spacing=0.01, owners=None, columns=25):
        n, n_bands, side, _ = data.shape
        self.data, self.valid = data, np.ones((n, side, side), bool) if valid is None else valid
        self.spec = Spec(side - 2 * context_px, 10.0, context_px)
        self.band_names = band_names or [f"band{i + 1}" for i in range(n_bands)]
        x, y = spacing * (np.arange(n) % columns), spacing * (np.arange(n) // columns)
        self.index = gpd.GeoDataFrame(
            {"tile_id": [f"t{i:04d}" for i in range(n)], "cluster_id": owners or [f"c{i:04d}" for i in range(n)]},
            geometry=gpd.points_from_xy(28 + x, -29 + y),
            crs="EPSG:4326",
        )

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        order = np.arange(len(self))[::-1]
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield Batch(self.data[rows], self.valid[rows], rows)


def roofs(n=500, seed=0, side=8):
    """Tiles of three kinds whose brightness overlaps; the kinds are as frequent as 6 : 3 : 1."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, n, p=(0.6, 0.3, 0.1))
    level = 60 + 50 * kinds + rng.normal(0, 25, n)
    data = np.clip(level[:, None, None, None] + rng.normal(0, 20, (n, 1, side, side)), 0, 255).astype(np.uint8)
    tiles = Tiles(data)
    labels = tiles.index[["cluster_id", "geometry"]].assign(roof=np.array(["none", "thatch", "metal"])[kinds])
    return tiles, labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tiles, labels = roofs(n=2500)
    folder = tmp_path_factory.mktemp("roofs")
    return tiles, labels, folder, train_classifier(tiles, labels, label="roof", folder=folder, extractor="band_mean")


def test_probabilities_hold_on_tiles_not_seen(trained):
    _, _, _, classifier = trained
    tiles, labels = roofs(n=4000, seed=9)
    table = classify(classifier, tiles)
    for name in classifier.classes:
        happened = (labels["roof"] == name).to_numpy()
        probability = table[f"p_{name}"].to_numpy(dtype=float)
        assert probability.mean() == pytest.approx(happened.mean(), abs=0.03)
        sure = probability > 0.7
        assert happened[sure].mean() == pytest.approx(probability[sure].mean(), abs=0.06)
    assert (table["predicted"].to_numpy() == labels["roof"].to_numpy()).mean() > 0.75


def test_the_table_is_in_the_order_of_the_index_and_sums_to_one(trained):
    tiles, _, folder, classifier = trained
    table = classify(folder, tiles, batch_size=64)
    assert list(table.columns) == ["tile_id", "cluster_id", "predicted", "p_metal", "p_none", "p_thatch", "geometry"]
    assert list(table["tile_id"]) == list(tiles.index["tile_id"])
    assert table.crs == tiles.index.crs
    np.testing.assert_allclose(table[classifier.feature_names].sum(axis=1), 1, atol=1e-6)
    assert json.loads(table.attrs["classifier"])["classes"] == ["metal", "none", "thatch"]


def test_what_is_written_is_what_was_trained_whatever_the_batches(trained):
    tiles, _, folder, classifier = trained
    first, again = classify(classifier, tiles, batch_size=7), classify(open_classifier(folder), tiles, batch_size=500)
    pd.testing.assert_frame_equal(first, again)


def test_training_again_gives_the_same_bytes(trained, tmp_path):
    tiles, labels, folder, _ = trained
    train_classifier(tiles, labels, label="roof", folder=tmp_path, extractor="band_mean")
    for name in ("classifier.json", "calibration.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
        assert str(folder) not in (folder / name).read_text()


def test_a_cluster_has_the_mean_probability_of_its_tiles(trained):
    tiles, _, _, classifier = trained
    pairs = Tiles(tiles.data[:40], owners=[f"pair{i // 2}" for i in range(40)])
    features = extract(classifier, pairs)
    alone = classify(classifier, pairs)["p_metal"].to_numpy().reshape(-1, 2).mean(axis=1)
    assert list(features["feature"].values) == ["p_metal", "p_none", "p_thatch"]
    np.testing.assert_allclose(features.sel(feature="p_metal"), alone, atol=1e-6)


def test_a_tile_without_pixels_has_no_prediction(trained):
    tiles, _, _, classifier = trained
    valid = np.ones((5, 8, 8), bool)
    valid[3] = False
    table = classify(classifier, Tiles(tiles.data[:5], valid=valid))
    assert table["predicted"].isna().tolist() == [False, False, False, True, False]
    assert table.loc[3, ["p_metal", "p_none", "p_thatch"]].isna().all()


def test_tiles_of_another_size_are_refused(trained):
    _, _, _, classifier = trained
    with pytest.raises(FeatureError, match="size_px=9, but the classifier was trained on 8"):
        classify(classifier, Tiles(np.zeros((2, 1, 9, 9), np.uint8)))


def test_other_bands_are_refused(trained):
    _, _, _, classifier = trained
    with pytest.raises(FeatureError, match="give 2 features; the classifier was trained on 1"):
        classify(classifier, Tiles(np.zeros((2, 2, 8, 8), np.uint8)))


def test_options_of_a_network_do_not_go_with_an_extractor(tmp_path):
    tiles, labels = roofs(60)
    with pytest.raises(FeatureError, match="epochs belongs to training a network"):
        train_classifier(tiles, labels, label="roof", folder=tmp_path, extractor="band_mean", epochs=3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classifier.json", "{", "not readable as JSON"),
        ("classifier.json", "[]", "holds a list"),
        ("classifier.json", "{}", "no whole classifier"),
        ("calibration.json", '{"calibration": {}, "checks": {}}', "holds no calibration"),
        ("calibration.json", None, "there is no"),
    ],
)
def test_a_damaged_folder_is_told(trained, tmp_path, name, content, message):
    trained[3].write(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(FeatureError, match=message):
        TileClassifier.open(tmp_path)


# Labels and their split


def test_no_tile_of_one_split_overlaps_one_of_another():
    # 80 m tiles every 55 m or so: neighbours overlap.
    tiles = Tiles(np.zeros((900, 1, 8, 8), np.uint8), spacing=0.0005, columns=30)
    labels = tiles.index[["cluster_id", "geometry"]].assign(roof=np.arange(900) % 3)
    found = prepare_labels(tiles, labels, label="roof", block_km=0.4, seed=2)
    metric = found.table.to_crs("EPSG:32735")
    x, y, split = metric.geometry.x.to_numpy(), metric.geometry.y.to_numpy(), metric["split"].to_numpy()
    apart = np.maximum(np.abs(x[:, None] - x), np.abs(y[:, None] - y))
    assert apart[split[:, None] != split].min() >= 80
    assert found.report["n_overlapping"] == 900 - len(found.table) > 0
    assert found.report["overlapping"] == "left out"


def test_shares_are_met_class_by_class():
    tiles, labels = roofs(n=2000)
    found = prepare_labels(tiles, labels, label="roof", block_km=3, shares=(0.6, 0.2, 0.2))
    for code in range(3):
        of_class = found.table.loc[found.table["class_code"] == code, "split"].value_counts(normalize=True)
        assert of_class["train"] == pytest.approx(0.6, abs=0.06)
        assert of_class["test"] == pytest.approx(0.2, abs=0.06)


def test_a_given_split_is_kept_and_its_overlaps_counted():
    tiles = Tiles(np.zeros((12, 1, 8, 8), np.uint8), spacing=0.0005)
    labels = tiles.index[["cluster_id", "geometry"]].assign(
        roof=list("ab") * 6, split=["train", "validation", "test"] * 4
    )
    found = prepare_labels(tiles, labels, label="roof")
    assert list(found.table["split"]) == list(labels["split"])
    # Each training tile touches a validation tile, and each validation tile a test tile.
    assert found.report["n_overlapping"] == 8
    assert found.report["overlapping"] == "kept"


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([True, False], ("not_settled", "settled")),
        ([10, 2], ("2", "10")),
        ([1.0, 0.0], ("0", "1")),
        (["b", "a"], ("a", "b")),
        (pd.Categorical(["poor", "good"], categories=["good", "fair", "poor"]), ("good", "poor")),
    ],
)
def test_classes_are_in_the_order_of_their_values(values, classes):
    tiles = Tiles(np.zeros((60, 1, 8, 8), np.uint8))
    column = pd.Series(values).take(np.arange(60) % 2).reset_index(drop=True)
    split = np.repeat(["train", "validation", "test"], 20)
    labels = tiles.index[["cluster_id", "geometry"]].assign(settled=column, split=split)
    found = prepare_labels(tiles, labels, label="settled")
    assert found.classes == classes
    assert found.codes[:2].tolist() == [1, 0]


def test_points_without_label_or_tile_are_left_out_and_counted():
    tiles, labels = roofs(n=300)
    labels.loc[:9, "roof"] = None
    labels.loc[10:14, "cluster_id"] = [f"x{i}" for i in range(5)]
    found = prepare_labels(tiles, labels, label="roof")
    assert found.report["n_without_label"] == 10
    assert found.report["n_without_tile"] == 5
    assert found.positions.min() == 15
    assert len(found.positions) == len(found.codes) == len(found.split) == 285


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.drop(columns="roof"), {}, "no column 'roof'"),
        (lambda t: t.assign(roof=np.arange(len(t)) / 7), {}, "expected classes"),
        (lambda t: t.assign(roof="a"), {}, "only the value 'a'"),
        (lambda t: t.assign(roof=["a", 1] * 50), {}, "mixes text and numbers"),
        (lambda t: t.assign(split="training"), {}, "'training'; expected 'train', 'validation', 'test'"),
        (lambda t: t.assign(split="train"), {}, "no point of class 'metal' in validation"),
        (lambda t: t.assign(cluster_id="z" + t["cluster_id"]), {}, "none of 100 labelled points owns a tile"),
        (lambda t: t, {"block_km": 0.05}, "less than the 0.08 km side of a tile"),
        (lambda t: t, {"shares": (1, 0, 0)}, "three numbers above zero"),
    ],
)
def test_labels_that_do_not_fit_are_told(change, options, message):
    tiles, labels = roofs(n=100)
    with pytest.raises(FeatureError, match=message):
        prepare_labels(tiles, change(labels), label="roof", **options)
