"""How sure a map is, as a map of its own: how far apart the ends of its interval are in each cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from geopov.maps.read import RasterMap
from geopov.maps.styles import Style, interval_width, make_interval_style, product_named
from geopov.raster.write import write_cog

# Two bands and their width as float64: some 50 MB.
_STRIP_CELLS = 1 << 21
_KEPT_TAGS = ("source", "year", "interval")


def write_interval_width(path: str | Path, out: str | Path, *, style: str | None = None) -> Style | None:
    """Write the width of a map's interval as a Cloud Optimized GeoTIFF, for programs that show one band at a time.

    Parameters
    ----------
    path : path
        A map with bands ``lower`` and ``upper``.
    out : path
        Of the GeoTIFF to write, with one band ``width``: upper over lower for products on logarithmic scales, else
        upper minus lower, in percentage points for shares.
    style : str, optional
        The map's product; default its tag ``style``, else ``generic``.

    Returns
    -------
    Style or None
        Of ``out``; None, and nothing is written, where the map has no interval or its values are classes.

    Raises
    ------
    MapError
        If the map cannot be read, its style is unknown, or an interval is nodata in every cell.
    """
    with RasterMap.open(path) as raster:
        name = style or raster.tags.get("style", "generic")
        product = product_named(name)
        lower, upper = raster.band_number("lower"), raster.band_number("upper")
        if lower is None or upper is None or product.categories:
            return None
        widths = interval_width(name, raster.read(lower), raster.read(upper))
        found = make_interval_style(name, widths, unit=raster.units[lower - 1], level=raster.tags.get("interval", ""))
        kept = {key: raster.tags[key] for key in _KEPT_TAGS if key in raster.tags}
        title = f"{raster.tags.get('title') or product.title}: {found.unit}".removeprefix(": ")
        source = raster.source
        write_cog(
            out,
            _strips(raster, name, lower, upper),
            crs=raster.crs,
            transform=source.transform,
            width=source.width,
            height=source.height,
            band_names=["width"],
            units=found.unit,
            description=title,
            tags=kept | {"style": "generic", "title": title, "interval_of": name},
        )
    return found


def _strips(raster: RasterMap, name: str, lower: int, upper: int) -> Iterator[tuple[int, np.ndarray]]:
    height, width = raster.source.shape
    rows = max(1, _STRIP_CELLS // width)
    for first in range(0, height, rows):
        window = Window(0, first, width, min(rows, height - first))
        ends = raster.source.read([lower, upper], window=window, masked=True).astype(float).filled(np.nan)
        yield first, interval_width(name, ends[0], ends[1]).astype("float32")[None]
