"""Features and survey brought together: which clusters are used, and which are not and why."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr

from geopov._validation import ID_COLUMN, check_columns, check_points, check_unique, some
from geopov.errors import RegressionError
from geopov.regression._inputs import Floats


@dataclass(frozen=True)
class Sample:
    """Clusters that have features, an outcome and, where asked for, nightlights.

    Attributes
    ----------
    clusters : GeoDataFrame (n rows)
        In EPSG:4326, in the survey's order.
    X : array (n, p)
        Features, float64.
    y : array (n,)
        Outcome.
    lights : array (n, q) or None
        Nightlights features of the same clusters.
    feature_names : tuple of str (p,)
        Columns of ``X``.
    dropped : DataFrame
        ``source``, ``id`` and ``reason`` of all that is not used: first what the survey stage left out, which the
        clusters carry in their attributes, then the clusters that miss something here.
    attrs : dict
        Attributes of the features: extractor, provenance, tile spec, band names.
    """

    clusters: gpd.GeoDataFrame
    X: Floats
    y: Floats
    lights: Floats | None
    feature_names: tuple[str, ...]
    dropped: pd.DataFrame
    attrs: dict[str, str]

    def sha256(self) -> str:
        """Of ids, features and outcome: what a model was trained on, whatever file it came from."""
        digest = hashlib.sha256("\n".join(self.clusters[ID_COLUMN]).encode())
        for values in (self.X, self.y):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()


def join(
    features: xr.DataArray, clusters: gpd.GeoDataFrame, *, outcome: str, lights: xr.DataArray | None = None
) -> Sample:
    """Join features and survey on ``cluster_id``.

    Parameters
    ----------
    features : DataArray (cluster, feature)
        With a coordinate ``cluster_id`` along ``cluster``.
    clusters : GeoDataFrame
        Survey clusters with the outcome.
    outcome : str
        Column of ``clusters``.
    lights : DataArray (cluster, feature), optional
        Nightlights features. Clusters without them are dropped, so that model and baseline are scored on the same ones.

    Raises
    ------
    RegressionError
        If the outcome is missing, not numeric or NaN, an id repeats, or no cluster is in both.
    """
    left_out = list(clusters.attrs.get("dropped", []))
    clusters = check_points(clusters, error=RegressionError).reset_index(drop=True)
    check_columns(clusters, [outcome], "the table of clusters", RegressionError)
    _check_outcome(clusters[outcome], outcome)
    ids = pd.Index(clusters[ID_COLUMN])
    X, known_reasons = _rows_of(features, ids, "the features")
    seen = np.asarray(np.all(np.isfinite(X), axis=1))
    Z = None if lights is None else _rows_of(lights, ids, "the nightlights features")[0]
    lit = np.ones(len(ids), dtype=bool) if Z is None else np.asarray(np.all(np.isfinite(Z), axis=1))
    used = seen & lit
    if not used.any():
        raise RegressionError(
            f"none of {len(ids)} clusters can be used: {seen.sum()} have features and {lit.sum()} nightlights. The ids "
            f"of the clusters are {some(ids, 3)}, those of the features {some(features[ID_COLUMN].to_numpy(), 3)}. "
            "Were the features extracted for another survey?"
        )
    present = set(features[ID_COLUMN].to_numpy().astype(str))
    reasons = [
        "no valid nightlights"
        if has_features
        else known_reasons.get(cluster_id, "features are NaN" if cluster_id in present else "not among the features")
        for cluster_id, has_features in zip(ids[~used], seen[~used], strict=True)
    ]
    left_out += [
        {"source": "clusters", "id": str(name), "reason": reason}
        for name, reason in zip(ids[~used], reasons, strict=True)
    ]
    dropped = pd.DataFrame(left_out, columns=["source", "id", "reason"])
    return Sample(
        clusters=clusters[used].reset_index(drop=True),
        X=X[used],
        y=clusters.loc[used, outcome].to_numpy(dtype=np.float64),
        lights=None if Z is None else Z[used],
        feature_names=feature_names(features),
        dropped=dropped,
        attrs={str(key): str(value) for key, value in features.attrs.items() if key != "dropped"},
    )


def feature_names(features: xr.DataArray) -> tuple[str, ...]:
    """The labels along ``feature``, or their numbers where there are none."""
    return tuple(str(name) for name in features["feature"].to_numpy())


def _check_outcome(values: pd.Series, outcome: str) -> None:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        raise RegressionError(f"the outcome {outcome!r} is of type {values.dtype}; expected numbers.")
    missing = ~np.isfinite(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if missing.any():
        raise RegressionError(
            f"{int(missing.sum())} of {len(values)} clusters have no {outcome!r} (NaN or infinite). "
            f"Drop them first: clusters.dropna(subset=[{outcome!r}])."
        )


def _rows_of(features: xr.DataArray, ids: pd.Index, what: str) -> tuple[Floats, dict[str, str]]:
    """Rows (n, p) of the clusters ``ids``, NaN where there are none, and the reasons the extraction gave."""
    if features.dims != ("cluster", "feature") or ID_COLUMN not in features.coords:
        raise RegressionError(
            f"{what} have dimensions {features.dims} and coordinates {some(features.coords)}; expected "
            f"('cluster', 'feature') and a coordinate {ID_COLUMN!r}, as geopov.features.extract gives."
        )
    own = pd.Series(features[ID_COLUMN].to_numpy().astype(str))
    check_unique(own, what, RegressionError)
    position = pd.Index(own).get_indexer(ids)
    rows = np.full((len(ids), features.sizes["feature"]), np.nan)
    rows[position >= 0] = features.to_numpy()[position[position >= 0]]
    entries = json.loads(features.attrs.get("dropped", "[]"))
    return rows, {str(entry["cluster_id"]): str(entry["reason"]) for entry in entries}
