"""Training rows cut into the pieces that inner folds hold out, and ridge fits on any of the pieces together.

Every sum over the training rows of an inner fold is a sum over pieces, so the moments and the Gram matrix of a piece
are taken once and serve all inner folds and the final fit. Sums over "all pieces but one" add up the others rather than
take the one away from the whole, and features are centred beforehand, so that nothing cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geopov.regression._band import ShiftedSystem
from geopov.regression._inputs import Floats, Ints

# Beyond this ratio of squared mean to variance, moments lose digits that two passes over the rows keep.
_CANCELS = 1e3


@dataclass(frozen=True)
class Piece:
    """Rows that are held out together, and their sums."""

    X: Floats
    """(n, p) features less the ``centre`` of their outer fold."""
    Y: Floats
    """(n, q) outcomes, likewise."""
    weights: Floats
    """(n,)"""
    moments: Floats
    """(2, p) weighted sums of the features and of their squares."""
    low: Floats
    high: Floats
    """(p,) range of the features as given."""
    products: tuple[Floats, Floats] | None
    """Weighted sums of products of features with features (p, p) and with outcomes (p, q); None where the kernel of
    rows is the smaller matrix."""

    @classmethod
    def read(cls, X: Floats, rows: Ints, Y: Floats, weights: Floats, centre: Floats, *, primal: bool) -> Piece:
        """Rows of all features X, with their outcomes Y and weights; ``primal`` asks for the Gram matrix."""
        part = np.empty((len(rows), X.shape[1]))
        low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
        for chunk in _chunks(*part.shape):
            block = part[chunk]
            np.take(X, rows[chunk], axis=0, out=block, mode="clip")  # the default mode copies once more
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
            block -= centre
        weighted = part if np.all(weights == 1) else part * np.sqrt(weights)[:, None]
        products = (weighted.T @ weighted, part.T @ (weights[:, None] * Y)) if primal else None
        square = np.einsum("ij,ij->j", weighted, weighted) if products is None else products[0].diagonal()
        return cls(
            X=part,
            Y=Y,
            weights=weights,
            moments=np.stack([weights @ part, square]),
            low=low,
            high=high,
            products=products,
        )


@dataclass(frozen=True)
class Scaling:
    """Weighted means and standard deviations over pieces, and the ranges of the features."""

    centre: Floats
    """(p,) what was taken off the features."""
    mean: Floats
    """(p,), of centred features."""
    inverse: Floats
    """(p,) one over the standard deviation; 0 where a feature is constant."""
    low: Floats
    high: Floats
    """(p,) range of the features as given."""
    total: float
    """Sum of weights."""
    cancels: bool
    """Whether a feature's mean is so far from zero that products must be taken of standardised features."""

    @classmethod
    def over(cls, pieces: Sequence[Piece], centre: Floats) -> Scaling:
        """Of the rows of ``pieces``, whose features are given less ``centre`` (p,)."""
        total = float(sum(piece.weights.sum() for piece in pieces))
        mean, square = np.sum([piece.moments for piece in pieces], axis=0) / total
        variance = square - mean**2
        far = mean**2 > _CANCELS * variance
        if far.any():
            squares = [piece.weights @ (piece.X[:, far] - mean[far]) ** 2 for piece in pieces]
            variance[far] = np.sum(squares, axis=0) / total
        eps = np.finfo(np.float64).eps
        varies = variance > total * eps * variance + (total * (mean + centre) * eps) ** 2
        inverse = np.zeros_like(variance)
        inverse[varies] = 1 / np.sqrt(variance[varies])
        low = np.min([piece.low for piece in pieces], axis=0)
        high = np.max([piece.high for piece in pieces], axis=0)
        return cls(centre, mean, inverse, low, high, total, bool(np.any(far & varies)))

    @property
    def varies(self) -> NDArray[np.bool_]:
        """(p,) True where a feature is not constant."""
        return self.inverse > 0

    def apply(self, X: Floats, *, clip: bool = False, out: Floats | None = None) -> Floats:
        """Standardise centred features (n, p), first clipped to their range if so asked."""
        out = np.empty_like(X) if out is None else out
        low, high = self.low - self.centre, self.high - self.centre
        for chunk in _chunks(*X.shape):
            block = out[chunk]
            if clip:
                np.maximum(X[chunk], low, out=block)
                np.minimum(block, high, out=block)
            np.subtract(block if clip else X[chunk], self.mean, out=block)
            block *= self.inverse
        return out

    def stack(self, pieces: Sequence[Piece]) -> Floats:
        """Standardised features (n, p) of the rows of all pieces, times the roots of their weights."""
        Z = np.empty((sum(len(piece.X) for piece in pieces), len(self.mean)))
        stop = 0
        for piece in pieces:
            start, stop = stop, stop + len(piece.X)
            self.apply(piece.X, out=Z[start:stop])
            if np.any(piece.weights != 1):
                Z[start:stop] *= np.sqrt(piece.weights)[:, None]
        return Z


