"""Predictions that somebody made, judged as ours are: published ones, another team's, an earlier map's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, check_points, check_unique
from geopov.errors import RegressionError
from geopov.regression._fitting import one_blas_thread
from geopov.regression._inputs import Floats, Ints
from geopov.regression.baselines import LABELS, Baseline, baselines_for
from geopov.regression.cross_validation import CrossValidation, judge
from geopov.regression.held_out import HeldOut, Pairs, fold_table
from geopov.regression.sample import Sample
from geopov.regression.scores_file import write_scores
from geopov.regression.shrinkage import METHODS, Deshrinkage
from geopov.regression.splits import SpatialBlocks, Splits


def score_predictions(
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    predicted: str,
    splits: Splits,
    folder: Path | str,
    against: Sequence[str] = (),
    block_km: float = 50.0,
    unit: str = "",
    label: str = "",
    level: float = 0.9,
    seed: int = 0,
    inputs: Mapping[str, str] | None = None,
) -> CrossValidation:
    """Judge predictions of held-out clusters, and write ``predictions.parquet`` and ``scores.json`` for a report.

    Beside them stand other predictions, and the baselines that need no images: interpolation between the training
    clusters, urban or rural, the country's mean, the mean of the training clusters, all fitted in the folds given.

    Parameters
    ----------
    clusters : GeoDataFrame
        With the outcome and all predictions as columns. Clusters without one of them are dropped and named.
    outcome, predicted : str
        Columns: the truth and the predictions to judge.
    splits : Splits
        The folds in which the predictions were made, such as ``GivenFolds("test_fold")`` or ``LeaveOneCountryOut()``.
        That the predictions were held out is the word of whoever made them.
    folder : path
        Made where it does not exist.
    against : sequence of str
        Columns with other predictions of the same clusters, to compare with.
    block_km : float
        Side of the spatial blocks that bootstraps draw.
    unit, label, level, seed
        As for :func:`geopov.regression.cross_validate`.
    inputs : mapping of name to sha256, optional
        Files that the data came from, for provenance.

    Raises
    ------
    RegressionError
        If a column is missing or not numeric, or the folds cannot be made.
    """
    sample, columns = _read(clusters, outcome, [predicted, *against])
    pairs = list(splits.split(sample.clusters))
    blocks = SpatialBlocks(block_km=block_km, n_folds=2, seed=seed).block_ids(sample.clusters)
    with one_blas_thread():
        baselines = baselines_for(sample, seed=seed)
        held_out = _held_out(sample, columns, predicted, pairs, blocks, splits, baselines)
        text = "The folds are those the predictions were made in; how wide their images are is not known here."
        meta = {
            "outcome": outcome,
            "unit": unit,
            "label": label or outcome.replace("_", " "),
            "baselines": {name: name for name in against} | {one.name: one.label for one in baselines},
            "nightlights": True,
            "deshrink": "none",
            "splits": splits.describe(),
            "n_blocks": len(np.unique(blocks)),
            "leakage": {"tile_km": 0.0, "buffer_km": splits.buffer_km, "checked": True, "text": text},
            "seed": seed,
        }
        validation = judge(sample, held_out, blocks, meta=meta, level=level)
    provenance = {"geopov": version("geopov"), "inputs": dict(inputs or {})}
    model = {"name": predicted, "alpha": None, "n_features": None, "n_components": None}
    write_scores(validation, folder, model=model, features={}, provenance=provenance)
    return validation


def read_predictions(path: Path | str, clusters: gpd.GeoDataFrame, columns: Sequence[str]) -> gpd.GeoDataFrame:
    """Clusters with columns of a table of predictions, matched by ``cluster_id``; NaN where the table has no such row.

    Raises
    ------
    RegressionError
        If the table cannot be read, has no such columns, or names a cluster twice.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype={ID_COLUMN: str}) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RegressionError(f"{path} cannot be read ({error}); expected a table in .parquet or .csv.") from error
    check_columns(table, [ID_COLUMN, *columns], f"the predictions {path.name}", RegressionError)
    ids = table[ID_COLUMN].astype(str)
    check_unique(ids, f"the predictions {path.name}", RegressionError)
    matched = table.set_index(ids)[list(columns)].reindex(clusters[ID_COLUMN])
    return clusters.assign(**{name: matched[name].to_numpy() for name in columns})


def _read(clusters: gpd.GeoDataFrame, outcome: str, predictions: Sequence[str]) -> tuple[Sample, dict[str, Floats]]:
    left_out = list(clusters.attrs.get("dropped", []))
    clusters = check_points(clusters, error=RegressionError).reset_index(drop=True)
    names = [outcome, *predictions]
    check_columns(clusters, names, "the table of clusters", RegressionError)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise RegressionError(f"the column {repeated[0]!r} is named twice; expected it as outcome or prediction, once.")
    if taken := sorted({"model", *LABELS}.intersection(predictions)):
        raise RegressionError(f"the column {taken[0]!r} has the name of a baseline made here; rename it.")
    for name in names:
        if not pd.api.types.is_numeric_dtype(clusters[name]) or pd.api.types.is_bool_dtype(clusters[name]):
            raise RegressionError(f"the column {name!r} is of type {clusters[name].dtype}; expected numbers.")
    values = clusters[names].to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    for row in np.flatnonzero(~known.all(axis=1)):
        missing = names[int(np.argmin(known[row]))]
        left_out.append({"source": "clusters", "id": str(clusters[ID_COLUMN][row]), "reason": f"no {missing}"})
    used = known.all(axis=1)
    if not used.any():
        raise RegressionError(f"none of {len(clusters)} clusters has a value in each of {', '.join(names)}.")
    sample = Sample(
        clusters=clusters[used].reset_index(drop=True),
        X=np.empty((int(used.sum()), 0)),
        y=values[used, 0],
        lights=None,
        feature_names=(),
        dropped=pd.DataFrame(left_out, columns=["source", "id", "reason"]),
        attrs={},
    )
    return sample, {name: values[used, number] for number, name in enumerate(names) if number > 0}


def _held_out(
    sample: Sample,
    columns: Mapping[str, Floats],
    predicted: str,
    pairs: Pairs,
    blocks: Ints,
    splits: Splits,
    baselines: Sequence[Baseline],
) -> HeldOut:
    n, fold_of = len(sample.y), splits.assign(sample.clusters)
    table = pd.DataFrame({"fold": fold_of, "model": columns[predicted], "distance": np.zeros(n)})
    table = table.assign(**{name: values for name, values in columns.items() if name != predicted})
    filled = {f"mean_{method}": np.full(n, np.nan) for method in METHODS}
    filled |= {baseline.name: np.full(n, np.nan) for baseline in baselines}
    for fold, (train, test) in enumerate(pairs):
        others = fold_of != fold
        for method in METHODS:
            # The models' own inner predictions are not known; those of the other folds were not seen either.
            calibration = Deshrinkage.fit(sample.y[others], columns[predicted][others], method=method)
            filled[f"mean_{method}"][test] = calibration.apply(columns[predicted][test])
        for baseline in baselines:
            filled[baseline.name][test] = baseline.predict(sample, train, test, blocks)
    names = splits.fold_names(sample.clusters)
    folds = fold_table(pairs, names, n_clusters=n).assign(alpha=np.nan)
    return HeldOut(table.assign(**filled), folds)
