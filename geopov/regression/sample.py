"""Features and survey brought together: which clusters are used, and which are not and why."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    others : dict of str to array (n, k)
        Further features that baselines are fitted on, such as random convolutional ones.
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
    others: dict[str, Floats] = field(default_factory=dict)

    @property
    def tile_km(self) -> float:
        """See :func:`footprint_km`."""
        return footprint_km(self.attrs)

    def sha256(self) -> str:
        """Of ids, features and outcome: what a model was trained on, whatever file it came from."""
        digest = hashlib.sha256("\n".join(self.clusters[ID_COLUMN]).encode())
        for values in (self.X, self.y):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()


def join(
    features: xr.DataArray,
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    lights: xr.DataArray | None = None,
    others: Mapping[str, xr.DataArray] | None = None,
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
    others : mapping of str to DataArray (cluster, feature), optional
        Further features for baselines, by name; clusters without them are dropped likewise.

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
    beside = {} if lights is None else {"nightlights": _rows_of(lights, ids, "the nightlights features")[0]}
    beside |= {name: _rows_of(array, ids, f"the features {name!r}")[0] for name, array in (others or {}).items()}
    valid = {name: np.asarray(np.isfinite(rows).all(axis=1)) for name, rows in beside.items()}
    used = np.logical_and.reduce([seen, *valid.values()])
    if not used.any():
        have = ", ".join(f"{int(rows.sum())} have {name}" for name, rows in {"features": seen, **valid}.items())
        raise RegressionError(
            f"none of {len(ids)} clusters can be used: {have}. The ids "
            f"of the clusters are {some(ids, 3)}, those of the features {some(features[ID_COLUMN].to_numpy(), 3)}. "
            "Were the features extracted for another survey?"
        )
    present = set(features[ID_COLUMN].to_numpy().astype(str))
    reasons = []
    for row in np.flatnonzero(~used):
        missing = [name for name, rows in valid.items() if not rows[row]]
        unseen = known_reasons.get(ids[row], "features are NaN" if ids[row] in present else "not among the features")
        reasons.append(f"no valid {missing[0]}" if seen[row] else unseen)
    left_out += [
        {"source": "clusters", "id": str(name), "reason": reason}
        for name, reason in zip(ids[~used], reasons, strict=True)
    ]
    dropped = pd.DataFrame(left_out, columns=["source", "id", "reason"])
    return Sample(
        clusters=clusters[used].reset_index(drop=True),
        X=X[used],
        y=clusters.loc[used, outcome].to_numpy(dtype=np.float64),
        lights=beside["nightlights"][used] if lights is not None else None,
        feature_names=feature_names(features),
        dropped=dropped,
        attrs={str(key): str(value) for key, value in features.attrs.items() if key != "dropped"},
        others={name: beside[name][used] for name in others or {}},
    )


def feature_names(features: xr.DataArray) -> tuple[str, ...]:
    """The labels along ``feature``, or their numbers where there are none."""
    return tuple(str(name) for name in features["feature"].to_numpy())


def footprint_km(attrs: Mapping[str, Any]) -> float:
    """How wide the ground is that the features of one cluster were made from.

    Parameters
    ----------
    attrs : mapping
        Attributes of the features, with the ``tile_spec``, ``window`` and ``displacement`` that their extraction wrote.

    Returns
    -------
    float
        Side in kilometres of the square that a cluster's tiles cover, context included: the ``tile_km`` of
        :class:`SpatialBlocks`. 0 where the attributes do not say.
    """
    spec, window, draws = (parse_attribute(attrs, name) for name in ("tile_spec", "window", "displacement"))
    if not {"size_px", "resolution_m"} <= set(spec):
        return 0.0
    tile = (spec["size_px"] + 2 * spec.get("context_px", 0)) * spec["resolution_m"] / 1000
    # Tiles at draws of a cluster's position lie as far out as the farthest draw.
    tile += 2 * draws.get("reach_km", 0.0)
    if not window.get("window_km"):
        return float(tile)
    # Tiles stand at the centres of equal squares that fill the window.
    return float(window["window_km"] * (1 - 1 / math.isqrt(window["n_tiles"])) + tile)


def parse_attribute(attrs: Mapping[str, str], name: str) -> dict[str, Any]:
    """An attribute that holds a JSON object, empty where there is none."""
    try:
        value = json.loads(attrs.get(name, "{}"))
    except json.JSONDecodeError:
        value = attrs[name]
    return value if isinstance(value, dict) else {name: value}


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
