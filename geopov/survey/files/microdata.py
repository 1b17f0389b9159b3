"""Microdata of Stata, SPSS and SAS: what is in a file without reading it, and some of its columns piece by piece.

A household recode has thousands of columns and a gigabyte; a study needs fifty of them. Codes stay codes: the labels
are beside them, so that the caller decides what a code means.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat

from geopov._validation import some
from geopov.errors import SurveyError

_READERS: dict[str, Callable[..., tuple[pd.DataFrame, Any]]] = {
    ".dta": pyreadstat.read_dta,
    ".sav": pyreadstat.read_sav,
    ".sas7bdat": pyreadstat.read_sas7bdat,
}
SUFFIXES = tuple(_READERS)
# What pyreadstat raises on damaged files; its own two are among many.
_UNREADABLE = (
    *(pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError, TypeError, KeyError, OSError),
    *(OverflowError, MemoryError),
)

# Every byte is a character of it, so that text is read without loss whatever it is in, and decoded here.
_BYTES = "ISO-8859-1"
# What a chunk may hold: pyreadstat keeps about this much for a value of any kind while it reads.
_CHUNK_BYTES, _VALUE_BYTES = 128 * 2**20, 64
# A chunk opens the file anew and, in SPSS and SAS, reads up to its first row: few rows a chunk would take for ever.
_FEWEST_ROWS = 1000

# Day 0 of each program, and which of its display formats say a column is a date, in which unit.
_DATES: dict[str, tuple[str, dict[str, str]]] = {
    ".dta": ("1960-01-01", {r"%-?t?d": "D", r"%-?tc": "ms", r"%-?tm": "M", r"%-?tq": "Q"}),
    ".sav": ("1582-10-14", {r"[AEJS]?DATE\d|DATETIME|YMDHMS": "s"}),
    ".sas7bdat": (
        "1960-01-01",
        {r"DATETIME|E8601DT": "s", r"(WEEK|WORD|NLD)?DATE(?!AMPM)|DDMMYY|MMDDYY|YYMMDD|JULIAN|E8601DA": "D"},
    ),
}


@dataclass(frozen=True)
class _Column:
    """What reading a column takes."""

    raw: str
    """Its name as pyreadstat has it when text is read as bytes."""
    kind: str
    """Its storage type in ReadStat's terms: string, int8, int16, int32, float or double."""
    format: str
    """Its display format, which says whether it is a date."""


