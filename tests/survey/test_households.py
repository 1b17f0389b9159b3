from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey import aggregate_households, dropped

COLUMNS = {
    "household_column": "hh",
    "cluster_column": "ea",
    "weight_column": "w",
    "size_column": "n",
    "outcome": "pc",
    "lon_column": "lon",
    "lat_column": "lat",
}


def households() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hh": ["h1", "h2", "h3", "h4"],
            "ea": [11, 11, 12, 12],
            "w": [2.0, 1.0, 5.0, 5.0],
            "n": [1, 6, 4, 4],
            "pc": [730.0, 365.0, 100.0, 300.0],
            "lon": [34.0, 34.0, 33.5, 33.5],
            "lat": [-11.0, -11.0, -10.0, -10.0],
        }
    )


def test_known_answer():
    clusters = aggregate_households(households(), **COLUMNS)
    assert clusters["cluster_id"].tolist() == ["11", "12"]
    # (2 x 1 x 730 + 1 x 6 x 365) / (2 + 6) and the plain mean where weights are equal
    np.testing.assert_allclose(clusters["pc_national"], [456.25, 200.0])
    np.testing.assert_allclose(clusters["log_pc_national"], np.log([456.25, 200.0]))
    assert clusters["weight"].tolist() == [8.0, 40.0]
    assert clusters["households"].tolist() == [2, 2]
    assert clusters.geometry.x.tolist() == [34.0, 33.5]


def test_the_standard_errors_and_the_mean_of_the_logs_stand_beside_the_mean():
    clusters = aggregate_households(households(), **COLUMNS)
    # n / (n - 1) sum(w² (y - mean)²) / sum(w)²: w 2 and 6 of 8; equal weights in the other, half their difference.
    first = np.sqrt(2 * ((2 * 273.75) ** 2 + (6 * 91.25) ** 2)) / 8
    np.testing.assert_allclose(clusters["pc_national_se"], [first, 100.0])
    np.testing.assert_allclose(clusters["log_pc_national_se"], [first / 456.25, 0.5])
    expected = [(np.log(730) + 3 * np.log(365)) / 4, (np.log(100) + np.log(300)) / 2]
    np.testing.assert_allclose(clusters["mean_log_pc_national"], expected)
    assert clusters["household_weight"].tolist() == [3.0, 10.0]
    np.testing.assert_allclose(clusters["households_effective"], [64 / 40, 2.0])
    converted = aggregate_households(households(), **COLUMNS, to_ppp_usd_per_day=0.01)
    np.testing.assert_allclose(converted["consumption_se"], [first / 100, 1.0])


def test_conversion_to_ppp_names_the_column_consumption():
    clusters = aggregate_households(households(), **COLUMNS, to_ppp_usd_per_day=1 / (365 * 0.5))
    np.testing.assert_allclose(clusters["consumption"], [2.5, 200 / 182.5])
    assert not any("pc" in column for column in clusters.columns)
    with pytest.raises(SurveyError, match="above zero"):
        aggregate_households(households(), **COLUMNS, to_ppp_usd_per_day=0.0)


def test_units_name_what_is_not_converted():
    clusters = aggregate_households(households(), **COLUMNS, units="mwk_per_year")
    assert {"pc_mwk_per_year", "log_pc_mwk_per_year"} <= set(clusters.columns)


def test_households_that_cannot_be_used_are_named_once():
    table = households()
    table.loc[4] = ["h5", 13, 1.0, 2, 50.0, 0.0, 0.0]
    table.loc[5] = ["h6", 11, 1.0, 2, np.nan, 34.0, -11.0]
    table.loc[6] = ["h7", 11, 0.0, 2, 10.0, 34.0, -11.0]
    table.loc[7] = ["h8", 11, 1.0, 2, np.nan, np.nan, np.nan]
    clusters = aggregate_households(table, **COLUMNS)
    np.testing.assert_allclose(clusters["pc_national"], [456.25, 200.0])
    left_out = dropped(clusters).set_index("id")
    assert sorted(left_out.index) == ["13", "h5", "h6", "h7", "h8"]
    assert left_out.loc["h8", "reason"] == "no coordinates"
    assert left_out.loc["h7", "reason"] == "w x n is missing or not above zero"
    assert left_out.loc["13", "source"] == "clusters"


def test_a_cluster_without_consumption_has_no_logarithm():
    clusters = aggregate_households(households().assign(pc=[0.0, 0.0, 1.0, 1.0]), **COLUMNS)
    assert clusters["cluster_id"].tolist() == ["12"]
    assert "logarithm is undefined" in dropped(clusters)["reason"][0]


