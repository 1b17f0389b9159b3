"""Tiles and their labels, joined: what there is to learn from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, check_unique, some
from geopov.errors import FeatureError
from geopov.features.extract import Tiles
from geopov.features.training.settings import LIGHTS, LIGHTS_CLASS, Settings

__all__ = ["SPLITS", "Examples", "read_examples"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Examples:
    """Labelled tiles.

    Attributes
    ----------
    positions : int array (n,)
        Rows of the tiles' index.
    split : str array (n,)
        "train", "validation" or "test"; "" where a tile has too few valid pixels.
    values : float array (n,)
        Number of the class, from 0; or the number to predict.
    classes : tuple of str
        Names of the classes in their order; none for a regression.
    output : str
        Name of the number to predict, for a regression.
    unit : str
        Of the label.
    class_edges : tuple of float or None
        Where classes of nightlights part.
    report : dict
        How points of nightlights were drawn; empty for other labels.
    sha256 : str
        Of the labels, splits and places of these points.
    """

    positions: npt.NDArray[np.intp]
    split: npt.NDArray[np.str_]
    values: npt.NDArray[np.float64]
    classes: tuple[str, ...]
    output: str
    unit: str
    class_edges: tuple[float, ...] | None
    report: dict[str, Any]
    sha256: str

    def __len__(self) -> int:
        return len(self.positions)

    def only(self, usable: npt.NDArray[np.bool_]) -> Examples:
        """The same rows, those that are not usable in no split; raises unless enough remains to learn from."""
        kept = replace(self, split=np.where(usable, self.split, ""))
        kept._check()
        return kept

    def rows(self, split: str) -> npt.NDArray[np.intp]:
        """Positions in these arrays of one split."""
        return np.flatnonzero(self.split == split)

    def counts(self) -> dict[str, Any]:
        """Tiles by split; by class too where there are classes."""
        if not self.classes:
            return {split: int(np.count_nonzero(self.split == split)) for split in SPLITS}
        return {
            split: {
                name: int(np.count_nonzero(self.values[self.split == split] == code))
                for code, name in enumerate(self.classes)
            }
            for split in SPLITS
        }

    def _check(self) -> None:
        for split in ("train", "validation"):
            if not len(self.rows(split)):
                raise FeatureError(
                    f"no tile with a label and enough valid pixels is in the split {split!r}; training needs 'train' "
                    "and 'validation', in separate places. geopov.features.nightlights makes both."
                )
        seen = set(self.values[self.split == "train"].astype(int)) if self.classes else set()
        if unseen := [name for code, name in enumerate(self.classes) if code not in seen]:
            raise FeatureError(
                f"the classes {some(unseen)} have no tile in the split 'train'; leave them out, or divide the points "
                "again."
            )


def read_examples(tiles: Tiles, labels: gpd.GeoDataFrame, settings: Settings) -> Examples:
    """Join tiles and labels by ``cluster_id``; points without a label or a split are left out.

    Raises
    ------
    FeatureError
        If a column is missing, a split or a label is none, or nothing remains to learn from.
    """
    check_columns(labels, [ID_COLUMN, settings.label, "split"], "the table of labels", FeatureError)
    ids = labels[ID_COLUMN].astype(str)
    check_unique(ids, "the table of labels", FeatureError)
    used = labels[labels[settings.label].notna() & labels["split"].notna()]
    if odd := sorted(set(used["split"].astype(str)) - set(SPLITS)):
        raise FeatureError(f"the column 'split' holds {some(map(repr, odd))}; expected {some(SPLITS)}, or nothing.")
    values, classes = _encoded(used[settings.label], settings)
    table = pd.DataFrame({"split": used["split"].astype(str).to_numpy(), "value": values})
    table.index = pd.Index(used[ID_COLUMN].astype(str))
    owners = tiles.index[ID_COLUMN].astype(str)
    rows = table.index.get_indexer(pd.Index(owners))
    positions = np.flatnonzero(rows >= 0)
    if not len(positions):
        raise FeatureError(
            f"none of the {len(owners)} tiles belongs to one of the {len(table)} labelled points; the tiles' "
            f"cluster_id are {some(owners)}, those of the labels {some(table.index)}."
        )
    matched = table.iloc[rows[positions]]
    report = json.loads(labels.attrs.get("nightlights", "{}")) if settings.label in (LIGHTS, LIGHTS_CLASS) else {}
    examples = Examples(
        positions=positions,
        split=matched["split"].to_numpy(dtype=str),
        values=matched["value"].to_numpy(dtype=np.float64),
        classes=classes,
        output=f"log_{settings.label}" if settings.label == LIGHTS else settings.label,
        unit=_unit(report, settings),
        class_edges=tuple(report["classes"]["edges"]) if classes and report else None,
        report=report,
        sha256=_digest(used, settings.label),
    )
    examples._check()
    return examples


def _encoded(column: pd.Series, settings: Settings) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    if settings.task == "regression":
        return _numbers(column, settings.label), ()
    if isinstance(column.dtype, pd.CategoricalDtype):
        known, ordered = [c for c in column.cat.categories if (column == c).any()], bool(column.cat.ordered)
    else:
        known, ordered = sorted(column.unique().tolist()), column.dtype.kind in "iubf"
    if column.dtype.kind == "f" and not np.array_equal(known, np.round(known)):
        raise FeatureError(
            f"the label {settings.label!r} holds fractions such as {known[0]!r}; a {settings.task} needs classes: "
            "cut it with pandas.cut, or take task='regression'."
        )
    if len(known) < 2:
        raise FeatureError(f"the label {settings.label!r} has {len(known)} class; expected two or more.")
    if settings.task == "ordinal" and not ordered:
        raise FeatureError(
            f"the classes of {settings.label!r} have no order ({some(known)}); an ordinal task needs numbers or an "
            "ordered pandas.Categorical."
        )
    codes = column.map({value: code for code, value in enumerate(known)}).to_numpy(dtype=np.float64)
    return codes, tuple(_name(value) for value in known)


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) else str(value)


def _numbers(column: pd.Series, label: str) -> npt.NDArray[np.float64]:
    try:
        values = column.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise FeatureError(f"the label {label!r} holds no numbers; a regression needs them.") from None
    if not np.isfinite(values).all():
        raise FeatureError(f"the label {label!r} holds infinite numbers; a regression needs finite ones.")
    if label != LIGHTS:
        return values
    if (values < 0).any():
        raise FeatureError(
            f"{int((values < 0).sum())} of the lights are negative; expected cleaned values, as "
            "geopov.features.nightlights makes them."
        )
    # One is added because most of the world is dark: cleaned radiance is 0 below the noise floor.
    return np.asarray(np.log1p(values), dtype=np.float64)


def _unit(report: dict[str, Any], settings: Settings) -> str:
    unit = str(report.get("unit", ""))
    if settings.task == "regression" and settings.label == LIGHTS:
        return f"log(1 + {unit or LIGHTS})"
    return unit


def _digest(used: gpd.GeoDataFrame, label: str) -> str:
    digest = hashlib.sha256()
    x, y = used.geometry.x.to_numpy(), used.geometry.y.to_numpy()
    columns = (used[ID_COLUMN].astype(str), used["split"].astype(str), used[label].astype(str), x, y)
    for row in sorted(zip(*columns, strict=True)):
        digest.update(repr(tuple(str(value) for value in row)).encode())
    return digest.hexdigest()
