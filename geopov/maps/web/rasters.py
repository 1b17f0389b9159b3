"""A raster for a page: its cells' classes and values in its own grid, and where each of them lies in Web Mercator."""

from __future__ import annotations

import base64
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgba_array
from matplotlib.image import imsave
from pyproj import CRS
from rasterio.enums import Resampling

from geopov._validation import sha256_of
from geopov.errors import MapError
from geopov.grid import Bounds
from geopov.maps.picture.cartography import View
from geopov.maps.picture.render import cell_size
from geopov.maps.read import RasterMap
from geopov.maps.styles import PRODUCTS, Style, interval_width, make_interval_style, make_style, words_for
from geopov.maps.web.place import cell_lattice, to_mercator

Floats = npt.NDArray[np.float64]

_NO_CLASS = 255
# Of 23 bits of a float32: values right to 1 in 8,000, more than the three digits that are shown, in half the bytes.
_MANTISSA_BITS = 12
_STILL_CELLS = 200_000
# Else the version of matplotlib, with which the page should not change.
_NO_METADATA: Any = {"Software": None}


@dataclass(frozen=True)
class PageLayer:
    """A raster on the page.

    Attributes
    ----------
    path : path
        A north-up GeoTIFF with a CRS.
    style : str, optional
        One of :data:`geopov.maps.PRODUCTS`; default the file's tag ``style``, else ``generic``.
    title : str, optional
        In the list of layers; default what the style or the file says.
    band : int or str
        To show, by number (from 1) or name.
    lower, upper, in_support : str
        Names of the bands with the interval's ends, and with 0 where the model has seen nothing like the cell. Those
        that the file has not are not shown.
    """

    path: str | Path
    style: str | None = None
    title: str | None = None
    band: int | str = 1
    lower: str = "lower"
    upper: str = "upper"
    in_support: str = "in_support"


@dataclass(frozen=True)
class Face:
    """One way to colour a layer: by its estimate or by its uncertainty.

    Attributes
    ----------
    key : {"estimate", "interval"}
        In the permalink.
    style : Style
        Its legend.
    classes : uint8 array (y, x)
        Index into ``style.colours``; 255 where there is no data.
    """

    key: str
    style: Style
    classes: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PageRaster:
    """What the page holds of a :class:`PageLayer`.

    Attributes
    ----------
    title, source, year, cells, level, file, sha256 : str
        Words of the page; ``cells`` says what one shown cell is, ``level`` is such as ``90%``.
    faces : tuple of Face
        Estimate, and interval where the file has one.
    values : dict of str to array (y, x)
        ``value`` and maybe ``lower`` and ``upper``, in the unit of the labels.
    support : uint8 array (y, x), optional
        1 like the surveyed places, 0 unlike them, 255 unknown.
    crs : CRS
        Of ``bounds``, which are the raster's.
    """

    title: str
    source: str
    year: str
    cells: str
    level: str
    file: str
    sha256: str
    faces: tuple[Face, ...]
    values: dict[str, Floats]
    support: npt.NDArray[np.uint8] | None
    crs: CRS
    bounds: Bounds

    @property
    def about(self) -> str:
        """What a reader must know of the numbers."""
        said = [f"{self.cells}."]
        if "lower" in self.values:
            interval = f"{self.level} interval".strip()
            said.append(f"The true value is expected inside the {interval}{self._how_often}.")
            if self.cells.startswith("averages"):
                said.append(
                    "The interval of an average is shown as the average of its cells' intervals, a cautious one."
                )
        if self.support is not None:
            said.append("Places unlike the surveyed ones are hatched: neither estimate nor interval was tested there.")
        if origin := ", ".join(part for part in (self.source, self.year) if part):
            said.append(f"Source: {origin}.")
        return " ".join(said)

    @property
    def _how_often(self) -> str:
        return f" in {self.level} of places" if self.level else ""

    @property
    def still(self) -> str:
        """The estimate as a PNG data URI, in the raster's own projection."""
        face = self.faces[0]
        step = max(1, math.ceil(math.sqrt(face.classes.size / _STILL_CELLS)))
        classes = face.classes[::step, ::step]
        palette = np.zeros((256, 4))
        palette[: len(face.style.colours)] = to_rgba_array(face.style.colours)
        stream = io.BytesIO()
        imsave(stream, palette[classes], format="png", metadata=_NO_METADATA)
        return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()

    @property
    def still_size(self) -> tuple[int, int]:
        """Width and height to draw :attr:`still` at, so that its shape is that of the ground."""
        aspect = View(self.crs, self.bounds).aspect
        return (900, round(900 / aspect)) if aspect >= 1 else (round(900 * aspect), 900)

    def payload(self, lon0: float) -> dict[str, Any]:
        """For the viewer; longitudes are counted from 180 degrees west of ``lon0``."""
        height, width = self.faces[0].classes.shape
        frame, nodes, lattice = cell_lattice(self.crs, self.bounds, (height, width), lon0=lon0)
        return {
            "title": self.title,
            "unit": self.faces[0].style.unit,
            "level": self.level,
            "width": width,
            "height": height,
            "frame": frame,
            "nodes": nodes,
            "lattice": _packed(lattice.astype("<f4")),
            "labels": list(self.faces[0].style.labels) if self.faces[0].style.categories else None,
            "values": {name: _packed(_rounded(values)) for name, values in self.values.items()},
            "support": None if self.support is None else _packed(self.support),
            "faces": [
                {"key": face.key, "colours": list(face.style.colours), "classes": _packed(face.classes)}
                for face in self.faces
            ],
        }

    def extent(self, lon0: float) -> Bounds:
        """Web Mercator bounds of the cells that have data."""
        rows, columns = np.nonzero(self.faces[0].classes != _NO_CLASS)
        west, south, east, north = self.bounds
        height, width = self.faces[0].classes.shape
        x = west + (columns[:, None] + [0, 1, 0, 1]) * (east - west) / width
        y = north - (rows[:, None] + [0, 0, 1, 1]) * (north - south) / height
        mx, my = to_mercator(self.crs, x.ravel(), y.ravel(), lon0)
        return float(np.nanmin(mx)), float(np.nanmin(my)), float(np.nanmax(mx)), float(np.nanmax(my))


