"""A smoke test of the training on real radiance: tell the class of light at a place in Nepal from what lies around it.

    python bench/surroundings.py [--quick] [--threads 2] [--seed 0]

This is not the method's own pretraining, which tells night light from *daytime* imagery: the catalogue has no daytime
scene under its night lights. Input and label here come from one image, VIIRS 2025 (nepal_viirs_2025 in
data_catalog.yaml, from a package registry). A network sees one band, log radiance, of a tile of 24 pixels of 463 m
(11 km) whose middle 8 x 8 pixels (3.7 km) are blank, and learns the class of the mean light of the middle 4 x 4 pixels
(1.9 km): dark, dim or lit. One starts from ImageNet, its first convolution made over for one band, one from random
weights. It shows that the training learns from real radiance, with its zeros, its skew and its noise, and nothing of
poverty. Light spreads between pixels and towns are wider than 4 km, so that the task is easy: a logistic regression on
a few statistics of the same tiles is the bar, and the networks are not expected to be ahead of it.

What keeps it honest. The blank is wider than the place it hides by two pixels on each side, as tiles are resampled: no
pixel in sight draws on one that the label is the mean of. The blank is the same in every tile: 0, and marked invalid.
Training, validation and test lie in separate square blocks, with a gap of half a tile's diagonal on each side of a
border between two of them (sample_by_nightlights with context_px=10 around the 4 pixels), and the ground of all tiles
is checked once more. With labels shuffled within each split, training and scoring alike, the AUROC must be at chance.
Intervals are of the AUROC, 95%, from a bootstrap of whole blocks of 20 km. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geopov.catalog import find_catalog, open_catalog
from geopov.features.comparison.intervals import auroc_bootstrap
from geopov.features.extract import extract_array
from geopov.features.nightlights.lights import open_lights
from geopov.features.nightlights.sampling import sample_by_nightlights
from geopov.features.statistics import BandStatistics
from geopov.features.training.fit import pretrain
from geopov.features.training.predict import TrainedNetwork
from geopov.features.training.tasks import class_probabilities, scores
from geopov.raster import Scene
from geopov.regression import SpatialBlocks
from geopov.tiles import TileSet, TileSpec
from geopov.tiles import extract as cut
from geopov.tiles.batch import TileBatch

Floats = npt.NDArray[np.float64]

SOURCE, COUNTRY = "nepal_viirs_2025", "nepal_districts"
RESOLUTION_M = 463
TILE_PX, HIDDEN_PX, LABEL_PX = 24, 8, 4
# In nW/cm²/sr. Composites hold 0 where no light was found, hence the lowest edge, which parts none from some.
EDGES, NAMES = (0.1, 1.0), ("dark", "dim", "lit")
BLOCK_KM, DRAWN_KM = 40.0, 20.0
LOWEST, HIGHEST = 0.1, 50.0
FROM_IMAGENET, FROM_RANDOM = "efficientnet_lite0 from ImageNet", "resnet18 from random weights"
# Chosen by the validation split of seed 100, beside two other pairs of learning rates.
NETWORKS: dict[str, dict[str, Any]] = {
    FROM_IMAGENET: {"backbone": "efficientnet_lite0", "input_px": 48},
    FROM_RANDOM: {"backbone": "resnet18", "weights": None, "frozen_epochs": 0, "backbone_learning_rate": 1e-3},
}
LOOKS: dict[str, Any] = {"stretch": "log", "lo": LOWEST, "hi": HIGHEST}
FULL, QUICK = {"n": 2000, "epochs": 8, "shuffles": 2}, {"n": 600, "epochs": 4, "shuffles": 1}


@dataclass(frozen=True)
class BlankedTiles:
    """Tiles whose middle nobody sees: 0 and invalid, in every batch.

    Attributes
    ----------
    tiles : TileSet
    hidden_px : int
        Side of the blank, even in tiles of even size.
    """

    tiles: TileSet
    hidden_px: int

    @property
    def spec(self) -> TileSpec:
        """Size of a tile, blank included."""
        return self.tiles.spec

    @property
    def band_names(self) -> list[str]:
        """One name a band."""
        return self.tiles.band_names

    @property
    def index(self) -> gpd.GeoDataFrame:
        """One row a tile."""
        return self.tiles.index

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    def iter_batches(self, batch_size: int = 256) -> Iterable[TileBatch]:
        """Batches as the tiles give them, with the blank in copies of their arrays."""
        first = (self.spec.total_px - self.hidden_px) // 2
        middle = np.s_[..., first : first + self.hidden_px, first : first + self.hidden_px]
        for batch in self.tiles.iter_batches(batch_size):
            data, valid = batch.data.copy(), batch.valid.copy()
            data[middle], valid[middle] = 0, False
            yield TileBatch(data, valid, batch.positions)


def read_inputs() -> tuple[Scene, gpd.GeoDataFrame]:
    """The radiance image, and the districts of Nepal to draw places in; fetched once."""
    catalog = open_catalog(find_catalog(Path(__file__).parent))
    catalog.fetch_many([SOURCE, COUNTRY])
    scene, districts = catalog[SOURCE].open(), catalog[COUNTRY].open()
    assert isinstance(scene, Scene)
    assert isinstance(districts, gpd.GeoDataFrame)
    return scene, districts


def draw_points(scene: Scene, region: gpd.GeoDataFrame, *, n: int, seed: int) -> gpd.GeoDataFrame:
    """Points with the class of light of the middle, split so that whole tiles of two splits never meet."""
    return sample_by_nightlights(
        open_lights(scene, sensor="viirs"),
        n=n,
        size_px=LABEL_PX,
        resolution_m=RESOLUTION_M,
        context_px=(TILE_PX - LABEL_PX) // 2,
        region=region,
        tiles_crs=scene.crs,
        classes=EDGES,
        split_block_km=BLOCK_KM,
        shares=(0.6, 0.15, 0.25),
        seed=seed,
    )


def surroundings(scene: Scene, points: gpd.GeoDataFrame) -> BlankedTiles:
    """Tiles around the points, their middles blank."""
    return BlankedTiles(cut(scene, points, TileSpec(size_px=TILE_PX, resolution_m=RESOLUTION_M)), HIDDEN_PX)


def overlaps_between_splits(tiles: BlankedTiles, points: gpd.GeoDataFrame) -> int:
    """Pairs of tiles of different splits whose ground overlaps."""
    at = tiles.index
    split = points.set_index("cluster_id")["split"].loc[at["cluster_id"]].to_numpy()
    right = at["left"] + at["pixel_width"] * TILE_PX
    bottom = at["top"] - at["pixel_height"] * TILE_PX
    ground = shapely.box(at["left"], bottom, right, at["top"])
    one, other = shapely.STRtree(ground).query(ground, predicate="intersects")
    return int(np.count_nonzero(split[one] != split[other]) // 2)


def shuffled(points: gpd.GeoDataFrame, *, seed: int) -> gpd.GeoDataFrame:
    """The same points with their classes dealt anew within each split."""
    rng = np.random.default_rng(seed)
    dealt = points.copy()
    dealt["lights_class"] = points.groupby("split")["lights_class"].transform(lambda column: rng.permutation(column))
    return dealt


def network_logits(
    name: str, tiles: BlankedTiles, points: gpd.GeoDataFrame, *, epochs: int, folder: Path, seed: int, threads: int
) -> Floats:
    """Train one of :data:`NETWORKS` on the points' labels; log odds (tile, class) of every tile."""
    how: dict[str, Any] = {"epochs": epochs, "batch_size": 32, "accelerator": "cpu", "threads": threads, "seed": seed}
    pretrain(tiles, points, folder=folder, **NETWORKS[name], **LOOKS, **how)
    return np.asarray(TrainedNetwork.load(folder, threads=threads, engine="eager").outputs(tiles), dtype=np.float64)


