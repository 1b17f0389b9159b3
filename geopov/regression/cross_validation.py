"""Cross-validation of a model against its baselines, in the same folds and on the same clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr

from geopov._validation import ID_COLUMN
from geopov.errors import RegressionError
from geopov.regression._fitting import one_blas_thread
from geopov.regression._inputs import Ints
from geopov.regression.baselines import baselines_for
from geopov.regression.curves import poorest_curve
from geopov.regression.held_out import HeldOut, hold_out
from geopov.regression.intervals import Coverage, coverage_by_subset, cross_conformal
from geopov.regression.leakage import check_leakage
from geopov.regression.nested import Progress
from geopov.regression.sample import Sample, join
from geopov.regression.scores import compare, score
from geopov.regression.shrinkage import METHODS, bias_by_decile, shrinkage_table
from geopov.regression.splits import Splits
from geopov.regression.subsets import one_value_a_fold, scores_by_subset, subsets
from geopov.regression.support import within_support
from geopov.regression.variogram import BlockAdvice, suggest_block_km


@dataclass(frozen=True)
class CrossValidation:
    """What held-out clusters say about a model.

    Attributes
    ----------
    predictions : GeoDataFrame
        One row a cluster: ``cluster_id``, ``fold``, ``block``, ``observed``, ``mean``, ``lower``, ``upper``,
        ``baseline`` (the best of the baselines), ``in_support``, ``distance`` from the support's centre, ``mean_none``,
        ``mean_linear`` and ``mean_tweedie`` (as predicted, and with the shrinkage taken off), each baseline under its
        name, ``urban``, ``country`` and ``year`` where the survey has them, and the point.
    scores : DataFrame
        One row per ``subset`` and ``predictor``; see :func:`geopov.regression.subsets.scores_by_subset`.
    differences : DataFrame
        The model's scores minus those of each baseline; see :func:`geopov.regression.scores.compare`.
    curve : DataFrame
        r² among the poorest; see :func:`geopov.regression.curves.poorest_curve`.
    shrinkage, bias : DataFrame
        What taking the shrinkage off buys and costs; see :mod:`geopov.regression.shrinkage`.
    folds : DataFrame
        ``fold``, ``name``, ``n_train``, ``n_test``, ``n_buffer`` (in neither), ``alpha``.
    dropped : DataFrame
        ``source``, ``id`` and ``reason`` of what was not used, from the survey's rows on.
    coverage : Coverage
        Of the prediction intervals.
    coverage_by : DataFrame
        The same within urban, rural and countries.
    block_advice : BlockAdvice
        How wide blocks should be, from the residuals.
    meta : dict
        Outcome, unit, baseline, splits, seed.
    """

    predictions: gpd.GeoDataFrame
    scores: pd.DataFrame
    differences: pd.DataFrame
    curve: pd.DataFrame
    shrinkage: pd.DataFrame
    bias: dict[str, pd.DataFrame]
    folds: pd.DataFrame
    dropped: pd.DataFrame
    coverage: Coverage
    coverage_by: pd.DataFrame
    block_advice: BlockAdvice
    meta: dict[str, Any]

    @property
    def verdict(self) -> str:
        """One sentence on whether the model beats the best baseline."""
        best: str = self.meta["baseline"]
        pooled = self.scores[self.scores["subset"] == "all"].set_index("predictor")
        row = self.differences[self.differences["score"] == "R2"].set_index("predictor").loc[best]
        r2 = pooled["R2"]
        figures = f"R² {r2['model']:.2f} against {r2[best]:.2f}"
        if np.isnan(row["low"]):
            says, margin = "cannot be compared with", "too few blocks for an interval"
        else:
            says = {"better": "beats", "worse": "does worse than"}.get(str(row["verdict"]), "is not shown to beat")
            margin = f"difference {row['difference']:+.2f}, 95% interval {row['low']:+.2f} to {row['high']:+.2f}"
        numbers = f"{figures} ({margin})".replace("-", "−")
        sentence = f"The model {says} {self.meta['baselines'][best]}: {numbers}."
        return sentence if self.meta["nightlights"] else f"No nightlights baseline was available. {sentence}"


def cross_validate(
    model: Any,
    features: xr.DataArray,
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    splits: Splits,
    baseline: xr.DataArray | None = None,
    others: Mapping[str, xr.DataArray] | None = None,
    deshrink: str = "none",
    allow_overlap: bool = False,
    unit: str = "",
    label: str = "",
    level: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> CrossValidation:
    """Predict every cluster from a model that has not seen its fold, and score that against baselines.

    Scaling, penalty, baselines and de-shrinkage are fitted on the training clusters of a fold, with inner folds of
    whole blocks.

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
        Outer folds, e.g. ``SpatialBlocks(block_km=50, tile_km=11)``.
    baseline : DataArray (cluster, feature), optional
        Nightlights of each cluster, one or two columns such as mean radiance and its logarithm, taken as they are.
        Without it the verdict says that nightlights were not available.
    others : mapping of str to DataArray (cluster, feature), optional
        Features of further baselines: ``"random_convolution"``.
    deshrink : {"none", "linear", "tweedie"}
        Which predictions are the model's: as they are, or with the shrinkage taken off.
    allow_overlap : bool
        Let tiles of test and training clusters overlap, as published work does. By default that is an error.
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
        If the data cannot be joined, split or fitted, or test tiles overlap training tiles; it says why.
    """
    sample = join(features, clusters, outcome=outcome, lights=baseline, others=others)
    with one_blas_thread():
        return validate_sample(
            model,
            sample,
            outcome=outcome,
            splits=splits,
            deshrink=deshrink,
            allow_overlap=allow_overlap,
            unit=unit,
            label=label,
            level=level,
            seed=seed,
            progress=progress,
        )


def validate_sample(
    model: Any,
    sample: Sample,
    *,
    outcome: str,
    splits: Splits,
    deshrink: str,
    allow_overlap: bool,
    unit: str,
    label: str,
    level: float,
    seed: int,
    progress: Progress | None,
) -> CrossValidation:
    """:func:`cross_validate`, features and survey being joined already."""
    if deshrink not in METHODS:
        raise RegressionError(f"deshrink is {deshrink!r}; expected one of {', '.join(METHODS)}.")
    clusters = sample.clusters
    blocks = splits.block_ids(clusters)
    pairs = list(splits.split(clusters))
    leakage = check_splits(sample, splits, pairs, allow_overlap=allow_overlap)
    baselines = baselines_for(sample, seed=seed)
    held_out = hold_out(
        model,
        sample,
        pairs,
        blocks,
        names=splits.fold_names(clusters),
        baselines=baselines,
        progress=progress,
    )
    meta = {
        "outcome": outcome,
        "unit": unit,
        "label": label or outcome.replace("_", " "),
        "baselines": {baseline.name: baseline.label for baseline in baselines},
        "nightlights": sample.lights is not None,
        "deshrink": deshrink,
        "splits": splits.describe(),
        "n_blocks": len(np.unique(blocks)),
        "leakage": leakage,
        "seed": seed,
    }
    return judge(sample, held_out, blocks, meta=meta, level=level)


def judge(sample: Sample, held_out: HeldOut, blocks: Ints, *, meta: dict[str, Any], level: float) -> CrossValidation:
    """Scores, differences, curves, intervals and advice from predictions of clusters that their models had not seen.

    Parameters
    ----------
    sample : Sample
        Clusters and outcome (n rows); what was dropped.
    held_out : HeldOut
        Predictions of the model and of the baselines that ``meta["baselines"]`` names.
    blocks : array (n,)
        What bootstraps draw.
    meta : dict
        As in :class:`CrossValidation`, without the best baseline.
    level : float
        Nominal coverage of the intervals.
    """
    clusters, observed, seed = sample.clusters, sample.y, meta["seed"]
    table = held_out.predictions
    fold_of, distance = table["fold"].to_numpy(), table["distance"].to_numpy()
    by_method = {method: table[f"mean_{method}"].to_numpy() for method in METHODS}
    mean = by_method[meta["deshrink"]]
    rivals = {name: table[name].to_numpy() for name in meta["baselines"]}
    predicted = {"model": mean, **rivals}
    flat = one_value_a_fold(predicted, fold_of)
    # The best of them is chosen after the fact, in the baselines' favour.
    best = max(rivals, key=lambda name: score(observed, rivals[name])["R2"])
    widths = cross_conformal(np.abs(observed - mean), fold_of, mean, distance, level=level)
    inside = np.abs(observed - mean) <= widths
    columns = {
        ID_COLUMN: clusters[ID_COLUMN],
        "fold": fold_of,
        "block": blocks,
        "observed": observed,
        "mean": mean,
        "lower": mean - widths,
        "upper": mean + widths,
        "baseline": rivals[best],
        "in_support": within_support(distance, fold_of),
        "distance": distance,
        **{f"mean_{method}": values for method, values in by_method.items()},
        **rivals,
        **{name: clusters[name] for name in ("urban", "country", "year") if name in clusters},
    }
    return CrossValidation(
        predictions=gpd.GeoDataFrame(columns, geometry=clusters.geometry, crs=clusters.crs),
        scores=scores_by_subset(clusters, observed, predicted, blocks, seed=seed, folds=fold_of),
        differences=compare(observed, mean, rivals, blocks, seed=seed, constant=flat),
        curve=poorest_curve(observed, predicted, blocks, seed=seed, constant=flat),
        shrinkage=shrinkage_table(observed, by_method),
        bias={method: bias_by_decile(observed, values) for method, values in by_method.items()},
        folds=held_out.folds,
        dropped=sample.dropped,
        coverage=Coverage.measure(inside, blocks, nominal=level),
        coverage_by=coverage_by_subset(inside, subsets(clusters), blocks, nominal=level, widths=2 * widths),
        block_advice=suggest_block_km(clusters, observed - mean, seed=seed),
        meta=meta | {"baseline": best},
    )


def check_splits(
    sample: Sample, splits: Splits, pairs: Sequence[tuple[Ints, Ints]], *, allow_overlap: bool
) -> dict[str, Any]:
    """Refuse folds whose test tiles overlap training tiles, and say what was checked."""
    tile_km = sample.tile_km
    checked = not (allow_overlap or splits.leaks)
    if checked:
        check_leakage(sample.clusters, pairs, tile_km=tile_km, buffer_km=splits.buffer_km)
    if not checked:
        text = "Test and training tiles may overlap: this was allowed, and makes the scores better than they should be."
    elif tile_km > 0:
        text = f"No test tile overlaps a training tile ({tile_km:.3g} km wide)."
    else:
        text = "The features do not say how wide their tiles are, so that overlaps could not be looked for."
    if checked and splits.buffer_km > 0:
        text += f" No training cluster lies within {splits.buffer_km:g} km of a test cluster."
    return {"tile_km": tile_km, "buffer_km": splits.buffer_km, "checked": checked, "text": text}
