"""What each block of features contributes to held-out predictions, and what one penalty a block is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from geopov.errors import RegressionError
from geopov.regression._banded import numpy_backend
from geopov.regression._inputs import Floats, Ints
from geopov.regression.banded import BandedFit, BandedRidge, read_blocks
from geopov.regression.bootstrap import Bootstrap, interval
from geopov.regression.held_out import Pairs
from geopov.regression.ridge import WelfareRidge
from geopov.regression.sample import Sample
from geopov.regression.scores import MIN_BLOCKS, compare, number_blocks, score

__all__ = ["Kept", "block_report", "product_measure", "share_draws"]


class Kept:
    """A model whose held-out fit is kept, for what else can be told from it."""

    fit: BandedFit

    def __init__(self, model: BandedRidge) -> None:
        self.model = model

    def hold_out(self, *args: Any, **options: Any) -> BandedFit:
        """As of :class:`BandedRidge`."""
        self.fit = self.model.hold_out(*args, **options)
        return self.fit


def product_measure(observed: Floats, predicted: Floats, contributions: Floats) -> tuple[Floats, float]:
    """R² of predictions as a sum over blocks: how far each moves them towards the truth.

    Parameters
    ----------
    observed, predicted : array (n,)
        In the outcome's unit.
    contributions : array (n, B)
        What each block adds to the mean of the training clusters.

    Returns
    -------
    shares : array (B,)
        They may be below zero, for a block that moves predictions away from the truth.
    level : float
        What is left to the means of the training clusters, which differ from fold to fold; a little below zero, since
        the training is poorer where the test is richer. With the shares it adds up to R².

    References
    ----------
    Dupré la Tour et al. (2022), NeuroImage 264:119728; the product measure is :func:`himalaya.scoring.r2_score_split`.
    """
    centre = observed.mean()
    level = predicted - centre - contributions.sum(axis=1)
    parts = np.column_stack([contributions, level]).T[:, :, None]
    with numpy_backend():
        from himalaya.scoring import r2_score_split

        split = np.asarray(r2_score_split((observed - centre)[:, None], parts), dtype=np.float64)[:, 0]
    return split[:-1], float(split[-1])


def share_draws(
    observed: Floats, predicted: Floats, contributions: Floats, blocks: Ints, *, n_draws: int = 2000, seed: int = 0
) -> Floats:
    """The shares (draws, B) of :func:`product_measure` in bootstrap draws of whole spatial blocks (n,)."""
    numbered, n_blocks = number_blocks(blocks, len(observed))
    # About the mean of all, which keeps the digits; each draw has a mean of its own.
    o, p = observed - observed.mean(), predicted - observed.mean()
    terms = np.column_stack([np.ones_like(o), o, o * o, contributions * (2 * o - p)[:, None], contributions])
    sums = np.column_stack([np.bincount(numbered, weights=term, minlength=n_blocks) for term in terms.T])
    drawn = Bootstrap.draw(n_blocks, n_draws=n_draws, seed=seed).counts @ sums
    n, first, second = drawn[:, 0], drawn[:, 1], drawn[:, 2]
    towards, added = np.split(drawn[:, 3:], 2, axis=1)
    mean = first / n
    return np.asarray((towards - mean[:, None] * added) / (second - n * mean**2)[:, None])


def block_report(
    model: BandedRidge, fit: BandedFit, sample: Sample, pairs: Pairs, blocks: Ints, *, penalties: Floats, seed: int
) -> dict[str, Any]:
    """What a report says of the blocks of features.

    Parameters
    ----------
    model : BandedRidge
        As scored; models without a block have its settings.
    fit : BandedFit
        Its held-out predictions.
    sample : Sample
        Features and outcome (n rows).
    pairs : list of (train, test)
        The folds of ``fit``.
    blocks : array (n,)
        Spatial blocks, which inner folds keep whole and bootstraps draw.
    penalties : array (B,)
        Of the model fitted on all clusters, the map's.
    seed : int
        Of the bootstraps.

    Returns
    -------
    dict
        JSON types, None where a number does not exist. ``R2`` of the predictions as they are; ``level``, what of it is
        no block's; ``rows``, one a block: ``block``, ``n_features``, ``penalty`` of the map's model (None: the block is
        left out), ``penalties`` fold by fold, ``share`` of R² with ``share_low`` and ``share_high``, R² ``alone`` (of
        ridge on the block by itself), ``gain`` over the same model without the block; ``plain``: against ridge with one
        penalty for all blocks. The last two hold the other model's ``R2``, the ``difference`` (this one minus the
        other) with ``low``, ``high`` and ``verdict``. All intervals hold 95%.
    """
    names, own = read_blocks(model.blocks, sample.X.shape[1])
    y, predicted = sample.y, fit.predicted[:, 0]
    shares, level = product_measure(y, predicted, fit.contributions)
    ends = np.full((len(names), 2), np.nan)
    if len(np.unique(blocks)) >= MIN_BLOCKS:
        ends[:] = [interval(draws) for draws in share_draws(y, predicted, fit.contributions, blocks, seed=seed).T]
    plain = WelfareRidge(alphas=model.alphas, inner_folds=model.inner_folds, extrapolate=model.extrapolate)

    def rival(other: Any, columns: NDArray[np.bool_]) -> Floats | None:
        try:
            held_out: Floats = other.hold_out(sample.X[:, columns], y, pairs, groups=blocks).predicted[:, 0]
        except RegressionError:
            # All else being as it was, these columns do not vary within a training fold: they have no model.
            return None
        return held_out

    def against(theirs: Floats | None) -> dict[str, Any] | None:
        if theirs is None:
            return None
        row = compare(y, predicted, {"theirs": theirs}, blocks, scores=("R2",), seed=seed).to_dict("records")[0]
        return {"R2": _r2(y, theirs), "score": "R2"} | {key: _known(row[key]) for key in _COMPARED}

    rows = []
    for number, name in enumerate(names):
        without = clone(model).set_params(blocks=[names[of] for of in own if of != number])
        rows.append(
            {
                "block": name,
                "n_features": int((own == number).sum()),
                "penalty": _known(penalties[number]),
                "penalties": [_known(value) for value in fit.penalties[:, number]],
                "share": float(shares[number]),
                "share_low": _known(ends[number, 0]),
                "share_high": _known(ends[number, 1]),
                "alone": _r2(y, rival(plain, own == number)),
                "gain": against(rival(without, own != number)),
            }
        )
    everything = against(rival(plain, np.ones(len(own), dtype=bool)))
    return {"R2": _r2(y, predicted), "level": level, "rows": rows, "plain": everything}


_COMPARED = ("difference", "low", "high", "verdict")


def _r2(observed: Floats, predicted: Floats | None) -> float | None:
    return None if predicted is None else score(observed, predicted)["R2"]


def _known(value: Any) -> Any:
    """A number that JSON has, or text."""
    return value if isinstance(value, str) else float(value) if np.isfinite(value) else None
