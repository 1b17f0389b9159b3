"""Cross-validation of a model against its baselines, in the same folds and on the same clusters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from geopov._validation import ID_COLUMN
from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints
from geopov.regression.baselines import nightlights_baselines
from geopov.regression.intervals import Coverage, Support, cross_conformal, within_support
from geopov.regression.sample import Sample, join
from geopov.regression.scores import compare, score, score_table
from geopov.regression.splits import Splits

Progress = Callable[[int, int], None]
TRAINING_MEAN = "training_mean"
LABELS = {
    "nightlights_ridge": "nightlights alone (ridge)",
    "nightlights_knn": "nightlights alone (neighbours)",
    TRAINING_MEAN: "the mean of the training clusters",
}


@dataclass(frozen=True)
class CrossValidation:
    """What held-out clusters say about a model.

    Attributes
    ----------
    predictions : GeoDataFrame
        One row a cluster: ``cluster_id``, ``fold``, ``block``, ``observed``, ``mean``, ``lower``, ``upper``,
        ``baseline`` (the best of the baselines), ``in_support``, ``distance`` from the support's centre, each baseline
        under its name, ``urban`` and ``country`` where the survey has them, and the point.
    scores : DataFrame
        One row per ``subset`` ("all", "urban", "rural", a country) and ``predictor``; see
        :func:`geopov.regression.scores.score_table`. The training mean has no correlations: it only differs between
        folds, which is no ranking of places.
    differences : DataFrame
        R² of the model minus that of each baseline; see :func:`geopov.regression.scores.compare`.
    folds : DataFrame
        ``fold``, ``n_train``, ``n_test``, ``n_buffer`` (in neither), ``alpha``.
    dropped : DataFrame
        ``source``, ``id`` and ``reason`` of what was not used, from the survey's rows on.
    coverage : Coverage
        Of the prediction intervals.
    meta : dict
        Outcome, unit, baseline, splits, seed.
    """

    predictions: gpd.GeoDataFrame
    scores: pd.DataFrame
    differences: pd.DataFrame
    folds: pd.DataFrame
    dropped: pd.DataFrame
    coverage: Coverage
    meta: dict[str, Any]

    @property
    def verdict(self) -> str:
        """One sentence on whether the model beats the best baseline."""
        best: str = self.meta["baseline"]
        pooled = self.scores[self.scores["subset"] == "all"].set_index("predictor")
        row = self.differences.set_index("predictor").loc[best]
        r2 = pooled["R2"]
        figures = f"R² {r2['model']:.2f} against {r2[best]:.2f}"
        if np.isnan(row["low"]):
            says, margin = "cannot be compared with", "too few blocks for an interval"
        else:
            says = {"better": "beats", "worse": "does worse than"}.get(str(row["verdict"]), "is not shown to beat")
            margin = f"difference {row['R2_difference']:+.2f}, 95% interval {row['low']:+.2f} to {row['high']:+.2f}"
        sentence = f"The model {says} {LABELS[best]}: {figures} ({margin})."
        sentence = sentence.replace("-", "−")
        return sentence if best != TRAINING_MEAN else f"No nightlights baseline was available. {sentence}"


def cross_validate(
    model: Any,
    features: xr.DataArray,
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    splits: Splits,
    baseline: xr.DataArray | None = None,
    unit: str = "",
    label: str = "",
    level: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> CrossValidation:
    """Predict every cluster from a model that has not seen its fold, and score that against baselines.

    Scaling, penalty and baselines are fitted on the training clusters of a fold, with inner folds of whole blocks.

    Parameters
    ----------
    model : estimator
        :class:`WelfareRidge`, or another scikit-learn regressor; it is cloned, never changed.
    features : DataArray (cluster, feature)
        With coordinate ``cluster_id``.
    clusters : GeoDataFrame
        Survey clusters; only those with features are used, the others are listed in ``dropped``.
    outcome : str
        Column of ``clusters``.
    splits : Splits
        Outer folds, e.g. ``SpatialBlocks(block_km=50)``.
    baseline : DataArray (cluster, feature), optional
        Nightlights of each cluster, one or two columns such as mean radiance and its logarithm, taken as they are.
        Without it the only baseline is the mean of the training clusters, and the verdict says so.
    unit, label : str
        Of the outcome, for reports; the label defaults to the column's name without underscores.
    level : float
        Nominal coverage of the prediction intervals.
    seed : int
        Of the bootstraps; the folds have their own.
    progress : callable, optional
        Called with folds done and folds in all.

    Raises
    ------
    RegressionError
        If the data cannot be joined, split or fitted; it says why.
    """
    sample = join(features, clusters, outcome=outcome, lights=baseline)
    with one_blas_thread():
        return validate_sample(
            model,
            sample,
            outcome=outcome,
            splits=splits,
            unit=unit,
            label=label,
            level=level,
            seed=seed,
            progress=progress,
        )


def one_blas_thread() -> threadpool_limits:
    """Linear algebra on one thread: a context.

    Threads of numpy's and scipy's pools spin against each other and against other processes; on two cores ridge fits
    took 2 to 10 times as long with two threads. It also makes results the same to the bit whatever the number of cores.
    """
    return threadpool_limits(limits=1, user_api="blas")


def validate_sample(
    model: Any,
    sample: Sample,
    *,
    outcome: str,
    splits: Splits,
    unit: str,
    label: str,
    level: float,
    seed: int,
    progress: Progress | None,
) -> CrossValidation:
    """:func:`cross_validate`, features and survey being joined already."""
    blocks = splits.block_ids(sample.clusters)
    held_out, folds = hold_out(model, sample, splits, progress=progress)
    predicted = {name: held_out[name].to_numpy() for name in ("model", *LABELS) if name in held_out}
    fold_of, observed = held_out["fold"].to_numpy(), sample.y
    errors = np.abs(observed - predicted["model"])
    widths = cross_conformal(errors, fold_of, level=level)
    baselines = {name: values for name, values in predicted.items() if name != "model"}
    lights = {name: score(observed, values)["R2"] for name, values in baselines.items() if name != TRAINING_MEAN}
    # The better of two is chosen after the fact, in the baseline's favour.
    best = max(lights, key=lambda name: lights[name]) if lights else TRAINING_MEAN
    predictions = gpd.GeoDataFrame(
        {
            ID_COLUMN: sample.clusters[ID_COLUMN],
            "fold": fold_of,
            "block": blocks,
            "observed": observed,
            "mean": predicted["model"],
            "lower": predicted["model"] - widths,
            "upper": predicted["model"] + widths,
            "baseline": baselines[best],
            "in_support": within_support(held_out["distance"].to_numpy(), fold_of),
            "distance": held_out["distance"].to_numpy(),
            **baselines,
            **{name: sample.clusters[name] for name in ("urban", "country") if name in sample.clusters},
        },
        geometry=sample.clusters.geometry,
        crs=sample.clusters.crs,
    )
    return CrossValidation(
        predictions=predictions,
        scores=_scores_within(sample.clusters, observed, predicted, blocks, seed=seed),
        differences=compare(observed, predicted["model"], baselines, blocks, seed=seed),
        folds=folds,
        dropped=sample.dropped,
        coverage=Coverage.measure(errors <= widths, blocks, nominal=level, seed=seed),
        meta={
            "outcome": outcome,
            "unit": unit,
            "label": label or outcome.replace("_", " "),
            "baseline": best,
            "splits": splits.describe(),
            "n_blocks": len(np.unique(blocks)),
            "seed": seed,
        },
    )


def hold_out(
    model: Any, sample: Sample, splits: Splits, *, progress: Progress | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Out-of-fold predictions of the model and its baselines by cluster, and what happened in each fold."""
    blocks = splits.block_ids(sample.clusters)
    pairs = list(splits.split(sample.clusters))
    predictions, folds = [], []
    # Decompositions release the interpreter; each holds copies of the features, hence the limit.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda pair: _predict_fold(model, sample, blocks, *pair), pairs)
        for fold, ((train, test), (predicted, alpha)) in enumerate(zip(pairs, results, strict=True)):
            n_buffer = len(sample.y) - len(train) - len(test)
            row = {"fold": fold, "n_train": len(train), "n_test": len(test), "n_buffer": n_buffer, "alpha": alpha}
            folds.append(row)
            predictions.append(predicted.assign(fold=fold))
            if progress is not None:
                progress(fold + 1, len(pairs))
    return pd.concat(predictions).sort_index(), pd.DataFrame(folds)


