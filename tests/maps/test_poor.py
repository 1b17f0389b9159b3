"""The number of poor: consistent totals, intervals that cover the truth of simulated worlds, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import scipy.sparse
import shapely
from affine import Affine
from pyproj import CRS
from rio_cogeo import cog_validate
from scipy.special import ndtr
from scipy.stats import norm

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.population import allocate
from geopov.maps.density.zones import read_zones, zone_cells
from geopov.maps.poverty.indices import PovertyModel
from geopov.maps.poverty.number import PoorModel
from geopov.maps.poverty.random_field import RandomField

UNIT = "PPP USD per person per day"
Z90 = norm.ppf(0.95)
LINE, WITHIN_SD, ERROR_SD, PEOPLE_SD = 2.0, 0.6, 0.4, 0.5
SIDE = 10
WEST, NORTH = 200_000, 3_120_000
GRID = CellGrid(CRS.from_epsg(32645), Affine(1000, 0, WEST, 0, -1000, NORTH), SIDE, SIDE)
POVERTY = PovertyModel(LINE, UNIT, WITHIN_SD, "log_of_mean")
CORRELATION_KM = 4.0


def quarters(west=WEST, north=NORTH):
    """Four squares of about 5 x 5 cells, their borders moved by half a cell, so that they cut cells."""
    x, y = (west, west + 4500, west + SIDE * 1000), (north, north - 4500, north - SIDE * 1000)
    boxes = [shapely.box(x[i], y[j + 1], x[i + 1], y[j]) for j in (0, 1) for i in (0, 1)]
    return gpd.GeoDataFrame({"name": ["nw", "ne", "sw", "se"]}, geometry=boxes, crs=GRID.crs)


def as_zones(polygons, grid):
    """Polygons as census zones; only how they lie in the cells matters, for the map has their people."""
    return zone_cells(read_zones(polygons.assign(count=1000.0), id_column="name", count_column="count"), grid)


@pytest.fixture
def maps(make_map):
    """Write a welfare and a population map of the 10 x 10 cells."""

    def write(mean=None, people=None, *, people_sd=None, error_sd=ERROR_SD, population=None):
        draw = np.random.default_rng(0)
        mean = draw.normal(0.9, 0.4, (SIDE, SIDE)) if mean is None else mean
        people = draw.gamma(1, 500, (SIDE, SIDE)) if people is None else people
        support = np.where(np.isnan(mean), np.nan, 1.0)
        half = Z90 * error_sd
        bands = {"mean": mean, "lower": mean - half, "upper": mean + half, "in_support": support}
        tags = {"interval": "90%", "transform": "none"}
        welfare = make_map(bands, "welfare.tif", units=f"ln({UNIT})", tags=tags)
        bands = {"people": people, "density": people}
        if people_sd is not None:
            bands |= {"lower": people * np.exp(-Z90 * people_sd), "upper": people * np.exp(Z90 * people_sd)}
        options = {"units": "people per cell", "tags": {"interval": "90%"}} | (population or {})
        return welfare, make_map(bands, "population.tif", **options)

    return write


def poor_model(maps, **options):
    welfare, population = maps
    return PoorModel(welfare, population, POVERTY, **({"correlation_km": CORRELATION_KM} | options))


def read(path):
    with rasterio.open(path) as source:
        return dict(zip(source.descriptions, source.read().astype(float), strict=True))


def test_people_times_headcount_by_hand(maps, tmp_path):
    paths = maps(np.full((SIDE, SIDE), math.log(LINE) + WITHIN_SD**2 / 2), np.full((SIDE, SIDE), 300.0))
    out = read(poor_model(paths).write(tmp_path / "poor.tif"))
    np.testing.assert_allclose(out["poor"], 150, rtol=1e-5)
    exact = 300 * ndtr(np.array([-1, 1]) * Z90 * ERROR_SD / WITHIN_SD)
    ends = read(poor_model(paths, n_draws=5000).write(tmp_path / "poor.tif"))
    np.testing.assert_allclose([ends["lower"].mean(), ends["upper"].mean()], exact, rtol=0.02)


def test_no_cell_has_more_poor_than_people(maps, tmp_path):
    paths = maps(people_sd=PEOPLE_SD)
    out = read(poor_model(paths).write(tmp_path / "poor.tif"))
    assert (out["lower"] <= out["poor"]).all()
    assert (out["poor"] <= out["upper"]).all()
    assert (out["poor"] <= read(paths[1])["people"]).all()
    assert (out["lower"] >= 0).all()


def test_units_add_up_to_the_raster_and_the_country_has_its_own_interval(maps, tmp_path):
    paths = maps(people_sd=PEOPLE_SD)
    model = poor_model(paths)
    raster = read(model.write(tmp_path / "poor.tif"))["poor"]
    totals = model.totals(quarters(), id_column="name")
    units, national = totals.units, totals.national
    assert units["name"].tolist() == ["nw", "ne", "sw", "se"]
    assert units["poor"].sum() == pytest.approx(raster.sum(), rel=1e-6)
    assert national["poor"] == pytest.approx(raster.sum(), rel=1e-6)
    assert units["people"].sum() == pytest.approx(read(paths[1])["people"].sum(), rel=1e-6)
    assert (units["poor"] <= units["people"]).all()
    assert (totals.outside == 0).reindex(["people", "poor"]).all()
    # Errors of four quarters partly cancel.
    assert national["upper"] - national["lower"] < (units["upper"] - units["lower"]).sum()
    # A cell that the border halves counts half in each: 4.5 x 4.5 cells.
    people = read(paths[1])["people"]
    inside = people[:4, :4].sum() + people[4, :4].sum() / 2 + people[:4, 4].sum() / 2 + people[4, 4] / 4
    assert units.loc[0, "people"] == pytest.approx(inside, rel=1e-6)


def test_people_outside_all_units_and_without_an_estimate_are_counted(maps):
    mean = np.full((SIDE, SIDE), 0.9)
    mean[0, 0] = np.nan
    model = poor_model(maps(mean, np.full((SIDE, SIDE), 10.0)))
    totals = model.totals(quarters().iloc[[0]], id_column="name")
    assert totals.national[["people", "people_unknown"]].tolist() == pytest.approx([1000, 10])
    # The quarter takes its border cells whole: who lives in the rest of them, in the sea, nobody knows.
    assert totals.units.loc[0, ["people", "people_unknown"]].tolist() == pytest.approx([250, 10])
    assert totals.outside["people"] == pytest.approx(750)
    assert totals.units["poor"].sum() + totals.outside["poor"] == pytest.approx(totals.national["poor"])
    assert totals.units.loc[0, "headcount"] == pytest.approx(totals.units.loc[0, "poor"] / 240)


@pytest.fixture(scope="module")
def zones():
    return as_zones(quarters(), GRID)


def test_census_totals_stand_in_every_draw(maps, zones):
    """Where everybody is poor, the number of poor of a zone is its census count, whatever the cells hold."""
    people = np.random.default_rng(1).gamma(1, 500, (SIDE, SIDE))
    paths = maps(np.full((SIDE, SIDE), -30.0), people, people_sd=1.0)
    free = poor_model(paths).totals(quarters(), id_column="name")
    assert free.national["upper"] > 1.1 * people.sum()
    held = poor_model(paths, zones=zones).totals(quarters(), id_column="name")
    assert held.national[["poor", "lower", "upper"]].tolist() == pytest.approx([people.sum()] * 3, rel=1e-6)
    # Units are told from the cells, in which border people of two zones are mixed.
    widths = (held.units["upper"] - held.units["lower"]) / (free.units["upper"] - free.units["lower"])
    assert (widths < 0.15).all()


def test_census_zones_tell_who_lives_beyond_the_units(maps, zones):
    people = np.full((SIDE, SIDE), 10.0)
    model = poor_model(maps(people=people), zones=zones)
    totals = model.totals(quarters().iloc[[0]], id_column="name")
    assert totals.units.loc[0, "people"] == pytest.approx(4.5 * 4.5 * 10)
    assert totals.outside["people"] == pytest.approx(1000 - 4.5 * 4.5 * 10)


def test_a_census_shared_over_cells_goes_all_the_way(maps, tmp_path):
    """Counts of four zones, shared, bounded, written and read back: the country's people are the census."""
    welfare, _ = maps()
    counted = read_zones(quarters().assign(count=[100.0, 2000, 0, 400]), id_column="name", count_column="count")
    cells = zone_cells(counted, GRID)
    shared = allocate(cells, np.random.default_rng(2).gamma(1, 1, (SIDE, SIDE)))
    bounded = dataclasses.replace(shared, lower=shared.people * 0.4, upper=shared.people * 2)
    path = bounded.write(
        tmp_path / "people.tif", title="People", source="A census", year=2020, tags={"interval": "90%"}
    )
    totals = poor_model((welfare, path), zones=cells).totals(quarters(), id_column="name")
    assert totals.national["people"] == pytest.approx(2500, rel=1e-6)
    assert totals.units["people"].sum() == pytest.approx(2500, rel=1e-6)
    # Cells on a border mix the people of their zones.
    np.testing.assert_allclose(totals.units["people"], [100, 2000, 0, 400], atol=250)
    assert 0 < totals.national["lower"] < totals.national["poor"] < totals.national["upper"] < 2500


