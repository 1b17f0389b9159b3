"""A map wall to wall: one network pass over large blocks, beside a crop a cell, torchgeo, odc-stac and rio-tiler.

    python bench/map.py [--quick] [--data FOLDER] [--rounds N] [--network NAME] [--block-px PIXELS]

Makes (once, in FOLDER) a 4-band uint16 COG of 10 m pixels and predicts cells of 2,240 m, which tiles of 224 px fill, of
1,120 m, whose tiles overlap by half, and of 1,000 m. Contenders take turns within a round, each with an area that takes
it a few seconds; rates are km² a second, ratios medians over rounds of ours to theirs in the same round, by the clock
and, in brackets, by CPU time, which others' work on the machine disturbs less. All start from pixels on disk (warm page
cache) and end with one number a cell, on two cores; networks have random weights, which do not change the speed, and
are prepared before the clock starts. "Shared" slides the network over blocks with 160 px of context, "crops" is a crop
a cell with the same context: their features agree. "Plain crops", torchgeo and rio-tiler have tiles without context,
whose features are others; odc-stac slides over chunks with the same context as ours. How closely the values of all
agree is printed.

forward_share is the time that two workers of one thread each spend in the large network's passes, of all their time,
while a third thread reads; of each network in forward_share_NAME, and in pass_s_megapixel_NAME the seconds that a pass
takes one of the two workers a megapixel of its image. Peak memory is that of a fresh process that predicts a map of
one, four and sixteen times an area with the small network. What sharing costs in accuracy: ``sharing.py``. The last
line is JSON; keys without a suffix are of the large network and cells of 2,240 m, those with ``_overlap`` of 1,120 m.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _map_peers import Contender, Network, peers
from _measure import peak_mib, ratio, rounded, seconds
from _scene import EPSG, HIGH, LOW, NORTH, RESOLUTION_M, WEST, Cells, make_scene

from geopov.features import build
from geopov.features.networks import sliding
from geopov.features.networks.backbones import load_backbone
from geopov.maps import Region
from geopov.regression import WelfareModel
from geopov.regression.intervals import Coverage, Intervals
from geopov.regression.shrinkage import Deshrinkage
from geopov.regression.support import Support
from geopov.study import CellModel, open_scenes, predict_map
from geopov.study.cells import BLOCK_PX
from geopov.tiles import TileSpec

# What `geopov features context resnet18 --weights random` recommends for 1%; exact for the small network.
SIZE_PX, CONTEXT_PX = 224, 160
# What blocks look at beyond their cells lies inside the scene.
MARGIN_M = (SIZE_PX / 2 + CONTEXT_PX + 64) * RESOLUTION_M
CELLS_M = (2240.0, 1120.0, 1000.0)
SUFFIX = {2240.0: "", 1120.0: "_overlap", 1000.0: "_1000m"}
LARGE, SMALL = "resnet18", "squeezenet1_1"
NETWORKS = (LARGE, "efficientnet_lite0", SMALL)
# Context for those that see so far that they are not slid with less.
FURTHER_PX = {"efficientnet_lite0": 256}
WORKERS = 2
# Cells for each contender but the sharing one, which has whole blocks.
N_CELLS, N_CELLS_QUICK = (8, 12), (4, 6)


def make_model(name: str, *, context_px: int) -> WelfareModel:
    """A model as a study of 300 clusters would have fitted it, with coefficients by chance."""
    specification = {"name": name, "weights": None, "seed": 0, "bands": [1, 2, 3], "lo": LOW, "hi": HIGH}
    extractor = build(specification | {"context_px": context_px})
    rng, n, p = np.random.default_rng(0), 300, len(extractor.feature_names)
    X, coef = rng.uniform(size=(n, p)), rng.normal(size=p)
    linear = X @ coef
    support, distance = Support.fit(X), Support.fit(X).distance(X)
    error = np.abs(rng.normal(size=n))
    return WelfareModel(
        outcome="asset_wealth",
        unit="index",
        feature_names=tuple(extractor.feature_names),
        coef=coef,
        intercept=0.5,
        # Values are compared with contenders that clip nothing.
        low=np.full(p, -np.inf),
        high=np.full(p, np.inf),
        alpha=1.0,
        deshrinkage=Deshrinkage.fit(linear + error, linear, method="none"),
        intervals=Intervals.fit(error, linear, distance, level=0.9, folds=np.arange(n) % 5),
        support=support,
        support_limit=float(np.quantile(distance, 0.99)),
        coverage=Coverage(0.9, 0.9, np.nan, np.nan),
        n_training=n,
        extractor=extractor.spec(),
        tile_spec=TileSpec(SIZE_PX, RESOLUTION_M, context_px).to_dict(),
        window={},
        provenance={},
    )


class Ours:
    """One way of ours to predict cells, two blocks at a time with one thread each, while the next is read."""

    def __init__(self, scene: Path, name: str, *, cell_m: float, mode: str, context_px: int, block_px: int) -> None:
        model = make_model(name, context_px=context_px)
        options: dict[str, Any] = {"cell_m": cell_m, "mode": mode, "block_px": block_px}
        self.cell_model = CellModel(open_scenes([[str(scene)]]), model, **options)
        # As predict_map does; a further thread reads.
        self.cell_model.compute_at_once(WORKERS)

    def __call__(self, cells: Cells) -> np.ndarray:
        """Values (rows, columns)."""
        if self.cell_model.mode == "shared":
            parts = [cells]
        else:
            # Its blocks are larger than what is timed here: one part a worker.
            half = cells.rows // WORKERS
            south = Cells(cells.west, cells.north - half * cells.cell_m, cells.rows - half, cells.columns, cells.cell_m)
            parts = [cells.part(half, cells.columns), south]
        tasks = [block for part in parts for block in part.grid.blocks(self.cell_model.block_cells)]
        values = np.full((cells.rows, cells.columns), np.nan, dtype=np.float32)

        def one(block: Any) -> None:
            x, y = block.centres()
            found = self.cell_model(block, np.ones(x.shape, dtype=bool)).values[0]
            row = round((cells.north - y[0, 0]) / cells.cell_m - 0.5)
            column = round((x[0, 0] - cells.west) / cells.cell_m - 0.5)
            values[row : row + x.shape[0], column : column + x.shape[1]] = found

        with ThreadPoolExecutor(WORKERS + (self.cell_model.mode == "shared")) as pool:
            list(pool.map(one, tasks))
        return values


def contenders(scene: Path, name: str, *, cell_m: float, block_px: int) -> dict[str, Contender]:
    """By name; shared first."""
    own = partial(Ours, scene, name, cell_m=cell_m, block_px=block_px)
    backbone, model = load_backbone(name, weights=None, seed=0), make_model(name, context_px=CONTEXT_PX)
    network = Network(backbone.trunk, backbone.mean, backbone.std, model.coef, model.intercept, SIZE_PX, CONTEXT_PX)
    return {
        "shared": own(mode="shared", context_px=CONTEXT_PX),
        "crops": own(mode="crops", context_px=CONTEXT_PX),
        "plain_crops": own(mode="crops", context_px=0),
        **peers(scene, network, chunk_px=block_px),
    }


def contest(scene: Path, side_px: int, name: str, cell_m: float, *, rounds: int, quick: bool, block_px: int) -> dict:
    """Print a table of one network and cell size; the ratios by contender."""
    named = contenders(scene, name, cell_m=cell_m, block_px=block_px)
    shared = named["shared"]
    assert isinstance(shared, Ours)
    block_cells = shared.cell_model.block_cells
    whole = Cells.blocks(side_px, cell_m=cell_m, block_cells=block_cells, margin_m=MARGIN_M, most=2 if quick else 3)
    whole = whole.part(block_cells if quick else 2 * block_cells, whole.columns)
    some = whole.part(*(N_CELLS_QUICK if quick else N_CELLS))
    areas = {other: whole if other in ("shared", "odc_xarray") else some for other in named}
    # Prepares engines and warms the page cache; its values are compared.
    values = {other: np.asarray(run(areas[other])) for other, run in named.items()}
    rates: dict[str, list[tuple[float, float]]] = {other: [] for other in named}
    for _ in range(rounds):
        for other, run in named.items():
            wall, cpu = seconds(lambda run=run, area=areas[other]: run(area))
            rates[other].append((areas[other].km2 / wall, areas[other].km2 / cpu))
    print(f"\n{name}, cells of {cell_m:g} m, blocks of {block_cells} x {block_cells} cells, {rounds} rounds")
    print(f"  {'':14}{'km²/s':>8}{'shared is':>16}{'agreement':>12}")
    found = {}
    for other, pairs in rates.items():
        wall, cpu = (ratio([p[k] for p in rates["shared"]], [p[k] for p in pairs]) for k in (0, 1))
        found[other] = wall
        rows, columns = values[other].shape
        same = np.corrcoef(values["shared"][:rows, :columns].ravel(), values[other].ravel())[0, 1]
        rate = statistics.median(pair[0] for pair in pairs)
        print(f"  {other:14}{rate:8.1f}{wall:9.2f}x ({cpu:.2f}){same:12.4f}", flush=True)
    return {f"vs_{other}": value for other, value in found.items() if other != "shared"}


def passes(scene: Path, side_px: int, name: str, *, block_px: int, quick: bool) -> tuple[float, float]:
    """Of two workers' time the share in the network's passes, and a pass's seconds a megapixel of its image."""
    inside, pixels, lock, make = [0.0], [0], threading.Lock(), sliding.make_map_engine

    def make_timed(*args: Any, **kwargs: Any) -> Callable[..., Any]:
        forward = make(*args, **kwargs)

        def timed(image: Any) -> Any:
            begin = time.perf_counter()
            try:
                return forward(image)
            finally:
                with lock:
                    inside[0] += time.perf_counter() - begin
                    pixels[0] += image.shape[-2] * image.shape[-1]

        return timed

    sliding.make_map_engine = make_timed
    try:
        context_px = FURTHER_PX.get(name, CONTEXT_PX)
        ours = Ours(scene, name, cell_m=2240.0, mode="shared", context_px=context_px, block_px=block_px)
        block_cells = ours.cell_model.block_cells
        margin_m = MARGIN_M + (context_px - CONTEXT_PX) * RESOLUTION_M
        most = 2 if quick else 3
        cells = Cells.blocks(side_px, cell_m=2240.0, block_cells=block_cells, margin_m=margin_m, most=most)
        # As many blocks for one worker as for the other.
        cells = cells.part(cells.rows // block_cells // 2 * 2 * block_cells, cells.columns)
        ours(cells.part(block_cells, block_cells))
        inside[0], pixels[0] = 0.0, 0
        wall, _ = seconds(lambda: ours(cells))
    finally:
        sliding.make_map_engine = make
    share, each = inside[0] / (WORKERS * wall), inside[0] / pixels[0] * 1e6
    print(f"{name}: {share:.3f} of two workers' time is in its passes, {each:.3f} s a megapixel", flush=True)
    return share, each


def only_map(scene: Path, side_px: int, times: int, block_px: int) -> None:
    """Predict a map of ``times`` an area, to a file; its seconds and this process's peak memory."""
    side_m = side_px * RESOLUTION_M / 4 * times**0.5
    region = Region.from_bounds((WEST, NORTH - side_m, WEST + side_m, NORTH), crs=f"EPSG:{EPSG}")
    path = scene.parent / f".map_{times}.tif"
    path.unlink(missing_ok=True)
    wall, _ = seconds(
        lambda: predict_map(
            open_scenes([[str(scene)]]),
            make_model(SMALL, context_px=CONTEXT_PX),
            path=path,
            cell_m=1120.0,
            crs=f"EPSG:{EPSG}",
            region=region,
            mode="shared",
            block_px=block_px,
            workers=WORKERS,
        )
    )
    path.unlink()
    print(json.dumps({"seconds": wall, "peak_mib": peak_mib()}))


def memory(folder: Path, side_px: int, block_px: int) -> dict[str, float]:
    """Peak memory by how many times the area."""
    found = {}
    print(f"\nwhole map to a file, {SMALL}, cells of 1120 m, blocks of {block_px} px, {WORKERS} workers")
    for times in (1, 4, 16):
        command = [sys.executable, __file__, "--data", str(folder), "--side-px", str(side_px)]
        command += ["--only-map", str(times), "--block-px", str(block_px)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the map of {times} times the area: {done.stderr}")
        row = json.loads(done.stdout.splitlines()[-1])
        km2 = (side_px * RESOLUTION_M / 4000) ** 2 * times
        print(f"  {km2:8.0f} km²{row['seconds']:8.1f} s{row['peak_mib']:8.0f} MiB", flush=True)
        found[f"peak_mib_{times}x"] = row["peak_mib"]
    return found


def main() -> None:
    """Print tables for people and one JSON line for machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller scene, small blocks, one round")
    parser.add_argument("--data", type=Path, default=Path("work/bench"), help="where the scene is made and kept")
    parser.add_argument("--rounds", type=int, help="default 3, quick 1")
    parser.add_argument("--network", default=LARGE, help="the large one")
    parser.add_argument("--block-px", type=int, help="side of the shared blocks; default 2048, quick 1024")
    parser.add_argument("--side-px", type=int, help="side of the scene; default 8192, quick 4096")
    parser.add_argument("--only-map", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    side_px = options.side_px or (4096 if options.quick else 8192)
    block_px = options.block_px or (1024 if options.quick else BLOCK_PX)
    scene = make_scene(options.data, side_px)
    if options.only_map:
        only_map(scene, side_px, options.only_map, block_px)
        return
    rounds = options.rounds or (1 if options.quick else 3)
    result: dict[str, float | None] = {}
    common: dict[str, Any] = {"rounds": rounds, "quick": options.quick, "block_px": block_px}
    for cell_m in CELLS_M:
        found = contest(scene, side_px, options.network, cell_m, **common)
        result |= {key + SUFFIX[cell_m]: value for key, value in found.items()}
    if not options.quick:
        small = contest(scene, side_px, SMALL, CELLS_M[0], **common)
        result |= {f"{key}_small": value for key, value in small.items()}
    print()
    for name in dict.fromkeys((options.network, *([] if options.quick else NETWORKS))):
        share, each = passes(scene, side_px, name, block_px=block_px, quick=options.quick)
        result |= {f"forward_share_{name}": share, f"pass_s_megapixel_{name}": each}
    result["forward_share"] = result[f"forward_share_{options.network}"]
    result |= memory(options.data, side_px, 512 if options.quick else block_px)
    print(json.dumps(rounded(result, 3)))


if __name__ == "__main__":
    main()
