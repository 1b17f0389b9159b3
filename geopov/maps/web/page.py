"""One HTML page with a map that can be moved, zoomed and asked, for people without a GIS and without a network.

Leaflet, and folium which writes it, load their code and their background from the network; to work without one the
page would have to carry a copy of theirs. It needs little of it: there are no tiles, and rasters stay in their own
projection, which Leaflet can only draw warped. So the viewer (``templates/webmap.js``) is the project's own, in plain
JavaScript, and colours every pixel of the screen from the cell below it: cells keep their edges, and what is shown is
what is told.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from geopov._validation import atomic_path, check_positive
from geopov.errors import MapError
from geopov.grid import transform_xy
from geopov.maps.web.rasters import PageLayer, PageRaster, read_layer
from geopov.maps.web.vectors import PageVectors

__all__ = ["PageLayer", "PageVectors", "write_page"]

# With its interval a cell takes some 10 bytes of the page, so that a layer is about 1 MB.
_MAX_CELLS = 100_000


def write_page(
    path: str | Path,
    *,
    layers: Sequence[PageLayer],
    vectors: Sequence[PageVectors] = (),
    title: str | None = None,
    source: str | None = None,
    year: str | int | None = None,
    max_cells: int = _MAX_CELLS,
) -> Path:
    """Write one HTML file with the maps: switched, zoomed, and asked for the value and interval of any place.

    The file needs no network and, by its Content-Security-Policy, cannot use one. Where JavaScript is off, the first
    map's picture and legend are shown. A place can be linked to: ``page.html#lon=33.9&lat=-11.5&layer=2`` opens with
    it; ``&show=interval`` colours by uncertainty, ``&zoom=9`` is near (Web Mercator levels). Equal input gives equal
    bytes.

    Parameters
    ----------
    path : path
        Of the ``.html``.
    layers : sequence of PageLayer
        The first is shown when the page opens.
    vectors : sequence of PageVectors
        Drawn above them, in this order, when ticked.
    title, source, year : str, optional
        Of the page; default the tags of the first layer's file.
    max_cells : int
        Of each layer. Larger rasters are reduced by averaging, maps of classes by their nearest cell; the page says so.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If there is no layer, a file cannot be read or has no data, a style, band or column is unknown, or a raster
        does not lie between 85 degrees south and north.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise MapError(f"the page is to be called {path.name}; expected a name that ends in .html.")
    if not layers:
        raise MapError("there is no layer for the page; give at least one PageLayer.")
    check_positive(max_cells, "max_cells", MapError)
    rasters = [read_layer(layer, max_cells=max_cells) for layer in layers]
    lon0 = _middle(rasters[0])
    drawn = [vector.payload(lon0) for vector in vectors]
    html = _environment().get_template("webmap.html.j2").render(
        title=title or rasters[0].title,
        source=source or rasters[0].source,
        year=str(year or rasters[0].year),
        rasters=rasters,
        vectors=[(vector.layer, shown["shown"]) for vector, shown in zip(vectors, drawn, strict=True)],
        data=_json({"lon0": lon0, "extent": _extent(rasters, lon0), "vectors": drawn}
                   | {"layers": [raster.payload(lon0) for raster in rasters]}),
        style=_asset("webmap.css"),
        script=_asset("webmap_draw.js") + _asset("webmap.js"),
    )  # fmt: skip
    with atomic_path(path) as partial:
        partial.write_text(html, encoding="utf-8", newline="\n")
    return path


def _middle(raster: PageRaster) -> float:
    """Longitude of the middle of a raster."""
    west, south, east, north = raster.bounds
    lon, lat = transform_xy(raster.crs, "EPSG:4326", np.array([(west + east) / 2]), np.array([(south + north) / 2]))
    if not (np.isfinite(lon[0]) and abs(lat[0]) < 85):
        raise MapError(f"{raster.file} does not lie between 85 degrees south and north, where the page can show it.")
    return round(float(lon[0]), 6)


def _extent(rasters: Sequence[PageRaster], lon0: float) -> list[float]:
    """Web Mercator bounds of what has data in any layer."""
    west, south, east, north = zip(*(raster.extent(lon0) for raster in rasters), strict=True)
    return [min(west), min(south), max(east), max(north)]


def _json(content: dict[str, Any]) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(safe)  # noqa: S704  nothing is left in it that HTML would read


def _asset(name: str) -> Markup:
    """A file of ours beside the page's template, as it stands."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704  our own file


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("geopov.maps.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"csp_hash": _csp_hash, "zip": zip}
    return found


def _csp_hash(text: str) -> str:
    """The source expression that allows just this inline style or script."""
    digest = base64.b64encode(hashlib.sha256(("\n" + str(text)).encode()).digest()).decode()
    return f"sha256-{digest}"
