"""Blocks of features on real places: what each contributes, and whether a penalty for each is worth it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr

from geopov.catalog import open_catalog
from geopov.features import BandHistograms, build
from geopov.regression import SpatialBlocks, WelfareModel, WelfareRidge, evaluate
from geopov.regression._banded_shares import product_measure, share_draws
from geopov.regression.banded import BandedFit, BandedRidge
from geopov.regression.bootstrap import interval
from geopov.regression.fusion import fuse
from geopov.regression.sample import footprint_km, join
from geopov.regression.scores import compare, score
from geopov.regression.splits import GivenFolds
from geopov.study.config import read_study
from geopov.study.stages import extract_features, open_scenes
from geopov.tiles import TileSpec

pytestmark = pytest.mark.real
HERE = Path(__file__).parent
BANDS = ["blue", "green", "red", "swir1", "swir2", "temp1", "nir", "nightlights"]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = HERE.parents[1] / "bench/published.py"
    spec = importlib.util.spec_from_file_location("bench_published_fusion", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _r2(observed: np.ndarray, predicted: np.ndarray) -> float:
    return score(observed, predicted)["R2"]


# Lesotho -------------------------------------------------------------------------------------------------------------


def _lesotho(bench: ModuleType, data: Path) -> tuple[xr.DataArray, gpd.GeoDataFrame, list[Any]]:
    study = read_study(HERE / "lesotho.yaml")
    scenes = open_scenes(study.scene_sources, catalog=open_catalog(study.catalog))
    clusters = bench.dhs_clusters(data).query("country == 'lesotho'").reset_index(drop=True)
    spec = TileSpec(size_px=study.tiles.size_px, resolution_m=study.tiles.resolution_m)
    return extract_features(scenes, clusters, spec, build(study.features)), clusters, scenes


def test_lesotho_by_source(bench: ModuleType, real_data: Path, tmp_path: Path) -> None:
    """Lights, roads and people of the same places overlap: each knows much alone, little beside the others."""
    features, clusters, _ = _lesotho(bench, real_data)
    names = features["feature"].to_numpy()
    of = {"radiance": "radiance", "travel time": "travel_time", "population": "population"}
    fused = fuse({block: features[:, [f":{band}_" in name for name in names]] for block, band in of.items()})
    assert fused.shape == features.shape
    splits = SpatialBlocks(block_km=20, tile_km=footprint_km(fused.attrs))
    assert splits.tile_km == pytest.approx(11.1, abs=0.05)
    evaluate(
        BandedRidge(n_iter=20), fused, clusters, outcome="asset_wealth", splits=splits, folder=tmp_path,
        random_folds=False,
    )  # fmt: skip
    blocks = json.loads((tmp_path / "scores.json").read_text())["blocks"]
    rows = {row["block"]: row for row in blocks["rows"]}
    assert all(row["n_features"] == 30 for row in rows.values())
    assert sum(row["share"] for row in rows.values()) + blocks["level"] == pytest.approx(blocks["R2"])
    assert rows["radiance"]["share_low"] > max(0.2, rows["population"]["share_high"])
    assert rows["radiance"]["alone"] > rows["travel time"]["alone"]
    assert blocks["plain"]["low"] < 0 < blocks["plain"]["high"], "no difference shown between banded and plain ridge"


def test_lesotho_list_of_extractors(bench: ModuleType, real_data: Path, tmp_path: Path) -> None:
    """One extraction with a list of extractors has its blocks, and the model its maps, unchanged."""
    features, clusters, scenes = _lesotho(bench, real_data)
    splits = SpatialBlocks(block_km=20, tile_km=footprint_km(features.attrs), n_folds=2)
    evaluate(
        BandedRidge(n_iter=2), features, clusters, outcome="asset_wealth", splits=splits, folder=tmp_path,
        random_folds=False,
    )  # fmt: skip
    model = WelfareModel.load(tmp_path / "model.npz")
    assert len(json.loads((tmp_path / "scores.json").read_text())["blocks"]["rows"]) == 6
    some = clusters.iloc[::40].reset_index(drop=True)
    again = extract_features(scenes, some, TileSpec.from_dict(model.tile_spec), build(model.extractor))
    of_map = model.predict(again)["mean"]
    np.testing.assert_allclose(of_map, model.predict(features)["mean"][of_map.index])


# The published histograms --------------------------------------------------------------------------------------------


def _histograms(clusters: gpd.GeoDataFrame, counts: np.ndarray) -> xr.DataArray:
    """Counts (n, 8, 102) as the histogram extractor gives features: the share of a tile's pixels in each bin."""
    # Where the published bins end is not in the file; names and contract need their number alone.
    contract = BandHistograms(edges=np.arange(101.0).tolist(), bands=BANDS)
    shares = counts / counts.sum(axis=2, keepdims=True)
    return xr.DataArray(
        shares.reshape(len(shares), -1).astype(np.float32),
        dims=("cluster", "feature"),
        coords={
            "cluster_id": ("cluster", clusters["cluster_id"].to_numpy(dtype=str)),
            "feature": contract.feature_names,
        },
        name="features",
        attrs={"extractor": json.dumps({"name": "published histograms", "bands": BANDS})},
    )