def covariance_root(nugget_share=0.0):
    x, y = GRID.centres()
    distance = np.hypot(x.ravel()[:, None] - x.ravel(), y.ravel()[:, None] - y.ravel()) / 1000
    shared = np.exp(-((distance / CORRELATION_KM) ** 2)) * (1 - nugget_share)
    return np.linalg.cholesky(shared + (nugget_share + 1e-8) * np.eye(SIDE * SIDE))


def simulate_world(draw, root):
    """A world of 10 x 10 cells: mean and people as mapped, level and people in truth."""
    mean = 0.9 + 0.5 * (root @ draw.standard_normal(SIDE**2))
    people = draw.gamma(1, 500, SIDE**2)
    level = mean + ERROR_SD * (root @ draw.standard_normal(SIDE**2))
    settled = people * np.exp(PEOPLE_SD * (root @ draw.standard_normal(SIDE**2)) - PEOPLE_SD**2 / 2)
    return [values.reshape(SIDE, SIDE) for values in (mean, people, level, settled)]


@pytest.fixture
def worlds(maps):
    """400 worlds as islands of one sea, 2.5 correlation lengths apart, each with four census zones.

    Their truths are drawn around the maps with the exact covariance of a Gaussian field, by Cholesky's decomposition.
    """
    n, pitch = 20, 2 * SIDE
    grid = dataclasses.replace(GRID, width=n * pitch, height=n * pitch)
    mean, people, level, settled = layers = [np.zeros((n * pitch, n * pitch)) for _ in range(4)]
    root, draw, pieces = covariance_root(), np.random.default_rng(7), []
    for j, i in np.ndindex(n, n):
        rows, columns = slice(j * pitch, j * pitch + SIDE), slice(i * pitch, i * pitch + SIDE)
        for layer, values in zip(layers, simulate_world(draw, root), strict=True):
            layer[rows, columns] = values
        pieces.append(quarters(WEST + i * pitch * 1000, NORTH - j * pitch * 1000).assign(world=n * j + i))
    table = pd.concat(pieces, ignore_index=True)
    table["name"] += table["world"].astype(str)
    cells = as_zones(table, grid)
    in_zones = cells.fraction.multiply(settled.reshape(1, -1)).tocsr()
    counts, drawn = cells.fraction @ people.ravel(), np.asarray(in_zones.sum(axis=1)).ravel()
    in_zones = scipy.sparse.diags(counts / drawn) @ in_zones
    headcount = ndtr((math.log(LINE) - level + WITHIN_SD**2 / 2) / WITHIN_SD).ravel()
    return maps(mean, people, people_sd=PEOPLE_SD), cells, table.assign(poor=in_zones @ headcount)


