"""The parts of a training, each against an answer by hand or a library that has it too."""

from __future__ import annotations

from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("lightning")

from geopov.errors import FeatureError  # noqa: E402
from geopov.features.preprocess import Preprocessing  # noqa: E402
from geopov.features.training.cache import fill_cache  # noqa: E402
from geopov.features.training.course import best_epoch, is_over  # noqa: E402
from geopov.features.training.examples import read_examples  # noqa: E402
from geopov.features.training.limits import fit_limits  # noqa: E402
from geopov.features.training.loader import Batch, Batches  # noqa: E402
from geopov.features.training.losses import Target, balanced_weights  # noqa: E402
from geopov.features.training.network import Planes, View  # noqa: E402
from geopov.features.training.tasks import class_probabilities, scores  # noqa: E402


def batch_of(pixels, valid=None, jitter=None):
    n, none = len(pixels), torch.empty(len(pixels), 0)
    return Batch(
        torch.arange(n),
        torch.from_numpy(pixels),
        none if valid is None else torch.from_numpy(valid),
        none if jitter is None else torch.tensor(jitter),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize(("stretch", "lo"), [("linear", (5.0, 0.0, 5.0)), ("log", (1.0, 2.0, 1.0))])
def test_training_sees_what_extraction_sees(rng, dtype, stretch, lo):
    pixels = rng.integers(0, 120, (4, 2, 10, 10)).astype(dtype)
    valid = rng.random((4, 10, 10)) > 0.2
    hi, mean, std = (90.0, 100.0, 90.0), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    seen = Preprocessing(bands=(2, 1, 2), stretch=stretch, lo=lo, hi=hi)
    expected = seen.planes(pixels, valid, band_names=None, mean=mean, std=std)
    view = View(order=(1, 0, 1), stretch=stretch, lo=lo, hi=hi, mean=mean, std=std, side_px=10, share=1)
    planes = Planes(view)(batch_of(pixels, valid))
    np.testing.assert_allclose(planes.numpy(), expected, atol=2e-6)
    assert planes.is_contiguous(memory_format=torch.channels_last)


def test_jitter_is_brightness_and_contrast_about_the_mean():
    view = View(order=(0,), stretch="linear", lo=(0.0,), hi=(10.0,), mean=(0.5,), std=(1.0,), side_px=1, share=1)
    pixels = np.array([2, 6, 10], dtype=np.uint8).reshape(3, 1, 1, 1)
    planes = Planes(view)(batch_of(pixels, jitter=[[1.0, 1.0], [1.2, 0.5], [1.2, 1.2]]))
    # 0.6 x 1.2 = 0.72, half as far from 0.5: 0.61; and 1.2 is clipped.
    np.testing.assert_allclose(planes.flatten().numpy() + 0.5, [0.2, 0.61, 1.0], rtol=1e-6)


class Whole:
    """Tiles that come in one batch."""

    def __init__(self, batch):
        self.spec, self._batch = SimpleNamespace(context_px=0), batch

    def __len__(self):
        return len(self._batch.positions)

    def iter_batches(self, batch_size):
        yield self._batch


@pytest.fixture
def cached(tmp_path, rng):
    def make(n=24, side=4, valid=None):
        data = rng.integers(0, 60000, (n, 2, side, side)).astype(np.uint16)
        mask = np.ones((n, side, side), dtype=bool) if valid is None else valid
        batch = SimpleNamespace(data=data, valid=mask, positions=np.arange(n))
        folder = tmp_path / "cache"
        fill_cache(folder, Whole(batch), positions=np.arange(n), bands=[0, 1], min_valid=0.5, identity={})
        return folder, data

    return make


WAYS = {
    ("flip",): {(0, False), (0, True), (2, False), (2, True)},
    ("quarter_turn",): {(turns, False) for turns in range(4)},
    ("flip", "quarter_turn"): {(turns, mirrored) for turns in range(4) for mirrored in (False, True)},
    (): {(0, False)},
}


@pytest.mark.parametrize("augment", WAYS)
def test_tiles_are_turned_and_mirrored_and_nothing_else(cached, augment):
    folder, data = cached(n=200)
    batches = Batches(folder, np.arange(200), batch_size=50, seed=3, shuffle=True, augment=augment)
    seen, rows = set(), []
    for batch in batches:
        for row, pixels in zip(batch.rows.tolist(), batch.pixels.numpy(), strict=True):
            rows.append(row)
            found = {
                (turns, mirrored)
                for turns, mirrored in WAYS["flip", "quarter_turn"]
                if np.array_equal(_changed(data[row], turns, mirrored), pixels)
            }
            assert len(found) == 1
            seen |= found
        assert batch.valid.shape == batch.jitter.shape == (50, 0)
    assert sorted(rows) == list(range(200))
    assert seen == WAYS[augment]


def _changed(image, turns, mirrored):
    image = np.rot90(image, turns, axes=(1, 2))
    return image[:, :, ::-1] if mirrored else image


def test_the_valid_mask_turns_with_its_tile(cached, rng):
    valid = rng.random((24, 4, 4)) > 0.3
    valid[:, 0, 0], valid[0, 3, 3] = True, False
    folder, data = cached(valid=valid)
    for batch in Batches(folder, np.arange(24), batch_size=24, seed=0, augment=("flip", "quarter_turn")):
        for row, pixels, mask in zip(batch.rows.tolist(), batch.pixels.numpy(), batch.valid.numpy(), strict=True):
            both = np.stack([data[row, 0], valid[row]])
            ways = [_changed(both, turns, mirrored) for turns in range(4) for mirrored in (False, True)]
            assert any(np.array_equal(way[0], pixels[0]) and np.array_equal(way[1], mask) for way in ways)


def test_an_epoch_is_a_function_of_the_seed_and_its_number(cached):
    folder, _ = cached()

    def epoch(seed, number):
        batches = Batches(folder, np.arange(24), batch_size=7, seed=seed, shuffle=True, augment=("colour_jitter",))
        batches.set_epoch(number)
        return [torch.cat([batch.rows[:, None], batch.jitter], dim=1) for batch in batches]

    first, again = epoch(0, 5), epoch(0, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (epoch(0, 6), epoch(1, 5)):
        assert not torch.equal(torch.cat(first), torch.cat(other))
    jitter = torch.cat(first)[:, 1:]
    assert (jitter >= 0.8).all()
    assert (jitter <= 1.2).all()


@given(n=st.integers(2, 300), batch_size=st.integers(2, 80), world=st.integers(1, 4), epoch=st.integers(0, 3))
@settings(deadline=None)
def test_batches_share_out_all_rows(n, batch_size, world, epoch):
    plans = []
    for rank in range(world):
        batches = Batches(None, np.arange(n), batch_size=batch_size, seed=0, shuffle=True, rank=rank, world=world)
        batches.set_epoch(epoch)
        plans.append(batches.plan())
        assert len(batches) == len(plans[-1])
    sizes = [[len(rows) for rows in plan] for plan in plans]
    assert all(size == sizes[0] for size in sizes)
    assert max(sizes[0]) <= max(batch_size, 3)
    assert min(sizes[0]) >= min(2, -(-n // world))
    rows = np.concatenate([np.concatenate(plan) for plan in plans])
    assert set(rows) == set(range(n))
    assert len(rows) == -(-n // world) * world


def test_losses_by_hand():
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    values = np.array([1.0, 0.0])
    rows = torch.arange(2)
    soft = lambda x: float(np.log1p(np.exp(x)))  # noqa: E731
    plain = Target(values, np.arange(2), task="classification")
    assert float(plain.loss(logits, rows)) == pytest.approx((soft(-1) + soft(-3)) / 2)
    weighted = Target(values, np.arange(2), task="classification", class_weights=np.array([3.0, 1.0]))
    assert float(weighted.loss(logits, rows)) == pytest.approx((soft(-1) + 3 * soft(-3)) / 4)
    # Class 1 of three: above the first step, not above the second.
    ordinal = Target(values, np.arange(2), task="ordinal")
    by_hand = [soft(-0.0) + soft(1.0), soft(2.0) + soft(-1.0)]
    assert float(ordinal.loss(logits, rows)) == pytest.approx(np.mean(by_hand))


def test_numbers_are_learnt_in_standard_deviations():
    values = np.array([1.0, 5.0, 100.0])
    target = Target(values, np.array([0, 1]), task="regression")
    assert float(target.loss(torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 1]))) == pytest.approx(0.5)
    head = torch.nn.Linear(3, 1)
    features = torch.randn(4, 3)
    before = target.in_unit(head(features))
    target.put_unit_into(head)
    torch.testing.assert_close(head(features), before)
    torch.testing.assert_close(target.in_unit(torch.tensor([[-1.0], [1.0]])), torch.tensor([[1.0], [5.0]]))


def test_balanced_weights_are_scikit_learns(rng):
    codes = rng.integers(0, 4, 50).astype(float)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=codes)
    np.testing.assert_allclose(balanced_weights(codes, 4), expected)


@given(st.lists(st.floats(-40, 40), min_size=2, max_size=6))
def test_ordinal_probabilities_are_probabilities(logits):
    chances = class_probabilities(np.array([logits]), "ordinal")
    assert chances.shape == (1, len(logits) + 1)
    assert (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(), 1)


def test_ordinal_probabilities_by_hand():
    odds = np.log([[0.8 / 0.2, 0.3 / 0.7], [0.4 / 0.6, 0.9 / 0.1]])
    # The second row contradicts itself: it is above the second step no more often than above the first.
    np.testing.assert_allclose(class_probabilities(odds, "ordinal"), [[0.2, 0.5, 0.3], [0.6, 0.0, 0.4]])


def test_scores_are_scikit_learns(rng):
    codes, logits = rng.integers(0, 3, 60), rng.normal(size=(60, 3))
    logits[np.arange(60), codes] += 1
    found = scores(logits, codes, "classification")
    chances = class_probabilities(logits, "classification")
    assert found["auroc"] == pytest.approx(roc_auc_score(codes, chances, multi_class="ovr"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(codes, logits.argmax(1)))
    numbers = rng.normal(size=60)
    regression = scores(logits[:, :1], numbers, "regression")
    assert regression["r2_pearson"] == pytest.approx(np.corrcoef(logits[:, 0], numbers)[0, 1] ** 2)
    assert scores(np.ones((3, 1)), np.array([1.0, 1.0, 2.0]), "regression")["r2_pearson"] is None
    assert scores(logits[:3], np.array([1, 1, 1]), "classification")["auroc"] is None


def history(*losses):
    return [{"validation": {"loss": loss}} for loss in losses]


def test_the_first_of_the_best_epochs_is_kept_and_patience_ends():
    assert best_epoch(history(3, 1, 2, 1)) == 1
    assert not is_over(history(), epochs=5, patience=1)
    assert not is_over(history(3, 1, 2), epochs=5, patience=2)
    assert is_over(history(3, 1, 2, 1), epochs=5, patience=2)
    assert is_over(history(3, 2, 1), epochs=3, patience=2)


def test_limits_are_percentiles_or_those_of_bytes_or_given():
    values = [np.arange(101, dtype=np.uint16), np.r_[np.zeros(50), np.arange(1.0, 102.0)]]
    names = ["a", "b"]
    assert fit_limits(values[:1], stretch="linear", lo=None, hi=None, names=["a"]) == ((2.0,), (98.0,))
    # A logarithm knows no zeros, and so its limits do not.
    assert fit_limits(values[1:], stretch="log", lo=None, hi=None, names=["b"]) == ((3.0,), (99.0,))
    assert fit_limits(values, stretch="linear", lo=1, hi=(2.0, 3.0), names=names) == ((1.0, 1.0), (2.0, 3.0))
    assert fit_limits([np.zeros(3, np.uint8)], stretch="linear", lo=None, hi=None, names=["a"]) == ((0.0,), (255.0,))
    with pytest.raises(FeatureError, match="bands b hold one value"):
        fit_limits([values[0], np.ones(9)], stretch="linear", lo=None, hi=None, names=names)


def read(labels, *, task="classification", label="roof", n=6):
    tiles = SimpleNamespace(index=pd.DataFrame({"cluster_id": ["a", "a", "b", "c", "d", "e"][:n]}))
    return read_examples(tiles, labels, SimpleNamespace(task=task, label=label))


def table(values, *, split=("train", "train", "validation", "test", "train"), name="roof"):
    columns = {"cluster_id": list("abcde"), "split": split, name: values}
    return gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(range(5), range(5)), crs="EPSG:4326")


def test_a_tile_has_the_label_of_its_owner():
    found = read(table(["tin", "thatch", "tin", "thatch", None]))
    assert found.positions.tolist() == [0, 1, 2, 3, 4]
    assert found.classes == ("thatch", "tin")
    assert found.values.tolist() == [1, 1, 0, 1, 0]
    assert found.split.tolist() == ["train"] * 3 + ["validation", "test"]
    assert found.counts()["train"] == {"thatch": 1, "tin": 2}


def test_ordered_categories_and_truth_values_are_classes():
    levels = pd.Categorical(["low", "high", "low", "high", "mid"], categories=["low", "mid", "high"], ordered=True)
    assert read(table(levels), task="ordinal").classes == ("low", "mid", "high")
    assert read(table([True, False, True, False, True]), task="ordinal").classes == ("False", "True")
    assert read(table([2.0, 1.0, 2.0, 1.0, np.nan])).classes == ("1", "2")


def test_lights_are_learnt_as_logarithms():
    found = read(table([0.0, 1.0, 2.0, 3.0, 4.0], name="lights"), task="regression", label="lights")
    np.testing.assert_allclose(found.values, np.log1p([0, 0, 1, 2, 3, 4]))
    plain = read(table([0.0, -1.0, 2.0, 3.0, 4.0]), task="regression")
    assert plain.values.tolist() == [0, 0, -1, 2, 3, 4]


def test_the_hash_of_points_forgets_their_order_and_nothing_else():
    labels = table([1, 2, 1, 2, 1])
    assert read(labels.iloc[::-1]).sha256 == read(labels).sha256
    assert read(table([1, 2, 1, 2, 2])).sha256 != read(labels).sha256


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (table(["x", "y", "x", "y", "x"]), {"task": "ordinal"}, "no order"),
        (table([0.5, 1, 2, 1, 0]), {}, "fractions"),
        (table([1, 1, 1, 1, 1]), {}, "has 1 class"),
        (table(["x", "y", "x", "y", "x"]), {"task": "regression"}, "holds no numbers"),
        (table([1, 2, 3, 1, 2]), {}, "classes 3 have no tile in the split 'train'"),
        (table([1, 2, 1, 1, 2], split=("train",) * 5), {}, "in the split 'validation'"),
        (table([1, 2, 1, 1, 2], split=("train", "val", "test", None, None)), {}, "'val'"),
        (table([-1.0, 2, 1, 1, 2], name="lights"), {"task": "regression", "label": "lights"}, "1 of the lights"),
        (table([1, 2, 1, 1, 2]).assign(cluster_id=list("vwxyz")), {}, "none of the 6 tiles"),
        (table([1, 2, 1, 1, 2]).assign(cluster_id="a"), {}, "more than once"),
    ],
)
def test_labels_that_cannot_be_learnt_are_named(labels, options, message):
    with pytest.raises(FeatureError, match=message):
        read(labels, **options)
