"""A user's labels as classes, joined to tiles and split by blocks on the ground so that no tile overlaps another's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from geopov._validation import ID_COLUMN, check_columns, check_points, check_positive, some
from geopov.errors import FeatureError
from geopov.features.extract import Tiles
from geopov.grid import local_crs, transform_xy

__all__ = ["CODE_COLUMN", "SPLITS", "Labelled", "class_names", "prepare_labels"]

SPLITS = ("train", "validation", "test")
CODE_COLUMN = "class_code"
Ints = npt.NDArray[np.intp]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Labelled:
    """Labels that have tiles.

    Attributes
    ----------
    table : GeoDataFrame
        EPSG:4326; ``cluster_id``, ``class_code`` (0 to k - 1) and ``split``, one row a labelled point.
    classes : tuple of str
        Names, in the order of the codes.
    positions : int array (tile,)
        Rows of the tiles' index whose owner is labelled.
    codes : int array (tile,)
        Classes of those tiles.
    split : str array (tile,)
        "train", "validation" or "test".
    report : dict
        JSON types: counts by split and class, what was left out and why, how the split was made.
    """

    table: gpd.GeoDataFrame
    classes: tuple[str, ...]
    positions: Ints
    codes: Ints
    split: Strings
    report: dict[str, Any]

    def of(self, split: str) -> npt.NDArray[np.bool_]:
        """Which of the labelled tiles are of this split."""
        chosen: npt.NDArray[np.bool_] = self.split == split
        return chosen


def prepare_labels(
    tiles: Tiles,
    labels: gpd.GeoDataFrame,
    *,
    label: str,
    block_km: float | None = None,
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Labelled:
    """Join labels to tiles, number their classes, and split them unless they are.

    Parameters
    ----------
    tiles : TileSet
        Joined by ``cluster_id``; a tile has its owner's label.
    labels : GeoDataFrame of points
        With ``cluster_id``, the column ``label`` and, optionally, ``split`` ("train", "validation" or "test"). Rows
        without a label or a tile are left out and counted.
    label : str
        Column of text, whole numbers, categories or True and False. Classes are in the order of their values; those of
        a bool are called ``not_LABEL`` and ``LABEL``.
    block_km : float, optional
        Side of the squares that go to one split as a whole; default: an eighth of the labels' longer extent, and at
        least twice the side of a tile.
    shares : three floats
        Shares of train, validation and test that the blocks are dealt out to reach, class by class.
    seed : int
        Of the order in which blocks are dealt out.

    Returns
    -------
    Labelled
        Points whose tile overlaps one of a later split (validation before test) are left out and counted, where the
        split is made here; where it is given they are counted only.

    Raises
    ------
    FeatureError
        If the label is missing or a measurement, a split has another name, or a class is missing from a split.
    """
    points = check_points(labels, error=FeatureError)
    check_columns(points, [label], "the table of labels", FeatureError)
    known = points[points[label].notna()].reset_index(drop=True)
    owners = tiles.index[ID_COLUMN].astype(str)
    met = known[known[ID_COLUMN].isin(set(owners))].reset_index(drop=True)
    if met.empty:
        raise FeatureError(
            f"none of {len(known)} labelled points owns a tile; the tiles' owners are {some(owners.unique())}. "
            f"Cut tiles around the labelled points, with the same {ID_COLUMN}."
        )
    codes, classes = _classes(met[label], label)
    table = met[[ID_COLUMN, "geometry"]].assign(**{CODE_COLUMN: codes})
    given = "split" in points.columns
    table["split"] = met["split"].astype(str) if given else _deal(table, tiles, block_km, shares, seed)
    unknown = sorted(set(table["split"]) - set(SPLITS))
    if unknown:
        raise FeatureError(f"the column 'split' holds {some(map(repr, unknown))}; expected {some(map(repr, SPLITS))}.")
    overlapping = _overlapping(table, tiles)
    if not given:
        table = table[~overlapping].reset_index(drop=True)
    report = {
        "label": label,
        "n_without_label": len(points) - len(known),
        "n_without_tile": len(known) - len(met),
        "split": "given" if given else "blocks",
        "block_km": None if given else _block_km(table, tiles, block_km),
        "seed": None if given else seed,
        "n_overlapping": int(overlapping.sum()),
        "overlapping": "kept" if given else "left out",
        "n_points": _counts(table, classes),
    }
    return _joined(table, classes, owners, report)


def class_names(values: Iterable[Any], label: str) -> list[str]:
    """What classes of these values are called: numbers without a point, True and False by the label."""
    names = {True: label, False: f"not_{label}"}
    return [
        names[bool(value)]
        if isinstance(value, bool | np.bool_)
        else str(int(value) if isinstance(value, float | np.floating) else value)
        for value in values
    ]


def _joined(table: gpd.GeoDataFrame, classes: tuple[str, ...], owners: pd.Series, report: dict[str, Any]) -> Labelled:
    counts = report["n_points"]
    short = [f"{name!r} in {split}" for split in SPLITS for name in classes if counts[split][name] == 0]
    if short:
        raise FeatureError(
            f"there is no point of class {some(short)}; expected every class in every split. Label more points, merge "
            "rare classes, choose another seed or a smaller block_km, or give a column 'split'."
        )
    by_owner = table.set_index(ID_COLUMN)
    positions = np.flatnonzero(owners.isin(set(by_owner.index)).to_numpy())
    owned = owners.iloc[positions]
    return Labelled(
        table=table,
        classes=classes,
        positions=positions,
        codes=by_owner[CODE_COLUMN].reindex(owned).to_numpy(dtype=np.intp),
        split=by_owner["split"].reindex(owned).to_numpy(dtype=str),
        report=report,
    )


def _classes(values: pd.Series, label: str) -> tuple[Ints, tuple[str, ...]]:
    if isinstance(values.dtype, pd.CategoricalDtype):
        present = set(values)
        order = [value for value in values.cat.categories if value in present]
        values = values.astype(object)
    else:
        try:
            order = sorted(set(values))
        except TypeError:
            raise FeatureError(f"the label {label!r} mixes text and numbers; expected one kind.") from None
    if any(isinstance(value, float | np.floating) and not float(value).is_integer() for value in order):
        raise FeatureError(
            f"the label {label!r} holds numbers such as {some(order, 3)}; expected classes. Cut it into classes with "
            "pandas.cut, or predict it with pretrain(task='regression')."
        )
    if len(order) < 2:
        raise FeatureError(f"the label {label!r} has only the value {order[0]!r}; expected two classes or more.")
    codes = values.map({value: code for code, value in enumerate(order)}).to_numpy(dtype=np.intp)
    return codes, tuple(class_names(order, label))


def _deal(
    table: gpd.GeoDataFrame, tiles: Tiles, block_km: float | None, shares: tuple[float, float, float], seed: int
) -> list[str]:
    """A split for each point: blocks in random order, each to the split that lacks most of the block's classes."""
    wanted = np.asarray(shares, dtype=float)
    if wanted.shape != (3,) or not (wanted > 0).all():
        raise FeatureError(f"shares is {shares!r}; expected three numbers above zero, for train, validation and test.")
    wanted = wanted / wanted.sum()
    xy = _metres(table, table)
    columns = np.floor((xy - xy.min(axis=0)) / (1000 * _block_km(table, tiles, block_km))).astype(np.int64)
    _, blocks = np.unique(columns, axis=0, return_inverse=True)
    blocks = blocks.ravel()
    held = np.zeros((blocks.max() + 1, table[CODE_COLUMN].max() + 1))
    np.add.at(held, (blocks, table[CODE_COLUMN].to_numpy()), 1)
    share_of_class = held / held.sum(axis=0)
    dealt, chosen = np.zeros((3, held.shape[1])), np.zeros(len(held), dtype=np.intp)
    for block in np.random.default_rng(seed).permutation(len(held)):
        lack = (wanted[:, None] - dealt) / wanted[:, None]
        chosen[block] = int((lack @ share_of_class[block]).argmax())
        dealt[chosen[block]] += share_of_class[block]
    return [SPLITS[i] for i in chosen[blocks]]


