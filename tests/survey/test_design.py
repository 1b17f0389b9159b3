from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.clusters import dropped
from geopov.survey.design import aggregate_clusters, estimate


def households() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "household_id": ["h1", "h2", "h3", "h4", "h5"],
            "cluster_id": [1, 1, 1, 2, 2],
            "survey": "MW2014",
            "year": [2014, 2014, 2015, 2015, 2015],
            "urban": [1, 1, 1, 2, 2],
            "region": ["North", "North", "North", "South", "South"],
            "weight": [2.0, 1.0, 1.0, 5.0, 5.0],
            "household_size": [1.0, 6.0, 2.0, 4.0, 4.0],
            "consumption": [7.0, 3.0, 2.0, 1.0, 3.0],
            "iwi": [10.0, 20.0, np.nan, np.nan, np.nan],
            "lon": [34.0, 34.0, 34.0, 33.5, 33.5],
            "lat": [-11.0, -11.0, -11.0, -10.0, -10.0],
        }
    )


def positions() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"cluster_id": [1.0, 2.0], "displacement_km": [2.0, 5.0], "altitude_m": [500, 700], "weight": [np.nan, -1.0]},
        geometry=gpd.points_from_xy([30.0, 31.0], [-2.0, -3.0]),
        crs="EPSG:4326",
    )


def test_known_answer_over_people():
    clusters = aggregate_clusters(households(), outcomes=["consumption"], logs=["consumption"]).set_index("cluster_id")
    # People: 2, 6, 2 and 20, 20.
    assert clusters["weight"].tolist() == [10.0, 40.0]
    assert clusters["household_weight"].tolist() == [4.0, 10.0]
    assert clusters["households"].tolist() == [3, 2]
    np.testing.assert_allclose(clusters["households_effective"], [100 / 44, 2.0])
    np.testing.assert_allclose(clusters["consumption"], [3.6, 2.0])
    # 3/2 ((2 x 3.4)² + (6 x .6)² + (2 x 1.6)²) / 10²; and 2/1 (20² + 20²) / 40²
    se = np.sqrt([1.5 * (46.24 + 12.96 + 10.24) / 100, 1.0])
    np.testing.assert_allclose(clusters["consumption_se"], se)
    np.testing.assert_allclose(clusters["log_consumption"], np.log([3.6, 2.0]))
    np.testing.assert_allclose(clusters["log_consumption_se"], se / [3.6, 2.0])
    mean_log = [0.2 * np.log(7) + 0.6 * np.log(3) + 0.2 * np.log(2), np.log(3) / 2]
    np.testing.assert_allclose(clusters["mean_log_consumption"], mean_log)
    # Two households alike in weight: half their difference.
    np.testing.assert_allclose(clusters.loc["2", "mean_log_consumption_se"], np.log(3) / 2)


def test_known_answer_over_households_and_missing_values():
    clusters = aggregate_clusters(
        households(), outcomes={"iwi": "wealth", "consumption": "consumption"}, per="households"
    )
    np.testing.assert_allclose(clusters["consumption"], [19 / 4, 2.0])
    np.testing.assert_allclose(clusters["wealth"], [40 / 3, np.nan])
    np.testing.assert_allclose(clusters["wealth_se"], [np.sqrt(2 * ((2 * 10 / 3) ** 2 + (20 / 3) ** 2) / 9), np.nan])
    assert clusters["households"].tolist() == [3, 2]
    np.testing.assert_allclose(clusters["households_effective"], [16 / 6, 2.0])
    assert clusters["weight"].tolist() == [10.0, 40.0]
    assert not any(column.startswith(("log_", "mean_log_", "iwi")) for column in clusters.columns)


def test_one_household_has_no_standard_error_and_zero_no_mean_log():
    table = households().drop(index=[0, 1]).assign(consumption=[2.0, 0.0, 3.0])
    clusters = aggregate_clusters(table, outcomes=["consumption"], logs=["consumption"])
    np.testing.assert_allclose(clusters["consumption_se"], [np.nan, 1.5])
    np.testing.assert_allclose(clusters["mean_log_consumption"], [np.log(2), np.nan])
    np.testing.assert_allclose(clusters["log_consumption"], np.log([2.0, 1.5]))


