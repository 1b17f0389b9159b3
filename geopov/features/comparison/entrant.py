"""One network of a comparison: trained, and what is scored of it kept beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geopov._validation import ID_COLUMN, atomic_path
from geopov.features.comparison.networks import Contender
from geopov.features.extract import Tiles, extract
from geopov.features.extractor import Extractor
from geopov.features.networks.card import NetworkCard
from geopov.features.store import read_features, write_features
from geopov.features.subset import Subset

if TYPE_CHECKING:
    from geopov.features.networks.engines import EngineName
    from geopov.features.training.predict import TrainedNetwork

__all__ = ["Downstream", "Entrant", "entrant_of"]

Downstream = Callable[[xr.DataArray], Mapping[str, float]]
"""From the features (cluster, feature) of a network to scores by name, such as ``r2``, ``r2_low`` and ``r2_high``."""

_COST, _PREDICTIONS, _FEATURES, _NETWORK = "cost.json", "predictions.parquet", "features.nc", "network"
_MADE_FROM = "made_from_sha256"


@dataclass(frozen=True)
class Entrant:
    """A trained network and all that is scored of it.

    Attributes
    ----------
    contender : Contender
        Network and start.
    card : NetworkCard
        Of the trained network.
    probabilities : array (tile, class)
        Of the validation and test tiles; rows of NaN where too few pixels are valid.
    cost : dict
        As :func:`geopov.features.comparison.speed.measure` gives it.
    downstream : dict
        Scores by name; empty without survey clusters.
    """

    contender: Contender
    card: NetworkCard
    probabilities: npt.NDArray[np.float64]
    cost: dict[str, Any]
    downstream: dict[str, float]


def entrant_of(
    contender: Contender,
    tiles: Tiles,
    labels: gpd.GeoDataFrame,
    part: Subset,
    folder: Path,
    *,
    cluster_tiles: Tiles | None,
    downstream: Downstream | None,
    options: dict[str, Any],
    engine: EngineName,
    threads: int | None,
) -> Entrant:
    """Train a network, or take it from its folder, and gather what it is scored by.

    Parameters
    ----------
    contender : Contender
        Network and start.
    tiles, labels : TileSet, GeoDataFrame
        To train on.
    part : Subset
        Validation and test tiles, which are predicted.
    folder : path
        Of this network alone.
    cluster_tiles, downstream : TileSet, callable, optional
        As in :func:`geopov.features.comparison.bake_off.compare`.
    options : dict
        What else :func:`geopov.features.training.fit.pretrain` takes.
    engine, threads : str, int
        Of forward passes; threads of training, too.
    """
    from geopov.features.networks.network import PRETRAINED, NetworkExtractor
    from geopov.features.networks.trained import load_trained
    from geopov.features.training.fit import pretrain
    from geopov.features.training.predict import TrainedNetwork

    home = folder / _NETWORK
    pretrain(
        tiles, labels, folder=home, backbone=contender.backbone, weights=contender.weights, threads=threads, **options
    )
    parts = load_trained(home)
    # One for all that follows: preparing the network to run fast takes longer than running it on a few hundred tiles.
    network = TrainedNetwork(
        NetworkExtractor(PRETRAINED, weights=home, engine=engine, threads=threads),
        weight=parts.head.weight.numpy(),
        bias=parts.head.bias.numpy(),
        card=parts.card,
    )
    scores: dict[str, float] = {}
    if downstream is not None and cluster_tiles is not None:
        features = _features(network.extractor, cluster_tiles, folder / _FEATURES)
        scores = {name: float(value) for name, value in downstream(features).items()}
    return Entrant(contender, network.card, _probabilities(network, part, folder), _cost(home, engine, threads), scores)


def _probabilities(network: TrainedNetwork, part: Subset, folder: Path) -> npt.NDArray[np.float64]:
    """Of the validation and test tiles (tile, class), from the folder where they are this network's."""
    path, names = folder / _PREDICTIONS, [f"p_{name}" for name in network.card.outputs]
    owners = part.index[ID_COLUMN].astype(str).to_numpy()
    if path.is_file():
        kept = pd.read_parquet(path)
        if kept.attrs.get("sha256") == network.card.sha256 and np.array_equal(kept[ID_COLUMN].astype(str), owners):
            return kept[names].to_numpy(dtype=np.float64)
    found = network.probabilities(part)
    table = pd.DataFrame(found, columns=names)
    table.insert(0, ID_COLUMN, owners)
    table.attrs["sha256"] = network.card.sha256
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False)
    return found


def _cost(home: Path, engine: EngineName, threads: int | None) -> dict[str, Any]:
    path = home.parent / _COST
    of = {"asked": {"engine": engine, "threads": threads}, "sha256": NetworkCard.read(home).sha256}
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept.items() >= of.items():
            return kept
    from geopov.features.comparison.speed import measure

    found = measure(home, engine=engine, threads=threads) | of
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _features(extractor: Extractor, tiles: Tiles, path: Path) -> xr.DataArray:
    """Features of the clusters, from the file where they are this network's and of these tiles."""
    places, ids = tiles.index.geometry, "\n".join(tiles.index[ID_COLUMN].astype(str))
    digest = hashlib.sha256(json.dumps([extractor.spec(), tiles.spec.to_dict(), ids]).encode())
    digest.update(np.column_stack([places.x, places.y]).tobytes())
    if path.is_file() and (kept := read_features(path)).attrs.get(_MADE_FROM) == digest.hexdigest():
        return kept
    found = extract(extractor, tiles)
    found.attrs[_MADE_FROM] = digest.hexdigest()
    write_features(found, path)
    return found
