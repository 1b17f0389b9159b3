"""Blocks of cells through a fitted model: what a map is predicted with.

Clusters and cells walk one path, points -> tiles -> features; the map has none of its own. Where the extractor can be
slid over a large image, neighbouring cells share the computation.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov import __version__, tiles
from geopov import features as feature_stage
from geopov._validation import check_positive
from geopov.errors import StudyError
from geopov.features import Extractor
from geopov.grid import CellBlock, transform_xy
from geopov.maps import BlockValues
from geopov.raster import Scene, Unreadable
from geopov.regression import WelfareModel
from geopov.study.large_tiles import block_side_cells, large_tile_px, large_tiles
from geopov.study.stages import extract_features, scene_region
from geopov.tiles.store import describe_scenes

__all__ = ["BLOCK_PX", "CellModel", "Mode", "Transform"]

Transform = Literal["none", "exp"]
Mode = Literal["auto", "shared", "crops"]

BLOCK_PX = 2048
"""Side of a block in pixels of the tiles, where the computation is shared."""

# Where it is not, so many cells a side: enough for neighbours to share what is decoded.
_CROP_BLOCK_CELLS = 64
# As :func:`geopov.features.extract` and :func:`geopov.tiles.extract` have them.
_BATCH, _CACHE_MB = 256, 256

_OF_THIS_PROCESS = ("_lock", "_extractor", "_computing")


class CellModel:
    """A fitted model that looks at scenes: a block of cells in, predictions out.

    Every block is computed by itself, whole and with one thread, so that a cell's numbers depend neither on the region
    nor on who computes it. May be called by several threads and sent to other processes.

    Parameters
    ----------
    scenes : sequence of Scene
        What the model looks at.
    model : WelfareModel
        Carries the extractor, tile spec and window its features were made with, so that cells are treated as the
        clusters were.
    cell_m : float
        Side of the cells.
    transform : {"none", "exp"}
        Applied to mean and bounds; "exp" turns the prediction of a logarithm into its unit, as the median.
    unit, description : str, optional
        What the bands are in after the transformation; default the model's.
    mode : {"auto", "shared", "crops"}
        "shared": networks are slid over each block once, and their final map is averaged over each cell's tile. Needs
        features made with context (``context_px``), since those of tiles cut short differ by a quarter and more.
        "crops": one crop a cell. "auto": shared where that is possible.
    block_px : int
        Side of a block, in pixels of the tiles, in shared mode. Larger blocks read and compute less at their borders
        and take more memory. Numbers depend on it as far as the context is shorter than the network's reach.
    strict : bool
        Pixels that cannot be read are an error; otherwise they count as missing and are told of with the block.

    Attributes
    ----------
    band_names : tuple of str
        ``mean``, ``lower``, ``upper``, ``in_support`` (1 or 0).
    units : tuple of str
        One a band.
    block_cells : int
        Side of the blocks in cells.
    fingerprint : str
        Changes with everything that the numbers depend on.
    """

    band_names = ("mean", "lower", "upper", "in_support")

    def __init__(
        self,
        scenes: Sequence[Scene],
        model: WelfareModel,
        *,
        cell_m: float,
        transform: Transform = "none",
        unit: str | None = None,
        description: str | None = None,
        mode: Mode = "auto",
        block_px: int = BLOCK_PX,
        strict: bool = False,
    ) -> None:
        if not model.extractor or not model.tile_spec:
            raise StudyError(
                "the model does not say how its features were made; fit it on what `geopov features extract` wrote."
            )
        if mode not in get_args(Mode):
            raise StudyError(f"mode is {mode!r}; expected one of {', '.join(get_args(Mode))}.")
        check_positive(cell_m, "cell_m", StudyError)
        check_positive(block_px, "block_px", StudyError)
        self.block_px, self._cell_m = int(block_px), cell_m
        self.scenes = list(scenes)
        self._ground = scene_region(scenes)
        self.model = model
        self.transform = transform
        unit = model.unit if unit is None else unit
        self.units = (unit, unit, unit, "1 = inside the training data, 0 = outside")
        self.description = description or model.outcome
        self.spec = tiles.TileSpec.from_dict(model.tile_spec)
        self._window = {"window_km": None, "n_tiles": 1} | dict(model.window)
        self._lock = threading.Lock()
        self._extractor: Extractor | None = None
        self.mode = self._choose(mode)
        self.block_cells = _CROP_BLOCK_CELLS
        if self.mode == "shared":
            self.block_cells = block_side_cells(
                self.spec,
                cell_m=cell_m,
                block_px=self.block_px,
                n_tiles=self._window["n_tiles"],
                n_features=len(model.feature_names),
            )
        self._strict = strict
        self._computing: AbstractContextManager[Any] = nullcontext()
        self.fingerprint = self._fingerprint()

    def _choose(self, mode: Mode) -> Literal["shared", "crops"]:
        shares = feature_stage.shares_computation(self.extractor, size_px=self.spec.size_px)
        if mode == "shared" and not shares:
            raise StudyError(
                f"the extractor {self.extractor.name!r} with context_px={self.spec.context_px} cannot be slid over a "
                "block. It takes a network whose reach is bounded, and clusters whose features were extracted with "
                "enough context_px: `geopov features context NAME` tells how much. Or map with mode 'crops'."
            )
        return "shared" if shares and mode != "crops" else "crops"

    @property
    def extractor(self) -> Extractor:
        """Bound to the scenes' bands; made when first asked for, in each process."""
        with self._lock:
            if self._extractor is None:
                built = feature_stage.build(_with_one_thread(self.model.extractor))
                self._extractor = built.for_bands(self.scenes[0].band_names)
            return self._extractor

    def compute_at_once(self, blocks: int) -> None:
        """Of this process's threads so many compute features of a block at most; further ones read pixels ahead."""
        self._computing = threading.BoundedSemaphore(blocks)

    def __getstate__(self) -> dict[str, Any]:
        # Networks and their engines are made again where they are needed.
        return {key: value for key, value in vars(self).items() if key not in _OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_lock": threading.Lock(), "_extractor": None, "_computing": nullcontext()})

    def _fingerprint(self) -> str:
        fitted = self.model
        arrays = [fitted.coef, fitted.low, fitted.high, fitted.support.directions, fitted.support.gain]
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        # What the extractor says of itself includes the engine that is at work here.
        facts: list[Any] = [__version__, self.extractor.provenance(), fitted.tile_spec, fitted.window, fitted.intercept]
        facts += [fitted.intervals.to_dict(), fitted.deshrinkage.to_dict(), fitted.support_limit]
        facts += [self.transform, self.units, self.mode, self.block_cells, describe_scenes(self.scenes)]
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    @property
    def block_bytes(self) -> int:
        """About what computing one block takes in memory, beside what the process holds already."""
        n_cells, n_tiles = self.block_cells**2, int(self._window["n_tiles"])
        features: int = 8 * len(self.model.feature_names) * n_cells * n_tiles
        if self.mode == "crops":
            # Three batches of crops and their masks, the blocks they are cut from, and the features of all.
            crops = 3 * min(_BATCH, n_cells * n_tiles) * self.spec.total_px**2 * self._pixel_bytes
            return crops + (_CACHE_MB << 20) + 8 * len(self.model.feature_names) * n_cells
        computed = feature_stage.block_bytes(self.extractor, self._side_px, size_px=self.spec.size_px)
        return self.read_bytes + features + computed

    @property
    def read_bytes(self) -> int:
        """About what one block that is read ahead takes in memory, in shared mode."""
        return 2 * self._side_px**2 * self._pixel_bytes

    @property
    def _side_px(self) -> int:
        return large_tile_px(self.spec, self.block_cells * self._cell_m, self._window["window_km"])

    @property
    def _pixel_bytes(self) -> int:
        """Of all bands of a pixel, and its place in the mask."""
        return len(self.scenes[0].band_names) * max(scene.dtype.itemsize for scene in self.scenes) + 1

    def __call__(self, block: CellBlock, inside: npt.NDArray[np.bool_]) -> BlockValues:
        """Predictions for the cells of a block that are ``inside`` (rows, columns); NaN where nothing is seen."""
        x, y = block.centres()
        lon, lat = transform_xy(block.grid.crs, "EPSG:4326", x, y)
        values = np.full((len(self.band_names), *x.shape), np.nan, dtype=np.float32)
        # A map may reach beyond its scenes, a prediction may not.
        wanted = inside & self._ground.contains(lon, lat)
        if not wanted.any():
            return BlockValues(values)
        unreadable: set[Unreadable] = set()
        report = None if self._strict else unreadable.add
        with feature_stage.one_thread():
            if self.mode == "shared":
                rows = self._slide(block, wanted, report)
            else:
                rows = self._crop(lon[wanted], lat[wanted], report)
            values[:, wanted] = self._predict(rows)
        return BlockValues(values, tuple(sorted(map(str, unreadable))))

    def _crop(self, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64], report: Any) -> npt.NDArray[np.float32]:
        """Features (n, p), one crop or window of crops a cell."""
        cells = gpd.GeoDataFrame(
            {"cluster_id": np.arange(len(lon)).astype(str)}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
        )
        array = extract_features(
            self.scenes, cells, self.spec, self.extractor, on_unreadable=report, threads=1, **self.model.window
        )
        rows = np.full((len(lon), len(self.model.feature_names)), np.nan, dtype=np.float32)
        rows[array["cluster_id"].to_numpy().astype(int)] = array.to_numpy()
        return rows

    def _slide(self, block: CellBlock, wanted: npt.NDArray[np.bool_], report: Any) -> npt.NDArray[np.float32]:
        """Features (n, p) out of large tiles."""
        align_px = feature_stage.alignment_px(self.extractor, size_px=self.spec.size_px)
        whole = np.zeros((block.cells, block.cells), dtype=bool)
        row, column = block.rows[0] - block.whole_row, block.columns[0] - block.whole_column
        whole[row : row + wanted.shape[0], column : column + wanted.shape[1]] = wanted
        n_tiles = int(self._window["n_tiles"])
        asked = np.repeat(whole.ravel(), n_tiles)
        place_of = np.cumsum(asked) - 1
        rows = np.full((int(asked.sum()), len(self.model.feature_names)), np.nan, dtype=np.float32)
        for tile in large_tiles(
            self.scenes,
            block,
            self.spec,
            **self._window,
            align_px=align_px,
            wanted=whole.ravel(),
            on_unreadable=report,
        ):
            kept = asked[tile.number]
            with self._computing:
                rows[place_of[tile.number[kept]]] = feature_stage.block_features(
                    self.extractor,
                    tile.data,
                    tile.valid,
                    left=tile.left[kept],
                    top=tile.top[kept],
                    size_px=self.spec.size_px,
                )
        return rows if n_tiles == 1 else _mean_of_valid(rows.reshape(-1, n_tiles, rows.shape[1]))

    def _predict(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        table = self.model.predict(rows)
        values = table[list(self.band_names)].to_numpy(dtype=np.float64).T
        if self.transform == "exp":
            values[:3] = np.exp(values[:3])
        # Where nothing is seen, nothing is said of the support either.
        values[:, ~np.isfinite(rows).all(axis=1)] = np.nan
        return values


def _mean_of_valid(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean (cell, feature) over the tiles (cell, tile, feature) that have features; NaN where none has."""
    used: npt.NDArray[np.bool_] = np.all(np.isfinite(rows), axis=2)
    total = np.where(used[..., None], rows, 0).sum(axis=1, dtype=np.float64)
    count = used.sum(axis=1)
    mean = np.full(total.shape, np.nan, dtype=np.float32)
    mean[count > 0] = total[count > 0] / count[count > 0, None]
    return mean


def _with_one_thread(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of an extractor whose networks compute with one thread, or of any other as it is."""
    if "parts" in spec:
        return dict(spec) | {"parts": [_with_one_thread(part) for part in spec["parts"]]}
    return dict(spec) | ({"threads": 1} if "weights" in spec else {})
