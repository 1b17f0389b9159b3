"""LSMS sample files: a consumption aggregate, positions, and the adapter that reads them, as a statistics office ships.

The columns are those such files have (household and enumeration area, weight, size, adult equivalents, nominal yearly
consumption of the household, price index, line), with labels, under the names of no survey in particular.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from geopov._validation import atomic_path
from geopov.errors import SurveyError
from geopov.testing import _files
from geopov.testing._world import Bounds, displace, draw_clusters

MALAWI_NORTH: Bounds = (33.0, -12.4, 34.2, -9.6)
_REGIONS = ("north", "centre", "south")
_LABELS = {
    "hh_id": "household identifier",
    "area_id": "enumeration area",
    "hh_weight": "household sampling weight",
    "members": "household size",
    "adult_eq": "adult equivalents",
    "urban": "urban or rural",
    "region": "region",
    "stratum": "sampling stratum",
    "total_consumption": "household consumption, nominal, per year",
    "prices_here": "spatial and temporal price index",
    "line": "poverty line per person per year, real",
    "lat_public": "latitude of the enumeration area, modified",
    "lon_public": "longitude of the enumeration area, modified",
    "dist_road": "distance to the nearest road (km)",
}
# Ten keys, none of which an adapter of such files can do without to be placed on the ground.
_ADAPTER = """\
survey: {survey}
country: {country}
year: {year}
household: hh_id
cluster: area_id
weight: hh_weight
size: members
consumption: {{column: total_consumption, of: household, per: year, prices: nominal, currency: {currency}}}
coordinates: {{lon: lon_public, lat: lat_public}}
join: {{households: {key}, locations: {key}}}
"""
_MORE_KEYS = """\
adult_equivalents: adult_eq
urban: urban
region: region
stratum: stratum
deflator: {{column: prices_here, base: 100, period: "national, July {year}"}}
poverty_line: {{column: line, of: person, per: year, prices: real}}
displacement: dhs
files: {{households: {households}, locations: {locations}}}
"""


@dataclass(frozen=True)
class LsmsTruth:
    """What the files of :func:`write_lsms` were made from.

    Attributes
    ----------
    folder, household_file, location_file, adapter_file : Path
        Where they are: two .dta and a YAML.
    clusters : DataFrame
        ``ea_id``, ``urban``, ``region``, true ``lon`` and ``lat`` in degrees, the published ``lon_displaced`` and
        ``lat_displaced`` (0, 0 where ``located`` is False), ``displaced_km``, mean ``wealth``.
    households : DataFrame
        ``case_id``, ``ea_id``, ``weight``, ``size``, ``adult_equivalents``, ``urban``, ``wealth``, ``price_index``,
        ``nominal`` and ``real`` consumption per person per day in national currency, ``poor``, and ``placed``: whether
        the location file has it, in the order of the file.
    headcount : float
        Share of people under the line, weighted.
    mean : float
        Real consumption per person per day, national currency, weighted by people.
    """

    folder: Path
    household_file: Path
    location_file: Path
    adapter_file: Path
    clusters: pd.DataFrame
    households: pd.DataFrame
    headcount: float
    mean: float


def write_lsms(
    folder: Path | str,
    *,
    survey: str = "MWI_2019_SAMPLE",
    country: str = "Malawi",
    year: int = 2019,
    currency: str = "MWK",
    n_clusters: int = 30,
    households: int = 16,
    seed: int = 0,
    locations: Literal["household", "ea"] = "household",
    whole_adapter: bool = True,
    not_located: int = 1,
    not_placed: int = 1,
    bounds: Bounds = MALAWI_NORTH,
) -> LsmsTruth:
    """Write a consumption aggregate, a location file and an adapter; the same arguments give the same bytes.

    The logarithm of consumption per person follows latent wealth with noise; nominal amounts are real ones at the
    prices of the household's region and month.

    Parameters
    ----------
    folder : path
        Made if need be; gets consumption.dta, geovariables.dta and adapter.yaml.
    survey, country, year, currency
        For the adapter.
    n_clusters, households : int
        Enumeration areas, and households in each.
    seed : int
        All draws follow from it.
    locations : {"household", "ea"}
        Whether the location file has a row a household or a row an enumeration area.
    whole_adapter : bool
        False writes the ten lines that such a file needs at least: no deflator, line, adult equivalents, urban.
    not_located : int
        Enumeration areas at 0, 0.
    not_placed : int
        Households that the location file does not have (``locations="household"``), or enumeration areas.
    bounds : west, south, east, north
        Of the country, in degrees.

    Raises
    ------
    SurveyError
        If the counts cannot be.
    """
    if not 0 <= not_located + not_placed <= n_clusters or n_clusters < 1 or households < 1:
        raise SurveyError(
            f"{n_clusters} areas of {households} households, {not_located} not located and {not_placed} not placed, "
            "cannot be; ask for fewer."
        )
    folder = Path(folder)
    rng = np.random.default_rng([seed, 31])
    clusters = draw_clusters(rng, n_clusters, bounds=bounds, regions=_REGIONS, urban_share=0.3)
    clusters.insert(0, "ea_id", [f"{101_00000 + 7 * number}" for number in clusters["cluster"]])
    lon, lat, distance_km = displace(rng, clusters, bounds=bounds, n_regions=len(_REGIONS))
    clusters["located"] = ~np.isin(np.arange(n_clusters), rng.choice(n_clusters, not_located, replace=False))
    clusters["lon_displaced"] = np.where(clusters["located"], lon, 0.0)
    clusters["lat_displaced"] = np.where(clusters["located"], lat, 0.0)
    clusters["displaced_km"] = np.where(clusters["located"], distance_km, np.nan)
    people, line = _draw_households(rng, clusters, households)
    located = clusters["ea_id"][clusters["located"]]
    if locations == "household":
        gone = rng.choice(people.index[people["ea_id"].isin(located)], not_placed, replace=False)
        people["placed"] = ~people.index.isin(gone)
    else:
        people["placed"] = ~people["ea_id"].isin(rng.choice(located, not_placed, replace=False))

    labels = {
        "urban": {1: "urban", 2: "rural"},
        "region": dict(enumerate(_REGIONS, 1)),
        "stratum": dict(enumerate((f"{r} {place}" for r in _REGIONS for place in ("urban", "rural")), 1)),
    }
    household_file, location_file = folder / "consumption.dta", folder / "geovariables.dta"
    for table, path in (
        (_aggregate(people, line), household_file),
        (_locations(clusters, people, locations), location_file),
    ):
        sets = {name: codes for name, codes in labels.items() if name in table}
        title = f"{survey}: a sample file, made up"
        _files.write_dta(table, path, labels=_LABELS, value_labels=sets, encoding="utf-8", title=title)
    adapter_file = folder / "adapter.yaml"
    text = (_ADAPTER + (_MORE_KEYS if whole_adapter else "")).format(
        survey=survey,
        country=country,
        year=year,
        currency=currency,
        key="hh_id" if locations == "household" else "area_id",
        households=household_file.name,
        locations=location_file.name,
    )
    with atomic_path(adapter_file) as partial:
        partial.write_text(text, encoding="utf-8")
    heads = people["weight"] * people["size"]
    return LsmsTruth(
        folder,
        household_file,
        location_file,
        adapter_file,
        clusters.drop(columns="cluster"),
        people,
        headcount=float((heads * people["poor"]).sum() / heads.sum()),
        mean=float((heads * people["real"]).sum() / heads.sum()),
    )


def _draw_households(rng: np.random.Generator, clusters: pd.DataFrame, n_each: int) -> tuple[pd.DataFrame, float]:
    """Households, and the line in national currency per person per year, at about a third of the people."""
    each = clusters.loc[clusters.index.repeat(n_each)].reset_index(drop=True)
    n = len(each)
    number = np.tile(np.arange(1, n_each + 1), len(clusters))
    size = 1 + rng.poisson(3.6, n)
    wealth = each["wealth"] + rng.normal(0, 0.6, n)
    real = np.exp(6.3 + 0.55 * wealth - 0.08 * (size - 4) + rng.normal(0, 0.25, n))
    # Prices differ by region and rise over the year of the fieldwork.
    month = rng.integers(0, 12, len(clusters)).repeat(n_each)
    index = np.round((95 + 4 * each["region"]) * 1.007**month, 2)
    weight = np.where(each["urban"], 150.0, 420.0) * rng.uniform(0.6, 1.4, len(clusters)).repeat(n_each)
    line = 365.0 * round(float(np.quantile(np.repeat(real, size), 0.35)), 1)
    people = pd.DataFrame(
        {
            "case_id": [f"{ea}{household:03d}" for ea, household in zip(each["ea_id"], number, strict=True)],
            "ea_id": each["ea_id"],
            "weight": np.round(weight, 3),
            "size": size,
            "adult_equivalents": np.round(1 + 0.72 * (size - 1), 2),
            "urban": each["urban"],
            "region": each["region"],
            "wealth": wealth,
            "price_index": index,
            "nominal": real * index / 100,
            "real": real,
            "poor": real < line / 365.0,
        }
    )
    return people, line


def _aggregate(people: pd.DataFrame, line: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hh_id": people["case_id"],
            "area_id": people["ea_id"],
            "region": people["region"].astype("int8"),
            "urban": np.where(people["urban"], 1, 2).astype("int8"),
            "stratum": (2 * people["region"] - people["urban"]).astype("int8"),
            "hh_weight": people["weight"],
            "members": people["size"].astype("int16"),
            "adult_eq": people["adult_equivalents"],
            "total_consumption": people["nominal"] * people["size"] * 365.0,
            "prices_here": people["price_index"],
            "line": line,
        }
    )


def _locations(clusters: pd.DataFrame, people: pd.DataFrame, per: str) -> pd.DataFrame:
    placed = people[people["placed"]]
    rows = placed[["case_id", "ea_id"]] if per == "household" else placed[["ea_id"]].drop_duplicates()
    positions = clusters.set_index("ea_id").loc[rows["ea_id"]]
    named = rows.rename(columns={"case_id": "hh_id", "ea_id": "area_id"}).reset_index(drop=True)
    return named.assign(
        dist_road=np.round(np.abs(positions["lon"].to_numpy() * 40 % 17), 1),
        lat_public=positions["lat_displaced"].to_numpy(),
        lon_public=positions["lon_displaced"].to_numpy(),
    )
