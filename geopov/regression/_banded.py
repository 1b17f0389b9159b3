"""The algebra of banded ridge: weights of blocks of features and a penalty, chosen together by inner cross-validation.

Scaling a block's standardised features by the root of its weight turns one penalty a block into one penalty for all
(Nunez-Elizalde, Huth and Gallant 2019, NeuroImage 197:482), so that for given weights the system is that of ridge, and
one reduction of it serves all penalties. Inner folds build their matrices once, for all weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geopov._optional import require
from geopov.regression._band import ShiftedSystem
from geopov.regression._folds import Piece, Scaling
from geopov.regression._inputs import Floats, Ints, check_varies, inner_splits
from geopov.regression.nested import Settings

_CONCENTRATIONS = [0.1, 1.0]


@dataclass(frozen=True)
class Banded:
    """Weights and penalty chosen on one set of training rows, and the model they give."""

    shares: Floats
    """(B,) share of each block in the prior variance; they add up to 1."""
    penalties: Floats
    """(B,) on standardised features; infinite for a block without weight."""
    alphas: Floats
    """(a,) penalties tried."""
    cv_mse: Floats
    """(weights, a) mean over the inner folds of the mean squared error."""
    alpha: float
    """The penalty chosen, for blocks of equal weight a feature."""
    inner: Floats
    """(n,) inner predictions of the training rows; NaN for rows of weight zero."""
    coefficients: Floats
    """(p,) per unit of each feature."""
    intercept: float
    mean: Floats
    """(p,) features of the training rows."""
    low: Floats
    high: Floats
    """(p,) range that features are clipped to; infinite with ``extrapolate``."""

    def predict(self, X: Floats) -> Floats:
        """Predicted outcome (n,) of features (n, p)."""
        return np.asarray(np.clip(X, self.low, self.high) @ self.coefficients + self.intercept)

    def contributions(self, X: Floats, blocks: Ints) -> Floats:
        """What each block adds (n, B) to the mean of the training rows."""
        return contributions(np.clip(X, self.low, self.high) - self.mean, self.coefficients, blocks)


def contributions(deviations: Floats, coefficients: Floats, blocks: Ints) -> Floats:
    """Sums (n, B) over each block of features (n, p), less their means, times coefficients (p,)."""
    of_block = coefficients[:, None] * (blocks[:, None] == np.arange(blocks.max() + 1))
    return np.asarray(deviations @ of_block)


@contextmanager
def numpy_backend() -> Iterator[None]:
    """Run himalaya on numpy, whatever backend the session has set for itself."""
    backend: Any = require("himalaya", purpose="Ridge with one penalty a block").backend
    before = backend.get_backend()
    backend.set_backend("numpy")
    try:
        yield
    finally:
        backend.set_backend(before)


def candidates(n_blocks: int, n_iter: int, *, seed: int) -> Floats:
    """Shares (at most n_iter, B) of the blocks in the prior variance: equal ones, and draws from Dirichlet's law.

    As himalaya draws them (Dupré la Tour, Eickenberg, Nunez-Elizalde and Gallant 2022, NeuroImage 264:119728): half of
    the draws are even over the simplex, half near its corners, where a block is all but left out.
    """
    if n_blocks == 1 or n_iter == 0:
        return np.empty((0, n_blocks))
    with numpy_backend():
        from himalaya.kernel_ridge import generate_dirichlet_samples

        drawn = np.asarray(
            generate_dirichlet_samples(n_iter, n_blocks, concentration=_CONCENTRATIONS, random_state=seed)
        )
    return np.concatenate([np.full((1, n_blocks), 1 / n_blocks), drawn[: n_iter - 1].astype(np.float64)])


def choose_bands(
    X: Floats,
    y: Floats,
    weights: Floats,
    rows: Ints,
    groups: NDArray[Any] | None,
    *,
    blocks: Ints,
    shares: Floats,
    settings: Settings,
    pool: Executor,
) -> Banded:
    """Choose shares and penalty on some training rows, and fit them.

    Parameters
    ----------
    X, y, weights : array (n, p), (n,), (n,)
        Of all rows.
    rows, groups : array (r,)
        Row numbers of the training rows, and their groups.
    blocks : array (p,)
        Block of each feature, numbered from 0.
    shares : array (w, B)
        To choose from, beside those that plain ridge gives, which come first and win ties.
    settings : Settings
        Penalties, inner folds, whether to extrapolate.
    pool : Executor
        Runs the inner folds side by side.
    """
    counted = np.flatnonzero(weights[rows] > 0)
    used, own = rows[counted], None if groups is None else groups[counted]
    if own is None:
        check_varies(np.ptp(X[used], axis=0) > 0)
    splits = inner_splits(X[used], n_folds=settings.inner_folds, groups=own)
    centre, centre_y = X[used].mean(axis=0), float(y[used].mean())
    pieces = [
        Piece.read(X, part, y[part, None] - centre_y, weights[part], centre, primal=False)
        for part in (used[held_out] for _, held_out in splits)
    ]
    scaling = Scaling.over(pieces, centre)
    check_varies(scaling.varies)
    gains = gains_of(shares, blocks, scaling.varies)
    alphas = settings.penalties(scaling.total * scaling.varies.sum())
    clip = not settings.extrapolate

    def validate(number: int) -> Floats:
        others = [piece for other, piece in enumerate(pieces) if other != number]
        system, held_out = BandedSystem(others, centre, blocks), pieces[number].X
        return np.stack([system.predict(held_out, gain, alphas, clip=clip) for gain in gains])

    predicted = list(pool.map(validate, range(len(pieces))))
    cv_mse = np.mean([_mse(piece, found) for piece, found in zip(pieces, predicted, strict=True)], axis=0)
    at, penalty = (int(place) for place in np.unravel_index(np.argmin(cv_mse), cv_mse.shape))
    inner = np.full(len(rows), np.nan)
    for (_, held_out), found in zip(splits, predicted, strict=True):
        inner[counted[held_out]] = found[at, :, penalty] + centre_y
    alpha, gain = float(alphas[penalty]), gains[at]
    system = BandedSystem(pieces, centre, blocks)
    coefficients = system.coefficients(gain, alphas[[penalty]])[:, 0]
    mean, beyond = centre + scaling.mean, np.full(len(centre), np.inf)
    with np.errstate(divide="ignore"):
        penalties = alpha / gain
    return Banded(
        shares=_shares_of(gain, blocks, scaling.varies),
        penalties=penalties,
        alphas=alphas,
        cv_mse=cv_mse,
        alpha=alpha,
        inner=inner,
        coefficients=coefficients,
        intercept=centre_y + system.mean_y - float(mean @ coefficients),
        mean=mean,
        low=scaling.low if clip else -beyond,
        high=scaling.high if clip else beyond,
    )


def gains_of(shares: Floats, blocks: Ints, varies: NDArray[np.bool_]) -> Floats:
    """Factors (1 + w, B) on the variance of a block's coefficients; the first are plain ridge's, 1 for all.

    A block of many features has a large part in what plain ridge expects beforehand, only because it is large; shares
    are of whole blocks instead. Gains leave the trace of the system as it is: one range of penalties serves all.
    """
    sizes = np.bincount(blocks, weights=varies, minlength=shares.shape[1])
    filled = np.where(sizes > 0, shares, 0.0)
    total = filled.sum(axis=1, keepdims=True)
    # A draw that leaves nothing to the blocks that vary is no model.
    filled, total = filled[total[:, 0] > 0], total[total[:, 0] > 0]
    gains = np.where(sizes > 0, filled / total * sizes.sum() / np.maximum(sizes, 1), 1.0)
    return np.concatenate([np.ones((1, len(sizes))), gains])


def _shares_of(gains: Floats, blocks: Ints, varies: NDArray[np.bool_]) -> Floats:
    sizes = np.bincount(blocks, weights=varies, minlength=len(gains))
    return np.asarray(gains * sizes / (gains @ sizes))


class BandedSystem:
    """Banded ridge on the standardised rows of pieces, ready to be solved for any gains and penalties.

    Parameters
    ----------
    pieces : list of Piece
        Training rows, with one outcome.
    centre : array (p,)
        What was taken off their features.
    blocks : array (p,)
        Block of each feature, numbered from 0.
    """

    def __init__(self, pieces: Sequence[Piece], centre: Floats, blocks: Ints) -> None:
        self.scaling, self._blocks = Scaling.over(pieces, centre), blocks
        self.mean_y = float(sum(piece.weights @ piece.Y[:, 0] for piece in pieces) / self.scaling.total)
        self._Z = Z = self.scaling.stack(pieces)
        y = np.concatenate([np.sqrt(piece.weights) * (piece.Y[:, 0] - self.mean_y) for piece in pieces])[:, None]
        self._primal = Z.shape[1] <= Z.shape[0]
        if self._primal:
            self._matrices, self._b = [Z.T @ Z], Z.T @ y
        else:
            parts = [Z[:, blocks == block] for block in range(int(blocks.max()) + 1)]
            self._matrices, self._b = [part @ part.T for part in parts], y

    def predict(self, X: Floats, gains: Floats, alphas: Floats, *, clip: bool) -> Floats:
        """Outcomes (n, a), centred as they were given, of centred features (n, p) for every penalty (a,)."""
        return np.asarray(self.scaling.apply(X, clip=clip) @ self._solve(gains, alphas) + self.mean_y)

    def coefficients(self, gains: Floats, alphas: Floats) -> Floats:
        """Outcome per unit of each feature (p, a)."""
        return self.scaling.inverse[:, None] * self._solve(gains, alphas)

    def _solve(self, gains: Floats, alphas: Floats) -> Floats:
        gain = gains[self._blocks]
        if self._primal:
            root = np.sqrt(gain)
            system = ShiftedSystem(self._matrices[0] * root * root[:, None])
            return np.asarray(root[:, None] * system.solve(root[:, None] * self._b, alphas)[:, :, 0])
        kernel = np.zeros_like(self._matrices[0])
        for factor, matrix in zip(gains, self._matrices, strict=True):
            kernel += factor * matrix
        return np.asarray(gain[:, None] * (self._Z.T @ ShiftedSystem(kernel).solve(self._b, alphas)[:, :, 0]))


def _mse(piece: Piece, predicted: Floats) -> Floats:
    """Weighted mean squared error (w, a) of predictions (w, n, a)."""
    return np.asarray(np.tensordot((predicted - piece.Y) ** 2, piece.weights, axes=(1, 0)) / piece.weights.sum())
