"""A map on paper: one sheet as a PDF with vector text and the raster's own cells, or as a PNG of 300 dots an inch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl

from geopov._validation import atomic_path, check_positive
from geopov.errors import MapError
from geopov.maps.picture.layout import Picture, Sheet, compose
from geopov.maps.picture.page import Page
from geopov.maps.picture.render import RC, read_picture
from geopov.maps.read import RasterMap

Orientation = Literal["auto", "portrait", "landscape"]
_LEGENDS: tuple[Literal["beside", "below"], ...] = ("beside", "below")

SHEETS_INCHES: dict[str, tuple[float, float]] = {
    "A5": (148 / 25.4, 210 / 25.4),
    "A4": (210 / 25.4, 297 / 25.4),
    "A3": (297 / 25.4, 420 / 25.4),
    "letter": (8.5, 11.0),
}
"""Width and height of upright sheets; ISO 216 and ANSI."""

# TrueType in the PDF can be searched and copied from, and most printers ask for it.
_PDF: Any = {"pdf.fonttype": 42}
# Texts and legends do not shrink, and the degrees below a narrower map would run into each other.
_LEAST_MAP_INCHES = 2.2


def print_map(
    path: str | Path,
    out: str | Path,
    *,
    page: str = "A4",
    orientation: Orientation = "auto",
    style: str | None = None,
    title: str | None = None,
    source: str | None = None,
    year: str | int | None = None,
    band: int | str = 1,
    dpi: int = 300,
) -> Path:
    """Draw a map on a sheet of paper, with all that :func:`geopov.maps.picture.render` shows.

    Title, unit, legend, scale bar, north arrow, lines of longitude and latitude, the map of the interval, source, date
    and projection. A PDF holds text as text and the raster cell by cell, up to what ``dpi`` can show on the sheet.
    Equal input gives equal bytes: the file has no date of its own.

    Parameters
    ----------
    path : path
        A north-up GeoTIFF with a CRS.
    out : path
        The ``.pdf`` or ``.png`` to write.
    page : str
        One of :data:`SHEETS_INCHES`: A5, A4, A3, letter.
    orientation : {"auto", "portrait", "landscape"}
        Of the sheet; by default the one on which the map is larger.
    style : str, optional
        One of :data:`geopov.maps.PRODUCTS`; default the file's tag ``style``, else ``generic``.
    title, source, year : str, optional
        Default the file's tags of these names.
    band : int or str
        To show, by number (from 1) or name.
    dpi : int
        Dots an inch of a PNG; what is finer is averaged in either format.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    MapError
        If the file cannot be read, holds no value, page, style or band are unknown, or the sheet is too small.
    """
    out = Path(out)
    kind = out.suffix.lower().lstrip(".")
    if kind not in ("pdf", "png"):
        raise MapError(f"the map is to be printed as {out.name}; expected a name that ends in .pdf or .png.")
    if page not in SHEETS_INCHES:
        raise MapError(f"there is no sheet {page!r}; expected one of {', '.join(SHEETS_INCHES)}.")
    if orientation not in ("auto", "portrait", "landscape"):
        raise MapError(f"orientation is {orientation!r}; expected auto, portrait or landscape.")
    check_positive(dpi, "dpi", MapError)
    width, height = SHEETS_INCHES[page]
    with RasterMap.open(path) as raster:
        number = raster.band_number(band) if isinstance(band, str) else band
        if number is None:
            raise MapError(f"{path} has no band called {band!r}; it has {', '.join(raster.band_names)}.")
        cells = max(1, int(width * dpi) * int(height * dpi))
        picture = read_picture(raster, style, title, source, year, number, max_cells=cells)
    with mpl.rc_context(RC | _PDF), atomic_path(out) as partial:
        sheet = _on_paper(picture, page, orientation)
        sheet.figure.savefig(partial, dpi=dpi, format=kind, metadata=_metadata(kind, picture.title))
    return out


def _metadata(kind: str, title: str) -> dict[str, Any]:
    """Nothing that differs between two runs or two versions of matplotlib."""
    if kind == "png":
        return {"Software": None, "Title": title}
    return {"Title": title, "Creator": "geopov", "Producer": None, "CreationDate": None}


def _on_paper(picture: Picture, name: str, orientation: str) -> Page:
    """The sheet with the largest map, its legends beside or below it."""
    short, long = SHEETS_INCHES[name]
    sizes = {"portrait": (short, long), "landscape": (long, short)}
    wanted = list(sizes) if orientation == "auto" else [orientation]
    sheets = [
        Sheet(width=sizes[size][0], height=sizes[size][1], map_height=sizes[size][1], legend=where)
        for size in wanted
        for where in _LEGENDS
    ]
    pages = [page for sheet in sheets if (page := _fitted(picture, sheet)) is not None]
    if not pages:
        turned = "" if orientation == "auto" else ", or turn it (orientation='auto')"
        raise MapError(
            f"legends leave no room for the map on a sheet {name} ({orientation}); take a larger one{turned}."
        )
    return max(pages, key=_map_area)


def _fitted(picture: Picture, sheet: Sheet) -> Page | None:
    """The page with the largest map that leaves room for all else; None where there is none.

    Heading, footer and legends need the same room at any size of the map, so the second try fits or none does.
    """
    for _ in range(2):
        page = compose(picture, sheet)
        over = page.height - sheet.height
        if over <= 1e-6:
            return page if _map_width(page) >= _LEAST_MAP_INCHES else None
        sheet = replace(sheet, map_height=_map_height(page) - over)
        if sheet.map_height <= 0:
            return None
    return None


def _map_height(page: Page) -> float:
    return float(page.figure.axes[0].get_position().height) * page.height


def _map_width(page: Page) -> float:
    return float(page.figure.axes[0].get_position().width) * page.width


def _map_area(page: Page) -> float:
    return _map_width(page) * _map_height(page)
