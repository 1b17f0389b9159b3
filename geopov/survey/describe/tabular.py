"""Any table of a survey behind one face: its columns and rows counted, and some columns read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
from pyproj import CRS
from pyproj.exceptions import CRSError

from geopov.errors import SurveyError
from geopov.survey.files.archives import SourceFile
from geopov.survey.files.microdata import SUFFIXES, open_microdata

_ROWS = 100_000
_VECTOR = (".shp", ".gpkg", ".geojson")
TABLES = (*SUFFIXES, ".parquet", ".csv", *_VECTOR)


@dataclass(frozen=True)
class Tabular:
    """A table with its rows still on disk."""

    columns: tuple[str, ...]
    n_rows: int
    encoding: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    value_labels: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    has_geometry: bool = False
    crs: str | None = None
    """Name of the CRS of the geometry; None where the file does not say."""
    notes: tuple[str, ...] = ()
    read: Callable[[Sequence[str]], Iterator[pd.DataFrame]] = field(default=lambda _: iter(()), repr=False)

    def find(self, name: str) -> str | None:
        """The column of that name in the file's spelling, whatever its case."""
        if name in self.columns:
            return name
        return next((column for column in self.columns if column.lower() == name.lower()), None)

    def chunks(self, names: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Those of ``names`` that the file has, as they are named here, some rows at a time."""
        there = {name: self.find(name) for name in dict.fromkeys(names)}
        spelled = list(dict.fromkeys(column for column in there.values() if column is not None))
        if spelled:
            for chunk in self.read(spelled):
                yield pd.DataFrame({name: chunk[column] for name, column in there.items() if column is not None})


def open_tabular(file: SourceFile) -> Tabular | None:
    """The table in a file; None if a file of its extension is none.

    Raises
    ------
    SurveyError
        If it is damaged.
    """
    if file.suffix not in TABLES:
        return None
    path = file.path()
    try:
        if file.suffix in SUFFIXES:
            return _microdata(path)
        return {".parquet": _parquet, ".csv": _csv}.get(file.suffix, _vector)(path)
    except (ValueError, OSError, RuntimeError, KeyError, UnicodeError) as error:
        if isinstance(error, SurveyError):
            raise
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SurveyError(f"{file.name} cannot be read as {file.suffix}: {detail}. Is it whole?") from error


def _microdata(path: Path) -> Tabular:
    data = open_microdata(path)
    return Tabular(
        data.columns,
        data.n_rows,
        data.encoding,
        data.labels,
        data.value_labels,
        notes=data.notes,
        read=data.chunks,
    )


def _parquet(path: Path) -> Tabular:
    with pq.ParquetFile(path) as opened:
        schema, n_rows = opened.schema_arrow, opened.metadata.num_rows
    geo = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    place = geo.get("primary_column")

    def read(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        with pq.ParquetFile(path) as again:
            for batch in again.iter_batches(_ROWS, columns=list(columns)):
                yield batch.to_pandas()

    crs = geo.get("columns", {}).get(place, {}).get("crs", "OGC:CRS84") if place else None
    return Tabular(
        tuple(name for name in schema.names if name != place),
        n_rows,
        "UTF-8",
        has_geometry=place is not None,
        crs=None if crs is None else CRS.from_user_input(crs).name,
        read=read,
    )


def _csv(path: Path) -> Tabular:
    for encoding in ("utf-8-sig", "cp1252", "latin-1"):
        try:
            columns = tuple(pd.read_csv(path, dtype=str, nrows=0, encoding=encoding).columns)
            n_rows = sum(len(c) for c in pd.read_csv(path, dtype=str, encoding=encoding, chunksize=_ROWS, usecols=[0]))
            break
        except UnicodeDecodeError:
            continue

    def read(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        yield from pd.read_csv(path, dtype=str, encoding=encoding, chunksize=_ROWS, usecols=list(columns))

    return Tabular(columns, n_rows, "UTF-8" if encoding == "utf-8-sig" else encoding.upper(), read=read)


def _vector(path: Path) -> Tabular:
    info = pyogrio.read_info(path)
    try:
        crs = None if info["crs"] is None else CRS(info["crs"]).name
    except CRSError:
        crs = None

    def read(columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        for first in range(0, info["features"], _ROWS):
            yield pyogrio.read_dataframe(
                path, columns=list(columns), read_geometry=False, skip_features=first, max_features=_ROWS
            )

    # GDAL recodes to UTF-8; what the file itself is in stands beside it.
    page = path.with_suffix(".cpg")
    encoding = page.read_text(encoding="ascii", errors="replace").strip() if page.is_file() else None
    return Tabular(
        tuple(str(name) for name in info["fields"]),
        int(info["features"]),
        encoding if path.suffix.lower() == ".shp" else "UTF-8",
        has_geometry=info["geometry_type"] is not None,
        crs=crs,
        read=read,
    )


def geometry_of(path: Path) -> gpd.GeoSeries:
    """The geometry alone of a file that has one."""
    if path.suffix.lower() == ".parquet":
        place = json.loads(pq.read_schema(path).metadata[b"geo"])["primary_column"]
        return gpd.read_parquet(path, columns=[place]).geometry
    return gpd.read_file(path, columns=[]).geometry
