"""The files of a household survey, read as its adapter says: one row a household, in the field's terms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyproj import Transformer
from pyproj.exceptions import CRSError

from geopov._validation import ID_COLUMN, check_lon_lat, check_unique, some
from geopov.errors import SurveyError
from geopov.grid import as_crs
from geopov.survey.areas.polygons import join_keys
from geopov.survey.files.tables import as_ids, as_keys, as_number, as_urban
from geopov.survey.lsms.adapter import Adapter, Key, Urban, read_adapter
from geopov.survey.lsms.distribution import find_files
from geopov.survey.lsms.files import Table, read_columns
from geopov.survey.lsms.prices import Divisor, Ppp, per_day


def read_lsms(
    adapter: str | Path | Adapter,
    *,
    households: Table | Sequence[Table],
    locations: Table | None = None,
    ppp: Ppp | None = None,
) -> pd.DataFrame:
    """Households of a survey with their consumption and, where it is published, their position.

    Every household stays in the table: one without a position (NaN, or 0, 0) still counts in a national estimate.

    Parameters
    ----------
    adapter : str, path or Adapter
        As :func:`geopov.survey.lsms.read_adapter` takes it.
    households : DataFrame or path, or a sequence of them
        The consumption aggregate, one row a household, and the files with the columns it lacks: ``adapter.files``. A
        zip or folder stands for those of its files that the adapter names.
    locations : DataFrame or path, optional
        The geovariables, rows of households or of clusters.
    ppp : Ppp, optional
        In place of the adapter's own.

    Returns
    -------
    DataFrame
        ``household_id`` and ``cluster_id`` as in the file, unique within the survey; ``survey``, ``country``, ``year``;
        ``urban``, ``region``, ``stratum``, ``psu`` where known; ``weight`` (of the household), ``household_size``,
        ``adult_equivalents``; ``consumption`` (PPP USD per person per day), or ``consumption_mwk`` and the like in
        national currency where no PPP is known; ``consumption_ae`` the same per adult equivalent; ``poverty_line``
        (``poverty_line_ae`` where it is one of adult equivalents) in the same unit; ``displacement_km``; ``lon``,
        ``lat`` in EPSG:4326. ``attrs``: ``measures["consumption"]`` with every step from the file's amount, ``units``,
        ``files``, ``notes``, ``dropped`` (empty).

    Raises
    ------
    SurveyError
        If a file is not the adapter's, a household stands twice, a value is no number, negative or impossible, or the
        households of one cluster lie at different places.
    """
    adapter = read_adapter(adapter)
    if ppp is not None:
        adapter = adapter.model_copy(update={"ppp": ppp})
    with find_files(adapter, households, locations) as (tables, places):
        raw = read_columns(adapter, tables, places)
    what = f"the households' file of {adapter.name}"
    table = pd.DataFrame(
        {"household_id": _ids(raw, adapter.household, what), ID_COLUMN: _ids(raw, adapter.cluster, what)}
    )
    check_unique(table["household_id"], what, SurveyError)
    table["survey"], table["country"] = adapter.survey, adapter.country
    table["year"] = _year(raw, adapter.year, what)
    if adapter.urban is not None:
        table["urban"] = _urban(raw, adapter.urban, what)
    for name, columns in (("region", adapter.region), ("stratum", adapter.stratum), ("psu", adapter.psu)):
        if columns is not None:
            table[name] = join_keys(raw, columns)
    numbers = {"weight": adapter.weight, "household_size": adapter.size, "adult_equivalents": adapter.adult_equivalents}
    for name, column in numbers.items():
        if column is not None:
            table[name] = _amount(raw[column], adapter, what)

    money, units = _money(raw, table, adapter, what)
    table = pd.concat([table, money], axis=1)
    rule = adapter.displaced
    if rule is not None:
        urban = table["urban"] if "urban" in table else pd.Series(True, index=table.index)
        table["displacement_km"] = np.where(urban, rule.urban_km, rule.rural_km)
        units["displacement_km"] = "km"
    table, notes = _position(raw, table, adapter, what)
    if adapter.prices == "nominal":
        notes.append("consumption is in nominal prices: what differs in price between places and months stays in it")
    if not adapter.checked:
        notes = [f"the adapter {adapter.name} is not marked as checked on the survey's real file", *notes]
    table.attrs = {
        "dropped": [],
        "files": raw.attrs["files"],
        "notes": [*notes, *raw.attrs["notes"]],
        "units": units,
        "measures": {"consumption": adapter.record()},
    }
    return table


def _money(raw: pd.DataFrame, table: pd.DataFrame, adapter: Adapter, what: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Consumption per person and per adult equivalent and the poverty line, and their units by column."""
    members = {"person": table["household_size"]}
    if "adult_equivalents" in table:
        members["adult_equivalent"] = table["adult_equivalents"]
    index = None if adapter.deflator is None else _amount(raw[adapter.deflator.column], adapter, what)
    amount = _amount(raw[adapter.consumption.column], adapter, what)
    divisors: list[Divisor] = ["person", "adult_equivalent"]
    money, units = {}, {}
    for divisor in divisors:
        if divisor in members:
            daily = adapter.daily(amount, divisor, members)
            name = adapter.column(divisor)
            money[name] = adapter.convert(daily, index, nominal=adapter.consumption.prices == "nominal")
            units[name] = adapter.unit(divisor)
    line = adapter.poverty_line
    if line is not None:
        of_line = _amount(raw[line.column], adapter, what) if line.column else pd.Series(line.value, index=raw.index)
        name = "poverty_line" if line.of == "person" else "poverty_line_ae"
        money[name] = adapter.convert(per_day(of_line, line.per), index, nominal=line.prices == "nominal")
        units[name] = adapter.unit(line.of)
    return pd.DataFrame(money, index=table.index), units


