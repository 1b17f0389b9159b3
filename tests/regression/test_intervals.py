"""Widths by hand, coverage by simulation, and the support against Mahalanobis and Ledoit-Wolf."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage
from sklearn.preprocessing import StandardScaler

from geopov.errors import RegressionError
from geopov.regression import Coverage, Support
from geopov.regression.intervals import _ledoit_wolf, cross_conformal, half_width, support_limit, within_support


def test_half_width_by_hand() -> None:
    errors = np.arange(1.0, 20.0)  # 19 errors: (19 + 1) x 0.9 = 18
    assert half_width(errors[::-1], level=0.9) == 18
    assert half_width(errors, level=0.5) == 10


def test_few_errors_are_refused_with_the_number_needed() -> None:
    with pytest.raises(RegressionError, match=r"8 clusters cannot give 90% intervals; at least 9"):
        half_width(np.ones(8), level=0.9)
    assert half_width(np.ones(9), level=0.9) == 1
    with pytest.raises(RegressionError, match="level is 1"):
        half_width(np.ones(9), level=1)


def test_a_fold_is_not_calibrated_on_itself() -> None:
    errors = np.r_[np.full(20, 100.0), np.full(20, 1.0), np.full(20, 2.0)]
    folds = np.repeat([0, 1, 2], 20)
    widths = cross_conformal(errors, folds, level=0.5)
    assert set(widths[folds == 0]) == {2.0}
    assert set(widths[folds == 1]) == {100.0}


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_is_nominal_for_exchangeable_errors(level: float) -> None:
    rng = np.random.default_rng(0)
    folds = np.arange(200) % 5
    held, fresh = [], []
    for _ in range(200):
        errors = np.abs(rng.standard_t(4, size=200))
        held.append(np.mean(errors <= cross_conformal(errors, folds, level=level)))
        fresh.append(np.mean(np.abs(rng.standard_t(4, size=200)) <= half_width(errors, level=level)))
    assert np.mean(held) == pytest.approx(level, abs=0.012)
    assert np.mean(fresh) == pytest.approx(level, abs=0.012)


def test_coverage_interval() -> None:
    blocks = np.arange(400) // 4
    found = Coverage.measure(np.arange(400) % 10 > 0, blocks, nominal=0.9)
    assert found.measured == pytest.approx(0.9)
    assert 0.85 < found.low < 0.9 < found.high < 0.95
    assert np.isnan(Coverage.measure(np.ones(8, dtype=bool), np.zeros(8, dtype=int), nominal=0.9).low)


@pytest.mark.parametrize(("n", "p"), [(200, 6), (40, 100)])
def test_distance_is_mahalanobis_with_ledoit_wolf(n: int, p: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)) * rng.uniform(0.5, 20, p) + 50
    new = rng.normal(size=(30, p)) * 10 + 50
    scaler = StandardScaler().fit(X)
    covariance, _ = ledoit_wolf(scaler.transform(X), assume_centered=True)
    Z = scaler.transform(new)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", Z, np.linalg.inv(covariance), Z) / p)
    # Directions within 1% of the floor are not kept.
    np.testing.assert_allclose(Support.fit(X).distance(new), expected, rtol=0.01)


@pytest.mark.parametrize(("n", "p"), [(200, 6), (40, 100)])
def test_shrinkage_is_scikit_learns(n: int, p: int) -> None:
    rng = np.random.default_rng(1)
    Z = StandardScaler().fit_transform(rng.normal(size=(n, 4)) @ rng.normal(size=(4, p)) + rng.normal(size=(n, p)))
    values = np.linalg.eigvalsh(Z @ Z.T / n)
    assert _ledoit_wolf(Z, values) == pytest.approx(ledoit_wolf_shrinkage(Z, assume_centered=True), rel=1e-9)


def test_support_sees_what_is_unlike_the_training() -> None:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(3, 60))

    def images(n: int) -> np.ndarray:
        return rng.normal(size=(n, 3)) @ basis + 0.3 * rng.normal(size=(n, 60))

    support, held_out = Support.fit(images(300)), images(300)
    limit = support_limit(support.distance(held_out))
    assert np.mean(support.distance(images(300)) <= limit) > 0.95
    strange = rng.normal(size=(50, 60)) * np.linalg.norm(basis, axis=0)  # as long, but in no familiar direction
    assert (support.distance(strange) > limit).all()


def test_constant_features_do_not_count_until_they_move() -> None:
    X = np.random.default_rng(0).normal(size=(50, 4))
    X[:, 2] = 7.0
    distance = Support.fit(X).distance(X)
    assert np.isfinite(distance).all()
    moved = X.copy()
    moved[:, 2] = 8.0
    assert (Support.fit(X).distance(moved) > distance).all()


def test_within_support_uses_the_other_folds() -> None:
    distances = np.r_[np.full(50, 9.0), np.full(50, 1.0), np.full(50, 1.2)]
    inside = within_support(distances, np.repeat([0, 1, 2], 50))
    assert not inside[:50].any()
    assert inside[50:].all()
