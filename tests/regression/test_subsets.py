"""Which parts of a survey are scored, and what the mean over countries is."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from geopov.errors import RegressionError
from geopov.regression.scores import SCORES, Scored, score, score_table
from geopov.regression.subsets import mean_of, scores_by_subset, subsets


def _survey(sizes: dict[str, int], seed: int = 0) -> tuple[gpd.GeoDataFrame, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    country = np.repeat(list(sizes), list(sizes.values()))
    n = len(country)
    level = np.unique(country, return_inverse=True)[1].astype(float)
    observed = 3 * level + rng.normal(size=n)
    points = gpd.points_from_xy(rng.uniform(0, 1, n), rng.uniform(0, 1, n))
    table = {"cluster_id": [f"c{i}" for i in range(n)], "country": country, "urban": rng.random(n) < 0.4}
    predicted = {"model": 3 * level + 0.5 * rng.normal(size=n), "training_mean": np.full(n, observed.mean())}
    return gpd.GeoDataFrame(table, geometry=points, crs="EPSG:4326"), observed, predicted


def test_parts() -> None:
    clusters, _, _ = _survey({"b": 4, "a": 6})
    parts = subsets(clusters)
    assert list(parts) == ["all", "urban", "rural", "a", "b"]
    assert [parts["all"].sum(), parts["a"].sum(), parts["b"].sum()] == [10, 6, 4]
    assert (parts["urban"] ^ parts["rural"]).all()
    assert list(subsets(clusters.drop(columns=["urban", "country"]))) == ["all"]
    assert list(subsets(clusters.assign(country="a", urban=True))) == ["all", "urban"]
    missing = clusters.assign(urban=pd.array([True, None] * 5, dtype="boolean"), country=["a", "b", None, "a", "a"] * 2)
    parts = subsets(missing)
    assert "rural" not in parts
    assert [parts["urban"].sum(), parts["a"].sum(), parts["b"].sum()] == [5, 6, 2]
    with pytest.raises(RegressionError, match="'urban' holds"):
        subsets(clusters.assign(urban="yes"))


def test_each_part_has_the_scores_of_its_clusters() -> None:
    clusters, observed, predicted = _survey({"a": 60, "b": 40})
    blocks = np.arange(100) // 4
    table = scores_by_subset(clusters, observed, predicted, blocks, n_draws=200)
    assert list(dict.fromkeys(table["subset"])) == ["all", "urban", "rural", "mean of countries", "a", "b"]
    assert list(table)[:4] == ["subset", "predictor", "n", "n_blocks"]
    assert {f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")} < set(table)
    model = table[table["predictor"] == "model"].set_index("subset")
    for name, rows in subsets(clusters).items():
        expected = score(observed[rows], predicted["model"][rows])
        assert model.loc[name, list(SCORES)].to_dict() == pytest.approx(expected)
        assert model.loc[name, "n_blocks"] == len(np.unique(blocks[rows]))
    assert (model["R2_low"] < model["R2"]).all()
    assert (model["R2"] < model["R2_high"]).all()
    constant = table[table["predictor"] == "training_mean"]
    assert constant[["r2_pearson", "spearman", "slope", "recall_poorest_fifth_low"]].isna().all(axis=None)
    assert constant["R2"].notna().all()


def test_mean_of_countries_by_hand() -> None:
    clusters, observed, predicted = _survey({"large": 200, "middle": 50, "nine": 9, "small": 30})
    table = scores_by_subset(clusters, observed, predicted, np.arange(289) // 3, n_draws=200).set_index("subset")
    model = table[table["predictor"] == "model"]
    mean = model.loc["mean of countries"]
    assert (mean["n"], mean["n_countries"]) == (280, 3)
    assert model["n_countries"].drop("mean of countries").isna().all()
    for name in SCORES:
        assert mean[name] == pytest.approx(model.loc[["large", "middle", "small"], name].mean()), name
        assert mean[f"{name}_low"] < mean[name] < mean[f"{name}_high"], name
    # Guesses that know the country alone have a high pooled r², and none within countries.
    assert model.loc["all", "r2_pearson"] > 0.7
    assert mean["r2_pearson"] < 0.1


def test_mean_draws_blocks_within_each_country() -> None:
    """Three equal countries: the interval of the mean is narrower than that of one by about the root of three."""
    clusters, observed, _ = _survey({"a": 200, "b": 200, "c": 200})
    predicted = {"model": observed + np.random.default_rng(1).normal(size=600)}
    table = scores_by_subset(clusters, observed, predicted, np.arange(600) // 4).set_index("subset")
    width = table["rmse_high"] - table["rmse_low"]
    one = width[["a", "b", "c"]].mean()
    assert width["mean of countries"] == pytest.approx(one / np.sqrt(3), rel=0.1)


def test_interval_of_the_mean_holds_the_truth_where_blocks_are_unequal() -> None:
    """Large blocks are rich, as towns are: draws without them are biased alike in all of twelve countries."""
    rng = np.random.default_rng(0)

    def survey(n_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sizes = 1 + rng.geometric(0.15, n_blocks)
        blocks = np.repeat(np.arange(n_blocks), sizes)
        effect = 0.5 * rng.normal(size=n_blocks) + 0.3 * np.log(sizes)
        n = len(blocks)
        noise = (0.3 * rng.normal(size=n_blocks))[blocks] + 0.3 * rng.normal(size=n)
        return effect[blocks] + 0.6 * rng.normal(size=n), 0.6 * effect[blocks] + noise, blocks

    truth = score(*survey(60_000)[:2])
    names, inside, runs = ("r2_pearson", "rmse", "spearman", "slope"), dict.fromkeys(SCORES, 0), 60
    for _ in range(runs):
        parts = []
        for number in range(12):
            observed, predicted, blocks = survey(60)
            parts.append(Scored.measure(observed, {"model": predicted}, blocks, n_draws=150, seed=number))
        mean = mean_of(parts, n_draws=150)
        for name in names:
            low, high = mean.interval("model", name)
            assert low < mean.values["model"][name] < high
            inside[name] += low <= truth[name] <= high
    # What is left of the bias is that of the estimate itself in a country of 60 blocks.
    for name in names:
        assert inside[name] / runs >= 0.8, name


def test_where_blocks_are_countries_countries_are_drawn() -> None:
    clusters, observed, _ = _survey(dict.fromkeys("abcdefgh", 30))
    rng = np.random.default_rng(0)
    predicted = {"model": observed + np.repeat(rng.uniform(0.2, 2, 8), 30) * rng.normal(size=240)}
    blocks = np.arange(240) // 30
    table = scores_by_subset(clusters, observed, predicted, blocks).set_index("subset")
    by_country = table.loc[list("abcdefgh"), "rmse"]
    mean = table.loc["mean of countries"]
    assert np.isnan(table.loc["a", "rmse_low"])
    standard_error = by_country.std(ddof=0) / np.sqrt(8)
    assert (mean["rmse_high"] - mean["rmse_low"]) / (2 * 1.96) == pytest.approx(standard_error, rel=0.1)
    few = scores_by_subset(clusters[:90], observed[:90], {"model": predicted["model"][:90]}, blocks[:90])
    row = few.set_index("subset").loc["mean of countries"]
    assert row["rmse"] > 0
    assert np.isnan(row["rmse_low"])


def test_undefined_scores_have_no_say() -> None:
    rng = np.random.default_rng(0)
    observed = rng.normal(size=40)
    guess = observed + rng.normal(size=40)
    parts = [
        Scored.measure(observed, {"model": values}, np.arange(40), n_draws=50, seed=1)
        for values in (guess, np.zeros(40))
    ]
    mean = mean_of(parts, n_draws=50)
    assert mean.values["model"]["r2_pearson"] == score(observed, guess)["r2_pearson"]
    assert mean.values["model"]["rmse"] == pytest.approx(
        np.mean([score(observed, v)["rmse"] for v in (guess, 0 * guess)])
    )
    nothing = mean_of(parts[1:], n_draws=50)
    assert np.isnan(nothing.values["model"]["spearman"])
    assert np.isnan(nothing.interval("model", "spearman")).all()


def test_one_country_is_the_plain_table() -> None:
    clusters, observed, predicted = _survey({"a": 50})
    table = scores_by_subset(clusters.drop(columns="urban"), observed, predicted, np.arange(50), constant=())
    plain = score_table(observed, predicted, np.arange(50))
    assert table["subset"].tolist() == ["all", "all"]
    assert table[list(SCORES)].equals(plain[list(SCORES)])
    assert table["n_countries"].isna().all()


def test_a_predictor_that_is_one_number_a_fold_within_a_part_ranks_nothing_there() -> None:
    rng = np.random.default_rng(0)
    n = 120
    urban = rng.random(n) < 0.5
    places = gpd.points_from_xy(rng.uniform(0, 5, n), rng.uniform(0, 5, n), crs=4326)
    clusters = gpd.GeoDataFrame({"urban": urban}, geometry=places)
    folds = np.arange(n) % 3
    predicted = {"urban_rural": urban + 0.1 * folds}
    table = scores_by_subset(
        clusters, urban + rng.normal(size=n), predicted, np.arange(n), n_draws=50, folds=folds
    ).set_index("subset")
    assert table.loc["all", "r2_pearson"] > 0.05
    assert table.loc[["urban", "rural"], ["r2_pearson", "spearman", "recall_poorest_fifth"]].isna().all(axis=None)
    assert table.loc[["urban", "rural"], "R2"].notna().all()
