"""Population-weighted means over polygons: against shapely by brute force, exactextract, and known answers."""

from __future__ import annotations

import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.admin import units as admin
from geopov.maps.admin.units import aggregate, match, write_admin
from geopov.maps.density.population import Population
from geopov.raster.write import write_cog

UTM = "EPSG:32736"
WEST, NORTH, CELL = 500_000.0, 8_600_000.0, 1000.0


def write(path, arrays, *, crs=UTM, transform=None, nodata=math.nan, dtype="float64"):
    bands = np.stack(list(arrays.values()))
    return write_cog(
        path,
        [(0, bands.astype(dtype))],
        crs=crs,
        transform=transform or Affine(CELL, 0, WEST, 0, -CELL, NORTH),
        width=bands.shape[2],
        height=bands.shape[1],
        band_names=list(arrays),
        dtype=dtype,
        nodata=nodata,
    )


def units(shapes, crs=UTM, **columns):
    return gpd.GeoDataFrame({"unit": [f"u{i}" for i in range(len(shapes))], **columns}, geometry=shapes, crs=crs)


def at(*cells):
    """A polygon through corners given in cells (column, row)."""
    return shapely.Polygon([(WEST + c * CELL, NORTH - r * CELL) for c, r in cells])


def brute_force(value, people, polygon):
    """People and mean by intersecting every cell with the polygon."""
    inside = np.zeros(value.shape)
    for row, column in np.ndindex(value.shape):
        x, y = WEST + column * CELL, NORTH - row * CELL
        inside[row, column] = shapely.box(x, y - CELL, x + CELL, y).intersection(polygon).area / CELL**2
    weight = inside * np.nan_to_num(people)
    known = np.isfinite(value)
    covered = weight[known].sum()
    return weight.sum(), (weight[known] @ value[known]) / covered, covered / weight.sum()


def test_a_drawn_map_has_the_answers_drawn_beside_it(tmp_path):
    values = write(tmp_path / "v.tif", {"wealth": np.array([[1.0, 2.0], [3.0, np.nan]])})
    people = write(tmp_path / "p.tif", {"people": np.array([[10.0, 30.0], [20.0, 40.0]])})
    shapes = [
        at((0, 0), (2, 0), (2, 1), (0, 1)),
        at((0, 1), (2, 1), (2, 2), (0, 2)),
        at((0.5, 0), (1, 0), (1, 2), (0.5, 2)),
    ]
    table = aggregate(values, people, units(shapes), id_column="unit")
    assert table["unit"].tolist() == ["u0", "u1", "u2"]
    np.testing.assert_allclose(table["people"], [40, 60, 15], rtol=1e-9)
    np.testing.assert_allclose(table["wealth"], [(10 * 1 + 30 * 2) / 40, 3, (5 * 1 + 10 * 3) / 15], rtol=1e-9)
    np.testing.assert_allclose(table["wealth_covered"], [1, 1 / 3, 1], rtol=1e-9)
    assert "1 units with only some of their people covered by wealth: u1" in table.attrs["notes"]


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_any_polygons_give_what_shapely_gives(tmp_path_factory, seed):
    folder, rng = tmp_path_factory.mktemp("admin"), np.random.default_rng(seed)
    value, people = rng.normal(size=(6, 7)), rng.exponential(100, size=(6, 7))
    value[rng.random((6, 7)) < 0.15] = np.nan
    people[rng.random((6, 7)) < 0.15] = np.nan
    shapes = []
    for _ in range(3):
        angle = np.sort(rng.uniform(0, 2 * np.pi, size=9)) + np.linspace(0, 1e-3, 9)
        radius = rng.uniform(1, 3, size=9)
        shapes.append(at(*zip(3.5 + radius * np.cos(angle), 3 + radius * np.sin(angle), strict=True)).buffer(0))
    table = aggregate(
        write(folder / "v.tif", {"wealth": value}),
        write(folder / "p.tif", {"people": people}),
        units(shapes),
        id_column="unit",
    )
    expected = np.array([brute_force(value, people, shape) for shape in shapes])
    np.testing.assert_allclose(table[["people", "wealth", "wealth_covered"]], expected, rtol=1e-9)


