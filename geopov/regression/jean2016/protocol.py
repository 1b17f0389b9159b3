"""Figures 3, 4 and 5 of Jean et al. (2016, Science 353:790) from any clusters and features, twice.

Once as the published notebooks compute them, once with everything fitted inside the training folds and places held out
whole, so that a reader sees what the difference is worth. The defects of the original live in
:mod:`geopov.regression.jean2016.original` and nowhere else; :data:`DEFECTS` lists them, and so does the page.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from geopov.errors import RegressionError
from geopov.regression.jean2016._procedure import COLUMNS, N_COMPONENTS, Study
from geopov.regression.jean2016.page import PROCEDURES, render
from geopov.regression.nested import Progress
from geopov.regression.sample import join
from geopov.regression.splits import SpatialBlocks

__all__ = ["DEFECTS", "NOT_REPRODUCED", "PROCEDURES", "JeanFigures", "check_page", "jean2016", "render_jean2016"]


DEFECTS = (
    "Folds are random: neighbours of a test cluster, often with pixels of its own tiles, are among the training "
    "clusters.",
    "Figure 4: principal components are fitted on all clusters before these are divided, test clusters included.",
    "Figure 5, diagonal: the penalty is the one with the highest r² on the test folds, and that r² is what is "
    "reported; the other rows of the column take the same penalty.",
    "Figure 5, pooled: models trained on all countries are tested on clusters they were trained on, and the pooled "
    "clusters that models of one country are tested on include their training clusters.",
    "r² is a mean over folds, each with a line of its own: a fold predicted too high as a whole costs nothing, a "
    "correlation of the wrong sign counts as a right one, and among n test clusters chance alone gives 1/(n − 1).",
    "Features are not scaled and penalties come from an absolute grid, so that the choice depends on the features' "
    "unit.",
    "Figure 4: images have a penalty chosen by inner cross-validation, nightlights a straight line by least squares.",
    "Figures 3, 4 C-D and 5 have 5, 3 and 10 folds, other penalties and other components: their r² for the same "
    "country are not the same quantity.",
    "No r² has an interval, and no figure shows how far predictions shrink towards the mean.",
    "Clusters count alike, however many households their mean rests on; here they do so held out by place as well.",
)
"""What the original does that an honest evaluation would not; done for ``procedure == "original"`` only."""

NOT_REPRODUCED = (
    "Defects of the published code before the regression (degrees passed to cos() where image locations are laid out, "
    "features overwritten through a shared buffer) are not reproduced: the features are those given."
)


@dataclass(frozen=True)
class JeanFigures:
    """What the figures show, as tables with a column ``procedure``: ``"original"`` or ``"nested"``."""

    predictions: pd.DataFrame
    """Figure 3: ``country``, ``cluster_id``, ``observed``, ``predicted`` with the cluster held out."""
    scores: pd.DataFrame
    """Figure 3: ``country``, ``n``, ``r2`` as the procedure defines it (original: mean over folds; nested: squared
    Pearson of the pooled predictions), ``r2_low`` and ``r2_high`` (95%, nested only), ``r2_pooled``, ``R2``."""
    curves: pd.DataFrame
    """Figure 4 A-B: ``predictor`` (images, nightlights), ``share``, ``n``, ``r2`` mean over ``trials`` divisions into
    folds, ``r2_lowest`` and ``r2_highest`` of them."""
    randomised: pd.DataFrame
    """Figure 4 C-D: ``country``, ``n``, ``r2``, ``null_median`` and ``null_95`` (quantile) with images reshuffled,
    ``p_value``: (1 + trials that reach r²) / (1 + trials)."""
    null: pd.DataFrame
    """Figure 4 C-D: ``country``, ``trial``, ``r2`` of every trial."""
    generalisation: pd.DataFrame
    """Figure 5: ``trained_on``, ``tested_on``, ``n`` tested, ``r2``; no rows with one country. ``"pooled"`` is all
    countries; held out by place, all but the one tested on."""
    defects: tuple[str, ...]
    """:data:`DEFECTS`, or nothing when the original was not run."""
    dropped: pd.DataFrame
    """``source``, ``id``, ``reason`` of what was not used."""
    meta: dict[str, Any]
    """Outcome, clusters, countries, trials, seed and sizes."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, pd.DataFrame)}


