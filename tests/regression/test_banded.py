"""One penalty a block: what plain ridge gives for one block, what himalaya gives for several, and what it is for."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

from geopov.errors import MissingDependencyError, RegressionError
from geopov.regression import WelfareRidge
from geopov.regression._banded import candidates, gains_of
from geopov.regression._banded_shares import product_measure, share_draws
from geopov.regression._inputs import inner_splits
from geopov.regression.banded import BandedRidge, read_blocks
from geopov.regression.scores import score


@parametrize_with_checks([BandedRidge()])
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def _data(n: int = 120, sizes: tuple[int, ...] = (3, 40), *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The first block speaks, the others are noise; features have units of their own."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, sum(sizes))) * rng.uniform(0.1, 10, sum(sizes)) + rng.normal(size=sum(sizes))
    y = (X[:, : sizes[0]] / X[:, : sizes[0]].std(axis=0)).sum(axis=1) + rng.normal(size=n)
    return X, y, [f"block{number}" for number, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize("sizes", [(3, 40), (3, 300)], ids=["fewer features", "more features"])
def test_one_block_is_plain_ridge(sizes: tuple[int, ...]) -> None:
    X, y, blocks = _data(sizes=sizes)
    groups, weights = np.arange(120) // 6, np.arange(120) % 3.0
    plain = WelfareRidge().fit(X, y, groups, weights)
    one = BandedRidge().fit(X, y, groups, weights)
    several = BandedRidge(blocks, n_iter=3).fit(X, y, groups, weights)
    for name in ("coef_", "intercept_", "low_", "high_", "inner_predictions_", "alphas_"):
        np.testing.assert_allclose(getattr(one, name), getattr(plain, name), rtol=1e-7, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(one.cv_mse_, plain.cv_mse_[None], rtol=1e-9)
    np.testing.assert_allclose(several.cv_mse_[0], plain.cv_mse_, rtol=1e-9, err_msg="plain ridge is tried first")
    assert several.cv_mse_.shape == (4, 30)


@pytest.mark.parametrize("sizes", [(4, 9, 7), (4, 90, 7)], ids=["fewer features", "more features"])
def test_himalaya_gives_the_same(sizes: tuple[int, ...]) -> None:
    """himalaya standardises nothing, so each of its inner folds gets features standardised on its training rows."""
    from himalaya.ridge import solve_group_ridge_random_search

    X, y, blocks = _data(60, sizes)
    alpha = 25.0
    ours = BandedRidge(blocks, n_iter=5, alphas=[alpha], extrapolate=True, seed=3).fit(X, y, np.arange(60) // 4)
    numbers = read_blocks(blocks, X.shape[1])[1]
    gains = gains_of(candidates(3, 5, seed=3), numbers, np.ones(X.shape[1], dtype=bool))

    def theirs(rows: np.ndarray, tried: np.ndarray, cv: Any) -> Any:
        Z = (X - X[rows].mean(axis=0)) / X[rows].std(axis=0)
        spaces = [Z[:, numbers == block] for block in range(3)]
        return solve_group_ridge_random_search(
            spaces, y[:, None], n_iter=tried, alphas=alpha, fit_intercept=True, cv=cv, return_weights=True,
            progress_bar=False, warn=False,
        )  # fmt: skip

    folds = inner_splits(X, n_folds=5, groups=np.arange(60) // 4)
    errors = [-np.asarray(theirs(train, gains, _OneFold(train, held_out))[2])[:, 0] for train, held_out in folds]
    np.testing.assert_allclose(ours.cv_mse_[:, 0], np.mean(errors, axis=0), rtol=1e-8)

    best = gains[[np.argmin(np.mean(errors, axis=0))]]
    weights = theirs(np.arange(60), best, 2)[1][:, 0]
    np.testing.assert_allclose(ours.coef_, weights / X.std(axis=0), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(ours.penalties_, alpha / best[0])


class _OneFold:
    """One split into training and held-out rows, as scikit-learn's splitters say it."""

    def __init__(self, train: np.ndarray, held_out: np.ndarray) -> None:
        self.pair = (train, held_out)

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.pair]

    def get_n_splits(self, *_: Any) -> int:
        return 1


