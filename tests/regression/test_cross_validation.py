"""No leaks, the truth recovered, the comparison fair, and nothing lost without a word."""

from __future__ import annotations

import json
from collections.abc import Callable

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.ensemble import RandomForestRegressor

from geopov.errors import RegressionError
from geopov.regression import CrossValidation, GivenFolds, RandomFolds, SpatialBlocks, WelfareRidge, cross_validate
from geopov.tiles import TileSpec

BLOCKS = SpatialBlocks(block_km=40)
PREDICTED = ["mean", "mean_linear", "mean_tweedie", "nightlights_ridge", "nightlights_knn", "nightlights_boosting"]
PREDICTED += ["urban_rural", "kriging", "training_mean", "distance"]


def _validate(country, *, features=None, clusters=None, **changes) -> CrossValidation:
    arguments = {"outcome": "asset_wealth", "splits": BLOCKS, "baseline": country.lights, "unit": "index"}
    features = country.features if features is None else features
    clusters = country.clusters if clusters is None else clusters
    return cross_validate(WelfareRidge(), features, clusters, **(arguments | changes))


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
    rivals = pooled.drop(index="model")["R2"]
    assert (rivals < pooled.loc["model", "R2"]).all()
    assert rivals.idxmax() == validation.meta["baseline"]
    assert validation.verdict.startswith(f"The model beats {validation.meta['baselines'][rivals.idxmax()]}: R² 0.7")
    assert validation.coverage.low <= 0.9 <= validation.coverage.high


def test_tables_agree_with_each_other(country, validation: CrossValidation) -> None:
    table = validation.predictions
    assert list(table["cluster_id"]) == list(country.clusters["cluster_id"])
    assert table.crs == country.clusters.crs
    np.testing.assert_array_equal(table["fold"], BLOCKS.assign(country.clusters))
    assert validation.folds["n_test"].sum() == len(table) == _pooled(validation).loc["model", "n"]
    inside = (table["observed"] >= table["lower"]) & (table["observed"] <= table["upper"])
    assert inside.mean() == pytest.approx(validation.coverage.measured)
    pd.testing.assert_series_equal(table["baseline"], table[validation.meta["baseline"]], check_names=False)
    assert set(validation.scores["subset"]) == {"all", "urban", "rural"}
    assert set(pd.unique(validation.scores["predictor"])) == {"model", *validation.meta["baselines"]}
    assert not set(validation.curve["predictor"]) & {"training_mean"}
    np.testing.assert_array_equal(table["mean"], table["mean_none"])
    assert validation.coverage_by.set_index("subset").loc["all", "measured"] == pytest.approx(inside.mean())
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


def test_deshrinkage_is_what_the_model_says_where_asked_for(country, validation: CrossValidation) -> None:
    found = _validate(country, deshrink="linear")
    np.testing.assert_array_equal(found.predictions["mean"], validation.predictions["mean_linear"])
    pooled = _pooled(found).loc["model"]
    assert abs(pooled["slope"] - 1) < abs(_pooled(validation).loc["model", "slope"] - 1)
    assert pooled["rmse"] > _pooled(validation).loc["model", "rmse"]
    with pytest.raises(RegressionError, match="deshrink is 'yes'; expected one of none, linear, tweedie"):
        _validate(country, deshrink="yes")


def test_overlapping_tiles_are_refused_unless_allowed(country) -> None:
    features = country.features.assign_attrs(tile_spec=json.dumps(TileSpec(size_px=100, resolution_m=100).to_dict()))
    with pytest.raises(RegressionError, match=r"tile_km|overlap"):
        _validate(country, features=features)
    apart = _validate(country, features=features, splits=SpatialBlocks(block_km=40, tile_km=10))
    assert (apart.folds["n_buffer"] > 0).all()
    assert apart.meta["leakage"]["checked"]
    allowed = _validate(country, features=features, allow_overlap=True)
    assert not allowed.meta["leakage"]["checked"]
    assert "allowed" in allowed.meta["leakage"]["text"]
    _validate(country, features=features, splits=RandomFolds())  # leaks by design, for comparison


def test_other_features_make_a_baseline(country, as_features: Callable) -> None:
    ids = list(country.clusters["cluster_id"])
    noise = as_features(np.random.default_rng(0).normal(size=(len(ids), 20)), ids)
    noise[7] = np.nan
    found = _validate(country, others={"random_convolution": noise})
    assert found.meta["baselines"]["random_convolution"] == "random convolutional features"
    assert abs(_pooled(found).loc["random_convolution", "R2"]) < 0.1
    assert found.dropped.to_dict("records") == [
        {"source": "clusters", "id": "c0007", "reason": "no valid random_convolution"}
    ]


def test_a_ridge_that_shares_its_algebra_predicts_as_one_that_does_not(country, validation: CrossValidation) -> None:
    class Plain(WelfareRidge):
        hold_out = property()  # hasattr is False: cloned and fitted fold by fold

    found = cross_validate(
        Plain(), country.features, country.clusters, outcome="asset_wealth", splits=BLOCKS, baseline=country.lights
    )
    np.testing.assert_allclose(found.predictions["mean"], validation.predictions["mean"], atol=1e-9)
    np.testing.assert_allclose(found.folds["alpha"], validation.folds["alpha"])


def test_permuted_outcomes_score_nothing(country) -> None:
    rng = np.random.default_rng(0)
    r2, wins = [], 0
    for _ in range(15):
        permuted = country.clusters.assign(asset_wealth=rng.permutation(country.clusters["asset_wealth"]))
        found = cross_validate(WelfareRidge(), country.features, permuted, outcome="asset_wealth", splits=BLOCKS)
        r2.append(_pooled(found).loc["model", "R2"])
        of_r2 = found.differences[found.differences["score"] == "R2"].set_index("predictor")
        wins += of_r2.loc["training_mean", "verdict"] == "better"
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
    assert set(found.meta["baselines"]) == {"urban_rural", "kriging", "training_mean"}
    assert found.verdict.startswith("No nightlights baseline was available. The model beats ")
    assert np.isnan(_pooled(found).loc["training_mean", "r2_pearson"])
    assert _pooled(found).loc["training_mean", "R2"] <= 0


def test_a_model_that_does_not_win_is_said_not_to(country, as_features: Callable) -> None:
    ids = list(country.clusters["cluster_id"])
    noise = as_features(np.random.default_rng(0).normal(size=(len(ids), 5)), ids)
    found = _validate(country, features=noise)
    assert found.verdict.startswith(f"The model does worse than {found.meta['baselines'][found.meta['baseline']]}")


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
    assert set(found.scores["subset"]) == {"all", "urban", "rural", "mean of countries", "rwa", "uga", "ken"}
    assert list(found.folds["name"]) == ["ken", "rwa", "uga"]
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
