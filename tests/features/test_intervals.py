"""Intervals against published results, hand-worked cases, definitions, other libraries and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from sklearn.metrics import roc_auc_score

from geopov.errors import FeatureError
from geopov.features.comparison.intervals import (
    _ByScore,
    auroc_bootstrap,
    auroc_delong,
    clopper_pearson,
    delong,
    delong_test,
)

# The 43 complete patients of DeLong, DeLong and Clarke-Pearson (1988): albumin, total protein, 10 - K-G score, benefit.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.fixture(scope="module")
def ovarian():
    """Benefit, and albumin, K-G score and total protein."""
    table = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    return table[:, 3] == 1, np.column_stack([table[:, 0], 10 - table[:, 2], table[:, 1]])


def pairwise(positive, score):
    """AUROC and DeLong's variance by comparing all pairs, as the paper defines them."""
    x, y = score[positive], score[~positive]
    psi = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    return psi.mean(), v10.var(ddof=1) / len(x) + v01.var(ddof=1) / len(y)


class TestDeLong:
    def test_published_example(self, ovarian):
        # Areas and standard errors as in the SAS/STAT User's Guide, PROC LOGISTIC, "Comparing Receiver Operating
        # Characteristic Curves".
        aurocs, covariance = delong(*ovarian)
        np.testing.assert_allclose(aurocs, [0.7366, 0.7258, 0.6478], atol=5e-5)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), [0.0927, 0.1028, 0.1000], atol=5e-5)

    def test_worked_by_hand(self):
        # Of the pairs (1, 0), (1, 2), (3, 0), (3, 2) three are in order. Shares of pairs in order: 1/2 and 1 for the
        # positives, 1 and 1/2 for the negatives; each has variance 1/8, and 1/8 / 2 + 1/8 / 2 = 1/8.
        aurocs, covariance = delong([True, True, False, False], [1.0, 3.0, 0.0, 2.0])
        assert aurocs.tolist() == [0.75]
        assert covariance[0, 0] == pytest.approx(1 / 8, abs=1e-15)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), m=st.integers(2, 12), n=st.integers(2, 12))
    def test_equals_all_pairs_with_ties(self, data, m, n):
        score = np.array(data.draw(st.lists(st.integers(0, 5), min_size=m + n, max_size=m + n)), dtype=float)
        positive = np.arange(m + n) < m
        aurocs, covariance = delong(positive, score)
        auroc, variance = pairwise(positive, score)
        assert aurocs[0] == pytest.approx(auroc, abs=1e-12)
        assert covariance[0, 0] == pytest.approx(variance, abs=1e-12)
        assert aurocs[0] == pytest.approx(roc_auc_score(positive, score), abs=1e-12)

    def test_interval_is_normal_and_cut_at_one(self, ovarian):
        positive, scores = ovarian
        found = auroc_delong(positive, scores[:, 0])
        assert found == pytest.approx((0.7366, 0.7366 - 1.96 * 0.0927, 0.7366 + 1.96 * 0.0927), abs=1e-4)
        high = auroc_delong([1, 1, 1, 0, 0, 0], [5, 4, 2, 3, 1, 0])
        assert high.high == 1

    def test_separated_classes_have_an_honest_lower_end(self):
        found = auroc_delong([True] * 10 + [False] * 30, np.r_[np.ones(10), np.zeros(30)])
        assert (found.value, found.high) == (1, 1)
        assert found.low == pytest.approx(0.025 ** (1 / 10))
        turned = auroc_delong([True] * 10 + [False] * 30, np.r_[np.zeros(10), np.ones(30)])
        assert (turned.value, turned.low) == (0, 0)
        assert turned.high == pytest.approx(1 - found.low)

    def test_covers_the_truth_as_often_as_it_says(self, rng):
        truth, covered = norm.cdf(1 / np.sqrt(2)), 0
        positive = np.arange(120) < 50
        for _ in range(600):
            found = auroc_delong(positive, rng.normal(size=120) + positive)
            covered += found.low <= truth <= found.high
        # Three standard errors of a share of .95 in 600 are .027.
        assert 0.923 < covered / 600 < 0.977


class TestPairedTest:
    def test_equals_all_pairs(self, ovarian):
        positive, scores = ovarian
        for first in (0, 2):
            x, y = scores[positive][:, [first, 1]], scores[~positive][:, [first, 1]]
            psi = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
            contribution = psi[..., 0] - psi[..., 1]
            error = np.sqrt(
                contribution.mean(axis=1).var(ddof=1) / len(x) + contribution.mean(axis=0).var(ddof=1) / len(y)
            )
            found = delong_test(positive, scores[:, first], scores[:, 1])
            assert found.difference.value == pytest.approx(contribution.mean(), abs=1e-12)
            assert found.difference.high - found.difference.value == pytest.approx(1.959964 * error, rel=1e-6)
            assert found.z == pytest.approx(contribution.mean() / error, rel=1e-9)
            assert found.p_value == pytest.approx(2 * norm.cdf(-abs(found.z)), rel=1e-9)

    def test_same_order_is_no_difference(self, rng):
        positive, score = rng.random(50) < 0.4, rng.normal(size=50)
        found = delong_test(positive, score, np.exp(score))
        assert (found.z, found.p_value, found.difference.value) == (0, 1, 0)

    def test_opposite_order_of_separated_classes_differs_for_certain(self):
        positive = np.arange(8) < 4
        found = delong_test(positive, positive.astype(float), -positive.astype(float))
        assert (found.difference.value, found.z, found.p_value) == (1, np.inf, 0)

    def test_rejects_a_true_null_as_often_as_it_says(self, rng):
        positive, rejected = np.arange(100) < 40, 0
        for _ in range(600):
            shared = rng.normal(size=100) + positive
            first, second = (shared + 0.7 * rng.normal(size=100) for _ in range(2))
            rejected += delong_test(positive, first, second).p_value < 0.05
        assert 0.023 < rejected / 600 < 0.08


