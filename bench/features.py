"""Tiles to features, the whole path, against the forward pass alone and against plain eager PyTorch; and training.

    python bench/features.py [--quick] [--network NAME] [--threads 2]

"Plain" opens the scene for each tile, reads its window, and runs batches of 16 through the network as torchvision or
timm makes it. "Forward" is our engine on arrays that are ready. "Training" is `pretrain`, a step with all that comes
before and after it, against forward, backward and optimiser on arrays that are ready. "Of peak" is the arithmetic of
the whole path as a share of what a matrix product reaches here: in float32 on a CPU, in bfloat16 on a GPU. Weights are
random: they do not change the speed. Contenders take turns within a round; ratios are medians over rounds, and those of
CPU time stand beside them, which others' work on the machine disturbs less. The last line is JSON; its ratios are the
lowest over the networks.
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
from torch.utils.flop_counter import FlopCounterMode

from geopov.features import build, extract_array
from geopov.features.networks.backbones import load_backbone
from geopov.features.networks.engines import (
    PooledNetwork,
    choose_engine,
    forward_all,
    make_engine,
    micro_batch,
    torch_threads,
)
from geopov.features.training.fit import pretrain
from geopov.tiles import TileSet, TileSpec
from geopov.tiles import extract as extract_tiles

NETWORKS = ("resnet18", "squeezenet1_1", "efficientnet_lite0")
SIZE_PX, RESOLUTION_M = 224, 10.0
TRAINING_PX, TRAINING_BATCH, TRAINING_STEPS = 96, 32, 4
ENGINE = choose_engine("auto")
DEVICE = "cuda" if ENGINE == "cuda" else "cpu"


def make_scene(path: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (3, side // 16, side // 16), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((1, 16, 16), dtype=np.uint8)) + rng.integers(
        0, 50, (3, side, side), dtype=np.uint8
    )
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32736"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    transform = Affine(RESOLUTION_M, 0, 500_000, 0, -RESOLUTION_M, 8_000_000)
    with rasterio.open(path, "w", **profile, **layout, transform=transform) as dataset:
        dataset.write(pixels)


def plan(path: Path, n_tiles: int, size_px: int) -> tuple[TileSet, np.ndarray, gpd.GeoDataFrame]:
    """Tiles around random points, the (row, column) of their first pixels, and the points."""
    with rasterio.open(path) as dataset:
        side = dataset.width
    corners = np.random.default_rng(1).integers(0, side - size_px, (n_tiles, 2))
    centres = (corners + size_px / 2) * RESOLUTION_M
    points = gpd.GeoDataFrame(
        {"cluster_id": np.arange(n_tiles).astype(str)},
        geometry=gpd.points_from_xy(500_000 + centres[:, 1], 8_000_000 - centres[:, 0]),
        crs="EPSG:32736",
    ).to_crs("EPSG:4326")
    return extract_tiles(path, points, TileSpec(size_px=size_px, resolution_m=RESOLUTION_M)), corners, points


def seconds(work: Callable[[], object]) -> np.ndarray:
    """Wall and CPU seconds."""
    start = np.array([time.perf_counter(), time.process_time()])
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()]) - start


def matrix_peak(threads: int) -> float:
    """Floating-point operations a second of a square matrix product, the best of several."""
    side, dtype = (8192, torch.bfloat16) if DEVICE == "cuda" else (2048, torch.float32)
    left, right = (torch.rand(side, side, device=DEVICE).to(dtype) for _ in range(2))
    with torch_threads(threads):
        return 2 * side**3 / min(seconds(lambda: left @ right)[0] for _ in range(8))


def operations(network: torch.nn.Module) -> int:
    """Floating-point operations of one image; a multiplication and its addition count as two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.rand(1, 3, SIZE_PX, SIZE_PX))
    return int(counter.get_total_flops())


def plain_eager(path: Path, corners: np.ndarray, network: torch.nn.Module) -> None:
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    for start in range(0, len(corners), 16):
        images = []
        for row, column in corners[start : start + 16].tolist():
            with rasterio.open(path) as dataset:
                pixels = dataset.read(window=Window(column, row, SIZE_PX, SIZE_PX))
            images.append((torch.from_numpy(pixels) / 255 - mean) / std)
        with torch.inference_mode():
            network(torch.stack(images).to(DEVICE)).cpu()


