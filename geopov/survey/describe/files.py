"""What is in the files of a survey, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.describe import found as kinds
from geopov.survey.describe.found import Found, Variable
from geopov.survey.describe.kinds import recognise
from geopov.survey.describe.next_steps import next_step, unmatched
from geopov.survey.describe.tabular import open_tabular
from geopov.survey.files.archives import SourceFile, open_files

# Parts of a shapefile, which is described once.
PARTS = {".shx", ".dbf", ".prj", ".cpg", ".sbn", ".sbx", ".qix", ".sas7bcat"}


@dataclass(frozen=True)
class FileDescription:
    """What one file is and what is in it.

    Attributes
    ----------
    file : str
        From the source it was found in: ``RWHR61DT.ZIP/RWHR61FL.DTA``.
    source : str
        Path of the file on disk: of the zip, for one that lies in a zip.
    kind : str
        dhs_households, dhs_positions, dhs_wealth, dhs_other, lsms_households, lsms_locations, clusters, table,
        other (no table), or unreadable.
    what : str
        The same in words.
    survey, country, version, year
        Where known; ``version`` is the phase and release of a DHS file.
    rows, columns : int or None
        Counts; None where the file is no table.
    encoding, crs, datum : str or None
        Of its text; of its geometry; what its rows say of their datum.
    variables : tuple of Variable
        Those that geopov uses, there or not.
    adapters : tuple of str
        Shipped LSMS adapters that fit.
    facts, problems : tuple of str
        What it holds, and what is wrong or unusual.
    next_step : str
        The command to run, or what to get first; empty where there is nothing to do.
    """

    file: str
    source: str
    kind: str
    what: str
    survey: str | None = None
    country: str | None = None
    version: str | None = None
    year: int | None = None
    rows: int | None = None
    columns: int | None = None
    encoding: str | None = None
    crs: str | None = None
    datum: str | None = None
    variables: tuple[Variable, ...] = ()
    adapters: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    next_step: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


def describe_files(paths: Sequence[Path | str] | Path | str) -> list[FileDescription]:
    """What is in some folders, zips and files.

    A file that cannot be read is described as such, with the reason, and the others all the same.

    Parameters
    ----------
    paths : sequence of path
        As :func:`geopov.survey.files.archives.open_files` takes them.

    Returns
    -------
    list of FileDescription
        One for each file, the parts of a shapefile being one, in the order given.

    Raises
    ------
    SurveyError
        If a path is not there, or there is no file in any.
    """
    described: list[tuple[FileDescription, Found | None]] = []
    for source, file in opened(paths):
        described.append(_describe(file, source))
    if not described:
        given = [paths] if isinstance(paths, str | Path) else paths
        raise SurveyError(f"there is no file in {some(given)}; is it the right folder?")
    return [
        replace(
            each,
            problems=(*each.problems, *(unmatched(found, described) if found else ())),
            next_step=next_step(each, found, described),
        )
        for each, found in described
    ]


def opened(paths: Sequence[Path | str] | Path | str) -> Iterator[tuple[Path, SourceFile | SurveyError]]:
    """Each file of some sources while it is open, with where it lies on disk; in place of a damaged zip its error.

    The parts of a shapefile come as one file, and a file reached twice once.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise SurveyError(f"{path} is not there; check the path.")
    seen = set()
    for path in given:
        for source, file in _opened(path):
            inside = "" if isinstance(file, SurveyError) else file.origin.rpartition(source.name)[2]
            if (source.resolve(), inside) not in seen:
                seen.add((source.resolve(), inside))
                yield source, file


def _opened(path: Path) -> Iterator[tuple[Path, SourceFile | SurveyError]]:
    try:
        with open_files([path]) as files:
            for file in files:
                if file.suffix not in PARTS:
                    yield _on_disk(path, file), file
    except SurveyError as error:
        if not path.is_dir():
            yield path, error
            return
        # One bad zip must not hide the rest of its folder.
        for child in sorted(path.iterdir()):
            yield from _opened(child)


def _on_disk(path: Path, file: SourceFile) -> Path:
    if path.is_file():
        return path
    parts = file.origin.split("/")
    outer = next((n for n, part in enumerate(parts, 1) if part.lower().endswith(".zip")), len(parts))
    return path.joinpath(*parts[:outer])


def _describe(file: SourceFile | SurveyError, path: Path) -> tuple[FileDescription, Found | None]:
    source = str(path)
    try:
        if isinstance(file, SurveyError):
            raise file
        table = open_tabular(file)
        if table is None:
            return FileDescription(file.origin, source, kinds.OTHER, "no table"), None
        found = recognise(table, file.name)
    except SurveyError as error:
        name = path.name if isinstance(file, SurveyError) else file.origin
        return FileDescription(name, source, kinds.UNREADABLE, "cannot be read", problems=(str(error),)), None
    description = FileDescription(
        file=file.origin,
        source=source,
        kind=found.kind,
        what=found.what,
        survey=found.survey,
        country=found.country,
        version=found.version,
        year=found.year,
        rows=table.n_rows,
        columns=len(table.columns),
        encoding=table.encoding,
        crs=table.crs,
        datum=found.datum,
        variables=found.variables,
        adapters=found.adapters,
        facts=tuple(found.facts),
        problems=(*found.problems, *_wanting(found), *table.notes),
    )
    return description, found


def _wanting(found: Found) -> list[str]:
    absent = [variable for variable in found.variables if variable.column is None and variable.required]
    empty = [variable for variable in found.variables if variable.missing == 1]
    return [f"no column {each.name} ({each.label})" for each in absent] + [
        f"{each.name} ({each.label}) is empty" for each in empty
    ]
