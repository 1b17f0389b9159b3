"""Tiles to features, the whole path, against the forward pass alone and against plain eager PyTorch.

    python bench/features.py [--quick]

"Plain" opens the scene for each tile, reads its window, and runs batches of 16 through the network as torchvision or
timm makes it. "Forward" is our engine on arrays that are ready. Weights are random: they do not change the speed.
Ratios are medians over rounds in which all three take their turn. The last line is JSON; its ratios are the lowest over
the networks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window

from geopov.features import build, extract_array
from geopov.features.backbones import load_backbone
from geopov.features.engines import PooledNetwork, choose_engine, make_engine, micro_batch, torch_threads
from geopov.tiles import TileSet, TileSpec
from geopov.tiles import extract as extract_tiles

NETWORKS = ("resnet18", "squeezenet1_1", "efficientnet_lite0")
SIDE, RESOLUTION_M = 4096, 10.0


def make_scene(path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (3, SIDE // 16, SIDE // 16), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((1, 16, 16), dtype=np.uint8)) + rng.integers(
        0, 50, (3, SIDE, SIDE), dtype=np.uint8
    )
    profile = {"driver": "GTiff", "count": 3, "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": "EPSG:32736"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    transform = Affine(RESOLUTION_M, 0, 500_000, 0, -RESOLUTION_M, 8_000_000)
    with rasterio.open(path, "w", **profile, **layout, transform=transform) as dataset:
        dataset.write(pixels)


def plan(path: Path, n_tiles: int, size_px: int) -> tuple[TileSet, np.ndarray]:
    """Tiles around random points, and the (row, column) of their first pixels."""
    corners = np.random.default_rng(1).integers(0, SIDE - size_px, (n_tiles, 2))
    centres = (corners + size_px / 2) * RESOLUTION_M
    points = gpd.GeoDataFrame(
        {"cluster_id": np.arange(n_tiles).astype(str)},
        geometry=gpd.points_from_xy(500_000 + centres[:, 1], 8_000_000 - centres[:, 0]),
        crs="EPSG:32736",
    ).to_crs("EPSG:4326")
    return extract_tiles(path, points, TileSpec(size_px=size_px, resolution_m=RESOLUTION_M)), corners


def rate(work: Callable[[], object], n: int) -> float:
    start = time.perf_counter()
    work()
    return n / (time.perf_counter() - start)


def plain_eager(path: Path, corners: np.ndarray, network: torch.nn.Module, size_px: int) -> None:
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    for start in range(0, len(corners), 16):
        images = []
        for row, column in corners[start : start + 16].tolist():
            with rasterio.open(path) as dataset:
                pixels = dataset.read(window=Window(column, row, size_px, size_px))
            images.append((torch.from_numpy(pixels) / 255 - mean) / std)
        with torch.inference_mode():
            network(torch.stack(images))


def compare(name: str, path: Path, *, n_tiles: int, size_px: int, rounds: int, threads: int) -> list[dict[str, float]]:
    """Images a second of the three contenders, round by round."""
    tiles, corners = plan(path, n_tiles, size_px)
    extractor = build({"name": name, "weights": None, "threads": threads})
    chosen = choose_engine("auto")
    network = PooledNetwork(load_backbone(name, weights=None, seed=0).trunk, share=1).eval()
    images = torch.rand(micro_batch(size_px, size_px, engine=chosen), 3, size_px, size_px)
    engine = make_engine(chosen, network, images, threads=threads, half=False)
    passes = max(1, n_tiles // len(images))
    with torch_threads(threads):
        extract_array(extractor, tiles)  # prepares the engine and warms the page cache
        engine(images)
        return [
            {
                "whole": rate(lambda: extract_array(extractor, tiles, batch_size=32), n_tiles),
                "forward": rate(lambda: [engine(images) for _ in range(passes)], passes * len(images)),
                "plain": rate(lambda: plain_eager(path, corners, network, size_px), n_tiles),
            }
            for _ in range(rounds)
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer tiles, one round")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    n_tiles, rounds = (64, 1) if options.quick else (256, 3)
    print(f"engine {choose_engine('auto')}, {options.threads} threads, {n_tiles} tiles of 224 px; images a second")
    print(f"{'network':20}{'whole path':>12}{'forward':>12}{'plain eager':>12}{'of forward':>12}{'vs plain':>12}")
    of_forward, vs_plain = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make_scene(path)
        for name in NETWORKS:
            found = compare(name, path, n_tiles=n_tiles, size_px=224, rounds=rounds, threads=options.threads)
            of_forward[name] = statistics.median(r["whole"] / r["forward"] for r in found)
            vs_plain[name] = statistics.median(r["whole"] / r["plain"] for r in found)
            rates = "".join(
                f"{statistics.median(r[key] for r in found):12.1f}" for key in ("whole", "forward", "plain")
            )
            print(f"{name:20}{rates}{of_forward[name]:12.2f}{vs_plain[name]:12.2f}", flush=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    result = {"of_forward": round(min(of_forward.values()), 3), "vs_plain_eager": round(min(vs_plain.values()), 3)}
    print(json.dumps(result | {"device": device}))


if __name__ == "__main__":
    main()
