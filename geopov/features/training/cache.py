"""The tiles of a training in one memory map: read from their scenes once, and drawn from in any order after that."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError
from geopov.features._input import Array, enough_valid
from geopov.features._prefetch import prefetch
from geopov.features.extract import Tiles

__all__ = ["TileCache", "fill_cache"]

PIXELS, VALID, USABLE, MARK = "pixels.npy", "valid.npy", "usable.npy", "cache.json"
_READ_AT_ONCE = 256


@dataclass(frozen=True)
class TileCache:
    """Some tiles and some of their bands, on disk.

    Attributes
    ----------
    pixels : array (n, band, y, x)
        Memory map.
    bits : uint8 array (n, y, ceil(x / 8)) or None
        Memory map of the valid mask; None where every pixel of a usable tile is valid.
    usable : bool array (n,)
        Which tiles have enough valid pixels.
    """

    pixels: Array
    bits: npt.NDArray[np.uint8] | None
    usable: npt.NDArray[np.bool_]

    @classmethod
    def open(cls, folder: Path) -> TileCache:
        """A cache that :func:`fill_cache` wrote."""
        whole = json.loads((folder / MARK).read_text())["whole"]
        return cls(
            pixels=np.load(folder / PIXELS, mmap_mode="r"),
            bits=None if whole else np.load(folder / VALID, mmap_mode="r"),
            usable=np.load(folder / USABLE),
        )

    def valid(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_] | None:
        """Mask (row, y, x) of some tiles; None where all is valid."""
        if self.bits is None:
            return None
        return np.unpackbits(self.bits[rows], axis=-1, count=self.pixels.shape[-1]).view(bool)


def fill_cache(
    folder: Path,
    tiles: Tiles,
    *,
    positions: npt.NDArray[np.intp],
    bands: list[int],
    min_valid: float,
    identity: dict[str, Any],
) -> TileCache:
    """Read tiles into ``folder``, or open what an earlier run with the same ``identity`` read.

    Parameters
    ----------
    folder : Path
        Appears under its name when it is complete.
    tiles : TileSet
        Read once, in the order that is fastest.
    positions : int array (n,)
        Which tiles, by row of their index; the cache is in this order.
    bands : list of int
        Which bands, from 0.
    min_valid : float
        Share of valid pixels below which a tile is not usable.
    identity : dict
        JSON types; a cache with another is written anew.
    """
    mark = {"identity": identity, "n": len(positions), "bands": bands}
    if (folder / MARK).is_file():
        found = json.loads((folder / MARK).read_text())
        if {key: found.get(key) for key in mark} == mark:
            return TileCache.open(folder)
        shutil.rmtree(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    # What a killed run left; its name is fixed so that nothing piles up.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    whole = _read(partial, tiles, positions, bands, min_valid)
    (partial / MARK).write_text(json.dumps(mark | {"whole": whole}))
    partial.replace(folder)
    return TileCache.open(folder)


def _read(partial: Path, tiles: Tiles, positions: npt.NDArray[np.intp], bands: list[int], min_valid: float) -> bool:
    n = len(positions)
    rows = np.full(len(tiles), -1, dtype=np.intp)
    rows[positions] = np.arange(n)
    pixels = bits = None
    usable = np.zeros(n, dtype=bool)
    whole, done = True, 0
    for batch in prefetch(tiles.iter_batches(_READ_AT_ONCE)):
        row = rows[batch.positions]
        chosen = row >= 0
        data, valid, row = batch.data[chosen][:, bands], batch.valid[chosen], row[chosen]
        if pixels is None or bits is None:
            side = valid.shape[-1]
            pixels = _memmap(partial / PIXELS, data.dtype, (n, *data.shape[1:]))
            bits = _memmap(partial / VALID, np.dtype(np.uint8), (n, side, -(-side // 8)))
        if not len(row):
            continue
        pixels[row], bits[row] = data, np.packbits(valid, axis=-1)
        size_px = valid.shape[-1] - 2 * tiles.spec.context_px
        usable[row] = enough_valid(valid, size_px=size_px, min_valid=min_valid)
        whole &= bool(valid[usable[row]].all())
        done += len(row)
    if done != n or pixels is None or bits is None:
        raise FeatureError(f"{done} of {n} tiles were read; the tiles' index and their data do not fit together.")
    pixels.flush()
    bits.flush()
    np.save(partial / USABLE, usable)
    return whole


def _memmap(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