def jean2016(
    features: xr.DataArray,
    clusters: gpd.GeoDataFrame,
    *,
    outcome: str,
    nightlights: xr.DataArray | None = None,
    defects: bool = True,
    n_trials: int = 100,
    block_km: float = 50.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> JeanFigures:
    """Compute the figures of Jean et al. (2016), as published and held out by place.

    Parameters
    ----------
    features : DataArray (cluster, feature)
        Image features, with coordinate ``cluster_id``.
    clusters : GeoDataFrame
        Survey clusters; with a column ``country`` figures are by country, and with several there is a figure 5.
        Countries with fewer than 50 clusters are only among the pooled.
    outcome : str
        Column of ``clusters``; the paper has log consumption and asset wealth.
    nightlights : DataArray (cluster, feature), optional
        For the other curve of figure 4 A-B; the paper has mean radiance alone.
    defects : bool
        Also run the original, see :data:`DEFECTS`.
    n_trials : int
        Reshuffles in figure 4 C-D; the paper has 1,000, its notebooks 100. A fifth as many divisions into folds are
        averaged in figure 4 A-B (held out by place: a thirtieth), a tenth as many in figure 5.
    block_km : float
        Side of the spatial blocks held out whole. Training clusters whose tiles overlap test tiles are left out.
    seed : int
        Of folds, reshuffles and bootstraps.
    progress : callable, optional
        Called with steps done and steps in all.

    Raises
    ------
    RegressionError
        If features and clusters cannot be joined, or there are too few clusters or blocks.
    """
    if isinstance(n_trials, bool) or not isinstance(n_trials, int | np.integer) or n_trials < 1:
        raise RegressionError(f"n_trials is {n_trials!r}; expected a whole number above zero.")
    sample = join(features, clusters, outcome=outcome, lights=nightlights)
    study = Study(sample, int(n_trials), SpatialBlocks(block_km=block_km, seed=seed, tile_km=sample.tile_km), seed)
    jobs = study.jobs("nested") + (study.jobs("original") if defects else [])
    with threadpool_limits(limits=1, user_api="blas"):
        for done, job in enumerate(jobs):
            if progress is not None:
                progress(done, len(jobs))
            job()
    if progress is not None:
        progress(len(jobs), len(jobs))
    procedures = ["original", "nested"] if defects else ["nested"]
    return JeanFigures(
        **{name: study.table(name, procedures) for name in COLUMNS},
        defects=DEFECTS if defects else (),
        dropped=sample.dropped,
        meta={
            "outcome": outcome,
            "procedures": procedures,
            "n": len(sample.y),
            "n_features": sample.X.shape[1],
            "countries": list(study.parts),
            "too_small": study.too_small,
            "n_trials": int(n_trials),
            "seed": seed,
            "block_km": float(block_km),
            "tile_km": float(sample.tile_km),
            "n_components": N_COMPONENTS,
            "nightlights": sample.lights is not None,
            "features": sample.attrs,
        },
    )


def render_jean2016(figures: JeanFigures, path: Path | str, *, title: str | None = None) -> None:
    """Write the figures as one self-contained HTML file, and their tables as JSON beside it.

    Parameters
    ----------
    figures : JeanFigures
        From :func:`jean2016`.
    path : path
        Of the page, ending in ``.html``; the tables get the same name ending in ``.json``.
    title : str, optional
        Default: from the outcome.

    Raises
    ------
    RegressionError
        If ``path`` does not end in ``.html``.
    """
    render(figures, check_page(path), title=title, not_reproduced=NOT_REPRODUCED)


def check_page(path: Path | str) -> Path:
    """The path of a page, or an error before anything is computed for it."""
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise RegressionError(f"the page is to be {path}; expected a name that ends in .html.")
    return path
