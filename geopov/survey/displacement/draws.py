"""Features averaged over where a cluster may be: the draws of :func:`geopov.survey.draw_positions`."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import xarray as xr

from geopov._validation import ID_COLUMN, check_columns, some
from geopov.errors import SurveyError
from geopov.survey.displacement.moves import Floats


def average_over_draws(features: xr.DataArray, draws: pd.DataFrame) -> xr.DataArray:
    """Features of each cluster: the mean over the draws of its position.

    Where the features were made with the draws as the tiles of a cluster (``tile_id`` and ``cluster_id``), that mean
    is taken already; this is for features by ``point_id``, from wherever they come.

    Parameters
    ----------
    features : DataArray (cluster, feature)
        With the coordinate ``cluster_id`` holding each draw's ``point_id``.
    draws : DataFrame
        From :func:`draw_positions`.

    Returns
    -------
    DataArray (cluster, feature)
        Clusters in the order of ``draws``, with ``cluster_id`` and ``n_draws`` (how many were averaged), and the
        attributes of ``features``. A draw that is absent or NaN is left out; so is a cluster without any, which the
        attribute ``dropped`` names, a JSON list of ``{"cluster_id", "reason"}``.

    Raises
    ------
    SurveyError
        If features belong to no draw, or no cluster has any.
    """
    values, owner, n_draws = _by_cluster(features, draws)
    means = pd.DataFrame(values).groupby(owner).mean()
    return _of_clusters(features, means, n_draws)


def spread_over_draws(features: xr.DataArray, draws: pd.DataFrame) -> xr.DataArray:
    """Standard deviation of each feature over the draws of a cluster's position; NaN where only one is left.

    How uncertain the position makes a feature; as :func:`average_over_draws` otherwise.
    """
    values, owner, n_draws = _by_cluster(features, draws)
    return _of_clusters(features, pd.DataFrame(values).groupby(owner).std(ddof=1), n_draws)


def _by_cluster(features: xr.DataArray, draws: pd.DataFrame) -> tuple[Floats, Floats, pd.Series]:
    """Rows of features of draws that have them, the number of each one's cluster, and rows a cluster of all draws."""
    check_columns(draws, ["point_id", ID_COLUMN], "the table of draws", SurveyError)
    if "cluster_id" not in features.coords or features.dims[0] != "cluster" or features.ndim != 2:
        raise SurveyError(f"features have the dimensions {features.dims}; expected (cluster, feature) with cluster_id.")
    point = pd.Index(features["cluster_id"].to_numpy().astype(str))
    owner_of = pd.Series(draws[ID_COLUMN].to_numpy(), index=draws["point_id"].astype(str))
    strangers = point.difference(owner_of.index)
    if len(strangers):
        raise SurveyError(
            f"{len(strangers)} of {len(point)} rows of features belong to no draw ({some(strangers)}); "
            "expected the point_id of draw_positions in cluster_id."
        )
    values = features.to_numpy().astype(np.float64)
    whole = ~np.isnan(values).any(axis=1)
    owner = owner_of.loc[point[whole]]
    n_draws = owner.value_counts().reindex(owner_of.unique(), fill_value=0)
    if not len(owner):
        raise SurveyError("no draw has features; do the scenes cover the clusters?")
    return values[whole], owner.to_numpy(), n_draws


def _of_clusters(features: xr.DataArray, table: pd.DataFrame, n_draws: pd.Series) -> xr.DataArray:
    used = n_draws.index[n_draws > 0]
    dropped = [
        {"cluster_id": str(name), "reason": "no draw of its position has features"}
        for name in n_draws.index[n_draws == 0]
    ]
    return xr.DataArray(
        table.loc[used].to_numpy(dtype=features.dtype),
        dims=("cluster", "feature"),
        coords={
            "cluster_id": ("cluster", used.to_numpy(dtype=str)),
            "n_draws": ("cluster", n_draws[used].to_numpy()),
            **({"feature": features["feature"]} if "feature" in features.coords else {}),
        },
        name=features.name,
        attrs={**features.attrs, "dropped": json.dumps(dropped)},
    )
