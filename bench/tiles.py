"""Tiles from four granules: ours beside opening a file a tile, torchgeo, rio-tiler, rioxarray and the decode limit.

    python bench/tiles.py [--quick] [--data FOLDER] [--rounds N]

Makes (once, in FOLDER) four 4-band uint16 deflate COGs in two UTM zones, cuts tiles of 224 px around points by every
contender in turn, and checks that the pixels are the same. Rates are tiles a second; ratios are medians over rounds of
ours to the other's in the same round. Peers that are not installed are left out and said so:
pip install 'geopov[bench]'. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
from affine import Affine
from pyproj import Transformer
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from geopov.grid import transform_xy
from geopov.tiles import TileSpec, extract

SIZE_PX = 224
RESOLUTION_M = 10.0
WINDOW_M = 10_000.0
BANDS = 4
BLOCK = 512
# As many tiles as a network takes at a time.
BATCH = 64
# Two zones, two granules above each other in each; side by side at 36 degrees east, without overlap.
PLACES = (
    (32636, 690_000, 10_000_000),
    (32636, 690_000, 9_880_000),
    (32737, 200_020, 10_000_000),
    (32737, 200_020, 9_880_000),
)
TOWNS, TOWN_SHARE, TOWN_M = 4, 0.4, 6_000.0


@dataclass(frozen=True)
class Case:
    """Points and the windows they stand for: one row a tile."""

    files: list[Path]
    scene: np.ndarray
    column: np.ndarray
    row: np.ndarray
    points: gpd.GeoDataFrame
    span_px: int


def make_scenes(folder: Path, side: int) -> list[Path]:
    """Four granules of seeded, smoothed noise with noise on top: it deflates to about a half, as imagery does."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"granule_{i}_{side}.tif" for i in range(len(PLACES))]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    rng = np.random.default_rng(0)
    period = 2048
    ground = np.stack([gaussian_filter(rng.normal(size=(period, period)), s, mode="wrap") for s in (3, 6, 12, 24)])
    ground /= ground.std(axis=(1, 2), keepdims=True)
    block = (2500 + 500 * ground + 25 * rng.normal(size=ground.shape)).astype(np.uint16)
    for i in missing:
        zone, west, north = PLACES[i]
        scratch = folder / f".scratch_{i}.tif"
        profile = {
            "driver": "GTiff", "width": side, "height": side, "count": BANDS, "dtype": "uint16", "tiled": True,
            "blockxsize": BLOCK, "blockysize": BLOCK, "crs": f"EPSG:{zone}",
            "transform": Affine(RESOLUTION_M, 0, west, 0, -RESOLUTION_M, north),
        }  # fmt: skip
        with rasterio.open(scratch, "w", **profile) as out:
            for top in range(0, side, period):
                for left in range(0, side, period):
                    shift = rng.integers(0, period, 2)
                    piece = np.roll(block, tuple(shift), axis=(1, 2))[:, : side - top, : side - left]
                    out.write(piece, window=Window(left, top, piece.shape[2], piece.shape[1]))
        partial = folder / f".partial_{i}.tif"
        rasterio.shutil.copy(
            scratch,
            partial,
            driver="COG",
            compress="deflate",
            predictor="YES",
            blocksize=BLOCK,
            overview_resampling="average",
        )
        scratch.unlink()
        partial.rename(paths[i])
    return paths


def make_case(files: list[Path], side: int, n: int, span_px: int) -> Case:
    """Points as surveys have them, in random order: three in five anywhere, two in five around towns.

    All windows lie inside their granule.
    """
    rng = np.random.default_rng(1)
    scene = rng.integers(0, len(files), n)
    margin = WINDOW_M / RESOLUTION_M / 2
    centre = rng.uniform(margin, side - margin, (2, n))
    urban = rng.random(n) < TOWN_SHARE
    towns = rng.uniform(0.15 * side, 0.85 * side, (2, len(files), TOWNS))
    town = towns[:, scene, rng.integers(0, TOWNS, n)]
    centre[:, urban] = (town + rng.normal(0, TOWN_M / RESOLUTION_M, (2, n)))[:, urban]
    column, row = np.clip(centre, margin, side - margin).astype(int) - span_px // 2
    lon, lat = np.empty(n), np.empty(n)
    for i, (zone, west, north) in enumerate(PLACES):
        own = scene == i
        x = west + (column[own] + span_px / 2) * RESOLUTION_M
        y = north - (row[own] + span_px / 2) * RESOLUTION_M
        lon[own], lat[own] = Transformer.from_crs(zone, 4326, always_xy=True).transform(x, y)
    points = gpd.GeoDataFrame(
        {"cluster_id": [f"c{i}" for i in range(n)]}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
    )
    return Case(files, scene, column, row, points, span_px)


def ours(case: Case, spec: TileSpec) -> int:
    return sum(len(batch) for batch in extract(case.files, case.points, spec).iter_batches(BATCH))


