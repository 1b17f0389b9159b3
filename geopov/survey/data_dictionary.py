"""The data dictionary of a table of clusters: for every column its type, unit, meaning and range."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN

UNKNOWN = "as in the source"
PPP = "PPP USD per person per day"
PPP_AE = "PPP USD per adult equivalent per day"


class Column(NamedTuple):
    """What a column holds."""

    unit: str
    description: str


def _shares(**assets: str) -> dict[str, Column]:
    return {name: Column("share, 0 to 1", f"Share with {of}") for name, of in assets.items()}


COLUMNS: dict[str, Column] = {
    ID_COLUMN: Column("", "Cluster (enumeration area, primary sampling unit), unique in the table"),
    "survey": Column("", "Survey and its year"),
    "country": Column("", "Country"),
    "year": Column("year", "Year of interview, the most common one of the cluster"),
    "urban": Column("", "Urban (true) or rural (false), as the survey classes it"),
    "weight": Column(
        "people", "People represented: sum of household weight x size, in the scale of the survey's weights"
    ),
    "household_weight": Column("households", "Sum of household weights, in the scale of the survey's weights"),
    "displacement_km": Column("km", "Largest usual displacement of the published position from the true one"),
    "households": Column("households", "Households whose answers are used"),
    "households_effective": Column("households", "Effective number of households (Kish: (sum w)² / sum w²)"),
    "region": Column("", "Region, as the survey names it"),
    "stratum": Column("", "Sampling stratum"),
    "psu": Column("", "Primary sampling unit"),
    "cluster": Column("", "Number of the cluster within its survey (hv001)"),
    "position_source": Column("", "How the survey found the position (SOURCE of the DHS GPS data)"),
    "poverty_line": Column(UNKNOWN, "Poverty line, in the unit of consumption"),
    "consumption": Column(PPP, "Mean consumption per person"),
    "consumption_ae": Column(PPP_AE, "Mean consumption per adult equivalent"),
    "asset_wealth": Column("index", "Mean asset wealth, first principal component over all countries pooled"),
    "asset_wealth_country": Column("index", "Mean asset wealth, first principal component within the country"),
    "iwi": Column("0 to 100", "International Wealth Index (Smits & Steendijk 2015), mean"),
    "wealth_score": Column("index", "The survey's own wealth index factor score, mean; not comparable across surveys"),
    "wealth_quintile": Column("1 to 5", "The survey's own wealth quintile, mean"),
    "deprivation": Column("share, 0 to 1", "Weighted share of deprivations, mean"),
    "headcount": Column("share, 0 to 1", "Share of people below the poverty line (FGT 0)"),
    "poverty_gap": Column("share, 0 to 1", "Mean shortfall from the poverty line, as a share of it (FGT 1)"),
    "poverty_severity": Column("share, 0 to 1", "Mean squared shortfall, as a share of the line (FGT 2)"),
    **_shares(
        electricity="electricity",
        radio="a radio",
        television="a television",
        refrigerator="a refrigerator",
        landline="a fixed telephone",
        mobile_phone="a mobile phone",
        phone="a telephone, fixed or mobile",
        bicycle="a bicycle",
        motorcycle="a motorcycle",
        car="a car",
        computer="a computer",
        animal_cart="an animal-drawn cart",
        water_improved="an improved source of drinking water",
        toilet_improved="an improved toilet",
        floor_improved="a finished floor",
        fuel_clean="clean fuel for cooking",
        toilet_shared="a toilet shared with other households",
        child_out_of_school="a child of school age out of school",
    ),
    **{
        name: Column("rank, 1 worst to 5 best", f"Quality of {of}, mean")
        for name, of in {"floor": "the floor", "water": "drinking water", "toilet": "the toilet"}.items()
    },
    **{
        f"{name}_level": Column("level, 0 to 2", f"Quality of {of}, low, medium or high as in the IWI, mean")
        for name, of in {"floor": "the floor", "water": "drinking water", "toilet": "the toilet"}.items()
    },
    "rooms": Column("rooms", "Sleeping rooms, mean"),
    "rooms_per_person": Column("rooms per person", "Sleeping rooms per household member, mean"),
    "water_minutes": Column("minutes", "Time to fetch water and return, mean; 0 on the premises"),
    "schooling_years_max": Column("years", "Years of schooling of the most schooled member, mean"),
    "household_size": Column("people", "Members of the household, mean"),
    "imagery_gap": Column("years", "Year of the nearest imagery minus year of the survey"),
    "nightlights_gap": Column("years", "Year of the nearest nightlights minus year of the survey"),
    "population": Column("people", "People counted by the census"),
    "area_km2": Column("km²", "Area"),
    "density": Column("people per km²", "Population density"),
    "pieces": Column("polygons", "Polygons that were united to the area"),
}
"""Columns that geopov makes or reads under these names. Standard errors and logarithms follow by rule."""

_RULES = (
    # The longest match first: the error of a mean log is the error of a column that is a mean of logs.
    (re.compile(r"(.+)_se$"), "{unit}", "Standard error of {name} by the sampling of households within the cluster"),
    (re.compile(r"mean_log_(.+)$"), "ln({unit})", "Mean of the natural logarithms of {name} of the households"),
    (re.compile(r"log_(.+)$"), "ln({unit})", "Natural logarithm of {name}"),
)


def dictionary(clusters: pd.DataFrame) -> pd.DataFrame:
    """What is in a table of clusters, one row a column.

    Parameters
    ----------
    clusters : DataFrame
        A table of clusters; ``attrs["units"]`` (column to unit) goes before the units known here, for what follows
        from those columns too.

    Returns
    -------
    DataFrame (column)
        ``column``, ``type`` (text, integer, number, boolean, date, point), ``unit``, ``description`` ("as in the
        source" for a column that is not known here), ``n`` (rows with a value), ``missing``, and ``min`` and ``max``
        of numbers.
    """
    units = dict(clusters.attrs.get("units", {}))
    columns = set(map(str, clusters.columns))
    clusters = clusters.copy(deep=False)
    # pandas copies them, entry by entry, with every column that is looked at.
    clusters.attrs = {}
    rows = []
    for name in clusters.columns:
        values = clusters[name]
        known = values.notna()
        kind = _kind(values)
        has_range = kind in ("integer", "number") and known.any()
        unit, description = (
            ("degrees, EPSG:4326", "Position") if kind == "point" else describe(str(name), units, columns)
        )
        rows.append(
            {
                "column": str(name),
                "type": kind,
                "unit": unit,
                "description": description,
                "n": int(known.sum()),
                "missing": int((~known).sum()),
                "min": values[known].min() if has_range else None,
                "max": values[known].max() if has_range else None,
            }
        )
    # As objects, integers stay integers beside numbers: a year is 2014, not 2014.0.
    return pd.DataFrame(rows, dtype=object).astype({"n": "int64", "missing": "int64"})


def describe(name: str, units: Mapping[str, str], columns: Collection[str] = ()) -> Column:
    """Unit and meaning of a column by its name.

    ``units`` go before those known here; ``columns`` are those of the table, whose errors and logarithms are taken for
    what their names say even where the columns themselves are the source's own.
    """
    known = COLUMNS.get(name) or _by_rule(name, units, columns)
    return known._replace(unit=units.get(name, known.unit))


def _by_rule(name: str, units: Mapping[str, str], columns: Collection[str]) -> Column:
    for pattern, unit, description in _RULES:
        if match := pattern.fullmatch(name):
            base = describe(match[1], units, columns)
            if base.description != UNKNOWN or match[1] in columns:
                # What has no unit has no logarithm of it either.
                of_unit = unit.format(unit=base.unit) if base.unit else ""
                return Column(of_unit, description.format(name=match[1]))
    if match := re.fullmatch(r"consumption(_ae)?_([a-z]{3})", name):
        whom = "adult equivalent" if match[1] else "person"
        return Column(f"{match[2].upper()} per {whom} per day", f"Mean consumption per {whom}, in national currency")
    return Column("", UNKNOWN)


def _kind(values: pd.Series) -> str:
    if isinstance(values.dtype, gpd.array.GeometryDtype):
        return "point"
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    if pd.api.types.is_integer_dtype(values):
        return "integer"
    if pd.api.types.is_float_dtype(values):
        return "number"
    return "date" if pd.api.types.is_datetime64_any_dtype(values) else "text"


def flat_values(values: pd.Series) -> pd.Series:
    """A column as flat files hold it: bool, int64, float64 (integers with missing values too) or text.

    Lists and mappings become JSON, anything else that is no number its text; missing values stay missing.
    """
    kind = _kind(values)
    if kind == "boolean" and not values.isna().any():
        return values.astype(bool)
    if kind == "integer" and not values.isna().any() and (values <= np.iinfo(np.int64).max).all():
        return values.astype("int64")
    if kind in ("integer", "number"):
        return values.astype("float64")
    return values.map(_as_text).astype("string")


def _as_text(value: Any) -> Any:
    if isinstance(value, list | tuple | dict | np.ndarray):
        return json.dumps(value.tolist() if isinstance(value, np.ndarray) else value, sort_keys=True)
    return None if pd.isna(value) else str(value)