def _block_km(table: gpd.GeoDataFrame, tiles: Tiles, block_km: float | None) -> float:
    side_km = _side_m(tiles) / 1000
    if block_km is None:
        return float(max(np.ptp(_metres(table, table), axis=0).max() / 8000, 2 * side_km))
    check_positive(block_km, "block_km", FeatureError)
    if block_km < side_km:
        raise FeatureError(
            f"block_km is {block_km:g}, less than the {side_km:g} km side of a tile: all tiles would overlap another "
            "split's. Give at least twice the side."
        )
    return float(block_km)


def _overlapping(table: gpd.GeoDataFrame, tiles: Tiles) -> npt.NDArray[np.bool_]:
    """Which points own a tile that overlaps one of a later split; tiles are squares about the index's geometry."""
    owned = tiles.index[tiles.index[ID_COLUMN].astype(str).isin(set(table[ID_COLUMN]))]
    xy = _metres(owned, table)
    rank = table.set_index(ID_COLUMN)["split"].map({name: i for i, name in enumerate(SPLITS)})
    ranks = rank.reindex(owned[ID_COLUMN].astype(str)).to_numpy()
    found = np.zeros(len(owned), dtype=bool)
    for later in (1, 2):
        if (ranks >= later).any():
            distance, _ = cKDTree(xy[ranks >= later]).query(xy, p=np.inf, distance_upper_bound=_side_m(tiles))
            found |= (ranks < later) & np.isfinite(distance)
    overlapping: npt.NDArray[np.bool_] = table[ID_COLUMN].isin(set(owned.loc[found, ID_COLUMN].astype(str))).to_numpy()
    return overlapping


def _metres(points: gpd.GeoDataFrame, around: gpd.GeoDataFrame) -> npt.NDArray[np.float64]:
    west, south, east, north = (float(value) for value in around.total_bounds)
    geometry = points.geometry
    x, y = transform_xy(points.crs, local_crs((west, south, east, north)), geometry.x.to_numpy(), geometry.y.to_numpy())
    return np.column_stack([x, y])


def _side_m(tiles: Tiles) -> float:
    spec = tiles.spec.to_dict()
    return float((spec["size_px"] + 2 * spec.get("context_px", 0)) * spec["resolution_m"])


def _counts(table: gpd.GeoDataFrame, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    counts = {}
    for split in SPLITS:
        inside = table.loc[table["split"] == split, CODE_COLUMN]
        counts[split] = {name: int((inside == code).sum()) for code, name in enumerate(classes)}
    return counts