def test_what_is_known_of_a_cluster_is_carried():
    clusters = aggregate_clusters(households(), outcomes=["consumption"])
    assert clusters["survey"].tolist() == ["MW2014", "MW2014"]
    assert clusters["year"].tolist() == [2014, 2015]
    assert clusters["urban"].tolist() == [True, False]
    assert clusters["region"].tolist() == ["North", "South"]
    assert clusters.geometry.x.tolist() == [34.0, 33.5]
    assert list(clusters.columns[:4]) == ["cluster_id", "year", "urban", "weight"]
    assert "notes" not in clusters.attrs


def test_households_that_differ_are_noted():
    table = households().assign(region=["A", "B", "B", "C", "C"], displacement_km=[1.0, 1.0, 2.0, 5.0, 5.0])
    clusters = aggregate_clusters(table, outcomes=["consumption"])
    assert clusters["region"].tolist() == ["B", "C"]
    assert clusters["displacement_km"].tolist() == [2.0, 5.0]
    assert clusters.attrs["notes"] == [
        "region differs within 1 clusters (1): the most common value of each is carried.",
        "displacement_km differs within 1 clusters (1): the largest value of each is carried.",
    ]
    unknown = aggregate_clusters(table.assign(urban=[True, True, True, np.nan, np.nan]), outcomes=["consumption"])
    assert "urban" not in unknown
    assert "urban is unknown for 1 clusters (2): not carried." in unknown.attrs["notes"]


def test_positions_place_the_clusters_and_fill_in_what_households_lack():
    table = households().drop(columns=["lon", "lat"]).assign(urban=[True, True, True, np.nan, np.nan])
    places = positions().assign(urban=[False, False], region="elsewhere").to_crs("EPSG:32736")
    clusters = aggregate_clusters(table, outcomes=["consumption"], positions=places)
    np.testing.assert_allclose(clusters.geometry.x, [30.0, 31.0])
    assert clusters.crs == "EPSG:4326"
    assert clusters["displacement_km"].tolist() == [2.0, 5.0]
    assert clusters["altitude_m"].tolist() == [500, 700]
    assert clusters["weight"].tolist() == [10.0, 40.0]
    assert clusters["region"].tolist() == ["North", "South"]
    assert clusters["urban"].tolist() == [True, False]


def test_clusters_without_a_position_or_households_are_named_once():
    table, places = households(), positions()
    table.loc[5] = table.loc[4].to_dict() | {"household_id": "h6", "cluster_id": 3}
    table.loc[6] = table.loc[4].to_dict() | {"household_id": "h7", "cluster_id": 4}
    table.loc[7] = table.loc[4].to_dict() | {"household_id": "h8", "cluster_id": 4}
    places.loc[1, "cluster_id"] = 9.0
    table.loc[0, "weight"] = 0.0
    entry = {"source": "clusters", "id": "3", "reason": "coordinates are missing (SOURCE = MIS)"}
    places.attrs = {"dropped": [entry], "notes": ["a note"]}
    table.attrs = {"dropped": [entry, {"source": "households", "id": "h0", "reason": "not interviewed"}]}
    clusters = aggregate_clusters(table, outcomes=["consumption"], positions=places)
    assert clusters["cluster_id"].tolist() == ["1"]
    assert list(dropped(clusters).itertuples(index=False, name=None)) == [
        ("clusters", "3", "coordinates are missing (SOURCE = MIS)"),
        ("households", "h0", "not interviewed"),
        ("clusters", "2", "no position for this cluster"),
        ("clusters", "4", "no position for this cluster"),
        ("households", "h1", "weight x household_size is missing or not above zero"),
        ("clusters", "9", "no household of it is in the table of households"),
    ]
    note = "5 households are left out with clusters that have no position."
    assert clusters.attrs["notes"] == ["a note", note]


