"""Counts taken apart: by hand, whatever the weights, and back again from the file."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import CRS
from rio_cogeo.cogeo import cog_validate

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.population import Population, allocate
from geopov.maps.density.weights import equal_area
from geopov.maps.density.zones import Zones, read_zones, zone_cells

WEST, NORTH = 200_000, 3_120_000
GRID = CellGrid.from_bounds((WEST, NORTH - 9000, WEST + 12_000, NORTH), cell_m=1000, bounds_crs=32645, crs=32645)


def box(left: float, top: float, right: float, bottom: float) -> shapely.Geometry:
    """In cells from the upper left corner."""
    return shapely.box(WEST + left * 1000, NORTH - bottom * 1000, WEST + right * 1000, NORTH - top * 1000)


def zones_of(shapes: list[shapely.Geometry], counts: list[float], names: list[str] | None = None) -> Zones:
    names = names or [f"z{i}" for i in range(len(shapes))]
    table = gpd.GeoDataFrame({"id": names, "people": counts}, geometry=shapes, crs=32645)
    return read_zones(table, id_column="id", count_column="people")


def tiling(n: int, seed: int) -> list[shapely.Geometry]:
    """Zones that fill the grid, their borders anywhere."""
    rng = np.random.default_rng(seed)
    points = shapely.MultiPoint(rng.uniform((0, 0), (12, 9), (n, 2)) * [1000, -1000] + [WEST, NORTH])
    whole = shapely.box(*GRID.bounds)
    return list(shapely.intersection(shapely.get_parts(shapely.voronoi_polygons(points, extend_to=whole)), whole))


weights = arrays(np.float64, (9, 12), elements=st.floats(0, 1e12, allow_subnormal=False) | st.just(float("nan")))


def test_people_by_hand():
    # Columns 0 to 1.5 hold 600 people, the rest of the first row of four cells 100.
    zones = zones_of([box(0, 0, 1.5, 1), box(1.5, 0, 4, 1)], [600.0, 100.0])
    weight = np.zeros((9, 12))
    weight[0, :4] = [1, 4, 0, 3]
    result = allocate(zone_cells(zones, GRID), weight, method="by hand")
    # Zone 0: 1 x 1 and 4 x 0.5; zone 1: 4 x 0.5, 0 and 3. Cells of one row differ in area by less than 0.01%.
    np.testing.assert_allclose(result.people[0, :4], [200, 400 + 40, 0, 60], rtol=1e-4)
    assert np.isnan(result.people[1:]).all()
    assert np.isnan(result.people[0, 4:]).all()
    assert result.zones["cells"].tolist() == [2, 3]
    assert result.zones["allocated"].to_numpy() == pytest.approx([600, 100])
    assert result.zones["fallback"].tolist() == ["", ""]
    assert result.notes == []
    assert result.method == "by hand"
    assert result.total == pytest.approx(700)


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(1, 25), st.integers(0, 999))
def test_totals_are_kept_whatever_the_weights(weight, n, seed):
    counts = np.random.default_rng(seed).integers(0, 10_000, n).astype(float)
    cells = zone_cells(zones_of(tiling(n, seed), list(counts)), GRID)
    result = allocate(cells, weight)
    assert (result.people >= 0).all()
    assert result.total == pytest.approx(counts.sum(), rel=1e-9)
    np.testing.assert_allclose(result.zones["allocated"], counts, rtol=1e-9)
    scaled = allocate(cells, weight * 7.5)
    np.testing.assert_allclose(scaled.people, result.people, rtol=1e-9, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(weights, st.permutations(range(12)))
def test_the_order_of_zones_does_not_matter(weight, order):
    shapes, counts = tiling(12, 3), np.arange(12.0) * 50
    first = allocate(zone_cells(zones_of(shapes, list(counts)), GRID), weight)
    second = allocate(zone_cells(zones_of([shapes[i] for i in order], [counts[i] for i in order]), GRID), weight)
    np.testing.assert_allclose(second.people, first.people, rtol=1e-9, atol=1e-9)


def test_zones_of_equal_density_can_be_merged():
    weight = np.random.default_rng(0).uniform(0.1, 5, (9, 12))
    halves = zone_cells(zones_of([box(0, 0, 5.3, 9), box(5.3, 0, 12, 9)], [1.0, 1.0]), GRID)
    amounts = halves.fraction @ (weight * halves.area_km2).ravel()
    apart = allocate(zone_cells(zones_of([box(0, 0, 5.3, 9), box(5.3, 0, 12, 9)], list(amounts)), GRID), weight)
    merged = allocate(zone_cells(zones_of([box(0, 0, 12, 9)], [amounts.sum()]), GRID), weight)
    np.testing.assert_allclose(merged.people, apart.people, rtol=1e-9)
    # With weights that are a density, the density is what comes out.
    np.testing.assert_allclose(merged.density(), weight, rtol=1e-9)


def test_equal_area_is_the_same_density_everywhere_in_a_zone():
    result = allocate(zone_cells(zones_of([box(0.5, 0.5, 7.25, 8.1)], [5130.0]), GRID), equal_area(GRID))
    density = result.density()
    known = ~np.isnan(density)
    assert known.sum() == 8 * 9
    np.testing.assert_allclose(density[known], 5130 / result.zones["area_km2"][0], rtol=1e-4)


def test_density_in_stretched_metres_is_per_true_km2():
    grid = CellGrid.from_bounds((10, 59, 11, 60), cell_m=2000, crs=3857)
    table = gpd.GeoDataFrame({"id": ["a"], "n": [1000.0]}, geometry=[shapely.box(10.1, 59.1, 10.9, 59.9)], crs=4326)
    zones = read_zones(table, id_column="id", count_column="n")
    density = allocate(zone_cells(zones, grid), equal_area(grid)).density()
    np.testing.assert_allclose(density[~np.isnan(density)], 1000 / zones.table["area_km2"][0], rtol=1e-4)


def test_water_gets_nobody_and_density_is_per_land():
    land = np.ones((9, 12))
    land[:, 3] = 0
    land[:, 4] = 0.5
    result = allocate(zone_cells(zones_of([box(0, 0, 12, 9)], [1050.0]), GRID, land=land), equal_area(GRID))
    np.testing.assert_allclose(result.people[:, 3], 0)
    np.testing.assert_allclose(result.people[:, 4], result.people[:, 5] / 2, rtol=1e-4)
    density = result.density()
    assert np.isnan(density[:, 3]).all()
    np.testing.assert_allclose(density[:, 4], density[:, 5], rtol=1e-9)
    assert result.total == pytest.approx(1050)


def test_zones_without_weight_are_shared_by_area_and_named():
    weight = np.zeros((9, 12))
    weight[:, 6:] = 1
    zones = zones_of([box(0, 0, 3, 9), box(3, 0, 6, 9), box(6, 0, 9, 9), box(9, 0, 12, 9)], [270.0, 0.0, 9.0, 0.0])
    result = allocate(zone_cells(zones, GRID), weight)
    np.testing.assert_allclose(result.people[:, :3], 10, rtol=1e-3)
    assert result.zones["fallback"].tolist() == ["area", "", "", ""]
    dark, lit = result.notes
    assert dark == "1 populated zones have no weight in any cell; their people are shared by area (270 people): z0."
    assert lit.startswith("1 zones have no people, but more weight")
    assert lit.endswith("z3.")


def test_a_drowned_zone_is_named_in_the_notes():
    land = np.ones((9, 12))
    land[:, :6] = 0
    zones = zones_of([box(0, 0, 6, 9), box(6, 0, 12, 9)], [540.0, 1.0])
    result = allocate(zone_cells(zones, GRID, land=land), equal_area(GRID))
    np.testing.assert_allclose(result.people[:, :6], 10, rtol=1e-3)
    np.testing.assert_allclose(result.density()[:, :6], 10, rtol=2e-3)
    assert result.notes == ["1 × no land inside, people kept on its whole area: 540 (zones z0)."]


def test_a_zone_too_small_for_any_cell_goes_to_its_point():
    crumb = box(4.5, 4.5, 4.5 + 1e-7, 4.5 + 1e-7)
    result = allocate(zone_cells(zones_of([box(0, 0, 4, 9), crumb], [10.0, 7.0]), GRID), equal_area(GRID))
    assert result.people[4, 4] == pytest.approx(7)
    assert result.zones["fallback"].tolist() == ["", "point"]
    assert result.zones["cells"].tolist() == [36, 0]
    assert "z1" in result.notes[0]
    assert result.total == pytest.approx(17)


def test_unknown_weights_are_counted():
    weight = np.ones((9, 12))
    weight[0, :5] = np.nan
    result = allocate(zone_cells(zones_of([box(0, 0, 12, 9)], [103.0]), GRID), weight)
    np.testing.assert_allclose(result.people[0, :5], 0)
    assert result.notes == ["5 cells have no known weight and got nobody, unless their zone has no other."]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((12, 9)), r"shape \(12, 9\); expected \(9, 12\)"),
        (np.full((9, 12), -1.0), "108 weights are negative"),
        (np.full((9, 12), np.inf), "108 infinite"),
    ],
)
def test_weights_that_are_none(weight, message):
    with pytest.raises(MapError, match=message):
        allocate(zone_cells(zones_of([box(0, 0, 12, 9)], [1.0]), GRID), weight)


def test_weights_of_any_size_are_shared():
    zones = zones_of([box(0, 0, 6, 9), box(6, 0, 12, 9)], [100.0, 200.0])
    weight = np.full((9, 12), 1e300)
    weight[:, 6:] = 1e-300
    people = allocate(zone_cells(zones, GRID), weight).people
    assert people[:, :6].sum() == pytest.approx(100)
    assert people[:, 6:].sum() == pytest.approx(200)


def test_totals_of_polygons_hold_everybody_once():
    land = np.ones((9, 12))
    land[2:5, 2:7] = 0.3
    shapes = [box(0.3, 0.3, 6.6, 8.7), box(6.6, 0.3, 11.7, 8.7)]
    result = allocate(zone_cells(zones_of(shapes, [1000.0, 500.0]), GRID, land=land), equal_area(GRID))
    districts = gpd.GeoDataFrame({"d": ["n", "s"]}, geometry=[box(0, 0, 12, 4.4), box(0, 4.4, 12, 9)], crs=32645)
    totals = result.totals(districts.to_crs(4326), id_column="d")
    assert totals.index.tolist() == ["n", "s"]
    assert totals.sum() == pytest.approx(1500, rel=1e-6)
    assert result.totals(districts[:1], id_column="d")["n"] == pytest.approx(totals["n"], rel=0.02)
    own = gpd.GeoDataFrame({"d": [0, 1]}, geometry=shapes, crs=32645)
    np.testing.assert_allclose(result.totals(own, id_column="d"), [1000, 500], rtol=0.05)
    assert result.totals(own, id_column="d").sum() == pytest.approx(1500, rel=1e-9)
    inner = gpd.GeoDataFrame({"d": ["cell"]}, geometry=[box(8, 7, 8.5, 8)], crs=32645)
    assert result.totals(inner, id_column="d")["cell"] == pytest.approx(result.people[7, 8] / 2)
    with pytest.raises(MapError, match="no CRS"):
        result.totals(districts.set_crs(None, allow_override=True), id_column="d")
    with pytest.raises(MapError, match="no column 'name'"):
        result.totals(districts, id_column="name")


def test_the_file(tmp_path):
    rng = np.random.default_rng(0)
    grid = CellGrid(CRS.from_epsg(32645), GRID.transform, 700, 600)
    west, south, east, north = grid.bounds
    table = gpd.GeoDataFrame(
        {"id": ["a"], "n": [123_456.0]}, geometry=[shapely.box(west + 9500, south, east, north)], crs=32645
    )
    cells = zone_cells(read_zones(table, id_column="id", count_column="n"), grid)
    result = allocate(cells, rng.gamma(0.5, 2, (600, 700)), method="noise")
    result = Population(**(vars(result) | {"lower": result.people / 2, "attrs": {"interval": "90%", "offset": 0.1}}))
    words = {"title": "People of A", "source": "A census", "year": 2021}
    path = result.write(tmp_path / "people.tif", **words, tags={"zones_sha256": "abc"})
    valid, errors, _ = cog_validate(path, strict=True, quiet=True)
    assert valid, errors
    with rasterio.open(path) as source:
        assert source.descriptions == ("people", "density", "lower")
        assert source.units == ("people per cell", "people per km² of land", "people per cell")
        assert np.isnan(source.nodata)
        people, density, lower = source.read().astype(float)
        tags = source.tags()
        reduced = source.read(2, out_shape=(300, 350))
    assert np.nansum(people) == pytest.approx(123_456, rel=1e-6)
    assert np.isnan(people[:, :9]).all()
    np.testing.assert_allclose(lower, people / 2, rtol=1e-6)
    np.testing.assert_allclose(density, result.density(), rtol=1e-6)
    np.testing.assert_allclose(reduced[5, 100], density[10:12, 200:202].mean(), rtol=1e-5)
    assert tags["title"] == "People of A"
    assert tags["year"] == "2021"
    assert tags["method"] == "noise"
    assert tags["interval"] == "90%"
    assert tags["offset"] == "0.1"
    assert tags["zones_sha256"] == "abc"
    assert float(tags["total_people"]) == pytest.approx(123_456)
    again = result.write(tmp_path / "again.tif", **words, tags={"zones_sha256": "abc"})
    assert again.read_bytes() == path.read_bytes()


def test_a_population_of_one_s_own():
    people = np.full((9, 12), 3.0)
    own = Population(grid=GRID, people=people, land=np.ones((9, 12)), zones=pd.DataFrame())
    assert own.total == 324
    np.testing.assert_allclose(own.density(), 3 / own.area_km2)
    half = gpd.GeoDataFrame({"d": [1]}, geometry=[box(0, 0, 5.5, 9)], crs=32645)
    assert own.totals(half, id_column="d")[1] == pytest.approx(3 * 5.5 * 9)
