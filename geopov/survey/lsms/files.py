"""The files of a survey as one table of the columns its adapter names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from geopov._validation import check_columns, some
from geopov.errors import SurveyError
from geopov.survey.areas.polygons import join_keys
from geopov.survey.files.tables import filter_rows, read_table
from geopov.survey.lsms.adapter import Adapter, Key

Table = pd.DataFrame | Path | str
_KEY = "_key"


def read_columns(adapter: Adapter, households: Table | Sequence[Table], locations: Table | None) -> pd.DataFrame:
    """The columns an adapter names, under the names it has for them, one row a row of the first households' file.

    What that file lacks is looked for in the other households' files and then in the locations'; coordinates are taken
    from the locations' file where one is given. Names that differ in case only are the same: releases differ in that.

    Returns
    -------
    DataFrame
        ``adapter.columns``, then ``lon`` and ``lat`` as in the file, NaN where no file has them; ``attrs["files"]`` and
        ``attrs["notes"]``.

    Raises
    ------
    SurveyError
        If no file has a column, a file names no household of the first, or its rows of one household or place disagree.
    """
    given = [households] if isinstance(households, pd.DataFrame | Path | str) else list(households)
    if not given:
        raise SurveyError(f"no households' file is given; the adapter {adapter.name} needs {_expected(adapter)}.")
    main, *others = [_open(each, adapter) for each in given]
    used = [
        {"file": _name(each), "role": "households", "rows": len(t)}
        for each, t in zip(given, [main, *others], strict=True)
    ]
    place = None if locations is None else _open(locations, adapter)
    if place is not None and adapter.coordinates is None:
        raise SurveyError(f"the adapter {adapter.name} names no coordinates: add them, or give no locations.")
    _check_found(adapter, [main, *others, *([] if place is None else [place])])

    lonlat = [adapter.coordinates.lon, adapter.coordinates.lat] if adapter.coordinates else []
    left, right = _join(adapter)
    for table, source in zip(others, given[1:], strict=True):
        key = adapter.household if set(adapter.household) <= set(table.columns) else right
        wanted = [c for c in dict.fromkeys([*adapter.columns, *left, *lonlat]) if c in table.columns]
        main = _add(main, table, wanted, adapter.household, key, f"{_name(source)}, read as {adapter.name},")
    if place is not None and locations is not None:
        used.append({"file": _name(locations), "role": "locations", "rows": len(place)})
        what = f"{_name(locations)}, read as the locations of {adapter.name},"
        check_columns(place, lonlat, what, SurveyError)
        main = main.drop(columns=lonlat, errors="ignore")
        wanted = [*lonlat, *(c for c in adapter.columns if c not in main.columns)]
        main = _add(main, place, wanted, left, right, what)
    table = filter_rows(main, adapter.where, f"the households of {adapter.name}") if adapter.where else main
    there = [column for column in lonlat if column in table.columns]
    if len(there) == 1:
        raise SurveyError(f"the files of {adapter.name} have {there[0]!r} only, of {' and '.join(map(repr, lonlat))}.")
    position = table[there].set_axis(["lon", "lat"][: len(there)], axis=1).reindex(columns=["lon", "lat"])
    found = pd.concat([table[adapter.columns], position], axis=1).reset_index(drop=True)
    why = "no locations were given" if lonlat else "the adapter names no coordinates"
    found.attrs = {"files": used, "notes": [] if there else [f"no household has a position: {why}"]}
    return found


def _open(source: Table, adapter: Adapter) -> pd.DataFrame:
    """A file with the columns the adapter names spelt as there."""
    table = source if isinstance(source, pd.DataFrame) else read_table(source)
    folded: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        folded.setdefault(column.casefold(), []).append(column)
    spelling = {}
    for name in adapter.every_column:
        alike = folded.get(name.casefold(), [])
        if name not in alike and len(alike) == 1:
            spelling[alike[0]] = name
    return pd.DataFrame(table).rename(columns=spelling).reset_index(drop=True)


def _check_found(adapter: Adapter, tables: Sequence[pd.DataFrame]) -> None:
    have = list(dict.fromkeys(str(column) for table in tables for column in table.columns))
    missing = [column for column in adapter.columns if column not in have]
    first = [column for column in adapter.household if column not in tables[0].columns]
    if missing or first:
        raise SurveyError(
            f"the adapter {adapter.name} needs {some(map(repr, missing or first), 20)}, which "
            f"{'no file' if missing else 'the first file'} has; there are {some(have, 30)}. "
            f"It reads {_expected(adapter)}. Is a file missing, or of another survey?"
        )


def _join(adapter: Adapter) -> tuple[Key, Key]:
    """Columns of the households and of the locations that belong together."""
    return (adapter.join.households, adapter.join.locations) if adapter.join else (adapter.household, adapter.household)


def _add(
    main: pd.DataFrame, other: pd.DataFrame, wanted: Sequence[str], left: Key, right: Key, what: str
) -> pd.DataFrame:
    """``main`` with those of the columns ``wanted`` of ``other`` that it lacks."""
    check_columns(main, left, "the households", SurveyError)
    check_columns(other, right, what, SurveyError)
    taken = [column for column in wanted if column not in main.columns]
    rows = other[taken].assign(**{_KEY: join_keys(other, right)}).dropna(subset=[_KEY]).drop_duplicates()
    repeated = rows.loc[rows[_KEY].duplicated(), _KEY].unique()
    if len(repeated):
        raise SurveyError(
            f"{what} has rows that disagree in {some(map(repr, taken))} for {len(repeated)} values of "
            f"{'-'.join(right)} ({some(repeated)}). Correct them, or join by a column that tells them apart."
        )
    keys = join_keys(main, left)
    if not keys.isin(rows[_KEY]).any():
        raise SurveyError(
            f"{what} has none of the households' {'-'.join(left)} ({some(keys.dropna())}): its {'-'.join(right)} are "
            f"{some(rows[_KEY])}. Is it of another survey?"
        )
    found = rows.set_index(_KEY).reindex(keys)
    return main.assign(**{column: found[column].to_numpy() for column in taken})


def _expected(adapter: Adapter) -> str:
    return some(adapter.files.households, 9) if adapter.files else f"the consumption aggregate of {adapter.survey}"


def _name(source: Table) -> str:
    return "a table" if isinstance(source, pd.DataFrame) else Path(source).name
