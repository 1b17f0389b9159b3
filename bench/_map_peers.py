"""The same map by others: torchgeo, rio-tiler, and odc-stac with xarray and Dask, as their documentation has it.

Each takes a rectangle of cells and gives one value a cell: the network's features averaged over the tile, times the
ridge's coefficients. All run the network as PyTorch makes it, in batches of 16 tiles with two threads, and the one that
computes chunks side by side with one thread each.
"""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from _scene import BANDS, EPSG, HIGH, LOW, RESOLUTION_M, Cells

BATCH = 16
WORKERS = 2


@dataclass(frozen=True)
class Network:
    """A trunk, what its images must look like, and the line behind it.

    Attributes
    ----------
    trunk : Module
        Images (n, 3, y, x) to a feature map.
    mean, std : sequence of float
        Of its images, on the scale 0 to 1.
    coef, intercept : array (n_features,), float
        From features to the value of a cell.
    size_px, context_px : int
        Side of a tile; what the sliding contender sees around it.
    """

    trunk: torch.nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    coef: np.ndarray
    intercept: float
    size_px: int
    context_px: int

    def feature_map(self, pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Of pixels (n, 3, y, x)."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        unit = ((torch.as_tensor(np.asarray(pixels, dtype=np.float32)) - LOW) / (HIGH - LOW)).clamp(0, 1)
        with torch.inference_mode():
            return self.trunk((unit - mean) / std)

    def values(self, chips: np.ndarray | torch.Tensor) -> np.ndarray:
        """Of tiles (n, 3, y, x)."""
        return self.feature_map(chips).mean((2, 3)).numpy() @ self.coef + self.intercept


Contender = Callable[[Cells], np.ndarray]


def peers(scene: Path, network: Network, *, chunk_px: int) -> dict[str, Contender]:
    """Those that are installed; the others are told of."""
    contenders: dict[str, tuple[tuple[str, ...], Contender]] = {
        "torchgeo": (("torchgeo",), lambda cells: with_torchgeo(scene, network, cells)),
        "rio_tiler": (("rio_tiler",), lambda cells: with_rio_tiler(scene, network, cells)),
        "odc_xarray": (
            ("odc.stac", "pystac", "xarray", "dask"),
            lambda cells: with_odc_xarray(scene, network, cells, chunk_px=chunk_px),
        ),
    }
    found = {}
    for name, (modules, run) in contenders.items():
        missing = [module for module in modules if not _installed(module)]
        if missing:
            print(f"{name}: {', '.join(missing)} not installed, left out (pip install 'geopov[bench]')")
        else:
            found[name] = run
    return found


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def with_torchgeo(scene: Path, network: Network, cells: Cells) -> np.ndarray:
    """A raster dataset, a grid sampler with one chip a cell, a data loader."""
    import shapely
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    class Scene(RasterDataset):
        all_bands = BANDS
        rgb_bands = BANDS[:3]

    torch.set_num_threads(WORKERS)
    dataset = Scene(str(scene), bands=BANDS[:3])
    size = network.size_px
    roi = shapely.box(*cells.tile_bounds(size))
    sampler = GridGeoSampler(dataset, size=size, stride=cells.cell_px, roi=roi)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)
    values = np.concatenate([network.values(batch["image"]) for batch in loader])
    # It goes from south to north.
    return values.reshape(cells.rows, cells.columns)[::-1]


def with_rio_tiler(scene: Path, network: Network, cells: Cells) -> np.ndarray:
    """A reader that stays open, and one part a cell."""
    from rio_tiler.io import Reader

    torch.set_num_threads(WORKERS)
    x, y = (axis.ravel() for axis in cells.grid.centres())
    reach = network.size_px / 2 * RESOLUTION_M
    values: list[np.ndarray] = []
    with Reader(str(scene)) as reader:
        crs = reader.dataset.crs
        for start in range(0, len(x), BATCH):
            chips = [
                reader.part(
                    (x[i] - reach, y[i] - reach, x[i] + reach, y[i] + reach),
                    dst_crs=crs,
                    bounds_crs=crs,
                    indexes=(1, 2, 3),
                ).array.data
                for i in range(start, min(start + BATCH, len(x)))
            ]
            values.append(network.values(np.stack(chips)))
    return np.concatenate(values).reshape(cells.rows, cells.columns)


