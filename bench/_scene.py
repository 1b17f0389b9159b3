"""One large scene from a seed, and rectangles of cells on it, for the benchmarks of maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from pyproj import CRS
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from geopov.grid import CellGrid

EPSG = 32736
RESOLUTION_M = 10.0
WEST, NORTH = 400_000.0, 8_000_000.0
BANDS = ("red", "green", "blue", "nir")
BLOCK_PX = 512
# What the scene's values are spread over, for the networks.
LOW, HIGH = 500.0, 4500.0


def make_scene(folder: Path, side_px: int) -> Path:
    """A 4-band uint16 deflate COG of 10 m pixels: structure from tens of metres to kilometres, and sharp noise on top.

    It deflates to about three quarters, as imagery does. Kept in ``folder`` for the next time.
    """
    path = folder / f"map_scene_{side_px}.tif"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    rng, period = np.random.default_rng(0), 2048
    layers = []
    for _ in BANDS:
        octaves = [gaussian_filter(rng.normal(size=(period, period)), s, mode="wrap") for s in (1.5, 6, 24, 96)]
        layers.append(sum(octave / octave.std() for octave in octaves) / 2)
    texture = np.stack(layers)
    texture = (2500 + 600 * texture + 25 * rng.normal(size=texture.shape)).clip(1, 10_000).astype(np.uint16)
    profile = {
        "driver": "GTiff", "width": side_px, "height": side_px, "count": len(BANDS), "dtype": "uint16", "tiled": True,
        "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "crs": f"EPSG:{EPSG}",
        "transform": Affine(RESOLUTION_M, 0, WEST, 0, -RESOLUTION_M, NORTH),
    }  # fmt: skip
    scratch, partial = folder / f".scratch_{side_px}.tif", folder / f".partial_{side_px}.tif"
    with rasterio.open(scratch, "w", **profile) as out:
        for top in range(0, side_px, period):
            for left in range(0, side_px, period):
                shift = tuple(rng.integers(0, period, 2))
                piece = np.roll(texture, shift, axis=(1, 2))[:, : side_px - top, : side_px - left]
                out.write(piece, window=Window(left, top, piece.shape[2], piece.shape[1]))
        out.descriptions = BANDS
    options = {"compress": "deflate", "predictor": "YES", "blocksize": BLOCK_PX, "overview_resampling": "average"}
    rasterio.shutil.copy(scratch, partial, driver="COG", **options)
    scratch.unlink()
    partial.rename(path)
    return path


@dataclass(frozen=True)
class Cells:
    """A rectangle of cells.

    Attributes
    ----------
    west, north : float
        Its corner, in the scene's CRS.
    rows, columns : int
        Cells.
    cell_m : float
        Side of a cell.
    """

    west: float
    north: float
    rows: int
    columns: int
    cell_m: float

    @classmethod
    def blocks(cls, side_px: int, *, cell_m: float, block_cells: int, margin_m: float, most: int) -> Cells:
        """Whole blocks, ``most`` by ``most`` or as many as fit ``margin_m`` inside the scene's edge."""
        block_m = block_cells * cell_m
        west = math.ceil((WEST + margin_m) / block_m) * block_m
        north = math.floor((NORTH - margin_m) / block_m) * block_m
        east, south = WEST + side_px * RESOLUTION_M - margin_m, NORTH - side_px * RESOLUTION_M + margin_m
        n = min(most, int((east - west) // block_m), int((north - south) // block_m))
        if n < 1:
            raise SystemExit(f"no block of {block_m:g} m fits a scene of {side_px} px; make the scene larger.")
        return cls(west, north, n * block_cells, n * block_cells, cell_m)

    def part(self, rows: int, columns: int) -> Cells:
        """The corner of it."""
        return Cells(self.west, self.north, min(rows, self.rows), min(columns, self.columns), self.cell_m)

    @property
    def grid(self) -> CellGrid:
        """As a map has it."""
        transform = Affine(self.cell_m, 0, self.west, 0, -self.cell_m, self.north)
        return CellGrid(CRS.from_epsg(EPSG), transform, self.columns, self.rows)

    @property
    def km2(self) -> float:
        """Area."""
        return self.rows * self.columns * (self.cell_m / 1000) ** 2

    @property
    def cell_px(self) -> int:
        """Side of a cell in pixels."""
        return round(self.cell_m / RESOLUTION_M)

    def tile_bounds(self, size_px: int) -> tuple[float, float, float, float]:
        """West, south, east, north of what the cells' tiles cover."""
        reach = (size_px - self.cell_px) / 2 * RESOLUTION_M
        east, south = self.west + self.columns * self.cell_m, self.north - self.rows * self.cell_m
        return self.west - reach, south - reach, east + reach, self.north + reach