def _predict_fold(model: Any, sample: Sample, blocks: Ints, train: Ints, test: Ints) -> tuple[pd.DataFrame, float]:
    """What is said of the clusters ``test`` by those that know only ``train``, and the penalty chosen."""
    y = sample.y[train]
    fitted = fit_in_blocks(clone(model), sample.X[train], y, blocks[train])
    columns = {
        "model": fitted.predict(sample.X[test]),
        "distance": Support.fit(sample.X[train]).distance(sample.X[test]),
    }
    if sample.lights is not None:
        for name, estimator in nightlights_baselines().items():
            fit_in_blocks(estimator, sample.lights[train], y, blocks[train])
            columns[name] = estimator.predict(sample.lights[test])
    columns[TRAINING_MEAN] = np.full(len(test), y.mean())
    return pd.DataFrame(columns, index=test), float(getattr(fitted, "alpha_", np.nan))


def fit_in_blocks(estimator: Any, X: Floats, y: Floats, blocks: Ints) -> Any:
    """Fit an estimator, its inner folds keeping blocks whole where it has any."""
    return estimator.fit(X, y, groups=blocks) if has_fit_parameter(estimator, "groups") else estimator.fit(X, y)


def _scores_within(
    clusters: gpd.GeoDataFrame, observed: Floats, predicted: Mapping[str, Floats], blocks: Ints, *, seed: int
) -> pd.DataFrame:
    """Scores pooled, within urban and rural, and by country where there are several."""
    parts = {"all": np.ones(len(observed), dtype=bool)}
    if "urban" in clusters:
        urban = clusters["urban"]
        if not set(urban.dropna().unique()) <= {True, False}:
            raise RegressionError(
                f"the column 'urban' holds {sorted(map(str, urban.dropna().unique()))[:4]}; expected True and False."
            )
        parts |= {"urban": urban.eq(True).to_numpy(dtype=bool), "rural": urban.eq(False).to_numpy(dtype=bool)}
    if "country" in clusters and len(clusters["country"].unique()) > 1:
        parts |= {str(name): clusters["country"].eq(name).to_numpy(dtype=bool) for name in clusters["country"].unique()}
    tables = []
    for subset, rows in parts.items():
        if rows.any():
            part = {name: values[rows] for name, values in predicted.items()}
            tables.append(score_table(observed[rows], part, blocks[rows], seed=seed).assign(subset=subset))
    table = pd.concat(tables, ignore_index=True)
    ranking = [
        name for name in map(str, table.columns) if name.startswith(("r2_pearson", "spearman", "slope", "recall"))
    ]
    table.loc[table["predictor"] == TRAINING_MEAN, ranking] = np.nan
    return table[["subset", *table.columns.drop("subset")]]
