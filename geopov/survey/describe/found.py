"""What a table of a survey turned out to be, and how its variables are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from geopov._validation import some
from geopov.survey.describe.tabular import Tabular
from geopov.survey.dhs.codes import special_codes

DHS_HOUSEHOLDS, DHS_POSITIONS = "dhs_households", "dhs_positions"
DHS_WEALTH, DHS_OTHER = "dhs_wealth", "dhs_other"
LSMS_HOUSEHOLDS, LSMS_LOCATIONS = "lsms_households", "lsms_locations"
CLUSTERS, TABLE, OTHER, UNREADABLE = "clusters", "table", "other", "unreadable"


@dataclass(frozen=True)
class Variable:
    """A variable that geopov uses, in one file.

    Attributes
    ----------
    name : str
        As the documentation of the survey programme names it.
    column : str or None
        In the file's spelling; None where the file lacks it.
    label : str
        What it is: the file's own words where it has them.
    required : bool
        Whether clusters cannot be made without it.
    missing : float or None
        Share of rows without a value, special codes counted; None where the file lacks it.
    """

    name: str
    column: str | None
    label: str
    required: bool
    missing: float | None


@dataclass
class Found:
    """What a table turned out to be."""

    kind: str
    what: str
    country_code: str | None = None
    country: str | None = None
    version: str | None = None
    year: int | None = None
    survey: str | None = None
    datum: str | None = None
    variables: tuple[Variable, ...] = ()
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    clusters: frozenset[int] = frozenset()
    """Cluster numbers of DHS files."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that fit, best first."""
    position: tuple[str, str] | None = None
    """Columns of longitude and latitude."""


def scan(table: Tabular, widths: Mapping[str, int], keep: Sequence[str] = ()) -> tuple[dict[str, float], pd.DataFrame]:
    """The share of rows without a value for each variable, and the columns of ``keep`` whole."""
    codes = {
        name: special_codes(_numeric(table.value_labels.get(table.find(name) or "", {})), width=width)
        for name, width in widths.items()
        if width
    }
    missing, kept = dict.fromkeys(widths, 0), []
    for chunk in table.chunks([*widths, *keep]):
        kept.append(chunk[[name for name in dict.fromkeys(keep) if name in chunk]])
        for name in widths:
            if name in chunk:
                missing[name] += int((_blank(chunk[name]) | chunk[name].isin(codes.get(name, frozenset()))).sum())
    shares = {name: n / table.n_rows for name, n in missing.items() if table.n_rows and table.find(name)}
    return shares, pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()


def _numeric(labels: Mapping[object, str]) -> dict[float, str]:
    return {float(code): text for code, text in labels.items() if isinstance(code, int | float | np.number)}


def _blank(values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        return values.isna()
    text = values.astype("string").str.strip()
    return values.isna() | text.isin(["", "NULL"]).fillna(False).astype(bool)


def variables_of(
    table: Tabular, required: Mapping[str, bool], missing: Mapping[str, float], words: Mapping[str, str]
) -> tuple[Variable, ...]:
    """The variables of ``required`` (name to whether it must be there) as they are in the file."""
    there = {name: table.find(name) for name in required}
    return tuple(
        Variable(
            name,
            column,
            table.labels.get(column or "", "") or words.get(name.lower(), words.get(name, "")),
            must,
            missing.get(name),
        )
        for (name, must), column in zip(required.items(), there.values(), strict=True)
    )


def numbers(values: pd.Series) -> pd.Series:
    """A column as float, NaN where it holds no number: what is odd is described, not refused."""
    return pd.to_numeric(values, errors="coerce").astype(float)


def count(found: Found, bad: pd.Series, text: str, ids: pd.Series | None = None) -> None:
    """A problem for the rows where ``bad``, if any: how many, and the first of their ``ids``."""
    n = int(bad.sum())
    if n:
        names = "" if ids is None else f" ({some(dict.fromkeys(map(_spelt, ids[bad])), 3)})"
        found.problems.append(f"{text}: {n:,}{names}")


def _spelt(name: object) -> str:
    whole = isinstance(name, float) and name.is_integer()
    return str(int(name)) if whole and isinstance(name, float) else str(name).strip()


def placed(found: Found, lon: pd.Series, lat: pd.Series, ids: pd.Series | None = None) -> None:
    """Problems of coordinates: at (0, 0), missing, out of range."""
    zero, gone = (lon == 0) & (lat == 0), lon.isna() | lat.isna()
    count(found, zero, "rows at 0, 0, which stands for no position (left out later)", ids)
    count(found, gone, "rows without coordinates (left out later)", ids)
    out = ~gone & ~((lon.abs() <= 180) & (lat.abs() <= 90))
    count(found, out, "rows outside longitude -180..180, latitude -90..90 (projected, or the two swapped)")
