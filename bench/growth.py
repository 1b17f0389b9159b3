"""How time grows with size: tiles, features, ridge, population density and maps, beside others where they can run.

    python bench/growth.py [--quick] [--data FOLDER] [--only PART ...] [--rounds N]

A slope is that of the logarithm of seconds on the logarithm of size, over the sizes that are printed: 1 where twice as
much takes twice as long. Below 1, something is shared: a scene's blocks between tiles, what is prepared once. Seconds
are of CPU time, which other work on the machine hardly bends; slopes by the clock stand in brackets. Each size is timed
``rounds`` times in turns with the others, and the fastest counts; those that take over 10 s are timed once. Sizes of
others are smaller where they are slow.

Tiles: 224 px out of the same four granules, more and more of them. Features: of a network, tile by tile. Ridge: nested
cross-validation of 5 x 5 folds and 30 penalties, growing clusters with features fixed, and growing features with
clusters fixed (more features than clusters, beyond which ours works with the clusters' own matrix). Density: census
zones of 100 cells each laid on a grid, a log-linear model learned, counts shared over the cells; tobler shares them
over the same cells by area. Map: the area of a map in shared mode, from scene to finished file; odc-stac with xarray
without the file. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import features
import geopandas as gpd
import map as mapping
import numpy as np
import ridge
import shapely
import tiles
from _measure import seconds, slope
from _scene import Cells, make_scene
from threadpoolctl import threadpool_limits

from geopov import maps
from geopov.features import build, extract_array
from geopov.grid import CellGrid, as_crs
from geopov.maps.density.model import fit_density
from geopov.maps.density.population import allocate
from geopov.maps.density.zone_cells import zone_cells
from geopov.maps.density.zones import read_zones
from geopov.study import open_run
from geopov.study.cells import BLOCK_PX
from geopov.tiles import TileSpec

SLOW_S = 10.0

Work = Callable[[], object]
Contender = tuple[Sequence[int], Callable[[int], Work]]
"""Sizes, and what makes ready the work of one size; making ready is not timed."""


def grow(what: str, unit: str, contenders: dict[str, Contender], *, rounds: int) -> dict[str, float]:
    """Print a table; the slope of each contender."""
    ready = {(name, n): make(n) for name, (sizes, make) in contenders.items() for n in sizes}
    best = {key: (float("inf"), float("inf")) for key in ready}
    for number in range(rounds):
        for key, work in ready.items():
            if number == 0 and key[1] == contenders[key[0]][0][0] and key[0] == "ours":
                work()  # libraries, engines, page cache
            if not number or best[key][0] < SLOW_S:
                best[key] = tuple(map(min, best[key], seconds(work)))
    print(f"\n{what}, seconds by {unit}")
    found = {}
    for name, (sizes, _) in contenders.items():
        wall, cpu = zip(*(best[name, n] for n in sizes), strict=True)
        found[name] = slope(sizes, cpu)
        row = "".join(f"{n:>9,}: {t:<8.3g}" for n, t in zip(sizes, cpu, strict=True))
        print(f"  {name:14}slope {found[name]:5.2f} ({slope(sizes, wall):.2f}) {row}", flush=True)
    return found


def grow_tiles(options: argparse.Namespace) -> dict[str, float]:
    side, most, few = (4096, 320, 40) if options.quick else (10_980, 4_000, 250)
    files = tiles.make_scenes(options.data, side)
    cases = {n: tiles.make_case(files, side, n, tiles.SIZE_PX) for n in (most, most // 2, most // 4)}
    spec = TileSpec(tiles.SIZE_PX, tiles.RESOLUTION_M)
    others = tiles.available(cases[most])
    others.pop("rioxarray", None)

    def of_peer(read: Callable[[np.ndarray], object], n: int) -> Work:
        sample = np.random.default_rng(n).choice(most, n, replace=False)
        return lambda: read(sample)

    contenders: dict[str, Contender] = {"ours": (sorted(cases), lambda n: partial(tiles.ours, cases[n], spec))}
    contenders |= {name: ((few // 2, few, 2 * few), partial(of_peer, read)) for name, read in others.items()}
    return grow("tiles of four granules", "tiles", contenders, rounds=options.rounds)


def grow_features(options: argparse.Namespace) -> dict[str, float]:
    side, most = (2048, 128) if options.quick else (4096, 1024)
    extractor = build({"name": "squeezenet1_1", "weights": None, "threads": 2})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        features.make_scene(path, side)

        def ours(n: int) -> Work:
            planned, _, _ = features.plan(path, n, features.SIZE_PX)
            return lambda: extract_array(extractor, planned, batch_size=32)

        contenders: dict[str, Contender] = {"ours": ((most // 4, most // 2, most), ours)}
        return grow("features of SqueezeNet", "tiles", contenders, rounds=options.rounds)


def grow_ridge(options: argparse.Namespace, *, by: str) -> dict[str, float]:
    p, n_clusters = (128, 200) if options.quick else (256, 1000)

    def work(method: str, n: int) -> Work:
        problem = ridge.Problem(n, p) if by == "clusters" else ridge.Problem(n_clusters, n)
        if method == "ours":
            return lambda: problem.nested(extrapolate=True)
        return lambda: problem.each_fold(problem.grid_search)

    if by == "clusters":
        own, theirs, what = (2000, 8000, 32_000), (500, 4000), f"ridge, {p} features"
    else:
        own, theirs, what = (1024, 4096, 16_384), (1024, 2048), f"ridge, {n_clusters} clusters"
    contenders: dict[str, Contender] = {
        "ours": (own, partial(work, "ours")),
        "grid_search": (theirs, partial(work, "grid_search")),
    }
    with threadpool_limits(1, user_api="blas"):
        return grow(what, by, contenders, rounds=options.rounds)


def grow_density(options: argparse.Namespace) -> dict[str, float]:
    side, cell_m = 10, 500.0

    def world(n: int) -> tuple[CellGrid, gpd.GeoDataFrame, np.ndarray]:
        """``n`` square zones of 100 cells, whose lines run beside the cells' own, and three covariates."""
        zones = round(n**0.5)
        rng, cells = np.random.default_rng(n), zones * side + 2
        grid = CellGrid.from_bounds(
            (0.0, 0.0, cells * cell_m, cells * cell_m), cell_m=cell_m, bounds_crs=6933, crs=6933
        )
        corner = (np.arange(zones) * side + 0.4) * cell_m
        west, south = (axis.ravel() for axis in np.meshgrid(corner, corner))
        boxes = shapely.box(west, south, west + side * cell_m, south + side * cell_m)
        table = {"id": np.arange(len(boxes)).astype(str), "people": rng.integers(100, 10_000, len(boxes)).astype(float)}
        layers = rng.normal(size=(3, grid.height, grid.width))
        return grid, gpd.GeoDataFrame(table, geometry=boxes, crs=as_crs(6933).to_wkt()), layers

    def ours(n: int) -> Work:
        grid, polygons, layers = world(n)

        def work() -> None:
            cells = zone_cells(read_zones(polygons, id_column="id", count_column="people"), grid)
            model = fit_density(cells, layers, names=("a", "b", "c"), model="loglinear")
            allocate(cells, model.predict(layers))

        return work

    def with_tobler(n: int) -> Work:
        import tobler.area_weighted

        grid, polygons, _ = world(n)
        x, y = (axis.ravel() for axis in grid.centres())
        half = cell_m / 2
        squares = gpd.GeoDataFrame(geometry=shapely.box(x - half, y - half, x + half, y + half), crs=polygons.crs)
        return lambda: tobler.area_weighted.area_interpolate(polygons, squares, extensive_variables=["people"])

    sizes = (100, 400, 1600) if options.quick else (400, 1600, 6400, 25_600)
    contenders: dict[str, Contender] = {"ours": (sizes, ours)}
    try:
        import tobler.area_weighted  # noqa: F401

        contenders["tobler"] = (sizes[:3], with_tobler)
    except ImportError:
        print("tobler: not installed, left out (pip install 'geopov[bench]')")
    return grow("density", "zones", contenders, rounds=options.rounds)