def test_published_histograms_meet_the_contract(bench: ModuleType, real_data: Path) -> None:
    """Pixels drawn as the published counts say go through our extractor, and come out as the published shares."""
    clusters, _ = bench.lsms_clusters(real_data)
    with np.load(real_data / "surveys/lsms_image_histograms.npz") as stored:
        counts = stored["image_hists"]
    assert counts.shape == (3020, 8, 102)
    assert np.all(counts.sum(axis=2) == 224 * 224), "a pixel a count"
    features = _histograms(clusters, counts)
    assert features["feature"].to_numpy()[[0, 101, 102, -1]].tolist() == [
        "blue_bin00", "blue_bin101", "green_bin00", "nightlights_bin101",
    ]  # fmt: skip
    extractor = BandHistograms(edges=np.arange(101.0).tolist(), bands=BANDS).for_bands(BANDS)
    for row in (0, 1500, 3019):
        # A pixel of bin k lies half a unit below edge k, counted from 0.
        pixels = np.stack([np.repeat(np.arange(102) - 0.5, counts[row, band]) for band in range(8)])
        ours = extractor(pixels.reshape(1, 8, 224, 224), np.ones((1, 224, 224), dtype=bool))
        np.testing.assert_allclose(ours[0], features[row], atol=1e-6)


def test_imagery_and_nightlights_of_the_lsms(bench: ModuleType, real_data: Path) -> None:
    """A ridge on histograms of seven bands, beside one more: each has half of it; one penalty does as well as two."""
    clusters, shares = bench.lsms_clusters(real_data)
    features = _histograms(clusters, shares)
    lights = np.array([name.startswith("nightlights") for name in features["feature"].to_numpy()])
    fused = fuse({"imagery": features[:, ~lights], "nightlights": features[:, lights]})
    sample = join(fused, clusters, outcome="asset_wealth")
    # Inner folds are the other published folds: the same place in another year is never on both sides.
    splits = GivenFolds("test_fold")
    pairs, folds = list(splits.split(sample.clusters)), splits.block_ids(sample.clusters)
    labels = fused["block"].to_numpy().tolist()
    banded: BandedFit = BandedRidge(labels, n_iter=4).hold_out(sample.X, sample.y, pairs, groups=folds)
    plain = WelfareRidge().hold_out(sample.X, sample.y, pairs, groups=folds).predicted[:, 0]
    ours, blocks = banded.predicted[:, 0], SpatialBlocks(block_km=50).block_ids(sample.clusters)
    parts, level = product_measure(sample.y, ours, banded.contributions)
    ends = [interval(draws) for draws in share_draws(sample.y, ours, banded.contributions, blocks).T]
    paired = compare(sample.y, ours, {"plain": plain}, blocks, scores=("R2",)).iloc[0]
    assert parts.sum() + level == pytest.approx(_r2(sample.y, ours))
    assert min(low for low, _ in ends) > 0.1, "both contribute"
    assert _r2(sample.y, ours) > 0.49
    # Measured with 30 draws: -.001, -.003 to +.002.
    assert -0.01 < paired["low"] < paired["high"] < 0.01
