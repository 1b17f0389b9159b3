"""What features are good for: the score of a welfare ridge on them, for stages that may not know of regression."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import xarray as xr

from geopov.regression import SpatialBlocks, WelfareRidge, cross_validate, footprint_km


def downstream_scores(
    clusters: gpd.GeoDataFrame, *, outcome: str, block_km: float, n_folds: int = 5, seed: int = 0
) -> Callable[[xr.DataArray], dict[str, float]]:
    """A function from the features of these clusters to the scores of :class:`geopov.regression.WelfareRidge` on them.

    Parameters
    ----------
    clusters : GeoDataFrame
        Survey clusters with ``cluster_id``.
    outcome : str
        Column to predict.
    block_km, n_folds, seed : float, int, int
        Of the spatial blocks; training clusters whose tiles reach into test tiles are left out.

    Returns
    -------
    callable
        Takes features (cluster, feature), gives ``r2`` (squared Pearson) with its 95% interval ``r2_low`` and
        ``r2_high``, ``R2`` and ``n``, the clusters that were used.
    """

    def scores(features: xr.DataArray) -> dict[str, float]:
        splits = SpatialBlocks(block_km=block_km, n_folds=n_folds, seed=seed, tile_km=footprint_km(features.attrs))
        found = cross_validate(WelfareRidge(), features, clusters, outcome=outcome, splits=splits, seed=seed)
        pooled = found.scores[(found.scores["subset"] == "all") & (found.scores["predictor"] == "model")].iloc[0]
        names = {"r2": "r2_pearson", "r2_low": "r2_pearson_low", "r2_high": "r2_pearson_high", "R2": "R2"}
        return {name: float(pooled[column]) for name, column in names.items()} | {"n": float(len(found.predictions))}

    return scores