@contextmanager
def prepared(folder: Path, *, quick: bool) -> Iterator[dict[str, Contender]]:
    """Maps of one, four and sixteen blocks, workers and engines being there."""
    side_px, block_px = (4096, 512) if quick else (12_288, BLOCK_PX)
    scene = make_scene(folder, side_px)
    named = mapping.contenders(scene, mapping.SMALL, cell_m=1120.0, block_px=block_px)
    model = named["shared"].cell_model
    path = folder / ".growth.tif"

    def cells(n: int) -> Cells:
        return Cells.blocks(side_px, cell_m=1120.0, block_cells=model.block_cells, margin_m=3000, most=round(n**0.5))

    with open_run("threads", workers=mapping.WORKERS) as run:

        def ours(n: int) -> Work:
            def work() -> None:
                path.unlink(missing_ok=True)
                maps.predict(model, cells(n).grid, path=path, run=run)

            return work

        contenders: dict[str, Contender] = {"ours": ((1, 4, 16), ours)}
        if "odc_xarray" in named:
            contenders["odc_xarray"] = ((1, 4), lambda n: partial(named["odc_xarray"], cells(n)))
        yield contenders
    path.unlink(missing_ok=True)


def grow_map(options: argparse.Namespace) -> dict[str, float]:
    with prepared(options.data, quick=options.quick) as contenders:
        return grow(f"map by {mapping.SMALL}", "blocks", contenders, rounds=options.rounds)


PARTS: dict[str, Callable[[Any], dict[str, float]]] = {
    "tiles": grow_tiles,
    "features": grow_features,
    "ridge_clusters": partial(grow_ridge, by="clusters"),
    "ridge_features": partial(grow_ridge, by="features"),
    "density": grow_density,
    "map_area": grow_map,
}


def main() -> None:
    """Print tables for people and one JSON line for machines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: one to two minutes")
    parser.add_argument("--data", type=Path, default=Path("work/bench"), help="where scenes are made and kept")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--rounds", type=int, help="default 3, quick 2")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 3)
    result = {}
    for part in options.only:
        for name, value in PARTS[part](options).items():
            result[f"slope_{part}" if name == "ours" else f"slope_{part}_{name}"] = round(value, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
