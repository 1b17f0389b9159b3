"""The bake-off of backbones on the sample world: nightlights classes, and the survey's wealth under spatial blocks.

    python bench/compare.py [--quick] [--network NAME[=START] ...] [--folder DIR]

Trains the sixteen networks of Bressem et al. (2020) and newer ones on the same tiles of a made-up country, one at a
time, and writes comparison.csv, .md, .html and .png. All start at random, since ImageNet weights cannot be downloaded
everywhere; EfficientNet-Lite0, whose weights a package registry has, also starts from ImageNet. The column "start" says
which. What this ranks is how fast networks learn from little, not how good they are after ImageNet. With --folder a run
cut short goes on. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import pandas as pd

from geopov.features.comparison.bake_off import compare
from geopov.features.comparison.networks import NETWORK_SETS
from geopov.features.comparison.order import ranked
from geopov.features.comparison.table import write_comparison
from geopov.features.nightlights.lights import open_lights
from geopov.features.nightlights.sampling import sample_by_nightlights
from geopov.raster import Scene
from geopov.study import downstream_scores
from geopov.testing.sample.world import write_sample_world
from geopov.tiles import TileSet, TileSpec
from geopov.tiles import extract as extract_tiles

SPEC = TileSpec(size_px=48, resolution_m=10)
BANDS = ("red", "green", "blue")
# Batches are small, so that even two epochs have steps enough for the statistics of batch norms to settle.
SETTINGS = {
    True: {"points": 320, "clusters": 160, "size_km": 32.0, "epochs": 2, "batch_size": 8},
    False: {"points": 2000, "clusters": 320, "size_km": 48.0, "epochs": 6, "batch_size": 16},
}
# Nothing is frozen at first, since a random trunk has nothing to keep; one rate for all starts, set before any run.
# 75 px is the least that Inception v4 can take.
TRAINING = {"input_px": 75, "bands": BANDS, "frozen_epochs": 0, "backbone_learning_rate": 3e-4}
BLOCK_KM, OUTCOME = 8.0, "asset_wealth"


def make_tiles(
    folder: Path, *, points: int, clusters: int, size_km: float
) -> tuple[TileSet, gpd.GeoDataFrame, TileSet, gpd.GeoDataFrame]:
    """Tiles and labels to train on, tiles of the survey's clusters, and the clusters."""
    world = write_sample_world(folder, seed=0, size_km=size_km, n_clusters=clusters)
    table = pd.read_csv(world.clusters, dtype={"cluster_id": str})
    survey = gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table["lon"], table["lat"]), crs="EPSG:4326")
    scene = Scene.open(world.scene)
    labels = sample_by_nightlights(
        open_lights(world.lights), n=points, size_px=SPEC.size_px, resolution_m=SPEC.resolution_m, region=scene,
        split_block_km=4.0, seed=0,
    )  # fmt: skip
    return extract_tiles(scene, labels, SPEC), labels, extract_tiles(scene, survey, SPEC), survey


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tiles and epochs, the smallest images")
    parser.add_argument("--network", action="append", metavar="NAME[=START]", help="in place of all; may be repeated")
    parser.add_argument("--folder", type=Path, help="where networks are kept")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = SETTINGS[options.quick]
    networks = options.network or [*NETWORK_SETS["all"], "efficientnet_lite0=imagenet"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "networks"
        tiles, labels, survey_tiles, survey = make_tiles(
            Path(scratch) / "world", points=settings["points"], clusters=settings["clusters"],
            size_km=settings["size_km"],
        )  # fmt: skip
        print(
            f"{len(tiles)} tiles to learn from, {len(survey)} clusters ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
        table = compare(
            networks,
            tiles,
            labels,
            folder=folder,
            weights=None,
            training=TRAINING | {"epochs": settings["epochs"], "batch_size": settings["batch_size"]},
            downstream=downstream_scores(survey, outcome=OUTCOME, block_km=BLOCK_KM),
            cluster_tiles=survey_tiles,
            # Exporting a network to ONNX Runtime takes longer than running it on the few tiles of a quick run.
            engine="fused" if options.quick else "auto",
            threads=options.threads,
            progress=lambda done, n: print(f"{done} of {n} networks ({time.perf_counter() - start:.0f} s)", flush=True),
        )
        page = write_comparison(
            table,
            folder,
            title="Backbones on the sample world",
            note=f"Clusters: ridge on a network's features predicts {OUTCOME}, blocks of {BLOCK_KM:g} km held out. "
            "Started at random, networks are ranked by what they learn from these tiles alone.",
        )
        print((folder / "comparison.md").read_text(encoding="utf-8"))
    means = ranked(table)
    result = {
        f"{row['network']} ({row['start']})": {
            key: float(f"{row[column]:.4g}")
            for key, column in {"auroc": "auroc", "r2": "downstream_r2", "images_per_s": "images_per_s"}.items()
        }
        for row in means.to_dict("records")
    }
    if options.folder:
        print(page)
    print(json.dumps({"networks": result, "seconds": round(time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
