"""What a tile is, and where the tiles of a cluster lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
from pyproj import Geod

from geopov._validation import ID_COLUMN, check_points, check_positive
from geopov.errors import TileError

__all__ = ["Resampling", "TileSpec", "tile_points"]

Resampling = Literal["auto", "nearest"]
"""``auto``: area average where the source is finer than the tile, bilinear where it is coarser."""

_WGS84 = Geod(ellps="WGS84")


@dataclass(frozen=True)
class TileSpec:
    """The size of a tile, in pixels and on the ground.

    Attributes
    ----------
    size_px : int
        Side of the tile.
    resolution_m : float
        Side of a pixel in metres on the ground at the tile's centre. A scene whose own pixels, or an overview's,
        measure this within 1% is cut as it is; any other is resampled.
    context_px : int
        Pixels around the tile for extractors that look beyond it. They are part of every array.
    resampling : {"auto", "nearest"}
        ``nearest`` for classes.

    Examples
    --------
    >>> spec = TileSpec(size_px=224, resolution_m=30, context_px=96)
    >>> spec.total_px, spec.ground_m
    (416, 6720)
    """

    size_px: int
    resolution_m: float
    context_px: int = 0
    resampling: Resampling = "auto"

    def __post_init__(self) -> None:
        _check_whole(self.size_px, "size_px", at_least=1)
        _check_whole(self.context_px, "context_px", at_least=0)
        check_positive(self.resolution_m, "resolution_m", TileError)
        if self.resampling not in get_args(Resampling):
            raise TileError(f"resampling is {self.resampling!r}; expected one of {', '.join(get_args(Resampling))}.")

    @property
    def total_px(self) -> int:
        """Side of the array, context included."""
        return self.size_px + 2 * self.context_px

    @property
    def ground_m(self) -> float:
        """Side of the tile in metres on the ground, without context."""
        return self.size_px * self.resolution_m

    def to_dict(self) -> dict[str, Any]:
        """The attributes, JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TileSpec:
        """The spec that :meth:`to_dict` wrote."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise TileError(f"a tile spec has no {sorted(unknown)}; it has {sorted(known)}.")
        if missing := {"size_px", "resolution_m"} - set(values):
            raise TileError(f"the tile spec lacks {sorted(missing)}.")
        return cls(**values)


def _check_whole(value: Any, name: str, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise TileError(f"{name} is {value!r}; expected a whole number, at least {at_least}.")


def tile_points(points: gpd.GeoDataFrame, spec: TileSpec, *, window_km: float, n_tiles: int) -> gpd.GeoDataFrame:
    """Centres of several tiles around each point: a regular lattice over a square window.

    Published cluster coordinates are displaced by kilometres, so that one tile may miss the place that was surveyed;
    Jean et al. (2016) average 25 to 100 tiles of 1 km over 10 km.

    Parameters
    ----------
    points : GeoDataFrame
        Points with a unique ``cluster_id``.
    spec : TileSpec
        Of the tiles; one must fit the window.
    window_km : float
        Side of the window in kilometres on the ground.
    n_tiles : int
        Tiles a point: a square number. The window is cut into that many equal squares with a tile at each centre.

    Returns
    -------
    GeoDataFrame
        EPSG:4326, ``n_tiles`` rows a point, row by row from the north-west: ``tile_id``, ``cluster_id``, geometry.

    Raises
    ------
    TileError
        If a tile does not fit the window, ``n_tiles`` is no square, or the points cannot be placed.
    """
    check_positive(window_km, "window_km", TileError)
    _check_whole(n_tiles, "n_tiles", at_least=1)
    side = math.isqrt(n_tiles)
    if side * side != n_tiles:
        raise TileError(f"n_tiles is {n_tiles}; expected a square number: 1, 4, 9, 16, 25, ... 100.")
    if spec.ground_m > window_km * 1000 * (1 + 1e-9):
        raise TileError(
            f"a tile of {spec.ground_m / 1000:g} km does not fit a window of {window_km:g} km; "
            "make the window wider or the tile smaller."
        )
    points = check_points(points, error=TileError)
    offsets = (np.arange(side) - (side - 1) / 2) * window_km * 1000 / side
    east, north = (grid.ravel() for grid in np.meshgrid(offsets, -offsets))
    owner = np.repeat(np.arange(len(points)), n_tiles)
    lon, lat, _ = _WGS84.fwd(
        points.geometry.x.to_numpy()[owner],
        points.geometry.y.to_numpy()[owner],
        np.tile(np.degrees(np.arctan2(east, north)), len(points)),
        np.tile(np.hypot(east, north), len(points)),
    )
    ids = points[ID_COLUMN].to_numpy(dtype=object)[owner]
    number = np.tile(np.arange(n_tiles), len(points))
    return gpd.GeoDataFrame(
        {"tile_id": [f"{cluster}/{i}" for cluster, i in zip(ids, number, strict=True)], ID_COLUMN: ids},
        geometry=gpd.points_from_xy(lon, lat),
        crs="EPSG:4326",
    )
