"""Corrections in a Gaussian world, where the exact answer is known, and where there is nothing to correct."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import gaussian_kde, norm

from geopov.errors import RegressionError
from geopov.regression.scores import score
from geopov.regression.shrinkage import (
    METHODS,
    MIN_SLOPE,
    Deshrinkage,
    _log_density_gradient,
    bias_by_decile,
    shrinkage_table,
)


def gaussian_world(n: int, *, r2: float, seed: int = 0, mean: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth of variance one and its conditional mean, as a perfect regression would predict it."""
    rng = np.random.default_rng(seed)
    predicted = mean + np.sqrt(r2) * rng.normal(size=n)
    return predicted + np.sqrt(1 - r2) * rng.normal(size=n), predicted


def corrected(method: str, observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return Deshrinkage.fit(observed, predicted, method=method).apply(predicted)


def test_linear_by_hand() -> None:
    observed, predicted = np.array([0.0, 2, 4, 6]), np.array([2.0, 3, 4, 5])  # prediction = 2 + truth / 2
    found = Deshrinkage.fit(observed, predicted, method="linear")
    assert (found.slope, found.stretch, found.intercept, found.note) == (0.5, 2.0, -4.0, "")
    np.testing.assert_allclose(found.apply(np.array([2.0, 5, 10])), [0, 6, 16])


def test_linear_is_the_inverse_of_the_line_of_prediction_on_truth() -> None:
    observed, predicted = gaussian_world(300, r2=0.6)
    slope, intercept = np.polyfit(observed, predicted, 1)
    np.testing.assert_allclose(corrected("linear", observed, predicted), (predicted - intercept) / slope)
    assert score(observed, corrected("linear", observed, predicted))["slope"] == pytest.approx(1)


@pytest.mark.parametrize("method", ["linear", "tweedie"])
@pytest.mark.parametrize("r2", [0.4, 0.7])
def test_new_places_of_a_gaussian_world(method: str, r2: float) -> None:
    """Slope one, no bias at either end, spread 1/r and errors of variance (1 - r²)/r²."""
    observed, predicted = gaussian_world(5000, r2=r2)
    truth, new = gaussian_world(20000, r2=r2, seed=1)
    found = Deshrinkage.fit(observed, predicted, method=method)
    scores = score(truth, found.apply(new))
    assert found.note == ""
    assert scores["slope"] == pytest.approx(1, abs=0.04)
    assert scores["sd_ratio"] == pytest.approx(1 / np.sqrt(r2), rel=0.04)
    assert scores["rmse"] == pytest.approx(np.sqrt((1 - r2) / r2), rel=0.04)
    bias = bias_by_decile(truth, found.apply(new))["bias"]
    assert np.abs(bias).max() < 0.12
    assert bias_by_decile(truth, new)["bias"].iloc[0] > 0.45


def test_tweedie_is_first_order_exact_for_gaussian_predictions() -> None:
    predicted = norm(3, 0.8).ppf((np.arange(4000) + 0.5) / 4000)
    observed = predicted + 0.6 * np.where(np.arange(4000) % 2, 1, -1)
    found = Deshrinkage.fit(observed, predicted, method="tweedie")
    central = predicted[400:-400]
    exact = predicted.mean() + (central - predicted.mean()) * (1 + found.sigma**2 / predicted.var())
    assert found.sigma == pytest.approx(0.6)
    np.testing.assert_allclose(found.apply(central), exact, atol=0.03)


def test_density_is_scipys() -> None:
    """The same kernel estimate of the data drawn towards their mean, differentiated numerically."""
    values = np.random.default_rng(0).gamma(3, size=400)
    bandwidth = (4 / (5 * 400)) ** (1 / 7)
    drawn = values.mean() + np.sqrt(1 - bandwidth**2) * (values - values.mean())
    kernel = gaussian_kde(drawn, bw_method=bandwidth * values.std() / drawn.std(ddof=1))
    at = np.linspace(values.min(), values.max(), 30)
    density, gradient = _log_density_gradient(values, at)
    np.testing.assert_allclose(density / density.sum(), kernel(at) / kernel(at).sum(), rtol=1e-6)
    numeric = (kernel.logpdf(at + 1e-5) - kernel.logpdf(at - 1e-5)) / 2e-5
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)


def test_tweedie_beyond_the_range_holds_the_end_shift() -> None:
    observed, predicted = gaussian_world(500, r2=0.5)
    found = Deshrinkage.fit(observed, predicted, method="tweedie")
    beyond = predicted.max() + np.array([0.0, 1, 50])
    np.testing.assert_allclose(found.apply(beyond) - beyond, found.shifts[-1])
    assert found.shifts[0] < 0 < found.shifts[-1]


def test_tweedie_keeps_the_order_between_urban_and_rural() -> None:
    rng = np.random.default_rng(0)
    predicted = np.where(rng.random(800) < 0.3, 1.5, -0.5) + 0.35 * rng.normal(size=800)
    observed = predicted + 0.7 * rng.normal(size=800)
    found = Deshrinkage.fit(observed, predicted, method="tweedie")
    raw = -(found.sigma**2) * _log_density_gradient(predicted, np.asarray(found.knots))[1]
    assert np.diff(np.asarray(found.knots) + raw).min() < -0.01  # the formula alone turns it round
    assert np.diff(found.apply(np.linspace(-3, 4, 500))).min() > -1e-9