def test_clusters_of_few_households_are_left_out():
    clusters = aggregate_clusters(households(), outcomes=["consumption"], min_households=3)
    assert clusters["cluster_id"].tolist() == ["1"]
    assert dropped(clusters)["reason"].tolist() == ["usable households: 2, expected at least 3"]
    # A household counts by its answers: h3 has no iwi.
    assert dropped(aggregate_clusters(households(), outcomes=["iwi"], min_households=2))["id"].tolist() == [
        *("h3", "h4", "h5", "2")
    ]
    with pytest.raises(SurveyError, match="no cluster is left"):
        aggregate_clusters(households(), outcomes=["consumption"], min_households=4)


def test_units_and_measures_follow_the_names():
    table = households()
    table.attrs = {"units": {"consumption": "MWK a day"}, "measures": {"consumption": {"ppp": 1.5}}, "files": []}
    attrs = aggregate_clusters(table, outcomes={"consumption": "spending"}).attrs
    assert attrs["units"] == {"spending": "MWK a day"}
    assert attrs["measures"] == {"spending": {"ppp": 1.5}}


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"survey": ["A", "B", "A", "A", "A"]}, {}, "more than one survey"),
        ({"country": ["A", "B", "A", "A", "A"]}, {}, "Put the country into cluster_id"),
        ({"household_id": "h"}, {}, "stand more than once"),
        ({"lon": [34.0, 34.1, 34.0, 33.5, 33.5]}, {}, "more than one place"),
        ({"consumption": np.nan}, {}, "5 for no value of consumption"),
        ({"weight": -1.0, "household_size": -1.0}, {}, "5 for weight x household_size"),
        ({"year": 14}, {}, "four digits"),
        ({}, {"outcomes": []}, "expected lists of columns"),
        ({}, {"outcomes": "consumption"}, "expected lists of columns"),
        ({}, {"logs": "consumption"}, "expected lists of columns"),
        ({}, {"logs": ["iwi"]}, "some of the outcomes: consumption"),
        ({}, {"outcomes": ["income"]}, "no column 'income'"),
        ({}, {"outcomes": {"consumption": "weight"}}, "'weight' of the clusters would stand for two things"),
        ({}, {"outcomes": {"consumption": "iwi", "iwi": "iwi"}}, "'iwi', 'iwi_se' of the clusters"),
        ({}, {"outcomes": {"consumption": "iwi", "iwi": "iwi_se"}}, "'iwi_se' of the clusters"),
        ({}, {"per": "person"}, "expected 'people' or 'households'"),
        ({}, {"min_households": 0}, "whole number from 1"),
        ({}, {"min_households": 2.5}, "whole number from 1"),
        ({}, {"positions": positions().drop(columns="cluster_id")}, "no column 'cluster_id'"),
        ({}, {"positions": positions().assign(cluster_id=["x", "y"])}, "named alike"),
        ({}, {"positions": positions().assign(cluster_id=1)}, "stand more than once"),
        ({}, {"positions": positions().set_crs(None, allow_override=True)}, "no CRS"),
        ({}, {"weight_column": "hv005"}, "no column 'hv005'"),
    ],
)
def test_bad_input_is_named(change, arguments, message):
    with pytest.raises(SurveyError, match=message):
        aggregate_clusters(households().assign(**change), **{"outcomes": ["consumption"], **arguments})


def test_without_positions_households_need_coordinates():
    with pytest.raises(SurveyError, match="give the positions of the clusters"):
        aggregate_clusters(households().drop(columns="lon"), outcomes=["consumption"])


rows = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0.01, 1000.0), st.integers(1, 20), st.floats(1.0, 1e6)),
    min_size=1,
    max_size=30,
)
MADE = ["y", "y_se", "log_y", "log_y_se", "mean_log_y", "mean_log_y_se", "weight", "households", "households_effective"]


