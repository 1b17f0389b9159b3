"""No leaks, the truth recovered, the comparison fair, and nothing lost without a word."""

from __future__ import annotations

from collections.abc import Callable

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.ensemble import RandomForestRegressor

from geopov.errors import RegressionError
from geopov.regression import CrossValidation, GivenFolds, RandomFolds, SpatialBlocks, WelfareRidge, cross_validate

BLOCKS = SpatialBlocks(block_km=40)
PREDICTED = ["mean", "nightlights_ridge", "nightlights_knn", "training_mean", "distance"]


def _validate(country, **changes) -> CrossValidation:
    arguments = {"outcome": "asset_wealth", "splits": BLOCKS, "baseline": country.lights, "unit": "index"}
    return cross_validate(WelfareRidge(), country.features, country.clusters, **(arguments | changes))


@pytest.fixture(scope="module")
def validation(country) -> CrossValidation:
    return _validate(country)


def _pooled(validation: CrossValidation) -> pd.DataFrame:
    return validation.scores[validation.scores["subset"] == "all"].set_index("predictor")


def test_recovers_what_the_images_show(country, validation: CrossValidation) -> None:
    pooled = _pooled(validation)
    # Noise of 0.5 on a field of variance 1 leaves 0.8 to be explained at best.
    assert 0.7 < pooled.loc["model", "R2"] < 0.8
    assert pooled.loc["model", "R2_low"] < pooled.loc["model", "R2"] < pooled.loc["model", "R2_high"]
    assert pooled.loc["nightlights_ridge", "R2"] < pooled.loc["model", "R2"]
    assert validation.verdict.startswith("The model beats nightlights alone")
    assert validation.coverage.low <= 0.9 <= validation.coverage.high


def test_tables_agree_with_each_other(country, validation: CrossValidation) -> None:
    table = validation.predictions
    assert list(table["cluster_id"]) == list(country.clusters["cluster_id"])
    assert table.crs == country.clusters.crs
    np.testing.assert_array_equal(table["fold"], BLOCKS.assign(country.clusters))
    assert validation.folds["n_test"].sum() == len(table) == _pooled(validation).loc["model", "n"]
    inside = (table["observed"] >= table["lower"]) & (table["observed"] <= table["upper"])
    assert inside.mean() == pytest.approx(validation.coverage.measured)
    assert validation.meta["baseline"] in ("nightlights_ridge", "nightlights_knn")
    pd.testing.assert_series_equal(table["baseline"], table[validation.meta["baseline"]], check_names=False)
    assert set(validation.scores["subset"]) == {"all", "urban", "rural"}
    by_subset = validation.scores[validation.scores["predictor"] == "model"].set_index("subset")["n"]
    assert by_subset["urban"] + by_subset["rural"] == by_subset["all"]


def test_test_outcomes_do_not_reach_their_fold(country, validation: CrossValidation) -> None:
    fold = validation.predictions["fold"] == 2
    changed = country.clusters.copy()
    changed.loc[fold, "asset_wealth"] = np.random.default_rng(0).normal(50, 100, fold.sum())
    after = cross_validate(
        WelfareRidge(), country.features, changed, outcome="asset_wealth", splits=BLOCKS, baseline=country.lights
    )
    pd.testing.assert_frame_equal(after.predictions.loc[fold, PREDICTED], validation.predictions.loc[fold, PREDICTED])
    assert after.folds.loc[2, "alpha"] == validation.folds.loc[2, "alpha"]
    assert not np.allclose(after.predictions.loc[~fold, "mean"], validation.predictions.loc[~fold, "mean"])


