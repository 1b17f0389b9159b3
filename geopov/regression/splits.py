"""How clusters are divided into training and test: by place, because neighbours are not independent.

Welfare and landscape vary smoothly, so a cluster a kilometre from a training cluster is half known before any image is
looked at. Random folds put such neighbours on both sides and report how well the model interpolates between clusters
it has seen, while a map is asked about places where nobody was interviewed. Roberts et al. (2017, Ecography 40:913)
show that blocking by space gives errors that hold in new places; Ploton et al. (2020, Nature Communications 11:4540)
show a map of forest biomass in central Africa whose R² of 0.53 under random folds all but vanishes under spatial ones.
Blocks should be wider than the distance over which the residuals of the model are correlated; a buffer keeps training
clusters away from the edges that blocks inevitably share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
from pyproj import CRS, Transformer
from scipy.spatial import cKDTree

from geopov._validation import check_columns, check_points, check_positive, some
from geopov.errors import RegressionError
from geopov.grid import transform_xy
from geopov.regression._inputs import Ints


class Splits(ABC):
    """A way to divide clusters into folds, each the test set once.

    Subclasses say which fold and which block a cluster belongs to; the walk over folds and the buffer are common.
    """

    buffer_km: float = 0.0

    @abstractmethod
    def assign(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold (n,) of each cluster, from 0."""

    @abstractmethod
    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The block (n,) of each cluster, from 0: the unit inner folds keep whole and bootstraps draw."""

    def split(self, clusters: gpd.GeoDataFrame) -> Iterator[tuple[Ints, Ints]]:
        """Row numbers of training and test clusters of each fold.

        Training clusters within ``buffer_km`` of any test cluster are in neither.

        Raises
        ------
        RegressionError
            If the buffer leaves a fold fewer than two clusters to train on.
        """
        folds = self.assign(clusters)
        positions = _geocentric_km(clusters) if self.buffer_km > 0 else None
        for fold in range(int(folds.max()) + 1):
            train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if positions is not None:
                distance, _ = cKDTree(positions[test]).query(positions[train])
                train = train[distance > self.buffer_km]
            if len(train) < 2:
                raise RegressionError(
                    f"fold {fold} has {len(train)} training clusters left outside a buffer of {self.buffer_km:g} km; "
                    "expected at least 2. Take a smaller buffer_km, or smaller blocks."
                )
            yield train, test

    def describe(self) -> dict[str, Any]:
        """Name and parameters, for provenance."""
        return {"name": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]  # subclasses are dataclasses


@dataclass(frozen=True)
class SpatialBlocks(Splits):
    """Square blocks on the ground, dealt to folds at random so that folds have about as many clusters each.

    Parameters
    ----------
    block_km : float
        Side of a block in kilometres.
    n_folds : int
        Number of folds.
    seed : int
        Shifts the grid of blocks and shuffles them.
    buffer_km : float
        Training clusters this near to a test cluster are left out.

    Examples
    --------
    >>> import geopandas as gpd
    >>> places = gpd.points_from_xy([30.0, 30.01, 31.0, 31.01], [-2.0, -2.0, -2.0, -2.0], crs=4326)
    >>> clusters = gpd.GeoDataFrame({"cluster_id": list("abcd")}, geometry=places)
    >>> folds = SpatialBlocks(block_km=40, n_folds=2).assign(clusters)
    >>> bool(folds[0] == folds[1] != folds[2] == folds[3])
    True
    """

    block_km: float
    n_folds: int = 5
    seed: int = 0
    buffer_km: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.block_km, "block_km", RegressionError)
        _check_folds(self.n_folds)
        _check_buffer(self.buffer_km)

    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The block (n,) of each cluster, numbered by column and row of the grid."""
        return _blocks(_local_km(clusters), self.block_km, self.seed)

    def assign(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold (n,) of each cluster.

        Raises
        ------
        RegressionError
            If there are fewer blocks than folds; it names a block size that would do.
        """
        blocks = self.block_ids(clusters)
        sizes = np.bincount(blocks)
        if len(sizes) < self.n_folds:
            raise RegressionError(
                f"block_km={self.block_km:g} puts {len(clusters)} clusters into {len(sizes)} blocks, too few for "
                f"{self.n_folds} folds. {self._remedy(clusters)}"
            )
        # Largest first to the emptiest fold keeps folds even; the shuffle decides among blocks of equal size.
        shuffled = np.random.default_rng(self.seed).permutation(len(sizes))
        loads = np.zeros(self.n_folds, dtype=np.int64)
        fold_of_block = np.empty(len(sizes), dtype=np.int64)
        for block in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            fold_of_block[block] = np.argmin(loads)
            loads[fold_of_block[block]] += sizes[block]
        return fold_of_block[blocks]

    def _remedy(self, clusters: gpd.GeoDataFrame) -> str:
        positions = _local_km(clusters)
        for halvings in range(1, 20):
            block_km = self.block_km / 2**halvings
            if _blocks(positions, block_km, self.seed).max() + 1 >= self.n_folds:
                return f"Take block_km={block_km:.3g} or less, or fewer folds."
        return "The clusters lie almost at one place: spatial blocks cannot divide them. Use RandomFolds, and say so."


@dataclass(frozen=True)
class RandomFolds(Splits):
    """Clusters dealt to folds at random, each its own block.

    For comparison with published figures and to show what spatial blocks cost; optimistic for a map, see the module.
    """

    n_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        _check_folds(self.n_folds)

    def assign(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold (n,) of each cluster; sizes differ by one at most."""
        if len(clusters) < self.n_folds:
            raise RegressionError(f"{len(clusters)} clusters are too few for {self.n_folds} folds; take fewer folds.")
        return np.random.default_rng(self.seed).permutation(np.arange(len(clusters)) % self.n_folds)

    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """Each cluster by itself."""
        return np.arange(len(clusters))


@dataclass(frozen=True)
class GivenFolds(Splits):
    """Folds from a column of the clusters: a published split, the country, the survey.

    The values are also the blocks: inner folds leave out whole values, as the outer ones do.

    Parameters
    ----------
    column : str
        E.g. ``"test_fold"``, or ``"country"`` to leave one country out at a time.
    buffer_km : float
        Training clusters this near to a test cluster are left out.
    """

    column: str
    buffer_km: float = 0.0

    def __post_init__(self) -> None:
        _check_buffer(self.buffer_km)

    def assign(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold (n,) of each cluster, numbered in the sorted order of the values."""
        check_columns(clusters, [self.column], "the table of clusters", RegressionError)
        values = clusters[self.column]
        if values.isna().any():
            raise RegressionError(
                f"{int(values.isna().sum())} of {len(values)} clusters have no value in the fold column "
                f"{self.column!r}; drop them or give them a fold."
            )
        labels, folds = np.unique(values.astype(str).to_numpy(dtype=str), return_inverse=True)
        if len(labels) < 3:
            raise RegressionError(
                f"the fold column {self.column!r} has {len(labels)} different values ({some(labels)}); expected at "
                "least 3: one to test on, and two to choose alpha between."
            )
        return np.asarray(folds, dtype=np.int64)

    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold, once more."""
        return self.assign(clusters)


def _check_folds(n_folds: int) -> None:
    if isinstance(n_folds, bool) or not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise RegressionError(f"n_folds is {n_folds!r}; expected a whole number of at least 2.")


def _check_buffer(buffer_km: float) -> None:
    if buffer_km != 0:
        check_positive(buffer_km, "buffer_km", RegressionError)


def _geocentric_km(clusters: gpd.GeoDataFrame) -> np.ndarray:
    """(n, 3) kilometres from the centre of the Earth; chords are shorter than the ground by 0.1 m at 50 km."""
    points = check_points(clusters, error=RegressionError).geometry
    to_geocentric = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    return np.column_stack(to_geocentric.transform(points.x, points.y, np.zeros(len(points)))) / 1000


def _local_km(clusters: gpd.GeoDataFrame) -> np.ndarray:
    """(n, 2) kilometres east and north on an equal-area plane laid at the middle of the clusters.

    Lambert azimuthal rather than a world-wide grid such as EPSG:6933, where a square on the map is no square on the
    ground away from 30° of latitude. The centre is rounded to a degree, so that a few clusters more do not move it.
    """
    points = check_points(clusters, error=RegressionError).geometry
    # A mean of directions, which the antimeridian does not tear apart.
    lon, lat = np.radians(points.x), np.radians(points.y)
    east, north, up = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    centre_lon = np.degrees(np.arctan2(north.mean(), east.mean())).round()
    centre_lat = np.degrees(np.arctan2(up.mean(), np.hypot(north.mean(), east.mean()))).round()
    plane = CRS.from_proj4(f"+proj=laea +lon_0={centre_lon:.0f} +lat_0={centre_lat:.0f} +datum=WGS84 +units=m")
    return np.column_stack(transform_xy("EPSG:4326", plane, points.x.to_numpy(), points.y.to_numpy())) / 1000


def _blocks(positions_km: np.ndarray, block_km: float, seed: int) -> Ints:
    """Numbers of the occupied squares, from 0, whatever the order of the clusters."""
    # Repeats with other seeds should cut the country along other lines.
    shift = np.random.default_rng([seed, 1]).random(2)
    square = np.floor(positions_km / block_km + shift).astype(np.int64)
    return np.asarray(np.unique(square, axis=0, return_inverse=True)[1], dtype=np.int64).reshape(-1)
