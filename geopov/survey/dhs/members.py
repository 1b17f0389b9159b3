"""What a household recode says of its members, summed up for each household: schooling and children out of school.

The recode has a column a member (hv105_01, hv105_02, ...), up to 90 of them, so they are summed up chunk by chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from geopov.survey.dhs.codes import as_float, special_codes

SCHOOL_AGE = (6, 14)
"""First and last year of age at which school is expected, both included.

The global MPI counts children up to the age at which they would complete class 8 (Alkire, Kanagaratnam & Suppa 2020,
OPHI MPI Methodological Note 49), 14 for those who enter at six. Six is taken everywhere: recodes do not hold the
country's own age of entry.
"""
ATTENDS = (1, 2)
"""hv121: 1 attends now, 2 attended at some time in the current school year."""

MEMBER_SUMMARIES = ("schooling_years_max", "child_out_of_school")

_MEMBER = re.compile(r"(hv105|hv108|hv110|hv121)_(\d+)", re.IGNORECASE)


def member_columns(columns: Iterable[str]) -> dict[str, list[str]]:
    """The members' columns of a recode, in lower case: those of age, education in years and attendance.

    hv121 (attended school this school year) came with phase 4; before, hv110 (still in school) takes its place.
    """
    found: dict[str, list[str]] = {}
    for column in columns:
        match = _MEMBER.fullmatch(column)
        if match:
            found.setdefault(match[1].lower(), []).append(column.lower())
    attendance = found.get("hv121") or found.get("hv110") or []
    ages = {column.split("_")[1] for column in found.get("hv105", [])}
    members = {"years": found.get("hv108", [])}
    # Attendance without the age of the same member says nothing about children.
    members["attends"] = [column for column in attendance if column.split("_")[1] in ages]
    members["age"] = [f"hv105_{column.split('_')[1]}" for column in members["attends"]]
    return members


def summarise_members(chunk: pd.DataFrame, members: Mapping[str, list[str]], what: str) -> pd.DataFrame:
    """``schooling_years_max`` and ``child_out_of_school`` of each household; a column that cannot be known is absent.

    The first is the most completed years of education of a member, NaN where nobody's is known. The second is 1 if a
    child of :data:`SCHOOL_AGE` does not attend school, 0 if all do or there is none, NaN if that is not known.
    """
    summary = pd.DataFrame(index=chunk.index)
    if members["years"]:
        years = _numbers(chunk, members["years"], what)
        known = ~np.isin(years, list(special_codes({}, width=2))) & ~np.isnan(years)
        best = np.where(known, years, -1).max(axis=1)
        summary["schooling_years_max"] = np.where(best >= 0, best, np.nan)
    if members["attends"]:
        age, attends = _numbers(chunk, members["age"], what), _numbers(chunk, members["attends"], what)
        child = (age >= SCHOOL_AGE[0]) & (age <= SCHOOL_AGE[1])
        out = (child & (attends == 0)).any(axis=1)
        unknown = (child & ~np.isin(attends, (0, *ATTENDS))).any(axis=1)
        summary["child_out_of_school"] = np.where(out, 1.0, np.where(unknown, np.nan, 0.0))
    return summary


def _numbers(chunk: pd.DataFrame, columns: list[str], what: str) -> np.ndarray:
    return np.column_stack([as_float(chunk[column], what).to_numpy() for column in columns])