def test_intervals_cover_the_truth_of_400_simulated_worlds(worlds):
    paths, zones, table = worlds
    model = poor_model(paths, zones=zones, n_draws=199)
    by_world = table.dissolve("world", aggfunc={"poor": "sum"}).reset_index()
    # Three standard errors of a share of 0.9 in 400 independent worlds are 0.045.
    for truth, name, tolerance in ((by_world, "world", 0.045), (table, "name", 0.03)):
        totals = model.totals(truth, id_column=name)
        units, national = totals.units, totals.national
        inside = (truth["poor"] >= units["lower"]) & (truth["poor"] <= units["upper"])
        assert inside.mean() == pytest.approx(0.9, abs=tolerance)
        assert (truth["poor"] < units["lower"]).mean() == pytest.approx(0.05, abs=0.033)
        assert units["poor"].sum() / truth["poor"].sum() == pytest.approx(1, abs=0.03)
        # The errors of the islands cancel, and the country knows it.
        assert national["lower"] < truth["poor"].sum() < national["upper"]
        assert national["upper"] - national["lower"] < 0.1 * (units["upper"] - units["lower"]).sum()


def test_errors_drawn_apart_would_understate_the_total(maps):
    paths = maps()
    width = [
        float(total["upper"] - total["lower"])
        for total in (
            poor_model(paths, nugget_share=share, n_draws=400).totals(quarters(), id_column="name").national
            for share in (0.0, 0.5, 1.0)
        )
    ]
    assert width[0] > 1.3 * width[1] > 1.3**2 * width[2]


