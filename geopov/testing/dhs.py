"""DHS sample files: household recode and GPS data in the documented layout, in zips of the DHS Program's names.

Layout: Standard Recode Manuals of phases III to VII, and the GPS data format (DHS Program). Variables and codes are
those of the phase; see :mod:`geopov.testing._dhs_codes` for what each phase has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov.errors import SurveyError
from geopov.testing import _dhs_answers as answers
from geopov.testing import _dhs_codes as codes
from geopov.testing import _files
from geopov.testing._world import Bounds, displace, draw_clusters

RWANDA: Bounds = (28.9, -2.8, 30.9, -1.1)
_REGIONS = ("kigali", "south", "west", "north", "east")
_ACCENTED = ("Équateur", "Kasaï Oriental", "Haut-Uélé", "Cœur de l’Île", "Région du Nord")
_YEARS = {3: 1996, 4: 2000, 5: 2007, 6: 2014, 7: 2019}


@dataclass(frozen=True)
class DhsTruth:
    """What the files of :func:`write_dhs` were made from.

    Attributes
    ----------
    folder, household_file, position_file : Path
        Where the files are; the last two are the zips, or the .DTA/.SAV and the .shp where not zipped.
    wealth_file : Path or None
        The wealth index of phases III and IV, which came in a file of its own (WI), zipped or not.
    survey : str
        Country code and year, e.g. ``"RW2014"``.
    clusters : DataFrame
        ``cluster`` (hv001), ``dhsid``, ``urban``, ``region``, true ``lon`` and ``lat`` in degrees, the published
        ``lon_displaced`` and ``lat_displaced`` (0, 0 where ``located`` is False), ``displaced_km``, mean ``wealth``.
    households : DataFrame
        ``hhid``, ``cluster``, ``household`` (hv002), ``weight``, ``size`` and latent ``wealth``, one row each, in the
        order of the file.
    """

    folder: Path
    household_file: Path
    position_file: Path
    wealth_file: Path | None
    survey: str
    clusters: pd.DataFrame
    households: pd.DataFrame


def write_dhs(
    folder: Path | str,
    *,
    country: str = "RW",
    version: str = "61",
    year: int | None = None,
    n_clusters: int = 40,
    households: int = 20,
    seed: int = 0,
    file_format: str = "DT",
    zipped: bool = True,
    encoding: str | None = None,
    members: bool = False,
    name_missing: bool = False,
    missing_share: float = 0.02,
    not_located: int = 2,
    wealth_mean: float = 0.0,
    bounds: Bounds = RWANDA,
) -> DhsTruth:
    """Write a household recode and its GPS data; the same arguments give the same bytes.

    Households own an asset with the probability of a logistic curve in their latent wealth, each asset with its own
    threshold, and choose floor, water, toilet and fuel by it with noise; hv271 is the first principal component.

    Parameters
    ----------
    folder : path
        Made if need be. For RW, 61 and DT it gets RWHR61DT.ZIP and RWGE61FL.ZIP.
    country : str
        The DHS Program's two letters.
    version : str
        Phase (3 to 7) and release. Phase 3 writes two-digit years; 3 and 4 have no hv243a and no hv270 and hv271, and
        other codes of water and toilet. Their wealth index is a third file, RWWI41DT.ZIP (whhid, wlthindf, wlthind5).
    year : int, optional
        Default one of that phase.
    n_clusters, households : int
        Clusters, and households in each.
    seed : int
        All draws follow from it.
    file_format : {"DT", "SV"}
        Stata, or SPSS with names in upper case.
    zipped : bool
        False leaves the files themselves.
    encoding : str, optional
        Given, the regions have accents, and a .DTA of an encoding other than UTF-8 is one of Stata 10, whose text is in
        that 8-bit code page. The .dbf is in it too.
    members : bool
        Also hvidx_01, hv104_01 (sex), hv105_01 (age), hv108_01 (years of education), hv121_01 (attended school; hv110
        in phase 3) ... of up to 12 members.
    name_missing : bool
        Whether 9, 99 and 999 have a value label "missing"; some files have it and some do not.
    missing_share : float
        Share of each answer that is missing, half by code and half blank.
    not_located : int
        Clusters at 0, 0 with SOURCE = MIS.
    wealth_mean : float
        Added to the latent wealth, whose standard deviation is near 1: a richer or poorer country on the same scale.
    bounds : west, south, east, north
        Of the country, in degrees.

    Raises
    ------
    SurveyError
        If the version, format or a count is none that can be written.
    """
    phase = int(version[0]) if version[:1].isdigit() else 0
    if phase not in _YEARS or len(version) != 2:
        raise SurveyError(f"version is {version!r}; expected phase 3 to 7 and a release, such as '61'.")
    if file_format not in ("DT", "SV") or (file_format == "SV" and encoding not in (None, "utf-8")):
        raise SurveyError(f"file_format is {file_format!r} in {encoding}; expected DT, or SV in utf-8.")
    if not 0 <= not_located <= n_clusters or n_clusters < 1 or households < 1:
        raise SurveyError(f"{n_clusters} clusters of {households} households, {not_located} not located, cannot be.")
    year = _YEARS[phase] if year is None else year
    regions = _ACCENTED if encoding else _REGIONS
    folder = Path(folder)
    rng = np.random.default_rng([seed, phase])

    clusters = draw_clusters(rng, n_clusters, bounds=bounds, regions=regions, urban_share=0.3)
    clusters.insert(1, "dhsid", [f"{country}{year}{number:08d}" for number in clusters["cluster"]])
    clusters["wealth"] += wealth_mean
    lon, lat, distance_km = displace(rng, clusters, bounds=bounds, n_regions=len(regions))
    clusters["located"] = ~np.isin(np.arange(n_clusters), rng.choice(n_clusters, not_located, replace=False))
    clusters["lon_displaced"] = np.where(clusters["located"], lon, 0.0)
    clusters["lat_displaced"] = np.where(clusters["located"], lat, 0.0)
    clusters["displaced_km"] = np.where(clusters["located"], distance_km, np.nan)
    people = answers.draw_households(rng, clusters, households)
    table = answers.recode(rng, people, country=country, phase=phase, year=year, missing_share=missing_share)
    if members:
        table = pd.concat([table, answers.members(rng, people, phase, missing_share)], axis=1)

    pack = partial(_write_table, folder=folder, file_format=file_format, encoding=encoding or "utf-8", zipped=zipped)
    labels = codes.variable_labels(phase)
    sets = codes.value_labels(phase, regions=regions, name_missing=name_missing)
    score, quintile = answers.wealth_index(table, people)
    wealth_file = None
    if phase >= codes.SINCE["hv271"]:
        table["hv270"], table["hv271"] = quintile, np.round(score * 1e5).astype(int)
    else:
        index = pd.DataFrame({"whhid": people["hhid"], "wlthindf": np.round(score, 5), "wlthind5": quintile})
        wealth_file = pack(index, f"{country}WI{version}", labels, {"wlthind5": sets["hv270"]})
    household_file = pack(table, f"{country}HR{version}", labels, sets)
    position_file = _write_positions(clusters, folder, country, version, year, regions, encoding or "utf-8", zipped)
    return DhsTruth(folder, household_file, position_file, wealth_file, f"{country}{year}", clusters, people)


def _write_table(
    table: pd.DataFrame,
    stem: str,
    labels: Mapping[str, str],
    sets: Mapping[str, Mapping[int, str]],
    *,
    folder: Path,
    file_format: str,
    encoding: str,
    zipped: bool,
) -> Path:
    title = f"{stem}: a sample file, made up"
    if file_format == "DT":
        path = folder / f"{stem}FL.DTA"
        _files.write_dta(table, path, labels=labels, value_labels=sets, encoding=encoding, title=title)
    else:
        path = folder / f"{stem}FL.SAV"
        _files.write_sav(table, path, labels=labels, value_labels=sets, title=title)
    return _files.pack(folder / f"{stem}{file_format}.ZIP", [path]) if zipped else path


def _write_positions(
    clusters: pd.DataFrame,
    folder: Path,
    country: str,
    version: str,
    year: int,
    regions: Sequence[str],
    encoding: str,
    zipped: bool,
) -> Path:
    n, located = len(clusters), clusters["located"].to_numpy()
    names = [regions[number - 1] for number in clusters["region"]]
    lon, lat = clusters["lon_displaced"], clusters["lat_displaced"]
    height_m = np.round(1500 + 300 * np.sin(40 * lon) * np.cos(40 * lat)).to_numpy()
    points = gpd.GeoDataFrame(
        {
            "DHSID": clusters["dhsid"],
            "DHSCC": country,
            "DHSYEAR": np.full(n, float(year)),
            "DHSCLUST": clusters["cluster"].astype(float),
            "CCFIPS": country,
            "ADM1FIPS": "NULL",
            "ADM1FIPSNA": "NULL",
            "ADM1SALBNA": "NULL",
            "ADM1SALBCO": "NULL",
            "ADM1DHS": clusters["region"].astype(float),
            "ADM1NAME": names,
            "DHSREGCO": clusters["region"].astype(float),
            "DHSREGNA": names,
            "SOURCE": np.where(located, "GPS", "MIS"),
            "URBAN_RURA": np.where(clusters["urban"], "U", "R"),
            "LATNUM": lat,
            "LONGNUM": lon,
            # 9999 is the format's code of an altitude not known.
            "ALT_GPS": np.where(located, height_m + 3, 9999.0),
            "ALT_DEM": np.where(located, height_m, 9999.0),
            "DATUM": "WGS84",
        },
        geometry=gpd.points_from_xy(lon, lat),
        crs="EPSG:4326",
    )
    path = folder / f"{country}GE{version}FL.shp"
    shapes = _files.write_shapefile(points, path, encoding=encoding)
    return _files.pack(path.with_suffix(".ZIP"), shapes) if zipped else path
