"""Where tiles lie: which scenes they fall on, in which order those are asked, and each tile's pixel grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geopov.errors import RasterError, TileError
from geopov.grid import ground_scale, transform_xy
from geopov.raster import RasterFile, Scene
from geopov.tiles.spec import TileSpec

# A source pixel within this share of the tile's, along both axes, is taken as it is.
NATIVE_TOLERANCE = 0.01

_METRES_PER_DEGREE = 111_000.0


@dataclass(frozen=True)
class Placement:
    """The grid of every tile and the scenes that fill it. Positions are rows of the table of points.

    Attributes
    ----------
    scene : int array (n,)
        The first-ranked scene of each tile, whose CRS and pixels set its grid; -1 where no scene reaches it.
    left, top : float array (n,)
        Outer corner of the upper left pixel, in that scene's CRS; NaN where no scene reaches.
    dx, dy : float array (n,)
        Pixel size in units of that CRS, both positive.
    candidate_tile, candidate_scene, candidate_rank : int array (m,)
        Scenes to ask for each tile, rank 0 first, as far as they can be needed; sorted by tile and rank.
    """

    scene: np.ndarray
    left: np.ndarray
    top: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    candidate_tile: np.ndarray
    candidate_scene: np.ndarray
    candidate_rank: np.ndarray


def place(scenes: Sequence[Scene], lon: np.ndarray, lat: np.ndarray, spec: TileSpec) -> Placement:
    """Rank the scenes of each tile and lay its grid.

    The rule looks at one tile at a time, so that neither the other tiles nor the order of reading matter: scenes are
    ranked by the share of the tile that lies inside their bounds, and where that is equal by their order in ``scenes``.

    Parameters
    ----------
    scenes : sequence of Scene
        In order of preference.
    lon, lat : array (n,)
        Tile centres in degrees.
    spec : TileSpec
        Size of the tiles.

    Raises
    ------
    TileError
        If no scene reaches any tile.
    """
    n = len(lon)
    grids = [_grids_on(scene, lon, lat, spec) for scene in scenes]
    tile = np.concatenate([grid.tile for grid in grids])
    if not len(tile):
        raise TileError(_nowhere(scenes, lon, lat))
    number = np.repeat(np.arange(len(scenes)), [len(grid.tile) for grid in grids])
    share = np.concatenate([grid.share for grid in grids])
    order = np.lexsort((number, -share, tile))
    rank = _count_within(tile[order])
    # A scene that covers the whole tile with pixels that cannot be invalid leaves nothing to ask of the next.
    complete = (share >= 1) & ~np.array([_may_be_invalid(scene) for scene in scenes])[number]
    needed = ~_seen_before(tile[order], complete[order])
    first = order[rank == 0]
    placed = {}
    for name in ("left", "top", "dx", "dy"):
        column = np.concatenate([getattr(grid, name) for grid in grids])
        placed[name] = np.full(n, np.nan)
        placed[name][tile[first]] = column[first]
    scene_of = np.full(n, -1)
    scene_of[tile[first]] = number[first]
    return Placement(
        scene=scene_of,
        **placed,
        candidate_tile=tile[order][needed],
        candidate_scene=number[order][needed],
        candidate_rank=rank[needed],
    )


@dataclass(frozen=True)
class Window:
    """One square on the pixel grid of a scene.

    Attributes
    ----------
    scene : int
        Its number among the scenes.
    left, top : float
        Outer corner of its upper left pixel, in that scene's CRS.
    dx, dy : float
        Pixel size in units of that CRS, both positive.
    """

    scene: int
    left: float
    top: float
    dx: float
    dy: float


def place_window(scenes: Sequence[Scene], window: Window, spec: TileSpec) -> Placement:
    """One tile on a grid that is given; its own scene is asked first, the others as for any tile there."""
    crs, half = scenes[window.scene].crs, spec.total_px / 2
    middle = np.array([window.left + half * window.dx]), np.array([window.top - half * window.dy])
    found = place(scenes, *transform_xy(crs, "EPSG:4326", *middle), spec)
    others = found.candidate_scene[found.candidate_scene != window.scene]
    candidates = np.concatenate([[window.scene], others])
    return Placement(
        scene=np.array([window.scene]),
        **{name: np.array([getattr(window, name)]) for name in ("left", "top", "dx", "dy")},
        candidate_tile=np.zeros(len(candidates), dtype=found.candidate_tile.dtype),
        candidate_scene=candidates,
        candidate_rank=np.arange(len(candidates)),
    )


@dataclass(frozen=True)
class _Grids:
    """Grids of the tiles that touch one scene, in its CRS.

    Tiles lie on the scene's pixels where those are of the size asked for. Elsewhere one without context is centred on
    its point. Features with context depend on where pixels begin, by a quarter for some networks, so that tiles with
    context share their grids: pixels are counted from the CRS's origin, and their size in its units is one of a ladder
    of sizes a hundredth apart, the same for tiles within some degree of latitude of one another.
    """

    tile: np.ndarray
    left: np.ndarray
    top: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    share: np.ndarray


def _grids_on(scene: Scene, lon: np.ndarray, lat: np.ndarray, spec: TileSpec) -> _Grids:
    tile = np.flatnonzero(_near(scene, lon, lat, spec))
    if not len(tile):
        # Most of a mosaic of many scenes, whose change of CRS would take a millisecond each.
        return _Grids(tile, *(np.empty(0) for _ in range(5)))
    x, y = transform_xy("EPSG:4326", scene.crs, lon[tile], lat[tile])
    file = scene.files[0]
    x = unwrap(x, file)
    west, south, east, north = file.bounds
    # Points far outside a projection's area of use have no scale there, and no business with this scene.
    reach_x, reach_y = east - west, north - south
    close = (x > west - reach_x) & (x < east + reach_x) & (y > south - reach_y) & (y < north + reach_y)
    tile, x, y = tile[close], x[close], y[close]
    scale_x, scale_y = _scale(scene, x, y)
    dx, dy = spec.resolution_m / scale_x, spec.resolution_m / scale_y
    left, top = x - dx * spec.total_px / 2, y + dy * spec.total_px / 2
    own = np.ones(len(x), dtype=bool)
    for level in file.levels:
        native = (np.abs(dx / level.dx - 1) <= NATIVE_TOLERANCE) & (np.abs(dy / level.dy - 1) <= NATIVE_TOLERANCE)
        dx[native], dy[native] = level.dx, level.dy
        left[native], top[native] = _snap(
            level.left, level.top, level.dx, level.dy, x[native], y[native], spec.total_px
        )
        own &= ~native
    if spec.context_px:
        dx[own], dy[own] = spec.resolution_m / _rung(scale_x[own]), spec.resolution_m / _rung(scale_y[own])
        left[own], top[own] = _snap(0.0, 0.0, dx[own], dy[own], x[own], y[own], spec.total_px)
    inside_x = np.minimum(left + dx * spec.total_px, east) - np.maximum(left, west)
    inside_y = np.minimum(top, north) - np.maximum(top - dy * spec.total_px, south)
    share = np.clip(inside_x / (dx * spec.total_px), 0, 1) * np.clip(inside_y / (dy * spec.total_px), 0, 1)
    # Equal in all but the last digits is equal: rounding must not choose between overlapping scenes.
    share = np.round(share, 6)
    touches = share > 0
    return _Grids(tile[touches], left[touches], top[touches], dx[touches], dy[touches], share[touches])


def _snap(
    west: float, north: float, dx: Any, dy: Any, x: np.ndarray, y: np.ndarray, size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Left and top of the window whose centre is nearest to each point, of a grid with a corner at west, north."""
    column = np.floor((x - west) / dx - size_px / 2 + 0.5)
    row = np.floor((north - y) / dy - size_px / 2 + 0.5)
    return west + column * dx, north - row * dy


