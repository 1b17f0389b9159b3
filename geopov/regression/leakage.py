"""Proof, for the folds actually used, that no model was shown what it is tested on.

A split that was given, loaded or written by hand can leak in ways nobody sees in a score: an image tile that covers a
training and a test cluster at once, a cluster in two folds, a buffer measured in degrees. Each makes the score better.
So the folds are checked after they are made, whoever made them.
"""

from __future__ import annotations

from collections.abc import Iterable

import geopandas as gpd
import numpy as np

from geopov._validation import ID_COLUMN, check_positive, some
from geopov.errors import RegressionError
from geopov.regression._inputs import Ints
from geopov.regression._positions import Ground


def check_leakage(
    clusters: gpd.GeoDataFrame, pairs: Iterable[tuple[Ints, Ints]], *, tile_km: float, buffer_km: float
) -> None:
    """Raise unless every test cluster is new to the model that predicts it.

    Parameters
    ----------
    clusters : GeoDataFrame
        Points with a CRS and ``cluster_id``.
    pairs : iterable of (train, test)
        Row numbers of training and test clusters of each fold, as :meth:`Splits.split` yields.
    tile_km : float
        Side of the square, along east and north, that the tiles of a cluster cover; 0 leaves tiles out of the check.
    buffer_km : float
        No training cluster may lie within this distance of a test cluster; 0 leaves distance out of the check.

    Raises
    ------
    RegressionError
        If a cluster is tested in two folds, is in the training and test set of one, or is too near to a cluster in the
        other: it names the fold, both clusters, their distance and the cure.
    """
    for name, value in (("tile_km", tile_km), ("buffer_km", buffer_km)):
        if value != 0:
            check_positive(value, name, RegressionError)
    ground = Ground.of(clusters)
    ids = clusters[ID_COLUMN].astype(str).to_numpy()
    tested_in = np.zeros(len(clusters), dtype=np.int64)
    for fold, (train, test) in enumerate(pairs, start=1):
        train, test = _rows(train, len(clusters), fold), _rows(test, len(clusters), fold)
        _check_tested_once(ids, tested_in, test, fold)
        _check_disjoint(ids, train, test, fold)
        _check_apart(ground, ids, train, test, fold, tile_km=tile_km, buffer_km=buffer_km)


def _rows(rows: Ints, n: int, fold: int) -> Ints:
    rows = np.asarray(rows)
    if rows.ndim != 1 or len(rows) == 0 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n:
        raise RegressionError(
            f"fold {fold} is no list of row numbers from 0 to {n - 1} ({some(np.ravel(rows), 3) or 'empty'}); were the "
            "folds made for another table of clusters? Pass what splits.split(clusters) yields."
        )
    return rows.astype(np.int64)


def _check_tested_once(ids: np.ndarray, tested_in: Ints, test: Ints, fold: int) -> None:
    """Raise if a test cluster was tested before, and note in ``tested_in`` where these are."""
    rows, times = np.unique(test, return_counts=True)
    again = rows[(times > 1) | (tested_in[rows] > 0)]
    if len(again):
        before = tested_in[again[0]] or fold
        raise RegressionError(
            f"{len(again)} clusters are tested more than once ({some(ids[again])}): {ids[again[0]]} in fold {before} "
            f"and in fold {fold}. It would count twice in every score; let each be in one test set only."
        )
    tested_in[rows] = fold


def _check_disjoint(ids: np.ndarray, train: Ints, test: Ints, fold: int) -> None:
    both = np.intersect1d(train, test)
    if len(both):
        raise RegressionError(
            f"fold {fold} trains on {len(both)} of the clusters it tests ({some(ids[both])}), at distance 0 km. "
            "Take the test clusters out of the training set: np.setdiff1d(train, test)."
        )


def _check_apart(
    ground: Ground, ids: np.ndarray, train: Ints, test: Ints, fold: int, *, tile_km: float, buffer_km: float
) -> None:
    if tile_km == 0 and buffer_km == 0:
        return
    found = ground.too_near(train, test, tile_km=tile_km, buffer_km=buffer_km)
    near, other = train[found >= 0], found[found >= 0]
    if not len(near):
        return
    nearest = np.argmin(ground.distance_km(near, other), keepdims=True)
    a, b = near[nearest], other[nearest]
    distance, offset = float(ground.distance_km(a, b)[0]), float(ground.offset_km(a, b)[0])
    if distance <= buffer_km:
        what, cure = f"that is inside the buffer of {buffer_km:g} km", f"buffer_km={buffer_km:g}"
    else:
        what = f"their tiles of {tile_km:g} km overlap, the larger distance along east and north being {offset:.2f} km"
        cure = f"tile_km={tile_km:g}"
    raise RegressionError(
        f"fold {fold} leaks: training cluster {ids[a[0]]} is {distance:.2f} km from test cluster {ids[b[0]]}; {what}. "
        f"{len(near)} of {len(train)} training clusters are too near. Give the splits {cure}, which leaves them out; "
        "allow_overlap=True lets them stay, and makes every score better than it should be."
    )