class TestClopperPearson:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 5.
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0, 0.1684), (1, 29, 0.0009, 0.1776)],
    )
    def test_published(self, successes, n, low, high):
        found = clopper_pearson(successes, n)
        assert found == pytest.approx((successes / n, low, high), abs=5e-5)

    @settings(max_examples=60, deadline=None)
    @given(n=st.integers(1, 400), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
    def test_equals_scipy_and_its_definition(self, n, share, level):
        successes = round(share * n)
        found, tail = clopper_pearson(successes, n, level=level), (1 - level) / 2
        peer = binomtest(successes, n).proportion_ci(level, method="exact")
        assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-9)
        if successes > 0:
            assert binom.sf(successes - 1, n, found.low) == pytest.approx(tail, rel=1e-6)
        if successes < n:
            assert binom.cdf(successes, n, found.high) == pytest.approx(tail, rel=1e-6)

    def test_ends(self):
        assert clopper_pearson(0, 10).high == pytest.approx(1 - 0.025 ** (1 / 10))
        assert clopper_pearson(10, 10)[1:] == pytest.approx((0.025 ** (1 / 10), 1))
        nothing = clopper_pearson(0, 0)
        assert np.isnan(nothing.value)
        assert nothing[1:] == (0, 1)

    def test_more_successes_than_trials(self):
        with pytest.raises(FeatureError, match="successes is 5 of n=4"):
            clopper_pearson(5, 4)


class TestBootstrap:
    def test_weights_are_repeats(self, rng):
        positive, score = np.arange(30) < 12, rng.integers(0, 6, 30).astype(float)
        counts = rng.integers(1, 4, 30)
        weighted = _ByScore(positive, score[:, None]).auroc(counts[None])[0]
        assert weighted == pytest.approx(roc_auc_score(np.repeat(positive, counts), np.repeat(score, counts)))

    def test_agrees_with_delong(self, rng):
        positive = np.arange(1500) < 500
        score = rng.normal(size=1500) + positive
        assert auroc_bootstrap(positive, score) == pytest.approx(auroc_delong(positive, score), abs=0.003)

    def test_paired_difference_agrees_with_delong(self, rng):
        positive = np.arange(1500) < 500
        shared = rng.normal(size=1500) + positive
        first, second = shared + 0.5 * rng.normal(size=1500), shared + rng.normal(size=1500)
        found = auroc_bootstrap(positive, first, against=second)
        assert found == pytest.approx(delong_test(positive, first, second).difference, abs=0.003)

    def test_mean_of_classes(self, rng):
        labels = rng.integers(0, 3, 300)
        positive = labels[:, None] == np.arange(3)
        scores = rng.normal(size=(300, 3)) + positive
        found = auroc_bootstrap(positive, scores)
        assert found.value == pytest.approx(np.mean([delong(positive[:, k], scores[:, k])[0][0] for k in range(3)]))
        single = auroc_bootstrap(positive[:, 0], scores[:, 0])
        assert 0 < found.high - found.low < single.high - single.low

    def test_copies_in_blocks_add_nothing(self, rng):
        positive = np.arange(200) < 80
        score = rng.normal(size=200) + positive
        block = np.repeat(np.arange(200), 4)
        whole = auroc_bootstrap(np.repeat(positive, 4), np.repeat(score, 4), blocks=block)
        tiles = auroc_bootstrap(np.repeat(positive, 4), np.repeat(score, 4))
        alone = auroc_bootstrap(positive, score)
        assert whole.value == tiles.value == pytest.approx(alone.value)
        assert (whole.high - whole.low) / (alone.high - alone.low) == pytest.approx(1, abs=0.1)
        assert (tiles.high - tiles.low) / (alone.high - alone.low) == pytest.approx(0.5, abs=0.06)

    def test_seed(self, rng):
        positive, score = np.arange(60) < 20, rng.normal(size=60)
        assert auroc_bootstrap(positive, score, seed=3) == auroc_bootstrap(positive, score, seed=3)
        assert auroc_bootstrap(positive, score, seed=3) != auroc_bootstrap(positive, score, seed=4)

    def test_too_few_blocks(self):
        positive, score = np.arange(40) < 20, np.arange(40.0)
        with pytest.raises(FeatureError, match="all tiles are of one block"):
            auroc_bootstrap(positive, score, blocks=np.zeros(40))
        # Each of three classes fills a block; all three are drawn in 6 of 27 resamples.
        classes = np.repeat(np.arange(3), 10)
        positive, score = classes[:, None] == np.arange(3), np.tile(np.arange(30.0)[:, None], 3)
        with pytest.raises(FeatureError, match="resamples of blocks lack a class"):
            auroc_bootstrap(positive, score, blocks=classes)


@pytest.mark.parametrize(
    ("positive", "score", "message"),
    [
        ([True, False, False], [1, 2, 3], "1 tiles are of the class and 2 are not"),
        ([True, True, False, False], [1, np.nan, 3, 4], "1 scores are not finite"),
        ([True, True, False], [1, 2, 3, 4], "expected a row of scores a tile"),
        ([0, 1, 2, 1], [1, 2, 3, 4], "other values than true and false"),
    ],
)
def test_bad_input(positive, score, message):
    with pytest.raises(FeatureError, match=message):
        auroc_delong(positive, score)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_bad_level(level):
    with pytest.raises(FeatureError, match="expected a confidence between 0 and 1"):
        clopper_pearson(1, 2, level=level)
