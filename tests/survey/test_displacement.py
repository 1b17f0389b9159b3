"""Displacement against its published rule, and what it does to a model in a world whose truth is known."""

from __future__ import annotations

import json
from functools import lru_cache

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest
from shapely.geometry import Point, box

from geopov.errors import SurveyError
from geopov.survey.displacement.attenuation import Attenuation, attenuation, extrapolate
from geopov.survey.displacement.draws import average_over_draws, spread_over_draws
from geopov.survey.displacement.positions import (
    RULES,
    DisplacementRule,
    check_window,
    displace,
    displacement_km,
    draw_positions,
    minimum_window_km,
    share_outside,
)

UTM = "EPSG:32735"


def clusters(n: int, *, urban: float = 0.3, seed: int = 0, side_deg: float = 2.0) -> gpd.GeoDataFrame:
    """Clusters in a square around 28 E, 2 S, where UTM zone 35 is true to 1 in 1,000."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-side_deg / 2, side_deg / 2, (2, n))
    return gpd.GeoDataFrame(
        {"cluster_id": [f"c{i}" for i in range(n)], "urban": rng.random(n) < urban},
        geometry=gpd.points_from_xy(28 + lon, lat - 2),
        crs="EPSG:4326",
    )


def moves_km(before: gpd.GeoDataFrame, after: gpd.GeoDataFrame) -> np.ndarray:
    """East and north (n, 2) of each move."""
    start, end = (table.to_crs(UTM).get_coordinates().to_numpy() for table in (before, after))
    return (end - start) / 1000


def r2(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1] ** 2)


class TestRule:
    def test_the_usual_maximum_is_2_km_in_towns_and_5_km_elsewhere(self):
        table = pd.DataFrame({"urban": [True, False]}, index=[7, 3])
        km = displacement_km(table, "dhs")
        assert km.to_dict() == {7: 2.0, 3: 5.0}
        assert km.name == "displacement_km"
        assert "notes" not in km.attrs
        assert displacement_km(table, "none").tolist() == [0, 0]

    def test_clusters_that_do_not_say_are_taken_as_rural_with_a_note(self):
        km = displacement_km(pd.DataFrame({"urban": [True, None, False]}), "lsms")
        assert km.tolist() == [2.0, 5.0, 5.0]
        assert "1 of 3 clusters do not say" in km.attrs["notes"][0]
        assert displacement_km(pd.DataFrame({"a": [1, 2]}), "lsms").tolist() == [5.0, 5.0]

    def test_scaling_leaves_the_share_alone(self):
        assert RULES["dhs"].scaled(2) == DisplacementRule(4, 10, 20, 0.01)

    @pytest.mark.parametrize("wrong", [{"urban_km": -1}, {"rural_km": float("nan")}, {"far_share": 2}])
    def test_impossible_rules_are_refused(self, wrong):
        with pytest.raises(SurveyError, match=next(iter(wrong))):
            DisplacementRule(**wrong)

    def test_unknown_rules_are_named(self):
        with pytest.raises(SurveyError, match="no displacement rule 'mics'; expected one of dhs, lsms, none"):
            displacement_km(pd.DataFrame({"urban": [True]}), "mics")


class TestDisplace:
    def test_distances_and_directions_are_uniform(self):
        points = clusters(20_000)
        moves = moves_km(points, displace(points, rule="dhs", seed=3))
        km, angle = np.hypot(*moves.T), np.arctan2(moves[:, 1], moves[:, 0])
        town = points["urban"].to_numpy()
        # UTM shrinks the edges of its zone and stretches others by 4 in 10,000.
        assert km[town].max() < 2.002
        assert kstest(km[town] / 2, "uniform").pvalue > 0.01
        near = km[~town & (km < 5)]
        assert kstest(near / 5, "uniform").pvalue > 0.01
        assert kstest((angle + np.pi) / (2 * np.pi), "uniform").pvalue > 0.01
        # 1% of rural clusters go up to 10 km, half of them further than 5.
        assert (km[~town] > 5.003).mean() == pytest.approx(0.005, abs=0.0015)
        assert 8 < km.max() < 10.01

    def test_the_table_says_how_far_and_keeps_the_rest(self):
        points = clusters(5).assign(wealth=range(5))
        points.attrs["dropped"] = [{"source": "clusters", "id": "x", "reason": "y"}]
        moved = displace(points, rule="dhs", seed=0)
        assert moved["displacement_km"].tolist() == np.where(points["urban"], 2.0, 5.0).tolist()
        assert moved["wealth"].tolist() == list(range(5))
        assert moved.attrs == points.attrs
        assert displace(points, rule="none", seed=0).geometry.equals(points.geometry)

    @settings(max_examples=20, deadline=None)
    @given(order=st.permutations(range(12)), kept=st.integers(1, 12), seed=st.integers(0, 2**40))
    def test_a_move_depends_on_the_seed_and_the_cluster_alone(self, order, kept, seed):
        points, units = clusters(12), districts()
        every = displace(points, rule="dhs", seed=seed, within=units).set_index("cluster_id").geometry
        some = displace(points.iloc[order[:kept]], rule="dhs", seed=seed, within=units).set_index("cluster_id").geometry
        assert some.equals(every.loc[some.index])
        assert not displace(points, rule="dhs", seed=seed + 1).set_index("cluster_id").geometry.equals(every)

    @pytest.mark.parametrize("seed", [-1, 0.5, None, True])
    def test_seeds_are_whole_numbers(self, seed):
        with pytest.raises(SurveyError, match="seed is"):
            displace(clusters(2), rule="dhs", seed=seed)


def districts() -> gpd.GeoDataFrame:
    """100 squares of 0.2 degrees that cover the clusters."""
    west, south = np.meshgrid(27 + 0.2 * np.arange(10), -3 + 0.2 * np.arange(10))
    squares = [box(x, y, x + 0.2, y + 0.2) for x, y in zip(west.ravel(), south.ravel(), strict=True)]
    return gpd.GeoDataFrame({"district": range(100)}, geometry=squares, crs="EPSG:4326")


class TestWithin:
    def test_points_stay_in_their_district(self):
        points, units = clusters(2000, urban=0), districts()
        moved = displace(points, rule="dhs", seed=1, within=units.to_crs(UTM))
        before, after = (gpd.sjoin(table, units).sort_index()["district"] for table in (points, moved))
        # A district brought from UTM has edges that are straight there, so its corners are metres off.
        assert (before.to_numpy() == after.to_numpy()).mean() > 0.999
        free = displace(points, rule="dhs", seed=1)
        assert (gpd.sjoin(free, units).sort_index()["district"].reindex(before.index) != before).sum() > 200
        assert "notes" not in moved.attrs

    def test_a_restricted_move_is_the_free_one_given_that_it_stays(self):
        start, unit = Point(28, -2), gpd.GeoDataFrame(geometry=[box(27.99, -3, 29, -1)], crs="EPSG:4326")
        points = gpd.GeoDataFrame(
            {"cluster_id": [f"{i}" for i in range(4000)], "urban": False}, geometry=[start] * 4000, crs="EPSG:4326"
        )
        kept, free = displace(points, rule="dhs", seed=0, within=unit), displace(points, rule="dhs", seed=1)
        free = free[free.geometry.x >= 27.99]
        assert kept.geometry.x.min() >= 27.99
        for axis in ("x", "y"):
            assert ks_2samp(getattr(kept.geometry, axis), getattr(free.geometry, axis)).pvalue > 0.01

    def test_what_cannot_be_done_is_named(self):
        points = clusters(3, urban=0)
        first = points.geometry.iloc[0]
        tiny = gpd.GeoDataFrame(geometry=[first.buffer(1e-9)], crs="EPSG:4326")
        moved = displace(points, rule="dhs", seed=0, within=tiny)
        assert moved.geometry.iloc[0].distance(first) <= 1e-9
        assert moved.attrs["notes"] == [
            "2 points lie in no polygon and are moved freely (c1, c2)",
            "1 points find no place in their polygon and stay where they are (c0)",
        ]
        assert (moves_km(points, moved)[1:] != 0).all()

    @pytest.mark.parametrize(
        ("within", "message"),
        [
            (gpd.GeoDataFrame(geometry=[Point(28, -2)], crs="EPSG:4326"), "holds Point in 1 rows"),
            (gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)]), "with a CRS"),
            (box(0, 0, 1, 1), "GeoDataFrame of polygons"),
        ],
    )
    def test_only_polygons_bound_a_move(self, within, message):
        with pytest.raises(SurveyError, match=message):
            displace(clusters(2), rule="dhs", seed=0, within=within)


class TestDrawPositions:
    def test_draws_lie_around_the_published_point_as_it_lies_around_the_true_one(self):
        points = clusters(400, urban=0.5)
        draws = draw_positions(points, n_draws=50, seed=0, rule="dhs")
        assert len(draws) == 20_000
        assert draws["point_id"].is_unique
        assert draws.columns.tolist() == ["point_id", "cluster_id", "draw", "geometry"]
        owner = points.set_index("cluster_id").loc[draws["cluster_id"]]
        km = np.hypot(*moves_km(owner, draws).T)
        town = owner["urban"].to_numpy()
        assert kstest(km[town] / 2, "uniform").pvalue > 0.01
        assert kstest(km[~town & (km < 5)] / 5, "uniform").pvalue > 0.01

    def test_by_the_column_where_no_rule_is_given(self):
        points = clusters(3).assign(displacement_km=[0.0, 1.0, 5.0])
        draws = draw_positions(points, n_draws=400, seed=0)
        assert draws["cluster_id"].value_counts().to_dict() == {"c0": 1, "c1": 400, "c2": 400}
        assert draws.geometry.iloc[0] == points.geometry.iloc[0]
        owner = points.set_index("cluster_id").loc[draws["cluster_id"]]
        km = pd.Series(np.hypot(*moves_km(owner, draws).T)).groupby(draws["cluster_id"]).max()
        assert km["c1"] == pytest.approx(1, rel=0.02)
        assert 4.9 < km["c2"] < 10
        with pytest.raises(SurveyError, match=r"no column 'displacement_km'; add it with displacement_km\(clusters"):
            draw_positions(clusters(2), n_draws=2, seed=0)

    def test_draws_stay_in_the_district(self):
        points, units = clusters(50, urban=0), districts()
        draws = draw_positions(points, n_draws=20, seed=0, rule="dhs", within=units)
        home = gpd.sjoin(points, units).set_index("cluster_id")["district"]
        assert (gpd.sjoin(draws, units)["district"].to_numpy() == home.loc[draws["cluster_id"]].to_numpy()).all()

    def test_weights_draw_towards_people(self):
        points = clusters(1, urban=0)
        east_of = points.geometry.x.iloc[0]
        draws = draw_positions(
            points, n_draws=4000, seed=0, rule="dhs", weights=lambda lon, lat: np.where(lon > east_of, 3.0, 1.0)
        )
        assert (draws.geometry.x > east_of).mean() == pytest.approx(0.75, abs=0.03)
        only = draw_positions(
            points, n_draws=50, seed=0, rule="dhs", weights=lambda lon, lat: np.where(lon > east_of, 1.0, np.nan)
        )
        assert (only.geometry.x > east_of).all()
        empty = draw_positions(points, n_draws=5, seed=0, rule="dhs", weights=lambda lon, lat: 0 * lon)
        assert empty.attrs["notes"] == ["no people where 1 clusters may be, by the weights (c0)"]
        with pytest.raises(SurveyError, match="weights are negative"):
            draw_positions(points, n_draws=5, seed=0, rule="dhs", weights=lambda lon, lat: 0 * lon - 1)

    @pytest.mark.parametrize("n_draws", [0, 1.5, True])
    def test_draws_are_counted_in_whole_numbers(self, n_draws):
        with pytest.raises(SurveyError, match="n_draws is"):
            draw_positions(clusters(2), n_draws=n_draws, seed=0, rule="dhs")


class TestWindow:
    def test_known_shares(self):
        town = pd.DataFrame({"displacement_km": [2.0]})
        assert share_outside(town, window_km=4) == 0
        # Where the square's corners just reach the maximum, an eighth of the circle integrates to ln(1 + sqrt 2).
        inscribed = 1 - 4 / np.pi / np.sqrt(2) * np.log(1 + np.sqrt(2))
        assert share_outside(town, window_km=4 / np.sqrt(2)) == pytest.approx(inscribed)
        assert share_outside(town, window_km=1e-9) == pytest.approx(1)
        assert share_outside(pd.DataFrame({"displacement_km": [0.0]}), window_km=1) == 0

    @pytest.mark.parametrize("window_km", [1.0, 3.0, 6.7, 9.0, 15.0])
    def test_shares_are_those_of_displaced_points(self, window_km):
        points = clusters(20_000)
        moved = displace(points, rule="dhs", seed=0)
        outside = (np.abs(moves_km(points, moved)) > window_km / 2).any(axis=1).mean()
        assert share_outside(moved, window_km=window_km) == pytest.approx(outside, abs=0.008)

    def test_a_window_of_twice_the_displacement_is_enough(self):
        table = pd.DataFrame({"displacement_km": [2.0, 5.0, 5.0, 0.0]})
        assert minimum_window_km(table) == 10
        assert check_window(table, window_km=10) is None
        text = check_window(table, window_km=6.7)
        assert text is not None
        assert "smaller than the displacement of 2 of 4 clusters" in text
        assert f"about {share_outside(table, window_km=6.7):.1%} of all" in text
        assert "A window of 10 km" in text


class TestAverageOverDraws:
    draws = pd.DataFrame({"point_id": ["a/0", "a/1", "b/0", "b/1", "c/0"], "cluster_id": ["a", "a", "b", "b", "c"]})

    def features(self, values, names) -> xr.DataArray:
        return xr.DataArray(
            np.array(values, dtype=np.float32),
            dims=("cluster", "feature"),
            coords={"cluster_id": ("cluster", names), "feature": ["f0", "f1"]},
            attrs={"extractor": "{}"},
        )

    def test_by_hand(self):
        values = [[3, 30], [1, 10], [5, np.nan], [7, 70]]
        mean = average_over_draws(self.features(values, ["b/1", "a/0", "b/0", "a/1"]), self.draws)
        assert mean["cluster_id"].values.tolist() == ["a", "b"]
        assert mean.values.tolist() == [[4, 40], [3, 30]]
        assert mean["n_draws"].values.tolist() == [2, 1]
        assert mean["feature"].values.tolist() == ["f0", "f1"]
        assert mean.dtype == np.float32
        assert mean.attrs["extractor"] == "{}"
        reason = "no draw of its position has features"
        assert json.loads(mean.attrs["dropped"]) == [{"cluster_id": "c", "reason": reason}]
        spread = spread_over_draws(self.features(values, ["b/1", "a/0", "b/0", "a/1"]), self.draws)
        np.testing.assert_allclose(spread.values, [[np.sqrt(18), np.sqrt(1800)], [np.nan, np.nan]], rtol=1e-6)

    def test_strangers_and_nothing_at_all_are_refused(self):
        with pytest.raises(SurveyError, match=r"1 of 2 rows of features belong to no draw \(x\)"):
            average_over_draws(self.features([[1, 2], [3, 4]], ["a/0", "x"]), self.draws)
        with pytest.raises(SurveyError, match="no draw has features"):
            average_over_draws(self.features([[1, np.nan]], ["a/0"]), self.draws)
        with pytest.raises(SurveyError, match="dimensions"):
            average_over_draws(xr.DataArray(np.zeros((2, 2)), dims=("x", "y")), self.draws)


class World:
    """A random field of welfare with a Gaussian covariance, summed from plane waves; or one with detail at all scales.

    The feature of a place is the field itself, and the outcome of a cluster is the field at its true position plus
    what no image shows, so that without displacement r² is about .8.
    """

    def __init__(self, seed: int, *, length_km: float, rough: bool = False, n: int = 300) -> None:
        rng = np.random.default_rng(seed)
        self.waves = rng.normal(size=(150, 2)) / length_km
        if rough:
            self.waves /= np.sqrt(rng.chisquare(1.5, size=(150, 1)) / 1.5)
        self.phases = rng.uniform(0, 2 * np.pi, 150)
        self.true = clusters(n, seed=seed)
        self.welfare = self.feature(self.true) + rng.normal(0, 0.5, n)
        self.published = displace(self.true, rule="dhs", seed=seed)

    def feature(self, points: gpd.GeoDataFrame) -> np.ndarray:
        km = (points.get_coordinates().to_numpy() - [28, -2]) * 111.2
        return np.sqrt(2 / 150) * np.cos(km @ self.waves.T + self.phases).sum(axis=1)

    def score(self, points: gpd.GeoDataFrame) -> float:
        return r2(self.feature(points), self.welfare)

    def averaged_score(self) -> float:
        draws = draw_positions(self.published, n_draws=20, seed=99)
        table = self.feature(draws)[:, None]
        features = xr.DataArray(
            table, dims=("cluster", "feature"), coords={"cluster_id": ("cluster", draws["point_id"])}
        )
        return r2(average_over_draws(features, draws)[:, 0], self.welfare)


@lru_cache
def measured(seed: int, length_km: float, rough: bool) -> tuple[float, Attenuation]:
    """The score at the true positions of a world, and what is made of its published ones."""
    world = World(seed, length_km=length_km, rough=rough)
    return world.score(world.true), attenuation(world.published, world.score, rule="dhs", n_draws=6)


class TestKnownTruth:
    def test_r2_falls_as_known_points_are_displaced(self):
        world = World(0, length_km=8)
        known = attenuation(world.true, world.score, rule="dhs", n_draws=5, displaced=False)
        table = known.table
        assert table["score"].is_monotonic_decreasing
        assert table["multiple"].tolist() == [0, 0.5, 1, 1.5, 2]
        assert table["variance"].tolist() == [0, 0.25, 1, 2.25, 4]
        # 30% of clusters move 1 km on average, the others 2.5 km and a little more for the one in a hundred.
        town = world.true["urban"].mean()
        assert table["mean_km"][2] == pytest.approx(town + 2.525 * (1 - town), rel=0.05)
        assert known.undisplaced == known.low == known.given == world.score(world.true)
        assert known.lost == pytest.approx(known.given - table["score"][2])
        assert known.text().startswith("As known positions are displaced, r² goes from 0.")

    @pytest.mark.parametrize(("length_km", "rough"), [(4, False), (8, False), (10, True)])
    def test_extrapolation_is_nearer_the_truth_than_the_score_at_published_points(self, length_km, rough):
        scores, found = zip(*(measured(seed, length_km, rough) for seed in range(6)), strict=True)
        truth = np.array(scores)
        naive, simex = (np.array([getattr(one, name) for one in found]) for name in ("given", "undisplaced"))
        assert (naive < truth).all()
        assert np.abs(simex - truth).mean() < 0.6 * np.abs(naive - truth).mean()
        # Detail at all scales has a tail that the curve does not follow all the way.
        assert abs((simex - truth).mean()) < (0.4 if rough else 0.25) * abs((naive - truth).mean())

    def test_intervals_hold_the_truth_where_the_field_is_smooth(self):
        held = [one.low <= true <= one.high for true, one in (measured(seed, 8, False) for seed in range(20))]
        # 95% is nominal. The variance is estimated from six draws of each multiple.
        assert np.mean(held) >= 0.8

    def test_averaging_over_draws_helps_where_the_field_is_rough_and_does_no_harm_where_it_is_smooth(self):
        gains = {}
        for name, length_km, rough in (("rough", 5, True), ("smooth", 15, False)):
            worlds = [World(seed, length_km=length_km, rough=rough) for seed in range(8)]
            gains[name] = np.array([world.averaged_score() - world.score(world.published) for world in worlds])
        assert gains["rough"].mean() > 0.02
        assert (gains["rough"] > 0).mean() > 0.8
        # A smooth field's mean over the draws is nearly its value at their centre: nothing to gain, nothing to lose.
        assert np.abs(gains["smooth"]).max() < 0.01

    def test_results_repeat_and_can_be_written(self):
        world = World(1, length_km=8, n=60)
        first, again = (attenuation(world.published, world.score, rule="dhs", n_draws=3, seed=5) for _ in range(2))
        assert first.to_dict() == again.to_dict()
        assert json.loads(json.dumps(first.to_dict())) == first.to_dict()
        assert f"{first.low:.3f} to {first.high:.3f}, by SIMEX with a rational curve" in first.text()
        shuffled = attenuation(
            world.published, lambda points: world.score(points.sort_index()), rule="dhs", n_draws=3, seed=5
        )
        assert shuffled.undisplaced == pytest.approx(first.undisplaced)

    def test_what_cannot_be_measured_is_refused(self):
        world = World(1, length_km=8, n=30)
        for wrong, message in (
            ({"multiples": (1, 2)}, "at least three"),
            ({"multiples": (0, 1, 2)}, "above zero"),
            ({"n_draws": 1}, "n_draws is 1"),
            ({"rule": "none"}, "moves none of these points"),
            ({"extrapolant": "cubic"}, "expected one of quadratic, rational"),
        ):
            with pytest.raises(SurveyError, match=message):
                attenuation(world.published, world.score, **{"rule": "dhs", **wrong})
        with pytest.raises(SurveyError, match="score of moved points is nan"):
            attenuation(world.published, lambda points: float("nan"), rule="dhs")

    def test_curves_pass_through_what_they_describe(self):
        variance = np.array([0, 0.25, 1, 2.25, 4])
        assert extrapolate(variance, 0.7 - 0.1 * variance + 0.01 * variance**2, extrapolant="quadratic") == (
            pytest.approx(0.81)
        )
        # r² of a linear model with Gaussian errors: reliability 3/4 at the published points, 1 at the true ones.
        assert extrapolate(variance, 0.8 * 3 / (4 + variance), extrapolant="rational") == pytest.approx(0.8, rel=1e-3)
        assert extrapolate(variance, np.full(5, 0.3), extrapolant="rational") == pytest.approx(0.3)
