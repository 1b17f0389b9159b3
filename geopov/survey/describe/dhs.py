"""DHS files: which variables a household recode and its GPS data have, and what is unusual in them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geopov._validation import some
from geopov.survey.describe.found import (
    DHS_HOUSEHOLDS,
    DHS_POSITIONS,
    Found,
    count,
    numbers,
    placed,
    scan,
    variables_of,
)
from geopov.survey.describe.tabular import Tabular
from geopov.survey.dhs.names import COUNTRIES, DhsName
from geopov.survey.dhs.recode import CALENDARS

# Variable, digits of its special codes (0 where it has none), and whether clusters cannot be made without it.
_HR = {
    "hv001": (0, True),
    "hv005": (0, True),
    "hv009": (2, True),
    "hv021": (0, False),
    "hv022": (0, False),
    "hv023": (0, False),
    "hv024": (0, False),
    "hv025": (0, False),
    **dict.fromkeys(("hv201", "hv205", "hv213", "hv216", "hv226"), (2, False)),
    **dict.fromkeys(("hv206", "hv207", "hv208", "hv209", "hv210", "hv211", "hv212"), (1, False)),
    **dict.fromkeys(("hv221", "hv225", "hv243a", "hv243c", "hv243e"), (1, False)),
    "hv204": (3, False),
    "hv270": (0, False),
    "hv271": (0, False),
}
_HR_KEPT = ("hhid", "hv000", "hv001", "hv002", "hv005", "hv007", "hv008", "hv015")
_GE = {
    "DHSCLUST": True,
    "DHSCC": True,
    "DHSYEAR": True,
    "LATNUM": True,
    "LONGNUM": True,
    "URBAN_RURA": True,
    "SOURCE": False,
    "DATUM": False,
    "DHSREGNA": False,
}
# What the recode manual and the GPS data format call them, for files that carry no labels.
_WORDS = {
    "hv001": "cluster number",
    "hv005": "household sample weight (6 decimals)",
    "hv009": "number of household members",
    "hv021": "primary sampling unit",
    "hv022": "sample stratum",
    "hv023": "sample domain or stratification",
    "hv024": "region",
    "hv025": "urban or rural",
    "hv201": "source of drinking water",
    "hv204": "time to water (minutes)",
    "hv205": "toilet facility",
    "hv206": "electricity",
    "hv207": "radio",
    "hv208": "television",
    "hv209": "refrigerator",
    "hv210": "bicycle",
    "hv211": "motorcycle or scooter",
    "hv212": "car or truck",
    "hv213": "main floor material",
    "hv216": "rooms used for sleeping",
    "hv221": "telephone",
    "hv225": "toilet shared",
    "hv226": "cooking fuel",
    "hv243a": "mobile telephone",
    "hv243c": "animal-drawn cart",
    "hv243e": "computer",
    "hv270": "wealth quintile",
    "hv271": "wealth score (5 decimals)",
    "DHSCLUST": "cluster number (hv001)",
    "DHSCC": "country",
    "DHSYEAR": "survey year",
    "LATNUM": "latitude",
    "LONGNUM": "longitude",
    "URBAN_RURA": "urban (U) or rural (R)",
    "SOURCE": "where the position comes from",
    "DATUM": "geodetic datum",
    "DHSREGNA": "region",
}


def named(found: Found, dhs: DhsName | None) -> Found:
    """``found`` with what the name of a DHS file says."""
    if dhs is not None:
        found.country_code, found.country, found.version = dhs.country_code, dhs.country, dhs.version
    return found


def describe_households(table: Tabular, dhs: DhsName | None) -> Found:
    """A household recode; ``dhs`` is what its name says, if it is one of the DHS Program's."""
    found = named(Found(DHS_HOUSEHOLDS, "DHS household recode"), dhs)
    missing, kept = scan(table, {name: width for name, (width, _) in _HR.items()}, _HR_KEPT)
    found.variables = variables_of(table, {name: must for name, (_, must) in _HR.items()}, missing, _WORDS)
    cluster, weight = numbers(kept["hv001"]), numbers(kept["hv005"])
    found.clusters = frozenset(cluster.dropna().astype(int))
    found.facts.append(f"{len(kept):,} households in {len(found.clusters):,} clusters")
    _check_country(found, dhs, kept, "hv000")
    year = _interviewed(kept) + CALENDARS.get(found.country_code or "", 0)
    if len(year):
        first, last = int(year.min()), int(year.max())
        found.year = first
        found.facts.append(f"interviewed in {first}" + ("" if first == last else f" to {last}"))
    ids = (
        kept["hhid"].astype(str)
        if "hhid" in kept
        else cluster.astype(str) + "/" + kept.get("hv002", cluster).astype(str)
    )
    count(found, ids.duplicated(), "households that stand twice", ids)
    count(found, ~(weight > 0), "households without a weight (hv005) above zero")
    if "hv015" in kept:
        count(found, numbers(kept["hv015"]).ne(1), "households not interviewed to the end (hv015)")
    found.survey = _survey(found)
    return found


