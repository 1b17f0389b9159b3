"""What sharing the computation of a map costs in accuracy: three real places, features of clusters made both ways.

    python bench/sharing.py [--quick]

A ridge is fitted on features of crops, and a map applies it to features that were pooled out of large blocks. The two
differ where the network reaches beyond the context. Here the tile of every
cluster is cut out of the block of cells that it lies in, as a map cell's would be, and r² (squared Pearson) under
spatial blocks is compared, on the same clusters and folds: of crops without context, of crops with context, of shared
features trained and tested, and, as a map has it, trained on crops and applied to shared features. The network is
EfficientNet-Lite0 with its ImageNet weights, whose cells look 425 px far; context is what
:func:`geopov.features.choose_context` advises. Training
clusters whose tiles reach into test tiles are left out; their contexts may, so that folds are the same with and without
context, which favours all but "plain" alike. Intervals are 95% of a bootstrap over spatial blocks.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from geopov import survey
from geopov.features import Extractor, alignment_px, block_features, build, choose_context
from geopov.grid import CellGrid, transform_xy
from geopov.raster import Scene
from geopov.regression import SpatialBlocks, WelfareRidge, footprint_km
from geopov.regression.nested import nested_ridge
from geopov.regression.scores import compare, score
from geopov.study import extract_features, open_scenes
from geopov.study.cells import BLOCK_PX
from geopov.study.large_tiles import block_side_cells, on_one_grid, read_large_tile
from geopov.study.stages import scene_region
from geopov.tiles import TileSpec
from geopov.tiles.placement import place

DATA = Path(os.environ.setdefault("GEOPOV_REAL_DATA", str(Path(__file__).resolve().parents[2] / "shared/data")))
CELL_M = 2000.0
NETWORK = "efficientnet_lite0"
LIGHTS = {"bands": [1, 1, 1], "stretch": "log", "lo": 0.1, "hi": 60.0, "min_valid": 0.01}


@dataclass(frozen=True)
class Place:
    """Clusters, a scene, and how features are made there.

    Attributes
    ----------
    name : str
        Of the place and the size of the network's input.
    clusters : GeoDataFrame
        With ``outcome``.
    scenes : list of Scene
        What the network looks at.
    spec : TileSpec
        With context.
    network : dict
        Of the extractor.
    block_km : float
        Side of the spatial blocks.
    """

    name: str
    clusters: gpd.GeoDataFrame
    outcome: str
    scenes: list[Scene]
    spec: TileSpec
    network: dict[str, Any]
    block_km: float

    def extractor(self, context_px: int) -> Extractor:
        """Bound to the scene's bands."""
        built = build({"name": NETWORK, **self.network, "context_px": context_px})
        return built.for_bands(self.scenes[0].band_names)


def on_scenes(clusters: gpd.GeoDataFrame, scenes: list[Scene]) -> gpd.GeoDataFrame:
    """Those that lie on a scene."""
    points = clusters.to_crs("EPSG:4326").geometry
    return clusters[scene_region(scenes).contains(points.x.to_numpy(), points.y.to_numpy())].reset_index(drop=True)


def dhs(country: str) -> gpd.GeoDataFrame:
    path, where = DATA / "surveys/dhs_clusters.parquet", {"country": country}
    return survey.read_clusters(path, lon_column="lon", lat_column="lat", outcomes=["asset_wealth"], where=where)


def places(*, quick: bool) -> Iterator[Place]:
    """Kinshasa by day, Lesotho and Malawi by night; tiles as wide as in the studies of tests/real."""
    landsat = open_scenes([[str(DATA / "kinshasa/landsat8_l2sp_truecolor_20130728.tif")]])
    kinshasa = on_scenes(dhs("democratic_republic_of_congo"), landsat)
    # One tile as wide as the study's window of nine.
    seen = {"input_px": 128}
    for exact in (False, True):
        spec = with_context(128, 38.2, seen, exact=exact)
        yield Place(f"Kinshasa{', exact' * exact}", kinshasa, "asset_wealth", landsat, spec, seen, 10)
    if quick:
        return
    viirs = open_scenes([[str(DATA / "lesotho/viirs_nightlights.tif")]], nodata=-3.4028234663852886e38)
    lesotho = on_scenes(dhs("lesotho"), viirs)
    for input_px in (96, 224):
        seen = LIGHTS | {"input_px": input_px}
        for exact in (False, True):
            spec = with_context(24, 463, seen, exact=exact)
            yield Place(f"Lesotho, {input_px} px{', exact' * exact}", lesotho, "asset_wealth", viirs, spec, seen, 20)
    lights = open_scenes([[str(DATA / "malawi/ntl.tif")]])
    malawi = survey.lsms_clusters(
        "malawi_ihs5_2019",
        households=DATA / "malawi/ihs5_consumption_aggregate.dta",
        locations=DATA / "malawi/householdgeovariables_ihs5.dta",
    )
    seen = LIGHTS | {"input_px": 224}
    malawi = on_scenes(malawi, lights)
    for exact in (False, True):
        spec = with_context(16, 500, seen, exact=exact)
        yield Place(f"Malawi, 224 px{', exact' * exact}", malawi, "log_consumption_mwk", lights, spec, seen, 20)


def with_context(size_px: int, resolution_m: float, seen: dict[str, Any], *, exact: bool = False) -> TileSpec:
    """Tiles with as much context as is advised for the network, or as it can see."""
    choice = choose_context({"name": NETWORK, **seen}, size_px=size_px, exact=exact)
    return TileSpec(size_px, resolution_m, context_px=choice.context_px)


