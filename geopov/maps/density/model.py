"""A density model learned from the counts of zones, every choice made one level up.

The zones' counts are the finest that the model may see. Whatever has to be chosen (the kind of model, its penalty, the
number of trees) and whatever has to be known about its errors is found by pretending to know less: whole parents, such
as the districts of local levels, are held out, their totals are shared among their zones by a model fitted to the
others, and the result is compared with the zones' counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.cluster import KMeans

from geopov._validation import some
from geopov.errors import MapError
from geopov.maps.density.ecological import Floats, Ints, Totals
from geopov.maps.density.one_level_up import KINDS, Kind, Predictor, choose, fit
from geopov.maps.density.population import Population
from geopov.maps.density.zone_cells import ZoneCells

__all__ = ["DensityModel", "Kind", "fit_density"]

PENALTIES = (0.0001, 0.001, 0.01, 0.1)
_FEWEST_ZONES = 20
_ZONES_A_PARENT = 10
_CELLS_AT_ONCE = 100_000


@dataclass(frozen=True)
class DensityModel:
    """A density for every cell, up to what the zones' totals settle.

    Attributes
    ----------
    names : tuple of str
        Of the k covariates.
    kind : str
        See :data:`Kind`.
    mean, scale : array (k,)
        What covariates are standardised with; unknown ones count as their mean.
    level : float
        Logarithm of what turns the predictions into people per km², on average over the training zones.
    settings : dict
        The penalty, and for boosting the number of trees, chosen one level up.
    tried : DataFrame
        Each candidate one level up: ``kind``, ``penalty``, ``trees``, ``mae`` (people), ``r2``, ``log_rmse``.
    errors : Series
        By zone, the logarithm of observed over predicted people one level up, by the chosen candidate.
    cell_m : float
        Side of the cells that it was fitted on.
    """

    names: tuple[str, ...]
    kind: Kind
    mean: Floats
    scale: Floats
    level: float
    settings: dict[str, float]
    tried: pd.DataFrame
    errors: pd.Series
    cell_m: float
    predictor: Predictor = field(repr=False)

    def predict(self, covariates: npt.ArrayLike) -> Floats:
        """Density of each cell, for :func:`geopov.maps.allocate`, or as people per km² without any total.

        Parameters
        ----------
        covariates : array (k, height, width)
            The layers of ``names``, anywhere, on cells of ``cell_m``: the logarithm of a larger cell's light is not
            the mean of the logarithms of smaller ones. NaN where unknown.

        Returns
        -------
        array (height, width)
            People per km² of land; NaN where no covariate is known.

        Raises
        ------
        MapError
            If there are not k layers.
        """
        layers = np.asarray(covariates, dtype=np.float64)
        if layers.ndim != 3 or len(layers) != len(self.names):
            raise MapError(
                f"the covariates have shape {layers.shape}; expected ({len(self.names)}, height, width) of "
                f"{some(self.names, 20)}."
            )
        flat = layers.reshape(len(layers), -1)
        density = np.full(flat.shape[1], np.nan)
        for first in range(0, len(density), _CELLS_AT_ONCE):
            cells = flat[:, first : first + _CELLS_AT_ONCE].T
            known = np.isfinite(cells).any(axis=1)
            eta = self.predictor(_standardised(cells[known], self.mean, self.scale)) if known.any() else 0.0
            density[first : first + len(cells)][known] = np.exp(eta + self.level)
        return density.reshape(layers.shape[1:])

    def with_interval(self, population: Population, *, level: float = 0.9) -> Population:
        """Bounds of the people in each cell, from the errors one level up.

        The errors are those of whole zones within their parents. They serve for areas that are to a zone what a zone
        is to its parent; a single cell is less certain than that.

        Parameters
        ----------
        population : Population
            Counts shared by this model's density.
        level : float
            Share of the zones whose error lies within the interval.

        Raises
        ------
        MapError
            If ``level`` is not between 0 and 1.
        """
        low, high = self.interval(level)
        return replace(population, lower=population.people * low, upper=population.people * high)

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Factors between which the observed lie of the predicted people."""
        if not 0 < level < 1:
            raise MapError(f"level is {level}; expected a share between 0 and 1, such as 0.9.")
        low, high = np.quantile(self.errors, [(1 - level) / 2, (1 + level) / 2])
        return float(np.exp(low)), float(np.exp(high))