def table_of(drawn: list[tuple[int, float, int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(drawn, columns=["cluster_id", "weight", "household_size", "y"])
    return table.assign(household_id=[f"h{i}" for i in range(len(table))], lon=30.0 + table["cluster_id"], lat=-10.0)


def means(table: pd.DataFrame, per: str = "people") -> pd.DataFrame:
    return aggregate_clusters(table, outcomes=["y"], logs=["y"], per=per).set_index("cluster_id")


def close(found: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> None:
    assert found.index.tolist() == expected.index.tolist()
    # The spread of equal values is rounding: it is compared on the scale of the values.
    scale = expected["y"].to_numpy()[:, None] if len(expected) else 1.0
    np.testing.assert_allclose(found[columns] / scale, expected[columns] / scale, rtol=1e-7, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(drawn=rows, per=st.sampled_from(["people", "households"]), data=st.data())
def test_the_order_of_households_does_not_matter(drawn, per, data):
    table = table_of(drawn)
    close(means(table.iloc[data.draw(st.permutations(range(len(table))))], per), means(table, per), MADE)


@settings(max_examples=15, deadline=None)
@given(drawn=rows, per=st.sampled_from(["people", "households"]), factor=st.floats(1e-3, 1e3))
def test_the_scale_of_weights_changes_only_their_sums(drawn, per, factor):
    table = table_of(drawn)
    found, expected = means(table.assign(weight=table["weight"] * factor), per), means(table, per)
    close(found, expected, [column for column in MADE if column != "weight"])
    np.testing.assert_allclose(found["weight"], expected["weight"] * factor)
    np.testing.assert_allclose(found["household_weight"], expected["household_weight"] * factor)


@settings(max_examples=15, deadline=None)
@given(drawn=rows, per=st.sampled_from(["people", "households"]))
def test_splitting_every_household_in_two_keeps_the_means(drawn, per):
    table = table_of(drawn).assign(weight=lambda of: of["weight"] / 2)
    twice = pd.concat([table, table.assign(household_id=table["household_id"] + "b")])
    found, expected = means(twice, per), means(table_of(drawn), per)
    close(found, expected, ["y", "log_y", "mean_log_y", "weight", "household_weight"])
    assert (found["households"] == 2 * expected["households"]).all()
    np.testing.assert_allclose(found["households_effective"], 2 * expected["households_effective"])
    # n households twice over: n / (n - 1) becomes 2n / (2n - 1), and the squares of half the weights count twice.
    n = expected["households"]
    known = n > 1
    ratio = np.sqrt((2 * n / (2 * n - 1)) / (n / (n - 1).where(known)) / 2)[known]
    np.testing.assert_allclose(found["y_se"][known], (expected["y_se"] * ratio)[known], rtol=1e-7, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(drawn=rows)
def test_merging_clusters_gives_the_weighted_mean_of_their_means(drawn):
    table, parts = table_of(drawn), means(table_of(drawn))
    whole = means(table.assign(cluster_id=0, lon=30.0)).loc["0"]
    assert whole["y"] == pytest.approx(np.average(parts["y"], weights=parts["weight"]))
    assert whole["mean_log_y"] == pytest.approx(np.average(parts["mean_log_y"], weights=parts["weight"]), abs=1e-12)
    assert whole["weight"] == pytest.approx(parts["weight"].sum())
    assert whole["households"] == parts["households"].sum()
    assert whole["y"] == pytest.approx(estimate(table, "y").loc["all", "mean"])


@settings(max_examples=15, deadline=None)
@given(drawn=rows)
def test_the_mean_of_the_logs_is_not_above_the_log_of_the_mean(drawn):
    found = means(table_of(drawn))
    assert (found["mean_log_y"] <= found["log_y"] + 1e-9).all()
    assert (found["households_effective"] <= found["households"] * (1 + 1e-9)).all()


def test_the_standard_error_of_a_cluster_is_the_spread_over_repeated_samples():
    rng = np.random.default_rng(0)
    size = rng.integers(1, 9, 400)
    spending = rng.lognormal(1.0 - 0.1 * size, 0.5)
    draws = rng.integers(0, 400, (1500, 25))
    table = pd.DataFrame(
        {
            "household_id": np.arange(draws.size),
            "cluster_id": np.repeat(np.arange(1500), 25),
            "weight": 16.0,
            "household_size": size[draws.ravel()],
            "y": spending[draws.ravel()],
            "lon": 30.0,
            "lat": -1.0,
        }
    )
    found = aggregate_clusters(table, outcomes=["y"])
    assert found["y"].mean() == pytest.approx(np.average(spending, weights=size), rel=0.02)
    assert np.sqrt((found["y_se"] ** 2).mean()) == pytest.approx(found["y"].std(), rel=0.08)
