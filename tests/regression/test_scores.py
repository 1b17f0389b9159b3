"""Known answers for every score, and the bootstrap against resampling by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from geopov.errors import RegressionError
from geopov.regression import compare, score, score_table
from geopov.regression.scores import Bootstrap, interval, recall_poorest

OBSERVED = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def test_perfect() -> None:
    expected = {"r2_pearson": 1, "R2": 1, "rmse": 0, "mae": 0, "spearman": 1, "slope": 1, "sd_ratio": 1}
    assert score(OBSERVED, OBSERVED) == pytest.approx({**expected, "recall_poorest_fifth": 1})


def test_shrunk_and_shifted_by_hand() -> None:
    # Half the spread and one too high: errors 3-1, 3.5-2, 4-3, 4.5-4, 5-5 = 2, 1.5, 1, 0.5, 0.
    found = score(OBSERVED, OBSERVED / 2 + 2.5)
    assert found["r2_pearson"] == pytest.approx(1)
    assert found["R2"] == pytest.approx(1 - 7.5 / 10)
    assert found["rmse"] == pytest.approx(np.sqrt(1.5))
    assert found["mae"] == pytest.approx(1)
    assert found["slope"] == pytest.approx(0.5)
    assert found["sd_ratio"] == pytest.approx(0.5)


def test_reversed() -> None:
    found = score(OBSERVED, OBSERVED[::-1])
    assert (found["r2_pearson"], found["R2"]) == pytest.approx((1, -3))
    assert (found["spearman"], found["slope"], found["recall_poorest_fifth"]) == pytest.approx((-1, -1, 0))


def test_constant_predictions_have_no_correlation() -> None:
    found = score(OBSERVED, np.full(5, 3.0))
    assert np.isnan(found["r2_pearson"])
    assert np.isnan(found["spearman"])
    assert (found["R2"], found["slope"], found["sd_ratio"]) == pytest.approx((0, 0, 0))
    assert found["recall_poorest_fifth"] == pytest.approx(0.2)
    assert np.isnan(score(np.ones(5), OBSERVED)["R2"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.sampled_from([0.0, 1e4]))
def test_against_scikit_learn_and_scipy(seed: int, n: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    observed = rng.normal(size=n) + offset
    predicted = 0.5 * observed + rng.normal(size=n).round(1)
    found = score(observed, predicted)
    near = {"rel": 1e-6, "abs": 1e-6}
    assert found["r2_pearson"] == pytest.approx(stats.pearsonr(observed, predicted)[0] ** 2, **near)
    assert found["R2"] == pytest.approx(metrics.r2_score(observed, predicted), **near)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(observed, predicted), **near)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(observed, predicted), **near)
    assert found["spearman"] == pytest.approx(stats.spearmanr(observed, predicted)[0], **near)
    assert found["slope"] == pytest.approx(np.polyfit(observed - offset, predicted, 1)[0], **near)
    assert found["sd_ratio"] == pytest.approx(predicted.std() / observed.std(), **near)


def test_recall_by_hand() -> None:
    observed = np.arange(10.0)
    predicted = observed.copy()
    predicted[[1, 7]] = predicted[[7, 1]]
    assert recall_poorest(observed, predicted, share=0.2) == pytest.approx(0.5)
    # Two of three tied at the edge are drawn: the poorest is among them with chance 2/3, the second poorest too.
    tied = np.array([0.0, 0.0, 0.0, 3, 4, 5, 6, 7, 8, 9])
    assert recall_poorest(observed, tied, share=0.2) == pytest.approx(2 / 3)


def test_bootstrap_is_resampling_of_blocks() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 9, 80)
    observed = rng.normal(size=80)
    predicted = observed + rng.normal(size=80)
    bootstrap = Bootstrap.draw(9, n_draws=25, seed=3)
    assert (bootstrap.counts.sum(axis=1) == 9).all()
    found = bootstrap.scores(observed, predicted, blocks)
    for draw in range(25):
        rows = np.repeat(np.arange(80), bootstrap.counts[draw][blocks].astype(int))
        assert found["R2"][draw] == pytest.approx(metrics.r2_score(observed[rows], predicted[rows]))
        assert found["r2_pearson"][draw] == pytest.approx(np.corrcoef(observed[rows], predicted[rows])[0, 1] ** 2)
        assert found["rmse"][draw] == pytest.approx(metrics.root_mean_squared_error(observed[rows], predicted[rows]))


def test_intervals_cover_the_truth_at_their_rate() -> None:
    """R² of predictions with known error, clusters of a block sharing half of it: 95% intervals hold in about 95%."""
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(60), 4)
    inside = []
    for run in range(120):
        observed = rng.normal(size=60)[blocks] * np.sqrt(0.5) + rng.normal(size=240) * np.sqrt(0.5)
        error = rng.normal(size=60)[blocks] * np.sqrt(0.2) + rng.normal(size=240) * np.sqrt(0.2)
        row = score_table(observed, {"model": observed + error}, blocks, n_draws=300, seed=run).iloc[0]
        inside.append(row["R2_low"] <= 0.6 <= row["R2_high"])
    assert 0.86 <= np.mean(inside) <= 0.99


def test_blocks_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(30), 20)
    observed = rng.normal(size=30)[blocks] + 0.3 * rng.normal(size=600)
    predicted = observed + rng.normal(size=30)[blocks]

    def width(by: np.ndarray) -> float:
        row = score_table(observed, {"model": predicted}, by).iloc[0]
        return row["rmse_high"] - row["rmse_low"]

    assert width(blocks) > 2 * width(np.arange(600))


def test_few_blocks_have_no_interval() -> None:
    row = score_table(OBSERVED, {"model": OBSERVED + 0.1}, [0, 0, 1, 2, 3]).iloc[0]
    assert row["n_blocks"] == 4
    assert np.isnan(row["R2_low"])
    assert (
        compare(OBSERVED, OBSERVED, {"other": OBSERVED + 1}, [0, 0, 1, 2, 3]).iloc[0]["verdict"]
        == "no difference shown"
    )


def test_compare_is_paired() -> None:
    rng = np.random.default_rng(0)
    observed, blocks = rng.normal(size=300), np.arange(300) // 5
    error = rng.normal(size=300)
    others = {"worse": observed + 1.1 * error, "same": observed + error, "better": observed + 0.9 * error}
    table = compare(observed, observed + error, others, blocks).set_index("predictor")
    # Separate intervals overlap widely here; the paired differences do not contain zero.
    assert table["verdict"].to_dict() == {"worse": "better", "same": "no difference shown", "better": "worse"}
    assert table.loc["same", ["R2_difference", "low", "high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    gap = score(observed, observed + error)["R2"] - score(observed, others["worse"])["R2"]
    assert table.loc["worse", "R2_difference"] == pytest.approx(gap)


def test_interval_of_mostly_undefined_draws_is_none() -> None:
    assert np.isnan(interval(np.array([np.nan] * 20 + [1.0] * 80))).all()
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))


def test_bad_input() -> None:
    with pytest.raises(RegressionError, match=r"observed has shape \(5,\) and predicted \(4,\)"):
        score(OBSERVED, OBSERVED[:4])
    with pytest.raises(RegressionError, match="1 of 5 clusters have no observed or predicted"):
        score(OBSERVED, [1, 2, np.nan, 4, 5])
