from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from geopov.errors import FeatureError
from geopov.features.classification.calibration import Calibration, calibration_scores, fit_calibration, reliability


def drawn(n, temperature, seed=0, k=3):
    """Logits, and classes drawn with the probabilities of the logits at this temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (n, k))
    draws = rng.random((n, 1))
    return logits, (draws > softmax(logits / temperature, axis=1).cumsum(axis=1)).sum(axis=1)


def test_temperature_by_hand():
    # Right in 3 of 4 where the odds claimed are 9 to 1: ln 9 / T = ln 3.
    logits = np.tile([np.log(9), 0.0], (4, 1))
    found = fit_calibration(logits, np.array([0, 0, 0, 1]), method="temperature")
    assert found.temperature == pytest.approx(2, abs=1e-9)
    np.testing.assert_allclose(found.probabilities(logits), np.tile([0.75, 0.25], (4, 1)), atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    logits, codes = drawn(20_000, temperature)
    assert fit_calibration(logits, codes, method="temperature").temperature == pytest.approx(temperature, rel=0.04)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 60), k=st.integers(2, 5))
def test_no_other_temperature_has_less_log_loss(seed, n, k):
    logits, codes = drawn(n, 2.5, seed, k)

    def loss(log_t):
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(n), codes].mean()

    ours = loss(np.log(fit_calibration(logits, codes, method="temperature").temperature))
    assert ours <= minimize_scalar(loss, bounds=(np.log(0.05), np.log(100)), method="bounded").fun + 1e-9


def test_perfect_and_useless_scores_stay_within_bounds():
    codes = np.array([0, 1] * 10)
    right = np.where(np.arange(2) == codes[:, None], 5.0, 0.0)
    assert fit_calibration(right, codes, method="temperature").temperature == 0.05
    assert fit_calibration(-right, codes, method="temperature").temperature == 100


@settings(max_examples=40, deadline=None)
@given(
    logits=hnp.arrays(float, (6, 3), elements=st.floats(-50, 50)),
    method=st.sampled_from(["temperature", "isotonic", "none"]),
)
def test_probabilities_are_probabilities(logits, method):
    found = fit_calibration(*drawn(200, 2), method=method)
    rows = found.probabilities(logits)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    assert rows.min() >= 0
    back = Calibration.from_dict(json.loads(json.dumps(found.to_dict())), origin=Path("x"))
    np.testing.assert_array_equal(back.probabilities(logits), rows)


@pytest.mark.parametrize("method", ["temperature", "isotonic", "none"])
@pytest.mark.parametrize("k", [2, 3])
def test_missing_scores_stay_missing(method, k):
    found = fit_calibration(*drawn(200, 2, k=k), method=method)
    rows = found.probabilities(np.array([[np.nan] * k, [1.0] * k]))
    assert np.isnan(rows[0]).all()
    assert np.isfinite(rows[1]).all()


def test_isotonic_is_scikit_learns_and_of_two_classes_adds_up():
    logits, codes = drawn(500, 3, k=2)
    found = fit_calibration(logits, codes, method="isotonic")
    new, _ = drawn(300, 3, seed=1, k=2)
    raw = softmax(logits, axis=1)[:, 1]
    oracle = IsotonicRegression(out_of_bounds="clip").fit(raw, codes).predict(softmax(new, axis=1)[:, 1])
    np.testing.assert_allclose(found.probabilities(new)[:, 1], oracle, atol=1e-12)
    assert len(found.curves) == 1


def test_isotonic_classes_are_brought_to_sum_one():
    curves = (((0.0, 1.0), (0.0, 0.5)), ((0.0, 1.0), (0.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)))
    found = Calibration("isotonic", 9, curves=curves)
    rows = found.probabilities(np.log([[0.5, 0.25, 0.25]]))
    np.testing.assert_allclose(rows, [[0.5, 0, 0.5]])
    flat = Calibration("isotonic", 9, curves=(((0.0, 1.0), (0.0, 0.0)),) * 3)
    np.testing.assert_allclose(flat.probabilities(np.zeros((1, 3))), [[1 / 3] * 3])


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibration_mends_overconfidence_on_other_tiles(method):
    found = fit_calibration(*drawn(3000, 4), method=method)
    logits, codes = drawn(3000, 4, seed=1)
    before, after = (
        calibration_scores(softmax(logits, axis=1), codes),
        calibration_scores(found.probabilities(logits), codes),
    )
    assert before["ece"] > 0.15
    assert after["ece"] < 0.04
    assert after["brier"] < before["brier"]


def test_scores_by_hand():
    rows = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    found = calibration_scores(rows, np.array([0, 1, 0, 1]), n_bins=5)
    # Bins above 0.8 (half right where 0.9 is said), up to 0.8 and up to 0.6 (both right).
    assert found["ece"] == pytest.approx((2 * 0.4 + 0.2 + 0.4) / 4)
    assert found["accuracy"] == 0.75
    assert found["brier"] == pytest.approx(2 * (0.01 + 0.81 + 0.16 + 0.04) / 4)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.8]).mean())


def test_scores_are_scikit_learns():
    logits, codes = drawn(400, 1, k=2)
    rows = softmax(logits, axis=1)
    found = calibration_scores(rows, codes)
    assert found["log_loss"] == pytest.approx(log_loss(codes, rows))
    assert found["brier"] == pytest.approx(2 * brier_score_loss(codes, rows[:, 1]))


def test_reliability_by_hand():
    table = reliability(np.array([0.0, 0.1, 0.10001, 0.95, 1.0]), np.array([False, True, True, True, True]))
    assert table["lower"].tolist() == pytest.approx([0, 0.1, 0.9])
    assert table["n_tiles"].tolist() == [2, 1, 2]
    assert table["observed"].tolist() == [0.5, 1, 1]
    # Clopper & Pearson for 1 of 1: the lower end is 0.025.
    assert table["observed_lower"][1] == pytest.approx(0.025)
    assert table["observed_upper"][1] == 1


@pytest.mark.parametrize(
    ("logits", "codes", "method", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "none", r"scores have shape \(3, 2\)"),
        (np.zeros((3, 1)), [0, 0, 0], "none", "two classes or more"),
        (np.full((2, 2), np.nan), [0, 1], "none", "missing or infinite"),
        (np.zeros((2, 2)), [0, 2], "none", "from 0 to 2; expected 0 to 1"),
        (np.zeros((2, 3)), [0, 1], "isotonic", "classes 2 .* have no tile"),
        (np.zeros((2, 2)), [0, 1], "platt", "calibration is 'platt'"),
    ],
)
def test_what_cannot_be_calibrated_is_told(logits, codes, method, message):
    with pytest.raises(FeatureError, match=message):
        fit_calibration(logits, np.array(codes), method=method)


def test_bins_are_counted():
    with pytest.raises(FeatureError, match="n_bins is 0"):
        reliability(np.array([0.5]), np.array([True]), n_bins=0)