def describe_positions(table: Tabular, dhs: DhsName | None) -> Found:
    """GPS data (GE); ``dhs`` as above."""
    found = named(Found(DHS_POSITIONS, "DHS GPS data", position=("LONGNUM", "LATNUM")), dhs)
    missing, kept = scan(table, dict.fromkeys(_GE, 0), tuple(_GE))
    found.variables = variables_of(table, _GE, missing, _WORDS)
    number, lon, lat = (numbers(kept[name]) for name in ("DHSCLUST", "LONGNUM", "LATNUM"))
    found.clusters = frozenset(number.dropna().astype(int))
    _check_country(found, dhs, kept, "DHSCC")
    if "DHSYEAR" in kept and kept["DHSYEAR"].notna().any():
        found.year = int(numbers(kept["DHSYEAR"]).mode()[0])
    datum = sorted(set(kept["DATUM"].dropna().astype(str).str.strip()) - {""}) if "DATUM" in kept else []
    found.datum = some(datum) or None
    placed(found, lon, lat, number)
    if "SOURCE" in kept:
        lost = kept["SOURCE"].astype("string").str.upper().eq("MIS").fillna(False).astype(bool)
        count(found, lost & ~((lon == 0) & (lat == 0)), "clusters with SOURCE = MIS, and coordinates all the same")
    if "URBAN_RURA" in kept:
        urban = int(kept["URBAN_RURA"].astype("string").str.upper().eq("U").sum())
        found.facts.append(f"{len(kept):,} clusters, {urban:,} urban and {len(kept) - urban:,} rural")
    if table.crs is None and table.has_geometry:
        found.problems.append("no .prj: the CRS is taken from DATUM" if datum else "no .prj and no DATUM: CRS unknown")
    unusual = [text for text in datum if text.upper().replace("_", "").replace(" ", "") not in ("WGS84", "WGS1984")]
    if unusual:
        found.problems.append(f"DATUM is {some(unusual)}, not WGS84: positions will be transformed")
    count(found, number.duplicated(), "clusters that stand twice", number)
    count(found, number % 1 != 0, "clusters whose number is not whole")
    found.survey = _survey(found)
    return found


def _interviewed(kept: pd.DataFrame) -> pd.Series:
    """Years of interview: hv007, or where it has two digits hv008, which counts months from the beginning of 1900."""
    nothing = pd.Series(np.nan, index=kept.index)
    year, months = (numbers(kept.get(name, nothing)) for name in ("hv007", "hv008"))
    by_month = ((months - 1) // 12 + 1900).where(months > 0, year + 1900)
    return year.where(year >= 1000, by_month).dropna()


def _check_country(found: Found, dhs: DhsName | None, kept: pd.DataFrame, column: str) -> None:
    if column not in kept:
        return
    codes = sorted(set(kept[column].dropna().astype(str).str.strip().str.upper().str[:2]) - {""})
    if dhs is None and len(codes) == 1:
        found.country_code, found.country = codes[0], COUNTRIES.get(codes[0], codes[0])
    elif dhs is not None and codes and codes != [dhs.country_code]:
        found.problems.append(
            f"named {dhs.country_code}, but its {column} says {some(codes)}: the file of another survey"
        )


def _survey(found: Found) -> str | None:
    return f"{found.country_code}{found.year}" if found.country_code and found.year else None
