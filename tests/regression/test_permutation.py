"""Permutation tests and repeated splits: against refitting one by one, and by simulation."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.model_selection import GroupKFold

from geopov.errors import RegressionError
from geopov.regression import (
    GivenFolds,
    RandomFolds,
    SpatialBlocks,
    WelfareRidge,
    permutation,
    permutation_test,
    repeat_splits,
    score,
)


def _sample(n: int, p: int, *, signal: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    y = signal * X[:, 0] + rng.normal(size=n)
    groups = rng.integers(0, 10, n)
    return X, y, groups, list(GroupKFold(4).split(X, y, groups))


def test_equals_refitting_each_reshuffled_outcome() -> None:
    X, y, groups, pairs = _sample(60, 5, signal=1.0)
    test = permutation_test(X, y, pairs, groups=groups, n_permutations=6, seed=3)
    rng = np.random.default_rng(3)
    for i, outcome in enumerate([y, *(rng.permutation(y) for _ in range(6))]):
        predicted = np.empty(60)
        for train, held_out in pairs:
            model = WelfareRidge().fit(X[train], outcome[train], groups=groups[train])
            predicted[held_out] = model.predict(X[held_out])
        r2 = pearsonr(outcome, predicted)[0] ** 2
        R2 = 1 - np.sum((outcome - predicted) ** 2) / np.sum((outcome - outcome.mean()) ** 2)
        found = (test.observed_r2, test.observed_R2) if i == 0 else (test.null_r2[i - 1], test.null_R2[i - 1])
        assert found == pytest.approx((r2, R2), abs=1e-9)


def test_a_real_signal_beats_every_reshuffle() -> None:
    X, y, groups, pairs = _sample(80, 4, signal=2.0)
    test = permutation_test(X, y, pairs, groups=groups, n_permutations=19)
    assert test.p_value == 1 / 20
    assert test.observed_r2 > 0.6 > test.null_r2.max()
    assert test.null_R2.max() < test.observed_R2


def test_noise_is_called_significant_as_often_as_it_should() -> None:
    p_values = []
    for seed in range(60):
        X, y, groups, pairs = _sample(30, 3, signal=0.0, seed=seed)
        found = permutation_test(X, y, pairs, groups=groups, n_permutations=9, seed=seed, inner_folds=3)
        p_values.append(found.p_value)
    # Of 60 draws that each reject with probability 0.1, more than 12 do so once in a hundred times.
    assert np.count_nonzero(np.array(p_values) <= 0.1) <= 12
    assert 0.35 < np.mean(p_values) < 0.75


def test_pieces_of_the_work_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, groups, pairs = _sample(50, 4, signal=1.0)
    whole = permutation_test(X, y, pairs, groups=groups, n_permutations=8)
    monkeypatch.setattr(permutation, "_BYTES", 3 * 8 * 50 * 30)
    seen: list[tuple[int, int]] = []
    parts = permutation_test(X, y, pairs, groups=groups, n_permutations=8, progress=lambda *done: seen.append(done))
    np.testing.assert_allclose(parts.null_r2, whole.null_r2, atol=1e-10)
    assert parts.p_value == whole.p_value
    assert seen == sorted(seen)
    assert seen[-1] == (8, 8)


def test_rows_that_no_fold_tests_are_left_out() -> None:
    X, y, groups, pairs = _sample(60, 3, signal=1.0)
    found = permutation_test(X, y, pairs[:2], groups=groups, n_permutations=3)
    assert 0 < found.observed_r2 < 1


@pytest.fixture(scope="module")
def clusters() -> gpd.GeoDataFrame:
    rng = np.random.default_rng(0)
    points = gpd.points_from_xy(rng.uniform(28, 30, 90), rng.uniform(-2, 0, 90))
    ids = [f"c{i}" for i in range(90)]
    return gpd.GeoDataFrame({"cluster_id": ids, "fold": np.arange(90) % 3}, geometry=points, crs="EPSG:4326")


@pytest.mark.parametrize("splits", [SpatialBlocks(block_km=40, n_folds=3, seed=99), RandomFolds(n_folds=3)])
def test_repeats_are_the_same_model_under_other_seeds(clusters: gpd.GeoDataFrame, splits: Any) -> None:
    X, y, *_ = _sample(90, 4, signal=1.0)
    seen: list[tuple[int, int]] = []
    table = repeat_splits(X, y, clusters, splits, n_repeats=3, seed=5, progress=lambda *done: seen.append(done))
    assert list(table) == ["repeat", "seed", "r2_pearson", "R2", "rmse", "spearman"]
    assert table["seed"].tolist() == [5, 6, 7]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert table["R2"].nunique() == 3
    drawn = type(splits)(**{**vars(splits), "seed": 6})
    fit = WelfareRidge().hold_out(X, y, list(drawn.split(clusters)), groups=drawn.block_ids(clusters))
    expected = score(y, fit.predicted[:, 0])
    for name in ("r2_pearson", "R2", "rmse", "spearman"):
        assert table.loc[1, name] == pytest.approx(expected[name], abs=1e-12)


def test_folds_without_a_seed_cannot_be_drawn_again(clusters: gpd.GeoDataFrame) -> None:
    X, y, *_ = _sample(90, 4, signal=1.0)
    with pytest.raises(RegressionError, match=r"GivenFolds has no seed.*SpatialBlocks"):
        repeat_splits(X, y, clusters, GivenFolds("fold"))


@pytest.mark.parametrize("count", [0, 2.5, True])
def test_bad_counts(clusters: gpd.GeoDataFrame, count: Any) -> None:
    X, y, groups, pairs = _sample(90, 4, signal=1.0)
    with pytest.raises(RegressionError, match="n_permutations is"):
        permutation_test(X, y, pairs, groups=groups, n_permutations=count)
    with pytest.raises(RegressionError, match="n_repeats is"):
        repeat_splits(X, y, clusters, RandomFolds(), n_repeats=count)