def read_layer(layer: PageLayer, *, max_cells: int) -> PageRaster:
    """Read what the page needs of a raster, reduced to ``max_cells`` by averaging, classes by their nearest cell.

    Raises
    ------
    MapError
        If the file cannot be read, a band is not there, the style is unknown or no cell has data.
    """
    with RasterMap.open(layer.path) as raster:
        band = _band(raster, layer.band)
        name = layer.style or raster.tags.get("style", "generic")
        if name not in PRODUCTS:
            raise MapError(f"{layer.path}: there is no style {name!r}; expected one of {', '.join(sorted(PRODUCTS))}.")
        values = _read(raster, band, name, max_cells)
        style = make_style(name, values, **words_for(name, raster, band))
        faces, shown = [Face("estimate", style, _classes(style, values))], {"value": PRODUCTS[name].shown(values)}
        lower, upper = raster.band_number(layer.lower), raster.band_number(layer.upper)
        support_band = raster.band_number(layer.in_support)
        support = _support(raster, support_band, max_cells) if support_band not in (None, band) else None
        if lower is not None and upper is not None and not PRODUCTS[name].categories and band not in (lower, upper):
            low, high = (raster.read(number, max_cells=max_cells) for number in (lower, upper))
            shown |= {"lower": PRODUCTS[name].shown(low), "upper": PRODUCTS[name].shown(high)}
            width = interval_width(name, low, high)
            if np.isfinite(width).any():
                faces.append(_interval_face(name, width, support, raster, lower))
        tags = raster.tags
        return PageRaster(
            title=layer.title or tags.get("title") or style.title or Path(layer.path).stem,
            source=tags.get("source", ""),
            year=tags.get("year", ""),
            cells=_cells(raster, values.shape, bool(PRODUCTS[name].categories)),
            level=tags.get("interval", ""),
            file=Path(layer.path).name,
            sha256=sha256_of(Path(layer.path)),
            faces=tuple(faces),
            values=shown,
            support=support,
            crs=raster.crs,
            bounds=raster.bounds,
        )


def _band(raster: RasterMap, band: int | str) -> int:
    number = raster.band_number(band) if isinstance(band, str) else band
    if number is None:
        raise MapError(f"{raster.path} has no band called {band!r}; it has {', '.join(raster.band_names)}.")
    return number


def _read(raster: RasterMap, band: int, name: str, max_cells: int) -> Floats:
    averaged = raster.read(band, max_cells=max_cells)
    if not PRODUCTS[name].categories or averaged.shape == raster.source.shape:
        return averaged
    # The mean of two classes is a third one that is not there.
    nearest = raster.source.read(band, out_shape=averaged.shape, masked=True, resampling=Resampling.nearest)
    filled: Floats = nearest.astype(float).filled(np.nan)
    return filled


def _classes(style: Style, values: Floats) -> npt.NDArray[np.uint8]:
    classes = np.searchsorted(style.edges, np.nan_to_num(values, nan=0.0), side="left").astype(np.uint8)
    classes[np.isnan(values)] = _NO_CLASS
    return classes


def _support(raster: RasterMap, band: int | None, max_cells: int) -> npt.NDArray[np.uint8] | None:
    if band is None:
        return None
    share = raster.read(band, max_cells=max_cells)
    return np.where(np.isnan(share), _NO_CLASS, share >= 0.5).astype(np.uint8)


def _interval_face(
    name: str, width: Floats, support: npt.NDArray[np.uint8] | None, raster: RasterMap, lower: int
) -> Face:
    # As on the picture of the map: intervals far from the survey do not shape the classes.
    believed = width if support is None or not (np.isfinite(width) & (support == 1)).any() else width[support == 1]
    style = make_interval_style(name, believed, unit=raster.units[lower - 1], level=raster.tags.get("interval", ""))
    return Face("interval", style, _classes(style, width))


def _cells(raster: RasterMap, shape: tuple[int, ...], categories: bool) -> str:
    """What one shown cell is."""
    size, factor = cell_size(raster), raster.source.shape[0] / shape[0]
    if factor == 1:
        return f"cells of {size}"
    how = "one of" if categories else "averages of"
    return f"{how} about {factor:.3g} × {factor:.3g} cells of {size}"


def _packed(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def _rounded(values: Floats) -> npt.NDArray[np.float32]:
    """Float32 with the last bits of the mantissa zero, so that they compress."""
    drop = 23 - _MANTISSA_BITS
    single = values.astype("<f4")
    bits = (single.view("<u4").astype(np.uint64) + (1 << (drop - 1))) & ~np.uint64((1 << drop) - 1)
    kept: npt.NDArray[np.float32] = np.where(np.isfinite(single), bits.astype("<u4").view("<f4"), np.float32(np.nan))
    return kept.astype("<f4")
