"""A sequence of tiles: read by plan from scenes, or from the folder where it was saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from pyproj import CRS

from geopov._validation import ID_COLUMN, atomic_path
from geopov.errors import TileError
from geopov.tiles import store
from geopov.tiles.batch import TileBatch, TileSource
from geopov.tiles.placement import Placement
from geopov.tiles.spec import TileSpec

__all__ = ["TileSet"]

Progress = Callable[[int, int], None]


class TileSet:
    """Tiles, read when they are asked for.

    Attributes
    ----------
    spec : TileSpec
        Size of the tiles.
    band_names : list of str
        In the order of the data's axis 1.
    dtype : dtype
        Of the pixels.
    index : GeoDataFrame
        EPSG:4326; one row a tile: ``tile_id``, ``cluster_id`` of its owner, ``scene`` ("" where none reaches),
        ``left``, ``top``, ``pixel_width``, ``pixel_height`` (the tile's grid in the scene's CRS), and the tile's
        centre as geometry.
    source : TileSource
        Where the pixels come from.
    """

    def __init__(
        self,
        *,
        spec: TileSpec,
        band_names: Sequence[str],
        dtype: np.dtype[Any],
        index: gpd.GeoDataFrame,
        source: TileSource,
    ) -> None:
        self.spec = spec
        self.band_names = list(band_names)
        self.dtype = np.dtype(dtype)
        self.index = index
        self.source = source

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        size = self.spec.total_px
        return f"<TileSet of {len(self)} tiles, {self.n_bands} bands, {size} x {size} px, {self.dtype}>"

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self.band_names)

    @property
    def n_outside(self) -> int:
        """Tiles that no scene reaches; they are all invalid."""
        return int((self.index["scene"] == "").sum())

    def iter_batches(self, batch_size: int = 256) -> Iterator[TileBatch]:
        """Batches in read order: scene by scene, block by block, not the order of the index.

        Parameters
        ----------
        batch_size : int
            Tiles a batch; about three batches are in memory at a time.

        Raises
        ------
        RasterError
            If pixels cannot be read.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise TileError(f"batch_size is {batch_size!r}; expected a whole number, at least 1.")
        return self.source.batches(int(batch_size))

    def read(self, positions: Sequence[int] | np.ndarray) -> TileBatch:
        """Tiles at some rows of the index, in the order given.

        Raises
        ------
        TileError
            If a position is not in the index.
        """
        wanted = np.atleast_1d(np.asarray(positions, dtype=np.int64))
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise TileError(
                f"positions reach from {wanted.min()} to {wanted.max()}; the tiles are 0 to {len(self) - 1}."
            )
        size = self.spec.total_px
        data = np.zeros((len(wanted), self.n_bands, size, size), dtype=self.dtype)
        valid = np.zeros((len(wanted), size, size), dtype=bool)
        distinct, back = np.unique(wanted, return_inverse=True)
        for batch in self.source.batches(256, distinct):
            rows = np.flatnonzero(np.isin(back, np.searchsorted(distinct, batch.positions)))
            order = np.argsort(batch.positions)
            from_batch = order[np.searchsorted(batch.positions[order], wanted[rows])]
            data[rows], valid[rows] = batch.data[from_batch], batch.valid[from_batch]
        return TileBatch(data, valid, wanted)

    def save(self, folder: str | Path, *, batch_size: int = 256, progress: Progress | None = None) -> TileSet:
        """Write all tiles to a folder, from where they are read back at memory speed.

        ``tiles.npy`` (tile, band, y, x), ``valid.npy`` (bits along x), ``index.parquet`` and ``tiles.json``. The
        folder appears under its name when it is complete, and replaces one of tiles that was there.

        Parameters
        ----------
        folder : path
            To be written.
        batch_size : int
            Tiles read at a time.
        progress : callable, optional
            Called with the number of tiles done and in all.

        Returns
        -------
        TileSet
            Reading from the folder.
        """
        store.save(self, Path(folder), batch_size=batch_size, progress=progress)
        return TileSet.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> TileSet:
        """Tiles that :meth:`save` wrote.

        Raises
        ------
        TileError
            If the folder holds no tiles, or a file is cut short or belongs to others.
        """
        saved = store.load(Path(folder))
        return cls(spec=saved.spec, band_names=saved.band_names, dtype=saved.dtype, index=saved.index, source=saved)

    def write_geotiffs(
        self, folder: str | Path, *, batch_size: int = 256, progress: Progress | None = None
    ) -> list[Path]:
        """Write one georeferenced GeoTIFF a tile, with a mask where pixels are invalid.

        Tiles that no scene reaches have no grid and are left out. Files are named by the tile's id, with characters
        other than letters, digits, ``-``, ``_`` and ``.`` replaced by ``_`` and the position put before where two
        names would meet.

        Returns
        -------
        list of Path
            In the order of the index.
        """
        folder = Path(folder)
        names = _file_names(self.index["tile_id"].tolist())
        crs = {scene["name"]: CRS.from_wkt(scene["crs"]) for scene in self.source.provenance()["scenes"]}
        table = self.index[["scene", "left", "top", "pixel_width", "pixel_height"]].to_numpy(dtype=object)
        written: dict[int, Path] = {}
        done = 0
        for batch in self.iter_batches(batch_size):
            for data, valid, position in zip(batch.data, batch.valid, batch.positions.tolist(), strict=True):
                scene, left, top, width, height = table[position]
                if scene:
                    written[position] = folder / f"{names[position]}.tif"
                    grid = Affine(width, 0, left, 0, -height, top)
                    _write_geotiff(
                        written[position], data, valid, crs=crs[scene], transform=grid, bands=self.band_names
                    )
            done += len(batch)
            if progress:
                progress(done, len(self))
        return [written[position] for position in sorted(written)]


