"""Files with the same bytes each time: .dta, .sav, shapefiles and zips without the clock in them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyreadstat

from geopov._validation import atomic_path

_STAMP = datetime(2000, 1, 1)
Labels = Mapping[str, Mapping[int, str]]


def write_dta(
    table: pd.DataFrame, path: Path, *, labels: Mapping[str, str], value_labels: Labels, encoding: str, title: str
) -> None:
    """Stata 13 and older keep 8-bit text and do not say of which code page; Stata 14 (format 118) is UTF-8."""
    utf8 = encoding.lower().replace("-", "") == "utf8"

    def spelt(text: str) -> str:
        # pandas writes latin-1 below format 118: so mapped, the bytes in the file are those of the code page.
        return text if utf8 else text.encode(encoding).decode("latin-1")

    texts = [column for column in table.columns if not pd.api.types.is_numeric_dtype(table[column])]
    with atomic_path(path) as partial:
        table.assign(**{column: table[column].map(spelt) for column in texts}).to_stata(
            partial,
            write_index=False,
            time_stamp=_STAMP,
            data_label=spelt(title),
            variable_labels={name: spelt(text)[:80] for name, text in labels.items() if name in table.columns},
            value_labels={
                name: {code: spelt(text) for code, text in codes.items()}
                for name, codes in value_labels.items()
                if name in table.columns
            },
            version=118 if utf8 else 114,
        )


def write_sav(table: pd.DataFrame, path: Path, *, labels: Mapping[str, str], value_labels: Labels, title: str) -> None:
    """SPSS, in UTF-8, names in upper case as DHS writes them."""
    upper = table.rename(columns=str.upper)
    # pyreadstat takes no masked integers.
    upper = upper.astype({column: float for column in upper if isinstance(upper[column].dtype, pd.Int32Dtype)})
    with atomic_path(path) as partial:
        pyreadstat.write_sav(
            upper,
            str(partial),
            file_label=title,
            column_labels={name.upper(): text for name, text in labels.items() if name in table.columns},
            variable_value_labels={
                name.upper(): dict[int | float, str](codes.items())
                for name, codes in value_labels.items()
                if name in table.columns
            },
        )
        with partial.open("r+b") as stream:
            # creation_date and creation_time of the header record (PSPP, System File Format).
            stream.seek(92)
            stream.write(_STAMP.strftime("%d %b %y%H:%M:%S").encode("ascii"))


def write_shapefile(points: gpd.GeoDataFrame, path: Path, *, encoding: str) -> list[Path]:
    """The .shp and its siblings; returned in a fixed order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    points.to_file(path, driver="ESRI Shapefile", encoding=encoding, DBF_DATE_LAST_UPDATE=f"{_STAMP:%Y-%m-%d}")
    return [path.with_suffix(suffix) for suffix in (".shp", ".shx", ".dbf", ".prj", ".cpg")]


def pack(path: Path, members: Sequence[Path]) -> Path:
    """The files in one zip, whose path is returned; the files themselves go."""
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for member in members:
            entry = zipfile.ZipInfo(member.name, date_time=_STAMP.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, member.read_bytes())
    for member in members:
        member.unlink()
    return path
