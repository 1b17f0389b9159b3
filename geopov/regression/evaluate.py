"""From features and survey to the folder that maps and reports are made from: predictions, scores and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import xarray as xr
from sklearn.base import clone

from geopov.errors import RegressionError
from geopov.regression._banded_shares import Kept, block_report
from geopov.regression._fitting import fit_in_blocks, one_blas_thread
from geopov.regression.banded import BandedRidge
from geopov.regression.cross_validation import CrossValidation, validate_sample
from geopov.regression.fusion import labels_of
from geopov.regression.held_out import held_out_model
from geopov.regression.intervals import Intervals
from geopov.regression.model import WelfareModel
from geopov.regression.nested import Progress
from geopov.regression.permutation import permutation_test, repeat_splits
from geopov.regression.ridge import WelfareRidge
from geopov.regression.sample import Sample, join, parse_attribute
from geopov.regression.scores import score
from geopov.regression.scores_file import write_scores
from geopov.regression.shrinkage import Deshrinkage
from geopov.regression.splits import RandomFolds, SpatialBlocks, Splits
from geopov.regression.support import Support, support_limit


def evaluate(
    model: Any,
    features: xr.DataArray,
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    splits: Splits,
    folder: Path | str,
    baseline: xr.DataArray | None = None,
    others: Mapping[str, xr.DataArray] | None = None,
    deshrink: str = "none",
    allow_overlap: bool = False,
    unit: str = "",
    label: str = "",
    level: float = 0.9,
    seed: int = 0,
    random_folds: bool = True,
    n_permutations: int = 0,
    n_repeats: int = 0,
    imagery_years: Sequence[int] = (),
    nightlights_years: Sequence[int] = (),
    survey: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[CrossValidation, WelfareModel]:
    """Cross-validate, fit all clusters, and write ``predictions.parquet``, ``scores.json`` and ``model.npz``.

    Parameters
    ----------
    model, features, clusters, outcome, splits, baseline, others, deshrink, allow_overlap, unit, label, level, seed
        As for :func:`cross_validate`; the model must be linear, with ``coef_`` and ``intercept_``. A
        :class:`BandedRidge` without ``blocks`` takes them from the names of the features, ``block:feature``; what each
        block contributes is written too.
    folder : path
        Made where it does not exist.
    random_folds : bool
        Also score the model under random folds, to show beside the spatial ones what neighbours give away.
    n_permutations : int
        Fit this many times with the images reshuffled among the clusters: what chance alone would score.
    n_repeats : int
        Score the model under this many other divisions of the clusters: what a lucky one would have claimed.
    imagery_years : sequence of int
        Years the images are of, to say how far the survey is from them.
    nightlights_years : sequence of int
        The same of the nightlights.
    survey : mapping, optional
        JSON-able: how the outcome was measured and what to know of the survey, for the report; see
        :func:`geopov.study.describe_survey`.
    inputs : mapping of name to sha256, optional
        Files that the data came from, for provenance.
    progress : callable, optional
        Called with steps done and steps in all.

    Returns
    -------
    CrossValidation, WelfareModel
        As written.
    """
    sample = join(features, clusters, outcome=outcome, lights=baseline, others=others)
    shares_algebra = isinstance(model, WelfareRidge)
    if (n_permutations or n_repeats) and not shares_algebra:
        raise RegressionError(
            f"permutations and repeats are made with WelfareRidge, whose algebra they share; the model is a "
            f"{type(model).__name__}. Set n_permutations and n_repeats to 0."
        )
    if n_repeats and not isinstance(splits, SpatialBlocks | RandomFolds):
        raise RegressionError(
            f"n_repeats is {n_repeats}, but folds that the data give can be made in one way only. "
            "Set n_repeats to 0, or use spatial blocks."
        )
    if isinstance(model, BandedRidge) and model.blocks is None:
        model = clone(model).set_params(blocks=labels_of(sample.feature_names))
    with one_blas_thread():
        steps = _Steps(progress, [int(splits.assign(sample.clusters).max()) + 1, n_permutations, n_repeats])
        estimator = _fit_linear(model, sample, splits)
        scored = Kept(model) if isinstance(model, BandedRidge) else model
        validation = validate_sample(
            scored,
            sample,
            outcome=outcome,
            splits=splits,
            deshrink=deshrink,
            allow_overlap=allow_overlap,
            unit=unit,
            label=label,
            level=level,
            seed=seed,
            progress=steps.next(),
        )
        provenance = {"geopov": version("geopov"), "inputs": dict(inputs or {}), "training_data": sample.sha256()}
        fitted = _welfare_model(estimator, sample, validation, provenance)
        shared: dict[str, Any] = {"groups": splits.block_ids(sample.clusters), "seed": seed}
        shared |= model.get_params() if shares_algebra else {}
        beside: dict[str, Any] = {
            "random_folds": _at_random(model, sample, len(validation.folds), seed=seed) if random_folds else None,
            "permutation": _permute(sample, splits, n_permutations, shared, progress=steps.next()),
            "repeats": _repeat(sample, splits, n_repeats, shared, progress=steps.next()),
            "years": _years(sample.clusters, imagery_years, nightlights_years),
            "survey": None if survey is None else dict(survey),
            "blocks": None,
        }
        if isinstance(model, BandedRidge):
            beside["blocks"] = _blocks(model, scored.fit, sample, splits, penalties=estimator.penalties_, seed=seed)
    beside["model"] = {
        "name": type(model).__name__,
        "alpha": None if np.isnan(fitted.alpha) else fitted.alpha,
        "n_features": len(fitted.feature_names),
        "n_components": getattr(model, "n_components", None),
    }
    fitted.save(Path(folder) / "model.npz")
    write_scores(validation, folder, features=sample.attrs, provenance=provenance, **beside)
    return validation, fitted


class _Steps:
    """One bar of progress for several things in a row."""

    def __init__(self, progress: Progress | None, sizes: Sequence[int]) -> None:
        self._progress, self._total = progress, sum(sizes)
        self._starts = iter(np.cumsum([0, *sizes[:-1]]).tolist())

    def next(self) -> Progress | None:
        """The callback of the next thing, which counts from 0."""
        start, progress = next(self._starts), self._progress
        return None if progress is None else lambda done, _: progress(start + done, self._total)


def _at_random(model: Any, sample: Sample, n_folds: int, *, seed: int) -> dict[str, float]:
    folds = RandomFolds(n_folds=n_folds, seed=seed)
    pairs = list(folds.split(sample.clusters))
    predicted = held_out_model(model, sample, pairs, folds.block_ids(sample.clusters)).predicted[:, 0]
    return score(sample.y, predicted)


def _blocks(model: BandedRidge, fit: Any, sample: Sample, splits: Splits, **options: Any) -> dict[str, Any]:
    pairs, blocks = list(splits.split(sample.clusters)), splits.block_ids(sample.clusters)
    return block_report(model, fit, sample, pairs, blocks, **options)


def _permute(
    sample: Sample, splits: Splits, n_permutations: int, shared: dict[str, Any], *, progress: Progress | None
) -> dict[str, Any] | None:
    if n_permutations == 0:
        return None
    pairs = list(splits.split(sample.clusters))
    test = permutation_test(sample.X, sample.y, pairs, n_permutations=n_permutations, progress=progress, **shared)
    return {
        "n": n_permutations,
        "observed_r2": test.observed_r2,
        "null_r2": test.null_r2.tolist(),
        "null_median": float(np.median(test.null_r2)),
        "null_95": float(np.quantile(test.null_r2, 0.95)),
        "p_value": test.p_value,
    }


def _repeat(
    sample: Sample, splits: Any, n_repeats: int, shared: dict[str, Any], *, progress: Progress | None
) -> dict[str, Any] | None:
    if n_repeats == 0:
        return None
    # Seeds after the splits' own, so that the division that was scored is not counted as another.
    options = {name: value for name, value in shared.items() if name != "groups"} | {"seed": splits.seed + 1}
    table = repeat_splits(
        sample.X, sample.y, sample.clusters, splits, n_repeats=n_repeats, progress=progress, **options
    )
    return {"n": n_repeats, **{str(name): table[name].tolist() for name in table.columns.drop(["repeat", "seed"])}}


def _years(
    clusters: gpd.GeoDataFrame, imagery_years: Sequence[int], nightlights_years: Sequence[int]
) -> dict[str, Any]:
    """Years of survey, images and nightlights, and the widest distance from a survey to the nearest of each."""
    surveyed = sorted({int(year) for year in clusters["year"].dropna()}) if "year" in clusters else []
    seen, lights = (sorted({int(year) for year in years}) for years in (imagery_years, nightlights_years))

    def widest(years: list[int]) -> int | None:
        return max(min(abs(year - image) for image in years) for year in surveyed) if surveyed and years else None

    return {
        "survey": surveyed,
        "imagery": seen,
        "nightlights": lights,
        "gap": widest(seen),
        "nightlights_gap": widest(lights),
    }


def _fit_linear(model: Any, sample: Sample, splits: Splits) -> Any:
    fitted = fit_in_blocks(clone(model), sample.X, sample.y, splits.block_ids(sample.clusters))
    if not hasattr(fitted, "coef_"):
        raise RegressionError(
            f"{type(model).__name__} has no coefficients to save; expected a linear model such as WelfareRidge. "
            "cross_validate scores any regressor."
        )
    return fitted


def _welfare_model(
    fitted: Any, sample: Sample, validation: CrossValidation, provenance: dict[str, Any]
) -> WelfareModel:
    table, level = validation.predictions, validation.coverage.nominal
    observed, mean, distance = (table[name].to_numpy(dtype=np.float64) for name in ("observed", "mean", "distance"))
    return WelfareModel(
        outcome=validation.meta["outcome"],
        unit=validation.meta["unit"],
        feature_names=sample.feature_names,
        coef=np.asarray(fitted.coef_, dtype=np.float64),
        intercept=float(fitted.intercept_),
        low=getattr(fitted, "low_", np.full(sample.X.shape[1], -np.inf)),
        high=getattr(fitted, "high_", np.full(sample.X.shape[1], np.inf)),
        alpha=float(getattr(fitted, "alpha_", np.nan)),
        deshrinkage=Deshrinkage.fit(observed, table["mean_none"].to_numpy(), method=validation.meta["deshrink"]),
        intervals=Intervals.fit(np.abs(observed - mean), mean, distance, level=level, folds=table["fold"].to_numpy()),
        support=Support.fit(sample.X),
        support_limit=support_limit(distance),
        coverage=validation.coverage,
        n_training=len(sample.y),
        extractor=parse_attribute(sample.attrs, "extractor"),
        tile_spec=parse_attribute(sample.attrs, "tile_spec"),
        window=parse_attribute(sample.attrs, "window"),
        provenance=provenance,
    )
