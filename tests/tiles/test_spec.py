"""What a tile is, and the lattice of a cluster's tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Geod

from geopov.errors import TileError
from geopov.tiles import TileSpec, tile_points

WGS84 = Geod(ellps="WGS84")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size_px": 0, "resolution_m": 10}, "size_px is 0"),
        ({"size_px": 2.5, "resolution_m": 10}, "size_px is 2.5"),
        ({"size_px": True, "resolution_m": 10}, "size_px is True"),
        ({"size_px": 8, "resolution_m": 0}, "resolution_m is 0"),
        ({"size_px": 8, "resolution_m": math.nan}, "resolution_m is nan"),
        ({"size_px": 8, "resolution_m": "10"}, "resolution_m is '10'"),
        ({"size_px": 8, "resolution_m": 10, "context_px": -1}, "context_px is -1"),
        (
            {"size_px": 8, "resolution_m": 10, "resampling": "cubic"},
            "resampling is 'cubic'; expected one of auto, nearest",
        ),
    ],
)
def test_bad_spec(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TileError, match=said):
        TileSpec(**arguments)


def test_spec_to_dict_and_back() -> None:
    spec = TileSpec(size_px=24, resolution_m=450.5, context_px=3, resampling="nearest")
    assert TileSpec.from_dict(spec.to_dict()) == spec
    assert (spec.total_px, spec.ground_m) == (30, 24 * 450.5)
    with pytest.raises(TileError, match=r"no \['size'\]"):
        TileSpec.from_dict({"size": 24, "resolution_m": 10})
    with pytest.raises(TileError, match="lacks"):
        TileSpec.from_dict({"size_px": 24})


@given(
    lon=st.floats(-179.9, 179.9),
    lat=st.floats(-75, 75),
    side=st.integers(1, 10),
    window_km=st.floats(1, 30),
)
def test_lattice_spans_the_window_in_true_metres(lon: float, lat: float, side: int, window_km: float) -> None:
    assume((lon, lat) != (0, 0))
    cluster = gpd.GeoDataFrame({"cluster_id": ["a"]}, geometry=gpd.points_from_xy([lon], [lat]), crs="EPSG:4326")
    spec = TileSpec(1, window_km * 1000 / side)
    tiles = tile_points(cluster, spec, window_km=window_km, n_tiles=side**2)
    assert len(tiles) == side**2
    assert tiles["tile_id"].is_unique
    assert set(tiles["cluster_id"]) == {"a"}
    x, y = tiles.geometry.x.to_numpy().reshape(side, side), tiles.geometry.y.to_numpy().reshape(side, side)
    reach = window_km * 1000 * (side - 1) / side
    for start, end in (((0, 0), (0, -1)), ((0, 0), (-1, 0)), ((0, -1), (-1, -1))):
        _, _, length = WGS84.inv(x[start], y[start], x[end], y[end])
        assert length == pytest.approx(reach, rel=2e-3, abs=1e-3)
    if side > 1:
        assert y[0, 0] > y[-1, 0]
    _, _, off = WGS84.inv(lon, lat, *WGS84.npts(x[0, 0], y[0, 0], x[-1, -1], y[-1, -1], 1)[0])
    assert off < 1e-3 * reach + 0.01


def test_lattice_of_several_clusters_keeps_owners(points: Callable[..., gpd.GeoDataFrame]) -> None:
    clusters = points([500_000.0, 560_000.0], [9_700_000.0, 9_650_000.0])
    tiles = tile_points(clusters, TileSpec(100, 10), window_km=4, n_tiles=4)
    assert tiles["tile_id"].tolist() == ["c0/0", "c0/1", "c0/2", "c0/3", "c1/0", "c1/1", "c1/2", "c1/3"]
    assert tiles["cluster_id"].tolist() == ["c0"] * 4 + ["c1"] * 4
    centre = tiles.to_crs("EPSG:32736").dissolve("cluster_id").centroid
    np.testing.assert_allclose(centre.x, [500_000, 560_000], atol=1)


def test_bad_lattice(points: Callable[..., gpd.GeoDataFrame]) -> None:
    clusters = points([500_000.0], [9_700_000.0])
    with pytest.raises(TileError, match="n_tiles is 5; expected a square number"):
        tile_points(clusters, TileSpec(10, 10), window_km=1, n_tiles=5)
    with pytest.raises(TileError, match="a tile of 2 km does not fit a window of 1 km"):
        tile_points(clusters, TileSpec(200, 10), window_km=1, n_tiles=4)
    with pytest.raises(TileError, match="window_km is -1"):
        tile_points(clusters, TileSpec(10, 10), window_km=-1, n_tiles=4)
