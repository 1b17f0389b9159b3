"""What is really on disk, held against what the catalogue says about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from geopov._validation import sha256_of
from geopov.catalog.models import SourceRecord
from geopov.catalog.uris import CloudUri, LocalUri, Uri
from geopov.grid import as_crs

__all__ = ["FileStatus", "State", "same_crs", "verify_source"]

State = Literal["ok", "not hashed", "not fetched", "in place", "missing", "wrong sha256", "wrong header"]


@dataclass(frozen=True)
class FileStatus:
    """The state of one file of a source.

    Attributes
    ----------
    source : str
        Name of the source.
    uri : str
        As the catalogue has it.
    state : str
        ``ok``; ``not hashed`` (there, but the catalogue has no sha256 for it); ``not fetched`` (not in the cache);
        ``in place`` (a cloud object, not looked at); ``missing``, ``wrong sha256`` or ``wrong header``.
    detail : str
        What was found and what was expected, where something is wrong.
    """

    source: str
    uri: str
    state: State
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the file contradicts the catalogue."""
        return self.state in {"missing", "wrong sha256", "wrong header"}


def verify_source(name: str, record: SourceRecord, located: Sequence[tuple[Uri, str | None, Path]]) -> list[FileStatus]:
    """Check presence, sha256 and, of rasters, CRS, nodata and number of bands.

    Parameters
    ----------
    name : str
        Of the source.
    record : SourceRecord
        What the catalogue says.
    located : sequence of (Uri, str or None, Path)
        URI, sha256 and path of each file.

    Returns
    -------
    list of FileStatus
        One for each file. Only bytes on this machine are looked at; the network is not touched.
    """
    statuses = [_verify_bytes(name, *file) for file in located]
    sound = all(status.state in {"ok", "not hashed"} for status in statuses)
    if record.kind == "raster" and sound:
        problems = _header_problems(record, [path for _, _, path in located])
        statuses = [
            FileStatus(name, status.uri, "wrong header", problem) if problem else status
            for status, problem in zip(statuses, problems, strict=True)
        ]
    return statuses


def same_crs(a: object, b: object) -> bool:
    """Whether two CRSs place a coordinate at the same point, however they are spelled."""
    first, second = as_crs(a), as_crs(b)
    # GDAL's WKT fixes the axis order to x, y and names methods its own way; neither moves a pixel.
    return first.equals(second, ignore_axis_order=True) or (
        first.to_authority() is not None and first.to_authority() == second.to_authority()
    )


def _verify_bytes(name: str, uri: Uri, sha256: str | None, path: Path) -> FileStatus:
    if isinstance(uri, CloudUri):
        return FileStatus(name, uri.text, "in place")
    if not path.is_file():
        if isinstance(uri, LocalUri):
            return FileStatus(name, uri.text, "missing", f"there is no file {path}")
        return FileStatus(name, uri.text, "not fetched")
    if sha256 is None:
        return FileStatus(name, uri.text, "not hashed")
    got = sha256_of(path)
    if got != sha256:
        remedy = "restore it" if isinstance(uri, LocalUri) else f"geopov catalog fetch {name} replaces it"
        return FileStatus(name, uri.text, "wrong sha256", f"{path} has {got}, expected {sha256}; {remedy}")
    return FileStatus(name, uri.text, "ok")


def _header_problems(record: SourceRecord, paths: Sequence[Path]) -> list[str]:
    """For each file what its header contradicts, empty where nothing."""
    problems: list[str] = []
    tagged: list[list[float | None]] = []
    for position, path in enumerate(paths):
        try:
            with rasterio.open(path) as dataset:
                problems.append(_crs_problem(record, dataset.crs, is_first=position == 0))
                # An alpha band says which pixels are valid; it is no data.
                pairs = zip(dataset.nodatavals, dataset.colorinterp, strict=True)
                tagged.append([value for value, meaning in pairs if meaning != ColorInterp.alpha])
        except RasterioError as error:
            problems.append(f"{path} cannot be opened as a raster: {error}")
    if any(problems):
        return problems
    n_bands, declared = sum(map(len, tagged)), len(record.bands or ())
    if n_bands != declared:
        return [*problems[:-1], f"the files have {n_bands} bands together, the catalogue names {declared}"]
    nodata = record.nodata if isinstance(record.nodata, tuple) else (record.nodata,)
    expected = iter(nodata * declared if len(nodata) == 1 else nodata)
    return ["; ".join(_nodata_problems(values, expected)) for values in tagged]


def _crs_problem(record: SourceRecord, crs: object, *, is_first: bool) -> str:
    if crs is None:
        return "the file has no CRS"
    # A scene may stack files of several CRSs; its own is that of the first.
    if is_first and record.crs is not None and not same_crs(crs, record.crs):
        return f"the file's CRS is {as_crs(crs).name}, the catalogue says {as_crs(record.crs).name} ({record.crs})"
    return ""


def _nodata_problems(tagged: Iterable[float | None], expected: Iterator[float | None]) -> Iterator[str]:
    for value in tagged:
        declared = next(expected)
        # A file without a tag contradicts nothing: that is when the catalogue's value is needed.
        if value is not None and (declared is None or not _same_number(value, declared)):
            said = "none" if declared is None else repr(declared)
            yield f"the file's nodata is {value!r}, the catalogue says {said}"


def _same_number(a: float, b: float) -> bool:
    # No tolerance beyond float32's own rounding: a value that is nearly the missing value masks nothing.
    return (math.isnan(a) and math.isnan(b)) or a == b or np.float32(a) == np.float32(b)
