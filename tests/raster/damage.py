"""Damage GeoTIFFs where it is wanted."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import rasterio


def compressible(seed: int, bands: int, height: int, width: int, dtype: str = "uint16") -> np.ndarray:
    """Small seeded values from 1. Deflate gives them codes, which damage breaks; noise it stores as it is."""
    return np.random.default_rng(seed).integers(1, 200, (bands, height, width)).astype(dtype)


def damage(
    path: Path,
    blocks: Collection[tuple[int, int]],
    *,
    to: Path | None = None,
    band: int = 1,
    overview: int | None = None,
) -> Path:
    """Overwrite the middle of compressed blocks, given as row and column of the block; their place is kept."""
    if to is not None:
        path = Path(shutil.copyfile(path, to))
    spans = []
    with rasterio.open(path) if overview is None else rasterio.open(path, overview_level=overview) as dataset:
        for row, column in blocks:
            offset, size = (
                int(dataset.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band, ovr=None))
                for what in ("OFFSET", "SIZE")
            )
            spans.append((offset + size // 3, size // 3))
    with path.open("r+b") as file:
        for start, length in spans:
            file.seek(start)
            file.write(np.random.default_rng(start).bytes(length))
    return path
