"""A DHS GPS file (GE): the positions of a survey's clusters.

Sources: "GPS Data Format" and "GPS/GIS data", dhsprogram.com (fields DHSID, DHSCC, DHSYEAR, DHSCLUST, SOURCE,
URBAN_RURA, LATNUM, LONGNUM, DATUM); Burgert et al. (2013), DHS Spatial Analysis Reports 7 (displacement).
"""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import CRS
from pyproj.database import query_crs_info
from pyproj.enums import PJType

from geopov._validation import ID_COLUMN, check_columns, check_lon_lat, check_unique, some
from geopov.errors import SurveyError
from geopov.survey.clusters import AT_ZERO, NO_POSITION, note_dropped
from geopov.survey.dhs.names import DhsName
from geopov.survey.files.tables import as_number, as_urban, read_table

URBAN_DISPLACEMENT_KM = 2.0
RURAL_DISPLACEMENT_KM = 5.0
"""Furthest that a cluster is moved; 1% of the rural ones are moved up to 10 km (Burgert et al. 2013)."""

SOURCE_MISSING = "SOURCE is MIS: the survey could not place it"
WGS84 = "EPSG:4326"

# Farther apart than rounding and a change of datum explain, about 1 km.
_TOLERANCE_DEG = 0.01
_REQUIRED = ("DHSCLUST", "DHSCC", "DHSYEAR", "URBAN_RURA")
_BLANK = {"", "NULL", "NAN", "NONE", "<NA>"}


def read_positions(path: Path | str, *, name: DhsName, origin: str | None = None) -> gpd.GeoDataFrame:
    """Read the shapefile of a GE file.

    The coordinates are LATNUM and LONGNUM in the row's DATUM, or the geometry where the file has no such columns.
    Rows without coordinates (SOURCE is MIS, or latitude and longitude 0) are dropped and named.

    Parameters
    ----------
    path : path
        The .shp; a .prj beside it must agree with DATUM, and may be absent where DATUM is filled in.
    name : DhsName
        What the file claims to be.
    origin : str, optional
        The file as messages should name it; default the file name.

    Returns
    -------
    GeoDataFrame (cluster)
        Points in EPSG:4326: ``cluster_id`` (DHSID), ``cluster`` (int, DHSCLUST), ``country``, ``year`` (DHSYEAR),
        ``urban``, ``displacement_km``, ``region`` (DHSREGNA), ``position_source`` (SOURCE). ``attrs``: ``dropped``,
        ``notes``, and ``clusters``, cluster number to ``cluster_id`` of all rows of the file, placed or not.

    Raises
    ------
    SurveyError
        If the file cannot be read, is of another country, names a cluster twice, its datum is unknown or not the
        one of its .prj, or coordinates are out of range or not those of the geometry.
    """
    origin = origin or Path(path).name
    table = read_table(path)
    fields = table.rename(columns={column: str(column).upper() for column in table.columns if column != "geometry"})
    check_columns(fields, _REQUIRED, origin, SurveyError)
    _check_country(fields, name, origin)
    number = _cluster_numbers(fields, origin)
    year = as_number(fields["DHSYEAR"], origin)
    if year.isna().any() or not year.between(1980, 2100).all():
        raise SurveyError(f"{origin}: DHSYEAR must be a four-digit year in every row; found {some(year.unique())}.")
    urban = as_urban(fields["URBAN_RURA"], origin)
    source = _text(fields, "SOURCE").str.upper()
    lon, lat = _coordinates(fields, origin)
    reasons = {
        SOURCE_MISSING: source == "MIS",
        NO_POSITION: lon.isna() | lat.isna(),
        AT_ZERO: (lon == 0) & (lat == 0),
    }
    placed = ~pd.concat(reasons, axis=1).any(axis=1)
    if not placed.any():
        raise SurveyError(f"{origin}: none of {len(fields)} clusters has coordinates. Was the file downloaded whole?")
    points, notes = _to_wgs84(fields, lon.where(placed), lat.where(placed), placed, origin)
    ids = name.country_code + year.astype(int).astype(str) + number.astype(str).str.zfill(8)
    positions = gpd.GeoDataFrame(
        {
            ID_COLUMN: ids,
            "cluster": number,
            "country": name.country,
            "year": year.astype(int),
            "urban": urban,
            "displacement_km": np.where(urban, URBAN_DISPLACEMENT_KM, RURAL_DISPLACEMENT_KM),
            "region": _text(fields, "DHSREGNA").where(lambda text: text != "", None).astype(object),
            "position_source": source.astype(object),
        },
        geometry=points,
        crs=WGS84,
    )
    dropped = [(reason, positions.loc[applies, ID_COLUMN]) for reason, applies in _first(reasons).items()]
    positions = positions[placed].reset_index(drop=True)
    positions.attrs = {"notes": notes, "clusters": dict(zip(number.tolist(), ids.tolist(), strict=True)), "dropped": []}
    for reason, lost in dropped:
        positions = note_dropped(positions, "clusters", lost, reason)
    return positions


def survey_year(places: gpd.GeoDataFrame) -> int:
    """The year of the survey: the DHSYEAR of most of its clusters."""
    return int(places["year"].mode().min())


