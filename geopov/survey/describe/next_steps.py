"""From what the files of a survey are to what to do with them: the command to run, or the file to get first."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from geopov._validation import ID_COLUMN, some
from geopov.survey.describe import found as kinds
from geopov.survey.describe.found import Found
from geopov.survey.files.microdata import SUFFIXES

if TYPE_CHECKING:
    from geopov.survey.describe.files import FileDescription

Described = list[tuple["FileDescription", Found | None]]


def unmatched(found: Found, described: Described) -> Iterator[str]:
    """Clusters of a household recode that the GPS data of its survey lack, and the other way round, in words."""
    others = {kinds.DHS_HOUSEHOLDS: kinds.DHS_POSITIONS, kinds.DHS_POSITIONS: kinds.DHS_HOUSEHOLDS}
    if found.kind not in others:
        return
    partners = _partners(found, others[found.kind], described)
    numbers = frozenset[int]().union(*(other.clusters for _, other in partners))
    lost = sorted(found.clusters - numbers)
    if partners and lost:
        names = some(sorted({each.file for each, _ in partners}))
        yield f"clusters that are not in {names}: {len(lost):,} ({some(lost)})"


def next_step(description: FileDescription, found: Found | None, described: Described) -> str:
    """What to do with a file, given the others it came with; empty where there is nothing to do."""
    if found is None:
        return ""
    if found.kind in (kinds.DHS_HOUSEHOLDS, kinds.DHS_POSITIONS):
        return _dhs(description, found, described)
    if found.kind == kinds.DHS_WEALTH:
        households = _partners(found, kinds.DHS_HOUSEHOLDS, described)
        wanting = "the wealth scores of a household recode that has none: give it with the HR and GE files"
        return _dhs(*households[0], described) if households else wanting
    if found.kind == kinds.DHS_OTHER:
        return "not used: clusters are made of the household recode (HR) and the GPS data (GE)"
    if found.kind in (kinds.LSMS_HOUSEHOLDS, kinds.LSMS_LOCATIONS):
        return _lsms(description, found, described)
    if found.kind == kinds.CLUSTERS or found.position is not None or description.crs is not None:
        lonlat = "" if found.position is None else f" --lon {found.position[0]} --lat {found.position[1]}"
        if found.kind == kinds.CLUSTERS:
            return ""
        named = any(variable.name == ID_COLUMN for variable in found.variables)
        name = "" if named else " --id COLUMN"
        return f"geopov survey points {_path(description)}{name}{lonlat} -o clusters.parquet"
    if Path(description.file).suffix.lower() not in SUFFIXES:
        return ""
    return (
        "if these are households of an LSMS survey: write an adapter of ten lines, and geopov survey lsms ADAPTER.yaml"
    )


def _partners(found: Found, kind: str, described: Described) -> list[tuple[FileDescription, Found]]:
    """The files of that kind of the same survey."""
    of_country = [
        (description, other)
        for description, other in described
        if other is not None and other.kind == kind and other.country_code == found.country_code
    ]
    exact = [pair for pair in of_country if pair[1].version == found.version is not None]

    def same(other: Found) -> bool:
        # Releases of the two differ at times, the phase does not.
        if other.version and found.version:
            return other.version[0] == found.version[0]
        return other.year == found.year

    return exact or [pair for pair in of_country if same(pair[1])]


def _dhs(description: FileDescription, found: Found, described: Described) -> str:
    households = found.kind == kinds.DHS_HOUSEHOLDS
    partners = _partners(found, kinds.DHS_POSITIONS if households else kinds.DHS_HOUSEHOLDS, described)
    if not partners:
        kind, file_format = ("GE", "FL") if households else ("HR", "DT")
        known = found.country_code is not None and found.version is not None
        name = f"{found.country_code}{kind}{found.version}{file_format}.ZIP" if known else f"the {kind} file"
        return f"get {name} too, which has {'the positions' if households else 'the households'} of this survey"
    survey = (partners[0][1] if households else found).survey
    sources = [description.source, *(each.source for each, _ in partners)]
    wealth = [each.source for each, _ in _partners(found, kinds.DHS_WEALTH, described)]
    output = f"{(survey or 'clusters').lower()}.parquet"
    return f"geopov survey dhs {_quoted([*(sources if households else reversed(sources)), *wealth])} -o {output}"


def _lsms(description: FileDescription, found: Found, described: Described) -> str:
    others = {kinds.LSMS_HOUSEHOLDS: kinds.LSMS_LOCATIONS, kinds.LSMS_LOCATIONS: kinds.LSMS_HOUSEHOLDS}
    wanted = others[found.kind]
    pairs = [
        (each, [name for name in found.adapters if name in other.adapters])
        for each, other in described
        if other is not None and other.kind == wanted
    ]
    pairs = [(each, names) for each, names in pairs if names]
    partner, names = pairs[0] if pairs else (None, list(found.adapters))
    adapter = names[0] if len(names) == 1 else f"ADAPTER (one of {', '.join(names)})"
    if partner is None and found.kind == kinds.LSMS_LOCATIONS:
        return f"get the survey's consumption aggregate too: geopov survey lsms {adapter} --households FILE ..."
    households, locations = (description, partner) if wanted == kinds.LSMS_LOCATIONS else (partner, description)
    assert households is not None
    # A zip is searched for the files that the adapter names, positions among them.
    apart = locations is not None and locations.source != households.source
    place = f" --locations {_quoted([locations.source])}" if locations is not None and apart else ""
    if locations is None and found.position is None:
        place = " --locations FILE"
    return f"geopov survey lsms {adapter} --households {_quoted([households.source])}{place} -o clusters.parquet"


def _path(description: FileDescription) -> str:
    """How the command line names a file; a member of a zip by its name, since it has to be unpacked."""
    source = Path(description.source)
    return shlex.quote(Path(description.file).name if source.suffix.lower() == ".zip" else str(source))


def _quoted(sources: Iterable[str]) -> str:
    return " ".join(shlex.quote(source) for source in dict.fromkeys(sources))
