"""The wealth index of surveys before phase 5, which the DHS Program distributes as a file of its own (WI)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from geopov._validation import check_columns, check_unique, some
from geopov.errors import SurveyError
from geopov.survey.files.microdata import open_microdata
from geopov.survey.files.tables import as_number

_COLUMNS = {"whhid": "hhid", "wlthindf": "hv271", "wlthind5": "hv270"}
MIN_SHARED = 0.5
"""Least share of a recode's households that the wealth index of the same survey must have."""


def read_wealth(path: Path | str, *, origin: str | None = None) -> pd.DataFrame:
    """A wealth index file, one row a household: ``hhid`` (stripped), ``hv271`` (score) and ``hv270`` (quintile).

    Raises
    ------
    SurveyError
        If it cannot be read, has not the columns whhid, wlthindf and wlthind5, or a household stands twice.
    """
    origin = origin or Path(path).name
    data = open_microdata(path)
    check_columns(
        pd.DataFrame(columns=[column.lower() for column in data.columns]), list(_COLUMNS), origin, SurveyError
    )
    table = pd.concat(data.chunks(list(_COLUMNS))).rename(columns=_COLUMNS)
    wealth = pd.DataFrame(
        {
            "hhid": table["hhid"].astype(str).str.strip(),
            **{column: as_number(table[column], origin) for column in ("hv271", "hv270")},
        }
    )
    check_unique(wealth["hhid"], f"{origin} by whhid", SurveyError)
    wealth.attrs["origin"] = origin
    return wealth


def join_wealth(raw: pd.DataFrame, wealth: pd.DataFrame, *, origin: str) -> pd.DataFrame:
    """``raw`` with the index of :func:`read_wealth` as its hv271 and hv270; the recode's own, if it has one, stays.

    Raises
    ------
    SurveyError
        If the recode names no households, or not the same ones.
    """
    if "hv271" in raw and raw["hv271"].notna().any():
        return raw
    if "hhid" not in raw:
        raise SurveyError(f"{origin} has no hhid, by which {wealth.attrs['origin']} could be joined to it.")
    hhid = raw["hhid"].astype(str).str.strip()
    found = hhid.isin(wealth["hhid"])
    if found.mean() < MIN_SHARED:
        raise SurveyError(
            f"{wealth.attrs['origin']} has {int(found.sum())} of the {len(raw)} households of {origin} "
            f"({some(wealth['hhid'], 3)} against {some(hhid, 3)}): not of one survey. "
            "Download the one that belongs to it."
        )
    joined = wealth.set_index("hhid").reindex(hhid)
    return raw.assign(**{column: joined[column].to_numpy() for column in ("hv271", "hv270")})