def with_odc_xarray(scene: Path, network: Network, cells: Cells, *, chunk_px: int) -> np.ndarray:
    """A lazily loaded array in chunks of whole cells, over which the network slides with ``map_overlap``."""
    import dask.array as da
    import odc.stac

    per_chunk = max(1, chunk_px // cells.cell_px)
    depth = network.context_px + max(0, (network.size_px - cells.cell_px) // 2)
    west, south, east, north = cells.grid.bounds
    half = RESOLUTION_M / 2
    loaded = odc.stac.load(
        [stac_item(scene)],
        bands=list(BANDS[:3]),
        crs=f"EPSG:{EPSG}",
        resolution=RESOLUTION_M,
        x=(west + half, east - half),
        y=(south + half, north - half),
        chunks={"x": per_chunk * cells.cell_px, "y": per_chunk * cells.cell_px},
    )
    pixels = loaded.isel(time=0).to_array("band").data.rechunk({0: -1})
    pools: dict[int, np.ndarray] = {}

    def slide(block: np.ndarray) -> np.ndarray:
        """Values of the cells of one chunk with its surroundings (3, y, x)."""
        feature_map = network.feature_map(block[None])[0].numpy()
        rows, columns = (
            _pool(pools, side, n, cells.cell_px, depth, network.size_px)
            for side, n in zip(block.shape[1:], feature_map.shape[1:], strict=True)
        )
        # The line first: one plane is left to average instead of hundreds.
        plane = np.tensordot(network.coef.astype(np.float32), feature_map, axes=1)
        return rows @ plane @ columns.T + np.float32(network.intercept)

    torch.set_num_threads(1)
    per_axis = [tuple(n // cells.cell_px for n in sizes) for sizes in pixels.chunks[1:]]
    values = da.map_overlap(
        slide,
        pixels,
        depth={0: 0, 1: depth, 2: depth},
        boundary="reflect",
        trim=False,
        drop_axis=0,
        chunks=tuple(per_axis),
        dtype=np.float32,
        meta=np.empty((0, 0), dtype=np.float32),
    )
    return values.compute(scheduler="threads", num_workers=WORKERS)


def _pool(known: dict[int, np.ndarray], side_px: int, n: int, cell_px: int, depth_px: int, size_px: int) -> np.ndarray:
    """Weights (cells, n) that average ``n`` steps along ``side_px`` pixels over the tile of each cell."""
    if side_px not in known:
        edges = np.linspace(0, side_px, n + 1)
        middles = depth_px + cell_px / 2 + cell_px * np.arange((side_px - 2 * depth_px) // cell_px)
        low, high = middles[:, None] - size_px / 2, middles[:, None] + size_px / 2
        overlap = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
        known[side_px] = (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
    return known[side_px]


def stac_item(scene: Path) -> Any:
    """The scene as an item of a catalogue, its bands by name."""
    import pystac
    import shapely
    from pyproj import Transformer

    with rasterio.open(scene) as dataset:
        bounds, shape, transform = dataset.bounds, dataset.shape, dataset.transform
    lonlat = Transformer.from_crs(EPSG, 4326, always_xy=True).transform_bounds(*bounds)
    item = pystac.Item(
        id=scene.stem,
        geometry=shapely.geometry.mapping(shapely.box(*lonlat)),
        bbox=list(lonlat),
        datetime=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        properties={"proj:code": f"EPSG:{EPSG}", "proj:shape": list(shape), "proj:transform": list(transform)[:6]},
        stac_extensions=[
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
    )
    asset = pystac.Asset(
        href=str(scene.resolve()),
        media_type=pystac.MediaType.COG,
        roles=["data"],
        extra_fields={
            "eo:bands": [{"name": name, "common_name": name} for name in BANDS],
            "raster:bands": [{"data_type": "uint16"} for _ in BANDS],
        },
    )
    item.add_asset("pixels", asset)
    return item
