"""Zones on a grid: fractions against shapely and exactextract, and what is said of tables that do not fit."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod

from geopov.errors import MapError
from geopov.grid import CellGrid, transform_xy
from geopov.maps.density.zone_geometry import cell_area_km2, ground_area_km2
from geopov.maps.density.zones import read_zones, zone_cells
from geopov.raster.coverage import polygon_coverage, quad_coverage

HEIGHT, WIDTH = 7, 9
METRES = "EPSG:32645"

corner = st.tuples(st.integers(-20, 120), st.integers(-20, 100)).map(lambda xy: (xy[0] / 10, xy[1] / 10))
polygons = st.lists(corner, min_size=3, max_size=25).map(lambda corners: shapely.make_valid(shapely.Polygon(corners)))


def areas(shape: object) -> shapely.Geometry:
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts)


def clipped(shape: shapely.Geometry) -> np.ndarray:
    """Area of the shape in each unit cell, one intersection at a time."""
    row, column = np.indices((HEIGHT, WIDTH)).reshape(2, -1)
    return shapely.area(shapely.intersection(shapely.box(column, row, column + 1, row + 1), shape))


@settings(max_examples=150, deadline=None)
@given(polygons)
def test_coverage_is_the_area_of_the_intersection(raw):
    shape = areas(raw)
    if shape.is_empty:
        return
    hollow = shape.buffer(0.7) - shape.buffer(-0.3)
    covered = polygon_coverage(np.array([shape, hollow], dtype=object), height=HEIGHT, width=WIDTH).toarray()
    np.testing.assert_allclose(covered[0], clipped(shape), atol=1e-10)
    np.testing.assert_allclose(covered[1], clipped(hollow), atol=1e-10)


def test_coverage_does_not_depend_on_direction_or_batches(monkeypatch):
    rng = np.random.default_rng(1)
    shapes = shapely.buffer(shapely.points(rng.uniform(0, 8, (40, 2))), rng.uniform(0.2, 3, 40))
    forward = polygon_coverage(shapes, height=HEIGHT, width=WIDTH)
    monkeypatch.setattr("geopov.raster.coverage._EDGES_AT_ONCE", 100)
    backward = polygon_coverage(shapely.reverse(shapes), height=HEIGHT, width=WIDTH)
    assert forward.shape == (40, HEIGHT * WIDTH)
    np.testing.assert_allclose(backward.toarray(), forward.toarray(), atol=1e-12)
    np.testing.assert_allclose(forward.toarray()[7], clipped(shapes[7]), atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_quads_of_a_lattice_cover_what_polygons_do(seed):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 10, 14), np.linspace(-1, 8, 40))
    lattice = np.stack([x, y], axis=-1) + rng.uniform(-0.1, 0.1, (40, 14, 2))
    corners = np.stack([lattice[:-1, :-1], lattice[:-1, 1:], lattice[1:, 1:], lattice[1:, :-1]], axis=2).reshape(
        -1, 4, 2
    )
    quads = quad_coverage(corners, height=HEIGHT, width=WIDTH)
    expected = polygon_coverage(shapely.polygons(corners), height=HEIGHT, width=WIDTH)
    np.testing.assert_allclose(quads.toarray(), expected.toarray(), atol=1e-12)
    np.testing.assert_allclose(quads.sum(axis=0), 1.0, atol=1e-12)


def voronoi(grid: CellGrid, n: int = 30) -> gpd.GeoDataFrame:
    """Zones that fill the grid's rectangle, in longitude and latitude."""
    west, south, east, north = grid.bounds
    points = shapely.MultiPoint(np.random.default_rng(0).uniform((west, south), (east, north), (n, 2)))
    whole = shapely.box(*grid.bounds)
    cells = shapely.intersection(shapely.get_parts(shapely.voronoi_polygons(points, extend_to=whole)), whole)
    table = gpd.GeoDataFrame({"name": [f"z{i}" for i in range(n)], "people": np.arange(n) * 100.0}, geometry=cells)
    return table.set_crs(grid.crs)


def read(table: gpd.GeoDataFrame, **options):
    return read_zones(table, **({"id_column": "name", "count_column": "people"} | options))


def test_fractions_agree_with_exactextract(grid):
    exactextract = pytest.importorskip("exactextract")
    table = voronoi(grid)
    cells = zone_cells(read(table), grid)
    west, south, east, north = grid.bounds
    raster = exactextract.raster.NumPyRasterSource(
        np.zeros((grid.height, grid.width)), xmin=west, ymin=south, xmax=east, ymax=north, srs_wkt=grid.crs.to_wkt()
    )
    rows = exactextract.exact_extract(raster, table, ["cell_id", "coverage"])
    for row, fraction in zip(rows, cells.fraction.toarray(), strict=True):
        expected = np.zeros(grid.height * grid.width)
        expected[row["properties"]["cell_id"].astype(int)] = row["properties"]["coverage"]
        # exactextract keeps its fractions in single precision.
        np.testing.assert_allclose(fraction, expected, atol=1e-6)


