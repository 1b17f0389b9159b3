"""One GeoPackage with the survey behind a map: clusters, folds, residuals, admin units, each with its QGIS style."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio

from geopov._validation import atomic_path, check_columns, some, still_gpkg_date
from geopov.errors import MapError
from geopov.maps.qgis.vector_qml import Shape, VectorStyle, categorical, diverging, graduated, vector_qml
from geopov.maps.styles import Style, make_style

_FID, _GEOMETRY = "fid", "geom"
# GeoPackage 1.2 is the newest that the GDAL of QGIS 3.22 reads without a warning.
_OPTIONS = {"VERSION": "1.2"}
_RESULT = ("observed", "mean", "lower", "upper", "baseline", "in_support")


@dataclass(frozen=True)
class GpkgLayer:
    """A layer of a GeoPackage and how it is drawn.

    Attributes
    ----------
    name, title : str
        In the file, and as people read it.
    table : GeoDataFrame
        Points or polygons with a CRS.
    style : VectorStyle
        Of one of its columns.
    """

    name: str
    title: str
    table: gpd.GeoDataFrame
    style: VectorStyle


def write_layers(
    path: str | Path,
    *,
    clusters: gpd.GeoDataFrame | None = None,
    predictions: gpd.GeoDataFrame | None = None,
    admin: gpd.GeoDataFrame | None = None,
    zones: gpd.GeoDataFrame | None = None,
    outcome: str | None = None,
    outcome_style: Style | str | None = None,
    unit: str = "",
    admin_column: str | None = None,
    admin_style: Style | str | None = None,
    admin_unit: str = "",
) -> list[GpkgLayer]:
    """Write what stands behind a map as layers of one GeoPackage that QGIS draws with their styles.

    The styles stand in the table ``layer_styles``, where QGIS looks for the default of a layer. The same tables give
    the same bytes.

    Parameters
    ----------
    path : path
        Ends in .gpkg; replaced if it exists.
    clusters : GeoDataFrame, optional
        Layer ``clusters``: the survey's clusters with the column ``outcome``.
    predictions : GeoDataFrame, optional
        Layers ``folds`` (which clusters were held out together) and ``residuals`` (observed minus predicted, each
        predicted from the other folds). Columns ``cluster_id``, ``fold``, ``block``, ``observed``, ``mean``,
        ``lower``, ``upper``, and ``baseline`` and ``in_support`` where known.
    admin : GeoDataFrame, optional
        Layer ``admin``: polygons, such as those of the table of small-area estimates.
    zones : GeoDataFrame, optional
        Layer ``zones``: census zones with ``zone_id``, ``count`` and ``area_km2``.
    outcome : str, optional
        Column of ``clusters`` that is drawn; needed with them.
    outcome_style, admin_style : Style or str, optional
        Classes and colours, such as the map's own, so that a colour means one thing, or the name of a product;
        default: quantiles.
    unit, admin_unit : str
        Of the columns that are drawn, where their style does not say it.
    admin_column : str, optional
        Column of ``admin`` that is drawn; needed with it.

    Returns
    -------
    list of GpkgLayer
        What was written, for :func:`geopov.maps.qgis.project.write_project`.

    Raises
    ------
    MapError
        If nothing is given, a column or CRS is missing, or the path is no .gpkg.
    """
    path = Path(path)
    if path.suffix != ".gpkg":
        raise MapError(f"layers are written as a GeoPackage; {path.name} must end in .gpkg.")
    layers = []
    if clusters is not None:
        column = _named(outcome, "clusters", "outcome")
        layers.append(_quantity("clusters", "Survey clusters", clusters, column, outcome_style, unit))
    if predictions is not None:
        layers += _prediction_layers(predictions, unit)
    if admin is not None:
        column = _named(admin_column, "admin", "admin_column")
        layers.append(_quantity("admin", "Admin units", admin, column, admin_style, admin_unit))
    if zones is not None:
        layers.append(_zone_layer(zones))
    if not layers:
        raise MapError("there is no table to write as a layer; give clusters, predictions, admin or zones.")
    with atomic_path(path) as partial:
        _write(layers, partial)
    return layers


def _named(column: str | None, layer: str, argument: str) -> str:
    if column is None:
        raise MapError(f"{layer} are given without {argument}; name the column of theirs that is to be drawn.")
    return column


def _quantity(
    name: str, title: str, table: gpd.GeoDataFrame, column: str, style: Style | str | None, unit: str
) -> GpkgLayer:
    _check(table, name, [column])
    try:
        values = table[column].to_numpy(dtype=float)
    except ValueError as error:
        raise MapError(f"the column {column!r} of {name} is not a number, so it cannot be drawn: {error}") from error
    if not isinstance(style, Style):
        style = make_style(style or "generic", values, unit=unit)
    shape: Shape = "point" if (table.geometry.geom_type == "Point").all() else "polygon"
    return GpkgLayer(name, title, table, graduated(column, style, shape=shape))


def _prediction_layers(predictions: gpd.GeoDataFrame, unit: str) -> list[GpkgLayer]:
    _check(predictions, "predictions", ["cluster_id", "fold", "block", "observed", "mean", "lower", "upper"])
    folds = predictions[["cluster_id", "fold", "block", predictions.geometry.name]]
    names = {int(fold): f"fold {int(fold)}" for fold in np.sort(folds["fold"].unique())}
    known = [column for column in _RESULT if column in predictions.columns]
    residuals = predictions[["cluster_id", *known, predictions.geometry.name]].assign(
        residual=predictions["observed"] - predictions["mean"],
        in_interval=predictions["observed"].between(predictions["lower"], predictions["upper"]),
    )
    look = diverging("residual", residuals["residual"].to_numpy(dtype=float), unit=unit)
    return [
        GpkgLayer("folds", "Folds held out together", folds, categorical("fold", names)),
        GpkgLayer("residuals", "Observed minus predicted", residuals, look),
    ]


def _zone_layer(zones: gpd.GeoDataFrame) -> GpkgLayer:
    _check(zones, "zones", ["zone_id", "count", "area_km2"])
    table = zones.assign(density=zones["count"] / zones["area_km2"])
    style = make_style("density", table["density"].to_numpy(dtype=float))
    return GpkgLayer("zones", "Census zones", table, graduated("density", style, shape="polygon"))


def _check(table: gpd.GeoDataFrame, what: str, columns: list[str]) -> None:
    if not isinstance(table, gpd.GeoDataFrame):
        raise MapError(f"{what} are a {type(table).__name__}; a layer needs a GeoDataFrame with geometries.")
    check_columns(table, columns, f"the table of {what}", MapError)
    if table.crs is None:
        raise MapError(f"{what} have no CRS, so nobody knows where they lie; set it with set_crs first.")
    if len(table) == 0:
        raise MapError(f"the table of {what} is empty; a layer needs at least one row.")


def _write(layers: list[GpkgLayer], path: Path) -> None:
    """Layers and their styles."""
    common = {"driver": "GPKG", "dataset_options": _OPTIONS}
    with still_gpkg_date():
        for layer in layers:
            options = {"FID": _FID, "GEOMETRY_NAME": _GEOMETRY, "IDENTIFIER": layer.title}
            pyogrio.write_dataframe(_flat(layer.table), path, layer=layer.name, layer_options=options, **common)
        pyogrio.write_dataframe(_styles(layers), path, layer="layer_styles", layer_options={"FID": "id"}, **common)


def _styles(layers: list[GpkgLayer]) -> pd.DataFrame:
    """The table in which QGIS keeps the styles of a GeoPackage's layers, with its column names."""
    rows = [_style_row(layer) for layer in layers]
    return pd.DataFrame(rows).astype({"useAsDefault": bool})


def _style_row(layer: GpkgLayer) -> Mapping[str, object]:
    return {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer.name,
        "f_geometry_column": _GEOMETRY,
        "styleName": layer.name,
        "styleQML": vector_qml(layer.style),
        "styleSLD": "",
        "useAsDefault": True,
        "description": layer.title,
        "owner": "",
        "ui": None,
        "update_time": "1970-01-01T00:00:00.000Z",
    }


def _flat(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """``table`` without what a GeoPackage cannot hold: attributes, an index, lists, names that differ only by case."""
    bare = table.reset_index(drop=True)
    bare.attrs = {}
    names = [_FID, _GEOMETRY, *(str(column).lower() for column in bare.columns if column != bare.geometry.name)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise MapError(
            f"columns {some(repeated)} stand twice in a layer (case does not count, and it has a fid and a geom of "
            "its own); rename them."
        )
    nested = [column for column in bare.columns if bare[column].map(lambda value: isinstance(value, list | dict)).any()]
    return bare.assign(**{column: bare[column].map(json.dumps) for column in nested})
