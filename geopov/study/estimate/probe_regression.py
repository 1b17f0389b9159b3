"""Pieces of the real regression on random numbers of the study's size."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import xarray as xr

from geopov._validation import ID_COLUMN
from geopov.regression import (
    GivenFolds,
    LeaveOneCountryOut,
    LeaveOneSurveyOut,
    SpatialBlocks,
    Splits,
    WelfareModel,
    WelfareRidge,
    evaluate,
    footprint_km,
    nested_ridge,
)
from geopov.regression.banded import BandedRidge
from geopov.regression.support import Support
from geopov.study.config import Study
from geopov.study.estimate.measure import measured
from geopov.study.estimate.result import Cost
from geopov.tiles import TileSpec

__all__ = ["probe_regression"]

# So many features cost next to nothing; what remains of an evaluation is what does not depend on them.
_FEW = 8
# Of the folds; two, since one is prepared while another is fitted.
_PAIRS = 2
# Outcomes that permutations add, to see what each costs.
_COLUMNS = 10
# As in :mod:`geopov.regression.permutation` and :mod:`geopov.regression.nested`: predictions for every penalty are held
# at once, eight bytes each, within so many bytes.
_BYTES, _N_ALPHAS = 2**28, 30
# Rows a support is learnt from here; a map only has to apply it.
_SUPPORT_ROWS = 400


def probe_regression(
    study: Study,
    clusters: gpd.GeoDataFrame,
    *,
    n_clusters: int,
    n_features: Mapping[str, int],
    extractor: Mapping[str, Any],
) -> tuple[dict[str, Any], WelfareModel]:
    """What the regression takes, and a model of the right size, without meaning, for a map.

    An evaluation with next to no features gives the time of baselines, bootstraps and curves; single folds with all
    features give what fits take, which is as often as there are folds, repeats and permutations.

    Returns
    -------
    dict, WelfareModel
        ``seconds``, ``cpu_seconds``, ``memory_bytes``, ``n``, ``n_features``.
    """
    rng = np.random.default_rng(0)
    # Those that no scene shows are left out; which they are matters little for the time.
    used = clusters.sample(n=min(n_clusters, len(clusters)), random_state=0).sort_index()
    size = {key: getattr(study.tiles, key) for key in ("size_px", "resolution_m", "context_px")}
    window = {"window_km": study.tiles.window_km, "n_tiles": study.tiles.n_tiles}
    origin = {"extractor": dict(extractor), "tile_spec": TileSpec(**size).to_dict(), "window": window}
    attrs = {name: json.dumps(value) for name, value in origin.items()}
    splits = _splits(study, footprint_km(attrs))
    p = n_features["model"]
    few = min(p, max(_FEW, study.regression.components or 0))
    wide = {role: width for role, width in n_features.items() if role != "model"}
    extra = {role: min(width, _FEW) for role, width in wide.items()}

    def table(width: int) -> xr.DataArray:
        return xr.DataArray(
            rng.normal(size=(len(used), width)).astype(np.float32),
            dims=("cluster", "feature"),
            coords={
                ID_COLUMN: ("cluster", used[ID_COLUMN].astype(str).to_numpy()),
                "feature": [f"f{i}" for i in range(width)],
            },
            attrs=attrs,
        )

    with tempfile.TemporaryDirectory() as folder, measured() as small:
        _, model = evaluate(
            WelfareRidge(n_components=study.regression.components),
            table(few),
            used,
            outcome=study.outcome.column,
            splits=splits,
            folder=folder,
            baseline=table(extra["baseline"]) if "baseline" in extra else None,
            others={"random_convolution": table(extra["random"])} if "random" in extra else {},
            allow_overlap=study.regression.allow_overlap,
            random_folds=False,
            level=study.regression.coverage,
        )
    folds, memory = _folds(study, used, splits, few, p, wide, rng)
    cost, memory = small.cost + folds, max(memory, small.memory_bytes)
    answer = {"seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds, "memory_bytes": memory}
    return answer | {"n": len(used), "n_features": p}, _widened(model, p, rng)


def _splits(study: Study, tile_km: float) -> Splits:
    """As ``geopov regression fit`` divides the clusters."""
    asked = study.regression
    options: dict[str, float] = {
        "buffer_km": asked.buffer_km,
        "tile_km": 0.0 if asked.allow_overlap else tile_km,
    }
    if asked.fold_column is not None:
        return GivenFolds(asked.fold_column, **options)
    if asked.leave_out is not None:
        return {"country": LeaveOneCountryOut, "survey": LeaveOneSurveyOut}[asked.leave_out](**options)
    assert asked.block_km is not None
    return SpatialBlocks(block_km=asked.block_km, n_folds=asked.n_folds, seed=asked.seed, **options)


def _folds(
    study: Study,
    used: gpd.GeoDataFrame,
    splits: Splits,
    few: int,
    n_features: int,
    wide: Mapping[str, int],
    rng: np.random.Generator,
) -> tuple[Cost, int]:
    """What all fits with all features take, beyond those with a few that were measured; and the memory of one."""
    asked = study.regression
    pairs, groups = list(splits.split(used)), splits.block_ids(used)
    y = used[study.outcome.column].to_numpy(dtype=np.float64)
    memory = 0

    def fold(width: int, columns: int = 1) -> Cost:
        nonlocal memory
        X = rng.normal(size=(len(used), width))
        Y = np.column_stack([rng.permutation(y) for _ in range(columns)])
        with measured() as found:
            components = asked.components if width >= few else None
            nested_ridge(X, Y, pairs[:_PAIRS], groups=groups, n_components=components)
        memory = max(memory, found.memory_bytes)
        return found.cost * (1 / len(pairs[:_PAIRS]))

    if asked.banded:
        return _banded(study, used, pairs, groups, n_features, rng)
    n_folds, small, large = len(pairs), fold(few), fold(n_features)
    permutations, repeats = asked.permutations, asked.repeats if asked.block_km is not None else 0
    chunks = -(-(permutations + 1) // max(_BYTES // (8 * _N_ALPHAS * len(used)), 1)) if permutations else 0
    # The fit of all clusters, the folds that are scored, and the same clusters in random folds.
    cost = large * (1 + 2 * n_folds) - small * (1 + n_folds)
    cost += large * (n_folds * (repeats + chunks))
    if permutations:
        column = (fold(n_features, 1 + _COLUMNS) - large).floored * (1 / _COLUMNS)
        cost += column * (n_folds * permutations)
    for width in wide.values():
        if width > _FEW:
            cost += (fold(width) - small) * n_folds
    return cost.floored, memory


def _banded(
    study: Study, used: gpd.GeoDataFrame, pairs: Any, groups: Any, n_features: int, rng: np.random.Generator
) -> tuple[Cost, int]:
    """One fold of a banded ridge with two and with four weightings, from which all of them follow."""
    X = rng.normal(size=(len(used), n_features))
    y = used[study.outcome.column].to_numpy(dtype=np.float64)
    names = [f"b{i % len(study.features)}" for i in range(n_features)]
    found = []
    for draws in (2, 4):
        with measured() as clock:
            BandedRidge(blocks=names, n_iter=draws, seed=0).hold_out(X, y, pairs[:1], groups=groups)
        found.append(clock)
    draw = (found[1].cost - found[0].cost).floored * 0.5
    fold = found[0].cost + draw * (10 * len(study.features) - 2)
    return fold * (1 + 2 * len(pairs)), max(clock.memory_bytes for clock in found)


def _widened(model: WelfareModel, p: int, rng: np.random.Generator) -> WelfareModel:
    """The model as if it had been fitted on ``p`` features, none of which counts."""
    beyond = np.full(p, np.inf)
    return replace(
        model,
        feature_names=tuple(f"f{i}" for i in range(p)),
        coef=np.zeros(p),
        low=-beyond,
        high=beyond,
        support=Support.fit(rng.normal(size=(_SUPPORT_ROWS, p))),
    )
