"""Pieces: which pixels of which file a tile needs, and how they come onto its grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from geopov.grid import transform_xy
from geopov.raster import RasterFile, Scene
from geopov.tiles.placement import NATIVE_TOLERANCE, Placement, unwrap
from geopov.tiles.spec import TileSpec

__all__ = ["COPY", "LINEAR", "WARP", "Pieces", "make_pieces"]

COPY, LINEAR, WARP = 0, 1, 2
"""How a piece gets its pixels: as they are; weighted along each axis; gathered through another CRS."""

# Rounding of window edges must not pull in a row of pixels that carries no weight.
_EDGE = 1e-6


@dataclass(frozen=True)
class Pieces:
    """What tiles need of files: one row for each tile, scene asked and file. Arrays (p,).

    Attributes
    ----------
    tile, rank, scene, file, level : int
        ``file`` counts through the files of all scenes, ``level`` within the file.
    kind : int
        COPY, LINEAR or WARP.
    x0, y0 : float
        The tile's left and top edge in pixels of the level. WARP: unused.
    rx, ry : float
        Size of a tile pixel in pixels of the level.
    column0, row0, column1, row1 : int
        Window of pixels that carry weight, end exclusive; may reach beyond the file.
    lattice : int
        WARP: row of :attr:`Plan.lattices`; else -1.
    """

    tile: np.ndarray
    rank: np.ndarray
    scene: np.ndarray
    file: np.ndarray
    level: np.ndarray
    kind: np.ndarray
    x0: np.ndarray
    y0: np.ndarray
    rx: np.ndarray
    ry: np.ndarray
    column0: np.ndarray
    row0: np.ndarray
    column1: np.ndarray
    row1: np.ndarray
    lattice: np.ndarray

    def take(self, rows: np.ndarray) -> Pieces:
        """Some of the rows."""
        return Pieces(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __len__(self) -> int:
        return len(self.tile)


def make_pieces(scenes: Sequence[Scene], placement: Placement, spec: TileSpec) -> tuple[Pieces, np.ndarray]:
    """Pieces of all placed tiles, sorted by tile, rank and file, with the lattices of those in another CRS."""
    # Nodes for interpolating a change of CRS over a tile: quadratic is right to centimetres over 50 km.
    nodes = 3 if spec.total_px * spec.resolution_m <= 50_000 else 5
    first_file = np.cumsum([0, *(len(scene.files) for scene in scenes)])
    primary = placement.scene[placement.candidate_tile]
    found: list[Pieces] = []
    lattices: list[np.ndarray] = []
    n_lattices = 0
    for pair in np.unique(primary * len(scenes) + placement.candidate_scene):
        home, asked = divmod(int(pair), len(scenes))
        rows = np.flatnonzero((primary == home) & (placement.candidate_scene == asked))
        tile, rank = placement.candidate_tile[rows], placement.candidate_rank[rows]
        for i, file in enumerate(scenes[asked].files):
            if file.crs == scenes[home].crs:
                part = _straight(placement, tile, file, spec)
            else:
                part, lattice = _warped(placement, tile, scenes[home], file, spec, nodes)
                part["lattice"] += n_lattices
                n_lattices += len(lattice)
                lattices.append(lattice)
            constant = {"scene": asked, "file": int(first_file[asked]) + i}
            found.append(
                Pieces(tile=tile, rank=rank, **part, **{k: np.full(len(tile), v) for k, v in constant.items()})
            )
    everything = Pieces(**{f.name: np.concatenate([getattr(p, f.name) for p in found]) for f in fields(Pieces)})
    order = np.lexsort((everything.file, everything.rank, everything.tile))
    stacked = np.concatenate(lattices) if lattices else np.empty((0, 2, nodes, nodes))
    return everything.take(order), stacked


def _straight(placement: Placement, tile: np.ndarray, file: RasterFile, spec: TileSpec) -> dict[str, np.ndarray]:
    """Pieces from a file in the CRS of the tile's grid."""
    size = spec.total_px
    dx, dy, top = placement.dx[tile], placement.dy[tile], placement.top[tile]
    middle = placement.left[tile] + dx * size / 2
    left = placement.left[tile] + (unwrap(middle, file) - middle)
    level = _coarsest_fine_enough(file, dx / file.levels[0].dx, dy / file.levels[0].dy)
    of = {name: np.array([getattr(lv, name) for lv in file.levels])[level] for name in ("left", "top", "dx", "dy")}
    rx, ry = dx / of["dx"], dy / of["dy"]
    x0, y0 = (left - of["left"]) / of["dx"], (of["top"] - top) / of["dy"]
    copied = np.ones(len(tile), dtype=bool)
    for start, ratio in ((x0, rx), (y0, ry)):
        # A hundredth of a pixel over the whole tile: grids written by different programs differ in the last digits.
        copied &= (np.abs(ratio - 1) * size < 0.01) & (np.abs(start - np.round(start)) < 0.01)
    x0[copied], y0[copied], rx[copied], ry[copied] = np.round(x0[copied]), np.round(y0[copied]), 1.0, 1.0
    column0, column1 = _window(x0, rx, size, spec)
    row0, row1 = _window(y0, ry, size, spec)
    return {
        "level": level,
        "kind": np.where(copied, COPY, LINEAR),
        "x0": x0,
        "y0": y0,
        "rx": rx,
        "ry": ry,
        "column0": column0,
        "row0": row0,
        "column1": column1,
        "row1": row1,
        "lattice": np.full(len(tile), -1),
    }