def test_zones_that_fill_the_grid_fill_each_cell_once(grid):
    cells = zone_cells(read(voronoi(grid)), grid)
    np.testing.assert_allclose(cells.inside, 1.0, atol=1e-9)
    assert cells.inside.max() <= 1 + 1e-9
    assert cells.fraction.data.min() > 0


def test_neighbours_stay_neighbours_when_reprojected(grid):
    """Long straight borders in degrees are curves in UTM; two zones share one, and leave no gap along it."""
    table = gpd.GeoDataFrame(
        {"name": ["south", "north"], "people": [10.0, 20.0]},
        geometry=[shapely.box(82, 27, 90, 28), shapely.box(82, 28, 90, 29)],
        crs=4326,
    )
    wide = CellGrid.from_bounds((82, 27, 90, 29), cell_m=5000, crs=METRES)
    inside = zone_cells(read(table), wide).inside
    assert inside.max() <= 1 + 1e-9
    x, y = wide.centres()
    lon, lat = transform_xy(wide.crs, "EPSG:4326", x, y)
    deep = (lon > 82.1) & (lon < 89.9) & (lat > 27.1) & (lat < 28.9)
    np.testing.assert_allclose(inside[deep], 1.0, atol=1e-9)
    assert inside.sum() * 25 == pytest.approx(ground_area_km2(table.geometry).sum(), rel=2e-3)


