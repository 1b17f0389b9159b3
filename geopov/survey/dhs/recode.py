"""A DHS household recode (HR) to the table of households: the survey's variables under the field's names.

Sources: the DHS Recode Manuals of phases 4 to 7 (hv variables, implied decimals, special codes) and the Guide to DHS
Statistics (weights, strata, calendars), dhsprogram.com.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from geopov._validation import some
from geopov.errors import SurveyError
from geopov.survey.dhs.codes import as_float
from geopov.survey.dhs.design import add_design
from geopov.survey.dhs.members import MEMBER_SUMMARIES, member_columns, summarise_members
from geopov.survey.dhs.names import KINDS, DhsName
from geopov.survey.dhs.variables import VARIABLES, Labels, household_variables
from geopov.survey.dhs.wealth import join_wealth
from geopov.survey.files.microdata import Microdata, open_microdata
from geopov.survey.files.tables import as_ids

NO_WEIGHT = "weight (hv005) is missing or zero"
NOT_INTERVIEWED = "household interview not completed (hv015)"

_REQUIRED = ("hv001", "hv005", "hv009")
_TEXT = ("hv000", "hhid")
# Years between the local calendar and the common one, to within one: Bikram Sambat, Ethiopian, Solar Hijri.
CALENDARS = {"NP": -57, "ET": 8, "AF": 621}


@dataclass(frozen=True)
class HouseholdRecode:
    """What one household recode holds, before its clusters are placed."""

    name: DhsName
    origin: str
    """The file, as messages name it."""
    households: pd.DataFrame
    """One row a household: ``cluster`` (int, hv001), ``household`` (str, within the cluster) and the columns of the
    table of households that the recode knows."""
    years: tuple[int, int]
    """First and last year of interview in the common calendar; off by one at most where the survey used another."""
    n_rows: int
    """Households in the file."""
    dropped: list[tuple[int, str, str]] = field(default_factory=list)
    """Cluster, household and reason of each row left out."""
    notes: list[str] = field(default_factory=list)


def read_recode(
    path: Path | str,
    *,
    name: DhsName,
    origin: str | None = None,
    wealth: pd.DataFrame | None = None,
    chunk_rows: int | None = None,
) -> HouseholdRecode:
    """Read a household recode: only the variables that are needed, ``chunk_rows`` households at a time.

    Parameters
    ----------
    path : path
        .dta, .sav or .sas7bdat.
    name : DhsName
        What the file claims to be.
    origin : str, optional
        The file as messages should name it; default the file name.
    wealth : DataFrame, optional
        The survey's wealth index from a file of its own, as :func:`~geopov.survey.dhs.wealth.read_wealth` returns it.
    chunk_rows : int, optional
        Households in memory at once; default as many as fit in about 128 MiB.

    Returns
    -------
    HouseholdRecode
        Households without a weight or without an interview are left out and listed.

    Raises
    ------
    SurveyError
        If the file cannot be read, is no household recode or of another country than its name says, or a household
        stands twice.
    """
    origin = origin or Path(path).name
    data = open_microdata(path)
    _check_kind(data, origin)
    raw, labels = _read(data, origin, chunk_rows)
    _check_country(raw, name, origin)
    if wealth is not None:
        raw = join_wealth(raw, wealth, origin=origin)
    keys = _keys(raw, origin)
    variables = household_variables(raw, labels, name=name)
    notes = [*data.notes, *variables.attrs["notes"]]
    if raw.get("hv271", pd.Series(dtype=float)).isna().all():
        notes.append(
            f"no wealth score (hv271). Before phase 5 it came as a file of its own; add {name.sibling('WI', 'DT')}."
        )
    interviewed = raw["hv015"].isna() | (raw["hv015"] == 1) if "hv015" in raw else pd.Series(True, index=raw.index)
    # A row has one reason, so that the numbers add up.
    reasons = {NOT_INTERVIEWED: ~interviewed, NO_WEIGHT: interviewed & ~(variables["weight"] > 0)}
    dropped = [
        (int(number), str(household), reason)
        for reason, applies in reasons.items()
        for number, household in keys[applies].itertuples(index=False)
    ]
    usable = interviewed & (variables["weight"] > 0)
    if not usable.any():
        raise SurveyError(f"{origin}: none of {len(raw)} households has a weight (hv005) and an interview (hv015).")
    members = raw[[column for column in MEMBER_SUMMARIES if column in raw]]
    table = pd.concat([keys, variables, members], axis=1)[usable].reset_index(drop=True)
    table = add_design(table, raw[usable].reset_index(drop=True), origin=origin)
    notes = [f"{origin}: {note}" for note in [*notes, *table.attrs.pop("notes")]]
    return HouseholdRecode(name, origin, table, _years(raw, name), len(raw), dropped, notes)


def _read(data: Microdata, origin: str, chunk_rows: int | None) -> tuple[pd.DataFrame, Labels]:
    """The variables needed, whole, with the members summed up chunk by chunk; and their value labels."""
    members = member_columns(data.columns)
    present = [column for column in (*_TEXT, *VARIABLES) if data.find(column) is not None]
    columns = [*present, *(column for each in members.values() for column in each)]
    parts = [
        _numbers(chunk[present], origin).join(summarise_members(chunk, members, origin))
        for chunk in data.chunks(columns, rows=chunk_rows)
    ]
    if not parts:
        raise SurveyError(f"{origin} has no rows. Download it again.")
    return pd.concat(parts, ignore_index=True), {column: _labels(data, column) for column in present}


def _check_kind(data: Microdata, origin: str) -> None:
    missing = [column for column in _REQUIRED if data.find(column) is None]
    if data.find("hv002") is None and data.find("hhid") is None:
        missing.append("hv002")
    if missing:
        kind = next(
            (KINDS[kind] for column, kind in (("bidx", "BR"), ("v001", "IR"), ("mv001", "MR")) if data.find(column)),
            "another file",
        )
        raise SurveyError(
            f"{origin} has no {some(missing)}: not a household recode but {kind}, it seems. "
            "Download the household recode (HR) of the survey."
        )
    if data.find("hvidx") is not None:
        raise SurveyError(
            f"{origin} has one row a person (hvidx): the {KINDS['PR']}. Download the household recode (HR)."
        )


def _check_country(raw: pd.DataFrame, name: DhsName, origin: str) -> None:
    if "hv000" not in raw:
        return
    found = sorted(set(raw["hv000"].dropna().astype(str).str.strip().str.upper().str[:2]) - {""})
    if found and found != [name.country_code]:
        raise SurveyError(
            f"{origin} is named after {name.country} ({name.country_code}), but its hv000 says {some(found)}: "
            "the file of another survey. Give it back its own name, or download it again."
        )


def _numbers(chunk: pd.DataFrame, origin: str) -> pd.DataFrame:
    """The chunk with its numbers as float64, whatever type they have in the file."""
    return pd.DataFrame(
        {column: chunk[column] if column in _TEXT else as_float(chunk[column], origin) for column in chunk.columns}
    )


def _labels(data: Microdata, column: str) -> Mapping[float, str]:
    """Value labels of the codes that are numbers; others cannot occur in the column."""
    spelled = data.find(column)
    labels = data.value_labels.get(spelled, {}) if spelled else {}
    return {float(code): str(text) for code, text in labels.items() if _is_number(code)}


def _is_number(code: object) -> bool:
    return isinstance(code, int | float | np.number) and bool(np.isfinite(code))


def _keys(raw: pd.DataFrame, origin: str) -> pd.DataFrame:
    """``cluster`` and ``household``; a household is hv002 within its cluster, or hhid where that is not enough."""
    cluster = raw["hv001"]
    bad = cluster.isna() | (cluster % 1 != 0) | (cluster < 0)
    if bad.any():
        raise SurveyError(
            f"{origin}: {int(bad.sum())} of {len(raw)} rows have no whole number in hv001, the cluster. Is it damaged?"
        )
    keys = pd.DataFrame({"cluster": cluster.astype("int64")})
    if "hhid" in raw and raw["hhid"].notna().all():
        hhid = raw["hhid"].astype(str)
        _check_once(hhid.str.rstrip(), origin, "hhid")
    if "hv002" in raw and raw["hv002"].notna().all():
        keys["household"] = as_ids(raw["hv002"], origin)
    if "household" not in keys or ("hhid" in raw and keys.duplicated().any()):
        # Where compounds hold several households, hv002 alone repeats; hhid is unique but padded with blanks.
        keys["household"] = raw["hhid"].astype(str).str.strip().map(lambda text: re.sub(r"\s+", "-", text))
    _check_once(keys["cluster"].astype(str) + "/" + keys["household"], origin, "cluster and household")
    return keys


def _check_once(ids: pd.Series, origin: str, what: str) -> None:
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise SurveyError(
            f"{origin}: {len(repeated)} households stand more than once by {what} "
            f"({some(text.strip() for text in repeated)}). Was the file appended to itself? Download it again."
        )


def _years(raw: pd.DataFrame, name: DhsName) -> tuple[int, int]:
    """First and last year of interview, by hv007 or, where that has two digits, by hv008 (months since 1900)."""
    nothing = pd.Series(np.nan, index=raw.index)
    year, months = raw.get("hv007", nothing), raw.get("hv008", nothing)
    year = year.where(year >= 1000, ((months - 1) // 12 + 1900).where(months > 0, year + 1900)).dropna()
    if len(year) == 0:
        raise SurveyError(f"{name.country_code}{name.kind}{name.version} has no year of interview (hv007 or hv008).")
    local = (year + CALENDARS.get(name.country_code, 0)).astype(int)
    return int(local.min()), int(local.max())