def regression_logits(tiles: BlankedTiles, codes: npt.NDArray[np.int64], split: npt.NDArray[np.str_]) -> Floats:
    """Log odds (tile, class) by logistic regression on statistics of rings; its penalty by the validation split."""
    statistics = BandStatistics(windows_px=(24, 16, 12), transform="log", offset=LOWEST).for_bands(tiles.band_names)
    X = extract_array(statistics, tiles).astype(np.float64)
    found = []
    for C in (0.001, 0.01, 0.1, 1.0, 10.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, class_weight="balanced", max_iter=2000))
        logits = model.fit(X[split == "train"], codes[split == "train"]).predict_log_proba(X)
        validation = split == "validation"
        found.append((scores(logits[validation], codes[validation], "classification")["auroc"] or 0.0, logits))
    return np.asarray(max(found, key=lambda one: one[0])[1], dtype=np.float64)


def majority_logits(codes: npt.NDArray[np.int64], split: npt.NDArray[np.str_]) -> Floats:
    """The same for every tile: the shares of the classes in training."""
    share = np.bincount(codes[split == "train"], minlength=len(NAMES)) / np.count_nonzero(split == "train")
    return np.tile(np.log(share), (len(codes), 1))


def test_scores(logits: Floats, codes: npt.NDArray[np.int64], points: gpd.GeoDataFrame) -> dict[str, Any]:
    """AUROC with its interval, accuracy and balanced accuracy on the test split."""
    test = (points["split"] == "test").to_numpy()
    # A logit alone says nothing of a class before it is set against the others.
    chances = class_probabilities(logits, "classification")
    blocks = SpatialBlocks(block_km=DRAWN_KM).block_ids(points[test])
    auroc = auroc_bootstrap(codes[test, None] == np.arange(len(NAMES)), chances[test], blocks=blocks)
    found = scores(logits[test], codes[test], "classification")
    return found | {"auroc": auroc.value, "low": auroc.low, "high": auroc.high}