@pytest.mark.parametrize("epsg", [32645, 3857, 6933, 3035])
def test_areas_are_true_on_the_ground(epsg):
    centre = (85, 27) if epsg != 3035 else (20, 55)
    bounds = (centre[0] - 1, centre[1] - 0.5, centre[0] + 1, centre[1] + 0.5)
    grid = CellGrid.from_bounds(bounds, cell_m=2000, crs=f"EPSG:{epsg}")
    area = cell_area_km2(grid)
    for row, column in ((0, 0), (grid.height // 2, 3), (grid.height - 1, grid.width - 1)):
        west, north = grid.bounds[0] + column * 2000, grid.bounds[3] - row * 2000
        x, y = np.array([0, 2000, 2000, 0]) + west, np.array([0, 0, -2000, -2000]) + north
        lon, lat = transform_xy(grid.crs, "EPSG:4326", x, y)
        geodesic, _ = Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
        assert area[row, column] == pytest.approx(abs(geodesic) / 1e6, rel=1e-5)
    box = gpd.GeoSeries([shapely.box(*bounds)], crs=4326)
    # The geodesic of a parallel bulges poleward, so the parallel itself is walked in short steps.
    ring = shapely.segmentize(box.iloc[0], 0.01).exterior.xy
    expected, _ = Geod(ellps="WGS84").polygon_area_perimeter(*ring)
    assert ground_area_km2(box)[0] == pytest.approx(abs(expected) / 1e6, rel=1e-6)


def test_means_and_sums_by_hand(grid):
    left, right = (
        shapely.box(200_000, 3_111_000, 201_500, 3_120_000),
        shapely.box(201_500, 3_111_000, 212_000, 3_120_000),
    )
    table = gpd.GeoDataFrame({"name": ["l", "r"], "people": [1.0, 2.0]}, geometry=[left, right], crs=METRES)
    cells = zone_cells(read(table), grid)
    values = np.tile(np.arange(12.0), (9, 1))
    # One column of 0 and half a column of 1; areas differ by some 1e-5 between columns.
    assert cells.mean(values)[0] == pytest.approx(1 / 3, rel=1e-4)
    values[:, 0] = np.nan
    assert cells.mean(values)[0] == pytest.approx(1.0)
    people = np.ones((9, 12))
    np.testing.assert_allclose(cells.sum(people), [13.5, 94.5])
    np.testing.assert_allclose(cells.sum(np.stack([people, 2 * people])), [[13.5, 94.5], [27, 189]])
    np.testing.assert_allclose(cells.sum(people.ravel()), [13.5, 94.5])
    assert np.isnan(cells.mean(np.full((9, 12), np.nan))).all()
    with pytest.raises(MapError, match=r"shape \(9, 11\)"):
        cells.mean(np.ones((9, 11)))


def test_land_is_a_share_and_a_drowned_zone_keeps_its_people(grid):
    table = voronoi(grid)
    land = np.full((9, 12), 0.25)
    cells = zone_cells(read(table), grid, land=land)
    np.testing.assert_allclose(cells.land, 0.25)
    np.testing.assert_allclose(cells.inside, 1.0)

    dry = zone_cells(read(table), grid)
    land[dry.fraction[5].toarray().reshape(9, 12) > 0] = 0
    land[0, 0] = np.nan
    drowned = zone_cells(read(table), grid, land=land)
    named = {problem["zone_id"] for problem in drowned.problems if problem["problem"].startswith("no land inside")}
    # z0 has nobody, so it may drown unnoticed.
    assert "z5" in named
    assert "z0" not in named
    np.testing.assert_allclose(drowned.fraction[5].toarray(), dry.fraction[5].toarray())
    assert {"zone_id": "", "problem": "cells with unknown land taken as land", "value": 1} in drowned.problems


@pytest.mark.parametrize(
    ("land", "message"),
    [(np.ones((9, 11)), r"shape \(9, 11\); expected \(9, 12\)"), (np.full((9, 12), 100.0), "from 100 to 100")],
)
def test_land_that_is_no_share(grid, land, message):
    with pytest.raises(MapError, match=message):
        zone_cells(read(voronoi(grid)), grid, land=land)


def test_a_populated_zone_beyond_the_grid(grid):
    table = voronoi(grid)
    west, south, _, north = grid.bounds
    small = CellGrid(grid.crs, grid.transform, 6, 9)
    with pytest.raises(MapError, match="lie outside the grid of 6 x 9 cells"):
        zone_cells(read(table), small)
    beyond = shapely.intersects(table.geometry, shapely.box(west + 6000, south, west + 12_000, north))
    empty = table.assign(people=np.where(beyond, 0.0, 5.0))
    assert zone_cells(read(empty), small).inside.max() <= 1 + 1e-9


def test_a_grid_in_degrees(grid):
    degrees = CellGrid(CRS.from_epsg(4326), Affine(0.01, 0, 84, 0, -0.01, 28), 12, 9)
    with pytest.raises(MapError, match="in degrees; cells need one in metres"):
        zone_cells(read(voronoi(grid)), degrees)


def squares(**columns) -> gpd.GeoDataFrame:
    """Four unit squares in a row, in degrees."""
    boxes = [shapely.box(84 + i, 27, 85 + i, 28) for i in range(4)]
    return gpd.GeoDataFrame({"name": list("abcd"), "people": [1.0, 2, 3, 4]} | columns, geometry=boxes, crs=4326)


@pytest.mark.parametrize("name", ["zones.gpkg", "zones.geojson", "zones.parquet"])
def test_files_and_tables_read_alike(tmp_path, name):
    path = tmp_path / name
    squares().to_parquet(path) if name.endswith("parquet") else squares().to_file(path)
    zones = read(path)
    assert zones.ids == list("abcd")
    assert zones.total == 10
    assert len(zones) == 4
    assert zones.problems == []
    assert list(zones.table.columns) == ["zone_id", "count", "area_km2", "geometry"]
    # 1 degree of latitude by cos(27.5 N) degrees of longitude.
    assert zones.table["area_km2"].to_numpy() == pytest.approx([98.8 * 110.8] * 4, rel=2e-3)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "table"])
def test_counts_from_a_second_table(tmp_path, suffix):
    table = squares(name=["01", "02", "03", "04"]).drop(columns="people")
    counts = pd.DataFrame({"code": ["04", "03", "02", "01"], "people": [40, 30, 20, 10]})
    path = tmp_path / f"counts.{suffix}"
    if suffix == "csv":
        counts.to_csv(path, index=False)
    elif suffix == "parquet":
        counts.to_parquet(path)
    zones = read(table, counts=counts if suffix == "table" else path, counts_id_column="code")
    assert zones.ids == ["01", "02", "03", "04"]
    assert zones.counts.tolist() == [10, 20, 30, 40]


def test_whole_numbers_read_as_floats_still_match():
    table = squares(name=[1.0, 2.0, 3.0, 4.0]).drop(columns="people")
    zones = read(table, counts=pd.DataFrame({"name": [1, 2, 3, 4], "people": 5}))
    assert zones.ids == ["1", "2", "3", "4"]


def test_unmatched_names_are_an_error_and_then_named():
    table = squares().drop(columns="people")
    counts = pd.DataFrame({"name": list("abce"), "people": [1, 2, 3, 500]})
    with pytest.raises(
        MapError, match=r"1 polygons have no count \(d\), 1 counts with 500 people have no polygon \(e\)"
    ):
        read(table, counts=counts)
    zones = read(table, counts=counts, allow_unmatched=True)
    assert zones.ids == ["a", "b", "c"]
    assert zones.problems == [
        {"zone_id": "d", "problem": "polygon without a count, left out", "value": 0.0},
        {"zone_id": "e", "problem": "count without a polygon, left out", "value": 500.0},
    ]
    with pytest.raises(MapError, match="no polygon has a count"):
        read(table, counts=counts.assign(name=list("wxyz")), allow_unmatched=True)


