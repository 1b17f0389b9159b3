"""Maps: a value for every cell, written as a Cloud Optimized GeoTIFF, styled for QGIS, and handed on.

From a model (:func:`predict`), from a census (:func:`map_density`), from both (:class:`PovertyModel`,
:class:`PoorModel`), by admin unit (:func:`aggregate`, :func:`fay_herriot`); to QGIS (:func:`project_for_study`), to a
browser (:func:`write_page`), to paper (:func:`print_map`), to a catalogue (:func:`write_stac`).

>>> from geopov import maps
>>> region = maps.Region.from_file("nepal.gpkg")                                    # doctest: +SKIP
>>> maps.predict(model, region.grid(cell_m=1000), mask=region, path="density.tif")   # doctest: +SKIP
>>> style = maps.style_of("density.tif", style="log_density")                        # doctest: +SKIP
>>> maps.write_qml(style, "density.qml")                                             # doctest: +SKIP
>>> maps.render("density.tif", "density.png", style="log_density")                   # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geopov.maps.admin.publication import benchmark, publication_table
    from geopov.maps.admin.small_area import fay_herriot
    from geopov.maps.admin.units import aggregate, match, write_admin
    from geopov.maps.blocks import BlockPredictor, BlockValues, CellPredictor, HoleWarning, Run
    from geopov.maps.cells import predict
    from geopov.maps.density.model import DensityModel, fit_density
    from geopov.maps.density.people_map import Covariates, map_density
    from geopov.maps.density.population import Population, allocate
    from geopov.maps.density.zone_cells import ZoneCells, zone_cells
    from geopov.maps.density.zones import Zones, read_zones
    from geopov.maps.picture.print import print_map
    from geopov.maps.picture.render import render
    from geopov.maps.poverty.indices import PovertyModel, write_consumption, write_poverty
    from geopov.maps.poverty.number import PoorModel, PoorTotals
    from geopov.maps.poverty.quintiles import write_quintiles
    from geopov.maps.product_check import check_product
    from geopov.maps.qgis.layers import write_layers
    from geopov.maps.qgis.project import ProjectRaster, write_project
    from geopov.maps.qgis.qml import write_qml
    from geopov.maps.qgis.study_project import project_for_study
    from geopov.maps.read import RasterMap, read_vector
    from geopov.maps.region import Region
    from geopov.maps.stac import Collection, write_stac
    from geopov.maps.styles import PRODUCTS, Product, Style, make_style, style_of
    from geopov.maps.web.page import PageLayer, PageVectors, write_page

__all__ = [
    "PRODUCTS",
    "BlockPredictor",
    "BlockValues",
    "CellPredictor",
    "Collection",
    "Covariates",
    "DensityModel",
    "HoleWarning",
    "PageLayer",
    "PageVectors",
    "PoorModel",
    "PoorTotals",
    "Population",
    "PovertyModel",
    "Product",
    "ProjectRaster",
    "RasterMap",
    "Region",
    "Run",
    "Style",
    "ZoneCells",
    "Zones",
    "aggregate",
    "allocate",
    "benchmark",
    "check_product",
    "fay_herriot",
    "fit_density",
    "make_style",
    "map_density",
    "match",
    "predict",
    "print_map",
    "project_for_study",
    "publication_table",
    "read_vector",
    "read_zones",
    "render",
    "style_of",
    "write_admin",
    "write_consumption",
    "write_layers",
    "write_page",
    "write_poverty",
    "write_project",
    "write_qml",
    "write_quintiles",
    "write_stac",
    "zone_cells",
]

_HOME = {
    "admin.publication": (
        "benchmark",
        "publication_table",
    ),
    "admin.small_area": ("fay_herriot",),
    "admin.units": (
        "aggregate",
        "match",
        "write_admin",
    ),
    "blocks": (
        "BlockPredictor",
        "BlockValues",
        "CellPredictor",
        "HoleWarning",
        "Run",
    ),
    "cells": ("predict",),
    "density.model": (
        "DensityModel",
        "fit_density",
    ),
    "density.people_map": (
        "Covariates",
        "map_density",
    ),
    "density.population": (
        "Population",
        "allocate",
    ),
    "density.zone_cells": (
        "ZoneCells",
        "zone_cells",
    ),
    "density.zones": (
        "Zones",
        "read_zones",
    ),
    "picture.print": ("print_map",),
    "picture.render": ("render",),
    "poverty.indices": (
        "PovertyModel",
        "write_consumption",
        "write_poverty",
    ),
    "poverty.number": (
        "PoorModel",
        "PoorTotals",
    ),
    "poverty.quintiles": ("write_quintiles",),
    "product_check": ("check_product",),
    "qgis.layers": ("write_layers",),
    "qgis.project": (
        "ProjectRaster",
        "write_project",
    ),
    "qgis.qml": ("write_qml",),
    "qgis.study_project": ("project_for_study",),
    "read": (
        "RasterMap",
        "read_vector",
    ),
    "region": ("Region",),
    "stac": (
        "Collection",
        "write_stac",
    ),
    "styles": (
        "PRODUCTS",
        "Product",
        "Style",
        "make_style",
        "style_of",
    ),
    "web.page": (
        "PageLayer",
        "PageVectors",
        "write_page",
    ),
}


def __getattr__(name: str) -> Any:
    # A command that draws a map needs no model, and one that shares people needs no page.
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"geopov.maps.{module}"), name)
    raise AttributeError(f"module 'geopov.maps' has no attribute {name!r}")