def fit_density(
    cells: ZoneCells,
    covariates: npt.ArrayLike,
    *,
    names: Sequence[str],
    model: Kind | Sequence[Kind] = "boosting",
    coarse_groups: Sequence[object] | None = None,
    penalties: Sequence[float] = PENALTIES,
    trees: int = 200,
    n_folds: int = 5,
    seed: int = 0,
) -> DensityModel:
    """Learn density from the counts of zones.

    Parameters
    ----------
    cells : ZoneCells
        Zones with their counts on a grid; those without people or land teach nothing and are left out.
    covariates : array (k, height, width)
        On the same grid, NaN where unknown.
    names : sequence of str
        Of the k covariates.
    model : Kind or sequence of Kind
        Of several, the one with the smallest mean absolute error one level up is taken.
    coarse_groups : sequence (n,), optional
        The parent of each zone, such as its district. Default: neighbouring zones, about ten each, put together by
        k-means of their positions.
    penalties : sequence of float
        Ridge penalties to choose from, for covariates of variance 1.
    trees : int
        At most, for boosting.
    n_folds : int
        Parts the parents are held out in.
    seed : int
        Of folds, groups and trees. Equal input and seed give equal models.

    Returns
    -------
    DensityModel

    Raises
    ------
    MapError
        If fewer than 20 zones have people and land, shapes or names do not fit, a covariate is unknown everywhere or
        the same everywhere, or every parent has one zone only.
    """
    kinds = _check_kinds(model)
    if trees < 1 or n_folds < 2 or not len(penalties) or not all(p > 0 for p in penalties):
        raise MapError("expected trees of 1 or more, n_folds of 2 or more and penalties above 0.")
    layers = _check_covariates(cells, covariates, names)
    area = cells.fraction.multiply(cells.area_km2.reshape(1, -1)).tocsr()
    here = np.flatnonzero(np.isfinite(layers).any(axis=0) & (np.asarray(area.sum(axis=0)).ravel() > 0))
    area = area[:, here]
    used = np.flatnonzero((cells.zones.counts > 0) & (np.asarray(area.sum(axis=1)).ravel() > 0))
    if len(used) < _FEWEST_ZONES:
        raise MapError(
            f"{len(used)} zones have people, land and covariates; a model needs {_FEWEST_ZONES} at least. Share the "
            "counts in proportion to a raster instead."
        )
    area = area[used]
    mean, scale = _scaling(layers[:, here], np.asarray(area.sum(axis=0)).ravel(), names)
    parent = _parents(cells, used, coarse_groups, seed)
    totals = Totals(_standardised(layers[:, here].T, mean, scale), area, cells.zones.counts[used], parent)
    best, tried, predicted = choose(totals, kinds, penalties=sorted(penalties), trees=trees, n_folds=n_folds, seed=seed)
    predictor = fit(totals, best, seed=seed)
    _, sums = totals.sums(predictor(totals.features))
    return DensityModel(
        names=tuple(names),
        kind=best.kind,
        mean=mean,
        scale=scale,
        level=float(np.log(totals.counts.sum() / sums.sum())),
        settings={"penalty": best.penalty, "trees": best.trees},
        tried=tried,
        errors=pd.Series(np.log(totals.counts / predicted), index=[cells.zones.ids[i] for i in used], name="log_ratio"),
        cell_m=cells.grid.cell_m,
        predictor=predictor,
    )


def _check_kinds(model: Kind | Sequence[Kind]) -> list[Kind]:
    kinds = [model] if isinstance(model, str) else list(model)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise MapError(f"model is {model!r}; expected one or several of {', '.join(KINDS)}.")
    return kinds


def _check_covariates(cells: ZoneCells, covariates: npt.ArrayLike, names: Sequence[str]) -> Floats:
    """As (k, height x width)."""
    layers = np.asarray(covariates, dtype=np.float64)
    shape = (len(names), cells.grid.height, cells.grid.width)
    if layers.shape != shape or not names:
        raise MapError(f"the covariates have shape {layers.shape}; expected {shape} for {len(names)} names.")
    if len(set(names)) < len(names):
        raise MapError(f"the names of the covariates repeat: {some(names, 20)}.")
    flat = layers.reshape(len(names), -1)
    endless = np.isinf(flat).any(axis=1)
    if endless.any():
        raise MapError(f"infinite values in {some(np.array(names)[endless], 20)}; was a logarithm taken of 0?")
    return flat


def _scaling(known: Floats, land: Floats, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Mean and standard deviation over the land of the zones."""
    weight = np.isfinite(known) * land
    empty = weight.sum(axis=1) == 0
    if empty.any():
        raise MapError(f"{some(np.array(names)[empty], 20)}: unknown in all cells of the zones; leave it out.")
    mean = (np.nan_to_num(known) * weight).sum(axis=1) / weight.sum(axis=1)
    square = (np.nan_to_num(known - mean[:, None]) ** 2 * weight).sum(axis=1) / weight.sum(axis=1)
    flat = square <= (1e-9 * np.maximum(np.abs(mean), 1e-9)) ** 2
    if flat.any():
        raise MapError(f"{some(np.array(names)[flat], 20)}: the same in all cells of the zones; leave it out.")
    return mean, np.sqrt(square)


def _standardised(cells: Floats, mean: Floats, scale: Floats) -> Floats:
    return np.asarray(np.nan_to_num((cells - mean) / scale, nan=0.0))


def _parents(cells: ZoneCells, used: Ints, groups: Sequence[object] | None, seed: int) -> Ints:
    """Number of the parent of each used zone."""
    if groups is not None:
        if len(groups) != len(cells.zones):
            raise MapError(f"coarse_groups has {len(groups)} values for {len(cells.zones)} zones; expected one each.")
        labels = pd.Series(list(groups))
        if labels.isna().any():
            raise MapError(f"coarse_groups is missing for {int(labels.isna().sum())} zones.")
        parent = pd.factorize(labels.iloc[used].astype(str), sort=True)[0]
    else:
        points = cells.zones.table.geometry.iloc[used].to_crs(cells.grid.crs).centroid
        xy = np.column_stack([points.x, points.y])
        k = max(2, len(used) // _ZONES_A_PARENT)
        parent = KMeans(k, n_init=3, random_state=seed).fit_predict(xy)
        parent = np.unique(parent, return_inverse=True)[1]
    if len(np.unique(parent)) < 2 or np.bincount(parent).max() < 2:
        raise MapError(
            f"the {len(used)} zones have {len(np.unique(parent))} parents; expected two or more, with several zones in "
            "some, so that sharing a parent's total can be tried."
        )
    return np.asarray(parent, dtype=np.int64)