def test_exactextract_agrees(tmp_path):
    exactextract = pytest.importorskip("exactextract")
    rng = np.random.default_rng(1)
    value, people = rng.normal(size=(40, 50)), rng.exponential(100, size=(40, 50))
    values, weights = write(tmp_path / "v.tif", {"wealth": value}), write(tmp_path / "p.tif", {"people": people})
    points = shapely.MultiPoint(rng.uniform([0, 0], [50, 40], size=(20, 2)) * [CELL, -CELL] + [WEST, NORTH])
    shapes = units(list(shapely.voronoi_polygons(points).geoms))
    table = aggregate(values, weights, shapes, id_column="unit")
    other = exactextract.exact_extract(
        str(values),
        shapes,
        ["weighted_mean", "weighted_sum"],
        weights=str(weights),
        include_cols=["unit"],
        output="pandas",
    )
    np.testing.assert_allclose(table["wealth"], other["weighted_mean"], rtol=1e-6)
    assert table["people"].sum() == pytest.approx(people.sum(), rel=1e-9)


def test_strips_change_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    values = write(tmp_path / "v.tif", {"a": rng.normal(size=(20, 9)), "b": rng.normal(size=(20, 9))})
    people = write(tmp_path / "p.tif", {"people": rng.exponential(size=(20, 9))})
    shapes = units([at((1.3, 0.2), (8, 5), (2, 19)), at((0, 0), (9, 20), (0, 20))])
    whole = aggregate(values, people, shapes, id_column="unit")
    monkeypatch.setattr(admin, "_CELLS_PER_STRIP", 30)
    pd.testing.assert_frame_equal(aggregate(values, people, shapes, id_column="unit"), whole)


def test_a_map_on_another_grid_is_averaged_into_the_cells_of_people(tmp_path):
    fine = np.arange(16.0).reshape(4, 4)
    fine[0, 0] = np.nan
    values = write(tmp_path / "v.tif", {"wealth": fine}, transform=Affine(500, 0, WEST, 0, -500, NORTH))
    people = write(tmp_path / "p.tif", {"people": np.array([[1.0, 2.0], [3.0, 4.0]])})
    table = aggregate(values, people, units([at((0, 0), (2, 0), (2, 2), (0, 2))]), id_column="unit")
    cells = np.array([(1 + 4 + 5) / 3, 4.5, 10.5, 12.5])
    assert table["wealth"][0] == pytest.approx((cells @ [1, 2, 3, 4]) / 10, rel=1e-9)
    assert table["wealth_covered"][0] == pytest.approx(1)


def test_polygons_and_maps_may_each_have_their_own_crs(tmp_path):
    rng = np.random.default_rng(3)
    lonlat = Affine(0.01, 0, 33.0, 0, -0.01, -12.0)
    value = np.add.outer(np.arange(40.0), np.arange(40.0))
    values = write(tmp_path / "v.tif", {"wealth": value}, crs="EPSG:4326", transform=lonlat)
    people = write(tmp_path / "p.tif", {"people": rng.exponential(size=(40, 40))}, crs="EPSG:4326", transform=lonlat)
    degrees = units([shapely.box(33.052, -12.251, 33.348, -12.049), shapely.box(33.1, -12.2, 33.2, -12.1)], "EPSG:4326")
    plain = aggregate(values, people, degrees, id_column="unit")
    bent = degrees.assign(geometry=degrees.geometry.segmentize(0.001)).to_crs(UTM)
    table = aggregate(values, people, bent, id_column="unit")
    np.testing.assert_allclose(table[["people", "wealth"]], plain[["people", "wealth"]], rtol=1e-5)
    warped = write(
        tmp_path / "w.tif",
        {"wealth": np.full((60, 60), 7.0)},
        transform=Affine(CELL, 0, 490_000, 0, -CELL, 8_680_000),
    )
    assert aggregate(warped, people, degrees, id_column="unit")["wealth"].tolist() == pytest.approx([7, 7])


def test_units_without_people_or_values_are_nan_and_named(tmp_path):
    values = write(tmp_path / "v.tif", {"wealth": np.array([[1.0, np.nan, 3.0]])})
    people = write(tmp_path / "p.tif", {"people": np.array([[5.0, 5.0, 0.0]])})
    shapes = [at((c, 0), (c + 1, 0), (c + 1, 1), (c, 1)) for c in (0, 1, 2, 9)]
    table = aggregate(values, people, units(shapes), id_column="unit")
    assert np.isnan(table["wealth"][1:]).all()
    assert table["wealth_covered"].tolist()[:2] == [1, 0]
    assert table.attrs["notes"] == [
        "the units hold 10 of the 10 people of p.tif (100.00%)",
        "2 units without people: u2, u3",
        "1 units without any of their people covered by wealth: u1",
    ]


