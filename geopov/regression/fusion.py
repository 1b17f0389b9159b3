"""Several sets of features of the same clusters as one, whose blocks a model can tell apart.

Imagery, nightlights, the embedding of what is written about a place: each comes as features by ``cluster_id``.
:func:`fuse` joins them; the block of a feature stands before the first colon of its name, as in ``text:dim_017``, where
:func:`geopov.features.build` puts the part's name when it is given a list of extractors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geopov._validation import ID_COLUMN, check_unique, some
from geopov.errors import RegressionError
from geopov.regression.sample import footprint_km

__all__ = ["block_names", "fuse", "labels_of"]

_GROUND = ("tile_spec", "window", "displacement")
"""Attributes that say how wide the ground is that the features of one cluster were made from."""


def block_names(features: Iterable[Any]) -> list[str]:
    """The block of each feature: what stands before the first colon of its name; empty where there is none."""
    return [block if colon else "" for block, colon, _ in (str(name).partition(":") for name in features)]


def labels_of(features: Iterable[Any]) -> list[str]:
    """:func:`block_names`, each feature having one and all together several.

    Raises
    ------
    RegressionError
        If a feature has no block, or there is one block only.
    """
    names = [str(name) for name in features]
    labels = block_names(names)
    bare = [name for name, label in zip(names, labels, strict=True) if not label]
    if bare or len(set(labels)) < 2:
        found = (
            f"{len(bare)} of {len(names)} features are in none ({some(bare, 3)})"
            if bare
            else f"all are in {labels[0]!r}"
        )
        raise RegressionError(
            f"one penalty a block needs features in several blocks, named 'block:feature'; {found}. Extract with a "
            "list of extractors, or fuse() several sets of features."
        )
    return labels


def fuse(features: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Put blocks of features side by side, cluster by cluster.

    Parameters
    ----------
    features : mapping of block to DataArray (cluster, feature)
        With a coordinate ``cluster_id``; from :func:`geopov.features.extract`, a table, or anywhere.

    Returns
    -------
    DataArray (cluster, feature)
        The clusters that all blocks have, in the order of the first, with the coordinates ``cluster_id``, ``feature``
        (``block:feature``) and ``block`` along the features. Attributes, JSON: ``dropped``, who is missing from which
        block and why; ``blocks``, the attributes of each; and the tile specification of the block that sees the widest
        ground, so that overlaps of test and training tiles are looked for. How to extract is not said, since
        the blocks may come from different scenes, or from none: a map needs one extraction with a list of extractors.

    Raises
    ------
    RegressionError
        If a block is no features array, names a cluster twice, or no cluster is in all blocks.
    """
    if not features:
        raise RegressionError("no blocks are given; expected a mapping of names to features.")
    for name, array in features.items():
        _check(name, array)
    ids = {name: pd.Index(array[ID_COLUMN].to_numpy().astype(str)) for name, array in features.items()}
    valid = {name: ids[name][np.isfinite(array.to_numpy()).all(axis=1)] for name, array in features.items()}
    everyone = pd.Index(dict.fromkeys(id_ for name in features for id_ in [*ids[name], *_reasons(features[name])]))
    present = np.logical_and.reduce([everyone.isin(own) for own in valid.values()])
    if not present.any():
        counts = ", ".join(f"{name!r} has {len(own)} ({some(own, 2)})" for name, own in valid.items())
        raise RegressionError(f"no cluster is in all blocks: {counts}. Are they of the same survey?")
    kept = everyone[present]
    columns = [array.to_numpy()[ids[name].get_indexer(kept)] for name, array in features.items()]
    blocks = [name for name, array in features.items() for _ in range(array.sizes["feature"])]
    names = [f"{name}:{feature}" for name, array in features.items() for feature in array["feature"].to_numpy()]
    dropped = [{"cluster_id": str(id_), "reason": _reason(id_, features, valid, ids)} for id_ in everyone[~present]]
    widest = max((array.attrs for array in features.values()), key=footprint_km)
    attrs = {name: widest[name] for name in _GROUND if name in widest}
    attrs["blocks"] = json.dumps({name: _origin(array) for name, array in features.items()})
    attrs["dropped"] = json.dumps(dropped)
    return xr.DataArray(
        np.concatenate(columns, axis=1),
        dims=("cluster", "feature"),
        coords={
            ID_COLUMN: ("cluster", kept.to_numpy(dtype=str)),
            "feature": np.asarray(names, dtype=str),
            "block": ("feature", np.asarray(blocks, dtype=str)),
        },
        name="features",
        attrs=attrs,
    )


def _check(name: str, array: xr.DataArray) -> None:
    if not name or ":" in name:
        raise RegressionError(f"a block is named {name!r}; expected a name without a colon.")
    if array.dims != ("cluster", "feature") or ID_COLUMN not in array.coords:
        raise RegressionError(
            f"the block {name!r} has dimensions {array.dims} and coordinates {some(array.coords)}; expected "
            f"('cluster', 'feature') and a coordinate {ID_COLUMN!r}."
        )
    check_unique(pd.Series(array[ID_COLUMN].to_numpy().astype(str)), f"the block {name!r}", RegressionError)


def _origin(array: xr.DataArray) -> dict[str, Any]:
    """What a block's attributes say of how it was made, those in JSON read."""
    found: dict[str, Any] = {}
    for name, value in array.attrs.items():
        try:
            found[str(name)] = json.loads(value)
        except (TypeError, ValueError):
            found[str(name)] = str(value)
    found.pop("dropped", None)
    return found


def _reasons(array: xr.DataArray) -> dict[str, str]:
    return {str(entry["cluster_id"]): str(entry["reason"]) for entry in json.loads(array.attrs.get("dropped", "[]"))}


def _reason(
    id_: str, features: Mapping[str, xr.DataArray], valid: Mapping[str, pd.Index], ids: Mapping[str, pd.Index]
) -> str:
    """Why the first block that lacks a cluster does."""
    name = next(name for name, own in valid.items() if id_ not in own)
    default = "features are NaN" if id_ in ids[name] else "not among the features"
    return f"{name}: {_reasons(features[name]).get(id_, default)}"
