"""The plan: which read units of which file each tile needs, before any is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geopov.raster import Level, RasterFile, Scene
from geopov.tiles.pieces import Pieces, make_pieces
from geopov.tiles.placement import Placement, place
from geopov.tiles.spec import TileSpec

__all__ = ["Plan", "Units", "make_plan", "plan_placed"]


@dataclass(frozen=True)
class Units:
    """Read units of all levels of all files, numbered through.

    Attributes
    ----------
    file, level : int array (k,)
        One row a level.
    first : int array (k + 1,)
        Number of the level's first unit.
    columns : int array (k,)
        Units across.
    bytes : int array (k,)
        Size of a decoded unit, mask included.
    """

    file: np.ndarray
    level: np.ndarray
    first: np.ndarray
    columns: np.ndarray
    bytes: np.ndarray

    def locate(self, unit: int) -> tuple[int, int, int, int]:
        """File, level, unit row and unit column."""
        k = int(np.searchsorted(self.first, unit, side="right")) - 1
        row, column = divmod(unit - int(self.first[k]), int(self.columns[k]))
        return int(self.file[k]), int(self.level[k]), row, column

    def bytes_of(self, units: np.ndarray) -> np.ndarray:
        """Decoded size of units."""
        sizes: np.ndarray = self.bytes[np.searchsorted(self.first, units, side="right") - 1]
        return sizes


@dataclass(frozen=True)
class Plan:
    """Everything about a reading that can be known before it.

    Attributes
    ----------
    spec : TileSpec
    scenes : tuple of Scene
    files : tuple of RasterFile
        Of all scenes, in order.
    placement : Placement
    pieces : Pieces
        Sorted by tile, rank, file.
    lattices : float array (w, 2, m, m)
        For WARP pieces: column and row in the level of m x m points spread evenly over the tile, edges included.
    units : Units
    touch_piece, touch_unit : int array (t,)
        Which units each piece touches; sorted by piece.
    """

    spec: TileSpec
    scenes: tuple[Scene, ...]
    files: tuple[RasterFile, ...]
    placement: Placement
    pieces: Pieces
    lattices: np.ndarray
    units: Units
    touch_piece: np.ndarray
    touch_unit: np.ndarray

    def __len__(self) -> int:
        return len(self.placement.scene)

    @property
    def n_bands(self) -> int:
        """Bands of a tile."""
        return len(self.scenes[0].band_names)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type that holds the pixels of all scenes."""
        return np.result_type(*(scene.dtype for scene in self.scenes))

    def level_number(self, file: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Number of levels counted through all files."""
        number: np.ndarray = _first_levels(self.files)[file] + level
        return number

    def per_level(self, attribute: str) -> np.ndarray:
        """An attribute of :class:`geopov.raster.Level` for all levels of all files."""
        return _per_level(self.files, attribute)

    @property
    def n_outside(self) -> int:
        """Tiles that no scene reaches."""
        return int((self.placement.scene < 0).sum())


def make_plan(scenes: Sequence[Scene], lon: np.ndarray, lat: np.ndarray, spec: TileSpec) -> Plan:
    """Plan the tiles of ``spec`` around points.

    Parameters
    ----------
    scenes : sequence of Scene
        With the same bands, in order of preference.
    lon, lat : array (n,)
        Tile centres in degrees.
    spec : TileSpec
        Size of the tiles.

    Raises
    ------
    TileError
        If no scene reaches any tile.
    """
    return plan_placed(scenes, place(scenes, lon, lat, spec), spec)


def plan_placed(scenes: Sequence[Scene], placement: Placement, spec: TileSpec) -> Plan:
    """Plan tiles that lie already."""
    files = tuple(file for scene in scenes for file in scene.files)
    pieces, lattices = make_pieces(scenes, placement, spec)
    units = _number_units(files)
    touch_piece, touch_unit = _touched(pieces, files, units)
    return Plan(spec, tuple(scenes), files, placement, pieces, lattices, units, touch_piece, touch_unit)


def _number_units(files: Sequence[RasterFile]) -> Units:
    levels = [(f, k, file, level) for f, file in enumerate(files) for k, level in enumerate(file.levels)]
    return Units(
        file=np.array([f for f, _, _, _ in levels]),
        level=np.array([k for _, k, _, _ in levels]),
        first=np.cumsum([0, *(level.unit_rows * level.unit_columns for _, _, _, level in levels)]),
        columns=np.array([level.unit_columns for _, _, _, level in levels]),
        bytes=np.array([_unit_bytes(file, level) for _, _, file, level in levels]),
    )


def _first_levels(files: Sequence[RasterFile]) -> np.ndarray:
    return np.cumsum([0, *(len(file.levels) for file in files)])


def _per_level(files: Sequence[RasterFile], attribute: str) -> np.ndarray:
    return np.array([getattr(level, attribute) for file in files for level in file.levels])


def _unit_bytes(file: RasterFile, level: Level) -> int:
    return level.unit_width * level.unit_height * (len(file.bands) * file.dtype.itemsize + int(file.may_be_invalid))


def _touched(pieces: Pieces, files: Sequence[RasterFile], units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of piece and unit, for windows cut at the file's edge; a piece wholly outside touches none."""
    k = _first_levels(files)[pieces.file] + pieces.level
    of = {name: _per_level(files, name)[k] for name in ("width", "height", "unit_width", "unit_height")}
    column0, column1 = np.maximum(pieces.column0, 0), np.minimum(pieces.column1, of["width"])
    row0, row1 = np.maximum(pieces.row0, 0), np.minimum(pieces.row1, of["height"])
    inside = (column0 < column1) & (row0 < row1)
    unit_column0, unit_row0 = column0 // of["unit_width"], row0 // of["unit_height"]
    across = np.where(inside, (column1 - 1) // of["unit_width"] - unit_column0 + 1, 0)
    down = np.where(inside, (row1 - 1) // of["unit_height"] - unit_row0 + 1, 0)
    count = across * down
    piece = np.repeat(np.arange(len(pieces)), count)
    nth = np.arange(len(piece)) - np.repeat(np.cumsum(count) - count, count)
    row, column = unit_row0[piece] + nth // across[piece], unit_column0[piece] + nth % across[piece]
    return piece, units.first[k[piece]] + row * units.columns[k[piece]] + column
