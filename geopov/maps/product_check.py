"""Whether a raster is a product that others can use without asking: laid out for the web, named, with units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from geopov._validation import some
from geopov.errors import MapError
from geopov.maps.read import RasterMap
from geopov.maps.styles import PRODUCTS

# GDAL's COG driver makes overviews of what is larger than one of its blocks.
_BLOCK = 512


def check_product(path: str | Path) -> list[str]:
    """What is wrong with a product, in words; an empty list where nothing is.

    Looked at: CRS and orientation, the layout of a Cloud Optimized GeoTIFF with its overviews, names, units and nodata
    of the bands, a known style, and that maps of classes hold only classes, in their overviews too.

    Parameters
    ----------
    path : path
        Of a GeoTIFF.

    Returns
    -------
    list of str
        One sentence a problem.
    """
    try:
        with RasterMap.open(path) as raster:
            return [*_layout(raster), *_bands(raster), *_classes(raster)]
    except MapError as error:
        return [str(error)]


def _layout(raster: RasterMap) -> list[str]:
    problems = []
    if raster.source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") != "COG":
        problems.append(f"{raster.path.name} is not laid out as a Cloud Optimized GeoTIFF.")
    if max(raster.source.shape) > _BLOCK and not raster.source.overviews(1):
        height, width = raster.source.shape
        problems.append(f"{raster.path.name} has {width} x {height} cells and no overviews.")
    if (name := raster.tags.get("style", "")) not in PRODUCTS:
        problems.append(f"the tag style is {name!r}; expected one of {some(sorted(PRODUCTS), 20)}.")
    return problems


def _bands(raster: RasterMap) -> list[str]:
    unnamed = [str(band) for band, name in enumerate(raster.source.descriptions, start=1) if not name]
    without_unit = [name for name, unit in zip(raster.band_names, raster.units, strict=True) if not unit]
    without_nodata = [
        name for name, nodata in zip(raster.band_names, raster.source.nodatavals, strict=True) if nodata is None
    ]
    found = ((unnamed, "name"), (without_unit, "unit"), (without_nodata, "nodata value"))
    return [f"bands {some(bands)} have no {what}." for bands, what in found if bands]


def _classes(raster: RasterMap) -> list[str]:
    """Values between classes, as averages in overviews are."""
    product = PRODUCTS.get(raster.tags.get("style", ""))
    if product is None or not product.categories:
        return []
    codes = [code for code, _ in product.categories]
    problems = []
    for level in range(-1, len(raster.source.overviews(1))):
        # Level -1 is the raster itself.
        options = {} if level < 0 else {"overview_level": level}
        with rasterio.open(raster.path, **options) as source:
            found: set[float] = set()
            for _, window in source.block_windows(1):
                values = source.read(1, window=window, masked=True).compressed()
                found.update(np.unique(values[np.isfinite(values)]).tolist())
        odd = np.setdiff1d(sorted(found), codes)
        if odd.size:
            where = "the cells" if level < 0 else f"overview {level + 1}"
            problems.append(f"{where} hold {some(odd.tolist())}, which is none of the classes {some(codes)}.")
    return problems
