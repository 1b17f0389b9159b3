"""One call from a study's folder to a QGIS project: its maps, how sure they are, and the survey behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd

from geopov.errors import MapError
from geopov.maps.qgis.layers import GpkgLayer, write_layers
from geopov.maps.qgis.project import ProjectRaster, write_project
from geopov.maps.qgis.qml import write_qml
from geopov.maps.qgis.uncertainty import write_interval_width
from geopov.maps.read import RasterMap
from geopov.maps.styles import PRODUCTS, Style, style_of

_WIDTH_SUFFIX = ".interval.tif"


def project_for_study(
    folder: str | Path,
    *,
    title: str,
    source: str = "",
    date: str | None = None,
    products: Sequence[str | Path] | None = None,
    admin: gpd.GeoDataFrame | None = None,
    admin_column: str | None = None,
    admin_style: Style | str | None = None,
    admin_unit: str = "",
    zones: gpd.GeoDataFrame | None = None,
) -> Path:
    """Make ``project.qgz`` of a study's folder, with ``layers.gpkg`` and a map of each interval's width beside it.

    Maps that have no ``.qml`` yet get one, so that they look the same when they are opened alone.

    Parameters
    ----------
    folder : path
        With the maps (``*.tif``), and, where they are, ``clusters.parquet``, ``model/predictions.parquet`` and
        ``study.json``, which says what the outcome is.
    title, source : str
        Of the project.
    date : str, optional
        Of the data; default the years of the clusters.
    products : sequence of path, optional
        The maps, the one to show first in front; default ``map.tif`` and then all others of the folder by name.
    admin, admin_column, admin_style, admin_unit, zones
        As of :func:`geopov.maps.qgis.layers.write_layers`.

    Returns
    -------
    Path
        Of the project.

    Raises
    ------
    MapError
        If the folder holds no map.
    """
    folder = Path(folder)
    paths = [Path(path) for path in products] if products is not None else _maps_of(folder)
    if not paths:
        raise MapError(f"there is no map (*.tif) in {folder}; make one first, or name the products.")
    rasters = _study_rasters(paths)
    clusters, predictions = (_table(folder / name) for name in ("clusters.parquet", "model/predictions.parquet"))
    outcome = _outcome(folder)
    column = outcome.get("column")
    if clusters is not None and column not in clusters.columns:
        raise MapError(
            f"{folder / 'study.json'} names no column of clusters.parquet as the outcome (it says {column!r}), "
            "so nobody knows what to draw of the clusters; write the study's settings there."
        )
    vectors: list[GpkgLayer] = []
    layers = folder / "layers.gpkg"
    if any(table is not None for table in (clusters, predictions, admin, zones)):
        vectors = write_layers(
            layers,
            clusters=clusters,
            predictions=predictions,
            admin=admin,
            zones=zones,
            outcome=column,
            outcome_style=_outcome_style(rasters, column),
            unit=outcome.get("unit", ""),
            admin_column=admin_column,
            admin_style=admin_style,
            admin_unit=admin_unit,
        )
    if date is None:
        date = _years(clusters if clusters is not None else predictions)
    path = folder / "project.qgz"
    return write_project(
        path,
        title=title,
        rasters=rasters,
        layers=layers if vectors else None,
        vectors=vectors,
        source=source,
        date=date,
    )


def _maps_of(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*.tif") if not path.name.endswith(_WIDTH_SUFFIX))
    return sorted(found, key=lambda path: path.name != "map.tif")


def _study_rasters(paths: Sequence[Path]) -> list[ProjectRaster]:
    """All bands of all products, called by the short names of the products where no two share one."""
    styles = [style_of(path) for path in paths]
    short = [style.title for style in styles]
    found = []
    for path, style in zip(paths, styles, strict=True):
        with RasterMap.open(path) as raster:
            names, title = raster.band_names, raster.tags.get("title", "")
        whole = title or style.title or path.stem
        found.append(ProjectRaster(path, style, whole))
        if not path.with_suffix(".qml").exists():
            write_qml(style, path.with_suffix(".qml"))
        name = style.title if style.title and short.count(style.title) == 1 else whole
        found += _how_sure(path, style, name, names)
        for band, other in enumerate(names[1:], start=2):
            if other in PRODUCTS and other != "in_support":
                look = style_of(path, style=other, band=band)
                found.append(ProjectRaster(path, look, f"{whole}: {look.title.lower()}", band))
    return found


def _how_sure(path: Path, style: Style, name: str, bands: Sequence[str]) -> list[ProjectRaster]:
    """What a product says of its uncertainty: the interval's width, its two ends, and where the model has support."""
    found = []
    width = path.with_name(f"{path.stem}{_WIDTH_SUFFIX}")
    if width_style := write_interval_width(path, width):
        write_qml(width_style, width.with_suffix(".qml"))
        found.append(ProjectRaster(width, width_style, f"{name}: {width_style.unit}", group="Uncertainty"))
    for band, end in enumerate(bands, start=1):
        if end in ("lower", "upper"):
            # In the map's own classes, so that a colour means the same on both.
            found.append(ProjectRaster(path, style, f"{name}: {end} end of the interval", band, "Uncertainty"))
        elif end == "in_support":
            look = style_of(path, style=end, band=band)
            found.append(ProjectRaster(path, look, f"{name}: like the surveyed places", band, "Uncertainty"))
    return found


def _table(path: Path) -> gpd.GeoDataFrame | None:
    return gpd.read_parquet(path) if path.exists() else None


def _outcome(folder: Path) -> dict[str, Any]:
    path = folder / "study.json"
    return dict(json.loads(path.read_text(encoding="utf-8")).get("outcome", {})) if path.exists() else {}


def _outcome_style(rasters: Sequence[ProjectRaster], column: str | None) -> Style | None:
    """The classes of the map that shows the clusters' outcome, in the outcome's own values."""
    for raster in rasters:
        with RasterMap.open(raster.path) as opened:
            tags = opened.tags
        if raster.band == 1 and raster.group == "Maps" and column and tags.get("outcome") == column:
            if tags.get("transform", "none") == "none":
                return raster.style
            if raster.style.edges and raster.style.edges[0] > 0:
                return replace(raster.style, edges=tuple(math.log(edge) for edge in raster.style.edges))
    return None


def _years(table: gpd.GeoDataFrame | None) -> str:
    if table is None or "year" not in table.columns:
        return ""
    first, last = int(table["year"].min()), int(table["year"].max())
    return str(first) if first == last else f"{first}–{last}"
