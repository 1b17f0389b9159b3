"""Several networks trained alike on the same tiles, one at a time, and what each is worth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov import __version__
from geopov._optional import require
from geopov._validation import ID_COLUMN, check_columns, check_positive, check_unique, some
from geopov.errors import FeatureError
from geopov.features.comparison.class_scores import (
    class_differences,
    class_scores,
    mean_auroc,
    youden_thresholds,
)
from geopov.features.comparison.entrant import Downstream, Entrant, entrant_of
from geopov.features.comparison.networks import MINIMUM_INPUT_PX, Contender, contenders
from geopov.features.extract import ProgressCallback, Tiles
from geopov.features.subset import Subset
from geopov.grid import local_crs

if TYPE_CHECKING:
    from geopov.features.networks.engines import EngineName

__all__ = ["ATTRIBUTE", "Downstream", "compare"]

ATTRIBUTE = "comparison"
"""Attribute of the table that tells, as JSON, how it was made."""


def compare(
    networks: str | Iterable[str | Contender],
    tiles: Tiles,
    labels: gpd.GeoDataFrame,
    *,
    folder: str | Path,
    weights: str | Path | None = "imagenet",
    label: str = "lights_class",
    training: Mapping[str, Any] | None = None,
    downstream: Downstream | None = None,
    cluster_tiles: Tiles | None = None,
    block_km: float | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    engine: EngineName = "auto",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> pd.DataFrame:
    """Train each network on the same tiles and score it on the same test tiles.

    Parameters
    ----------
    networks : str or iterable of str
        A set (``bressem2020``: the sixteen of Bressem et al. 2020; ``newer``; ``all``), or networks, each as
        ``NETWORK`` or ``NETWORK=START`` with START ``imagenet``, ``random`` or the path of a state dict.
    tiles : TileSet
        Of the labelled points.
    labels : GeoDataFrame
        Points with ``cluster_id``, the label and ``split`` ("train", "validation", "test").
    folder : path
        Where each network is kept, with its predictions, cost and features. What is there is not done again, so that a
        run cut short goes on where it stopped.
    weights : {"imagenet"}, path or None
        Start of networks that name none; None for a random one.
    label : str
        Column of classes.
    training : mapping, optional
        What else :func:`geopov.features.training.fit.pretrain` takes, the same for all networks: ``epochs``,
        ``input_px``, ``task`` ("classification" or "ordinal") and so on.
    downstream : callable, optional
        Scores a network's features of ``cluster_tiles``; its scores become columns ``downstream_NAME``.
    cluster_tiles : TileSet, optional
        Of the survey's clusters, for ``downstream``.
    block_km : float, optional
        Side of the squares on the ground that bootstraps draw whole. Test tiles close to each other resemble each
        other; without blocks they count as independent and intervals are DeLong's.
    level, n_resamples : float, int
        Of the intervals.
    seed : int
        Of training and resamples.
    engine : str
        That runs trained networks forward, as in :func:`geopov.features.build`; what it takes to prepare one is not
        part of ``images_per_s``.
    threads : int, optional
        Of training and forward passes on a CPU; default: PyTorch's number.
    progress : callable, optional
        Called with (networks done, networks in all).

    Returns
    -------
    DataFrame
        A row a network and class, and "mean" of the classes: ``network``, ``start``, the columns of
        :func:`~geopov.features.comparison.class_scores.class_scores`, ``difference`` in AUROC to the reference with its
        interval and ``p_value`` (and ``p_holm``, Holm's over the networks), ``n_parameters`` of trunk and linear head,
        ``images_per_s`` forward only, ``downstream_*``. In the attribute "comparison", JSON: how it was made.

    Raises
    ------
    FeatureError
        If labels, tiles or networks cannot be used, or the folder holds networks that were trained in another way.

    Notes
    -----
    Nothing is chosen on the test tiles: thresholds of sensitivity and specificity are Youden's on the validation tiles,
    and the reference of the differences is the network with the best mean AUROC there.
    """
    options = dict(training or {})
    chosen = contenders(networks, weights=weights)
    _check(chosen, options, downstream, cluster_tiles, tiles)
    split, truth, positions = _scored_rows(tiles, labels, label)
    part = Subset(tiles, positions)
    blocks = None if block_km is None else _squares(part.index, block_km)
    entrants = []
    shared: dict[str, Any] = {
        "cluster_tiles": cluster_tiles,
        "downstream": downstream,
        "engine": engine,
        "threads": threads,
    }
    shared["options"] = options | {"label": label, "seed": seed}
    for done, contender in enumerate(chosen):
        entrants.append(entrant_of(contender, tiles, labels, part, Path(folder) / contender.name, **shared))
        if progress is not None:
            progress(done + 1, len(chosen))
    table, reference = _score(entrants, split, truth, blocks, level=level, n_resamples=n_resamples, seed=seed)
    meta = {
        "geopov": __version__,
        "label": label,
        "classes": list(entrants[0].card.outputs),
        "task": entrants[0].card.task,
        "tiles": {name: int((split == name).sum()) for name in ("validation", "test")},
        "n_train": int((labels["split"] == "train").sum()),
        "tile": tiles.spec.to_dict(),
        "training": options,
        "level": level,
        "block_km": block_km,
        "n_blocks": None if blocks is None else len(np.unique(blocks[split == "test"])),
        "reference": reference,
        "engine": entrants[0].cost["engine"],
        "side_px": entrants[0].cost["side_px"],
        "threads": threads,
        "seed": seed,
    }
    table.attrs[ATTRIBUTE] = json.dumps(meta)
    return table


def _score(
    entrants: list[Entrant],
    split: npt.NDArray[np.str_],
    truth: npt.NDArray[np.str_],
    blocks: npt.NDArray[np.intp] | None,
    *,
    level: float,
    n_resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, str]:
    """The table, and the name of the reference."""
    usable = np.all([np.isfinite(entrant.probabilities).all(axis=1) for entrant in entrants], axis=0)
    validation, test = ((split == name) & usable for name in ("validation", "test"))
    if not validation.any() or not test.any():
        raise FeatureError(
            f"{int(validation.sum())} validation tiles and {int(test.sum())} test tiles have enough valid pixels; "
            "expected some of both. Does the scene cover them?"
        )
    classes = entrants[0].card.outputs
    ranks = [mean_auroc(truth[validation], e.probabilities[validation], classes=classes) for e in entrants]
    best = entrants[int(np.argmax(np.nan_to_num(ranks, nan=-1.0)))]
    drawn: dict[str, Any] = {"classes": classes, "blocks": None if blocks is None else blocks[test]}
    drawn |= {"level": level, "n_resamples": n_resamples, "seed": seed}
    tables = []
    for entrant in entrants:
        cuts = youden_thresholds(truth[validation], entrant.probabilities[validation], classes=classes)
        shown = entrant.probabilities[test]
        rows = class_scores(truth[test], shown, thresholds=cuts, **drawn)
        if entrant is not best:
            differences = class_differences(truth[test], shown, best.probabilities[test], **drawn)
            rows = rows.merge(differences, on="class", how="left", validate="1:1")
        rows.insert(0, "network", entrant.contender.backbone)
        rows.insert(1, "start", entrant.contender.start)
        costs = {name: entrant.cost[name] for name in ("n_parameters", "images_per_s")}
        costs |= {f"downstream_{name}": value for name, value in entrant.downstream.items()}
        tables.append(rows.assign(**costs))
    table = pd.concat(tables, ignore_index=True)
    columns = ["difference", "difference_low", "difference_high", "p_value"]
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, *columns])))
    table["p_holm"] = table.groupby("class")["p_value"].transform(_holm)
    return table, best.contender.name


def _holm(p_values: pd.Series) -> pd.Series:
    """Holm's (1979) adjustment for so many comparisons with the reference; NaN stays NaN."""
    known = p_values.dropna().sort_values(kind="stable")
    adjusted = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1.0)
    return adjusted.reindex(p_values.index)


