"""What a catalogue's YAML may say, and every way it can be wrong, told at once."""

from __future__ import annotations

import contextlib
import difflib
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pyproj import CRS
from pyproj.exceptions import CRSError

from geopov.catalog.uris import CloudUri, HttpsUri, PypiUri, Uri, parse_uri
from geopov.errors import CatalogError, SourceNotFoundError

__all__ = ["Kind", "SourceRecord", "read_records"]

Kind = Literal["raster", "vector", "survey", "table", "weights"]

# Catalogues are written by hand; a larger file is something else.
_MAX_BYTES = 4 << 20
# Aliases let a few lines of YAML stand for gigabytes; what a message shows of a value is bounded.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# What a kind needs beyond the keys every source needs; a value may still be null where that is the truth.
_NEEDED: dict[str, tuple[str, ...]] = {"raster": ("crs", "nodata", "units", "bands"), "vector": ("crs",)}


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value if value is None else (value,)


def _as_nodata(value: object) -> float | tuple[float | None, ...] | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and value:
        return tuple(None if item is None else _as_number(item) for item in value)
    return None if value is None else _as_number(value)


def _as_number(value: object) -> float:
    # YAML 1.1 reads -3.4e38 (no sign in the exponent) as text.
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    raise ValueError(f"{_SHORT.repr(value)} does not fit; expected a number, null, or a list of them, one a band")


def _check_crs(text: str) -> str:
    try:
        CRS.from_user_input(text)
    except CRSError:
        raise ValueError(f"{text!r} is no CRS that PROJ knows; expected one such as EPSG:4326") from None
    return text


