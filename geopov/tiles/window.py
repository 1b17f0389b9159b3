"""One large tile on a pixel grid that is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from geopov.raster import Scene, Unreadable
from geopov.tiles.extract import PlannedTiles
from geopov.tiles.placement import Window, place_window
from geopov.tiles.plan import plan_placed
from geopov.tiles.spec import TileSpec

__all__ = ["read_window"]

# Of decoded blocks; one tile uses each of them once.
_CACHE_MB = 256


def read_window(
    scenes: Sequence[Scene],
    window: Window,
    spec: TileSpec,
    *,
    on_unreadable: Callable[[Unreadable], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (band, y, x) of a square of ``spec.total_px``, and where they are valid, bool (y, x).

    Parameters
    ----------
    scenes : sequence of Scene
        A mosaic.
    window : Window
        Where its pixels lie.
    spec : TileSpec
        Its size.
    on_unreadable : callable, optional
        As for :func:`geopov.tiles.extract`.

    Raises
    ------
    RasterError
        If pixels cannot be read, and nobody is to be told.
    """
    plan = plan_placed(scenes, place_window(scenes, window, spec), spec)
    (batch,) = PlannedTiles(plan, threads=1, cache_mb=_CACHE_MB, on_unreadable=on_unreadable).batches(1)
    return batch.data[0], batch.valid[0]