def make_index(table: gpd.GeoDataFrame, scenes: Sequence[str], placement: Placement) -> gpd.GeoDataFrame:
    """The index of tiles placed around a table of points with ``tile_id`` and ``cluster_id``."""
    names = np.array([*scenes, ""], dtype=object)
    return gpd.GeoDataFrame(
        {
            "tile_id": table["tile_id"].to_numpy(dtype=object),
            ID_COLUMN: table[ID_COLUMN].to_numpy(dtype=object),
            "scene": names[placement.scene],
            "left": placement.left,
            "top": placement.top,
            "pixel_width": placement.dx,
            "pixel_height": placement.dy,
        },
        geometry=table.geometry.to_numpy(),
        crs=table.crs,
    )


def _file_names(tile_ids: Sequence[str]) -> list[str]:
    safe = [
        "".join(c if c.isalnum() or c in "-_." else "_" for c in tile_id).lstrip(".") or "_" for tile_id in tile_ids
    ]
    # Some file systems hold A and a for one name.
    lowered = [name.lower() for name in safe]
    repeated = {name for name in lowered if lowered.count(name) > 1} if len(set(lowered)) < len(lowered) else set()
    return [f"{i}_{name}" if name.lower() in repeated else name for i, name in enumerate(safe)]


def _write_geotiff(
    path: Path, data: np.ndarray, valid: np.ndarray, *, crs: CRS, transform: Affine, bands: Sequence[str]
) -> None:
    profile = {
        "driver": "GTiff",
        "count": data.shape[0],
        "height": data.shape[1],
        "width": data.shape[2],
        "dtype": data.dtype.name,
        "crs": crs.to_wkt(),
        "transform": transform,
        "compress": "deflate",
    }
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        atomic_path(path) as partial,
        rasterio.open(partial, "w", **profile) as dataset,
    ):
        dataset.write(data)
        dataset.descriptions = tuple(bands)
        if not valid.all():
            dataset.write_mask(valid)