def _scored_rows(
    tiles: Tiles, labels: gpd.GeoDataFrame, label: str
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_], npt.NDArray[np.intp]]:
    """Split, class and position of each validation and test tile; points without a label are left out."""
    check_columns(labels, [ID_COLUMN, label, "split"], "the table of labels", FeatureError)
    check_unique(labels[ID_COLUMN].astype(str), "the table of labels", FeatureError)
    scored = labels[labels["split"].isin(["validation", "test"]) & labels[label].notna()]
    rows = pd.Index(scored[ID_COLUMN].astype(str)).get_indexer(pd.Index(tiles.index[ID_COLUMN].astype(str)))
    positions = np.flatnonzero(rows >= 0)
    split = scored["split"].to_numpy(dtype=str)[rows[positions]]
    missing = [name for name in ("validation", "test") if name not in split]
    if missing:
        raise FeatureError(
            f"no tile is of the split {some(map(repr, missing))}; the column 'split' of the labels holds "
            f"{some(sorted(labels['split'].astype(str).unique()))}. Thresholds need 'validation', scores need 'test'."
        )
    # A whole number that a gap in the table made a fraction is named as training names it.
    names = [str(int(value)) if isinstance(value, float) else str(value) for value in scored[label]]
    return split, np.asarray(names, dtype=str)[rows[positions]], positions


