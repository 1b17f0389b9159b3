"""Every cluster predicted by models that have not seen its fold: as they are, de-shrunk, and by the baselines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from geopov.regression._fitting import fit_in_blocks
from geopov.regression._inputs import Ints, inner_splits
from geopov.regression.baselines import Baseline
from geopov.regression.nested import NestedFit, Progress
from geopov.regression.sample import Sample
from geopov.regression.shrinkage import METHODS, Deshrinkage
from geopov.regression.support import Support

Pairs = Sequence[tuple[Ints, Ints]]


@dataclass(frozen=True)
class HeldOut:
    """Out-of-fold predictions of one sample.

    Attributes
    ----------
    predictions : DataFrame (n rows)
        ``fold``, ``model``, ``distance`` from the support of the training clusters, ``mean_METHOD`` for each way to
        take the shrinkage off, fitted inside the training fold, and each baseline under its name.
    folds : DataFrame
        ``fold``, ``name``, ``n_train``, ``n_test``, ``n_buffer`` (in neither), ``alpha``.
    """

    predictions: pd.DataFrame
    folds: pd.DataFrame


def hold_out(
    model: Any,
    sample: Sample,
    pairs: Pairs,
    blocks: Ints,
    *,
    names: Sequence[str],
    baselines: Sequence[Baseline] = (),
    progress: Progress | None = None,
) -> HeldOut:
    """Predict the test clusters of every fold from its training clusters.

    Parameters
    ----------
    model : estimator
        Cloned, never changed. A :class:`WelfareRidge` shares its algebra between the folds.
    sample : Sample
        Features, outcome and clusters (n rows).
    pairs : list of (train, test)
        Row numbers; every row is tested once.
    blocks : array (n,)
        Kept whole by the inner folds of model and baselines.
    names : list of str
        One a fold.
    baselines : list of Baseline
        Fitted on the same training clusters.
    progress : callable, optional
        Called with folds done and folds in all.
    """
    fit = held_out_model(model, sample, pairs, blocks)
    tables: list[pd.DataFrame] = []

    def beside(number: int) -> pd.DataFrame:
        train, test = pairs[number]
        predicted = fit.predicted[test, 0]
        columns = {"fold": np.full(len(test), number), "model": predicted}
        columns["distance"] = Support.fit(sample.X[train]).distance(sample.X[test])
        for method in METHODS:
            calibration = Deshrinkage.fit(sample.y[train], fit.inner[number][:, 0], method=method)
            columns[f"mean_{method}"] = calibration.apply(predicted)
        for baseline in baselines:
            columns[baseline.name] = baseline.predict(sample, train, test, blocks)
        return pd.DataFrame(columns, index=test)

    # Decompositions release the interpreter; each fold holds copies of the features, hence the limit.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for done, table in enumerate(pool.map(beside, range(len(pairs))), start=1):
            tables.append(table)
            if progress is not None:
                progress(done, len(pairs))
    folds = fold_table(pairs, names, n_clusters=len(sample.y)).assign(alpha=fit.alpha[:, 0])
    return HeldOut(pd.concat(tables).sort_index(), folds)


def fold_table(pairs: Pairs, names: Sequence[str], *, n_clusters: int) -> pd.DataFrame:
    """``fold``, ``name``, ``n_train``, ``n_test`` and ``n_buffer`` of each fold."""
    sizes = [(len(train), len(test)) for train, test in pairs]
    table = pd.DataFrame(sizes, columns=["n_train", "n_test"]).assign(fold=range(len(pairs)), name=list(names))
    return table.assign(n_buffer=n_clusters - table["n_train"] - table["n_test"])[
        ["fold", "name", "n_train", "n_test", "n_buffer"]
    ]


def held_out_model(model: Any, sample: Sample, pairs: Pairs, blocks: Ints) -> NestedFit:
    """The model's own out-of-fold predictions, and those of its inner folds on the training clusters."""
    if hasattr(model, "hold_out"):
        shared: NestedFit = model.hold_out(sample.X, sample.y, list(pairs), groups=blocks)
        return shared
    predicted, alphas, inner = np.full((len(sample.y), 1), np.nan), [], []
    for train, test in pairs:
        X, y, groups = sample.X[train], sample.y[train], blocks[train]
        fitted = fit_in_blocks(clone(model), X, y, groups)
        predicted[test, 0] = fitted.predict(sample.X[test])
        alphas.append([float(getattr(fitted, "alpha_", np.nan))])
        unseen = np.empty((len(train), 1))
        for rows, held_out in inner_splits(X, n_folds=5, groups=groups):
            part = fit_in_blocks(clone(model), X[rows], y[rows], groups[rows])
            unseen[held_out, 0] = part.predict(X[held_out])
        inner.append(unseen)
    return NestedFit(predicted=predicted, alpha=np.array(alphas), inner=inner)