def _window(start: np.ndarray, ratio: np.ndarray, size: int, spec: TileSpec) -> tuple[np.ndarray, np.ndarray]:
    """First and last (exclusive) source pixel that carries weight along one axis."""
    end = start + size * ratio
    area = np.floor(start + _EDGE), np.ceil(end - _EDGE)
    centre0, centre1 = start + ratio / 2, end - ratio / 2
    nearest = np.floor(centre0), np.floor(centre1) + 1
    bilinear = np.floor(centre0 - 0.5), np.floor(centre1 - 0.5) + 2
    if spec.resampling == "nearest":
        first, last = nearest
    else:
        first, last = np.where(ratio >= 1, area, bilinear)
    return first.astype(np.int64), last.astype(np.int64)


def _coarsest_fine_enough(file: RasterFile, ratio_x: np.ndarray, ratio_y: np.ndarray) -> np.ndarray:
    """The coarsest level whose pixels are no larger than the tile's, given the tile's pixel in the file's own."""
    chosen = np.zeros(len(ratio_x), dtype=np.int64)
    fullest = file.levels[0]
    for number, level in enumerate(file.levels):
        fine = (ratio_x * fullest.dx / level.dx >= 1 - NATIVE_TOLERANCE) & (
            ratio_y * fullest.dy / level.dy >= 1 - NATIVE_TOLERANCE
        )
        chosen[fine] = number
    return chosen


def _warped(
    placement: Placement, tile: np.ndarray, home: Scene, file: RasterFile, spec: TileSpec, nodes: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pieces from a file in another CRS, with the place of their lattices in it."""
    along = np.linspace(0, spec.total_px, nodes)
    u, v = np.meshgrid(along, along)
    x = placement.left[tile, None, None] + placement.dx[tile, None, None] * u
    y = placement.top[tile, None, None] - placement.dy[tile, None, None] * v
    fx, fy = transform_xy(home.crs, file.crs, x.ravel(), y.ravel())
    fx, fy = fx.reshape(x.shape), fy.reshape(x.shape)
    centre = fx[:, nodes // 2, nodes // 2]
    fx = fx + (unwrap(centre, file) - centre)[:, None, None]
    lost = ~(np.isfinite(fx) & np.isfinite(fy)).all(axis=(1, 2))
    fx[lost], fy[lost] = -np.inf, np.inf
    own = file.levels[0]
    with np.errstate(invalid="ignore"):
        rx, ry = _stretch(fx / own.dx, fy / own.dy, spec.total_px)
    rx[lost], ry[lost] = 1.0, 1.0
    level = _coarsest_fine_enough(file, rx, ry)
    of = {name: np.array([getattr(lv, name) for lv in file.levels])[level] for name in ("left", "top", "dx", "dy")}
    column = (fx - of["left"][:, None, None]) / of["dx"][:, None, None]
    row = (of["top"][:, None, None] - fy) / of["dy"][:, None, None]
    column[lost], row[lost] = -1e6, -1e6
    part = {
        "level": level,
        "kind": np.full(len(tile), WARP),
        "x0": np.zeros(len(tile)),
        "y0": np.zeros(len(tile)),
        "rx": rx * own.dx / of["dx"],
        "ry": ry * own.dy / of["dy"],
        "lattice": np.arange(len(tile)),
    }
    for name, positions in (("column", column), ("row", row)):
        # A pixel for bilinear weights and one for curvature between the nodes.
        part[f"{name}0"] = np.floor(positions.min(axis=(1, 2))).astype(np.int64) - 2
        part[f"{name}1"] = np.ceil(positions.max(axis=(1, 2))).astype(np.int64) + 2
    return part, np.stack([column, row], axis=1)


def _stretch(column: np.ndarray, row: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Length in source pixels of one tile pixel along the tile's x and y, mid-tile, from lattices (n, m, m)."""
    middle = column.shape[1] // 2
    along_x = np.hypot(column[:, middle, -1] - column[:, middle, 0], row[:, middle, -1] - row[:, middle, 0])
    along_y = np.hypot(column[:, -1, middle] - column[:, 0, middle], row[:, -1, middle] - row[:, 0, middle])
    return along_x / size, along_y / size
