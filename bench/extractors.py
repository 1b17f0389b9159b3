"""Every extractor on real clusters: what networks, histograms, statistics and random filters are worth for wealth.

    python bench/extractors.py [--quick]

Lesotho: its VIIRS radiance around 794 DHS clusters, 20 km blocks, beside the published residual network on nightlights
(Yeh et al. 2020, "ResNet NL", in country) on the same clusters. The network here is EfficientNet-Lite0 as ImageNet left
it: nothing was trained on Lesotho. Kinshasa: Landsat 8 true colour around 45 DHS clusters, 10 km blocks; too few for a
claim. Needs the real inputs under GEOPOV_REAL_DATA (default ../shared/data). Quick: without the largest network input.
The last line is JSON: r² (squared Pearson) with its 95% interval by place and extractor.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from geopov import features, survey
from geopov.regression import score
from geopov.study import downstream_scores, extract_features, open_scenes
from geopov.tiles import TileSpec

DATA = Path(os.environ.setdefault("GEOPOV_REAL_DATA", str(Path(__file__).resolve().parents[2] / "shared/data")))
LOG = {"stretch": "log", "lo": 0.1, "hi": 60.0, "min_valid": 0.01}
EDGES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5, 8, 12, 20, 40]

LESOTHO: dict[str, Any] = {
    "mean radiance": {"name": "band_statistics", "statistics": ["mean"], "transform": "log", "offset": 0.1},
    "statistics in 5 windows": {
        "name": "band_statistics",
        "windows_px": [2, 4, 8, 16, 24],
        "transform": "log",
        "offset": 0.1,
    },
    "histograms": {"name": "band_histograms", "edges": EDGES},
    "random filters": {"name": "random_convolution", "n_features": 512, **LOG},
    "ImageNet network, 48 px": {"name": "efficientnet_lite0", "bands": [1, 1, 1], "input_px": 48, **LOG},
    "untrained network, 48 px": {
        "name": "efficientnet_lite0",
        "weights": None,
        "bands": [1, 1, 1],
        "input_px": 48,
        **LOG,
    },
    "ImageNet network, 224 px": {"name": "efficientnet_lite0", "bands": [1, 1, 1], "input_px": 224, **LOG},
}
KINSHASA: dict[str, Any] = {
    "statistics": {"name": "band_statistics"},
    "histograms": {"name": "band_histograms", "edges": list(range(10, 250, 10))},
    "random filters": {"name": "random_convolution", "n_features": 512},
    "ImageNet network, 64 px": {"name": "efficientnet_lite0", "input_px": 64},
    "ImageNet network, 224 px": {"name": "efficientnet_lite0", "input_px": 224},
}


def clusters_of(country: str) -> gpd.GeoDataFrame:
    return survey.read_clusters(
        DATA / "surveys/dhs_clusters.parquet",
        lon_column="lon",
        lat_column="lat",
        outcomes=["asset_wealth"],
        where={"country": country},
    )


def measure(scene: Path, country: str, extractors: dict[str, Any], *, block_km: float, **tiles: Any) -> dict[str, Any]:
    clusters = clusters_of(country)
    spec = TileSpec(size_px=tiles.pop("size_px"), resolution_m=tiles.pop("resolution_m"))
    judge = downstream_scores(clusters, outcome="asset_wealth", block_km=block_km)
    scenes = open_scenes([[str(scene)]], nodata=tiles.pop("nodata", None))
    found: dict[str, Any] = {}
    for name, extractor in extractors.items():
        if extractor["name"] != "efficientnet_lite0" and "min_valid" not in extractor:
            extractor = extractor | {"min_valid": 0.01}
        start = time.perf_counter()
        array = extract_features(scenes, clusters, spec, features.build(extractor), **tiles)
        seconds = time.perf_counter() - start
        row = judge(array)
        found[name] = {key: round(row[key], 3) for key in ("r2", "r2_low", "r2_high", "R2")}
        found[name] |= {"features": array.sizes["feature"], "n": int(row["n"])}
        interval = f"{row['r2_low']:.3f} to {row['r2_high']:.3f}"
        print(
            f"{name:28}{array.sizes['feature']:>9}{row['r2']:>8.3f}  {interval}{row['R2']:>9.3f}{seconds:>8.1f}",
            flush=True,
        )
    return found


def published() -> float:
    predictions = pd.read_parquet(DATA / "surveys/dhs_published_predictions_incountry.parquet")
    table = pd.read_parquet(DATA / "surveys/dhs_clusters.parquet")
    here = (table["country"] == "lesotho").to_numpy()
    return score(table.loc[here, "asset_wealth"], predictions.loc[here, "Resnet-18 NL"])["r2_pearson"]


def main() -> None:
    """Print a table for people and one JSON line for machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the networks at 224 px")
    quick = parser.parse_args().quick
    if not DATA.is_dir():
        raise SystemExit(f"there is no folder {DATA}; set GEOPOV_REAL_DATA to the real inputs.")
    kept = [{k: v for k, v in table.items() if not (quick and "224" in k)} for table in (LESOTHO, KINSHASA)]
    print(f"{'Lesotho, VIIRS':28}{'features':>9}{'r²':>8}  95% interval{'R²':>11}{'s':>8}")
    scene = DATA / "lesotho/viirs_nightlights.tif"
    lesotho = measure(
        scene, "lesotho", kept[0], block_km=20, size_px=24, resolution_m=463, nodata=-3.4028234663852886e38
    )
    print(f"{'published ResNet NL':28}{'':>9}{published():>8.3f}")
    print(f"\n{'Kinshasa, Landsat 8':28}{'features':>9}{'r²':>8}  95% interval{'R²':>11}{'s':>8}")
    scene = DATA / "kinshasa/landsat8_l2sp_truecolor_20130728.tif"
    country = "democratic_republic_of_congo"
    window = {"window_km": 7.2, "n_tiles": 9}
    kinshasa = measure(scene, country, kept[1], block_km=10, size_px=64, resolution_m=38.2, **window)
    print(json.dumps({"lesotho": lesotho | {"published ResNet NL": round(published(), 3)}, "kinshasa": kinshasa}))


if __name__ == "__main__":
    main()
