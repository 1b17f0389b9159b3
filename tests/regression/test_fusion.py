"""Blocks of features joined, fitted with a penalty each, and what the report says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from geopov.cli import regression
from geopov.errors import RegressionError
from geopov.features import read_features, write_features
from geopov.regression import SpatialBlocks, WelfareModel, WelfareRidge, evaluate, footprint_km, render_report
from geopov.regression.banded import BandedRidge
from geopov.regression.fusion import block_names, fuse, labels_of
from geopov.regression.sample import join


@pytest.fixture(scope="module")
def noise(country, as_features: Callable[..., xr.DataArray]) -> xr.DataArray:
    """Vectors that say nothing, of all clusters but two."""
    values = np.random.default_rng(5).normal(size=(240, 30))
    values[7] = np.nan
    ids = country.clusters["cluster_id"].tolist()
    return as_features(values, ids, dropped='[{"cluster_id": "c0003", "reason": "no text"}]').drop_isel(cluster=3)


@pytest.fixture(scope="module")
def fused(country, noise: xr.DataArray) -> xr.DataArray:
    return fuse({"images": country.features, "lights": country.lights, "noise": noise})


@pytest.fixture(scope="module")
def folder(country, fused: xr.DataArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion") / "fused"
    model = BandedRidge(n_iter=12)
    splits = SpatialBlocks(block_km=40)
    evaluate(model, fused, country.clusters, outcome="asset_wealth", splits=splits, folder=folder)
    assert model.blocks is None, "the model is cloned, never changed"
    return folder


def test_blocks_are_joined_by_cluster(as_features: Callable[..., xr.DataArray]) -> None:
    first = as_features(np.arange(6.0).reshape(3, 2), ["a", "b", "c"])
    parts = first.assign_coords(feature=["part1:x", "part2:x"])
    nested = fuse({"one": parts, "two": first})
    assert labels_of(nested["feature"].to_numpy()) == nested["block"].to_numpy().tolist() == ["one"] * 2 + ["two"] * 2
    second = as_features(
        np.array([[9.0], [8.0], [np.nan]]), ["c", "a", "b"], dropped='[{"cluster_id": "d", "reason": "cloud"}]'
    )
    found = fuse({"one": first, "two": second})
    assert found["cluster_id"].to_numpy().tolist() == ["a", "c"]
    assert found["feature"].to_numpy().tolist() == ["one:f0", "one:f1", "two:f0"]
    assert found["block"].to_numpy().tolist() == ["one", "one", "two"]
    assert found.to_numpy().tolist() == [[0.0, 1.0, 8.0], [4.0, 5.0, 9.0]]
    assert json.loads(found.attrs["dropped"]) == [
        {"cluster_id": "b", "reason": "two: features are NaN"},
        {"cluster_id": "d", "reason": "one: not among the features"},
    ]


def test_the_widest_ground_counts(as_features: Callable[..., xr.DataArray]) -> None:
    values, ids = np.ones((2, 1)), ["a", "b"]
    small = as_features(values, ids, tile_spec='{"size_px": 24, "resolution_m": 100}', extractor='{"name": "x"}')
    large = as_features(values, ids, tile_spec='{"size_px": 10, "resolution_m": 463}')
    found = fuse({"small": small, "text": as_features(values, ids), "large": large})
    assert footprint_km(found.attrs) == pytest.approx(4.63)
    assert "extractor" not in found.attrs, "no single extraction makes these features"
    assert json.loads(found.attrs["blocks"])["small"]["extractor"] == {"name": "x"}


def test_fused_features_go_through_files(fused: xr.DataArray, tmp_path: Path) -> None:
    found = read_features(write_features(fused, tmp_path / "fused.nc"))
    assert found.identical(fused)
    assert labels_of(found["feature"].to_numpy()) == found["block"].to_numpy().tolist()


def test_block_names() -> None:
    assert block_names(["a:b", "x:y:z", "plain"]) == ["a", "x", ""]


def test_mistakes_are_named(as_features: Callable[..., xr.DataArray]) -> None:
    one = as_features(np.ones((2, 1)), ["a", "b"])
    with pytest.raises(RegressionError, match="no blocks are given"):
        fuse({})
    with pytest.raises(RegressionError, match="a block is named 'a:b'"):
        fuse({"a:b": one})
    with pytest.raises(RegressionError, match="no cluster is in all blocks: 'x' has 2"):
        fuse({"x": one, "y": as_features(np.ones((2, 1)), ["c", "d"])})
    with pytest.raises(RegressionError, match="the block 'x' has dimensions"):
        fuse({"x": one.T})
    with pytest.raises(RegressionError, match="stand more than once"):
        fuse({"x": as_features(np.ones((2, 1)), ["a", "a"])})
    with pytest.raises(RegressionError, match="1 of 2 features are in none"):
        labels_of(["a:b", "c"])
    with pytest.raises(RegressionError, match="all are in 'a'"):
        labels_of(["a:b", "a:c"])


def test_evaluate_says_what_each_block_contributes(country, fused: xr.DataArray, folder: Path) -> None:
    summary = json.loads((folder / "scores.json").read_text())
    blocks = summary["blocks"]
    images, lights, noise = blocks["rows"]
    assert [row["block"] for row in blocks["rows"]] == ["images", "lights", "noise"]
    assert [row["n_features"] for row in blocks["rows"]] == [40, 2, 30]
    assert blocks["R2"] == next(r["R2"] for r in summary["shrinkage"] if r["method"] == "none")
    assert sum(row["share"] for row in blocks["rows"]) + blocks["level"] == pytest.approx(blocks["R2"])
    assert images["share"] > 0.5
    assert images["share_low"] < images["share"] < images["share_high"]
    assert abs(noise["share"]) < 0.05
    assert noise["share_low"] <= 0.02
    assert noise["alone"] < 0.05
    assert 0.2 < lights["alone"] < images["alone"]
    assert images["gain"]["verdict"] == "better"
    assert noise["gain"]["verdict"] != "better"
    assert images["gain"]["difference"] == pytest.approx(blocks["R2"] - images["gain"]["R2"])
    assert len(noise["penalties"]) == 5
    assert noise["penalty"] is None or noise["penalty"] > 10 * images["penalty"]
    splits = SpatialBlocks(block_km=40)
    sample = join(fused, country.clusters, outcome="asset_wealth")
    pairs, groups = list(splits.split(sample.clusters)), splits.block_ids(sample.clusters)
    plain = WelfareRidge().hold_out(sample.X, sample.y, pairs, groups=groups).predicted[:, 0]
    expected = 1 - np.sum((sample.y - plain) ** 2) / np.sum((sample.y - sample.y.mean()) ** 2)
    assert blocks["plain"]["R2"] == pytest.approx(expected)
    reasons = {entry["id"]: entry["reason"] for entry in summary["dropped"]}
    assert reasons == {"c0003": "noise: no text", "c0007": "noise: features are NaN"}


def test_the_model_is_linear_and_reads_back(fused: xr.DataArray, folder: Path) -> None:
    model = WelfareModel.load(folder / "model.npz")
    assert model.feature_names == tuple(fused["feature"].to_numpy())
    predicted = model.predict(fused)["mean"]
    assert np.corrcoef(predicted, model.predict(fused.to_numpy())["mean"])[0, 1] == pytest.approx(1)
    assert model.extractor == {}, "a map says that it cannot be made, rather than making another"


def _section(html: str) -> str:
    return re.sub(r"base64,[^\"]+", "", html.split('<h2 id="blocks-1">')[1].split("<h2")[0])


def test_the_report_has_the_blocks(folder: Path, tmp_path: Path) -> None:
    render_report([folder], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("</style>")[1]))
    assert "What each block of features contributes" in text
    assert "in 3 blocks, with one penalty for each" in text
    assert "one penalty for all: R²" in text
    assert "Feature-space selection with banded ridge" in text
    assert not re.search(r"\b(nan|NaN|None|null|Undefined)\b", _section(html))
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["runs"][0]["sentences"]["blocks"].startswith("Of an R² of ")
    assert content["runs"][0]["sentences"]["banding"] in text


def test_a_block_without_a_model_of_its_own(country, fused: xr.DataArray, tmp_path: Path) -> None:
    flat = fused.where(fused["block"] == "images", 1.0)
    splits = SpatialBlocks(block_km=40)
    evaluate(
        BandedRidge(n_iter=2), flat, country.clusters, outcome="asset_wealth", splits=splits, folder=tmp_path,
        random_folds=False,
    )  # fmt: skip
    rows = json.loads((tmp_path / "scores.json").read_text())["blocks"]["rows"]
    assert [row["alone"] is None for row in rows] == [False, True, True]
    assert rows[0]["gain"] is None, "the others alone are no model"
    assert rows[1]["gain"]["difference"] == pytest.approx(0, abs=0.05)
    assert rows[1]["share"] == 0
    render_report([tmp_path], tmp_path / "report.html")
    section = _section((tmp_path / "report.html").read_text())
    assert not re.search(r"\b(nan|NaN|None|null|Undefined)\b", section)
    assert "–" in section


@pytest.fixture(scope="module")
def inputs(country, fused: xr.DataArray, noise: xr.DataArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for name, array in {"images": country.features, "lights": country.lights, "noise": noise, "fused": fused}.items():
        write_features(array, folder / f"{name}.nc")
    country.clusters.to_parquet(folder / "clusters.parquet")
    return folder


def _fit(inputs: Path, features: str, *options: str):
    files = ["--features", inputs / features, "--clusters", inputs / "clusters.parquet"]
    fixed = ["--outcome", "asset_wealth", "--block-km", "40", "--no-random-folds"]
    return CliRunner().invoke(regression.app, ["fit", *map(str, files), *fixed, *options])


def test_blocks_on_the_command_line(inputs: Path, tmp_path: Path) -> None:
    extra = ["--block", f"lights={inputs / 'lights.nc'}", "--block", f"noise={inputs / 'noise.nc'}"]
    done = _fit(inputs, "images.nc", *extra, "--block-draws", "3", "-o", str(tmp_path / "blocks"))
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "blocks/scores.json").read_text())
    assert [row["block"] for row in summary["blocks"]["rows"]] == ["features", "lights", "noise"]
    assert summary["model"]["name"] == "BandedRidge"
    assert set(summary["provenance"]["inputs"]) == {"features", "clusters", "block lights", "block noise"}
    done = _fit(inputs, "fused.nc", "--banded", "--block-draws", "3", "-o", str(tmp_path / "banded"))
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "banded/scores.json").read_text())
    assert [row["share"] for row in found["blocks"]["rows"]] == [row["share"] for row in summary["blocks"]["rows"]]
    done = _fit(inputs, "images.nc", *extra, "--no-banded", "-o", str(tmp_path / "plain"))
    plain = json.loads((tmp_path / "plain/scores.json").read_text())
    assert plain["model"]["name"] == "WelfareRidge"
    assert plain["blocks"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--block", "lights"], "expected NAME=FILE"),
        (["--block", "features=a.nc"], "expected NAME=FILE"),
        (["--block", "lights=none.nc"], "--block lights is none.nc, which is not there"),
        (["--banded"], "features in several blocks, named 'block:feature'"),
        (["--banded", "--components", "3"], "--components and --banded are both given"),
        (["--banded", "--permutations", "3"], "permutations and repeats are made with WelfareRidge"),
    ],
)
def test_mistakes_on_the_command_line(inputs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    done = _fit(inputs, "images.nc", *options, "-o", str(tmp_path))
    assert message in str(done.exception)
