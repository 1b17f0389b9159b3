"""What a model has to beat, in the same folds and on the same clusters, every time.

Nightlights are one number a place, free and global. A CNN that does no better than they do has not seen poverty, only
electricity, and several published models do not (Yeh et al. 2020, Nat Commun 11:2583). Random convolutional features
ask whether anything had to be learned from images at all (Rolf et al. 2021, Nat Commun 12:4392); the country's mean and
urban or rural alone, whether a pooled r² is more than knowing where one is; kriging, whether images are more than
neighbours who were interviewed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from geopov.regression._fitting import fit_in_blocks
from geopov.regression._inputs import Floats, Ints
from geopov.regression._positions import local_km
from geopov.regression.boosting import WelfareBoosting
from geopov.regression.kriging import OrdinaryKriging
from geopov.regression.neighbours import WelfareNeighbours
from geopov.regression.ridge import WelfareRidge
from geopov.regression.sample import Sample

RANDOM_CONVOLUTION = "random_convolution"
TRAINING_MEAN = "training_mean"
LABELS = {
    "nightlights_ridge": "nightlights alone (ridge)",
    "nightlights_knn": "nightlights alone (neighbours)",
    "nightlights_boosting": "nightlights alone (gradient boosting)",
    RANDOM_CONVOLUTION: "random convolutional features",
    "urban_rural": "urban or rural alone",
    "country_mean": "the country's mean",
    "kriging": "interpolation between the training clusters (kriging)",
    TRAINING_MEAN: "the mean of the training clusters",
}


class Baseline(ABC):
    """A simple way to predict some clusters from others."""

    name: str
    """Its column in tables; one of ``LABELS``."""

    @property
    def label(self) -> str:
        """What a sentence calls it."""
        return LABELS[self.name]

    @abstractmethod
    def predict(self, sample: Sample, train: Ints, test: Ints, blocks: Ints) -> Floats:
        """Outcome (t,) of the clusters ``test``, from those in ``train`` alone.

        Parameters
        ----------
        sample : Sample
            Of n clusters.
        train, test : array (r,), array (t,)
            Row numbers.
        blocks : array (n,)
            Block of each cluster; kept whole by inner folds.
        """


@dataclass(frozen=True)
class Fitted(Baseline):
    """A regression on some columns of the sample.

    Parameters
    ----------
    name : str
        See :class:`Baseline`.
    estimator : callable
        Makes an unfitted estimator.
    columns : callable
        The features (n, k) of the sample that it is fitted on.
    """

    name: str
    estimator: Callable[[], Any]
    columns: Callable[[Sample], Floats]

    def predict(self, sample: Sample, train: Ints, test: Ints, blocks: Ints) -> Floats:
        """Outcome (t,) of the clusters ``test``; see :meth:`Baseline.predict`."""
        columns = self.columns(sample)
        fitted = fit_in_blocks(self.estimator(), columns[train], sample.y[train], blocks[train])
        return np.asarray(fitted.predict(columns[test]))


@dataclass(frozen=True)
class GroupMean(Baseline):
    """The mean outcome of the training clusters of the same group.

    A group without training clusters, such as a country left out whole, gets the mean of the groups' means: every
    country then counts once, for a new one is a draw among countries, and is no more like those with large surveys.

    Parameters
    ----------
    name : str
        See :class:`Baseline`.
    column : str
        Column of the clusters that says the group.
    """

    name: str
    column: str

    def predict(self, sample: Sample, train: Ints, test: Ints, blocks: Ints) -> Floats:
        """Outcome (t,) of the clusters ``test``; see :meth:`Baseline.predict`."""
        groups = sample.clusters[self.column].astype(str)
        means = pd.Series(sample.y[train]).groupby(groups.iloc[train].to_numpy()).mean()
        known = groups.iloc[test].map(means)
        return np.asarray(known.fillna(means.mean()), dtype=np.float64)


@dataclass(frozen=True)
class TrainingMean(Baseline):
    """The mean outcome of the training clusters: what a model says that knows nothing of a place."""

    name: str = TRAINING_MEAN

    def predict(self, sample: Sample, train: Ints, test: Ints, blocks: Ints) -> Floats:
        """Outcome (t,) of the clusters ``test``; see :meth:`Baseline.predict`."""
        return np.full(len(test), sample.y[train].mean())


def baselines_for(sample: Sample, *, seed: int = 0) -> list[Baseline]:
    """The baselines that a sample has the data for, the mean of the training clusters last.

    Parameters
    ----------
    sample : Sample
        With nightlights, random convolutional features (``others["random_convolution"]``), and the columns ``urban``
        and ``country`` of its clusters where it has them. A column counts when no value is missing and it holds two
        values at least.
    seed : int
        Of random steps.
    """
    found: list[Baseline] = []
    if sample.lights is not None:
        found.append(Fitted("nightlights_ridge", WelfareRidge, _lights))
        found.append(Fitted("nightlights_knn", WelfareNeighbours, _lights))
        found.append(Fitted("nightlights_boosting", partial(WelfareBoosting, seed=seed), _lights))
    if RANDOM_CONVOLUTION in sample.others:
        found.append(Fitted(RANDOM_CONVOLUTION, WelfareRidge, _random_convolution))
    if _values(sample, "urban") == {True, False}:
        found.append(GroupMean("urban_rural", "urban"))
    if len(_values(sample, "country")) > 1:
        found.append(GroupMean("country_mean", "country"))
    found.append(Fitted("kriging", OrdinaryKriging, _positions))
    return [*found, TrainingMean()]


def _lights(sample: Sample) -> Floats:
    assert sample.lights is not None, "nightlights baselines are only offered to samples with nightlights"
    return sample.lights


def _random_convolution(sample: Sample) -> Floats:
    return sample.others[RANDOM_CONVOLUTION]


def _positions(sample: Sample) -> Floats:
    return local_km(sample.clusters)


def _values(sample: Sample, column: str) -> set[Any]:
    """Different values of a column of the clusters; none where a value is missing, or the column."""
    if column not in sample.clusters or sample.clusters[column].isna().any():
        return set()
    return set(sample.clusters[column].unique())
