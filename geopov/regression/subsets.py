"""Scores within parts of a survey: urban and rural, each country, and the mean over countries.

A model that only tells towns from villages, or one country from another, has a high pooled r² and is of no use within
either. The mean over countries gives every country the same say, whatever the size of its survey.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geopov.errors import RegressionError
from geopov.regression._inputs import Floats, Ints
from geopov.regression.scores import SCORES, Scored

ALL, MEAN_OF_COUNTRIES = "all", "mean of countries"
MIN_CLUSTERS = 10
"""A country with fewer clusters has no say in the mean over countries."""
_MIN_COUNTRIES = 5


def subsets(clusters: gpd.GeoDataFrame) -> dict[str, NDArray[np.bool_]]:
    """The parts of a survey that are scored by themselves, as masks (n,); parts without clusters are left out.

    Returns
    -------
    dict
        ``"all"``; ``"urban"`` and ``"rural"`` where there is a column ``urban``; each country, by name, where the
        column ``country`` has several.

    Raises
    ------
    RegressionError
        If ``urban`` holds anything but True, False and missing.
    """
    parts = {ALL: np.ones(len(clusters), dtype=bool)}
    if "urban" in clusters:
        urban = clusters["urban"]
        if not set(urban.dropna().unique()) <= {True, False}:
            raise RegressionError(
                f"the column 'urban' holds {sorted(map(str, urban.dropna().unique()))[:4]}; expected True and False."
            )
        parts |= {"urban": _where(urban, True), "rural": _where(urban, False)}
    parts |= countries(clusters)
    return {name: rows for name, rows in parts.items() if rows.any()}


def countries(clusters: gpd.GeoDataFrame) -> dict[str, NDArray[np.bool_]]:
    """Masks (n,) of the clusters of each country, sorted by name; none where there is one country or no column."""
    if "country" not in clusters:
        return {}
    values = clusters["country"]
    names = sorted(values.dropna().unique(), key=str)
    return {str(name): _where(values, name) for name in names} if len(names) > 1 else {}


def _where(values: pd.Series, value: Any) -> NDArray[np.bool_]:
    return values.eq(value).fillna(False).to_numpy(dtype=bool)


def scores_by_subset(
    clusters: gpd.GeoDataFrame,
    observed: Floats,
    predicted: Mapping[str, Floats],
    blocks: Ints,
    *,
    seed: int = 0,
    n_draws: int = 2000,
    constant: Collection[str] = ("training_mean",),
    folds: Ints | None = None,
) -> pd.DataFrame:
    """Scores pooled, within urban and rural, by country, and averaged over countries.

    Parameters
    ----------
    clusters : GeoDataFrame (n rows)
        With the columns ``urban`` and ``country`` where the survey has them.
    observed : array (n,)
        In the outcome's unit.
    predicted : mapping of name to array (n,)
        Out-of-fold predictions.
    blocks : array (n,)
        Spatial block of each cluster, the unit the bootstrap draws.
    seed, n_draws : int
        Of the bootstrap.
    constant : names
        Predictors that are one number a fold, which have no correlation, slope or recall.
    folds : array (n,), optional
        With it, a predictor that is one number a fold within a subset counts as constant there too: the country's mean
        within a country, or urban and rural within either.

    Returns
    -------
    DataFrame
        ``subset``, the columns of :func:`geopov.regression.scores.score_table`, and ``n_countries``: how many countries
        the row ``"mean of countries"`` is a mean over, missing elsewhere. Countries with fewer than
        :data:`MIN_CLUSTERS` clusters have no say in it, nor has one in a score that is undefined there. Its interval
        draws blocks within each country, the draws centred on the mean; where a country has too few blocks for that,
        as when blocks are countries, countries are drawn.
    """
    parts = subsets(clusters)
    scored = {}
    for number, (name, rows) in enumerate(parts.items()):
        values = {predictor: column[rows] for predictor, column in predicted.items()}
        flat = {*constant} if folds is None else {*constant, *one_value_a_fold(values, folds[rows])}
        # Countries with equal draws would move together, and their mean with them.
        scored[name] = Scored.measure(
            observed[rows], values, blocks[rows], n_draws=n_draws, seed=[seed, number], constant=flat
        )
    by_country = [scored.pop(name) for name in countries(clusters)]
    tables = [part.table().assign(subset=name) for name, part in scored.items()]
    counted = [part for part in by_country if part.n >= MIN_CLUSTERS]
    if len(counted) > 1:
        mean = mean_of(counted, n_draws=n_draws, seed=seed)
        tables.append(mean.table().assign(subset=MEAN_OF_COUNTRIES, n_countries=len(counted)))
    for name, part in zip(countries(clusters), by_country, strict=True):
        tables.append(part.table().assign(subset=name))
    table = pd.concat(tables, ignore_index=True)
    columns = ["subset", *table.columns.drop(["subset", "n_countries"], errors="ignore"), "n_countries"]
    return table.reindex(columns=columns)


def one_value_a_fold(predicted: Mapping[str, Floats], folds: Ints) -> list[str]:
    """The predictors that say the same of all clusters of a fold: they rank none, and only differ between folds."""
    return [name for name, values in predicted.items() if pd.Series(values).groupby(folds).nunique().max() == 1]


def mean_of(parts: list[Scored], *, n_draws: int = 2000, seed: int = 0) -> Scored:
    """The mean of the scores of several parts, undefined ones left out, with draws of its own."""
    predictors = list(parts[0].values)
    values = {
        name: {key: _mean(np.array([[part.values[name][key]] for part in parts]))[0] for key in SCORES}
        for name in predictors
    }
    n, n_blocks = sum(part.n for part in parts), sum(part.n_blocks for part in parts)
    known = [part.draws for part in parts if part.draws is not None]
    if len(known) == len(parts):
        draws = {
            name: {
                key: _centred(_mean(np.array([part[name][key] for part in known])), values[name][key]) for key in SCORES
            }
            for name in predictors
        }
        return Scored(n, n_blocks, values, draws)
    if len(parts) < _MIN_COUNTRIES:
        return Scored(n, n_blocks, values, None)
    drawn = np.random.default_rng([seed, len(parts)]).integers(len(parts), size=(len(parts), n_draws))
    draws = {
        name: {key: _mean(np.array([part.values[name][key] for part in parts])[drawn]) for key in SCORES}
        for name in predictors
    }
    return Scored(n, n_blocks, values, draws)


def _centred(draws: Floats, value: float) -> Floats:
    """Draws (m,) moved to have their mean at the estimate.

    A draw without a country's largest block, its capital, has a lower r² than the country. Averaging over countries
    narrows the spread of the draws but leaves that shift, until the interval of the mean lies beside the mean.
    """
    known = draws[np.isfinite(draws)]
    return draws - known.mean() + value if len(known) else draws


def _mean(values: Floats) -> Floats:
    """Means (m,) of the columns of (parts, m), undefined values left out; NaN where all are."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))