def compare(name: str, path: Path, *, n_tiles: int, rounds: int, threads: int) -> tuple[dict[str, np.ndarray], int]:
    """Wall and CPU seconds (round, 2) that ``n_tiles`` take each contender, and the operations of one."""
    tiles, corners, _ = plan(path, n_tiles, SIZE_PX)
    half = {"half": True} if DEVICE == "cuda" else {}
    extractor = build({"name": name, "weights": None, "threads": threads} | half)
    network = PooledNetwork(load_backbone(name, weights=None, seed=0).trunk, share=1).eval()
    n_operations = operations(network)
    images = torch.rand(micro_batch(SIZE_PX, SIZE_PX, engine=ENGINE), 3, SIZE_PX, SIZE_PX)
    engine = make_engine(ENGINE, network, images, half=DEVICE == "cuda")
    network, images = network.to(DEVICE), images.to(DEVICE)
    n_passes = max(threads, n_tiles // len(images))

    def whole() -> None:
        extract_array(extractor, tiles, batch_size=32 if DEVICE == "cpu" else 1024)

    def forward() -> None:
        for _ in forward_all(engine, lambda _: images, n_passes, engine=ENGINE, threads=threads):
            pass

    with torch_threads(threads):
        whole()  # prepares the engine and warms the page cache
        forward()
        found = [
            (
                seconds(whole),
                seconds(forward) * n_tiles / (n_passes * len(images)),
                seconds(lambda: plain_eager(path, corners, network)),
            )
            for _ in range(rounds)
        ]
    return dict(zip(("whole", "forward", "plain"), np.swapaxes(found, 0, 1), strict=True)), n_operations


def bare_steps(n_classes: int) -> Callable[[], None]:
    """As many training steps as one round has, on a batch that is ready, with the network and loss of `pretrain`."""
    backbone = load_backbone("resnet18", weights=None, seed=0)
    head = torch.nn.Linear(backbone.n_features, n_classes)
    network = torch.nn.Sequential(PooledNetwork(backbone.trunk, share=1), head).train().requires_grad_(True)
    network = network.to(DEVICE, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.rand(TRAINING_BATCH, 3, TRAINING_PX, TRAINING_PX, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(TRAINING_BATCH, device=DEVICE) % n_classes

    def steps() -> None:
        for _ in range(TRAINING_STEPS):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimiser.step()

    return steps


def train(path: Path, folder: Path, *, rounds: int, threads: int) -> dict[str, np.ndarray]:
    """Wall and CPU seconds (round, 2) of the same number of steps, in `pretrain` and bare.

    The bare ones are run from within `pretrain`, between its steps, so that both meet the same machine.
    """
    n_training = TRAINING_BATCH * TRAINING_STEPS * (rounds + 1)
    tiles, _, points = plan(path, n_training + 4, TRAINING_PX)
    points["lights_class"] = np.arange(len(points)) % 3
    points["split"] = np.where(np.arange(len(points)) < n_training, "train", "validation")
    bare = bare_steps(3)
    found: dict[str, list[np.ndarray]] = {"training": [], "bare": []}
    start = np.zeros(2)

    def now() -> np.ndarray:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return np.array([time.perf_counter(), time.process_time()])

    def between(done: int, _: int) -> None:
        nonlocal start
        if done % TRAINING_STEPS == 0:
            # The first steps prepare: kernels, optimiser state.
            spent, own = now() - start, seconds(bare)
            if done > TRAINING_STEPS:
                found["training"].append(spent)
                found["bare"].append(own)
            start = now()

    pretrain(
        tiles,
        points,
        folder=folder,
        weights=None,
        epochs=1,
        frozen_epochs=0,
        batch_size=TRAINING_BATCH,
        threads=threads,
        progress=between,
    )
    return {key: np.array(values) for key, values in found.items()}


def ratio(found: dict[str, np.ndarray], of: str, to: str) -> tuple[float, float]:
    """How many times as fast ``of`` is as ``to``: by the clock and by CPU time."""
    wall, cpu = np.median(found[to] / found[of], axis=0).tolist()
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller scene with as many tiles to the area")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this one; may be repeated")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    n_tiles, side, rounds = (64, 2048, 3) if options.quick else (256, 4096, 5)
    peak = matrix_peak(options.threads)
    print(f"engine {ENGINE}, {options.threads} threads, {n_tiles} tiles of {SIZE_PX} px; peak {peak / 1e9:.0f} GFLOP/s")
    print(f"{'images a second':20}{'whole path':>12}{'forward':>12}{'plain eager':>12}{'of peak':>9}", end="")
    print(f"{'of forward (CPU)':>20}{'vs plain (CPU)':>20}")
    of_forward, vs_plain, of_peak = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make_scene(path, side)
        for name in options.network or NETWORKS:
            found, n_operations = compare(name, path, n_tiles=n_tiles, rounds=rounds, threads=options.threads)
            of_forward.append(ratio(found, "whole", "forward"))
            vs_plain.append(ratio(found, "whole", "plain"))
            rates = {key: n_tiles / statistics.median(values[:, 0]) for key, values in found.items()}
            of_peak.append(rates["whole"] * n_operations / peak)
            ratios = "".join(f"{wall:13.2f} ({cpu:.2f})" for wall, cpu in (of_forward[-1], vs_plain[-1]))
            print(f"{name:20}{''.join(f'{r:12.1f}' for r in rates.values())}{of_peak[-1]:9.2f}{ratios}", flush=True)
        trained = train(path, Path(folder) / "network", rounds=rounds, threads=options.threads)
    of_bare = ratio(trained, "training", "bare")
    n_images = TRAINING_BATCH * TRAINING_STEPS
    rates = {key: n_images / statistics.median(values[:, 0]) for key, values in trained.items()}
    print(
        f"training resnet18, {TRAINING_PX} px: {rates['training']:.1f} images a second, bare {rates['bare']:.1f}, ",
        end="",
    )
    print(f"ratio {of_bare[0]:.2f} ({of_bare[1]:.2f})")
    result = {
        "of_forward": min(of_forward)[0],
        "vs_plain_eager": min(vs_plain)[0],
        "of_peak": min(of_peak),
        "training_of_bare": of_bare[0],
    }
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    print(json.dumps({key: round(value, 3) for key, value in result.items()} | {"device": device}))


if __name__ == "__main__":
    main()