@pytest.mark.parametrize("nugget_share", [0.0, 0.3])
def test_the_field_has_the_variance_and_correlation_it_promises(nugget_share):
    field = RandomField(GRID, CORRELATION_KM, 20_000, seed=3, nugget_share=nugget_share).rows(0, SIDE)
    cells = field.reshape(20_000, -1)
    root = covariance_root(nugget_share)
    np.testing.assert_allclose(np.cov(cells.T), root @ root.T, atol=0.045)
    np.testing.assert_allclose(cells.mean(axis=0), 0, atol=0.03)


def test_a_field_is_the_same_however_it_is_cut_and_differs_by_seed_and_stream():
    field = RandomField(GRID, 2.5, 6, seed=3, nugget_share=0.3)
    whole = field.rows(0, SIDE)
    np.testing.assert_array_equal(np.concatenate([field.rows(0, 3), field.rows(3, 4), field.rows(4, SIDE)], 1), whole)
    for other in ({"seed": 4}, {"stream": 1}):
        assert not np.allclose(dataclasses.replace(field, **other).rows(0, SIDE), whole)


def test_strips_and_repeats_change_nothing(maps, zones, tmp_path, monkeypatch):
    people = np.random.default_rng(1).gamma(1, 500, (SIDE, SIDE))
    people[2, 3], people[7] = 0, np.nan
    model = poor_model(maps(people=people, people_sd=PEOPLE_SD), zones=zones, n_draws=50)
    whole, totals = model.write(tmp_path / "poor.tif").read_bytes(), model.totals(quarters(), id_column="name")
    monkeypatch.setattr("geopov.maps.poverty.people_draws._DRAWN_AT_ONCE", 1500)
    again = dataclasses.replace(model)
    assert again.write(tmp_path / "cut.tif").read_bytes() == whole
    repeated = again.totals(quarters(), id_column="name")
    np.testing.assert_allclose(
        repeated.units.drop(columns="name").to_numpy(), totals.units.drop(columns="name").to_numpy(), rtol=1e-9
    )
    other = dataclasses.replace(model, seed=1).write(tmp_path / "other.tif")
    np.testing.assert_array_equal(read(other)["poor"], read(tmp_path / "cut.tif")["poor"])
    assert not np.array_equal(read(other)["lower"], read(tmp_path / "cut.tif")["lower"], equal_nan=True)


def test_the_map_says_what_it_is(maps, tmp_path):
    people = np.full((SIDE, SIDE), 10.0)
    people[0, 0], people[1, 1] = 0, np.nan
    mean = np.full((SIDE, SIDE), 0.9)
    mean[0, 0] = mean[2, 2] = np.nan
    path = poor_model(maps(mean, people)).write(tmp_path / "poor.tif", tags={"country": "Nowhere"})
    with rasterio.open(path) as raster:
        tags = raster.tags()
        assert raster.descriptions == ("poor", "lower", "upper", "in_support")
        assert raster.units[:3] == ("poor people per cell",) * 3
        poor = raster.read(1)
    assert cog_validate(path, strict=True)[0]
    # Nobody is poor where nobody lives, and nothing is known where people or welfare are not.
    assert poor[0, 0] == 0
    assert np.isnan(poor[1, 1])
    assert np.isnan(poor[2, 2])
    assert (tags["style"], tags["seed"], tags["n_draws"], tags["correlation_km"]) == ("poor", "0", "200", "4")
    assert (tags["line"], tags["line_unit"], tags["interval"], tags["country"]) == ("2", UNIT, "90%", "Nowhere")
    assert {"welfare_sha256", "population_sha256", "formula"} <= set(tags)
    assert str(tmp_path) not in " ".join(tags.values())