def test_a_zone_without_polygon():
    table = squares()
    table.loc[3, "geometry"] = None
    table.loc[2, "geometry"] = shapely.Polygon()
    with pytest.raises(MapError, match="2 zones with 7 people have no polygon"):
        read(table)
    zones = read(table, allow_unmatched=True)
    assert zones.ids == ["a", "b"]
    assert sum(problem["value"] for problem in zones.problems) == 7


def test_pieces_of_a_zone_are_counted_once():
    zones = read(squares(name=["a", "b", "a", "c"], people=[7.0, 1, 7, 2]))
    assert zones.ids == ["a", "b", "c"]
    assert zones.total == 10
    assert zones.table.geometry[0].geom_type == "MultiPolygon"
    assert zones.table["area_km2"][0] == pytest.approx(2 * zones.table["area_km2"][1])
    assert zones.problems == [{"zone_id": "a", "problem": "pieces joined to one zone, counted once", "value": 2}]
    with pytest.raises(MapError, match=r"1 zones stand more than once with different counts \(a\)"):
        read(squares(name=["a", "b", "a", "c"]))


def test_overlaps_are_measured():
    table = squares()
    table.loc[1, "geometry"] = shapely.box(84.995, 27, 86, 28)
    zones = read(table)
    (problem,) = zones.problems
    assert (problem["zone_id"], problem["other"]) == ("a", "b")
    assert problem["value"] == pytest.approx(0.005, rel=1e-3)
    with pytest.raises(
        MapError, match=r"1 pairs of zones overlap by more than 0\.1% of the smaller: a and b \(0\.5%\)"
    ):
        read(table, max_overlap=0.001)
    table.loc[3, "geometry"] = shapely.box(84.2, 27.2, 84.4, 27.4)
    with pytest.raises(MapError, match=r"a and d \(100\.0%\)"):
        read(table)
    with pytest.raises(MapError, match="max_overlap is 5"):
        read(table, max_overlap=5)


def test_gaps_are_measured():
    ring = shapely.box(84, 27, 85, 28) - shapely.box(84.4, 27.4, 84.6, 27.6)
    table = squares()
    table.loc[0, "geometry"] = ring
    (problem,) = read(table).problems
    assert problem["zone_id"] == "a"
    assert problem["problem"].startswith("borders a gap")
    assert problem["value"] == pytest.approx(0.04 * 98.8 * 110.8, rel=2e-3)


def test_a_bow_tie_is_repaired():
    table = squares()
    table.loc[3, "geometry"] = shapely.Polygon([(87, 27), (88, 28), (88, 27), (87, 28)])
    zones = read(table)
    assert zones.problems == [{"zone_id": "d", "problem": "invalid polygon repaired", "value": 1.0}]
    assert shapely.is_valid(zones.table.geometry[3])
    assert zones.table["area_km2"][3] == pytest.approx(zones.table["area_km2"][0] / 2, rel=1e-2)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (squares(people=[1, -2, 3, 4]), {}, r"missing or negative \(b; the first is -2\)"),
        (squares(people=[1, np.nan, 3, np.inf]), {}, "of 2 zones is missing"),
        (squares(people=["1", "many", "3", "4"]), {}, "people is not numeric"),
        (squares(name=["a", None, "c", "d"]), {}, "1 rows of the zones have no name"),
        (squares(), {"count_column": "inhabitants"}, "no column 'inhabitants'"),
        (squares().set_crs(None, allow_override=True), {}, "have no CRS"),
        (squares().iloc[:0], {}, "holds no polygons"),
        (squares(), {"id_column": "x"}, "no column 'x'"),
        (squares().drop(columns="people"), {"counts": "nowhere.csv"}, "no file of counts nowhere.csv"),
        (
            squares().drop(columns="people"),
            {"counts": pd.DataFrame({"name": ["a", "a"], "people": [1, 1]})},
            "stand more than once",
        ),
    ],
)
def test_tables_that_are_wrong(table, options, message):
    with pytest.raises(MapError, match=message):
        read(table, **options)


def test_files_that_are_wrong(tmp_path):
    with pytest.raises(MapError, match=r"no file of zones nowhere\.gpkg"):
        read("nowhere.gpkg")
    path = tmp_path / "zones.gpkg"
    path.write_text("not a vector file")
    with pytest.raises(MapError, match="not a readable file of polygons"):
        read(path)
    points = squares().set_geometry(gpd.GeoSeries([shapely.Point(84, 27)] * 4, crs=4326))
    with pytest.raises(MapError, match="the zones hold Point"):
        read(points)
