"""A QGIS project: maps, their uncertainty, the survey and admin units in groups, with styles and a print layout."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from geopov._validation import atomic_path, some
from geopov.errors import MapError
from geopov.grid import Bounds, as_crs
from geopov.maps.qgis.document import GROUPS, project_document
from geopov.maps.qgis.layers import GpkgLayer
from geopov.maps.qgis.qml import as_document
from geopov.maps.qgis.xml import MapLayer
from geopov.maps.read import RasterMap
from geopov.maps.styles import Style

_GROUP_OF = {"admin": "Admin", "zones": "Admin"}
_VIEW_CELLS = 250_000
# The first day that a zip file can name.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ProjectRaster:
    """A band of a raster in a project.

    Attributes
    ----------
    path : Path
        Of the GeoTIFF; the project refers to it relative to its own folder.
    style : Style
        As for its ``.qml``.
    title : str
        As the tree of layers shows it; no two rasters of a group have the same.
    band : int
        To show.
    group : {"Maps", "Uncertainty"}
        In the tree.
    """

    path: Path
    style: Style
    title: str
    band: int = 1
    group: Literal["Maps", "Uncertainty"] = "Maps"


def write_project(
    path: str | Path,
    *,
    title: str,
    rasters: Sequence[ProjectRaster],
    layers: str | Path | None = None,
    vectors: Sequence[GpkgLayer] = (),
    source: str = "",
    date: str = "",
) -> Path:
    """Write a QGIS project (.qgz) that opens with the first map in view.

    Groups are Survey, Admin, Uncertainty and Maps, from the uppermost down. Of the maps the first is shown, and of the
    survey the first layer; Uncertainty and Admin open when ticked. Each map has a print layout of its name: one A4 page
    with title, map, legend, scale bar, true north, source and date, and the survey on the first. Paths are relative, so
    the folder can be moved. Equal input gives equal bytes.

    Parameters
    ----------
    path : path
        Of the ``.qgz``.
    title : str
        Of the project.
    rasters : sequence of ProjectRaster
        At least one in the group Maps; the first of them gives CRS and extent.
    layers : path, optional
        The GeoPackage with ``vectors``.
    vectors : sequence of GpkgLayer
        As :func:`geopov.maps.qgis.layers.write_layers` returns them.
    source, date : str
        Whose data it is and of when, for the foot of the page and the project's metadata.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If there is no map, two layers have one title, ``vectors`` come without ``layers``, or a file is missing.
    """
    path = Path(path)
    maps = [raster for raster in rasters if raster.group == "Maps"]
    if path.suffix != ".qgz":
        raise MapError(f"a QGIS project is written as .qgz; {path.name} must end so.")
    if not maps:
        raise MapError("the project has no raster in the group Maps; give at least one.")
    if vectors and (layers is None or not Path(layers).exists()):
        raise MapError(f"{len(vectors)} vector layers are given, but no GeoPackage of them; write_layers makes one.")
    drawn = [_raster_layer(raster, path.parent, visible=raster is maps[0]) for raster in rasters]
    if layers is not None:
        drawn += [
            _vector_layer(vector, Path(layers), path.parent, first=index == 0) for index, vector in enumerate(vectors)
        ]
    drawn.sort(key=lambda layer: GROUPS.index(layer.group))
    _check_titles(drawn)
    text = as_document(project_document(title, drawn, source=source, date=date))
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(f"{path.stem}.qgs", date_time=_ZIP_DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, text)
    return path


def _raster_layer(raster: ProjectRaster, folder: Path, *, visible: bool) -> MapLayer:
    with RasterMap.open(raster.path) as opened:
        if not 1 <= raster.band <= opened.count:
            raise MapError(f"{raster.path} has no band {raster.band}; it has {opened.count}.")
        crs, bounds = opened.crs, opened.bounds
        shown = _bounds_of_data(opened.read(raster.band, max_cells=_VIEW_CELLS), bounds)
    source = _relative(raster.path, folder)
    return MapLayer(raster.title, raster.group, source, crs, bounds, shown, raster.style, raster.band, visible)


def _bounds_of_data(values: np.ndarray, bounds: Bounds) -> Bounds:
    rows, columns = np.nonzero(np.isfinite(values))
    if rows.size == 0:
        return bounds
    west, south, east, north = bounds
    cell_x, cell_y = (east - west) / values.shape[1], (north - south) / values.shape[0]
    return (
        float(west + columns.min() * cell_x),
        float(north - (rows.max() + 1) * cell_y),
        float(west + (columns.max() + 1) * cell_x),
        float(north - rows.min() * cell_y),
    )


def _vector_layer(vector: GpkgLayer, layers: Path, folder: Path, *, first: bool) -> MapLayer:
    group = _GROUP_OF.get(vector.name, "Survey")
    source = f"{_relative(layers, folder)}|layername={vector.name}"
    west, south, east, north = vector.table.total_bounds
    bounds = float(west), float(south), float(east), float(north)
    return MapLayer(vector.title, group, source, as_crs(vector.table.crs), bounds, bounds, vector.style, visible=first)


def _relative(path: Path, folder: Path) -> str:
    return "./" + Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _check_titles(layers: Sequence[MapLayer]) -> None:
    names = [(layer.group, layer.title) for layer in layers]
    repeated = sorted({f"{title} ({group})" for group, title in names if names.count((group, title)) > 1})
    if repeated:
        raise MapError(f"layers of one group have the same title: {some(repeated)}; give each its own.")
