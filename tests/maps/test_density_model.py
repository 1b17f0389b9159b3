from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from shapely.geometry import box

from geopov.errors import MapError
from geopov.grid import CellGrid
from geopov.maps.density.ecological import Totals, log_linear
from geopov.maps.density.model import fit_density
from geopov.maps.density.population import allocate
from geopov.maps.density.zones import read_zones, zone_cells

SIDE, ZONE, PARENT = 48, 6, 3
GRID = CellGrid(CRS.from_epsg(32645), Affine(1000, 0, 200_000, 0, -1000, 3_120_000), SIDE, SIDE)


class World:
    """64 square zones of 36 cells in 9 parents, and the density of every cell that made their counts."""

    def __init__(self, log_density, *, noise: float = 0.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        # Rough and smooth: covariates vary within zones and between them.
        rough, wave = rng.normal(size=(SIDE, SIDE)), np.sin(np.mgrid[:SIDE, :SIDE][1] / 5)
        self.covariates = np.stack([rough, wave + 0.3 * rng.normal(size=(SIDE, SIDE))])
        self.density = np.exp(log_density(*self.covariates))
        blocks = self.density.reshape(SIDE // ZONE, ZONE, SIDE // ZONE, ZONE).sum(axis=(1, 3))
        self.counts = (blocks * np.exp(noise * rng.normal(size=blocks.shape))).ravel()
        west, _, _, north = GRID.bounds
        shapes, self.parents = [], []
        for row in range(SIDE // ZONE):
            for column in range(SIDE // ZONE):
                x, y = west + column * ZONE * 1000, north - row * ZONE * 1000
                shapes.append(box(x, y - ZONE * 1000, x + ZONE * 1000, y))
                self.parents.append(f"{row // PARENT}-{column // PARENT}")
        self.polygons = gpd.GeoDataFrame({"id": range(len(shapes)), "n": self.counts}, geometry=shapes, crs=GRID.crs)

    def cells(self):
        return zone_cells(read_zones(self.polygons, id_column="id", count_column="n"), GRID)

    def fit(self, model, **options):
        options = {"coarse_groups": self.parents, "names": ("rough", "wave"), "trees": 60} | options
        return fit_density(self.cells(), self.covariates, model=model, **options)

    def error(self, density) -> float:
        """Of the logarithm of people per cell once the zones' totals are kept."""
        people = allocate(self.cells(), density).people
        truth = allocate(self.cells(), self.density).people
        return float(np.sqrt(np.mean(np.log(people / truth) ** 2)))


def linear(rough, wave):
    return 3.0 + 1.2 * rough - 0.8 * wave


def step(rough, wave):
    return 3.0 + 3.0 * (rough > 0.5) + 1.5 * (wave > 0.2)


def test_cells_are_recovered_from_sums():
    world = World(linear)
    model = world.fit("loglinear", penalties=(1e-9,))
    density = model.predict(world.covariates)
    assert np.log(density / world.density) == pytest.approx(0, abs=2e-3)
    assert model.predictor.coefficients / model.scale == pytest.approx([1.2, -0.8], abs=1e-3)
    assert model.tried["mae"].iloc[0] < 1e-3 * world.counts.mean()


def test_means_over_zones_get_the_cells_wrong():
    world = World(linear)
    ecological, means = world.fit("loglinear", penalties=(1e-6,)), world.fit("ridge", penalties=(1e-6,))
    assert world.error(ecological.predict(world.covariates)) < 0.01
    assert world.error(means.predict(world.covariates)) > 0.1


def test_what_sets_parents_apart_cancels():
    world = World(linear)
    factors = dict(zip(sorted(set(world.parents)), np.geomspace(0.1, 10, 9), strict=True))
    world.polygons["n"] *= [factors[parent] for parent in world.parents]
    model = world.fit("loglinear", penalties=(1e-9,))
    assert model.predictor.coefficients / model.scale == pytest.approx([1.2, -0.8], abs=1e-3)


def test_trees_find_steps_that_a_plane_cannot():
    world = World(lambda rough, wave: 3.0 + 2.5 * (wave > 0.6), noise=0.05)
    plane, trees = world.fit("loglinear"), world.fit("boosting")
    assert world.error(trees.predict(world.covariates)) < 0.7 * world.error(plane.predict(world.covariates))
    assert world.error(plane.predict(world.covariates)) < world.error(np.ones((SIDE, SIDE)))


def test_the_best_kind_one_level_up_is_taken():
    world = World(step, noise=0.05)
    model = world.fit(["forest", "ridge", "boosting"], n_folds=3)
    tried = model.tried[model.tried["kind"].isin(["forest", "ridge", "boosting"])]
    best = tried.loc[tried["mae"].idxmin()]
    assert (model.kind, model.settings["trees"]) == (best["kind"], best["trees"])
    assert model.kind == "boosting"
    planes = model.tried[model.tried["kind"] == "loglinear"]
    assert model.settings["penalty"] == planes.loc[planes["mae"].idxmin(), "penalty"]
    # Boosting starts from the log-linear model, which is therefore tried, but not taken.
    assert world.fit("boosting", trees=1).kind == "boosting"


def test_level_is_people_per_km2():
    world = World(linear, noise=0.1)
    model = world.fit("boosting", trees=10)
    people = (model.predict(world.covariates) * world.cells().area_km2).sum()
    assert people == pytest.approx(world.counts.sum(), rel=1e-6)


def test_equal_input_and_seed_give_equal_models():
    world = World(step, noise=0.2)
    options = {"model": ["forest", "boosting"], "trees": 10, "n_folds": 2, "coarse_groups": None}
    first, second = (world.fit(**options, seed=3) for _ in range(2))
    assert first.tried.equals(second.tried)
    assert np.array_equal(first.predict(world.covariates), second.predict(world.covariates))
    other = world.fit(**options, seed=4)
    assert not other.tried.equals(first.tried)


def test_errors_are_of_held_out_parents():
    world = World(linear, noise=0.3, seed=1)
    model = world.fit("loglinear", penalties=(1e-3,))
    assert model.errors.index.tolist() == [str(i) for i in range(64)]
    # Each parent's total is given, so that over- and underestimates balance in it.
    predicted = world.counts / np.exp(model.errors.to_numpy())
    for parent in set(world.parents):
        inside = np.array(world.parents) == parent
        assert predicted[inside].sum() == pytest.approx(world.counts[inside].sum())
    # Noise of 0.3 in each zone is what is left.
    assert model.errors.std() == pytest.approx(0.3, abs=0.08)


def test_interval_holds_its_share_and_is_on_the_map():
    world = World(linear, noise=0.3)
    model = world.fit("loglinear")
    low, high = model.interval(0.8)
    held = (model.errors > np.log(low)) & (model.errors < np.log(high))
    assert held.mean() == pytest.approx(0.8, abs=0.03)
    population = model.with_interval(allocate(world.cells(), model.predict(world.covariates)), level=0.8)
    assert population.lower == pytest.approx(population.people * low)
    assert population.upper == pytest.approx(population.people * high)
    assert population.total == pytest.approx(world.counts.sum(), rel=1e-12)


def test_unknown_cells():
    world = World(linear)
    world.covariates[:, 0, :] = np.nan
    world.covariates[1, 5, 5] = np.nan
    model = world.fit("loglinear", penalties=(1e-6,))
    density = model.predict(world.covariates)
    assert np.isnan(density[0]).all()
    assert np.isfinite(density[1:]).all()


def test_zones_without_people_teach_nothing():
    world = World(linear)
    before = world.fit("loglinear", penalties=(1e-9,))
    world.polygons.loc[[3, 40], "n"] = 0
    model = world.fit("loglinear", penalties=(1e-9,))
    assert len(model.errors) == 62
    assert model.predict(world.covariates) == pytest.approx(before.predict(world.covariates), rel=0.05)


def random_totals(seed: int, n: int = 12, c: int = 150, k: int = 3) -> Totals:
    rng = np.random.default_rng(seed)
    rows, columns = np.repeat(np.arange(n), c), np.tile(np.arange(c), n)
    keep = rng.random(n * c) < 0.2
    area = csr_matrix((rng.random(keep.sum()) + 0.1, (rows[keep], columns[keep])), shape=(n, c))
    return Totals(rng.normal(size=(c, k)), area, np.exp(rng.normal(5, 1, n)), np.arange(n) % 4)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_log_linear_against_a_general_optimiser(penalty):
    totals = random_totals(7)

    def loss(b):
        _, sums = totals.sums(totals.features @ b)
        return totals.weight @ totals.residuals(sums) ** 2 / 2 / len(totals.counts) + penalty * b @ b / 2

    b = log_linear(totals, penalty=penalty)
    found = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    assert loss(b) == pytest.approx(found.fun, rel=1e-5)
    assert b == pytest.approx(found.x, abs=2e-3)


@given(st.integers(0, 10_000), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
@settings(max_examples=25)
def test_shared_people_keep_the_totals_of_parents(seed, coefficients):
    totals = random_totals(seed)
    people = totals.shared(totals.features @ np.array(coefficients))
    assert np.bincount(totals.parent, people) == pytest.approx(np.bincount(totals.parent, totals.counts))
    assert (people >= 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "lasso"}, "model is 'lasso'; expected one or several of loglinear"),
        ({"model": []}, "expected one or several of"),
        ({"names": ("rough",)}, r"shape \(2, 48, 48\); expected \(1, 48, 48\)"),
        ({"names": ("rough", "rough")}, "names of the covariates repeat"),
        ({"coarse_groups": ["a"]}, "coarse_groups has 1 values for 64 zones"),
        ({"coarse_groups": [None] * 64}, "coarse_groups is missing for 64 zones"),
        ({"coarse_groups": ["a"] * 64}, "the 64 zones have 1 parents"),
        ({"coarse_groups": range(64)}, "several zones in some"),
        ({"penalties": (0.0,)}, "penalties above 0"),
        ({"trees": 0}, "trees of 1 or more"),
    ],
)
def test_bad_options_are_named(change, message):
    world = World(linear)
    with pytest.raises(MapError, match=message):
        world.fit(**({"model": "loglinear"} | change))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "wave: unknown in all cells"),
        (3.0, "wave: the same in all cells"),
        (-np.inf, "infinite values in wave"),
    ],
)
def test_bad_covariates_are_named(value, message):
    world = World(linear)
    world.covariates[1] = value
    with pytest.raises(MapError, match=message):
        world.fit("loglinear")


def test_too_few_zones():
    world = World(linear)
    world.polygons.loc[19:, "n"] = 0
    with pytest.raises(MapError, match="19 zones have people, land and covariates; a model needs 20"):
        world.fit("loglinear")


def test_predicting_needs_the_same_layers():
    world = World(linear)
    model = world.fit("loglinear")
    with pytest.raises(MapError, match=r"expected \(2, height, width\) of rough, wave"):
        model.predict(world.covariates[:1])
    with pytest.raises(MapError, match="level is 90"):
        model.interval(90)