def chance_range(logits: Floats, codes: npt.NDArray[np.int64], points: gpd.GeoDataFrame) -> tuple[float, float]:
    """What 99% of AUROCs lie between if the test labels are dealt at random to these very predictions."""
    test, rng = (points["split"] == "test").to_numpy(), np.random.default_rng(0)
    dealt = [scores(logits[test], rng.permutation(codes[test]), "classification")["auroc"] for _ in range(400)]
    low, high = np.quantile(np.asarray(dealt, dtype=np.float64), (0.005, 0.995))
    return float(low), float(high)


def compare(
    scene: Scene, region: gpd.GeoDataFrame, *, n: int, epochs: int, shuffles: int, folder: Path, seed: int, threads: int
) -> dict[str, Any]:
    """Scores of every predictor, and what they were computed on."""
    points = draw_points(scene, region, n=n, seed=seed)
    tiles = surroundings(scene, points)
    if overlaps := overlaps_between_splits(tiles, points):
        raise SystemExit(f"{overlaps} pairs of tiles of different splits overlap; the scores would mean nothing.")
    codes, split = points["lights_class"].to_numpy(), points["split"].to_numpy(dtype=str)
    how: dict[str, Any] = {"epochs": epochs, "seed": seed, "threads": threads}
    rows = {
        "majority class": test_scores(majority_logits(codes, split), codes, points),
        "logistic regression on rings": test_scores(regression_logits(tiles, codes, split), codes, points),
    }
    for name in NETWORKS:
        rows[name] = test_scores(network_logits(name, tiles, points, folder=folder / name, **how), codes, points)
    for number in range(1, shuffles + 1):
        dealt, name = shuffled(points, seed=seed + number), f"resnet18, shuffled labels {number}"
        logits = network_logits(FROM_RANDOM, tiles, dealt, folder=folder / name, **how)
        rows[name] = test_scores(logits, dealt["lights_class"].to_numpy(), dealt)
        rows[name]["chance"] = chance_range(logits, codes, points)
    report = json.loads(points.attrs["nightlights"])
    return {
        "scores": rows,
        "counts": report["counts"],
        "split_gap_km": report["split_gap_km"],
        "between_splits": report["left_out"]["between_splits"],
        "overlaps": overlaps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer points and epochs: under a minute")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started, worked = time.perf_counter(), time.process_time()
    scene, districts = read_inputs()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(
            scene,
            districts,
            **(QUICK if asked.quick else FULL),
            folder=Path(folder),
            seed=asked.seed,
            threads=asked.threads,
        )
    found["seconds"] = round(time.perf_counter() - started, 1)
    found["cpu_seconds"] = round(time.process_time() - worked, 1)
    print("The class of light (dark, dim, lit) of hidden places in Nepal, from the radiance around them; VIIRS 2025.")
    print("A smoke test of the training on real radiance, not a pretraining on daytime images.")
    for name, counts in found["counts"].items():
        print(f"  {name}: " + ", ".join(f"{n} {kind}" for n, kind in zip(counts, NAMES, strict=True)))
    print(f"  {found['between_splits']} places left out in gaps of {found['split_gap_km']:.1f} km; no tiles overlap\n")
    table = pd.DataFrame(found["scores"]).T[["auroc", "low", "high", "balanced_accuracy", "accuracy"]]
    print(table.astype(float).to_string(float_format=lambda value: f"{value:.3f}"))
    for name, row in found["scores"].items():
        if "chance" in row:
            low, high = row["chance"]
            print(f"{name}: AUROC {row['auroc']:.3f}; 99% of labels dealt at random give {low:.3f} to {high:.3f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
