"""The files an adapter names, wherever they lie in the zips and folders that a survey is handed out in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.files.archives import SourceFile, open_files
from geopov.survey.lsms.adapter import Adapter
from geopov.survey.lsms.files import Table

# What a household survey's tables come as; documents and programs lie beside them.
_DATA = (".dta", ".sav", ".sas7bdat", ".csv", ".parquet")


@contextmanager
def find_files(
    adapter: Adapter, households: Table | Sequence[Table], locations: Table | None
) -> Iterator[tuple[list[Table], Table | None]]:
    """Households' files and locations as tables that can be read: zips and folders give the files the adapter names.

    Without locations, those are looked for beside the households. Unpacked files last as long as the context.

    Raises
    ------
    SurveyError
        If a zip or folder has none, or several, of the files that the adapter names, or the adapter names none and
        there is not exactly one file of data.
    """
    given = [households] if isinstance(households, pd.DataFrame | Path | str) else list(households)
    names = adapter.files
    with ExitStack() as opened:
        tables: list[Table] = []
        for source in given:
            if isinstance(source, pd.DataFrame) or not _holds_files(source):
                tables.append(source)
                continue
            inside = _data(opened.enter_context(open_files(source)))
            wanted = [] if names is None else list(names.households)
            tables += _chosen(inside, wanted, adapter, source, role="households")
            if locations is None and names is not None and names.locations is not None:
                beside = [file for file in inside if _alike(file.name, names.locations)]
                locations = beside[0].path() if len(beside) == 1 else None
        if isinstance(locations, Path | str) and _holds_files(locations):
            inside = _data(opened.enter_context(open_files(locations)))
            wanted = [names.locations] if names is not None and names.locations is not None else []
            locations = _chosen(inside, wanted, adapter, locations, role="locations")[0]
        yield tables, locations


def _holds_files(source: Path | str) -> bool:
    return Path(source).is_dir() or Path(source).suffix.lower() == ".zip"


def _data(files: Sequence[SourceFile]) -> list[SourceFile]:
    return [file for file in files if file.suffix in _DATA]


def _chosen(
    inside: Sequence[SourceFile], wanted: Sequence[str], adapter: Adapter, source: Path | str, *, role: str
) -> list[Path]:
    found = [[file for file in inside if _alike(file.name, name)] for name in wanted] or [list(inside)]
    odd = [(name, files) for name, files in zip(wanted or ["file of data"], found, strict=True) if len(files) != 1]
    if odd:
        name, files = odd[0]
        have = some((file.origin for file in (files or inside)), 12) or "no file of data"
        raise SurveyError(
            f"{Path(source).name} has {len(files)} of {name}, which the adapter {adapter.name} expects for the "
            f"{role}; there are {have}. Name the file itself."
        )
    return [files[0].path() for files in found]


def _alike(name: str, wanted: str) -> bool:
    """Whether a file is the one that is wanted: releases differ in case and in the format they come in."""
    return Path(name).stem.casefold() == Path(wanted).stem.casefold()