@given(
    arrays(float, st.integers(2, 40), elements=st.floats(-1e3, 1e3)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(METHODS),
)
@settings(max_examples=150, deadline=None)
@example(np.array([2.03523959e-198, 0.0]), 0, "tweedie")
def test_whatever_the_predictions_the_order_is_kept(predicted: np.ndarray, seed: int, method: str) -> None:
    observed = np.random.default_rng(seed).normal(size=len(predicted)) + 0.01 * predicted
    found = Deshrinkage.fit(observed, predicted, method=method)
    at = np.linspace(predicted.min() - 10, predicted.max() + 10, 300)
    assert np.isfinite(found.apply(at)).all()
    assert np.diff(found.apply(at)).min() >= -1e-6
    assert Deshrinkage.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_none_changes_nothing() -> None:
    observed, predicted = gaussian_world(50, r2=0.5)
    found = Deshrinkage.fit(observed, predicted, method="none")
    np.testing.assert_array_equal(found.apply(predicted), predicted)
    assert found.slope == pytest.approx(score(observed, predicted)["slope"])
    assert np.isnan(found.apply(np.array([np.nan, 1.0]))).tolist() == [True, False]


@pytest.mark.parametrize("method", ["linear", "tweedie"])
@pytest.mark.parametrize("direction", [0.0, -1.0])
def test_useless_predictions_are_left_as_they_are(method: str, direction: float) -> None:
    observed = np.random.default_rng(0).normal(size=60)
    predicted = 0.1 + direction * observed
    found = Deshrinkage.fit(observed, predicted, method=method)
    np.testing.assert_array_equal(found.apply(predicted), predicted)
    assert "do not rise with the truth" in found.note


@pytest.mark.parametrize("method", ["linear", "tweedie"])
def test_weak_predictions_are_stretched_no_further_than_the_bound(method: str) -> None:
    observed, predicted = gaussian_world(4000, r2=0.05)
    found = Deshrinkage.fit(observed, predicted, method=method)
    assert "was taken as" in found.note
    stretched = found.apply(predicted)
    assert np.polyfit(predicted, stretched, 1)[0] == pytest.approx(1 / MIN_SLOPE, rel=0.05)
    assert stretched.mean() == pytest.approx(observed.mean(), abs=0.05)


def test_constant_truth_has_no_slope() -> None:
    found = Deshrinkage.fit(np.ones(10), np.arange(10.0), method="linear")
    assert np.isnan(found.slope)
    np.testing.assert_array_equal(found.apply(np.arange(3.0)), np.arange(3.0))


def test_nan_passes_through() -> None:
    observed, predicted = gaussian_world(100, r2=0.5)
    for method in METHODS:
        assert np.isnan(Deshrinkage.fit(observed, predicted, method=method).apply(np.array([np.nan]))).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(RegressionError, match="method is 'ridge'; expected one of none, linear, tweedie"):
        Deshrinkage.fit(np.ones(3), np.ones(3), method="ridge")
    with pytest.raises(RegressionError, match=r"shape \(3,\) and predicted \(2,\)"):
        Deshrinkage.fit(np.ones(3), np.ones(2), method="none")
    with pytest.raises(RegressionError, match="1 of 3 clusters"):
        bias_by_decile(np.array([1, np.nan, 2]), np.ones(3))
    with pytest.raises(RegressionError, match="the predictions are linear; expected one under 'none'"):
        shrinkage_table(np.ones(3), {"linear": np.ones(3)})


def test_bias_by_decile_by_hand() -> None:
    observed = np.arange(20.0)[::-1]
    table = bias_by_decile(observed, np.full(20, 9.5))
    assert table["decile"].tolist() == list(range(1, 11))
    assert table["n"].tolist() == [2] * 10
    np.testing.assert_allclose(table["observed"], np.arange(0.5, 20, 2))
    np.testing.assert_allclose(table["bias"], 9.5 - np.arange(0.5, 20, 2))
    assert len(bias_by_decile(observed[:7], observed[:7])) == 7


def test_table_says_what_it_buys_and_costs() -> None:
    observed, predicted = gaussian_world(3000, r2=0.5)
    by_method = {method: corrected(method, observed, predicted) for method in METHODS}
    table = shrinkage_table(observed, by_method).set_index("method")
    for method, values in by_method.items():
        scores, bias = score(observed, values), bias_by_decile(observed, values)["bias"]
        for name in ("slope", "sd_ratio", "rmse", "R2", "recall_poorest_fifth", "recall_poorest_tenth"):
            assert table.loc[method, name] == scores[name]
        assert table.loc[method, "bias_poorest_decile"] == bias.iloc[0]
        assert table.loc[method, "bias_richest_decile"] == bias.iloc[-1]
        assert table.loc[method, "rmse_cost"] == pytest.approx(scores["rmse"] - table.loc["none", "rmse"])
    assert table.loc["linear", "recall_poorest_fifth"] == table.loc["none", "recall_poorest_fifth"]
    assert table.loc["none", "under_line_fifth"] < 0.4 < 0.6 < table.loc["linear", "under_line_fifth"]
    assert table.loc["none", "rmse_cost"] == 0 < table.loc["linear", "rmse_cost"]


def test_table_of_constant_predictions() -> None:
    observed = np.arange(20.0)
    table = shrinkage_table(observed, {method: corrected(method, observed, np.full(20, 9.5)) for method in METHODS})
    expected = {"slope": 0.0, "sd_ratio": 0.0, "recall_poorest_fifth": 0.2, "under_line_fifth": 0.0, "rmse_cost": 0.0}
    pd.testing.assert_frame_equal(table[list(expected)], pd.DataFrame([expected] * 3), check_exact=False)
