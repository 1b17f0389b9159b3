"""Tiles as pictures, and which of many to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError
from geopov.features._input import Band, centre, shown_bands
from geopov.features._stretch import Stretch, check_stretch, to_unit
from geopov.features.extract import Tiles
from geopov.features.subset import Subset

__all__ = ["Order", "choose_tiles", "png_of", "tile_pictures"]

Order = Literal["spread", "sure", "doubtful"]
Pictures = npt.NDArray[np.uint8]

# Shares of the shown pixels below black and above white.
_CUT_PERCENT = 2.0


def choose_tiles(table: gpd.GeoDataFrame, *, n: int, order: Order = "spread") -> npt.NDArray[np.intp]:
    """Rows of a table of :func:`geopov.features.classification.apply.classify` that are worth a look.

    Parameters
    ----------
    table : GeoDataFrame
        With ``predicted`` and the columns ``p_CLASS``.
    n : int
        At most so many.
    order : {"spread", "sure", "doubtful"}
        "spread": as many of each predicted class, evenly from its surest to its most doubtful. "sure" and "doubtful":
        those whose largest probability is largest, or smallest.

    Returns
    -------
    int array (at most n,)
        Class by class, surest first; equal probabilities in the order of the table. Tiles without a probability are
        left out.
    """
    if order not in ("spread", "sure", "doubtful"):
        raise FeatureError(f"order is {order!r}; expected 'spread', 'sure' or 'doubtful'.")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise FeatureError(f"n is {n!r}; expected a whole number of tiles above zero.")
    known = np.flatnonzero(table["predicted"].notna().to_numpy())
    if not len(known):
        raise FeatureError("no tile has a probability; there is nothing to look at.")
    columns = [name for name in table.columns if str(name).startswith("p_")]
    largest = table[columns].to_numpy(dtype=float)[known].max(axis=1)
    predicted = table["predicted"].to_numpy(dtype=str)[known]
    surest = np.argsort(-largest, kind="stable")
    if order == "spread":
        names = sorted(set(predicted))
        ranked = [surest[predicted[surest] == name] for name in names]
        chosen = np.concatenate([_evenly(rows, share) for rows, share in zip(ranked, _deal(ranked, n), strict=True)])
    else:
        chosen = surest[:n] if order == "sure" else surest[::-1][:n]
    by_class = np.lexsort((-largest[chosen], predicted[chosen]))
    found: npt.NDArray[np.intp] = known[chosen[by_class]]
    return found


def tile_pictures(
    tiles: Tiles,
    positions: npt.NDArray[np.intp],
    *,
    bands: Sequence[Band] | None = None,
    stretch: Stretch = "linear",
) -> Pictures:
    """Pictures of some tiles, all under one stretch, so that bright is bright in each.

    Parameters
    ----------
    tiles : TileSet
        Context around the tiles is not shown.
    positions : int array (n,)
        Rows of the index.
    bands : one or three bands, optional
        Names, or numbers counted from 1: one for grey, or red, green and blue. Default: the bands called ``red``,
        ``green`` and ``blue`` where there are such, else the first three, else the first.
    stretch : {"linear", "log"}
        Between the 2nd and the 98th percentile of the valid pixels shown, band by band; "log" suits radiance.

    Returns
    -------
    uint8 array (n, y, x, 4)
        Red, green, blue and opacity; invalid pixels are transparent.
    """
    check_stretch(stretch, None, None)
    shown = shown_bands(bands, tiles.band_names)
    wanted, back = np.unique(positions, return_inverse=True)
    size_px = int(tiles.spec.to_dict()["size_px"])
    values = np.zeros((len(wanted), len(shown), size_px, size_px), dtype=np.float32)
    valid = np.zeros((len(wanted), size_px, size_px), dtype=bool)
    for batch in Subset(tiles, wanted).iter_batches():
        values[batch.positions] = centre(batch.data[:, shown], size_px)
        valid[batch.positions] = centre(batch.valid, size_px)
    planes = [_grey(values[:, i], valid, stretch) for i in range(len(shown))]
    pictures = np.stack([*(planes * 3)[:3], np.where(valid, 255, 0).astype(np.uint8)], axis=-1)
    return pictures[back.ravel()]


def png_of(picture: Pictures) -> bytes:
    """A picture (y, x, 4) as a PNG; equal pictures give equal bytes."""
    from matplotlib.image import imsave

    stream = io.BytesIO()
    without_version: Any = {"Software": None}
    imsave(stream, picture, format="png", metadata=without_version)
    return stream.getvalue()


def _evenly(rows: npt.NDArray[np.intp], n: int) -> npt.NDArray[np.intp]:
    return rows[np.round(np.linspace(0, len(rows) - 1, n)).astype(np.intp)]


def _deal(groups: Sequence[npt.NDArray[Any]], n: int) -> list[int]:
    """``n`` dealt out one at a time to the groups that still have some."""
    dealt = [0] * len(groups)
    while sum(dealt) < n and (open_ := [i for i, group in enumerate(groups) if dealt[i] < len(group)]):
        for i in open_[: n - sum(dealt)]:
            dealt[i] += 1
    return dealt


def _grey(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], stretch: Stretch) -> npt.NDArray[np.uint8]:
    inside = values[valid & (values > 0)] if stretch == "log" else values[valid]
    if not inside.size:
        return np.zeros(values.shape, dtype=np.uint8)
    lo, hi = (float(value) for value in np.percentile(inside, [_CUT_PERCENT, 100 - _CUT_PERCENT]))
    if lo == hi:
        return np.where(values > lo, 255, 0).astype(np.uint8)
    filled = np.where(valid, values, lo)
    return np.round(255 * to_unit(filled, lo, hi, stretch=stretch)).astype(np.uint8)
