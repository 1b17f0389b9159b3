from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from geopov.survey.carried import CARRIED
from geopov.survey.data_dictionary import COLUMNS, UNKNOWN, describe, dictionary
from geopov.survey.design import aggregate_clusters


def clusters() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "cluster_id": ["a", "b", "c"],
            "year": [2014, 2015, 2014],
            "urban": [True, False, True],
            "consumption": [1.5, np.nan, 3.25],
            "colour": ["red", None, "blue"],
            "seen": pd.to_datetime(["2014-01-01", "2014-01-02", None]),
        },
        geometry=gpd.points_from_xy([1, 2, 3], [1, 2, 3]),
        crs="EPSG:4326",
    )


def test_known_answer():
    table = dictionary(clusters()).set_index("column")
    assert table.columns.tolist() == ["type", "unit", "description", "n", "missing", "min", "max"]
    assert table["type"].tolist() == ["text", "integer", "boolean", "number", "text", "date", "point"]
    assert table.loc["consumption"].tolist() == [
        *("number", "PPP USD per person per day", "Mean consumption per person", 2, 1, 1.5, 3.25)
    ]
    assert repr(int(table.loc["year", "max"])) == "2015"
    assert table.loc["colour", ["description", "unit", "n", "missing"]].tolist() == [UNKNOWN, "", 2, 1]
    assert table.loc["colour", ["min", "max"]].isna().all()


def test_integers_stay_integers_in_the_file(tmp_path):
    dictionary(clusters()).to_csv(tmp_path / "d.csv", index=False)
    assert "year,integer,year," in (tmp_path / "d.csv").read_text()
    assert ",2014,2015\n" in (tmp_path / "d.csv").read_text()


@pytest.mark.parametrize(
    ("name", "unit", "description"),
    [
        ("log_consumption", "ln(PPP USD per person per day)", "Natural logarithm of consumption"),
        ("mean_log_consumption", "ln(PPP USD per person per day)", "Mean of the natural logarithms of consumption"),
        ("consumption_se", "PPP USD per person per day", "Standard error of consumption"),
        ("log_consumption_se", "ln(PPP USD per person per day)", "Standard error of log_consumption"),
        ("mean_log_consumption_se", "ln(PPP USD per person per day)", "Standard error of mean_log_consumption"),
        ("consumption_mwk", "MWK per person per day", "in national currency"),
        ("consumption_ae_mwk", "MWK per adult equivalent per day", "in national currency"),
        ("log_consumption_mwk", "ln(MWK per person per day)", "Natural logarithm"),
        ("log_density", "ln(people per km²)", "Natural logarithm of density"),
        ("headcount_se", "share, 0 to 1", "Standard error of headcount"),
        ("log_rainfall", "", UNKNOWN),
        ("close", "", UNKNOWN),
    ],
)
def test_rules(name, unit, description):
    found = describe(name, {})
    assert found.unit == unit
    assert found.description.startswith(description) or description in found.description


def test_units_of_the_table_go_before_and_reach_what_follows():
    units = {"consumption": "MWK a year", "amount": "shillings"}
    assert describe("consumption", units).unit == "MWK a year"
    assert describe("consumption_se", units).unit == "MWK a year"
    assert describe("log_amount", units, ["amount"]).unit == "ln(shillings)"
    assert describe("amount_se", {}, ["amount"]).description.startswith("Standard error of amount")
    table = clusters()
    table.attrs["units"] = {"consumption": "MWK a year"}
    assert dictionary(table).set_index("column").loc["consumption", "unit"] == "MWK a year"


def test_every_column_that_aggregation_makes_is_known():
    table = pd.DataFrame({"household_id": ["1", "2"], "cluster_id": "a", "weight": 1.0, "household_size": 2.0})
    table = table.assign(lon=1.0, lat=1.0, **dict.fromkeys(CARRIED, 1.0))
    table = table.assign(year=2014, consumption=[1.0, 2.0], iwi=50.0)
    made = aggregate_clusters(table, outcomes=["consumption", "iwi"], logs=["consumption"])
    assert set(CARRIED) <= set(made.columns)
    described = dictionary(made)
    assert described.loc[described["description"] == UNKNOWN, "column"].tolist() == []
    assert described.shape[0] == made.shape[1]


def test_every_description_says_something():
    assert all(column.description and column.description != UNKNOWN for column in COLUMNS.values())
