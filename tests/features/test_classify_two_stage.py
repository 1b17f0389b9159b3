from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import FeatureError
from geopov.features.classification.apply import classify, open_classifier
from geopov.features.classification.two_stage import TwoStage, choose_threshold, train_two_stage


@dataclass
class Batch:
    data: np.ndarray
    valid: np.ndarray
    positions: np.ndarray


@dataclass
class Spec:
    size_px: int = 8
    context_px: int = 0

    def to_dict(self):
        return {"size_px": self.size_px, "resolution_m": 10.0, "context_px": self.context_px}


class Tiles:
    """Tiles in memory, 1 km apart."""

    def __init__(self, data):
        self.data, self.spec, self.band_names = data, Spec(), ["lights", "texture"]
        at = np.arange(len(data))
        self.index = gpd.GeoDataFrame(
            {"tile_id": [f"t{i:04d}" for i in at], "cluster_id": [f"c{i:04d}" for i in at]},
            geometry=gpd.points_from_xy(28 + 0.01 * (at % 40), -29 + 0.01 * (at // 40)),
            crs="EPSG:4326",
        )
        self.read = []

    def __len__(self):
        return len(self.data)

    def iter_batches(self, batch_size=256):
        for start in range(0, len(self), batch_size):
            rows = np.arange(start, min(start + batch_size, len(self)))
            self.read.extend(rows.tolist())
            yield Batch(self.data[rows], np.ones((len(rows), 8, 8), bool), rows)


def land(n=1600, seed=0):
    """A fifth settled, which shows in the lights; roofs show in the texture of settled tiles only."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, n, p=(0.8, 0.12, 0.08))
    lights = np.where(kinds > 0, 120, 50) + rng.normal(0, 18, n)
    texture = np.select([kinds == 1, kinds == 2], [80, 150], rng.integers(60, 180, n)) + rng.normal(0, 15, n)
    data = np.stack([lights, texture], axis=1)[:, :, None, None] + rng.normal(0, 10, (n, 2, 8, 8))
    tiles = Tiles(np.clip(data, 0, 255).astype(np.uint8))
    labels = tiles.index[["cluster_id", "geometry"]].assign(roof=np.array(["none", "thatch", "metal"])[kinds])
    return tiles, labels


FIRST = {"name": "band_mean", "bands": ["lights"]}
SECOND = {"name": "band_statistics", "bands": ["lights", "texture"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tiles, labels = land()
    folder = tmp_path_factory.mktemp("stages")
    return folder, train_two_stage(
        tiles, labels, label="roof", positive=["thatch", "metal"], folder=folder, first=FIRST, extractor=SECOND
    )


def test_threshold_by_hand():
    probability = np.array([0.9, 0.8, 0.6, 0.4, 0.7, 0.5, 0.3, 0.1])
    wanted = np.array([True, True, True, True, False, False, False, False])
    found = choose_threshold(probability, wanted, sensitivity=0.75)
    assert found.value == pytest.approx(0.6)
    assert found.sensitivity == 0.75
    assert found.kept == 0.5
    # Clopper & Pearson for 3 of 4.
    assert (found.low, found.high) == pytest.approx((0.194120, 0.993690), abs=1e-6)
    assert choose_threshold(probability, wanted, sensitivity=0.76).value == pytest.approx(0.4)


def test_nineteen_of_twenty_are_ninety_five_percent():
    probability = np.arange(1, 21) / 20
    assert choose_threshold(probability, np.ones(20, bool), sensitivity=0.95).sensitivity == 0.95


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 80), sensitivity=st.floats(0.01, 1), steps=st.integers(2, 50))
def test_the_threshold_is_the_highest_that_keeps_enough(seed, n, sensitivity, steps):
    rng = np.random.default_rng(seed)
    probability, wanted = rng.integers(0, steps, n) / steps, rng.random(n) < 0.5
    wanted[0] = True
    found = choose_threshold(probability, wanted, sensitivity=sensitivity)
    assert found.sensitivity >= sensitivity - 1e-9
    higher = probability[probability.astype(np.float32) > np.float32(found.value)]
    for value in np.unique(higher):
        assert (probability[wanted] >= value).mean() < sensitivity


def test_the_second_sees_only_what_the_first_lets_through(trained):
    _, both = trained
    tiles, _ = land(seed=5)
    seen = []

    class Watched(type(both.second)):
        def __call__(self, data, valid):
            seen.append(data)
            return super().__call__(data, valid)

    second = both.second
    watched = TwoStage(
        both.classes,
        both.positive,
        both.threshold,
        both.first,
        Watched(second.classes, second.extractor, second.weights, second.intercept, second.calibration, second.card),
        both.shares,
    )
    table = classify(watched, tiles, batch_size=100)
    kept = (table["stage"] == 2).to_numpy()
    assert tiles.read == list(range(len(tiles)))
    np.testing.assert_array_equal(np.concatenate(seen), tiles.data[kept])
    assert 0.1 < kept.mean() < 0.5
    np.testing.assert_array_equal(kept, table["first_pass"].to_numpy() >= np.float32(both.threshold.value))
    alone = classify(second, tiles)
    columns = [f"p_{name}" for name in both.classes]
    np.testing.assert_array_equal(table.loc[kept, columns], alone.loc[kept, columns])


def test_a_tile_ruled_out_has_the_first_pass_spread_by_the_classes_shares(trained):
    _, both = trained
    tiles, _ = land(seed=6)
    table = classify(both, tiles)
    out = table[table["stage"] == 1]
    shares = dict(zip(both.classes, both.shares, strict=True))
    np.testing.assert_allclose(out["p_metal"] + out["p_thatch"], out["first_pass"], atol=1e-6)
    np.testing.assert_allclose(out["p_none"], 1 - out["first_pass"], atol=1e-6)
    np.testing.assert_allclose(out["p_metal"] / out["p_thatch"], shares["metal"] / shares["thatch"], rtol=1e-4)


def test_the_sensitivity_asked_for_holds_on_other_land(trained):
    _, both = trained
    tiles, labels = land(n=8000, seed=7)
    table = classify(both, tiles)
    wanted, kept = (labels["roof"] != "none").to_numpy(), (table["stage"] == 2).to_numpy()
    assert both.threshold.low < kept[wanted].mean() < both.threshold.high
    low, high = both.checks["sensitivity_of_first_pass"][1:]
    assert low < kept[wanted].mean() < high
    low, high = both.checks["kept"][1:]
    assert low < kept.mean() < high
    metal = (labels["roof"] == "metal").to_numpy()
    assert table["p_metal"].mean() == pytest.approx(metal.mean(), abs=0.02)


def test_what_is_written_is_what_was_trained(trained):
    folder, both = trained
    tiles, _ = land(seed=8)
    again = open_classifier(folder)
    assert isinstance(again, TwoStage)
    pd.testing.assert_frame_equal(classify(again, tiles, batch_size=33), classify(both, tiles))
    assert again.threshold == both.threshold
    assert again.checks == open_classifier(both.write(folder)).checks


@pytest.mark.parametrize(
    ("probability", "wanted", "sensitivity", "message"),
    [
        ([0.5], [True], 1.5, "sensitivity is 1.5"),
        ([0.5], [True], 0.0, "above zero"),
        ([0.5], [False], 0.9, "0 of 1 tiles are wanted"),
        ([np.nan], [True], 0.9, "one known probability a tile"),
    ],
)
def test_thresholds_that_cannot_be_set_are_told(probability, wanted, sensitivity, message):
    with pytest.raises(FeatureError, match=message):
        choose_threshold(np.array(probability), np.array(wanted), sensitivity=sensitivity)


@pytest.mark.parametrize("positive", ["slate", [], ["none", "metal", "thatch"]])
def test_the_wanted_classes_are_some_of_the_labels(tmp_path, positive):
    tiles, labels = land(n=400)
    with pytest.raises(FeatureError, match="expected one or more of the classes metal, none, thatch, but not all"):
        train_two_stage(tiles, labels, label="roof", positive=positive, folder=tmp_path, extractor=SECOND)
