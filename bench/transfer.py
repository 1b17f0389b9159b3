"""Whether what a network learns from nightlights helps to see wealth, on a made-up country whose truth is known.

    python bench/transfer.py [--seeds 10] [--first 0] [--folder DIR] [--threads 2] [-o TABLE.json]

For each seed: a country is made up (geopov.testing.write_sample_world), a small network (SqueezeNet, from random
weights, since no hub is needed for those) is trained to tell night light from daytime tiles, and its features of the
survey's clusters are put to a ridge regression on asset wealth under spatial blocks. Beside it, under the same blocks:
the mean night light of the same windows; the same network untrained; another network as ImageNet left it
(EfficientNet-Lite0); and the trained features with the clusters' images shuffled. r² is squared Pearson, R² the
coefficient of determination; both of all clusters and of the poorer half by true wealth (Jean et al. 2016, Science
353:790, figure 4). Intervals are Student's over seeds, of paired differences.

What the network sees in training: images and night lights of the whole country, also where test clusters lie, as both
are at hand wherever a map is wanted. It never sees the survey. Settings are tried on seeds from 100 up; those reported
by default, 0 to 9, are not for that. Lights use the noise floor that the world states (0.3), which makes the baseline
stronger than the sensor's published one would. Finished seeds are kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.stats import t as student

from geopov import features as feature_stage
from geopov._validation import atomic_path
from geopov.features.nightlights.lights import open_lights
from geopov.features.nightlights.sampling import sample_by_nightlights
from geopov.features.training.fit import pretrain
from geopov.grid import transform_xy
from geopov.raster import Scene
from geopov.regression import SpatialBlocks, WelfareRidge, score
from geopov.regression._fitting import one_blas_thread
from geopov.survey import read_clusters
from geopov.testing.sample.night import NOISE_FLOOR
from geopov.testing.sample.world import SampleWorld, write_sample_world
from geopov.tiles import TileSpec, tile_points
from geopov.tiles import extract as cut

Floats = npt.NDArray[np.float64]

BACKBONE = "squeezenet1_1"
SPEC = TileSpec(size_px=48, resolution_m=10)
LOOKS: dict[str, Any] = {"bands": ["red", "green", "blue"], "lo": 0.0, "hi": 160.0}
TRAINING: dict[str, Any] = {"epochs": 15, "frozen_epochs": 0, "learning_rate": 1e-3, "backbone_learning_rate": 1e-3}
N_POINTS = 4500
WINDOW_KM, N_TILES = 4.0, 16
BLOCK_KM, DIVISIONS, SHUFFLES = 8.0, 5, 5
OUTCOME = "asset_wealth"
SUBSETS = ("all", "poorer half")
SCORES = ("r2_pearson", "R2")
NAMES = {
    "pretrained": "network trained on nightlights",
    "untrained": "the same network, untrained",
    "imagenet": "EfficientNet-Lite0, ImageNet only",
    "lights": "nightlights, log of the mean",
    "shuffled": "trained network, images shuffled",
}


def run_seed(seed: int, folder: Path, *, threads: int) -> dict[str, Any]:
    """Every score of one country."""
    started = time.perf_counter()
    world = write_sample_world(folder / "world", seed=seed)
    clusters = read_clusters(world.clusters, lon_column="lon", lat_column="lat", outcomes=[OUTCOME])
    scene = Scene.open(world.scene)
    seconds = {"world": time.perf_counter() - started}
    lights = open_lights(world.lights, sensor="viirs", noise_floor=NOISE_FLOOR)
    points = sample_by_nightlights(
        lights, n=N_POINTS, size_px=SPEC.size_px, resolution_m=SPEC.resolution_m, region=scene, seed=seed
    )
    started = time.perf_counter()
    trained = pretrain(
        cut(scene, points, SPEC),
        points,
        folder=folder / "network",
        backbone=BACKBONE,
        weights=None,
        patience=TRAINING["epochs"],
        threads=threads,
        seed=seed,
        accelerator="cpu",
        **LOOKS,
        **TRAINING,
    )
    seconds["training"] = time.perf_counter() - started
    started = time.perf_counter()
    networks = {"pretrained": trained}
    others = {"untrained": {"name": BACKBONE, "weights": None}, "imagenet": {"name": "efficientnet_lite0"}}
    for name, other in others.items():
        networks[name] = feature_stage.build({**other, "seed": seed, "threads": threads, **LOOKS})
    window = tile_points(clusters, SPEC, window_km=WINDOW_KM, n_tiles=N_TILES)
    tiles = cut(scene, window, SPEC).save(folder / "tiles")
    columns = {name: _columns(feature_stage.extract(network, tiles), clusters) for name, network in networks.items()}
    columns["lights"] = _window_lights(lights, clusters, scene)
    seconds["features"] = time.perf_counter() - started
    scores = {name: _scores([X], clusters, world) for name, X in columns.items()}
    rng = np.random.default_rng(seed)
    scores["shuffled"] = _scores([rng.permutation(columns["pretrained"]) for _ in range(SHUFFLES)], clusters, world)
    return {
        "seed": seed,
        "scores": scores,
        "training": _told_by_card(folder / "network"),
        "seconds": {part: round(value, 1) for part, value in seconds.items()},
    }


def _columns(array: xr.DataArray, clusters: gpd.GeoDataFrame) -> Floats:
    return np.asarray(array.set_index(cluster="cluster_id").sel(cluster=clusters["cluster_id"].to_numpy()), dtype=float)


def _window_lights(lights: Any, clusters: gpd.GeoDataFrame, scene: Scene) -> Floats:
    """Logarithm of the mean radiance of the window that the network's tiles lie in."""
    x, y = transform_xy("EPSG:4326", scene.crs, clusters.geometry.x.to_numpy(), clusters.geometry.y.to_numpy())
    squares = gpd.GeoSeries(gpd.points_from_xy(x, y), crs=scene.crs).buffer(WINDOW_KM * 500, cap_style="square")
    return np.log(lights.mean_over(squares) + 0.1)[:, None]