def _rung(scale: np.ndarray) -> np.ndarray:
    """The nearest on a ladder of scales, a hundredth apart."""
    step = np.log1p(NATIVE_TOLERANCE)
    rung: np.ndarray = np.exp(np.round(np.log(scale) / step) * step)
    return rung


def unwrap(x: np.ndarray, file: RasterFile) -> np.ndarray:
    """Longitudes moved by whole turns to where the file counts them; other coordinates as they are."""
    if not file.crs.is_geographic:
        return x
    west, _, east, _ = file.bounds
    moved: np.ndarray = x - 360.0 * np.round((x - (west + east) / 2) / 360.0)
    return moved


def _near(scene: Scene, lon: np.ndarray, lat: np.ndarray, spec: TileSpec) -> np.ndarray:
    """Whether a tile can touch the scene, by generous margins in degrees."""
    west, south, east, north = scene.lonlat_bounds
    reach = spec.total_px * spec.resolution_m / _METRES_PER_DEGREE
    margin_lat = reach + 0.01 * (north - south)
    width = (east - west) % 360 or 360.0
    margin_lon = reach / np.maximum(np.cos(np.radians(lat)), 0.01) + 0.01 * width
    off_centre = np.abs((lon - (west + width / 2) + 180) % 360 - 180)
    near: np.ndarray = (
        (off_centre <= width / 2 + margin_lon) & (lat >= south - margin_lat) & (lat <= north + margin_lat)
    )
    return near


def _scale(scene: Scene, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(x):
        return x.copy(), y.copy()
    try:
        return ground_scale(scene.crs, x, y)
    except RasterError as error:
        raise TileError(f"scene {scene.name}: {error} Drop the points outside it.") from error


def _may_be_invalid(scene: Scene) -> bool:
    return len(scene.files) > 1 or scene.files[0].may_be_invalid


def _count_within(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2... within each run of equal values."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    lengths = np.diff(np.r_[starts, len(groups)])
    return np.arange(len(groups)) - np.repeat(starts, lengths)


def _seen_before(groups: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Whether a flag was set earlier in the same run of equal values."""
    before = np.cumsum(flags) - flags
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    lengths = np.diff(np.r_[starts, len(groups)])
    seen: np.ndarray = before > np.repeat(before[starts], lengths)
    return seen


def _nowhere(scenes: Sequence[Scene], lon: np.ndarray, lat: np.ndarray) -> str:
    extents = "; ".join("{} {:.4f}, {:.4f}, {:.4f}, {:.4f}".format(s.name, *s.lonlat_bounds) for s in scenes[:5])
    message = (
        f"none of the {len(lon)} points lies on a scene. West, south, east, north of the points: "
        f"{lon.min():.4f}, {lat.min():.4f}, {lon.max():.4f}, {lat.max():.4f}; of the scenes: {extents}."
    )
    swapped = any(
        ((lat >= w) & (lat <= e) & (lon >= s) & (lon <= n)).any() for w, s, e, n in (sc.lonlat_bounds for sc in scenes)
    )
    remedy = "Longitude and latitude look swapped." if swapped else "Is it the right scene, and the points' right CRS?"
    return f"{message} {remedy}"