def _position(raw: pd.DataFrame, table: pd.DataFrame, adapter: Adapter, what: str) -> tuple[pd.DataFrame, list[str]]:
    """``table`` with ``lon`` and ``lat`` in EPSG:4326; a missing position stays NaN, one at (0, 0) stays there."""
    x, y = (as_number(raw[name], what) for name in ("lon", "lat"))
    absent = x.isna() | y.isna() | x.isin(adapter.missing) | y.isin(adapter.missing)
    lon, lat = x.mask(absent), y.mask(absent)
    placed = ~absent & ~((x == 0) & (y == 0))
    if adapter.coordinates is not None and placed.any():
        try:
            crs = as_crs(adapter.coordinates.crs)
        except CRSError as error:
            raise SurveyError(f"the adapter {adapter.name} has coordinates.crs {adapter.coordinates.crs!r}.") from error
        to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        lon[placed], lat[placed] = to_lonlat.transform(lon[placed].to_numpy(), lat[placed].to_numpy())
        check_lon_lat(
            lon[placed].to_numpy(), lat[placed].to_numpy(), table.loc[placed, "household_id"], error=SurveyError
        )
    table = table.assign(lon=lon, lat=lat)
    return _one_place(table, placed, adapter)


def _one_place(table: pd.DataFrame, placed: pd.Series, adapter: Adapter) -> tuple[pd.DataFrame, list[str]]:
    """Each cluster at one place: households elsewhere are a mistake, or in a panel people who moved."""
    here = table.loc[placed, [ID_COLUMN, "lon", "lat"]]
    counts = here.value_counts(sort=False).rename("n").reset_index()
    # The place of most households; of equals the westernmost, whatever the order of the rows.
    counts = counts.sort_values([ID_COLUMN, "n", "lon", "lat"], ascending=[True, False, True, True])
    home = counts.drop_duplicates(ID_COLUMN).set_index(ID_COLUMN)
    many = counts.loc[counts[ID_COLUMN].duplicated(), ID_COLUMN].unique()
    if not len(many):
        return table, []
    if adapter.movers == "error":
        raise SurveyError(
            f"{len(many)} clusters of {adapter.name} have households at more than one place ({some(many)}); expected "
            "the one position that surveys publish for a cluster. Correct the locations; in a panel whose households "
            "moved, set movers: unplaced in the adapter."
        )
    of_home = home[["lon", "lat"]].reindex(here[ID_COLUMN]).to_numpy()
    moved = here.index[(here[["lon", "lat"]].to_numpy() != of_home).any(axis=1)]
    table.loc[moved, ["lon", "lat"]] = np.nan
    return table, [
        f"{len(moved)} households of {len(many)} clusters live elsewhere than most of their cluster, as movers of a "
        "panel do: they have no position here and count in national estimates only"
    ]


def _ids(raw: pd.DataFrame, columns: Key, what: str) -> pd.Series:
    parts = [as_ids(raw[column], what) for column in columns]
    ids = parts[0]
    for part in parts[1:]:
        ids = ids + "-" + part
    return ids


def _amount(values: pd.Series, adapter: Adapter, what: str) -> pd.Series:
    """A column of numbers that cannot be negative, with the adapter's missing codes as NaN."""
    number = as_number(values, what)
    number = number.mask(number.isin(adapter.missing))
    negative = number < 0
    if negative.any():
        raise SurveyError(
            f"{what} has {int(negative.sum())} negative values in {values.name!r} "
            f"({some(sorted(number[negative].unique()))}). If they mean no answer, list them under missing."
        )
    return number


def _year(raw: pd.DataFrame, year: int | str, what: str) -> pd.Series:
    if isinstance(year, int):
        return pd.Series(year, index=raw.index, dtype="int64")
    number = as_number(raw[year], what)
    wrong = ~((number % 1 == 0) & number.between(1900, 2100))
    if wrong.any():
        raise SurveyError(
            f"{what} has {int(wrong.sum())} values of {year!r} that are no year of four digits "
            f"({some(raw.loc[wrong, year].unique())}). Write the survey's year in the adapter instead."
        )
    return number.astype("int64")


def _urban(raw: pd.DataFrame, urban: str | Urban, what: str) -> pd.Series:
    if isinstance(urban, str):
        return as_urban(raw[urban], what)
    kinds = as_keys(raw[urban.column])
    if kinds.isna().any():
        raise SurveyError(f"{what} has {int(kinds.isna().sum())} rows without a value of {urban.column!r}; fill them.")
    wanted = as_keys(pd.Series(urban.values, dtype=object))
    if not kinds.isin(wanted).any():
        raise SurveyError(
            f"{what} has no {urban.column!r} of {some(urban.values)}, which the adapter says are urban; "
            f"its values are {some(sorted(kinds.unique()), 10)}."
        )
    return kinds.isin(wanted)
