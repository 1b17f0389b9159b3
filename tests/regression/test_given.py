"""Predictions that were made elsewhere, judged as ours are."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from geopov.cli import regression
from geopov.errors import RegressionError
from geopov.regression import (
    GivenFolds,
    SpatialBlocks,
    WelfareRidge,
    cross_validate,
    read_predictions,
    render_report,
    score_predictions,
)


@pytest.fixture(scope="module")
def published(country) -> gpd.GeoDataFrame:
    """Clusters with the predictions of a ridge, as somebody might publish them."""
    splits = SpatialBlocks(block_km=40)
    found = cross_validate(WelfareRidge(), country.features, country.clusters, outcome="asset_wealth", splits=splits)
    rng = np.random.default_rng(0)
    return country.clusters.assign(
        ridge=found.predictions["mean"],
        noise=rng.normal(size=len(country.clusters)),
        test_fold=found.predictions["fold"].map(dict(enumerate("ABCDE"))),
    )


def _score(table: gpd.GeoDataFrame, folder: Path, **changes):
    options = {"outcome": "asset_wealth", "predicted": "ridge", "against": ["noise"], "splits": GivenFolds("test_fold")}
    return score_predictions(table, folder=folder, **(options | changes))


def test_scores_are_those_of_the_predictions(country, published: gpd.GeoDataFrame, tmp_path: Path) -> None:
    found = _score(published, tmp_path)
    pooled = found.scores[found.scores["subset"] == "all"].set_index("predictor")
    expected = np.corrcoef(published["asset_wealth"], published["ridge"])[0, 1] ** 2
    assert pooled.loc["model", "r2_pearson"] == pytest.approx(expected)
    assert {"noise", "urban_rural", "kriging", "training_mean"} == set(pooled.index) - {"model"}
    noise = found.differences.set_index(["predictor", "score"]).loc[("noise", "R2")]
    assert noise["verdict"] == "better"
    np.testing.assert_array_equal(found.predictions["mean"], published["ridge"])
    assert list(found.folds["name"]) == list("ABCDE")
    render_report([tmp_path], tmp_path / "report.html", title="As published")
    text = (tmp_path / "report.html").read_text()
    assert "were made elsewhere" in text
    assert "the map's model" not in text
    assert "out of support" not in text


def test_deshrinkage_comes_from_the_other_folds(published: gpd.GeoDataFrame, tmp_path: Path) -> None:
    changed = published.copy()
    rows = changed["test_fold"] == "C"
    changed.loc[rows, "asset_wealth"] += np.random.default_rng(0).normal(scale=50, size=rows.sum())
    before, after = _score(published, tmp_path / "a"), _score(changed, tmp_path / "b")
    pd.testing.assert_series_equal(before.predictions["mean_linear"][rows], after.predictions["mean_linear"][rows])
    assert not np.allclose(before.predictions["mean_linear"][~rows], after.predictions["mean_linear"][~rows])


def test_clusters_without_a_prediction_are_named(published: gpd.GeoDataFrame, tmp_path: Path) -> None:
    table = tmp_path / "made.csv"
    published[["cluster_id", "ridge", "noise"]].iloc[::-1].iloc[:-2].to_csv(table, index=False)
    matched = read_predictions(table, published.drop(columns=["ridge", "noise"]), ["ridge", "noise"])
    np.testing.assert_allclose(matched["ridge"][2:], published["ridge"][2:])
    found = _score(matched, tmp_path)
    assert found.dropped.to_dict("records") == [
        {"source": "clusters", "id": name, "reason": "no ridge"} for name in ("c0000", "c0001")
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"predicted": "cnn"}, "no column 'cnn'"),
        ({"predicted": "test_fold"}, "'test_fold' is of type .*expected numbers"),
        ({"against": ["ridge"]}, "'ridge' is named twice"),
        ({"against": ["kriging"]}, "name of a baseline"),
    ],
)
def test_mistakes_are_named(published: gpd.GeoDataFrame, tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(RegressionError, match=words):
        _score(published.assign(kriging=0.0), tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_tables_that_cannot_be_used(published: gpd.GeoDataFrame, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(RegressionError, match=r"bad.parquet cannot be read"):
        read_predictions(tmp_path / "bad.parquet", published, ["ridge"])
    twice = pd.concat([published[["cluster_id", "ridge"]]] * 2)
    twice.to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(RegressionError, match="more than once"):
        read_predictions(tmp_path / "twice.parquet", published, ["ridge"])


def test_from_the_command_line(published: gpd.GeoDataFrame, tmp_path: Path) -> None:
    published.drop(columns=["ridge", "noise"]).to_parquet(tmp_path / "clusters.parquet")
    pd.DataFrame(published[["cluster_id", "ridge", "noise"]]).to_parquet(tmp_path / "made.parquet")
    command = ["score", "--clusters", tmp_path / "clusters.parquet", "--predictions", tmp_path / "made.parquet"]
    command += ["--outcome", "asset_wealth", "--predicted", "ridge", "--against", "noise", "-o", tmp_path / "out"]
    runner = CliRunner()
    done = runner.invoke(regression.app, [*map(str, command), "--fold-column", "test_fold"])
    assert done.exit_code == 0, done.output
    assert "240 clusters used" in done.output
    summary = json.loads((tmp_path / "out/scores.json").read_text())
    assert summary["model"]["name"] == "ridge"
    assert set(summary["provenance"]["inputs"]) == {"clusters", "predictions"}
    done = runner.invoke(regression.app, [*map(str, command)])
    assert "expected the folds of the predictions" in str(done.exception)