class Fit:
    """Ridge on the standardised rows of pieces, ready to be solved for any penalties.

    Parameters
    ----------
    pieces : list of Piece
        Training rows.
    centre : array (p,)
        What was taken off their features.
    n_components : int, optional
        Regress on so many leading principal components instead of on all features.
    """

    def __init__(self, pieces: Sequence[Piece], centre: Floats, *, n_components: int | None = None) -> None:
        self.scaling = scaling = Scaling.over(pieces, centre)
        self.mean_y = np.sum([piece.weights @ piece.Y for piece in pieces], axis=0) / scaling.total
        products = [piece.products for piece in pieces if piece.products is not None]
        self._basis: list[Floats] = []
        if products and not scaling.cancels:
            matrix, self._b = self._standardise(products)
        else:
            Z = scaling.stack(pieces)
            outcomes = [np.sqrt(piece.weights)[:, None] * (piece.Y - self.mean_y) for piece in pieces]
            if products:
                matrix, self._b = Z.T @ Z, Z.T @ np.concatenate(outcomes)
            else:
                matrix, self._b, self._basis = Z @ Z.T, np.concatenate(outcomes), [Z.T]
        self._system = ShiftedSystem(matrix, n_components=n_components)

    def predict(self, X: Floats, alphas: Floats, *, clip: bool) -> Floats:
        """Outcomes (n, a, q), centred as they were given, of centred features (n, p) for every penalty (a,)."""
        path = self._system.solve(self._b, alphas).reshape(len(self._b), -1)
        predicted = np.linalg.multi_dot([self.scaling.apply(X, clip=clip), *self._basis, path])
        return np.asarray(predicted.reshape(len(X), len(alphas), -1) + self.mean_y)

    def coefficients(self, alpha: Floats) -> Floats:
        """Outcome per unit of each feature (p, q), each outcome with its own penalty (q,)."""
        solved = self._system.solve_each(self._b, alpha)
        for basis in self._basis:
            solved = basis @ solved
        return self.scaling.inverse[:, None] * solved

    def _standardise(self, products: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        """Sums of products (p, p) and (p, q) of the pieces' features, as of standardised ones."""
        mean, inverse, total = self.scaling.mean, self.scaling.inverse, self.scaling.total
        gram, cross = (matrix.copy() for matrix in products[0])
        for more, more_cross in products[1:]:
            gram += more
            cross += more_cross
        gram -= np.outer(total * mean, mean)
        gram *= inverse
        gram *= inverse[:, None]
        return gram, (cross - np.outer(total * mean, self.mean_y)) * inverse[:, None]


def _chunks(n: int, p: int) -> list[slice]:
    """Rows so few that several passes over them stay in the cache."""
    size = max(1, 2**16 // p)
    return [slice(start, start + size) for start in range(0, n, size)]