def open_per_tile(case: Case, tiles: np.ndarray, out_px: int) -> list[np.ndarray]:
    found = []
    for i in tiles:
        with rasterio.open(case.files[case.scene[i]]) as dataset:
            window = Window(case.column[i], case.row[i], case.span_px, case.span_px)
            found.append(dataset.read(window=window, out_shape=(BANDS, out_px, out_px)))
    return found


def with_rioxarray(case: Case, tiles: np.ndarray) -> list[np.ndarray]:
    import rioxarray

    found = []
    for i in tiles:
        with rioxarray.open_rasterio(case.files[case.scene[i]]) as scene:
            rows = slice(case.row[i], case.row[i] + case.span_px)
            found.append(scene.isel(y=rows, x=slice(case.column[i], case.column[i] + case.span_px)).to_numpy())
    return found


def with_rio_tiler(case: Case, tiles: np.ndarray) -> list[np.ndarray]:
    from rio_tiler.io import Reader

    found = []
    for i in tiles:
        _, west, north = PLACES[case.scene[i]]
        left, top = west + case.column[i] * RESOLUTION_M, north - case.row[i] * RESOLUTION_M
        reach = case.span_px * RESOLUTION_M
        with Reader(str(case.files[case.scene[i]])) as reader:
            crs = reader.dataset.crs
            image = reader.part((left, top - reach, left + reach, top), dst_crs=crs, bounds_crs=crs)
            found.append(np.asarray(image.array.data))
    return found


class TorchGeo:
    """One dataset a zone, so that nothing is warped: the faster way to use it. Opening is not timed."""

    def __init__(self, case: Case) -> None:
        from torchgeo.datasets import RasterDataset

        self.case = case
        self.datasets = {
            zone: RasterDataset([str(f) for f, place in zip(case.files, PLACES, strict=True) if place[0] == zone])
            for zone in {place[0] for place in PLACES}
        }

    def read(self, tiles: np.ndarray) -> list[np.ndarray]:
        """Chips at the windows of some tiles."""
        case, always = self.case, slice(pd.Timestamp.min, pd.Timestamp.max)
        found = []
        for i in tiles:
            zone, west, north = PLACES[case.scene[i]]
            left, top = west + case.column[i] * RESOLUTION_M, north - case.row[i] * RESOLUTION_M
            reach = case.span_px * RESOLUTION_M
            query = (slice(left, left + reach), slice(top - reach, top), always)
            found.append(self.datasets[zone][query]["image"].numpy())
        return found


class TorchGeoOneDataset:
    """One dataset over all files, as its documentation has it: granules of other zones are warped to the first's."""

    def __init__(self, case: Case) -> None:
        from torchgeo.datasets import RasterDataset

        self.dataset = RasterDataset([str(file) for file in case.files])
        zones = np.array([PLACES[scene][0] for scene in case.scene])
        reach = case.span_px * RESOLUTION_M / 2
        x = np.array([PLACES[s][1] for s in case.scene]) + case.column * RESOLUTION_M + reach
        y = np.array([PLACES[s][2] for s in case.scene]) - case.row * RESOLUTION_M - reach
        for zone in set(zones.tolist()):
            there = zones == zone
            x[there], y[there] = transform_xy(f"EPSG:{zone}", self.dataset.crs, x[there], y[there])
        self.boxes = np.stack([x - reach, x + reach, y - reach, y + reach], axis=1)

    def read(self, tiles: np.ndarray) -> list[np.ndarray]:
        """Chips around the middle of some tiles; not the same pixels where they are warped."""
        always = slice(pd.Timestamp.min, pd.Timestamp.max)
        found = []
        for left, right, bottom, top in self.boxes[tiles]:
            found.append(self.dataset[slice(left, right), slice(bottom, top), always]["image"].numpy())
        return found


