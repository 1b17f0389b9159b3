"""Widths by hand, and coverage by simulation: where errors vary, in new blocks and in new countries."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, norm
from sklearn.linear_model import GammaRegressor

from geopov.errors import RegressionError
from geopov.regression import Coverage
from geopov.regression.error_scale import MAX_FACTOR, MIN_CLUSTERS, ErrorScale, _gamma_regression
from geopov.regression.intervals import (
    Intervals,
    _scales_of_other_folds,
    conformal_quantile,
    coverage_by_subset,
    cross_conformal,
)

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def constant(errors: np.ndarray, *, level: float) -> float:
    """What a width without a scale would be."""
    return conformal_quantile(errors, np.arange(len(errors)), level=level)


def simulate(rng: np.random.Generator, n: int, sd: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Sample:
    """Absolute errors with a known standard deviation, predictions and distances of n places."""
    mean, distance = rng.normal(size=n), np.sqrt(rng.chisquare(8, size=n) / 8)
    return np.abs(sd(mean, distance) * rng.normal(size=n)), mean, distance


# --- quantile


def test_quantile_by_hand() -> None:
    errors = np.arange(1.0, 20.0)  # 19 errors: (19 + 1) x 0.9 = 18
    assert constant(errors[::-1], level=0.9) == 18
    assert constant(errors, level=0.5) == 10


def test_folds_weigh_the_same_by_hand() -> None:
    # Two folds: eight errors of 1 weigh as much as two of 5 and 9. Half of (10 + 1) is more than the first fold's 5.
    scores, folds = np.r_[np.ones(8), 5.0, 9.0], np.repeat([0, 1], [8, 2])
    assert conformal_quantile(scores, folds, level=0.5) == 5
    assert constant(scores, level=0.5) == 1


@given(st.integers(2, 6), st.integers(5, 20), st.floats(0.3, 0.8), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equal_folds_count_clusters(n_folds: int, size: int, level: float, seed: int) -> None:
    scores = np.random.default_rng(seed).exponential(size=n_folds * size)
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))
    found = conformal_quantile(scores, np.arange(len(scores)) % n_folds, level=level)
    assert found == np.sort(scores)[rank - 1]


def test_few_errors_are_refused_with_the_number_needed() -> None:
    with pytest.raises(RegressionError, match=r"8 clusters cannot give 90% intervals; at least 9"):
        constant(np.ones(8), level=0.9)
    assert constant(np.ones(9), level=0.9) == 1
    with pytest.raises(RegressionError, match="level is 1"):
        constant(np.ones(9), level=1)


# --- scale


def test_scale_follows_the_errors() -> None:
    rng = np.random.default_rng(0)
    errors, mean, distance = simulate(rng, 5000, lambda m, d: np.exp(0.4 * m + 0.8 * d))
    scale = ErrorScale.fit(errors, mean, distance)
    low, high, near, far = scale(np.array([-1.0, 1, 0, 0]), np.array([1.0, 1, 0.7, 1.3]))
    assert high / low == pytest.approx(np.exp(0.8), rel=0.1)
    assert far / near == pytest.approx(np.exp(0.48), rel=0.1)


@pytest.mark.parametrize("unit", [1.0, 1e4])
def test_regression_is_scikit_learns(unit: float) -> None:
    rng = np.random.default_rng(0)
    terms = rng.uniform(-1, 1, size=(150, 3))
    errors = np.abs(np.exp(terms @ [0.6, -0.3, 0.2]) * rng.normal(size=150))
    theirs = GammaRegressor(alpha=4 / 150, solver="newton-cholesky", tol=1e-10).fit(terms, errors).coef_
    np.testing.assert_allclose(_gamma_regression(terms, errors * unit), theirs, rtol=1e-5)


def test_scale_finds_wide_middles() -> None:
    errors, mean, distance = simulate(np.random.default_rng(0), 5000, lambda m, d: np.exp(-0.4 * m**2))
    scale = ErrorScale.fit(errors, mean, distance)(np.array([-1.5, 0, 1.5]), np.ones(3))
    assert scale[1] > 1.8 * max(scale[0], scale[2])


@given(arrays(float, 60, elements=st.floats(0, 1e6)), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_scale_is_bounded_and_held_beyond_what_was_seen(errors: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, distance = rng.normal(size=60) * 10.0 ** rng.integers(-6, 6), rng.exponential(size=60)
    scale = ErrorScale.fit(errors, mean, distance)
    seen = scale(mean, distance)
    assert np.all((seen >= 1 / MAX_FACTOR - 1e-9) & (seen <= MAX_FACTOR + 1e-9))
    (_, high), (_, far) = scale.mean_range, scale.distance_range
    at_the_end, beyond = scale(np.array([high, high + 1e9]), np.array([far, far + 1e9]))
    assert at_the_end == beyond


def test_scale_is_in_no_unit() -> None:
    errors, mean, distance = simulate(np.random.default_rng(1), 300, lambda m, d: np.exp(0.5 * m))
    there = Intervals.fit(errors, mean, distance, level=0.9).half_width(mean, distance)
    cents = Intervals.fit(errors * 100, mean * 100 + 7, distance, level=0.9).half_width(mean * 100 + 7, distance)
    np.testing.assert_allclose(cents, there * 100, rtol=1e-6)


def test_few_clusters_have_one_width() -> None:
    errors, mean, distance = simulate(np.random.default_rng(0), MIN_CLUSTERS, lambda m, d: np.exp(m))
    few = Intervals.fit(errors[:-1], mean[:-1], distance[:-1], level=0.9)
    assert few.scale == ErrorScale()
    assert set(few.half_width(mean, distance)) == {constant(errors[:-1], level=0.9)}
    assert Intervals.fit(errors, mean, distance, level=0.9).scale != ErrorScale()


def test_places_that_do_not_differ_have_one_width() -> None:
    errors = np.abs(np.random.default_rng(0).normal(size=100))
    found = Intervals.fit(errors, np.full(100, 3.0), np.ones(100), level=0.9)
    assert set(found.half_width(np.array([0.0, 3, 9]), np.array([0.5, 1, 7]))) == {constant(errors, level=0.9)}
    exact = Intervals.fit(np.zeros(100), np.arange(100.0), np.ones(100), level=0.9)
    assert exact.half_width(np.zeros(1), np.zeros(1)) == 0


def test_places_without_features_have_no_width() -> None:
    errors, mean, distance = simulate(np.random.default_rng(0), 200, lambda m, d: np.exp(m))
    for count in (30, 200):
        found = Intervals.fit(errors[:count], mean[:count], distance[:count], level=0.9)
        assert np.isnan(found.half_width(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))).all()


def test_through_json_and_back() -> None:
    errors, mean, distance = simulate(np.random.default_rng(0), 200, lambda m, d: np.exp(m))
    found = Intervals.fit(errors, mean, distance, level=0.9, folds=np.arange(200) % 4)
    assert (found.n_clusters, found.n_folds) == (200, 4)
    assert Intervals.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.ones(19)}, r"shapes .*'errors': \(20,\), 'mean': \(19,\)"),
        ({"distance": np.r_[np.nan, np.ones(19)]}, "1 of 20 values of distance are NaN"),
        ({"errors": -np.ones(20)}, "errors are below zero"),
        ({"level": 1.5}, "level is 1.5"),
        ({"folds": np.zeros(3, dtype=int)}, r"'folds': \(3,\)"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"errors": np.ones(20), "mean": np.ones(20), "distance": np.ones(20), "level": 0.9}
    with pytest.raises(RegressionError, match=message):
        Intervals.fit(**(arguments | change))


# --- coverage


def test_a_fold_is_not_calibrated_on_itself() -> None:
    errors, flat = np.r_[np.full(20, 100.0), np.full(20, 1.0), np.full(20, 2.0)], np.ones(60)
    folds = np.repeat([0, 1, 2], 20)
    widths = cross_conformal(errors, folds, flat, flat, level=0.5)
    assert set(widths[folds == 0]) == {2.0}
    assert set(widths[folds == 1]) == {100.0}
    with pytest.raises(RegressionError, match="all clusters are in one fold"):
        cross_conformal(errors, flat.astype(int), flat, flat, level=0.5)


def test_own_errors_do_not_change_own_widths() -> None:
    errors, mean, distance = simulate(np.random.default_rng(0), 200, lambda m, d: np.exp(0.5 * m))
    folds = np.arange(200) % 5
    before = cross_conformal(errors, folds, mean, distance, level=0.9)
    changed = np.where(folds == 2, 1e3 * (mean + 5), errors)
    after = cross_conformal(changed, folds, mean, distance, level=0.9)
    np.testing.assert_array_equal(after[folds == 2], before[folds == 2])
    assert (after[folds != 2] != before[folds != 2]).all()


WORLDS = {
    "the same everywhere": lambda m, d: np.ones(len(m)),
    "larger for the rich": lambda m, d: np.exp(0.5 * m),
    "larger far out": lambda m, d: np.exp(0.8 * (d - 1)),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(("n", "repeats"), [(45, 120), (80, 40), (800, 12)])
def test_coverage_is_nominal(world: str, n: int, repeats: int) -> None:
    """Held-out clusters and new places alike; a scale learned from the scores themselves would lack one point."""
    held, fresh = [], []
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, n])
        errors, mean, distance = simulate(rng, n, WORLDS[world])
        folds = np.arange(n) % 5
        held.append(np.mean(errors <= cross_conformal(errors, folds, mean, distance, level=0.9)))
        found = Intervals.fit(errors, mean, distance, level=0.9, folds=folds)
        new_errors, *new = simulate(rng, 1000, WORLDS[world])
        fresh.append(np.mean(new_errors <= found.half_width(*new)))
    # The rank is rounded up: 42 of 46 is 91.3%.
    nominal = np.ceil((n + 1) * 0.9) / (n + 1)
    assert np.mean(fresh) == pytest.approx(nominal, abs=0.012)
    assert np.mean(held) == pytest.approx(nominal, abs=0.017)


def test_width_hardly_varies_where_errors_do_not() -> None:
    rng = np.random.default_rng(0)
    spread, width = [], []
    for _ in range(20):
        errors, mean, distance = simulate(rng, 800, WORLDS["the same everywhere"])
        widths = Intervals.fit(errors, mean, distance, level=0.9).half_width(mean, distance)
        spread.append(widths.std() / widths.mean())
        width.append(widths.mean() / constant(errors, level=0.9))
    assert np.mean(spread) < 0.06
    assert np.mean(width) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("world", "by"), [("larger for the rich", 0), ("larger far out", 1)])
def test_the_worst_fifth_is_covered_as_others_are(world: str, by: int) -> None:
    local, flat, ratio = [], [], []
    for repeat in range(25):
        rng = np.random.default_rng(repeat)
        errors, mean, distance = simulate(rng, 600, WORLDS[world])
        new_errors, *new = simulate(rng, 2000, WORLDS[world])
        worst = new[by] > np.quantile(new[by], 0.8)
        widths = Intervals.fit(errors, mean, distance, level=0.9).half_width(*new)
        local.append([np.mean((new_errors <= widths)[part]) for part in (worst, ~worst)])
        flat.append(np.mean(new_errors[worst] <= constant(errors, level=0.9)))
        ratio.append(widths.mean() / constant(errors, level=0.9))
    assert np.mean(local, axis=0) == pytest.approx([0.9, 0.9], abs=0.02)
    assert np.mean(flat) < 0.82
    assert np.mean(ratio) < 1.0


def nested_places(rng: np.random.Generator, sizes: np.ndarray, *, shared: float) -> tuple[np.ndarray, ...]:
    """Groups of places whose errors share a part of their variance, and are larger for the rich."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    effect = rng.normal(size=(3, len(sizes)))[:, groups]
    mean = np.sqrt(0.4) * effect[0] + np.sqrt(0.6) * rng.normal(size=len(groups))
    distance = np.exp(0.3 * effect[1]) * np.sqrt(rng.chisquare(8, size=len(groups)) / 8)
    noise = np.sqrt(shared) * effect[2] + np.sqrt(1 - shared) * rng.normal(size=len(groups))
    return np.abs(np.exp(0.4 * mean) * noise), mean, distance, groups