def test_test_features_do_not_reach_their_fold(country, validation: CrossValidation) -> None:
    in_fold = np.flatnonzero(validation.predictions["fold"] == 2)
    features, lights = country.features.copy(deep=True), country.lights.copy(deep=True)
    features[in_fold[:5]] = 1e4
    lights[in_fold[:5]] = 1e4
    after = cross_validate(
        WelfareRidge(), features, country.clusters, outcome="asset_wealth", splits=BLOCKS, baseline=lights
    )
    rest = in_fold[5:]
    pd.testing.assert_frame_equal(after.predictions.loc[rest, PREDICTED], validation.predictions.loc[rest, PREDICTED])
    assert after.folds.loc[2, "alpha"] == validation.folds.loc[2, "alpha"]
    assert not after.predictions.loc[in_fold[:5], "in_support"].any()


def test_half_width_of_a_fold_leaves_out_its_errors(validation: CrossValidation) -> None:
    table = validation.predictions
    errors = (table["observed"] - table["mean"]).abs()
    for fold in range(5):
        of_fold = table["fold"] == fold
        widths = ((table["upper"] - table["lower"]) / 2)[of_fold]
        n = (~of_fold).sum()
        assert np.allclose(widths, np.sort(errors[~of_fold])[int(np.ceil((n + 1) * 0.9)) - 1])


def test_permuted_outcomes_score_nothing(country) -> None:
    rng = np.random.default_rng(0)
    r2, wins = [], 0
    for _ in range(15):
        permuted = country.clusters.assign(asset_wealth=rng.permutation(country.clusters["asset_wealth"]))
        found = cross_validate(WelfareRidge(), country.features, permuted, outcome="asset_wealth", splits=BLOCKS)
        r2.append(_pooled(found).loc["model", "R2"])
        wins += found.differences.iloc[0]["verdict"] == "better"
    assert np.mean(r2) < 0
    assert np.max(r2) < 0.06
    assert wins <= 2


def test_neighbours_are_a_leak_that_blocks_close(simulated: Callable) -> None:
    """Features that tell the place but nothing of welfare score under random folds and not under blocks."""
    base = simulated(n=400, seed=4, noise=0.2)
    lon, lat = base.clusters.geometry.x.to_numpy(), base.clusters.geometry.y.to_numpy()
    rng = np.random.default_rng(0)
    waves = rng.normal(scale=8, size=(2, 300))
    values = np.cos(np.column_stack([lon, lat]) @ waves + rng.uniform(0, 2 * np.pi, 300))
    places = base.features.isel(feature=[0] * 300).copy(data=values)
    places["feature"] = [f"w{i}" for i in range(300)]
    found = {
        splits.__class__: _pooled(
            cross_validate(WelfareRidge(), places, base.clusters, outcome="asset_wealth", splits=splits)
        ).loc["model", "R2"]
        for splits in (RandomFolds(), SpatialBlocks(block_km=100))
    }
    assert found[RandomFolds] > 0.75
    assert found[SpatialBlocks] < 0.3


def test_without_nightlights_the_verdict_says_so(country) -> None:
    found = _validate(country, baseline=None)
    assert found.meta["baseline"] == "training_mean"
    assert found.verdict.startswith("No nightlights baseline was available. The model beats the mean")
    assert np.isnan(_pooled(found).loc["training_mean", "r2_pearson"])
    assert _pooled(found).loc["training_mean", "R2"] <= 0


def test_a_model_that_does_not_win_is_said_not_to(country, as_features: Callable) -> None:
    ids = list(country.clusters["cluster_id"])
    noise = as_features(np.random.default_rng(0).normal(size=(len(ids), 5)), ids)
    found = cross_validate(
        WelfareRidge(), noise, country.clusters, outcome="asset_wealth", splits=BLOCKS, baseline=country.lights
    )
    assert found.verdict.startswith("The model does worse than nightlights alone")


