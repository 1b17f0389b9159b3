"""What polygons measure on the ground: areas, overlaps between neighbours, gaps that no zone claims."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from scipy.interpolate import RectBivariateSpline

from geopov._validation import some
from geopov.errors import MapError
from geopov.grid import CellGrid, as_crs, transform_xy

Geometries = npt.NDArray[np.object_]

# EASE-Grid 2.0, equal-area on the WGS 84 ellipsoid: an area there is the area on the ground, anywhere on Earth.
_EQUAL_AREA = "EPSG:6933"

# Digitising noise along shared borders; less than this share of the smaller zone is not worth a line.
_OVERLAP_NOISE = 1e-4

# Slivers between neighbours that were drawn separately.
_SMALLEST_GAP_KM2 = 0.1


def reproject(shapes: gpd.GeoSeries, crs: Any, *, piece_m: float) -> Geometries:
    """Polygons in another CRS, their edges cut into pieces first so that they bend as the projection bends them.

    Edges that two neighbours share are cut alike, so that neither gaps nor overlaps open between them.

    Parameters
    ----------
    shapes : GeoSeries (n,)
        With a CRS.
    crs : CRS
        The target.
    piece_m : float
        Longest piece, in metres on the ground.

    Raises
    ------
    MapError
        If a polygon reaches beyond where ``crs`` can be used.
    """
    source, target = as_crs(shapes.crs), as_crs(crs)
    polygons: Geometries = shapes.to_numpy()
    if source == target:
        return polygons
    bent = shapely.segmentize(polygons, piece_m / _metres_per_unit(source))
    transformer = Transformer.from_crs(source, target, always_xy=True)
    moved = shapely.transform(bent, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    lost = ~np.isfinite(shapely.bounds(moved)).all(axis=1)
    if lost.any():
        raise MapError(
            f"{int(lost.sum())} polygons reach beyond the area of use of {target.name} "
            f"(rows {some(np.flatnonzero(lost))}); choose another CRS for the grid."
        )
    broken = ~shapely.is_valid(moved)
    moved[broken] = only_polygons(shapely.make_valid(moved[broken]))
    result: Geometries = moved
    return result


def _metres_per_unit(crs: CRS) -> float:
    # A degree of longitude is shorter than one of latitude away from the equator, so its pieces only get finer.
    factor = float(crs.axis_info[0].unit_conversion_factor)
    return factor * 6_378_137.0 if crs.is_geographic else factor


def only_polygons(shapes: Geometries) -> Geometries:
    """What of each geometry has an area: repairs leave lines and points beside polygons."""
    collected: Geometries = np.empty(len(shapes), dtype=object)
    for i, shape in enumerate(shapes):
        parts = [part for part in _leaves(shape) if part.geom_type == "Polygon"]
        collected[i] = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    return collected


def _leaves(shape: Any) -> list[Any]:
    return [leaf for part in shape.geoms for leaf in _leaves(part)] if hasattr(shape, "geoms") else [shape]


def ground_area_km2(shapes: gpd.GeoSeries) -> npt.NDArray[np.float64]:
    """True area of each polygon on the WGS 84 ellipsoid, in km²."""
    return np.asarray(shapely.area(reproject(shapes, _EQUAL_AREA, piece_m=5000.0)) / 1e6, dtype=np.float64)


def cell_area_km2(grid: CellGrid) -> npt.NDArray[np.float64]:
    """True area of each cell (height, width) on the WGS 84 ellipsoid, in km².

    Projections stretch area smoothly, so it is measured on a lattice of cells and interpolated between.
    """
    rows = np.linspace(0, grid.height, 33)
    columns = np.linspace(0, grid.width, 33)
    west, _, _, north = grid.bounds
    x, y = np.meshgrid(west + columns * grid.cell_m, north - rows * grid.cell_m)
    half = grid.cell_m / 2
    around = [
        transform_xy(grid.crs, _EQUAL_AREA, x + dx, y + dy)
        for dx, dy in ((-half, -half), (half, -half), (half, half), (-half, half))
    ]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = around
    area = np.abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2e6
    if not np.isfinite(area).all():
        raise MapError(f"the grid reaches beyond the area of use of {grid.crs.name}; choose another CRS for it.")
    spline = RectBivariateSpline(rows, columns, area)
    return np.asarray(spline(np.arange(grid.height) + 0.5, np.arange(grid.width) + 0.5), dtype=np.float64)


def overlaps(shapes: gpd.GeoSeries, *, area_km2: npt.NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """Pairs of polygons that share ground, with the share of the smaller of the two that they share."""
    polygons: Geometries = shapes.to_numpy()
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = first < second
    first, second = first[pairs], second[pairs]
    # Neighbours touch; only those whose insides meet are worth an intersection.
    shapely.prepare(polygons)
    meet = ~shapely.touches(polygons[first], polygons[second])
    first, second = first[meet], second[meet]
    common = only_polygons(shapely.intersection(polygons[first], polygons[second]))
    shared = ground_area_km2(gpd.GeoSeries(common, crs=shapes.crs)) / np.minimum(area_km2[first], area_km2[second])
    kept = shared > _OVERLAP_NOISE
    return [(int(i), int(j), float(share)) for i, j, share in zip(first[kept], second[kept], shared[kept], strict=True)]


def gaps(shapes: gpd.GeoSeries) -> list[tuple[int, float]]:
    """Holes in the union of all polygons: the first polygon that borders each, and the hole's area in km²."""
    polygons: Geometries = shapes.to_numpy()
    parts = shapely.get_parts(shapely.union_all(polygons))
    holes = [shapely.Polygon(ring) for part in parts for ring in part.interiors]
    if not holes:
        return []
    area = ground_area_km2(gpd.GeoSeries(holes, crs=shapes.crs))
    tree = shapely.STRtree(polygons)
    found = [
        (int(tree.query(hole, predicate="intersects").min()), float(size))
        for hole, size in zip(holes, area, strict=True)
        if size >= _SMALLEST_GAP_KM2
    ]
    return sorted(found)
