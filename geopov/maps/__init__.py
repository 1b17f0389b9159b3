"""Maps: a value for every cell, written as a Cloud Optimized GeoTIFF, styled for QGIS and drawn as a picture.

>>> from geopov import maps
>>> region = maps.Region.from_file("nepal.gpkg")                                    # doctest: +SKIP
>>> maps.predict(model, region.grid(cell_m=1000), mask=region, path="density.tif")   # doctest: +SKIP
>>> style = maps.style_of("density.tif", style="log_density")                        # doctest: +SKIP
>>> maps.write_qml(style, "density.qml")                                             # doctest: +SKIP
>>> maps.render("density.tif", "density.png", style="log_density")                   # doctest: +SKIP
"""

from __future__ import annotations

from geopov.maps.predict import CellPredictor, predict
from geopov.maps.qml import write_qml
from geopov.maps.read import RasterMap
from geopov.maps.region import Region
from geopov.maps.render import render
from geopov.maps.styles import PRODUCTS, Product, Style, make_style, style_of

__all__ = [
    "PRODUCTS",
    "CellPredictor",
    "Product",
    "RasterMap",
    "Region",
    "Style",
    "make_style",
    "predict",
    "render",
    "style_of",
    "write_qml",
]
