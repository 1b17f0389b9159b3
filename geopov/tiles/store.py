"""Tiles on disk: one memory-mapped array, one of bits, a GeoParquet index and a side-car of provenance."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np

from geopov._validation import check_columns, sha256_of
from geopov.errors import TileError
from geopov.raster import Scene
from geopov.tiles.batch import TileBatch
from geopov.tiles.spec import TileSpec

if TYPE_CHECKING:
    from geopov.tiles.tileset import TileSet

TILES, VALID, INDEX, SIDECAR = "tiles.npy", "valid.npy", "index.parquet", "tiles.json"
_FORMAT = 1

# Hashing a file takes seconds a gigabyte; above this a scene is known by its size and its two ends.
_HASH_WHOLE_BYTES = 256 << 20
_END_BYTES = 1 << 20


@dataclass(frozen=True)
class SavedTiles:
    """Tiles in a folder; a :class:`geopov.tiles.tileset.TileSource`.

    Attributes
    ----------
    folder : Path
    spec : TileSpec
    band_names : list of str
    index : GeoDataFrame
    data : array (tile, band, y, x)
        Memory map.
    bits : uint8 array (tile, y, ceil(x / 8))
        Memory map of the valid mask.
    scenes : list of dict
        Provenance.
    """

    folder: Path
    spec: TileSpec
    band_names: list[str]
    index: gpd.GeoDataFrame
    data: np.ndarray
    bits: np.ndarray
    scenes: list[dict[str, Any]]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return self.data.dtype

    def batches(self, batch_size: int, positions: np.ndarray | None = None) -> Iterator[TileBatch]:
        """Tiles in the order of the index."""
        size = self.spec.total_px
        rows = np.arange(len(self.data)) if positions is None else np.sort(positions)
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            valid = np.unpackbits(self.bits[part], axis=-1, count=size).view(bool)
            yield TileBatch(self.data[part], valid, part)

    def provenance(self) -> dict[str, Any]:
        """As it was written."""
        return {"scenes": self.scenes}


def save(tiles: TileSet, folder: Path, *, batch_size: int, progress: Callable[[int, int], None] | None) -> None:
    """Write tiles to a folder; see :meth:`geopov.tiles.TileSet.save`."""
    size, n = tiles.spec.total_px, len(tiles)
    with _atomic_folder(folder) as partial:
        data = np.lib.format.open_memmap(
            partial / TILES, mode="w+", dtype=tiles.dtype, shape=(n, tiles.n_bands, size, size)
        )
        bits = np.lib.format.open_memmap(partial / VALID, mode="w+", dtype=np.uint8, shape=(n, size, -(-size // 8)))
        done = 0
        for batch in tiles.iter_batches(batch_size):
            data[batch.positions] = batch.data
            bits[batch.positions] = np.packbits(batch.valid, axis=-1)
            done += len(batch)
            if progress:
                progress(done, n)
        data.flush()
        bits.flush()
        del data, bits
        tiles.index.to_parquet(partial / INDEX, index=False)
        sidecar = {
            "format": _FORMAT,
            "geopov": version("geopov"),
            "spec": tiles.spec.to_dict(),
            "bands": tiles.band_names,
            "dtype": tiles.dtype.name,
            "n_tiles": n,
            "n_outside": tiles.n_outside,
            **tiles.source.provenance(),
        }
        (partial / SIDECAR).write_text(json.dumps(sidecar, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> SavedTiles:
    """Open a folder of tiles; see :meth:`geopov.tiles.TileSet.open`."""
    if not (folder / SIDECAR).is_file():
        raise TileError(f"{folder} holds no saved tiles ({SIDECAR} is missing); write them with TileSet.save.")
    try:
        sidecar = json.loads((folder / SIDECAR).read_text())
        if sidecar["format"] != _FORMAT:
            raise TileError(
                f"{folder} is of format {sidecar['format']}; this version reads {_FORMAT}. Extract it again."
            )
        spec = TileSpec.from_dict(sidecar["spec"])
        data = np.load(folder / TILES, mmap_mode="r", allow_pickle=False)
        bits = np.load(folder / VALID, mmap_mode="r", allow_pickle=False)
        index = gpd.read_parquet(folder / INDEX)
    except TileError:
        raise
    # Each library reports a damaged file in its own way: JSON, numpy and Arrow by ValueError, an empty one by
    # EOFError.
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise TileError(f"the tiles in {folder} cannot be opened ({error}). Extract them again.") from error
    check_columns(index, ["tile_id", "cluster_id", "scene", "geometry"], f"{folder / INDEX}", TileError)
    n, size = sidecar["n_tiles"], spec.total_px
    expected = {
        TILES: ((n, len(sidecar["bands"]), size, size), sidecar["dtype"], data.shape, data.dtype.name),
        VALID: ((n, size, -(-size // 8)), "uint8", bits.shape, bits.dtype.name),
        INDEX: ((n,), "rows", (len(index),), "rows"),
    }
    for name, (shape, kind, found_shape, found_kind) in expected.items():
        if (shape, kind) != (found_shape, found_kind):
            raise TileError(
                f"{folder / name} holds {found_shape} {found_kind}, but {SIDECAR} says {shape} {kind}. "
                "The files do not belong together; extract the tiles again."
            )
    return SavedTiles(folder, spec, list(sidecar["bands"]), index, data, bits, list(sidecar["scenes"]))


def describe_scenes(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Name, CRS and file digests of scenes, without the folders they lie in."""
    return [
        {
            "name": scene.name,
            "crs": scene.crs.to_wkt(),
            "bands": scene.band_names,
            "files": [{"name": Path(file.path).name, **_digest(file.path)} for file in scene.files],
        }
        for scene in scenes
    ]


def _digest(path: str) -> dict[str, Any]:
    """The sha256 of a local file; above 256 MiB, that of its first and last MiB and its size."""
    file = Path(path)
    if not file.is_file():
        return {"uri": path}
    found = file.stat()
    return dict(_digest_of_bytes(path, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=1024)
def _digest_of_bytes(path: str, size: int, changed_ns: int) -> dict[str, Any]:
    # Kept while the file stays as it is: the strips of a map all look at the same scenes.
    file = Path(path)
    if size <= _HASH_WHOLE_BYTES:
        return {"sha256": sha256_of(file)}
    with file.open("rb") as stream:
        head = stream.read(_END_BYTES)
        stream.seek(-_END_BYTES, os.SEEK_END)
        ends = head + stream.read(_END_BYTES)
    return {"bytes": size, "sha256_of_ends": hashlib.sha256(ends).hexdigest()}


@contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder, renamed to ``folder`` when the block ends well and removed when it does not."""
    if folder.exists() and not (folder / SIDECAR).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise TileError(f"{folder} exists and holds no saved tiles; choose another name, so that nothing is lost.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial = folder.with_name(f".{folder.name}.{mark}.partial")
    replaced = folder.with_name(f".{folder.name}.{mark}.replaced")
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