def test_coverage_of_new_blocks() -> None:
    """Sixty blocks of eight clusters that share 30% of their error variance, in five folds."""
    held = []
    for repeat in range(40):
        rng = np.random.default_rng(repeat)
        errors, mean, distance, blocks = nested_places(rng, np.full(60, 8), shared=0.3)
        widths = cross_conformal(errors, blocks % 5, mean, distance, level=0.9)
        held.append(np.mean(errors <= widths))
    assert np.mean(held) == pytest.approx(0.9, abs=0.012)


def test_coverage_of_new_countries() -> None:
    """With 23 surveys of 10 to 500 clusters and half the variance shared, equal weights make coverage vary less."""
    equal, pooled = [], []
    for repeat in range(80):
        rng = np.random.default_rng(repeat)
        sizes = np.exp(rng.normal(4, 1, 23)).astype(int) + 10
        errors, mean, distance, country = nested_places(rng, sizes, shared=0.5)
        new_errors, *new, _ = nested_places(rng, np.full(60, 30), shared=0.5)
        found = Intervals.fit(errors, mean, distance, level=0.9, folds=country)
        equal.append(np.mean(new_errors <= found.half_width(*new)))
        scores = errors / _scales_of_other_folds(errors, mean, distance, country)
        width = constant(scores, level=0.9) * found.scale(*new)
        pooled.append(np.mean(new_errors <= width))
    assert np.mean(equal) == pytest.approx(0.9, abs=0.012)
    assert np.std(equal) < 0.9 * np.std(pooled)


