"""Which of the files given are which: recodes, GPS files and wealth indices, one a survey."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.dhs.names import KINDS, DhsName
from geopov.survey.files.archives import SourceFile

# In order of preference, where a survey was given in several formats.
_MICRODATA = (".dta", ".sav", ".sas7bdat")
_FLAT = (".dat", ".txt")


@dataclass(frozen=True)
class DhsFiles:
    """The files to read, by name without format, in the order of their names."""

    recodes: dict[DhsName, SourceFile]
    positions: dict[DhsName, SourceFile]
    wealth: dict[DhsName, SourceFile]
    unused: list[dict[str, Any]]
    """``file`` and ``role`` of each data file that is passed over."""


def sort_files(files: Sequence[SourceFile]) -> DhsFiles:
    """Sort files by the kind that their names say.

    Raises
    ------
    SurveyError
        If a country has a recode but no GPS file or the other way round, a recode comes only as text in fixed
        columns, or two files have one name and differ.
    """
    kinds: dict[str, dict[DhsName, list[SourceFile]]] = {"HR": {}, "GE": {}, "WI": {}}
    flat: dict[DhsName, SourceFile] = {}
    unused: list[dict[str, Any]] = []
    for file in files:
        name = _name(file)
        wanted = (".shp",) if name and name.kind == "GE" else _MICRODATA
        if name and name.kind in kinds and file.suffix in wanted:
            kinds[name.kind].setdefault(name, []).append(file)
        elif name and name.kind == "HR" and file.suffix in _FLAT:
            flat[name] = file
        elif file.suffix in (*_MICRODATA, ".shp"):
            role = KINDS[name.kind] if name else "not named as DHS files are"
            unused.append({"file": file.origin, "role": f"not used: {role}"})
    for name, file in flat.items():
        if name not in kinds["HR"]:
            raise SurveyError(
                f"{file.origin} is text in fixed columns, which is not read. Download {name.sibling('HR', 'DT')} "
                f"(Stata), {name.sibling('HR', 'SV')} (SPSS) or {name.sibling('HR', 'SD')} (SAS) in its place."
            )
    _check_both_there(kinds["HR"], kinds["GE"], [f"{entry['file']} ({entry['role']})" for entry in unused])
    chosen = {kind: _choose(found, unused) for kind, found in kinds.items()}
    surveys = {(name.country_code, name.version) for name in chosen["HR"]}
    for name in [name for name in chosen["WI"] if (name.country_code, name.version) not in surveys]:
        unused.append({"file": chosen["WI"].pop(name).origin, "role": "not used: no household recode of its version"})
    return DhsFiles(chosen["HR"], chosen["GE"], chosen["WI"], unused)


def _name(file: SourceFile) -> DhsName | None:
    """By the file's own name, or else by that of the innermost zip it came in; the format is left out of it."""
    zips = [part for part in file.origin.split("/") if part.lower().endswith(".zip")]
    found = next((name for name in map(DhsName.parse, [file.name, *reversed(zips)]) if name), None)
    return found and replace(found, format="")


def _choose(found: Mapping[DhsName, Sequence[SourceFile]], unused: list[dict[str, Any]]) -> dict[DhsName, SourceFile]:
    """One file a survey: the preferred format, and of equal files the first."""
    chosen = {}
    for name in sorted(found):
        first, *others = sorted(found[name], key=lambda file: ((*_MICRODATA, ".shp").index(file.suffix), file.origin))
        for other in others:
            if other.suffix == first.suffix and other.size != first.size:
                raise SurveyError(f"{first.origin} and {other.origin} have one name and differ. Give only one of them.")
            unused.append({"file": other.origin, "role": f"not used: the same survey as {first.origin}"})
        chosen[name] = first
    return chosen


def _check_both_there(recodes: Collection[DhsName], places: Collection[DhsName], others: Sequence[str]) -> None:
    """Raise before anything large is read if a country lacks one of the two."""
    if not recodes and not places:
        raise SurveyError(
            "no household recode (like RWHR61DT.ZIP) and no GPS file (like RWGE61FL.ZIP) among the files"
            f"{': ' + some(others) if others else ''}. Give both of each survey, under the names they came with."
        )
    check_none_alone([name for name in recodes if name.country_code not in {each.country_code for each in places}])
    check_none_alone([name for name in places if name.country_code not in {each.country_code for each in recodes}])


def check_none_alone(alone: Sequence[DhsName]) -> None:
    """Raise, if there are any, with the file to fetch for a recode without positions, or positions without a recode."""
    if not alone:
        return
    alone = sorted(alone)
    names = some(f"{name.country_code}{name.kind}{name.version}" for name in alone)
    if alone[0].kind == "HR":
        raise SurveyError(
            f"no positions for {names}: add {some(name.sibling('GE', 'FL') for name in alone)} from the survey's "
            "page (its second digit, the release, may differ). Access to GPS data is asked for separately."
        )
    raise SurveyError(
        f"no households for {names}: add {some(name.sibling('HR', 'DT') for name in alone)} from the survey's "
        "page (its second digit, the release, may differ), or leave the GPS file out."
    )