@dataclass(frozen=True)
class Microdata:
    """A file of microdata: its columns and their labels, with the rows still on disk."""

    path: Path
    columns: tuple[str, ...]
    """Names in the file's order and spelling."""
    labels: Mapping[str, str]
    """Column to what it is, where the file says so."""
    value_labels: Mapping[str, Mapping[Any, str]]
    """Column to code to meaning; codes are numbers, or text in a column of text."""
    n_rows: int
    encoding: str
    """That its labels are in; text is decoded value by value, since files mix encodings."""
    notes: tuple[str, ...] = ()
    """What a person must know, such as a catalogue of labels that could not be read."""
    _columns: Mapping[str, _Column] = field(default_factory=dict, repr=False, compare=False)
    _encodings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def find(self, name: str) -> str | None:
        """The column of that name in the file's spelling, whatever its case; None if there is none.

        Raises
        ------
        SurveyError
            If several columns differ from ``name`` only by case and none is equal.
        """
        if name in self._columns:
            return name
        same = [column for column in self.columns if column.lower() == name.lower()]
        if len(same) > 1:
            raise SurveyError(
                f"{self.path.name} has {some(same)}, which differ only by case; name one of them exactly."
            )
        return same[0] if same else None

    def chunks(self, columns: Sequence[str], *, rows: int | None = None) -> Iterator[pd.DataFrame]:
        """Some columns, a number of rows at a time, so that memory depends on neither the file's rows nor its columns.

        Parameters
        ----------
        columns : sequence of str
            In any case; the tables have them as they are named here, in this order.
        rows : int, optional
            Rows at a time; default as many as fit in about 128 MiB while they are read.

        Yields
        ------
        DataFrame
            Indexed by the row in the file, from 0. Numbers are float64 and missing ones NaN, with Stata's ``.a`` to
            ``.z`` and SPSS's user-missing values; dates datetime64, NaT outside the years 1 to 9999; text str.

        Raises
        ------
        SurveyError
            If a column is not in the file, or the file is cut short or damaged.
        """
        names = {name: self._column(name) for name in dict.fromkeys(columns)}
        if not names:
            raise SurveyError(f"no column of {self.path.name} is named; it has {some(self.columns, 20)}.")
        if rows is None:
            rows = max(_FEWEST_ROWS, _CHUNK_BYTES // (_VALUE_BYTES * len(names)))
        elif rows < 1:
            raise SurveyError(f"rows is {rows}; expected at least one row a chunk.")
        raw = list(dict.fromkeys(self._columns[column].raw for column in names.values()))
        for first in range(0, self.n_rows, rows):
            expected = min(rows, self.n_rows - first)
            values, _ = _call(self.path, usecols=raw, row_offset=first, row_limit=expected, encoding=_BYTES)
            if len(values) != expected:
                raise SurveyError(
                    f"{self.path.name} ends after {first + len(values)} of the {self.n_rows} rows it declares; "
                    "it is cut short: copy or download it again."
                )
            index = pd.RangeIndex(first, first + expected)
            yield pd.DataFrame(
                {name: self._typed(values[self._columns[column].raw], column) for name, column in names.items()}
            ).set_axis(index)

    def read(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Some columns, or all, of all rows; as :meth:`chunks`, but whole numbers int64 where none is missing."""
        wanted = list(dict.fromkeys(self.columns if columns is None else columns))
        pieces = list(self.chunks(wanted)) if wanted else []
        if not pieces:
            return pd.DataFrame({name: pd.Series(dtype=object) for name in wanted})
        table = pd.concat(pieces) if len(pieces) > 1 else pieces[0]
        whole = [
            name
            for name in wanted
            if self._columns[self._column(name)].kind.startswith("int")
            and pd.api.types.is_float_dtype(table[name])
            and not table[name].isna().any()
        ]
        return table.astype(dict.fromkeys(whole, "int64"))

    def _column(self, name: str) -> str:
        column = self.find(name)
        if column is None:
            raise SurveyError(f"{self.path.name} has no column {name!r}; it has {some(self.columns, 20)}.")
        return column

    def _typed(self, values: pd.Series, column: str) -> pd.Series:
        if self._columns[column].kind == "string":
            known: dict[Hashable, str] = {text: _decode(text, self._encodings) for text in values.dropna().unique()}
            return values.map(known) if any(text != same for text, same in known.items()) else values
        number = values.astype("float64")
        day_zero, units = _DATES[self.path.suffix.lower()]
        unit = next(
            (u for form, u in units.items() if re.match(form, self._columns[column].format, re.IGNORECASE)), None
        )
        return number if unit is None else _as_dates(number, day_zero, unit)


def open_microdata(path: Path | str) -> Microdata:
    """What a .dta, .sav or .sas7bdat has, without its rows.

    Text is taken for UTF-8 where it is that, for the encoding the file declares otherwise, then for Windows-1252:
    files converted from one program to another often declare the wrong one. SAS keeps value labels in a catalogue: a
    .sas7bcat of the same name beside the file is read, or else the only one in its folder.

    Raises
    ------
    SurveyError
        If the file is absent, of another kind or damaged.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise SurveyError(f"{path.name} is no microdata that can be read; expected one of {', '.join(_READERS)}.")
    if not path.is_file():
        raise SurveyError(f"{path} is not there; check the path.")
    _, meta = _call(path, metadataonly=True, encoding=_BYTES)
    sets, notes = _value_label_sets(path, meta)
    texts = [*meta.column_names, *filter(None, meta.column_labels)]
    texts += [text for codes in sets.values() for text in codes.values()]
    encodings, encoding, doubt = _encodings_of(path, texts)
    names = [_decode(name, encodings) for name in meta.column_names]
    labels = {name: _decode(text, encodings) for name, text in zip(names, meta.column_labels, strict=True) if text}
    columns = {
        name: _Column(raw, meta.readstat_variable_types[raw], meta.original_variable_types.get(raw) or "")
        for name, raw in zip(names, meta.column_names, strict=True)
    }
    decoded = {key: {code: _decode(text, encodings) for code, text in codes.items()} for key, codes in sets.items()}
    of_column = {name: decoded.get(meta.variable_to_label.get(column.raw), {}) for name, column in columns.items()}
    value_labels = {name: _own_codes(codes, columns[name].kind) for name, codes in of_column.items()}
    value_labels = {name: codes for name, codes in value_labels.items() if codes}
    n_rows = _count_rows(path, meta)
    return Microdata(path, tuple(names), labels, value_labels, n_rows, encoding, notes + doubt, columns, encodings)


def _call(path: Path, reader: Callable[..., Any] | None = None, **options: Any) -> tuple[pd.DataFrame, Any]:
    """One of pyreadstat's readers, its errors as ours."""
    read = reader or _READERS[path.suffix.lower()]
    if reader is None:
        # Its conversion fails on the whole file where one date is garbage.
        options["disable_datetime_conversion"] = True
    try:
        table, meta = read(str(path), **options)
    except _UNREADABLE as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SurveyError(f"{path.name} cannot be read as {path.suffix}: {detail}. Is it whole?") from error
    return table, meta


def _declared(path: Path) -> str | None:
    """The encoding a file says it is in, "" if it says nothing, None if its labels are not in it."""
    try:
        _, meta = _call(path, metadataonly=True)
        name = codecs.lookup(meta.file_encoding).name.upper() if meta.file_encoding else ""
    except (SurveyError, LookupError):
        return None
    # What calls itself Latin-1 is Windows-1252 (WHATWG Encoding Standard, 4.2): the same but for what controls use.
    return "CP1252" if name == "ISO8859-1" else name


def _decode(text: str, encodings: Sequence[str]) -> str:
    """Text read as bytes, in the first of some encodings that it is valid in."""
    if text.isascii():
        return text
    raw = text.encode(_BYTES)
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            # A field too short for its text ends within a character: the rest of it says that this is UTF-8.
            rest = raw[: error.start]
            if encoding == "UTF-8" and error.reason == "unexpected end of data" and not rest.isascii():
                return rest.decode(encoding)
    return text


def _encodings_of(path: Path, texts: Sequence[str]) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """The encodings to try on a file's text, the first that all its labels are in, and a note if it claims another."""
    declared = _declared(path)
    encodings = tuple(dict.fromkeys(["UTF-8", *([declared] if declared else []), "CP1252", "LATIN1"]))
    beyond_ascii = [text.encode(_BYTES) for text in texts if not text.isascii()]
    encoding = next(each for each in encodings if all(_is_in(raw, each) for raw in beyond_ascii))
    if declared is None or (declared not in ("", encoding) and beyond_ascii):
        claimed = f" ({declared})" if declared else ""
        return (
            encodings,
            encoding,
            (f"{path.name} has labels that are not in its encoding{claimed}; read as {encoding}.",),
        )
    return encodings, encoding, ()


def _is_in(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _value_label_sets(path: Path, meta: Any) -> tuple[dict[str, dict[Any, str]], tuple[str, ...]]:
    """The sets of value labels by name, still as bytes; SAS's from the catalogue beside the file."""
    if path.suffix.lower() != ".sas7bdat":
        return meta.value_labels, ()
    beside = sorted(p for p in path.parent.iterdir() if p.suffix.lower() == ".sas7bcat")
    own = [p for p in beside if p.stem.lower() == path.stem.lower()] or beside
    if len(own) != 1:
        return {}, (f"{path.name} comes without value labels: {len(own)} catalogues (.sas7bcat) lie beside it.",)
    try:
        _, catalogue = _call(own[0], pyreadstat.read_sas7bcat, encoding=_BYTES)
    except SurveyError as error:
        return {}, (f"{path.name} comes without value labels: {error}",)
    return catalogue.value_labels, ()


def _own_codes(codes: Mapping[Any, str], kind: str) -> Mapping[Any, str]:
    """Without the labels of Stata's .a to .z, which are letters here and NaN among the values."""
    return codes if kind == "string" else {code: text for code, text in codes.items() if not isinstance(code, str)}


def _count_rows(path: Path, meta: Any) -> int:
    if meta.number_rows is not None and meta.number_rows >= 0:
        return int(meta.number_rows)
    # Some programs write .sav without the number of cases.
    if not meta.column_names:
        return 0
    first, _ = _call(path, usecols=meta.column_names[:1], encoding=_BYTES)
    return len(first)


def _as_dates(number: pd.Series, day_zero: str, unit: str) -> pd.Series:
    """Counts of a unit since day zero as datetime64[ms]."""
    if unit in ("M", "Q"):
        months = np.floor(number) * (3 if unit == "Q" else 1)
        sane = months.abs() < 12 * 8000
        since = months.where(sane, 0).astype("int64").to_numpy().astype("timedelta64[M]")
        dates = (np.datetime64(day_zero, "M") + since).astype("datetime64[ms]")
        return pd.Series(dates, index=number.index).where(sane)
    ms = number * {"D": 86_400_000, "s": 1000, "ms": 1}[unit]
    low, high = (np.datetime64(day, "ms") - np.datetime64(day_zero, "ms") for day in ("0001-01-01", "9999-12-31"))
    sane = ms.between(low.astype("int64"), high.astype("int64"))
    since = ms.where(sane, 0).round().astype("int64").to_numpy().astype("timedelta64[ms]")
    return pd.Series(np.datetime64(day_zero, "ms") + since, index=number.index).where(sane)