def test_clusters_without_features_are_counted_and_named(country) -> None:
    features = country.features.isel(cluster=slice(3, None)).copy(deep=True)
    features[0, 0] = np.nan  # c0003
    features.attrs["dropped"] = '[{"cluster_id": "c0001", "reason": "no valid pixels"}]'
    lights = country.lights.copy(deep=True)
    lights[5] = np.nan
    clusters = country.clusters.copy()
    clusters.attrs["dropped"] = [{"source": "households", "id": "h1", "reason": "no weight"}]
    found = cross_validate(WelfareRidge(), features, clusters, outcome="asset_wealth", splits=BLOCKS, baseline=lights)
    assert found.dropped.to_dict("records")[0] == {"source": "households", "id": "h1", "reason": "no weight"}
    assert found.dropped[1:].set_index("id")["reason"].to_dict() == {
        "c0000": "not among the features",
        "c0001": "no valid pixels",
        "c0002": "not among the features",
        "c0003": "features are NaN",
        "c0005": "no valid nightlights",
    }
    assert len(found.predictions) == len(country.clusters) - 5


def test_order_of_features_does_not_matter(country, validation: CrossValidation) -> None:
    order = np.random.default_rng(0).permutation(len(country.clusters))
    found = cross_validate(
        WelfareRidge(), country.features[order], country.clusters, outcome="asset_wealth", splits=BLOCKS
    )
    pd.testing.assert_series_equal(found.predictions["mean"], validation.predictions["mean"])


def test_other_regressors_and_folds(country) -> None:
    clusters = country.clusters.assign(country=np.repeat(["rwa", "uga", "ken"], 80))
    progress: list[tuple[int, int]] = []
    found = cross_validate(
        RandomForestRegressor(n_estimators=10, random_state=0),
        country.features,
        clusters,
        outcome="asset_wealth",
        splits=GivenFolds("country"),
        progress=lambda done, total: progress.append((done, total)),
    )
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert found.folds["alpha"].isna().all()
    assert set(found.scores["subset"]) == {"all", "urban", "rural", "rwa", "uga", "ken"}
    assert "too few blocks" in found.verdict


def test_buffer_is_counted(country) -> None:
    found = _validate(country, splits=SpatialBlocks(block_km=40, buffer_km=10))
    assert (found.folds["n_buffer"] > 0).all()
    assert (found.folds[["n_train", "n_test", "n_buffer"]].sum(axis=1) == len(country.clusters)).all()


def _spoil(case: str, features: xr.DataArray, clusters: gpd.GeoDataFrame) -> tuple[xr.DataArray, gpd.GeoDataFrame]:
    match case:
        case "nan outcome":
            clusters.loc[[1, 2], "asset_wealth"] = np.nan
        case "text outcome":
            clusters["asset_wealth"] = "rich"
        case "no outcome":
            clusters = clusters.drop(columns="asset_wealth")
        case "other ids":
            features = features.assign_coords(cluster_id=("cluster", [f"x{i}" for i in range(len(clusters))]))
        case "repeated ids":
            features = xr.concat([features, features[:1]], dim="cluster")
        case "turned":
            features = features.T
        case "urban":
            clusters["urban"] = "U"
        case "constant":
            features = features * 0
        case "one":
            clusters = clusters.iloc[:1]
    return features, clusters


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("nan outcome", "2 of 240 clusters have no 'asset_wealth'.*dropna"),
        ("text outcome", "expected numbers"),
        ("no outcome", "no column 'asset_wealth'"),
        ("other ids", "none of 240 clusters can be used.*c0000.*x0.*another survey"),
        ("repeated ids", "more than once"),
        ("turned", r"expected \('cluster', 'feature'\)"),
        ("urban", "'urban' holds.*expected True and False"),
        ("constant", "all 40 features are constant"),
        ("one", "1 clusters into 1 blocks"),
    ],
)
def test_bad_data_is_named(country, case: str, words: str) -> None:
    features, clusters = _spoil(case, country.features.copy(deep=True), country.clusters.copy())
    with pytest.raises(RegressionError, match=words):
        cross_validate(WelfareRidge(), features, clusters, outcome="asset_wealth", splits=BLOCKS)
