"""Tables as statistics offices ship them: read whole, and their columns turned into ids, numbers and booleans."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.files.microdata import open_microdata

# At most 15 digits: what a float holds exactly, and an identifier of more must not be rounded.
_PLAIN_NUMBER = r"-?(0|[1-9]\d{0,14})(\.\d{0,15})?([eE][+-]?\d{1,3})?"


def read_table(path: Path | str) -> pd.DataFrame:
    """A table from .parquet, .csv, .dta (Stata), .sav (SPSS), .sas7bdat (SAS), .gpkg, .geojson or .shp.

    A GeoDataFrame where the file has geometry. A CSV column of plain numbers becomes numbers, but one with leading
    zeros is a column of codes and stays text. Value labels of Stata, SPSS and SAS are not applied: codes stay codes.

    Raises
    ------
    SurveyError
        If the file is absent, of another kind, damaged or empty.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SurveyError(f"{path.name} is no table that can be read; expected one of {', '.join(_READERS)}.")
    if not path.is_file():
        raise SurveyError(f"{path} is not there; check the path.")
    try:
        table = reader(path)
    except SurveyError:
        raise
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        # The readers' own errors are all among these: ArrowInvalid, DataSourceError, ParserError, struct errors.
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SurveyError(f"{path.name} cannot be read as {path.suffix}: {detail}. Is it whole?") from error
    if len(table) == 0:
        raise SurveyError(f"{path.name} has no rows.")
    return table


def as_ids(values: pd.Series, what: str) -> pd.Series:
    """Identifiers as str: ``1001.0`` and ``1001`` become ``"1001"``; text is stripped.

    Raises
    ------
    SurveyError
        If one is missing or empty.
    """
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    text = values.astype("string").str.strip()
    missing = text.isna() | (text == "")
    if missing.any():
        raise SurveyError(
            f"{int(missing.sum())} of {len(values)} rows of {what} have no identifier in {values.name!r} "
            f"(the first is row {int(np.flatnonzero(missing)[0])}). Fill or remove them."
        )
    return text.astype(object)


def as_keys(values: pd.Series) -> pd.Series:
    """Codes that two tables spell differently, made equal: ``7``, ``7.0``, ``"07"`` and ``"७"`` become ``"7"``.

    Anything that is no whole number is only stripped; missing values stay missing.
    """

    def key(value: object) -> str | None:
        if value is None or value is pd.NA or value != value:
            return None
        text = unicodedata.normalize("NFKC", str(value)).strip().removesuffix(".0")
        return str(int(text)) if text.isdecimal() else text

    return values.map(key)


def as_number(values: pd.Series, what: str) -> pd.Series:
    """A column as float64, missing values as NaN.

    Raises
    ------
    SurveyError
        If a value is neither a number nor missing.
    """
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        known = pd.Series(values.to_numpy(dtype=float, na_value=np.nan), index=values.index, name=values.name)
        return known.where(np.isfinite(known))
    text_missing = values.isna() | values.astype("string").str.strip().isin(["", "NA", "NaN", "nan", "."]).fillna(False)
    number = pd.to_numeric(values.where(~text_missing), errors="coerce").astype(float)
    bad = number.isna() & ~text_missing
    if bad.any():
        raise SurveyError(
            f"{what} has {int(bad.sum())} values in {values.name!r} that are no number "
            f"({some(map(repr, values[bad].unique()))}). Recode them, or name another column."
        )
    return number.where(np.isfinite(number))


def as_urban(values: pd.Series, what: str) -> pd.Series:
    """A column as bool: true or 1 and ``U``/``urban`` are urban; false, 0, 2 and ``R``/``rural`` are rural.

    1 urban and 2 rural is the coding of DHS (v025) and LSMS files, 1 and 0 that of derived tables.

    Raises
    ------
    SurveyError
        If another value occurs.
    """
    codes = {
        "true": True,
        "1": True,
        "u": True,
        "urban": True,
        "false": False,
        "0": False,
        "2": False,
        "r": False,
        "rural": False,
    }
    folded = values.astype("string").str.strip().str.lower().str.removesuffix(".0")
    urban = folded.map(codes)
    if urban.isna().any():
        raise SurveyError(
            f"{what} has values in {values.name!r} that are neither urban nor rural "
            f"({some(map(repr, values[urban.isna()].unique()))}); expected U and R, 1 and 0, or 1 and 2."
        )
    return urban.astype(bool)


def filter_rows(table: pd.DataFrame, where: Mapping[str, Any], what: str) -> pd.DataFrame:
    """The rows whose columns hold the given value, or one of a list of values; compared as text where that is needed.

    Raises
    ------
    SurveyError
        If a column or a value does not occur.
    """
    chosen = pd.Series(True, index=table.index)
    for column, wanted in where.items():
        if column not in table.columns:
            raise SurveyError(f"{what} has no column {column!r} to filter by; it has {some(table.columns, 20)}.")
        have = as_keys(table[column])
        values = as_keys(pd.Series(list(wanted) if isinstance(wanted, list | tuple | set) else [wanted], dtype=object))
        if pd.api.types.is_bool_dtype(table[column]):
            have, values = have.str.lower(), values.str.lower()
        unknown = sorted(set(values.astype(str)) - set(have.dropna()))
        if unknown:
            raise SurveyError(
                f"{what} has no row with {column} = {some(map(repr, unknown))}; "
                f"its values are {some(map(repr, sorted(have.dropna().unique())), 10)}."
            )
        chosen &= have.isin(values)
    if not chosen.any():
        raise SurveyError(f"{what} has no row that meets all of {dict(where)}; relax the filter.")
    return table[chosen]


def _read_parquet(path: Path) -> pd.DataFrame:
    has_geometry = b"geo" in (pq.read_schema(path).metadata or {})
    if has_geometry:
        geo: pd.DataFrame = gpd.read_parquet(path)
        return geo
    return pd.read_parquet(path)


def _read_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str)
    for column in table.columns:
        values = table[column].dropna()
        if len(values) and values.str.fullmatch(_PLAIN_NUMBER).all():
            table[column] = pd.to_numeric(table[column])
    return table


def _read_geopackage(path: Path) -> pd.DataFrame:
    """The layer of clusters where there is one among several, as `write_clusters` makes it."""
    layers = gpd.list_layers(path)["name"].tolist()
    table: pd.DataFrame = gpd.read_file(path, layer="clusters" if "clusters" in layers else None)
    return table


def _read_microdata(path: Path) -> pd.DataFrame:
    return open_microdata(path).read()


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".dta": _read_microdata,
    ".sav": _read_microdata,
    ".sas7bdat": _read_microdata,
    ".gpkg": _read_geopackage,
    ".geojson": gpd.read_file,
    ".shp": gpd.read_file,
}