def test_locations_in_a_second_file(tmp_path):
    table = households()
    table[["hh", "lon", "lat"]].iloc[::-1].to_stata(tmp_path / "geo.dta", write_index=False)
    table.drop(columns=["lon", "lat"]).to_csv(tmp_path / "hh.csv", index=False)
    found = aggregate_households(tmp_path / "hh.csv", locations=tmp_path / "geo.dta", **COLUMNS)
    pd.testing.assert_frame_equal(found, aggregate_households(table, **COLUMNS))
    part = aggregate_households(tmp_path / "hh.csv", locations=table[["hh", "lon", "lat"]].iloc[1:], **COLUMNS)
    assert dropped(part)["id"].tolist() == ["h1"]


amounts = st.floats(min_value=1.0, max_value=1e6)
surveys = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0.01, 1000.0), st.integers(1, 20), amounts), min_size=1, max_size=30
)


def table_of(rows: list[tuple[int, float, int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["ea", "w", "n", "pc"])
    return table.assign(hh=[f"h{i}" for i in range(len(table))], lon=30.0 + table["ea"], lat=-10.0)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> None:
    assert found["cluster_id"].tolist() == expected["cluster_id"].tolist()
    np.testing.assert_allclose(found[columns], expected[columns], rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(rows=surveys)
def test_the_mean_is_numpys_weighted_average(rows):
    table = table_of(rows)
    clusters = aggregate_households(table, **COLUMNS)
    for cluster, mean in zip(clusters["cluster_id"], clusters["pc_national"], strict=True):
        of = table[table["ea"] == int(cluster)]
        assert mean == pytest.approx(np.average(of["pc"], weights=of["w"] * of["n"]))
        assert of["pc"].min() * (1 - 1e-9) <= mean <= of["pc"].max() * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(rows=surveys, data=st.data())
def test_order_does_not_matter(rows, data):
    table = table_of(rows)
    shuffled = table.iloc[data.draw(st.permutations(range(len(table))))]
    columns = ["pc_national", "weight", "households"]
    assert_same(aggregate_households(shuffled, **COLUMNS), aggregate_households(table, **COLUMNS), columns)


@settings(max_examples=15, deadline=None)
@given(rows=surveys, factor=st.floats(1e-3, 1e3))
def test_the_scale_of_weights_does_not_matter_and_that_of_amounts_does(rows, factor):
    table = table_of(rows)
    expected = aggregate_households(table, **COLUMNS)
    assert_same(aggregate_households(table.assign(w=table["w"] * factor), **COLUMNS), expected, ["pc_national"])
    scaled = aggregate_households(table.assign(pc=table["pc"] * factor), **COLUMNS)
    np.testing.assert_allclose(scaled["pc_national"], expected["pc_national"] * factor, rtol=1e-9)
    np.testing.assert_allclose(scaled["log_pc_national"], expected["log_pc_national"] + np.log(factor), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(rows=surveys)
def test_splitting_a_household_changes_only_their_number(rows):
    table = table_of(rows)
    halves = pd.concat([table.assign(n=table["n"] / 2), table.assign(n=table["n"] / 2, hh=table["hh"] + "b")])
    found, expected = aggregate_households(halves, **COLUMNS), aggregate_households(table, **COLUMNS)
    assert_same(found, expected, ["pc_national", "weight"])
    assert (found["households"] == 2 * expected["households"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hh": "h1"}, "stand more than once"),
        ({"lon": [34.0, 34.1, 33.5, 33.5]}, "more than one place"),
        ({"w": "heavy"}, "no number"),
        ({"lon": 0.0, "lat": 0.0}, r"no household is left: 4 for coordinates \(0, 0\)"),
        ({"lat": 95.0}, "outside longitude"),
        ({"ea": [11, 11, np.nan, 12]}, "no identifier in 'ea'"),
        ({"lat": "north"}, "values in 'lat' that are no number"),
        ({"n": "many"}, "values in 'n' that are no number"),
    ],
)
def test_bad_households_are_named(change, message):
    with pytest.raises(SurveyError, match=message):
        aggregate_households(households().assign(**change), **COLUMNS)


def test_bad_locations_are_named():
    table = households()
    bare, places = table.drop(columns=["lon", "lat"]), table[["hh", "lon", "lat"]]
    with pytest.raises(SurveyError, match="no column 'lon'"):
        aggregate_households(bare, **COLUMNS)
    with pytest.raises(SurveyError, match="stand more than once"):
        aggregate_households(bare, locations=pd.concat([places, places]), **COLUMNS)
    with pytest.raises(SurveyError, match="do both tables name households by 'hh'"):
        aggregate_households(bare, locations=places.assign(hh=["a", "b", "c", "d"]), **COLUMNS)
    with pytest.raises(SurveyError, match="in that of locations"):
        aggregate_households(table, locations=places, **COLUMNS)
