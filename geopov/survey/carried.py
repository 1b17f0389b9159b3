"""What a cluster is known by beside its means: survey, year, region, stratum, and what the inputs say of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN, some
from geopov.errors import SurveyError
from geopov.survey.clusters import CONTRACT_COLUMNS, typed

CARRIED = ("survey", "country", "year", "urban", "region", "stratum", "psu", "displacement_km", "poverty_line")


def carry(
    households: pd.DataFrame, clusters: pd.Series, places: gpd.GeoDataFrame | None, ids: pd.Index
) -> tuple[dict[str, pd.Series], list[str]]:
    """What is known of a cluster beside its means, as plain columns; and what a person must know of them."""
    known = pd.DataFrame(index=ids) if places is None else pd.DataFrame(places.drop(columns=places.geometry.name))
    known = known.reindex(ids)
    columns, notes = {}, []
    for name in dict.fromkeys([*CARRIED, *known.columns]):
        values = known[name] if name in known else pd.Series(np.nan, index=ids, dtype=object)
        if name in households and name in CARRIED:
            own, note = _one_value(households[name].set_axis(clusters, axis=0), name)
            own = own.reindex(ids)
            values = own if own.notna().all() else own.astype(object).where(own.notna(), values).infer_objects()
            notes += note
        missing = values.isna()
        if name in CONTRACT_COLUMNS and missing.any() and not missing.all():
            notes.append(f"{name} is unknown for {int(missing.sum())} clusters ({some(ids[missing])}): not carried.")
        elif not missing.all():
            columns[name] = typed(values, name, (), "the clusters").reset_index(drop=True)
    return columns, notes


def _one_value(values: pd.Series, name: str) -> tuple[pd.Series, list[str]]:
    """One value for each cluster (the index of ``values``), with a note where households of a cluster differ."""
    table = pd.DataFrame({"cluster": values.index, "value": values.to_numpy()}).dropna()
    counts = table.groupby(["cluster", "value"], sort=True).size().reset_index(name="n")
    several = counts.loc[counts["cluster"].duplicated(), "cluster"].unique()
    if len(several) and name in ("survey", "country"):
        raise SurveyError(
            f"{len(several)} clusters have households of more than one {name} ({some(several)}): their numbers repeat "
            f"from one {name} to the next. Put the {name} into {ID_COLUMN} before the tables are pooled."
        )
    # The largest displacement is the one that a window must cover; of anything else the most common value stands.
    order = ["value"] if name == "displacement_km" else ["n"]
    chosen = counts.sort_values(order, ascending=False, kind="stable").drop_duplicates("cluster")
    # Interviews go on past New Year's Eve; that is no contradiction to report.
    what = "largest" if name == "displacement_km" else "most common"
    note = f"{name} differs within {len(several)} clusters ({some(several)}): the {what} value of each is carried."
    return chosen.set_index("cluster")["value"], [note] if len(several) and name != "year" else []


def carry_attrs(*sources: Mapping[Any, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What the tables of a survey say of themselves, put together; units and measures under the names of clusters."""
    attrs: dict[str, Any] = {"dropped": {}, "notes": {}, "units": {}, "measures": {}}
    for source in sources:
        for key in ("dropped", "notes"):
            # Both tables of one survey list what was left out on the way to it; each entry once.
            attrs[key] |= {json.dumps(item, sort_keys=True): item for item in source.get(key, [])}
        for key in ("units", "measures"):
            attrs[key] |= {names.get(name, name): of for name, of in source.get(key, {}).items()}
    return attrs | {key: list(attrs[key].values()) for key in ("dropped", "notes")}
