"""How clusters are divided into training and test: by place, because neighbours are not independent.

Welfare and landscape vary smoothly, so a cluster a kilometre from a training cluster is half known before any image is
looked at. Random folds put such neighbours on both sides and report how well the model interpolates between clusters
it has seen, while a map is asked about places where nobody was interviewed. Roberts et al. (2017, Ecography 40:913)
show that blocking by space gives errors that hold in new places; Ploton et al. (2020, Nature Communications 11:4540)
show a map of forest biomass in central Africa whose R² of 0.53 under random folds all but vanishes under spatial ones.
Blocks should be wider than the distance over which the residuals of the model are correlated
(:func:`geopov.regression.variogram.suggest_block_km`); a buffer keeps training clusters away from the edges that blocks
inevitably share, and no pixel of a test tile should have been trained on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import check_columns, check_positive, some
from geopov.errors import RegressionError
from geopov.regression._inputs import Ints
from geopov.regression._positions import Ground, squares
from geopov.regression._positions import local_km as _local_km


class Splits(ABC):
    """A way to divide clusters into folds, each the test set once.

    Subclasses say which fold and block a cluster belongs to; the walk over folds, the buffer and tiles are common.

    Attributes
    ----------
    buffer_km : float
        Training clusters this near to a test cluster are left out.
    tile_km : float
        Side of the square, along east and north, that the tiles of a cluster cover. Training clusters whose square
        would overlap that of a test cluster are left out.
    leaks : bool
        True where neighbours stand on both sides by design, so that the scores are for comparison only.
    """

    buffer_km: float = 0.0
    tile_km: float = 0.0
    leaks: ClassVar[bool] = False

    @abstractmethod
    def assign(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold (n,) of each cluster, from 0."""

    @abstractmethod
    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The block (n,) of each cluster, from 0: the unit inner folds keep whole and bootstraps draw."""

    def fold_names(self, clusters: gpd.GeoDataFrame) -> list[str]:
        """What to call each fold in a report: numbers from 1, or the values that were left out."""
        return [str(fold + 1) for fold in range(int(self.assign(clusters).max()) + 1)]

    def split(self, clusters: gpd.GeoDataFrame) -> Iterator[tuple[Ints, Ints]]:
        """Row numbers of training and test clusters of each fold.

        Training clusters within ``buffer_km`` of any test cluster, or with a tile that overlaps one of its tiles, are
        in neither.

        Raises
        ------
        RegressionError
            If that leaves a fold fewer than two clusters to train on.
        """
        folds = self.assign(clusters)
        ground = Ground.of(clusters) if self.buffer_km > 0 or self.tile_km > 0 else None
        for fold, name in enumerate(self.fold_names(clusters)):
            train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if ground is not None:
                near = ground.too_near(train, test, tile_km=self.tile_km, buffer_km=self.buffer_km)
                train = train[near < 0]
            if len(train) < 2:
                raise RegressionError(
                    f"fold {name} has {len(train)} clusters to train on outside a buffer of {self.buffer_km:g} km "
                    f"and tiles of {self.tile_km:g} km; expected at least 2. Take a smaller buffer_km or block_km."
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
    buffer_km, tile_km : float
        See :class:`Splits`.

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
    tile_km: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.block_km, "block_km", RegressionError)
        _check_folds(self.n_folds)
        _check_distances(self)

    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The block (n,) of each cluster, numbered by column and row of the grid."""
        return squares(_local_km(clusters), self.block_km, self.seed)

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
            if squares(positions, block_km, self.seed).max() + 1 >= self.n_folds:
                return f"Take block_km={block_km:.3g} or less, or fewer folds."
        return "The clusters lie almost at one place: spatial blocks cannot divide them. Use RandomFolds, and say so."


@dataclass(frozen=True)
class RandomFolds(Splits):
    """Clusters dealt to folds at random, each its own block.

    For comparison with published figures and to show what spatial blocks cost; optimistic for a map, see the module.
    """

    n_folds: int = 5
    seed: int = 0
    leaks: ClassVar[bool] = True

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