def test_coefficients_solve_the_penalised_equations() -> None:
    X, y, blocks = _data(50, (3, 8, 5))
    model = BandedRidge(blocks).fit(X, y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    penalties = model.penalties_[[int(label[-1]) for label in blocks]]
    expected = np.linalg.solve(Z.T @ Z + np.diag(penalties), Z.T @ (y - y.mean()))
    np.testing.assert_allclose(model.coef_ * X.std(axis=0), expected, rtol=1e-6, atol=1e-9)
    assert model.shares_.sum() == pytest.approx(1)


def test_a_few_features_that_speak_are_heard_beside_many_that_do_not() -> None:
    X, y, blocks = _data(200, (3, 600))
    pairs = [
        (np.flatnonzero(np.arange(200) % 4 != fold), np.flatnonzero(np.arange(200) % 4 == fold)) for fold in range(4)
    ]
    plain = score(y, WelfareRidge().hold_out(X, y, pairs).predicted[:, 0])["R2"]
    banded = BandedRidge(blocks).hold_out(X, y, pairs)
    found = score(y, banded.predicted[:, 0])["R2"]
    # Three of the four parts of the variance are signal.
    assert found > 0.7
    assert found > plain + 0.2
    assert np.all(banded.penalties[:, 1] > 100 * banded.penalties[:, 0])
    shares, level = product_measure(y, banded.predicted[:, 0], banded.contributions)
    assert shares[0] > 0.95 * found
    assert shares.sum() + level == pytest.approx(found)


@pytest.mark.parametrize("sizes", [(3, 20), (3, 150)])
def test_hold_out_is_fit_and_predict_fold_by_fold(sizes: tuple[int, ...]) -> None:
    X, y, blocks = _data(90, sizes)
    groups = np.arange(90) // 5
    pairs = [(np.flatnonzero(groups % 3 != fold), np.flatnonzero(groups % 3 == fold)) for fold in range(3)]
    model, steps = BandedRidge(blocks, n_iter=4, seed=1), []
    found = model.hold_out(X, y, pairs, groups=groups, progress=lambda *step: steps.append(step))
    for fold, (train, test) in enumerate(pairs):
        model.fit(X[train], y[train], groups[train])
        np.testing.assert_allclose(found.predicted[test, 0], model.predict(X[test]))
        np.testing.assert_allclose(found.contributions[test], model.contributions(X[test]), atol=1e-12)
        np.testing.assert_allclose(found.inner[fold][:, 0], model.inner_predictions_)
        np.testing.assert_allclose(found.penalties[fold], model.penalties_)
        added = found.contributions[test].sum(axis=1)
        np.testing.assert_allclose(y[train].mean() + added, found.predicted[test, 0])
    assert steps == [(1, 3), (2, 3), (3, 3)]
    again = model.hold_out(X, y, pairs, groups=groups)
    np.testing.assert_array_equal(again.predicted, found.predicted)


def test_features_are_bounded_by_their_training_range() -> None:
    X, y, blocks = _data(60, (2, 5))
    far = X[:1] + 1e6
    bounded, free = BandedRidge(blocks).fit(X, y), BandedRidge(blocks, extrapolate=True).fit(X, y)
    assert bounded.predict(far) == pytest.approx(bounded.predict(X.max(axis=0)[None]))
    assert abs(free.predict(far) - y.mean()).item() > 1e3


def test_a_block_that_does_not_vary_adds_nothing() -> None:
    X, y, _ = _data(60, (4, 5))
    X[:, 4:] = 7.0
    model = BandedRidge({"seen": slice(0, 4), "flat": slice(4, None)}).fit(X, y)
    assert np.all(model.coef_[4:] == 0)
    assert np.all(model.contributions(X)[:, 1] == 0)
    np.testing.assert_allclose(model.coef_[:4], WelfareRidge().fit(X, y).coef_[:4])


def test_blocks_come_in_several_forms() -> None:
    X, y, _ = _data(60, (2, 3))
    table = pd.DataFrame(X, columns=["lights:a", "lights:b", "text:1", "text:2", "text:3"])
    named = BandedRidge(n_iter=3).fit(table, y)
    assert named.block_names_ == ("lights", "text")
    for blocks in (["l", "l", "t", "t", "t"], {"l": slice(0, 2), "t": [2, 3, -1]}, {"l": [0, 1], "t": slice(2, None)}):
        np.testing.assert_array_equal(BandedRidge(blocks, n_iter=3).fit(X, y).coef_, named.coef_)
    pairs = [(np.arange(30), np.arange(30, 60))]
    assert BandedRidge(n_iter=3).hold_out(table, y, pairs).names == ("lights", "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": ["a"]}, "1 labels for 5 features"),
        ({"blocks": {"a": slice(0, 3), "b": [2, 3, 4]}}, "columns 2 are in no block or in more than one"),
        ({"blocks": {"a": slice(0, 3)}}, "columns 3, 4 are in no block"),
        ({"blocks": {"a": [0, 1, 9]}}, "names column 9; there are 5 features"),
        ({"blocks": list("aabbb"), "n_iter": 0}, "n_iter is 0; expected a whole number"),
        ({"blocks": list("aabbb"), "alphas": [-1.0]}, "expected a list of finite numbers above zero"),
        ({"blocks": list("aabbb"), "inner_folds": 1}, "inner_folds is 1"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    X, y, _ = _data(20, (2, 3))
    with pytest.raises(RegressionError, match=message):
        BandedRidge(**options).fit(X, y)
    with pytest.raises(RegressionError, match="expected one outcome"):
        BandedRidge().hold_out(X, np.column_stack([y, y]), [(np.arange(10), np.arange(10, 20))])


def test_only_several_blocks_need_himalaya(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "himalaya" else real(name, *a))
    X, y, blocks = _data(20, (2, 3))
    BandedRidge().fit(X, y)
    with pytest.raises(MissingDependencyError, match=r"'himalaya'.*pip install 'geopov\[fusion\]'"):
        BandedRidge(blocks).fit(X, y)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any), st.integers(1, 20), st.integers(0, 9))
