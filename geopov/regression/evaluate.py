"""From features and survey to the folder that maps and reports are made from: predictions, scores and the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone

from geopov._validation import atomic_path
from geopov.errors import RegressionError
from geopov.regression.cross_validation import (
    CrossValidation,
    Progress,
    fit_in_blocks,
    hold_out,
    one_blas_thread,
    validate_sample,
)
from geopov.regression.intervals import Support, half_width, support_limit
from geopov.regression.model import WelfareModel, parse_attribute
from geopov.regression.sample import Sample, join
from geopov.regression.scores import score
from geopov.regression.splits import RandomFolds, Splits


def evaluate(
    model: Any,
    features: xr.DataArray,
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    splits: Splits,
    folder: Path | str,
    baseline: xr.DataArray | None = None,
    unit: str = "",
    label: str = "",
    level: float = 0.9,
    seed: int = 0,
    random_folds: bool = True,
    inputs: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[CrossValidation, WelfareModel]:
    """Cross-validate, fit all clusters, and write ``predictions.parquet``, ``scores.json`` and ``model.npz``.

    Parameters
    ----------
    model, features, clusters, outcome, splits, baseline, unit, label, level, seed, progress
        As for :func:`cross_validate`; the model must be linear, with ``coef_`` and ``intercept_``.
    folder : path
        Made where it does not exist.
    random_folds : bool
        Also score the model under random folds, to show beside the spatial ones what neighbours give away.
    inputs : mapping of name to sha256, optional
        Files that the data came from, for provenance.

    Returns
    -------
    CrossValidation, WelfareModel
        As written.
    """
    sample = join(features, clusters, outcome=outcome, lights=baseline)
    with one_blas_thread():
        n_folds = int(splits.assign(sample.clusters).max()) + 1
        total = n_folds * (2 if random_folds else 1)
        estimator = _fit_linear(model, sample, splits)
        validation = validate_sample(
            model,
            sample,
            outcome=outcome,
            splits=splits,
            unit=unit,
            label=label,
            level=level,
            seed=seed,
            progress=_part_of(progress, total=total, before=0),
        )
        provenance = {"geopov": version("geopov"), "inputs": dict(inputs or {}), "training_data": sample.sha256()}
        fitted = _welfare_model(estimator, sample, validation, provenance)
        at_random = None
        if random_folds:
            rest = _part_of(progress, total=total, before=n_folds)
            at_random_folds = RandomFolds(n_folds=n_folds, seed=seed)
            held_out, _ = hold_out(model, replace(sample, lights=None), at_random_folds, progress=rest)
            at_random = score(sample.y, held_out["model"].to_numpy())
    folder = Path(folder)
    with atomic_path(folder / "predictions.parquet") as partial:
        validation.predictions.to_parquet(partial, index=False)
    fitted.save(folder / "model.npz")
    # Last, so that a folder with scores is a whole one.
    with atomic_path(folder / "scores.json") as partial:
        partial.write_text(json.dumps(_summary(validation, fitted, model, sample, at_random), indent=1) + "\n")
    return validation, fitted


def _part_of(progress: Progress | None, *, total: int, before: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


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
    table = validation.predictions
    errors = (table["observed"] - table["mean"]).abs().to_numpy()
    return WelfareModel(
        outcome=validation.meta["outcome"],
        unit=validation.meta["unit"],
        feature_names=sample.feature_names,
        coef=np.asarray(fitted.coef_, dtype=np.float64),
        intercept=float(fitted.intercept_),
        low=getattr(fitted, "low_", np.full(sample.X.shape[1], -np.inf)),
        high=getattr(fitted, "high_", np.full(sample.X.shape[1], np.inf)),
        alpha=float(getattr(fitted, "alpha_", np.nan)),
        half_width=half_width(errors, level=validation.coverage.nominal),
        support=Support.fit(sample.X),
        support_limit=support_limit(table["distance"].to_numpy()),
        coverage=validation.coverage,
        n_training=len(sample.y),
        extractor=parse_attribute(sample.attrs, "extractor"),
        tile_spec=parse_attribute(sample.attrs, "tile_spec"),
        window=parse_attribute(sample.attrs, "window"),
        provenance=provenance,
    )


def _summary(
    validation: CrossValidation, fitted: WelfareModel, model: Any, sample: Sample, at_random: dict[str, float] | None
) -> dict[str, Any]:
    """Everything a report needs, as JSON can hold it."""
    table = validation.predictions
    return {
        "outcome": validation.meta["outcome"],
        "unit": validation.meta["unit"],
        "label": validation.meta["label"],
        "verdict": validation.verdict,
        "n": len(table),
        "n_survey": len(table) + int((validation.dropped["source"] == "clusters").sum()),
        "dropped": _records(validation.dropped),
        "splits": validation.meta["splits"],
        "n_blocks": validation.meta["n_blocks"],
        "folds": _records(validation.folds),
        "seed": validation.meta["seed"],
        "baseline": validation.meta["baseline"],
        "scores": _records(validation.scores),
        "differences": _records(validation.differences),
        "random_folds": None if at_random is None else _records(pd.DataFrame([at_random]))[0],
        "coverage": _records(pd.DataFrame([vars(validation.coverage)]))[0],
        "half_width": fitted.half_width,
        "out_of_support": int((~table["in_support"]).sum()),
        "model": {"name": type(model).__name__, "alpha": fitted.alpha, "n_features": len(fitted.feature_names)},
        "features": sample.attrs,
        "provenance": fitted.provenance,
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries; NaN, which JSON does not know, becomes null."""
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return records
