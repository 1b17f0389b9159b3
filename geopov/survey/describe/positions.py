"""The positions that the files of a survey hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN
from geopov.errors import SurveyError
from geopov.grid import as_crs
from geopov.survey.clusters import AT_ZERO, NO_POSITION
from geopov.survey.describe import found as kinds
from geopov.survey.describe.files import opened
from geopov.survey.describe.found import Found
from geopov.survey.describe.kinds import recognise
from geopov.survey.describe.tabular import Tabular, geometry_of, open_tabular
from geopov.survey.dhs.gps import read_positions
from geopov.survey.dhs.names import DhsName
from geopov.survey.files.archives import SourceFile
from geopov.survey.files.tables import as_urban
from geopov.survey.lsms.adapter import read_adapter


def clusters_in(paths: Sequence[Path | str] | Path | str) -> gpd.GeoDataFrame:
    """The positions that some files hold: DHS GPS data, LSMS locations, and tables of clusters.

    Parameters
    ----------
    paths : sequence of path
        As for :func:`describe_files`.

    Returns
    -------
    GeoDataFrame
        Points in EPSG:4326, none if the files have none: ``cluster_id`` (unique; DHSID for DHS), ``survey``, ``file``,
        and ``urban``, ``displacement_km`` where every file has them. ``attrs["dropped"]`` lists rows without a
        position, ``attrs["notes"]`` files whose positions cannot be used, and why.
    """
    pieces: list[gpd.GeoDataFrame] = []
    dropped: list[dict[str, str]] = []
    notes: list[str] = []
    for _, file in opened(paths):
        try:
            piece = _positions_of(file)
        except SurveyError as error:
            notes.append(str(error))
            continue
        if piece is not None and len(piece):
            pieces.append(piece)
            dropped += piece.attrs.get("dropped", [])
    shared = [column for column in ("urban", "displacement_km") if pieces and all(column in each for each in pieces)]
    columns = [ID_COLUMN, "survey", "file", *shared, "geometry"]
    empty = gpd.GeoDataFrame({c: pd.Series(dtype=str) for c in columns[:-1]}, geometry=[], crs="EPSG:4326")
    points = gpd.GeoDataFrame(pd.concat([each[columns] for each in pieces], ignore_index=True)) if pieces else empty
    repeated = points[ID_COLUMN].duplicated(keep=False)
    points[ID_COLUMN] = points[ID_COLUMN].where(~repeated, points["survey"] + "-" + points[ID_COLUMN])
    if points[ID_COLUMN].duplicated().any():
        notes.append(f"{int(points[ID_COLUMN].duplicated().sum())} positions stand in more than one file: drawn once")
        points = points.drop_duplicates(ID_COLUMN, ignore_index=True)
    points.attrs = {"dropped": dropped, "notes": notes}
    return points


def _positions_of(file: SourceFile | SurveyError) -> gpd.GeoDataFrame | None:
    """The clusters of one file, with ``survey`` and ``file``; None where it has no positions."""
    if isinstance(file, SurveyError):
        raise file
    table = open_tabular(file)
    # A household recode has no positions, and is long.
    if table is None or table.find("hv001") is not None:
        return None
    found = recognise(table, file.name)
    points = _positions(file, table, found)
    if points is not None:
        points["survey"], points["file"] = found.survey or Path(file.name).stem, file.origin
    return points


def _positions(file: SourceFile, table: Tabular, found: Found) -> gpd.GeoDataFrame | None:
    """The clusters of one table that can be placed; None where it has no positions."""
    if found.kind == kinds.DHS_POSITIONS and file.suffix in (".shp", ".gpkg", ".geojson", ".parquet"):
        name = DhsName.parse(file.name) or DhsName(found.country_code or "", "GE", found.version or "00", "FL")
        return read_positions(file.path(), name=name, origin=file.origin)
    if found.kind in (kinds.LSMS_LOCATIONS, kinds.LSMS_HOUSEHOLDS) and found.position is not None:
        return _lsms_positions(table, found, file.origin)
    if found.kind == kinds.CLUSTERS or (found.position is not None and table.find(ID_COLUMN)):
        return _cluster_positions(file, table, found)
    return None


def _lsms_positions(table: Tabular, found: Found, origin: str) -> gpd.GeoDataFrame:
    adapter = read_adapter(found.adapters[0])
    assert adapter.coordinates is not None
    assert found.position is not None
    keys = list(adapter.cluster)
    by_area = all(table.find(key) for key in keys)
    if not by_area:
        keys = list(adapter.join.locations if adapter.join else adapter.household)
    raw = pd.concat(table.chunks([*keys, *found.position]), ignore_index=True)
    lon, lat = (pd.to_numeric(raw[name], errors="coerce") for name in found.position)
    ids = raw[keys].astype(str).agg("-".join, axis=1)
    # The rows are households, and those of an area share its position: one point an area, or where none is named, a
    # place. A household without one is no cluster without one while its neighbours have it.
    has_place = lon.notna() & lat.notna() & ~((lon == 0) & (lat == 0))
    order = (~has_place).sort_values(kind="stable").index
    same = ids if by_area else ids.where(~has_place, lon.astype(str) + " " + lat.astype(str))
    once = ~same.loc[order].duplicated().reindex(same.index)
    return _placed(ids[once], lon[once], lat[once], adapter.coordinates.crs, {}, origin)


def _cluster_positions(file: SourceFile, table: Tabular, found: Found) -> gpd.GeoDataFrame:
    carried = [name for name in (ID_COLUMN, "urban", "displacement_km") if table.find(name)]
    raw = pd.concat(table.chunks([*carried, *(found.position or ())]), ignore_index=True)
    if found.position is not None:
        lon, lat = (pd.to_numeric(raw[name], errors="coerce") for name in found.position)
        crs: Any = "EPSG:4326"
    else:
        shape = geometry_of(file.path())
        points = shape if (shape.geom_type == "Point").all() else shape.representative_point()
        lon, lat, crs = points.x, points.y, points.crs
        if crs is None:
            raise SurveyError(f"{file.origin} has no CRS: where its points lie cannot be known.")
    others = {name: raw[name] for name in carried[1:]}
    if "urban" in others:
        others["urban"] = as_urban(raw["urban"], file.origin)
    return _placed(raw[ID_COLUMN].astype(str), lon, lat, crs, others, file.origin)


def _placed(
    ids: pd.Series, lon: pd.Series, lat: pd.Series, crs: Any, others: dict[str, pd.Series], origin: str
) -> gpd.GeoDataFrame:
    """Points in EPSG:4326 of the rows that have a position; the others in ``attrs["dropped"]``."""
    zero, gone = (lon == 0) & (lat == 0), lon.isna() | lat.isna()
    reasons = np.where(gone, NO_POSITION, AT_ZERO)
    left = zero | gone
    points = gpd.GeoDataFrame({ID_COLUMN: ids, **others}, geometry=gpd.points_from_xy(lon, lat), crs=as_crs(crs))
    points = points[~left].to_crs("EPSG:4326").reset_index(drop=True)
    if not points.geometry.x.between(-180, 180).all() or not points.geometry.y.between(-90, 90).all():
        raise SurveyError(f"{origin} has positions outside longitude -180..180, latitude -90..90; they are not drawn.")
    lost = zip(ids[left], reasons[left], strict=True)
    points.attrs = {"dropped": [{"source": "clusters", "id": str(name), "reason": str(why)} for name, why in lost]}
    return points