def test_a_population_keeps_everybody_in_cells_that_the_census_zones_cut(tmp_path):
    grid = CellGrid(CRS(UTM), Affine(CELL, 0, WEST, 0, -CELL, NORTH), 2, 1)
    population = Population(
        grid=grid,
        people=np.array([[80.0, 20.0]]),
        land=np.ones((1, 2)),
        zones=pd.DataFrame(),
        inside=np.array([[1, 0.25]]),
    )
    values = write(tmp_path / "v.tif", {"wealth": np.array([[1.0, 2.0]])})
    shape = units([at((0, 0), (1.25, 0), (1.25, 1), (0, 1))])
    table = aggregate(values, population, shape, id_column="unit")
    assert table["people"][0] == pytest.approx(100)
    assert table["wealth"][0] == pytest.approx(1.2)
    # A unit drawn out over the sea, beyond the census zones, holds them once and not four times.
    beyond = aggregate(values, population, units([at((0, 0), (2, 0), (2, 1), (0, 1))]), id_column="unit")
    assert beyond["people"][0] == pytest.approx(100)
    assert beyond["wealth"][0] == pytest.approx(1.2)


def test_undeclared_missing_values_count_as_missing_and_declared_ones_may_be_replaced(tmp_path):
    value = np.array([[-3.4e38, 2.0], [-9999.0, 4.0]])
    values = write(tmp_path / "v.tif", {"wealth": value}, nodata=None, dtype="float32")
    people = write(tmp_path / "p.tif", {"people": np.full((2, 2), 10.0)}, nodata=None)
    shape = units([at((0, 0), (2, 0), (2, 2), (0, 2))])
    table = aggregate(values, people, shape, id_column="unit", nodata=-9999)
    assert table["wealth"][0] == 3
    assert table["wealth_covered"][0] == 0.5
    minus = write(tmp_path / "m.tif", {"people": np.array([[-200.0, 10.0], [10.0, 10.0]])})
    with pytest.raises(MapError, match=r"1 cells of negative people \(the least is -200\).*population_nodata"):
        aggregate(values, minus, shape, id_column="unit")
    kept = aggregate(values, minus, shape, id_column="unit", nodata=-9999, population_nodata=-200)
    assert kept["people"][0] == 30


def test_the_band_of_people_is_found_or_asked_for(tmp_path):
    values = write(tmp_path / "v.tif", {"a": np.ones((1, 1)), "b": np.full((1, 1), 2.0)})
    both = write(tmp_path / "p.tif", {"density": np.full((1, 1), 3.0), "people": np.full((1, 1), 4.0)})
    shape = units([at((0, 0), (1, 0), (1, 1), (0, 1))])
    table = aggregate(values, both, shape, id_column="unit", bands=["b"])
    assert list(table.columns) == ["unit", "people", "b", "b_covered"]
    assert table["people"][0] == 4
    with pytest.raises(MapError, match="name the one of people per cell"):
        aggregate(values, values, shape, id_column="unit")
    assert aggregate(values, values, shape, id_column="unit", population_band="b")["people"][0] == 2
    with pytest.raises(MapError, match="column 'people' would stand twice"):
        aggregate(both, both, shape, id_column="unit")
    with pytest.raises(MapError, match="no band 'c'"):
        aggregate(values, both, shape, id_column="unit", bands=["c"])


def test_polygons_that_cannot_be_used_are_errors(tmp_path):
    values = write(tmp_path / "v.tif", {"people": np.ones((2, 2))})
    square = at((0, 0), (1, 0), (1, 1), (0, 1))
    cases = {
        "have no CRS": units([square], crs=None),
        "stand more than once": units([square, square]).assign(unit="same"),
        "1 of 2 units are no polygons": units([square, shapely.Point(WEST, NORTH)]),
        "have no unit": units([square]).assign(unit=None),
        "has no column 'unit'": units([square]).drop(columns="unit"),
        "no file of polygons": tmp_path / "none.gpkg",
        "not a readable file of polygons": values.rename(tmp_path / "v.geojson"),
    }
    values = write(tmp_path / "v.tif", {"people": np.ones((2, 2))})
    for message, polygons in cases.items():
        with pytest.raises(MapError, match=message):
            aggregate(values, values, polygons, id_column="unit")
    tall = write(tmp_path / "t.tif", {"people": np.ones((2, 2))}, transform=Affine(10, 0, WEST, 0, -20, NORTH))
    with pytest.raises(MapError, match="cells of 10 x 20"):
        aggregate(values, tall, units([square]), id_column="unit")


def test_a_bow_tie_is_repaired(tmp_path):
    values = write(tmp_path / "v.tif", {"wealth": np.ones((2, 2))})
    table = aggregate(values, values, units([at((0, 0), (2, 2), (2, 0), (0, 2))]), id_column="unit")
    assert table["people"][0] == pytest.approx(2)


