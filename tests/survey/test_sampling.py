"""Estimates of a whole survey and their standard errors."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from geopov.errors import SurveyError
from geopov.survey.design import estimate
from geopov.survey.sampling import linearised_mean, within_cluster_sd


def survey() -> pd.DataFrame:
    """Three strata of 3, 3 and 5 units, by formula."""
    i = np.arange(36)
    return pd.DataFrame(
        {
            "household_id": i.astype(str),
            "stratum": np.repeat(["a", "b", "c"], [9, 12, 15]),
            "psu": np.r_[np.repeat([1, 2, 3], 3), np.repeat([1, 2, 3], 4), np.repeat([1, 2, 3, 4, 5], 3)],
            "cluster_id": "unused",
            "weight": 1 + (i * 7) % 5,
            "household_size": 1 + (i * 5) % 6,
            "y": ((i * 13) % 17) / 2 + i // 9,
            "group": np.where(i % 3 == 0, "u", "r"),
        }
    )


def test_estimate_by_hand():
    # Two strata of two units of one household; people 2, 2 and 1, 3.
    table = pd.DataFrame({"cluster_id": [1, 2, 3, 4], "stratum": [1, 1, 2, 2], "weight": 1.0})
    table = table.assign(household_size=[2.0, 2.0, 1.0, 3.0], y=[1.0, 3.0, 0.0, 4.0])
    found = estimate(table, "y").loc["all"]
    assert found["mean"] == 2.5
    # Totals (x 1/8): -3, 1 and -2.5, 4.5; each stratum 2/1 sum of squares about its mean: 16 and 49.
    assert found["se"] == pytest.approx(np.sqrt(16 + 49) / 8)
    assert found["cv"] == pytest.approx(np.sqrt(65) / 20)
    assert found["n_effective"] == pytest.approx(64 / 18)
    # At random: (2 x 2.25 + 2 x .25 + 6.25 + 3 x 2.25) / 8 / 3
    assert found["deff"] == pytest.approx(65 / 64 / 0.75)
    assert found[["n", "psus", "strata", "single_psu_strata"]].tolist() == [4, 4, 2, 0]


def test_estimate_is_that_of_samplics_and_statsmodels():
    # samplics 0.6 TaylorEstimator(mean) with stratum and psu, for all and by domain.
    found = estimate(survey(), "y").loc["all"]
    assert found["mean"] == pytest.approx(5.620734908136483, rel=1e-14)
    assert found["se"] == pytest.approx(0.40618463702587787, rel=1e-12)
    by_group = estimate(survey(), "y", by="group")
    np.testing.assert_allclose(by_group.loc[["r", "u"], "mean"], [5.555555555555555, 5.851190476190476], rtol=1e-14)
    np.testing.assert_allclose(by_group.loc[["r", "u"], "se"], [0.539853016609573, 0.9820838781074238], rtol=1e-12)
    # Without strata: statsmodels WLS on a constant with errors clustered by unit.
    table = survey().assign(psu=lambda of: of["stratum"] + of["psu"].astype(str)).drop(columns="stratum")
    assert estimate(table, "y").loc["all", "se"] == pytest.approx(0.5659525458230606, rel=1e-12)


def test_the_jackknife_agrees():
    table = survey()
    whole = estimate(table, "y").loc["all"]
    units, variance = table.groupby(["stratum", "psu"]), 0.0
    drawn = table.groupby("stratum")["psu"].nunique()
    people = table["weight"] * table["household_size"]
    for (stratum, _), index in units.groups.items():
        n = drawn[stratum]
        weight = people.where(table["stratum"] != stratum, people * n / (n - 1))
        without = np.average(table["y"].drop(index), weights=weight.drop(index))
        variance += (n - 1) / n * (without - whole["mean"]) ** 2
    assert np.sqrt(variance) == pytest.approx(whole["se"], rel=0.1)


def test_the_standard_error_of_an_estimate_is_the_spread_over_repeated_surveys():
    rng = np.random.default_rng(1)
    level = rng.normal(np.array([[0.0], [3.0]]), 1.0, (2, 100))
    size = rng.integers(1, 7, (2, 100, 10))
    value = level[..., None] + rng.normal(0.0, 1.0, (2, 100, 10)) - 0.2 * size
    stratum, unit = np.repeat([0, 1], 150), np.repeat(np.arange(30), 10)
    found = []
    for _ in range(600):
        pick = rng.integers(0, 100, (2, 15))
        y, people = (np.concatenate([of[h, pick[h]].ravel() for h in (0, 1)]) for of in (value, size))
        found.append(linearised_mean(y, people.astype(float), stratum, unit, np.full(300, True)))
    table = pd.DataFrame(found)
    assert table["mean"].mean() == pytest.approx(np.average(value, weights=size), abs=0.03)
    assert np.sqrt((table["se"] ** 2).mean()) == pytest.approx(table["mean"].std(), rel=0.08)
    # Households of a unit are alike, and strata unlike: both show in the design effect.
    assert table["deff"].mean() > 1


def test_a_stratum_of_one_unit_is_measured_from_the_grand_mean():
    table = survey()
    table = table[(table["stratum"] != "a") | (table["psu"] == 1)]
    found = estimate(table, "y").loc["all"]
    assert found["single_psu_strata"] == 1
    people = table["weight"] * table["household_size"]
    total = (people * (table["y"] - found["mean"]) / people.sum())[table["stratum"] == "a"].sum()
    rest = estimate(table.assign(alone=table["stratum"] == "a"), "y", by="alone")
    assert rest["single_psu_strata"].tolist() == [0, 1]
    # Without the lone unit's term the variance is that of the other strata about the same grand mean.
    deviation = people * (table["y"] - found["mean"]) / people.sum()
    others = deviation[table["stratum"] != "a"].groupby([table["stratum"], table["psu"]]).sum()
    spread = sum(len(of) / (len(of) - 1) * ((of - of.mean()) ** 2).sum() for _, of in others.groupby(level=0))
    assert found["se"] ** 2 == pytest.approx(spread + total**2)


def test_surveys_are_strata_and_their_units_their_own():
    one = survey().drop(columns="stratum").assign(survey="A2010")
    two = one.assign(survey="B2012", household_id=one["household_id"] + "b")
    found = estimate(pd.concat([one, two]), "y").loc["all"]
    assert found[["psus", "strata"]].tolist() == [10, 2]
    # Two surveys alike: half the variance of one.
    assert found["se"] == pytest.approx(estimate(one, "y").loc["all", "se"] / np.sqrt(2))


def test_households_that_cannot_count_do_not():
    table = survey()
    table.loc[[0, 5], "y"] = np.nan
    table.loc[7, "weight"] = 0
    table.loc[9, "household_size"] = np.nan
    table["group"] = table["group"].where(table.index != 11)
    assert estimate(table, "y").loc["all", "n"] == 32
    assert estimate(table, "y", by="group")["n"].sum() == 31
    one = estimate(table.assign(group=table["psu"].astype(str) + table["stratum"]), "y", by="group")
    # All answers from one unit: the error is unknown, not zero.
    assert one["se"].isna().all()


def test_per_households_takes_their_weights():
    table = survey()
    found = estimate(table, "y", per="households").loc["all", "mean"]
    assert found == pytest.approx(np.average(table["y"], weights=table["weight"]))


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"y": np.nan}, {}, "no household has both"),
        ({"psu": np.nan}, {}, "rows without psu"),
        ({}, {"per": "all"}, "expected 'people'"),
        ({}, {"by": "district"}, "no column 'district'"),
        ({"weight": "x"}, {}, "no number"),
    ],
)
def test_bad_surveys_are_named(change, arguments, message):
    with pytest.raises(SurveyError, match=message):
        estimate(survey().assign(**change), "y", **arguments)


def test_spread_within_clusters_by_hand():
    """Squares 1 + 1 and 4 + 0 + 4 on 1 + 2 degrees of freedom; the lone household adds nothing."""
    y, cluster = [1.0, 1 + 2.0, 0.0, 2.0, 4.0, 9.0], ["a", "a", "b", "b", "b", "c"]
    assert within_cluster_sd(y, cluster) == pytest.approx(math.sqrt(10 / 3))
    assert within_cluster_sd(y, cluster, weights=[7.0] * 6) == pytest.approx(math.sqrt(10 / 3))


def test_spread_within_clusters_is_unbiased_under_weights():
    draw = np.random.default_rng(5)
    cluster, weights = np.repeat(np.arange(20_000), 3), draw.uniform(0.2, 5, 60_000)
    y = draw.normal(0, 2, 20_000)[cluster] + draw.normal(0, 0.5, 60_000)
    assert within_cluster_sd(y, cluster, weights=weights) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    ("y", "clusters", "options", "message"),
    [
        ([1.0, -math.inf], ["a", "a"], {}, "1 of 2 households have no finite log"),
        ([1.0, 2.0], ["a", "a"], {"weights": [1, 0]}, "no weight above zero"),
        ([1.0, 2.0], ["a", "b"], {}, "no cluster has two households"),
        ([1.0, 2.0], ["a"], {}, "lengths 2, 1 and 2"),
    ],
)
def test_households_that_tell_no_spread(y, clusters, options, message):
    with pytest.raises(SurveyError, match=message):
        within_cluster_sd(y, clusters, **options)