def _check_uri(text: str) -> str:
    parse_uri(text)
    return text


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{', '.join(map(repr, repeated))} stands more than once")
    return names


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
_Texts = Annotated[tuple[_Text, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class SourceRecord(BaseModel):
    """One entry of a catalogue.

    Attributes
    ----------
    uri : tuple of str
        One file, or the files of one scene in the order of their bands; see :mod:`geopov.catalog.uris`.
    kind : {"raster", "vector", "survey", "table", "weights"}
        What the files hold.
    sha256 : tuple of (str or None), optional
        One for each URI. Required where bytes are fetched, refused where they are read in place from a cloud.
    licence, citation : str
        The terms of use, and what to cite.
    year : int
        The year the data describe.
    crs : str, optional
        Of a raster or vector; where the files of a scene differ, of the first, which is the scene's reference.
    nodata : float or tuple of (float or None), optional
        The value that means "not measured", also where the file has no tag for it; null where there is none. One for
        all bands, or one a band.
    units : tuple of str, optional
        One for all bands, or one a band.
    bands : tuple of str, optional
        Names of the bands of all files together, in order.
    description : str
        What a reader should know before using it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    uri: Annotated[
        tuple[Annotated[_Text, AfterValidator(_check_uri)], ...],
        BeforeValidator(_as_tuple),
        Field(min_length=1),
        AfterValidator(_check_distinct),
    ]
    kind: Kind
    sha256: Annotated[tuple[_Sha256 | None, ...] | None, BeforeValidator(_as_tuple)] = None
    licence: _Text
    citation: _Text
    year: Annotated[int, Field(ge=1900, le=2100)]
    crs: Annotated[_Text, AfterValidator(_check_crs)] | None = None
    nodata: Annotated[float | tuple[float | None, ...] | None, PlainValidator(_as_nodata)] = None
    units: _Texts | None = None
    bands: Annotated[_Texts, AfterValidator(_check_distinct)] | None = None
    description: str = ""

    @property
    def parsed_uris(self) -> tuple[Uri, ...]:
        """The URIs, parsed."""
        return tuple(parse_uri(text) for text in self.uri)

    @property
    def checksums(self) -> tuple[str | None, ...]:
        """The sha256 of each URI, None where there is none."""
        return self.sha256 if self.sha256 is not None else (None,) * len(self.uri)


def read_records(path: Path) -> dict[str, SourceRecord]:
    """Read and check a catalogue's YAML.

    Parameters
    ----------
    path : Path
        A YAML mapping from source names to entries.

    Returns
    -------
    dict
        Name to record, in the order of the file.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    CatalogError
        If it is no YAML, or any entry is wrong; the message lists every problem.
    """
    text = _read_text(path)
    try:
        tree, raw = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogError(f"{path} is not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or not raw:
        raise CatalogError(f"{path} holds {_SHORT.repr(raw)}; expected a mapping from source names to entries.")
    problems = list(_repeated_keys(tree))
    records: dict[str, SourceRecord] = {}
    for name, entry in raw.items():
        record, found = _read_entry(name, entry)
        problems += [f"entry {name!r}: {problem}" for problem in found]
        if record is not None:
            records[str(name)] = record
    if problems:
        raise CatalogError(list_problems(path, problems))
    return records


def list_problems(path: Path, problems: list[str]) -> str:
    """One message for all that is wrong with a catalogue."""
    lines = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, start=1))
    return f"{path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:{lines}"


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise CatalogError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; expected a catalogue in YAML.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SourceNotFoundError(f"there is no catalogue {path}; write one, or name another file.") from None
    except UnicodeDecodeError:
        raise CatalogError(f"{path} is not UTF-8 text; expected a catalogue in YAML.") from None
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}.") from None


def _repeated_keys(tree: yaml.Node | None) -> Iterator[str]:
    # YAML keeps the last of two equal keys and says nothing. Two levels are all a catalogue has.
    if not isinstance(tree, yaml.MappingNode):
        return
    yield from (f"the name {problem}" for problem in _repeats(tree))
    for key, entry in tree.value:
        if isinstance(entry, yaml.MappingNode):
            yield from (f"entry {key.value!r}: the key {problem}" for problem in _repeats(entry))


def _repeats(node: yaml.MappingNode) -> Iterator[str]:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key.value, str):
            if key.value in lines:
                yield f"{key.value!r} stands twice, in lines {lines[key.value]} and {line}; keep one."
            lines[key.value] = line


def _read_entry(name: object, entry: object) -> tuple[SourceRecord | None, list[str]]:
    problems = []
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        problems.append("a name is made of letters, digits, '_', '-' and '.', and starts with a letter or digit.")
    if not isinstance(entry, dict):
        return None, [*problems, f"it is {_SHORT.repr(entry)}; expected keys such as uri, kind and licence."]
    problems += _missing_for_kind(entry)
    try:
        record = SourceRecord.model_validate(entry)
    except ValidationError as error:
        return None, problems + [_worded(detail) for detail in error.errors(include_url=False)]
    return record, problems + _count_problems(record)


def _missing_for_kind(entry: Mapping[object, Any]) -> list[str]:
    kind = entry.get("kind")
    needed = _NEEDED.get(kind, ()) if isinstance(kind, str) else ()
    return [
        f"the key {key!r} is missing; a {kind} needs it" + (" (null where there is none)." if key == "nodata" else ".")
        for key in needed
        if key not in entry or (entry[key] is None and key != "nodata")
    ]


def _worded(detail: ErrorDetails) -> str:
    """One pydantic error as a sentence: the key, what is wrong, what was given."""
    key = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] == "missing":
        return f"the key {key!r} is missing; every source needs it."
    if detail["type"] in {"extra_forbidden", "invalid_key"}:
        known = list(SourceRecord.model_fields)
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}."
        return f"the key {key!r} is unknown; {hint}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}".rstrip(".") + "."
    if detail["type"] in {"too_short", "string_too_short"}:
        return f"{key} is empty; expected at least one value."
    if key == "sha256":
        return f"sha256: {_SHORT.repr(detail['input'])} is not 64 hexadecimal digits."
    message = detail["msg"].removeprefix("Input should be ")
    return f"{key}: {_SHORT.repr(detail['input'])} does not fit; expected {message}."


def _count_problems(record: SourceRecord) -> list[str]:
    """Problems that only several keys together show."""
    problems = []
    if record.sha256 is not None and len(record.sha256) != len(record.uri):
        problems.append(f"sha256 lists {len(record.sha256)} values for {len(record.uri)} URIs; expected one each.")
    else:
        for uri, sha256 in zip(record.parsed_uris, record.checksums, strict=True):
            problems += _checksum_problems(uri, sha256)
    n_bands = len(record.bands or ())
    for key, values in (("units", record.units), ("nodata", record.nodata)):
        if record.kind == "raster" and isinstance(values, tuple) and len(values) not in {1, n_bands}:
            problems.append(f"{key} lists {len(values)} values for {n_bands} bands; expected one, or one a band.")
    return problems


def _checksum_problems(uri: Uri, sha256: str | None) -> Iterator[str]:
    if isinstance(uri, HttpsUri | PypiUri):
        if sha256 is None:
            yield f"sha256: {uri.text!r} is fetched, so it needs one."
        if uri.filename.lower().endswith(".shp"):
            yield f"uri: {uri.text!r} is one part of a shapefile; fetch a .zip of all parts, or a GeoPackage."
    if isinstance(uri, CloudUri) and sha256 is not None:
        yield f"sha256: {uri.text!r} is read in place and never as a whole, so no sha256 can be checked; leave it out."
