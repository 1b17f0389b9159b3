"""The bootstrap against repeating rows by hand, and its intervals and verdicts against their promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.regression.bootstrap import Bootstrap, Order, interval, rank_scores
from geopov.regression.scores import SCORES, compare, recall_poorest, score, score_table


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 70), st.integers(2, 12), st.sampled_from([0, 1, 8]))
def test_every_score_is_that_of_the_repeated_rows(seed: int, n: int, n_blocks: int, digits: int) -> None:
    """Rounding makes ties, in the outcome too."""
    rng = np.random.default_rng(seed)
    blocks = np.concatenate([np.arange(n_blocks), rng.integers(0, n_blocks, max(0, n - n_blocks))])
    observed = rng.normal(size=len(blocks)).round(digits) + 100.0
    predictors = {
        "one": observed + rng.normal(size=len(blocks)).round(digits),
        "two": np.round(rng.normal(size=len(blocks))),
    }
    bootstrap = Bootstrap.draw(n_blocks, n_draws=15, seed=seed)
    assert (bootstrap.counts.sum(axis=1) == n_blocks).all()
    found = bootstrap.scores(observed, predictors, blocks)
    for draw, counts in enumerate(bootstrap.counts):
        rows = np.repeat(np.arange(len(blocks)), counts[blocks].astype(int))
        for name, predicted in predictors.items():
            by_hand = score(observed[rows], predicted[rows])
            here = {key: found[name][key][draw] for key in SCORES}
            assert here == pytest.approx(by_hand, abs=1e-6, nan_ok=True)


def test_chunks_of_draws_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    observed, blocks = rng.normal(size=90), np.arange(90) // 6
    predictors = {"model": observed + rng.normal(size=90)}
    bootstrap = Bootstrap.draw(15, n_draws=101, seed=1)
    at_once = bootstrap.scores(observed, predictors, blocks)["model"]
    monkeypatch.setattr("geopov.regression.bootstrap._CHUNK_BYTES", 8 * 90 * 7)
    assert [weights.shape for weights in bootstrap.weights(blocks)] == [(90, 7)] * 14 + [(90, 3)]
    in_pieces = bootstrap.scores(observed, predictors, blocks)["model"]
    assert all(np.array_equal(at_once[name], in_pieces[name]) for name in SCORES)


def test_weighted_ranks_by_hand() -> None:
    # Weights 2, 1, 1: the rows 1 1 2 3 against 2 2 1 1, mid-ranks 1.5 1.5 3 4 and 3.5 3.5 1.5 1.5:
    # centred -1 -1 .5 1.5 and 1 1 -1 -1, so cov -4, spreads 4.5 and 4.
    orders = Order.of(np.array([1.0, 2.0, 3.0])), [Order.of(np.array([2.0, 1.0, 1.0]))]
    found = rank_scores(*orders, np.array([[2.0], [1.0], [1.0]]))[0]
    assert found["spearman"][0] == pytest.approx(-4 / np.sqrt(18))
    assert found["recall_poorest_fifth"][0] == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 80), st.sampled_from([0, 8]))
def test_two_ways_to_the_recall(seed: int, n: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    observed, predicted = rng.normal(size=(2, n)).round(digits)
    found = score(observed, predicted)
    assert found["recall_poorest_fifth"] == pytest.approx(recall_poorest(observed, predicted, share=0.2))
    assert found["recall_poorest_tenth"] == pytest.approx(recall_poorest(observed, predicted, share=0.1))


def test_interval_of_mostly_undefined_draws_is_none() -> None:
    assert np.isnan(interval(np.array([np.nan] * 20 + [1.0] * 80))).all()
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))


def _field(rng: np.random.Generator, blocks: np.ndarray, spread: float) -> np.ndarray:
    """Values (n,) of variance ``spread``, half of it shared within blocks."""
    n_blocks = int(blocks.max()) + 1
    return np.sqrt(spread / 2) * (rng.normal(size=n_blocks)[blocks] + rng.normal(size=len(blocks)))


def _welfare_and_guess(rng: np.random.Generator, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    observed = _field(rng, blocks, 1.0)
    return observed, 0.6 * observed + 0.2 + _field(rng, blocks, 0.3)


def test_intervals_cover_the_truth_at_their_rate() -> None:
    """The 95% interval of every score holds in about 95% of surveys; the truth is what 400,000 clusters say."""
    rng = np.random.default_rng(0)
    truth = score(*_welfare_and_guess(rng, np.repeat(np.arange(100_000), 4)))
    blocks = np.repeat(np.arange(100), 4)
    inside = dict.fromkeys(SCORES, 0)
    runs = 200
    for run in range(runs):
        observed, predicted = _welfare_and_guess(rng, blocks)
        row = score_table(observed, {"model": predicted}, blocks, n_draws=400, seed=run).iloc[0]
        for name in SCORES:
            inside[name] += row[f"{name}_low"] <= truth[name] <= row[f"{name}_high"]
    # Percentiles of a bootstrap fall a little short of their promise; chance moves 200 runs by 1.5 percent.
    for name in SCORES:
        assert 0.89 <= inside[name] / runs <= (1.0 if name.startswith("recall") else 0.98), name


def test_verdicts_are_wrong_at_their_rate() -> None:
    """Two equally good predictors: "better" or "worse" in about 5% of surveys, each about as often."""
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(80), 4)
    said = {name: {"better": 0, "worse": 0, "no difference shown": 0} for name in SCORES}
    runs = 300
    for run in range(runs):
        observed = _field(rng, blocks, 1.0)
        ours, theirs = (0.6 * observed + 0.2 + _field(rng, blocks, 0.3) for _ in range(2))
        for row in compare(observed, ours, {"theirs": theirs}, blocks, n_draws=400, seed=run).itertuples():
            said[row.score][row.verdict] += 1
    # A recall moves in steps and its interval is wide for its size, so that verdicts on it err on the safe side.
    for name in SCORES:
        wrong = 1 - said[name]["no difference shown"] / runs
        assert (0.0 if name.startswith("recall") else 0.02) <= wrong <= 0.09, name


def test_blocks_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(30), 20)
    observed = rng.normal(size=30)[blocks] + 0.3 * rng.normal(size=600)
    predicted = observed + rng.normal(size=30)[blocks]

    def widths(by: np.ndarray) -> np.ndarray:
        row = score_table(observed, {"model": predicted}, by).iloc[0]
        return np.array([row[f"{name}_high"] - row[f"{name}_low"] for name in ("rmse", "mae", "spearman")])

    assert (widths(blocks) > 2 * widths(np.arange(600))).all()
