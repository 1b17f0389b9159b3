"""LSMS files: which of the shipped adapters fit a file, and what it has of what they name."""

from __future__ import annotations

import pandas as pd

from geopov.survey.describe.found import (
    LSMS_HOUSEHOLDS,
    LSMS_LOCATIONS,
    Found,
    count,
    numbers,
    placed,
    scan,
    variables_of,
)
from geopov.survey.describe.tabular import Tabular
from geopov.survey.lsms.adapter import Adapter, adapter_names, read_adapter


def fitting_adapters(has: set[str], name: str) -> list[tuple[Adapter, bool]]:
    """The adapters that fit, with whether the file is their households'; best first."""
    fitting: list[tuple[int, Adapter, bool]] = []
    for adapter in (read_adapter(each) for each in adapter_names()):
        columns = {column.lower() for column in adapter.columns}
        least = {adapter.consumption.column, adapter.weight, adapter.size, *adapter.household}
        files = [] if adapter.files is None else [*adapter.files.households, adapter.files.locations or ""]
        # The name of the file says more than columns that many surveys share.
        own = 1000 * (name.lower() in {each.lower() for each in files})
        if {column.lower() for column in least} <= has:
            fitting.append((own + len(columns & has), adapter, True))
        elif adapter.coordinates is not None:
            key = adapter.join.locations if adapter.join else adapter.household
            wanted = {column.lower() for column in (adapter.coordinates.lon, adapter.coordinates.lat, *key)}
            if wanted <= has:
                fitting.append((own + len(columns & has), adapter, False))
    most = max((score for score, _, _ in fitting), default=0)
    return [(adapter, households) for score, adapter, households in fitting if score == most]


def describe_lsms(table: Tabular, fitting: list[tuple[Adapter, bool]], has: set[str]) -> Found:
    """A file that the adapters of ``fitting`` can read, described by the first of them."""
    adapter, households = fitting[0]
    names = tuple(each.name for each, role in fitting if role == households)
    kind, what = (LSMS_HOUSEHOLDS, "consumption aggregate") if households else (LSMS_LOCATIONS, "geovariables")
    found = Found(kind, f"LSMS {what}", adapters=names)
    if len(names) == 1:
        found.survey, found.country = adapter.survey, adapter.country
        found.year = adapter.year if isinstance(adapter.year, int) else None
    key = list(adapter.household if households or adapter.join is None else adapter.join.locations)
    place = [] if adapter.coordinates is None else [adapter.coordinates.lon, adapter.coordinates.lat]
    roles = {
        **dict.fromkeys(adapter.cluster, "cluster"),
        **({} if not households else _household_roles(adapter)),
        **dict.fromkeys(key, "key"),
        **dict(zip(place, ("longitude", "latitude"), strict=False)),
    }
    # What the other file of the survey may have instead is no want of this one.
    shown = [name for name in roles if name.lower() in has or (households and name not in place)]
    missing, kept = scan(table, dict.fromkeys(shown, 0), [*key, *adapter.cluster, *place, adapter.weight, adapter.size])
    required = {name: roles[name] != "optional" for name in shown}
    found.variables = variables_of(table, required, missing, roles)
    _households_checks(found, kept, key, adapter, households)
    if len(place) == 2 and set(place) <= set(kept):
        found.position = (place[0], place[1])
        area = adapter.cluster[0] if adapter.cluster[0] in kept else key[0]
        placed(found, numbers(kept[place[0]]), numbers(kept[place[1]]), kept.get(area))
    if not adapter.checked:
        found.facts.append(f"the adapter {adapter.name} was written from documentation, not run on the real file")
    return found


def _household_roles(adapter: Adapter) -> dict[str, str]:
    roles = dict.fromkeys(adapter.columns, "optional")
    roles |= {adapter.weight: "household weight", adapter.size: "household size"}
    roles |= {adapter.consumption.column: f"consumption of a {adapter.consumption.of}, {adapter.consumption.currency}"}
    if adapter.deflator is not None:
        roles[adapter.deflator.column] = "deflator"
    return roles


def _households_checks(found: Found, kept: pd.DataFrame, key: list[str], adapter: Adapter, households: bool) -> None:
    for name in key:
        if name in kept and pd.api.types.is_float_dtype(kept[name]) and kept[name].abs().max() >= 2**53:
            found.problems.append(f"{name} is a float of more digits than a float holds: ids may have been rounded")
    if set(key) <= set(kept):
        ids = kept[key].astype(str).agg("-".join, axis=1)
        count(found, ids.duplicated(), "rows that repeat the household or area of another", ids)
    if households:
        people = numbers(kept[adapter.weight]) * numbers(kept[adapter.size])
        found.facts.append(f"{len(kept):,} households that stand for {people.sum():,.0f} people")
        count(found, ~(numbers(kept[adapter.weight]) > 0), f"households without a weight ({adapter.weight}) above zero")
