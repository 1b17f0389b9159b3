"""(A + αI) x = b for many α: one reduction of the symmetric matrix A serves all of them.

An eigendecomposition would serve as well, but the larger part of its time goes into what is not needed here: the
eigenvectors. A band matrix is enough, since shifting a band matrix leaves it one, and solving with it is cheap; getting
there is all matrix products, which run at the speed of the machine (Bischof, Lang and Sun 2000, ACM Trans. Math.
Softw. 26:581, the first half of their reduction).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from geopov.regression._inputs import Floats

# Wider bands make larger, faster products; narrower ones make cheaper solves. Measured with 30 shifts.
_BAND, _WIDE_BAND, _WIDE_FROM = 32, 64, 1500
# With more solutions to find than so many times n, eigenvectors pay after all: dividing by eigenvalues costs nothing.
_MANY = 4
# Rows that a product is subtracted from while they are in the cache.
_ROWS = 128


class ShiftedSystem:
    """Solves ``(A + alpha I) x = b`` for a symmetric, positive semi-definite A.

    Parameters
    ----------
    A : array (n, n)
        Overwritten.
    n_components : int, optional
        Only the space of so many leading eigenvectors counts; solutions have no part outside of it.
    """

    def __init__(self, A: Floats, *, n_components: int | None = None) -> None:
        self._A: Floats | None = A
        self._n_components = n_components
        self._reduced: BandForm | EigenForm | None = None

    def solve(self, b: Floats, alphas: Floats) -> Floats:
        """Solutions (n, a, q) of right-hand sides (n, q) for each of the shifts (a,)."""
        form = self._form(many=b.shape[1] * len(alphas) > _MANY * len(b))
        rotated = form.rotate(b)
        solved = np.stack([form.divide(rotated, float(alpha)) for alpha in alphas], axis=1)
        return form.rotate_back(solved.reshape(len(solved), -1)).reshape(len(b), len(alphas), -1)

    def solve_each(self, b: Floats, alpha: Floats) -> Floats:
        """Solutions (n, q) of right-hand sides (n, q), each with its own shift (q,)."""
        distinct = np.unique(alpha)
        if self._n_components is None and self._A is not None and len(distinct) == 1:
            A = self._A.copy()
            np.fill_diagonal(A, A.diagonal() + distinct[0])
            return np.asarray(np.linalg.solve(A, b))  # a third of the work of a reduction
        form = self._form()
        rotated = form.rotate(b)
        for shift in distinct:
            own = alpha == shift
            rotated[: form.size, own] = form.divide(rotated[:, own], float(shift))
        return form.rotate_back(rotated)

    def _form(self, *, many: bool = False) -> BandForm | EigenForm:
        if self._reduced is None:
            assert self._A is not None
            if self._n_components is None and not many:
                self._reduced = BandForm(self._A)
            else:
                self._reduced = EigenForm(self._A, self._n_components or len(self._A))
            self._A = None
        return self._reduced


class EigenForm:
    """A on its leading eigenvectors."""

    def __init__(self, A: Floats, n_components: int) -> None:
        values, vectors = np.linalg.eigh(A)
        self.size = n_components
        self._values, self._vectors = np.maximum(values[-n_components:], 0), vectors[:, -n_components:]

    def rotate(self, b: Floats) -> Floats:
        """Coordinates (k, q) of vectors (n, q)."""
        return np.asarray(self._vectors.T @ b)

    def divide(self, rotated: Floats, alpha: float) -> Floats:
        """Solution in these coordinates."""
        return np.asarray(rotated / (self._values + alpha)[:, None])

    def rotate_back(self, rotated: Floats) -> Floats:
        """Vectors (n, q) of coordinates (k, q)."""
        return np.asarray(self._vectors @ rotated)


class BandForm:
    """A as Q B Qᵀ, with B zero outside a band along its diagonal.

    Householder reflections below the band, a panel of columns at a time; a panel's reflections are I - V T Vᵀ
    (Schreiber and Van Loan 1989), so that they change the rest of A by one product of rank two panels.
    """

    def __init__(self, A: Floats) -> None:
        self.size = n = len(A)
        width = _BAND if n < _WIDE_FROM else _WIDE_BAND
        self._reflections: list[tuple[int, Floats, Floats]] = []
        for column in range(0, n - width - 1, width):
            below = column + width
            panel, rest = A[below:, column:below], A[below:, below:]
            Vt, T, R = _reflect(panel)
            panel[:] = R
            _reflect_both_sides(rest, Vt, T)
            self._reflections.append((below, Vt, T))
        self._band = np.zeros((min(width, n - 1) + 1, n))
        for offset, diagonal in enumerate(self._band):
            diagonal[: n - offset] = A.diagonal(-offset)

    def rotate(self, b: Floats) -> Floats:
        """Qᵀ b."""
        rotated = np.array(b)
        for below, Vt, T in self._reflections:
            rotated[below:] -= Vt.T @ (T.T @ (Vt @ rotated[below:]))
        return rotated

    def divide(self, rotated: Floats, alpha: float) -> Floats:
        """Solution with B + alpha I."""
        shifted = np.array(self._band, order="F")
        shifted[0] += alpha
        _, solution, info = lapack.dpbsv(shifted, rotated, lower=1, overwrite_ab=1)
        if info == 0:
            return np.asarray(solution)
        return self._divide_by_eigenvalues(rotated, alpha)

    def rotate_back(self, rotated: Floats) -> Floats:
        """Q times vectors (n, q)."""
        vectors = np.array(rotated)
        for below, Vt, T in reversed(self._reflections):
            vectors[below:] -= Vt.T @ (T @ (Vt @ vectors[below:]))
        return vectors

    def _divide_by_eigenvalues(self, rotated: Floats, alpha: float) -> Floats:
        """For shifts below the rounding error of A, which may leave its smallest eigenvalues below zero."""
        B = np.zeros((self.size, self.size))
        for offset, diagonal in enumerate(self._band):
            rows = np.arange(self.size - offset)
            B[rows + offset, rows] = diagonal[: self.size - offset]
        eigen = EigenForm(B, self.size)
        return eigen.rotate_back(eigen.divide(eigen.rotate(rotated), alpha))


def _reflect(panel: Floats) -> tuple[Floats, Floats, Floats]:
    """Householder vectors Vᵀ (k, m) and T (k, k) that bring a panel (m, b) to the upper triangular R (m, b)."""
    factored, tau = np.linalg.qr(panel, mode="raw")
    Vt = np.triu(factored[: len(tau)], 1)
    np.fill_diagonal(Vt, 1.0)
    # T⁻¹ + T⁻ᵀ = VᵀV; a column that is zero already has tau = 0 and is not reflected.
    idle = tau == 0
    Vt[idle] = 0.0
    inverse = np.triu(Vt @ Vt.T, 1)
    np.fill_diagonal(inverse, 1 / np.where(idle, 1.0, tau))
    return Vt, np.linalg.inv(inverse), np.tril(factored).T


def _reflect_both_sides(A: Floats, Vt: Floats, T: Floats) -> None:
    """Replace the symmetric A by Qᵀ A Q = A - V Wᵀ - W Vᵀ, with W = Y - V Tᵀ (Vᵀ Y) / 2 and Y = A V T."""
    Yt = T.T @ (Vt @ A)
    Wt = Yt - ((Yt @ Vt.T) @ T / 2) @ Vt
    left, right = np.concatenate([Vt, Wt]).T, np.concatenate([Wt, Vt])
    for start in range(0, len(A), _ROWS):
        A[start : start + _ROWS] -= left[start : start + _ROWS] @ right