def shared_features(place_: Place) -> dict[str, np.ndarray]:
    """Features of each cluster by its id, pooled out of the block of cells that it lies in."""
    spec, extractor, scenes = place_.spec, place_.extractor(place_.spec.context_px), place_.scenes
    points = place_.clusters.to_crs("EPSG:4326")
    grid = CellGrid.from_bounds(tuple(points.total_bounds), cell_m=CELL_M)
    x, y = transform_xy("EPSG:4326", grid.crs, points.geometry.x.to_numpy(), points.geometry.y.to_numpy())
    column, row = (x - grid.transform.c) // CELL_M, (grid.transform.f - y) // CELL_M
    side = block_side_cells(spec, cell_m=CELL_M, block_px=BLOCK_PX, n_tiles=1, n_features=len(extractor.feature_names))
    align_px = alignment_px(extractor, size_px=spec.size_px)
    found: dict[str, np.ndarray] = {}
    for block in grid.blocks(side):
        inside = (column >= block.columns[0]) & (column < block.columns[1])
        inside &= (row >= block.rows[0]) & (row < block.rows[1])
        if not inside.any():
            continue
        # The block's own cells first, so that the large tile is the map's.
        cells = transform_xy(grid.crs, "EPSG:4326", *(axis.ravel() for axis in block.whole.centres()))
        there = points.geometry[inside]
        lon, lat = np.concatenate([cells[0], there.x]), np.concatenate([cells[1], there.y])
        names = points["cluster_id"].astype(str).to_numpy()[inside]
        laid = place(scenes, lon, lat, spec)
        for number in on_one_grid(laid):
            tile = read_large_tile(scenes, laid, number, spec, align_px=align_px)
            ours = tile.number >= len(cells[0])
            rows = block_features(
                extractor, tile.data, tile.valid, left=tile.left[ours], top=tile.top[ours], size_px=spec.size_px
            )
            known = ~np.isnan(rows).any(axis=1)
            found |= dict(zip(names[tile.number[ours] - len(cells[0])][known], rows[known], strict=True))
    return found


def measure(place_: Place) -> dict[str, Any]:
    """Scores of one place."""
    spec, context_px = place_.spec, place_.spec.context_px
    scenes, clusters = place_.scenes, place_.clusters
    plain = extract_features(scenes, clusters, replace(spec, context_px=0), place_.extractor(0))
    crops = extract_features(scenes, clusters, spec, place_.extractor(context_px))
    shared = shared_features(place_)
    ids = [i for i in crops["cluster_id"].to_numpy().tolist() if i in shared and i in plain["cluster_id"]]
    clusters = clusters.set_index(clusters["cluster_id"].astype(str)).loc[ids].reset_index(drop=True)
    X = {
        "plain": plain.sel(cluster=np.isin(plain["cluster_id"], ids)).to_numpy(),
        "crops": crops.sel(cluster=np.isin(crops["cluster_id"], ids)).to_numpy(),
        "shared": np.stack([shared[i] for i in ids]),
    }
    y = clusters[place_.outcome].to_numpy(dtype=float)
    splits = SpatialBlocks(block_km=place_.block_km, tile_km=footprint_km(plain.attrs))
    pairs, blocks = list(splits.split(clusters)), splits.block_ids(clusters)
    predicted = {
        name: nested_ridge(values.astype(float), y, pairs, groups=blocks).predicted[:, 0] for name, values in X.items()
    }
    # As a map has it.
    predicted["map"] = np.empty(len(y))
    for train, test in pairs:
        ridge = WelfareRidge().fit(X["crops"][train].astype(float), y[train], groups=blocks[train])
        predicted["map"][test] = ridge.predict(X["shared"][test].astype(float))
    others = {name: values for name, values in predicted.items() if name != "map"}
    differences = compare(y, predicted["map"], others, blocks, scores=("r2_pearson",), constant=())
    differences = differences.set_index("predictor")
    row = differences.loc["crops"]
    beside = np.linalg.norm(X["shared"] - X["crops"], axis=1) / np.linalg.norm(X["crops"], axis=1)
    return {
        "n": len(y),
        "context_px": context_px,
        "n_train": int(np.median([len(train) for train, _ in pairs])),
        **{f"r2_{name}": round(score(y, values)["r2_pearson"], 4) for name, values in predicted.items()},
        "map_minus_crops": round(float(row["difference"]), 4),
        "low": round(float(row["low"]), 4),
        "high": round(float(row["high"]), 4),
        "feature_difference": round(float(np.median(beside)), 4),
        "predictions_r": round(float(np.corrcoef(predicted["map"], predicted["crops"])[0, 1]), 4),
    }


def main() -> None:
    """Print a table of all places, and one JSON line: the largest difference, and every figure by place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Kinshasa only")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"there is no folder {DATA}; set GEOPOV_REAL_DATA.")
    columns = ("context", "n", "train", "plain", "crops", "shared", "map")
    head = "".join(f"{column:>8}" for column in columns)
    print(f"\n{'r² under spatial blocks':28}{head}   map minus crops (95%)   features differ")
    found = {}
    for place_ in places(quick=options.quick):
        row = found[place_.name] = measure(place_)
        sizes = "".join(f"{row[name]:8}" for name in ("context_px", "n", "n_train"))
        scores = "".join(f"{row[f'r2_{name}']:8.3f}" for name in ("plain", "crops", "shared", "map"))
        between = f"{row['map_minus_crops']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        print(f"{place_.name:28}{sizes}{scores}   {between}{row['feature_difference']:11.2%}", flush=True)
    print(json.dumps({"r2_difference": max(abs(row["map_minus_crops"]) for row in found.values()), "places": found}))


if __name__ == "__main__":
    main()
