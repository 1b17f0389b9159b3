"""Regions against rasterio's rasterisation, and what is said of files that hold none."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps import Region

millimetres = st.tuples(st.integers(-500, 20_500), st.integers(-500, 15_500))
points = st.lists(millimetres.map(lambda xy: (xy[0] / 1000, xy[1] / 1000)), min_size=3, max_size=12)


@settings(max_examples=100, deadline=None)
@given(points)
def test_cells_inside_are_those_that_gdal_burns(corners):
    polygon = shapely.MultiPoint(corners).convex_hull
    if polygon.area < 1e-3:
        return
    grid = CellGrid.from_bounds((0, 0, 20, 15), cell_m=1, bounds_crs="EPSG:32645", crs="EPSG:32645")
    x, y = grid.centres()
    inside = Region(polygon, grid.crs).contains(x, y)
    burnt = rasterio.features.geometry_mask([polygon], inside.shape, grid.transform, invert=True)
    # A centre on the border belongs to one of two neighbours in GDAL, and to the region here.
    clear = shapely.distance(polygon.boundary, shapely.points(x, y)) > 1e-9
    np.testing.assert_array_equal(inside[clear], burnt[clear])


def polygons():
    west, east = shapely.box(84, 27, 85, 28), shapely.box(85, 27, 86, 28)
    return gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[west, east], crs="EPSG:4326")


@pytest.mark.parametrize("name", ["region.gpkg", "region.geojson", "region.parquet"])
def test_a_file_of_neighbours_is_one_region(tmp_path, name):
    path = tmp_path / name
    polygons().to_parquet(path) if name.endswith("parquet") else polygons().to_file(path)
    region = Region.from_file(path)
    assert region.geometry.equals(shapely.box(84, 27, 86, 28))
    assert region.lonlat_bounds == (84, 27, 86, 28)


def test_a_grid_covers_its_region():
    region = Region.from_polygons(polygons())
    grid = region.grid(cell_m=1000)
    assert grid.crs.to_epsg() == 32645
    x, y = grid.centres()
    inside = region.to_crs(grid.crs).contains(x, y)
    # 2 x 1 degrees at 27.5 N: 111.3 cos(27.5) x 2 by 110.8 km.
    assert inside.sum() == pytest.approx(2 * 98.8 * 110.8, rel=0.005)
    for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
        assert edge.mean() < 1
    assert inside[:3].any()
    assert inside[-3:].any()


def test_long_edges_bend_with_the_projection():
    # The parallel of 60 N is a straight line in degrees, and 33 km south of the chord's middle in UTM.
    region = Region.from_bounds((27, 60, 39, 61)).to_crs("EPSG:32636")
    corners, middle = region.geometry.bounds[1], shapely.Point(500_000, 6_651_500)
    assert corners == pytest.approx(6_651_411, abs=50)
    assert region.contains(np.array([middle.x]), np.array([middle.y])).all()


def test_holes_stay_empty():
    ring = shapely.box(0, 0, 10, 10) - shapely.box(4, 4, 6, 6)
    region = Region.from_polygons(gpd.GeoSeries([ring], crs="EPSG:32645"))
    inside = region.contains(np.array([[1.0, 5.0, 11.0]]), np.array([[1.0, 5.0, 5.0]]))
    assert inside.tolist() == [[True, False, False]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region.from_bounds((86, 27, 84, 28)), "west < east"),
        (lambda: Region.from_polygons(polygons().set_crs(None, allow_override=True)), "no CRS"),
        (lambda: Region.from_polygons(polygons().iloc[:0]), "no geometry"),
        (lambda: Region.from_polygons(gpd.GeoSeries([shapely.Point(1, 1)], crs=4326)), "holds Point"),
        (lambda: Region(shapely.Polygon(), polygons().crs), "no area"),
        (lambda: Region.from_bounds((84, 27, 86, 28)).to_crs("EPSG:1"), "no CRS"),
        (lambda: Region.from_bounds((84, 27, 100, 30)).to_crs("+proj=ortho +lon_0=0"), "area of use"),
        (lambda: Region.from_file("nowhere.gpkg"), "no file of the region nowhere.gpkg"),
    ],
)
def test_what_is_no_region(make, message):
    with pytest.raises(MapError, match=message):
        make()


@pytest.mark.parametrize("name", ["region.parquet", "region.gpkg", "region.geojson"])
def test_a_file_that_holds_something_else(tmp_path, name):
    path = tmp_path / name
    path.write_text("not a vector file")
    with pytest.raises(MapError, match="not a readable file of polygons"):
        Region.from_file(path)


def test_a_file_of_points(tmp_path):
    path = tmp_path / "points.gpkg"
    polygons().set_geometry([shapely.Point(1, 1)] * 2, crs=4326).to_file(path)
    with pytest.raises(MapError, match=r"points\.gpkg: the region holds Point"):
        Region.from_file(path)