def _first(reasons: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Each reason for the rows that no reason before it applies to, so that a row is named once."""
    seen, first = pd.Series(False, index=next(iter(reasons.values())).index), {}
    for reason, applies in reasons.items():
        first[reason] = applies & ~seen
        seen |= applies
    return first


def _text(fields: pd.DataFrame, column: str) -> pd.Series:
    """A column as text, empty where it is absent, missing or the word NULL."""
    if column not in fields:
        return pd.Series("", index=fields.index)
    text = fields[column].astype("string").fillna("").str.strip()
    return text.mask(text.str.upper().isin(_BLANK), "").astype(object)


def _check_country(fields: pd.DataFrame, name: DhsName, origin: str) -> None:
    found = sorted(set(_text(fields, "DHSCC").str.upper()) - {""})
    if found and found != [name.country_code]:
        raise SurveyError(
            f"{origin} is named after {name.country} ({name.country_code}), but its DHSCC says {some(found)}: "
            "the file of another survey. Give it back its own name, or download it again."
        )


def _cluster_numbers(fields: pd.DataFrame, origin: str) -> pd.Series:
    number = as_number(fields["DHSCLUST"], origin)
    bad = number.isna() | (number % 1 != 0) | (number < 0)
    if bad.any():
        raise SurveyError(f"{origin}: {int(bad.sum())} of {len(number)} rows have no whole number in DHSCLUST.")
    number = number.astype("int64")
    check_unique(number, f"{origin} by DHSCLUST", SurveyError)
    return number


def _coordinates(fields: pd.DataFrame, origin: str) -> tuple[pd.Series, pd.Series]:
    """Longitude and latitude as written, in whatever datum."""
    if {"LATNUM", "LONGNUM"} <= set(fields.columns):
        return as_number(fields["LONGNUM"], origin), as_number(fields["LATNUM"], origin)
    shape = gpd.GeoSeries(fields["geometry"])
    if shape.crs is not None and not shape.crs.is_geographic:
        shape = shape.to_crs(shape.crs.geodetic_crs)
    return shape.x, shape.y


def _to_wgs84(
    fields: pd.DataFrame, lon: pd.Series, lat: pd.Series, placed: pd.Series, origin: str
) -> tuple[gpd.GeoSeries, list[str]]:
    """Points in EPSG:4326, each row by its own datum, and notes on what was assumed or transformed."""
    file_crs = getattr(fields["geometry"], "crs", None) if "geometry" in fields else None
    check_lon_lat(lon[placed].to_numpy(), lat[placed].to_numpy(), fields.loc[placed, "DHSCLUST"], error=SurveyError)
    datum = _text(fields, "DATUM")
    notes = []
    points = gpd.GeoSeries(gpd.points_from_xy(lon, lat), index=fields.index, crs=WGS84)
    for label in sorted(set(datum[placed])):
        rows = placed & (datum == label)
        crs = _datum(label, file_crs, origin)
        if not _same_datum(crs, CRS(WGS84)):
            moved = points[rows].set_crs(crs, allow_override=True).to_crs(WGS84)
            points[rows] = moved
            notes.append(f"{origin}: {int(rows.sum())} positions transformed from {crs.name} to WGS 84.")
    if file_crs is None:
        notes.append(f"{origin}: no .prj; the coordinates are read by the DATUM column.")
    elif {"LATNUM", "LONGNUM"} <= set(fields.columns):
        _check_geometry(gpd.GeoSeries(fields["geometry"])[placed].to_crs(WGS84), points[placed], fields, origin)
    return points, notes


def _check_geometry(shape: gpd.GeoSeries, points: gpd.GeoSeries, fields: pd.DataFrame, origin: str) -> None:
    apart = np.hypot(shape.x - points.x, shape.y - points.y) > _TOLERANCE_DEG
    if apart.any():
        raise SurveyError(
            f"{origin}: the points of {int(apart.sum())} clusters lie elsewhere than LATNUM and LONGNUM say "
            f"({some(fields.loc[apart[apart].index, 'DHSCLUST'])}). Use the file as the DHS Program distributes it."
        )


def _datum(label: str, file_crs: CRS | None, origin: str) -> CRS:
    """The geographic CRS of a DATUM value, checked against the .prj; of the .prj alone where DATUM is empty."""
    from_file = None if file_crs is None else CRS(file_crs).geodetic_crs
    if not label:
        if from_file is None:
            raise SurveyError(
                f"{origin} has no .prj, and rows without DATUM: where its coordinates lie cannot be known. "
                "Unpack all parts of the shapefile (.shp, .shx, .dbf, .prj) into one folder, or give the zip."
            )
        return from_file
    named = _by_name(label)
    if named is None:
        raise SurveyError(
            f"{origin}: DATUM {label!r} is not known; expected WGS84, as GPS data of the DHS Program have, or the name "
            "of a geographic CRS of the EPSG register. Correct the column."
        )
    if from_file is not None and not _same_datum(named, from_file):
        raise SurveyError(
            f"{origin}: DATUM says {label}, but the .prj says {from_file.name}; one is wrong, and a datum shifts "
            "points by hundreds of metres. Use the file as the DHS Program distributes it."
        )
    return named


def _by_name(label: str) -> CRS | None:
    """The geographic CRS of that name, spelled in any way: ``WGS84``, ``WGS_1984``, ``D_WGS_1984``, ``Arc 1960``."""
    wanted = _fold(label)
    if wanted in {"WGS84", "WGS1984", "WORLDGEODETICSYSTEM1984"}:
        return CRS(WGS84)
    found = [info for info in query_crs_info("EPSG", PJType.GEOGRAPHIC_2D_CRS) if _fold(info.name) == wanted]
    return CRS.from_authority("EPSG", found[0].code) if len(found) == 1 else None


def _fold(text: str) -> str:
    return "".join(letter for letter in text.upper().removeprefix("D_") if letter.isalnum())


def _same_datum(one: CRS, other: CRS) -> bool:
    return _fold(one.name) == _fold(other.name) or bool(one.equals(other, ignore_axis_order=True))