# --- coverage of the coverage


def test_coverage_interval() -> None:
    blocks = np.arange(400) // 4
    found = Coverage.measure(np.arange(400) % 10 > 0, blocks, nominal=0.9)
    assert found.measured == pytest.approx(0.9)
    assert 0.85 < found.low < 0.9 < found.high < 0.95
    assert np.isnan(Coverage.measure(np.ones(8, dtype=bool), np.zeros(8, dtype=int), nominal=0.9).low)


def test_coverage_interval_of_single_clusters_is_clopper_and_pearsons() -> None:
    inside = np.arange(50) % 10 > 0
    exact = binomtest(45, 50).proportion_ci(0.95)
    found = Coverage.measure(inside, np.arange(50), nominal=0.9)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.003)
    everywhere = Coverage.measure(np.ones(40, dtype=bool), np.arange(40) // 5, nominal=0.9)
    assert (everywhere.measured, everywhere.high) == (1.0, 1.0)
    assert 0.5 < everywhere.low < 0.7  # 8 blocks of 8 inside: no less than 63%, and a little for not knowing more


@pytest.mark.parametrize(("n_blocks", "size"), [(8, 30), (60, 8)])
def test_coverage_interval_holds_the_true_share(n_blocks: int, size: int) -> None:
    held = []
    for repeat in range(400):
        rng = np.random.default_rng([repeat, n_blocks])
        blocks = np.repeat(np.arange(n_blocks), rng.poisson(size - 1, n_blocks) + 1)
        common = np.sqrt(0.3) * rng.normal(size=n_blocks)[blocks]
        inside = common + np.sqrt(0.7) * rng.normal(size=len(blocks)) < norm.ppf(0.9)
        found = Coverage.measure(inside, blocks, nominal=0.9)
        held.append(found.low <= 0.9 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_coverage_by_subset() -> None:
    inside, blocks = np.arange(400) % 10 > 0, np.arange(400) // 4
    parts = {"all": np.ones(400, bool), "urban": np.arange(400) < 12, "none": np.zeros(400, bool)}
    table = coverage_by_subset(inside, parts, blocks, nominal=0.9, widths=np.arange(400.0))
    assert table["subset"].tolist() == ["all", "urban"]
    whole, urban = table.to_dict("records")
    assert {name: whole[name] for name in ("measured", "low", "high")} == {
        name: value for name, value in vars(Coverage.measure(inside, blocks, nominal=0.9)).items() if name != "nominal"
    }
    assert (whole["n"], whole["nominal"], whole["width"]) == (400, 0.9, 199.5)
    assert (urban["n"], urban["measured"], urban["width"]) == (12, 10 / 12, 5.5)
    assert np.isnan(urban["low"])
    assert np.isnan(urban["high"])
    assert coverage_by_subset(inside, parts, blocks, nominal=0.9)["width"].isna().all()