def _scores(tables: list[Floats], clusters: gpd.GeoDataFrame, world: SampleWorld) -> dict[str, dict[str, float]]:
    """Scores out of fold, the mean over several divisions into blocks and over the tables of features."""
    observed = clusters[OUTCOME].to_numpy(dtype=float)
    true = world.true_clusters.set_index("cluster_id")["true_wealth"].loc[clusters["cluster_id"]].to_numpy()
    rows = {"all": np.ones(len(observed), dtype=bool), "poorer half": true <= np.median(true)}
    found: dict[str, list[dict[str, float]]] = {subset: [] for subset in SUBSETS}
    for X, division in product(tables, range(DIVISIONS)):
        splits = SpatialBlocks(block_km=BLOCK_KM, seed=division, tile_km=WINDOW_KM)
        blocks, predicted = splits.block_ids(clusters), np.full(len(observed), np.nan)
        for train, test in splits.split(clusters):
            model = WelfareRidge().fit(X[train], observed[train], groups=blocks[train])
            predicted[test] = model.predict(X[test])
        for subset, chosen in rows.items():
            found[subset].append(score(observed[chosen], predicted[chosen]))
    return {
        subset: {name: float(np.mean([one[name] for one in several])) for name in SCORES}
        for subset, several in found.items()
    }


def _told_by_card(folder: Path) -> dict[str, Any]:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return {"data": card["data"]["tiles"], "best_epoch": card["training"]["best_epoch"]}


def interval(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Mean over seeds and its 95% interval (Student's)."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    half = student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def summarise(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean and interval of each predictor's scores, and of what the trained network is ahead by."""
    rows = []
    for subset in SUBSETS:
        for name in SCORES:
            of = {key: np.array([one["scores"][key][subset][name] for one in results]) for key in NAMES}
            for key, label in NAMES.items():
                ahead = interval(of["pretrained"] - of[key]) if key != "pretrained" else (np.nan,) * 3
                rows.append((subset, name, label, *interval(of[key]), *ahead))
    columns = ["subset", "score", "predictor", "mean", "low", "high", "ahead", "ahead_low", "ahead_high"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="how many countries")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    parser.add_argument("--folder", type=Path, default=Path("work/transfer"))
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("-o", "--output", type=Path, help="also write all figures here, as JSON")
    asked = parser.parse_args()
    results = []
    for seed in range(asked.first, asked.first + asked.seeds):
        kept = asked.folder / f"seed{seed}" / "scores.json"
        if not kept.is_file():
            with one_blas_thread():
                result = run_seed(seed, kept.parent, threads=asked.threads)
            with atomic_path(kept) as partial:
                partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
        results.append(json.loads(kept.read_text(encoding="utf-8")))
        of = {name: [one[s]["r2_pearson"] for s in SUBSETS] for name, one in results[-1]["scores"].items()}
        figures = ", ".join(f"{name} {both[0]:.3f}/{both[1]:.3f}" for name, both in of.items())
        print(f"seed {seed}: r2 all/poorer half: {figures}; seconds {results[-1]['seconds']}", flush=True)
    table = summarise(results)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    if asked.output:
        with atomic_path(asked.output) as partial:
            partial.write_text(json.dumps({"seeds": results, "summary": table.to_dict("records")}, indent=1))


if __name__ == "__main__":
    main()
