"""Shifted systems against numpy's own solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.regression._band import BandForm, ShiftedSystem


def _gram(n: int, rank: int, *, seed: int = 0) -> np.ndarray:
    Z = np.random.default_rng(seed).normal(size=(n, rank))
    return Z @ Z.T


def _direct(A: np.ndarray, b: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    return np.stack([np.linalg.solve(A + alpha * np.eye(len(A)), b) for alpha in alphas], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 140),
    rank=st.integers(0, 150),
    q=st.integers(1, 3),
    seed=st.integers(0, 2**16),
    alphas=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=5),
)
def test_solves_like_numpy(n: int, rank: int, q: int, seed: int, alphas: list[float]) -> None:
    A, b = _gram(n, rank, seed=seed), np.random.default_rng(seed + 1).normal(size=(n, q))
    found = ShiftedSystem(A.copy()).solve(b, np.array(alphas))
    expected = _direct(A, b, np.array(alphas))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("n", [1, 2, 32, 33, 34, 65, 200, 1501])
def test_the_band_is_the_matrix_in_another_basis(n: int) -> None:
    A = _gram(n, n)
    form = BandForm(A.copy())
    Q = form.rotate_back(np.eye(n))
    np.testing.assert_allclose(Q.T @ Q, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(form.rotate(np.eye(n)), Q.T, atol=1e-12)
    B = Q.T @ A @ Q
    outside = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) > 64
    assert np.abs(B[outside]).max(initial=0) < 1e-10 * np.abs(A).max()


def test_columns_that_are_zero_already_are_not_reflected() -> None:
    A = np.zeros((90, 90))
    A[:2, :2] = [[2.0, 1.0], [1.0, 3.0]]
    b = np.random.default_rng(0).normal(size=(90, 2))
    alphas = np.array([0.5, 7.0])
    np.testing.assert_allclose(ShiftedSystem(A.copy()).solve(b, alphas), _direct(A, b, alphas), rtol=1e-13)


def test_a_shift_below_the_rounding_error_leaves_the_range_of_a_as_it_is() -> None:
    A = _gram(120, 5) * 1e8  # its 115 zero eigenvalues come out as about 1e-6 of either sign
    b = A @ np.random.default_rng(1).normal(size=(120, 1)) / 1e10
    found = ShiftedSystem(A.copy()).solve(b, np.array([1e-12]))[:, 0]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(A @ found, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


@pytest.mark.parametrize("shifts", [[2.0, 2.0, 2.0], [0.1, 5.0, 0.1]])
def test_each_outcome_with_its_own_shift(shifts: list[float]) -> None:
    A, b = _gram(80, 30), np.random.default_rng(1).normal(size=(80, 3))
    expected = np.column_stack([np.linalg.solve(A + shift * np.eye(80), b[:, i]) for i, shift in enumerate(shifts)])
    fresh, used = ShiftedSystem(A.copy()), ShiftedSystem(A.copy())
    used.solve(b, np.array([1.0]))
    np.testing.assert_allclose(fresh.solve_each(b, np.array(shifts)), expected, atol=1e-10)
    np.testing.assert_allclose(used.solve_each(b, np.array(shifts)), expected, atol=1e-10)


def test_many_outcomes_at_once() -> None:
    A, b, alphas = _gram(70, 40), np.random.default_rng(1).normal(size=(70, 150)), np.logspace(-2, 3, 7)
    np.testing.assert_allclose(ShiftedSystem(A.copy()).solve(b, alphas), _direct(A, b, alphas), atol=1e-9)


def test_leading_components_only() -> None:
    A, b, alphas = _gram(60, 60), np.random.default_rng(1).normal(size=(60, 2)), np.array([0.5, 30.0])
    values, vectors = np.linalg.eigh(A)
    lead = vectors[:, -4:]
    expected = np.stack([lead @ ((lead.T @ b) / (values[-4:, None] + alpha)) for alpha in alphas], axis=1)
    system = ShiftedSystem(A.copy(), n_components=4)
    np.testing.assert_allclose(system.solve(b, alphas), expected, atol=1e-12)
    np.testing.assert_allclose(system.solve_each(b, alphas), expected[:, [0, 1], [0, 1]], atol=1e-12)
