"""A picture of a map for people without a GIS: what it shows, in which unit, where, and how sure it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from geopov._validation import atomic_path
from geopov.errors import MapError
from geopov.grid import Bounds, ground_scale
from geopov.maps.picture.cartography import View, format_length
from geopov.maps.picture.layout import PAGE_WIDTH, Layer, Picture, compose
from geopov.maps.read import RasterMap
from geopov.maps.styles import interval_width, make_interval_style, make_style, words_for

# The reader's own matplotlibrc must not change a picture.
RC: Any = {"font.family": "DejaVu Sans", "hatch.linewidth": 0.5, "axes.unicode_minus": True}


def render(
    path: str | Path,
    out: str | Path,
    *,
    style: str | None = None,
    title: str | None = None,
    source: str | None = None,
    year: str | int | None = None,
    band: int = 1,
    width_px: int = 1800,
) -> Path:
    """Draw a map as a PNG with legend, unit, scale bar, north arrow, degrees, source and CRS.

    Where the file has bands named ``lower`` and ``upper``, a second, smaller map shows how far apart they are; cells
    whose band ``in_support`` is 0 are hatched there. Large files are read from their overviews.

    Parameters
    ----------
    path : path
        A north-up GeoTIFF with a CRS.
    out : path
        The ``.png`` to write.
    style : str, optional
        One of :data:`geopov.maps.PRODUCTS`; default the file's tag ``style``, else ``generic``.
    title, source, year : str, optional
        Default the file's tags of these names.
    band : int
        To show.
    width_px : int
        Width of the picture.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    MapError
        If the file cannot be read, holds no value, or style or band are unknown.
    """
    out = Path(out)
    if out.suffix.lower() != ".png":
        raise MapError(f"the picture is to be called {out.name}; expected a name that ends in .png.")
    if width_px < 300:
        raise MapError(f"width_px is {width_px}; a map with its legend needs at least 300.")
    with RasterMap.open(path) as raster:
        picture = read_picture(raster, style, title, source, year, band, max_cells=max(width_px, 900) ** 2)
    with mpl.rc_context(RC), atomic_path(out) as partial:
        page = compose(picture)
        # The default metadata name the matplotlib version, and a picture should not change with it.
        page.figure.savefig(partial, dpi=width_px / PAGE_WIDTH, format="png", metadata={"Software": None})
    return out


def read_picture(
    raster: RasterMap,
    style_name: str | None,
    title: str | None,
    source: str | None,
    year: str | int | None,
    band: int,
    max_cells: int,
) -> Picture:
    """What a picture of the map shows, from at most ``max_cells`` cells; as of :func:`render`."""
    tags = raster.tags
    name = style_name or tags.get("style", "generic")
    values = raster.read(band, max_cells=max_cells)
    main = Layer(values, make_style(name, values, **words_for(name, raster, band)))
    headline = title or tags.get("title") or main.style.title or raster.path.stem
    what = "" if main.style.title.lower() in headline.lower() else main.style.title
    when = str(year or tags.get("year", ""))
    subtitle = " · ".join(part for part in (what, main.style.unit, when, f"cells of {cell_size(raster)}") if part)
    said = source or tags.get("source", "")
    return Picture(
        title=headline,
        subtitle=subtitle[:1].upper() + subtitle[1:],
        footer=[*([f"Source: {said}"] if said else []), f"Projection: {raster.crs_name} · made with geopov"],
        view=View(raster.crs, _visible(values, raster.bounds)),
        extent=raster.bounds,
        main=main,
        interval=_interval(raster, name, max_cells),
    )


def _interval(raster: RasterMap, name: str, max_cells: int) -> Layer | None:
    lower, upper = raster.band_number("lower"), raster.band_number("upper")
    if lower is None or upper is None:
        return None
    width = interval_width(name, raster.read(lower, max_cells=max_cells), raster.read(upper, max_cells=max_cells))
    support = raster.band_number("in_support")
    unsupported = raster.read(support, max_cells=max_cells) < 0.5 if support is not None else None
    # Intervals far from the survey are not believed, so they do not shape the classes either.
    believed = width if unsupported is None or unsupported[np.isfinite(width)].all() else width[~unsupported]
    style = make_interval_style(name, believed, unit=raster.units[lower - 1], level=raster.tags.get("interval", ""))
    return Layer(width, style, unsupported)


def cell_size(raster: RasterMap) -> str:
    """Side of a square as large as a cell in the middle, in the projection's own metres where they are true to 1%."""
    scale_x, scale_y = ground_scale(raster.crs, *map(np.array, View(raster.crs, raster.bounds).centre))
    nominal = float(raster.source.transform.a)
    ground = float(np.sqrt(scale_x[0] * scale_y[0] * nominal * -raster.source.transform.e))
    true_enough = raster.crs.is_projected and abs(ground / nominal - 1) < 0.01
    return format_length(float(f"{nominal if true_enough else ground:.3g}"))


def _visible(values: np.ndarray, bounds: Bounds) -> Bounds:
    """The bounds of the cells that have data, with a narrow rim."""
    rows, columns = np.nonzero(np.isfinite(values))
    west, south, east, north = bounds
    cell_x, cell_y = (east - west) / values.shape[1], (north - south) / values.shape[0]
    left, right = columns.min(), columns.max() + 1
    top, bottom = rows.min(), rows.max() + 1
    rim = 0.03 * max((right - left) * cell_x, (bottom - top) * cell_y)
    return (
        max(west, west + left * cell_x - rim),
        max(south, north - bottom * cell_y - rim),
        min(east, west + right * cell_x + rim),
        min(north, north - top * cell_y + rim),
    )