class _LeaveValueOut(Splits):
    """One fold a value; the values are also the blocks, so inner folds leave out whole values, as the outer ones do."""

    def __post_init__(self) -> None:
        _check_distances(self)

    @abstractmethod
    def _values(self, clusters: gpd.GeoDataFrame) -> tuple[pd.Series, str]:
        """The value (n,) of each cluster, missing where it has none, and what to call the values in a message."""

    def assign(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold (n,) of each cluster, numbered in the sorted order of the values."""
        return self._label(clusters)[1]

    def block_ids(self, clusters: gpd.GeoDataFrame) -> Ints:
        """The fold, once more. Bootstraps draw whole values, so with few of them intervals are rough."""
        return self.assign(clusters)

    def fold_names(self, clusters: gpd.GeoDataFrame) -> list[str]:
        """The values, in sorted order."""
        return self._label(clusters)[0]

    def _label(self, clusters: gpd.GeoDataFrame) -> tuple[list[str], Ints]:
        values, what = self._values(clusters)
        missing = int(values.isna().sum())
        if missing:
            raise RegressionError(
                f"{missing} of {len(values)} clusters have no value in {what}; drop them or give them one."
            )
        labels, folds = np.unique(values.astype(str).to_numpy(dtype=str), return_inverse=True)
        if len(labels) < 3:
            raise RegressionError(
                f"{what} has {len(labels)} different values ({some(labels)}); expected at least 3: one to test on, "
                "and two to choose alpha between. With fewer, use SpatialBlocks."
            )
        return [str(label) for label in labels], np.asarray(folds, dtype=np.int64)


@dataclass(frozen=True)
class GivenFolds(_LeaveValueOut):
    """Folds from a column of the clusters: a published split, a region, an agro-ecological zone.

    Parameters
    ----------
    column : str
        E.g. ``"test_fold"``.
    buffer_km, tile_km : float
        See :class:`Splits`.
    """

    column: str
    buffer_km: float = 0.0
    tile_km: float = 0.0

    def _values(self, clusters: gpd.GeoDataFrame) -> tuple[pd.Series, str]:
        check_columns(clusters, [self.column], "the table of clusters", RegressionError)
        return clusters[self.column], f"the fold column {self.column!r}"


@dataclass(frozen=True)
class LeaveOneCountryOut(_LeaveValueOut):
    """Every country predicted from the others: what to expect where there is no survey at all.

    The published out-of-country scores (Yeh et al. 2020, Nat Commun 11:2583) hold several countries out at a time;
    this holds one, and chooses alpha by leaving out others of the rest. Needs the column ``country``.

    Parameters
    ----------
    buffer_km, tile_km : float
        See :class:`Splits`; clusters on either side of a border are neighbours like any others.
    """

    buffer_km: float = 0.0
    tile_km: float = 0.0

    def _values(self, clusters: gpd.GeoDataFrame) -> tuple[pd.Series, str]:
        check_columns(clusters, ["country"], "the table of clusters", RegressionError)
        return clusters["country"], "the column 'country'"


@dataclass(frozen=True)
class LeaveOneSurveyOut(_LeaveValueOut):
    """Every survey predicted from the others: what to expect of a year, or a country, not yet surveyed.

    Surveys are told apart by the column ``survey``, or by ``country`` and ``year`` where there is none. Two rounds in
    one country often visit the same towns; ``buffer_km`` or ``tile_km`` leaves those out of the training clusters.

    Parameters
    ----------
    buffer_km, tile_km : float
        See :class:`Splits`.
    """

    buffer_km: float = 0.0
    tile_km: float = 0.0

    def _values(self, clusters: gpd.GeoDataFrame) -> tuple[pd.Series, str]:
        if "survey" in clusters:
            return clusters["survey"], "the column 'survey'"
        check_columns(clusters, ["country", "year"], "the table of clusters (no 'survey' either)", RegressionError)
        # A column of years with gaps arrives as floats; 2014.0 is no name.
        years = clusters["year"].map(lambda year: f"{year:g}" if isinstance(year, float) else str(year), "ignore")
        return clusters["country"].astype("string") + " " + years.astype("string"), "the columns 'country' and 'year'"


def _check_folds(n_folds: int) -> None:
    if isinstance(n_folds, bool) or not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise RegressionError(f"n_folds is {n_folds!r}; expected a whole number of at least 2.")


def _check_distances(splits: Splits) -> None:
    for name in ("buffer_km", "tile_km"):
        if (value := getattr(splits, name)) != 0:
            check_positive(value, name, RegressionError)