def decode_limit(case: Case) -> int:
    """Every touched block decoded once by two threads with a handle each, and thrown away."""
    touched = set()
    for scene, column, row in zip(case.scene.tolist(), case.column.tolist(), case.row.tolist(), strict=True):
        for r in range(row // BLOCK, (row + case.span_px - 1) // BLOCK + 1):
            for c in range(column // BLOCK, (column + case.span_px - 1) // BLOCK + 1):
                touched.add((scene, r, c))
    local = threading.local()
    handles = []

    def decode(block: tuple[int, int, int]) -> None:
        scene, r, c = block
        if not hasattr(local, "open"):
            local.open = {}
        if scene not in local.open:
            local.open[scene] = rasterio.open(case.files[scene])
            handles.append(local.open[scene])
        local.open[scene].read(
            window=Window(c * BLOCK, r * BLOCK, BLOCK, BLOCK).intersection(Window(0, 0, *local.open[scene].shape))
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(decode, sorted(touched)))
    for handle in handles:
        handle.close()
    return len(touched)


def rate(n: int, run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return n / (time.perf_counter() - begin)


def check_pixels(
    case: Case, spec: TileSpec, peers: dict[str, Callable[[np.ndarray], list[np.ndarray]]], n: int
) -> bool:
    """Ours against plain rasterio windows, and each peer against the same windows."""
    tiles = extract(case.files, case.points, spec)
    sample = np.random.default_rng(2).choice(len(tiles), min(n, len(tiles)), replace=False)
    expected = open_per_tile(case, sample, SIZE_PX)
    batch = tiles.read(sample)
    equal = bool(batch.valid.all()) and all(np.array_equal(a, b) for a, b in zip(batch.data, expected, strict=True))
    print(f"ours: {len(sample)} tiles {'identical to' if equal else 'DIFFERENT from'} rasterio windows")
    few = slice(0, 5)
    for name, peer in peers.items():
        same = all(np.array_equal(a, b) for a, b in zip(peer(sample[few]), expected[few], strict=True))
        print(f"{name}: {'identical' if same else 'different pixels'}")
    return equal


def peak_mib(data: Path, quick: bool) -> float:
    """Peak resident memory of a process that extracts all tiles and nothing else."""
    command = [sys.executable, __file__, "--data", str(data), "--only-ours", *(["--quick"] if quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def only_ours(case: Case, spec: TileSpec) -> None:
    ours(case, spec)
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would count the parent's memory at the fork.
        print(int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024)
    else:
        import resource

        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def available(case: Case) -> dict[str, Callable[[np.ndarray], list[np.ndarray]]]:
    peers: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {}
    for module, make in (
        ("torchgeo", lambda: TorchGeo(case).read),
        ("rio_tiler", lambda: lambda tiles: with_rio_tiler(case, tiles)),
        ("rioxarray", lambda: lambda tiles: with_rioxarray(case, tiles)),
    ):
        if importlib.util.find_spec(module):
            peers[module] = make()
        else:
            print(f"{module}: not installed, left out (pip install 'geopov[bench]')")
    return peers


def compare(case: Case, wide: Case, spec: TileSpec, coarse: TileSpec, rounds: int, quick: bool) -> dict[str, object]:
    peers = available(case)
    equal = check_pixels(case, spec, peers, 100 if quick else 500)
    warped = {"torchgeo, one dataset": TorchGeoOneDataset(case).read} if "torchgeo" in peers else {}
    n, few = len(case.points), 60 if quick else 250
    rates: dict[str, list[float]] = {}
    for number in range(rounds):
        sample = np.random.default_rng(10 + number).choice(n, min(few, n), replace=False)
        contenders: dict[str, tuple[int, Callable[[], object]]] = {
            "ours": (n, lambda: ours(case, spec)),
            "decode limit": (n, lambda: decode_limit(case)),
            "open per tile": (len(sample), lambda s=sample: open_per_tile(case, s, SIZE_PX)),
            **{name: (len(sample), lambda p=peer, s=sample: p(s)) for name, peer in (peers | warped).items()},
            "ours, 10 km": (n, lambda: ours(wide, coarse)),
            "open per tile, 10 km": (len(sample), lambda s=sample: open_per_tile(wide, s, SIZE_PX)),
        }
        for name, (tiles, run) in contenders.items():
            rates.setdefault(name, []).append(rate(tiles, run))
    print(f"\n{'':24}{'tiles/s':>10}{'ours is':>10}")
    ratios = {}
    for name, values in rates.items():
        base = rates["ours, 10 km" if name.endswith("10 km") else "ours"]
        ratios[name] = statistics.median(a / b for a, b in zip(base, values, strict=True))
        print(f"{name:24}{statistics.median(values):10.0f}{ratios[name]:9.2f}x")
    return {
        "vs_open_per_tile": round(ratios["open per tile"], 2),
        "vs_torchgeo": round(ratios["torchgeo"], 2) if "torchgeo" in ratios else None,
        "vs_torchgeo_one_dataset": round(ratios["torchgeo, one dataset"], 2) if warped else None,
        "of_decode_limit": round(ratios["decode limit"], 3),
        "overview_vs_open_per_tile": round(ratios["open per tile, 10 km"], 2),
        "pixels_equal": equal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="granules of 4096 px and one round: under a minute")
    parser.add_argument("--data", type=Path, default=Path("work/bench"), help="where granules are made and kept")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--only-ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # The same density of points on the smaller granules.
    side, n = (4096, 278) if options.quick else (10_980, 2_000)
    files = make_scenes(options.data, side)
    case = make_case(files, side, n, SIZE_PX)
    spec = TileSpec(SIZE_PX, RESOLUTION_M)
    if options.only_ours:
        only_ours(case, spec)
        return
    wide = make_case(files, side, n, int(WINDOW_M / RESOLUTION_M))
    coarse = TileSpec(SIZE_PX, WINDOW_M / SIZE_PX)
    result = compare(case, wide, spec, coarse, options.rounds or (1 if options.quick else 3), options.quick)
    result["peak_mib"] = round(peak_mib(options.data, options.quick))
    print(f"peak memory of ours: {result['peak_mib']} MiB\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