def test_gains_keep_the_trace(sizes: list[int], n_iter: int, seed: int) -> None:
    """Whatever the shares, features count once on average, and plain ridge comes first."""
    blocks = np.repeat(np.arange(len(sizes)), np.maximum(sizes, 1))
    varies = np.repeat(np.array(sizes) > 0, np.maximum(sizes, 1))
    gains = gains_of(candidates(len(sizes), n_iter, seed=seed), blocks, varies)
    assert np.all(gains[0] == 1)
    assert np.all(gains >= 0)
    np.testing.assert_allclose(gains[:, blocks[varies]].sum(axis=1), varies.sum())


def test_shares_by_hand() -> None:
    """Two blocks that agree halve what they explain; a block against the truth has a negative share."""
    y = np.array([-1.0, 1.0, -1.0, 1.0])
    shares, level = product_measure(y, y, np.column_stack([y / 2, y / 2]))
    assert shares.tolist() == [0.5, 0.5]
    assert level == 0
    shares, level = product_measure(y + 3, 0.5 * y + 3.5, np.column_stack([y, -0.5 * y]))
    # Σ f (2y - ŷ) / Σ y²: f = y gives 2 - 0.5 - 0, f = -y/2 the half of it, negative; a level 0.5 too high costs 0.25.
    assert shares.tolist() == [1.5, -0.75]
    assert level == -0.25
    assert shares.sum() + level == pytest.approx(score(y + 3, 0.5 * y + 3.5)["R2"])


def test_draws_of_shares_are_shares_of_drawn_clusters() -> None:
    rng = np.random.default_rng(0)
    y, parts, blocks = rng.normal(size=40) + 5, rng.normal(size=(40, 2)), np.arange(40) // 5
    predicted = parts.sum(axis=1) + 4.8
    drawn = share_draws(y, predicted, parts, blocks, n_draws=3, seed=2)
    counts = np.random.default_rng(2).multinomial(8, np.full(8, 1 / 8), size=3)
    for found, times in zip(drawn, counts, strict=True):
        rows = np.concatenate([np.flatnonzero(blocks == block) for block in np.repeat(np.arange(8), times)])
        np.testing.assert_allclose(found, product_measure(y[rows], predicted[rows], parts[rows])[0])