def _squares(index: gpd.GeoDataFrame, block_km: float) -> npt.NDArray[np.intp]:
    """The square (tile,) on the ground that each tile lies in."""
    check_positive(block_km, "block_km", FeatureError)
    places = index.geometry
    west, south, east, north = places.total_bounds.tolist()
    local = places.to_crs(local_crs((west, south, east, north)))
    cells = np.floor(np.column_stack([local.x, local.y]) / (1000 * block_km)).astype(np.int64)
    numbers: npt.NDArray[np.intp] = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    return numbers


def _check(
    chosen: list[Contender],
    options: dict[str, Any],
    downstream: Downstream | None,
    cluster_tiles: Tiles | None,
    tiles: Tiles,
) -> None:
    """What can be known before the first network is trained for hours."""
    require("torch", purpose="Comparing networks")
    taken = {"folder", "backbone", "weights", "label", "seed", "threads", "progress"} & set(options)
    if taken:
        raise FeatureError(f"training holds {some(sorted(taken))}, which compare sets; give them to compare itself.")
    if options.get("task", "classification") == "regression":
        raise FeatureError("task is 'regression'; networks are compared as classifiers: 'classification' or 'ordinal'.")
    if (downstream is None) != (cluster_tiles is None):
        raise FeatureError("downstream and cluster_tiles belong together; give both or neither.")
    spec = tiles.spec.to_dict()
    side = options.get("input_px") or spec["size_px"] + 2 * tiles.spec.context_px
    small = [c.backbone for c in chosen if side < MINIMUM_INPUT_PX.get(c.backbone, 0)]
    if small:
        needed = max(MINIMUM_INPUT_PX[name] for name in small)
        raise FeatureError(f"images of {side} px are too small for {some(small)}; give input_px={needed} or more.")
    _check_names(chosen)


def _check_names(chosen: list[Contender]) -> None:
    from geopov.features.networks.backbones import network_names

    known = set(network_names())
    unknown = [c.backbone for c in chosen if not c.backbone.startswith("timm/") and c.backbone not in known]
    if unknown:
        raise FeatureError(f"there is no network {some(map(repr, unknown))}; see `geopov features list`.")
    lost = [c.weights for c in chosen if c.weights not in (None, "imagenet") and not Path(str(c.weights)).is_file()]
    if lost:
        raise FeatureError(f"there are no weights {some(lost)}; expected 'imagenet', 'random' or a state dict's path.")