def names(*values):
    return pd.DataFrame({"unit": values, "people": np.arange(len(values), dtype=float)})


def estimates(*values):
    return pd.DataFrame({"area": values, "estimate": np.arange(len(values)) / 10, "n": 5})


def test_names_match_exactly_and_the_others_are_named():
    joined = match(names("Chitipa", "Karonga", "Likoma"), estimates("Karonga", "Chitípa", "Mzimba"), id_column="unit")
    assert joined["area"].tolist() == ["Chitipa", "Karonga", "Likoma", "Chitípa", "Mzimba"]
    np.testing.assert_array_equal(joined["people"], [0, 1, 2, np.nan, np.nan])
    np.testing.assert_array_equal(joined["estimate"], [np.nan, 0.0, np.nan, 0.1, 0.2])
    assert joined.attrs["notes"] == [
        "2 units without a direct estimate: Chitipa (Chitípa?), Likoma",
        "2 estimates without a unit on the map: Chitípa (Chitipa?), Mzimba",
    ]


def test_codes_that_became_floats_are_the_same_names():
    joined = match(names("101", "102"), estimates(102.0, 101.0), id_column="unit")
    assert joined["estimate"].tolist() == [0.1, 0.0]


def test_names_match_loosely_if_asked():
    joined = match(names("Nkhata Bay", "CHITIPA"), estimates("chitípa", "Nkhata-Bay"), id_column="unit", loose=True)
    assert joined["area"].tolist() == ["Nkhata Bay", "CHITIPA"]
    assert joined["estimate"].tolist() == [0.1, 0.0]
    assert joined.attrs["notes"] == []


@pytest.mark.parametrize(
    ("left", "right", "loose", "message"),
    [
        (names("a"), estimates("b"), False, "no name of the units"),
        (names("a", "a"), estimates("a"), False, "stand more than once"),
        (names("a", "A"), estimates("a"), True, "differ only by case"),
        (names("a").assign(n=1), estimates("a"), False, "the column n would stand twice"),
        (names("a"), estimates(None), False, "have no area"),
    ],
)
def test_names_that_cannot_be_matched_are_errors(left, right, loose, message):
    with pytest.raises(MapError, match=message):
        match(left, right, id_column="unit", loose=loose)


def test_the_table_is_written_for_gis_and_for_people_with_the_same_bytes_each_time(tmp_path):
    polygons = units([at((0, 0), (1, 0), (1, 1), (0, 1)), at((1, 0), (2, 0), (2, 1), (1, 1))])
    table = pd.DataFrame({"area": ["u1", "u0", "lost"], "direct": [0.25, 1 / 3, np.nan], "psus": [1, 2, 3], "flag": ""})
    table.attrs["notes"] = ["a note"]
    written = []
    for folder in ("one", "two"):
        paths = write_admin(table, tmp_path / folder / "admin.gpkg", polygons=polygons, id_column="unit")
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    back = gpd.read_file(tmp_path / "one" / "admin.gpkg", layer="admin")
    assert back["area"].tolist() == ["u1", "u0", "lost"]
    assert back["psus"].tolist() == [1, 2, 3]
    assert back.crs == polygons.crs
    assert back.geometry[0].equals(shapely.MultiPolygon([polygons.geometry[1]]))
    assert back.geometry[2] is None
    text = (tmp_path / "one" / "admin.csv").read_text()
    assert text.splitlines()[:2] == ["area,direct,psus,flag", "u1,0.25,1,"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["admin.csv", "admin.gpkg"]


def test_tables_that_cannot_be_written_are_errors(tmp_path):
    polygons = units([at((0, 0), (1, 0), (1, 1), (0, 1))])
    table = pd.DataFrame({"area": ["u0"], "direct": [1.0]})
    options = {"polygons": polygons, "id_column": "unit"}
    with pytest.raises(MapError, match=r"must end in \.gpkg"):
        write_admin(table, tmp_path / "admin.shp", **options)
    with pytest.raises(MapError, match="has a polygon"):
        write_admin(table.assign(area="x"), tmp_path / "admin.gpkg", **options)
    with pytest.raises(MapError, match="columns FID clash"):
        write_admin(table.assign(FID=1), tmp_path / "admin.gpkg", **options)
    with pytest.raises(MapError, match="clash in a GeoPackage"):
        write_admin(table.assign(Area="x"), tmp_path / "admin.gpkg", **options)
    assert not list(tmp_path.iterdir())
