"""The support against Mahalanobis' distance and Ledoit and Wolf's covariance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, ledoit_wolf_shrinkage
from sklearn.preprocessing import StandardScaler

from geopov.regression import Support
from geopov.regression.support import _ledoit_wolf, support_limit, within_support


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