def refused(message, model, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MapError, match=message):
        model().write(tmp_path / "poor.tif")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correlation_km": 0}, "correlation_km is 0"),
        ({"correlation_km": 0.3}, "less than half a cell of 1000 m"),
        ({"nugget_share": 1.2}, "nugget_share is 1.2"),
        ({"n_draws": 10}, "n_draws is 10; 90% intervals need at least 19"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_draws_that_make_no_sense(maps, tmp_path, options, message):
    paths = maps()
    refused(message, lambda: poor_model(paths, **options), tmp_path)


def test_a_line_in_another_unit(maps, tmp_path):
    paths = maps()
    yearly = dataclasses.replace(POVERTY, line_unit="PPP USD per person per year")
    refused("per year', the map", lambda: dataclasses.replace(poor_model(paths), poverty=yearly), tmp_path)


def test_population_maps_that_cannot_be_used(maps, make_map, tmp_path):
    welfare, _ = maps()
    ones = np.ones((SIDE, SIDE))
    cases = {
        "has no band 'people'; its bands are density": {"density": ones},
        "fewer than 0 people": {"people": -ones},
        "only one of the bands lower and upper": {"people": ones, "upper": ones},
        "does not say what its interval covers": {"people": ones, "lower": ones, "upper": ones},
        "different grids": {"people": np.ones((SIDE, SIDE + 1))},
    }
    for i, (message, bands) in enumerate(cases.items()):
        paths = welfare, make_map(bands, f"{i}.tif")
        refused(message, lambda paths=paths: poor_model(paths), tmp_path)
    bounds = {"people": ones, "lower": ones * 0, "upper": ones}
    paths = welfare, make_map(bounds, "zero.tif", tags={"interval": "90%"})
    refused("lower bound is missing, 0 or above", lambda: poor_model(paths), tmp_path)


def test_polygons_of_another_place(maps):
    elsewhere = quarters().assign(geometry=quarters().translate(xoff=500_000))
    with pytest.raises(MapError, match="none of the 4 polygons meets the map"):
        poor_model(maps()).totals(elsewhere, id_column="name")


def test_maps_in_degrees_are_refused(maps, make_map, tmp_path):
    welfare, _ = maps()
    degrees = {"crs": "EPSG:4326", "transform": Affine(0.01, 0, 85, 0, -0.01, 28)}
    paths = welfare, make_map({"people": np.ones((SIDE, SIDE))}, "degrees.tif", **degrees)
    refused(r"0.01 x 0.01 in WGS 84 .*expected square cells in metres", lambda: poor_model(paths), tmp_path)


def test_zones_of_another_grid(maps, zones, tmp_path):
    paths = maps(people_sd=PEOPLE_SD)
    finer = dataclasses.replace(zones, grid=dataclasses.replace(GRID, width=SIDE + 1))
    refused("the zones lie on a grid of 11 x 10 cells", lambda: poor_model(paths, zones=finer), tmp_path)
    with pytest.raises(MapError, match="the zones lie on a grid of 11 x 10 cells"):
        poor_model(paths, zones=finer).totals(quarters(), id_column="name")


def test_polygons_that_cannot_be_named_or_placed(maps):
    model = poor_model(maps())
    with pytest.raises(MapError, match="has no column 'district'"):
        model.totals(quarters(), id_column="district")
    with pytest.raises(MapError, match="stand more than once"):
        model.totals(quarters().assign(name="a"), id_column="name")
    with pytest.raises(MapError, match="no CRS"):
        model.totals(
            gpd.GeoDataFrame(quarters().drop(columns="geometry"), geometry=list(quarters().geometry)), id_column="name"
        )
