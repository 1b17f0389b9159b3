"""Known answers for every score, by hand and from scikit-learn and scipy, and for the tables made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from geopov.errors import RegressionError
from geopov.regression.scores import SCORES, compare, recall_poorest, score, score_table

OBSERVED = np.array([1.0, 2.0, 3.0, 4.0, 5.0])


def test_perfect() -> None:
    errors = {"rmse": 0, "mae": 0, "intercept": 0}
    assert score(OBSERVED, OBSERVED) == pytest.approx({name: errors.get(name, 1) for name in SCORES})


def test_shrunk_and_shifted_by_hand() -> None:
    # Half the spread and one too high: errors 3-1, 3.5-2, 4-3, 4.5-4, 5-5 = 2, 1.5, 1, 0.5, 0.
    found = score(OBSERVED, OBSERVED / 2 + 2.5)
    assert found["r2_pearson"] == pytest.approx(1)
    assert found["R2"] == pytest.approx(1 - 7.5 / 10)
    assert found["rmse"] == pytest.approx(np.sqrt(1.5))
    assert found["mae"] == pytest.approx(1)
    assert found["slope"] == pytest.approx(0.5)
    assert found["intercept"] == pytest.approx(2.5)
    assert found["sd_ratio"] == pytest.approx(0.5)


def test_reversed() -> None:
    found = score(OBSERVED, OBSERVED[::-1])
    assert (found["r2_pearson"], found["R2"]) == pytest.approx((1, -3))
    assert (found["spearman"], found["slope"], found["recall_poorest_fifth"]) == pytest.approx((-1, -1, 0))


def test_constant_predictions_have_no_correlation() -> None:
    found = score(OBSERVED, np.full(5, 3.0))
    assert np.isnan(found["r2_pearson"])
    assert np.isnan(found["spearman"])
    assert (found["R2"], found["slope"], found["intercept"], found["sd_ratio"]) == pytest.approx((0, 0, 3, 0))
    assert (found["recall_poorest_fifth"], found["recall_poorest_tenth"]) == pytest.approx((0.2, 0.2))
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
    line = stats.linregress(observed, predicted)
    assert found["slope"] == pytest.approx(line.slope, **near)
    assert found["intercept"] == pytest.approx(line.intercept, rel=1e-6, abs=1e-6 * max(1, offset))
    assert found["sd_ratio"] == pytest.approx(predicted.std() / observed.std(), **near)


def test_recall_by_hand() -> None:
    observed = np.arange(10.0)
    predicted = observed.copy()
    predicted[[1, 7]] = predicted[[7, 1]]
    assert recall_poorest(observed, predicted, share=0.2) == pytest.approx(0.5)
    found = score(observed, predicted)
    assert (found["recall_poorest_fifth"], found["recall_poorest_tenth"]) == (0.5, 1.0)
    # Two of three tied at the edge are drawn: the poorest is among them with chance 2/3, the second poorest too.
    tied = np.array([0.0, 0.0, 0.0, 3, 4, 5, 6, 7, 8, 9])
    assert recall_poorest(observed, tied, share=0.2) == pytest.approx(2 / 3)


def test_table_has_an_interval_of_every_score() -> None:
    rng = np.random.default_rng(0)
    observed, blocks = rng.normal(size=200), np.arange(200) // 5
    predicted = 0.7 * observed + rng.normal(size=200)
    table = score_table(observed, {"model": predicted, "mean": np.zeros(200)}, blocks, n_draws=200, constant=["mean"])
    assert table["predictor"].tolist() == ["model", "mean"]
    assert table[["n", "n_blocks"]].to_numpy().tolist() == [[200, 40]] * 2
    model, mean = table.iloc[0], table.iloc[1]
    exact = score(observed, predicted)
    for name in SCORES:
        assert model[name] == exact[name]
        assert model[f"{name}_low"] < model[name] < model[f"{name}_high"]
    undefined = {"r2_pearson", "spearman", "slope", "intercept", "recall_poorest_fifth", "recall_poorest_tenth"}
    assert {name for name in SCORES if np.isnan(mean[name])} == undefined
    assert {name for name in SCORES if np.isnan(mean[f"{name}_low"])} == undefined


def test_a_repeat_gives_the_same_and_a_seed_another() -> None:
    rng = np.random.default_rng(0)
    observed = rng.normal(size=60)
    tables = [score_table(observed, {"model": observed**3}, np.arange(60), seed=s) for s in (1, 1, 2)]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_few_blocks_have_no_interval() -> None:
    row = score_table(OBSERVED, {"model": OBSERVED + 0.1}, [0, 0, 1, 2, 3]).iloc[0]
    assert row["n_blocks"] == 4
    assert np.isnan(row["R2_low"])
    table = compare(OBSERVED, OBSERVED, {"other": OBSERVED + 1}, [0, 0, 1, 2, 3])
    assert set(table["verdict"]) == {"no difference shown"}
    assert table[["low", "high"]].isna().all(axis=None)


def test_compare_is_paired() -> None:
    rng = np.random.default_rng(0)
    observed, blocks = rng.normal(size=300), np.arange(300) // 5
    error = rng.normal(size=300)
    others = {"worse": observed + 1.1 * error, "same": observed + error, "better": observed + 0.9 * error}
    table = compare(observed, observed + error, others, blocks)
    # Separate intervals overlap widely here; the paired differences do not contain zero.
    for name in ("r2_pearson", "R2", "rmse", "mae", "sd_ratio"):
        rows = table[table["score"] == name].set_index("predictor")
        assert rows["verdict"].to_dict() == {"worse": "better", "same": "no difference shown", "better": "worse"}, name
        assert rows.loc["same", ["difference", "low", "high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
        gap = score(observed, observed + error)[name] - score(observed, others["worse"])[name]
        assert rows.loc["worse", "difference"] == pytest.approx(gap)
        assert rows.loc["worse", "low"] < gap < rows.loc["worse", "high"]


def test_verdicts_know_which_way_is_good() -> None:
    """Theirs shrinks to half, ours stretches by a tenth: ours is nearer to no shrinkage, if on the other side of it."""
    rng = np.random.default_rng(0)
    observed = rng.normal(size=400) + 3
    ours, theirs = (f * observed + s + 0.1 * rng.normal(size=400) for f, s in ((1.1, -0.3), (0.5, 1.5)))
    table = compare(observed, ours, {"theirs": theirs}, np.arange(400)).set_index("score")
    assert table.loc["slope", "difference"] == pytest.approx(0.6, abs=0.02)
    assert table.loc["intercept", "difference"] == pytest.approx(-1.8, abs=0.05)
    assert table.loc["rmse", "difference"] < 0
    for name in ("slope", "intercept", "sd_ratio", "rmse", "mae", "R2"):
        assert table.loc[name, "verdict"] == "better", name
    turned = compare(observed, theirs, {"ours": ours}, np.arange(400)).set_index("score")
    for name in ("slope", "intercept", "sd_ratio", "rmse", "mae", "R2"):
        assert turned.loc[name, "verdict"] == "worse", name


def test_compare_takes_scores_and_knows_the_training_mean() -> None:
    rng = np.random.default_rng(0)
    observed = rng.normal(size=100)
    others = {"training_mean": 0.01 * rng.normal(size=100), "model": observed + rng.normal(size=100)}
    table = compare(observed, observed, others, np.arange(100), scores=["R2", "spearman"])
    assert table[["predictor", "score"]].to_numpy().tolist() == [
        ["training_mean", "R2"], ["training_mean", "spearman"], ["model", "R2"], ["model", "spearman"],
    ]  # fmt: skip
    assert table["verdict"].tolist() == ["better", "no difference shown", "better", "better"]
    assert np.isnan(table.loc[1, "difference"])
    assert compare(observed, observed, {}, np.arange(100)).empty


def test_bad_input() -> None:
    with pytest.raises(RegressionError, match=r"observed has shape \(5,\) and predicted \(4,\)"):
        score(OBSERVED, OBSERVED[:4])
    with pytest.raises(RegressionError, match="1 of 5 clusters have no observed or predicted"):
        score(OBSERVED, [1, 2, np.nan, 4, 5])
    with pytest.raises(RegressionError, match=r"blocks have shape \(4,\); expected the block of each of the 5"):
        score_table(OBSERVED, {"model": OBSERVED}, np.arange(4))
    with pytest.raises(RegressionError, match="no scores 'r2'; choose from r2_pearson"):
        compare(OBSERVED, OBSERVED, {}, np.arange(5), scores=["r2"])
