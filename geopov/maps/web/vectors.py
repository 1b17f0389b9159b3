"""Points and polygons for a page: where they lie in Web Mercator, how they are coloured, and what is told of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geopov._validation import check_columns
from geopov.errors import MapError
from geopov.maps.qgis.layers import GpkgLayer
from geopov.maps.styles import PRODUCTS, Product
from geopov.maps.web.place import to_mercator

# Vertices nearer than this part of the layer's longer side make no difference on a screen.
_DETAIL = 1 / 4000


@dataclass(frozen=True)
class PageVectors:
    """Points or polygons on the page.

    Attributes
    ----------
    layer : GpkgLayer
        As :func:`geopov.maps.qgis.layers.write_layers` returns it: title, table and the style that QGIS has, too.
    columns : tuple of str
        Columns that the reader is told of a feature; default the first one, which names it, and the one that is drawn.
    shown : bool
        Whether the layer is drawn when the page opens.
    product : str, optional
        Key of :data:`geopov.maps.PRODUCTS` that says what the drawn column holds: shares, logarithms, or its unit
        itself. By default known by the unit, and where that leaves it open, numbers are told as they are, without one.
    """

    layer: GpkgLayer
    columns: tuple[str, ...] = ()
    shown: bool = False
    product: str | None = None

    def payload(self, lon0: float) -> dict[str, Any]:
        """For the viewer: features as parts of rings of whole metres, each but the first point as a step."""
        table, style = _checked(self.layer), self.layer.style
        columns = list(dict.fromkeys(self.columns or (table.columns[0], style.column)))
        check_columns(table, [*columns, style.column], f"the table of {self.layer.title!r}", MapError)
        classes = _classes(table[style.column], style.edges, style.categories)
        shapes = _shapes(table, lon0)
        product = self._product()
        rows = table[columns]
        if product is not None:
            rows = rows.assign(**{style.column: product.shown(rows[style.column].to_numpy(dtype=float))})
        unit = {style.column: style.unit if product is not None else ""}
        return {
            "title": self.layer.title,
            "kind": style.shape,
            "shown": self.shown,
            "colours": [swatch.colour for swatch in style.swatches],
            "columns": [{"name": column, "unit": unit.get(column, "")} for column in columns],
            "classes": classes.tolist(),
            "shapes": shapes,
            "rows": [[_plain(value) for value in row] for row in rows.itertuples(index=False)],
        }

    def _product(self) -> Product | None:
        """How the drawn column becomes the unit of its labels; None where nobody knows."""
        if self.product is not None:
            if self.product not in PRODUCTS:
                raise MapError(f"there is no product {self.product!r}; expected one of {', '.join(sorted(PRODUCTS))}.")
            return PRODUCTS[self.product]
        if self.layer.style.categories:
            return None
        same = [product for product in PRODUCTS.values() if product.unit == self.layer.style.unit]
        if len({(product.logged, product.percent) for product in same}) > 1:
            return None
        return same[0] if same else PRODUCTS["generic"]


def _checked(layer: GpkgLayer) -> gpd.GeoDataFrame:
    table = layer.table
    if not isinstance(table, gpd.GeoDataFrame) or table.crs is None or len(table) == 0:
        raise MapError(f"the layer {layer.title!r} needs a GeoDataFrame with a CRS and at least one row.")
    if (table.geometry.isna() | table.geometry.is_empty).all():
        raise MapError(f"no feature of the layer {layer.title!r} has a geometry.")
    return table[~(table.geometry.isna() | table.geometry.is_empty)]


def _classes(values: pd.Series, edges: tuple[float, ...], categories: tuple[int, ...]) -> np.ndarray:
    """Index of each feature's colour; -1 without a value."""
    numbers = values.to_numpy(dtype=float, na_value=math.nan)
    if categories:
        place = {code: index for index, code in enumerate(categories)}
        return np.array([place.get(number, -1) for number in numbers])
    classes = np.searchsorted(edges, np.nan_to_num(numbers), side="left")
    return np.where(np.isnan(numbers), -1, classes)


def _shapes(table: gpd.GeoDataFrame, lon0: float) -> list[list[list[int]]]:
    lonlat = table.geometry.to_crs("EPSG:4326")

    def project(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(to_mercator("EPSG:4326", xy[:, 0], xy[:, 1], lon0))

    projected = np.array([shapely.transform(shape, project) for shape in lonlat], dtype=object)
    west, south, east, north = shapely.total_bounds(projected)
    # Neighbours are simplified together, so that no gap opens between them.
    tolerance = max(east - west, north - south) * _DETAIL
    polygons = np.isin(shapely.get_type_id(projected), (3, 6)).all()
    simpler = shapely.coverage_simplify(projected, tolerance) if polygons else projected
    return [[_steps(ring) for ring in _rings(shape)] for shape in simpler]


def _rings(shape: Any) -> list[np.ndarray]:
    parts = shapely.get_parts(shape)
    rings = shapely.get_rings(parts) if shapely.get_type_id(parts[0]) == 3 else parts
    return [shapely.get_coordinates(ring) for ring in rings]


def _steps(points: np.ndarray) -> list[int]:
    whole = np.round(points).astype(np.int64)
    flat: list[int] = np.vstack([whole[:1], np.diff(whole, axis=0)]).ravel().tolist()
    return flat


def _plain(value: Any) -> str | float | None:
    """A cell of the table as JSON has it."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        return float(f"{float(value):.6g}") if math.isfinite(float(value)) else None
    return None if pd.isna(value) else str(value)
