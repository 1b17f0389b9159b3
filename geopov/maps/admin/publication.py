"""What a statistics office publishes of a small-area model: benchmarked to the survey, with CVs and their warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from geopov._validation import check_columns, some
from geopov.errors import MapError

Floats = npt.NDArray[np.float64]
Method = Literal["ratio", "difference"]

_WHAT = "the table of areas"
_NEEDED = ("estimate", "variance", "n", "psus", "direct_variance", "synthetic", "synthetic_mse", "eblup", "eblup_mse")


@dataclass(frozen=True)
class Benchmarked:
    """Estimates that agree with a direct estimate of the whole.

    Attributes
    ----------
    table : DataFrame
        The areas as given, and ``benchmarked`` and ``benchmarked_mse``.
    factors : DataFrame
        A row a region (``all`` without regions): ``target`` (direct estimate of the region), ``before`` (population-
        weighted mean of the EBLUPs) and ``factor`` (times which, or for the difference plus which, they agree).
    method : {"ratio", "difference"}
        How they were made to agree.
    """

    table: pd.DataFrame
    factors: pd.DataFrame
    method: Method


def benchmark(
    table: pd.DataFrame,
    *,
    target: float | Mapping[str, float],
    region_column: str | None = None,
    people_column: str = "people",
    method: Method = "ratio",
) -> Benchmarked:
    """Make the population-weighted mean of the areas' EBLUPs equal to a direct estimate, for all or region by region.

    The MSE grows by the square of the change: that of the constrained Bayes estimator, whose distance from the
    unconstrained one is all it loses.

    Parameters
    ----------
    table : DataFrame
        As of :class:`~geopov.maps.admin.small_area.FayHerriot`: ``eblup``, ``eblup_mse``, and ``people_column``.
    target : float, or mapping of region to float
        Direct estimate, in the unit of the EBLUPs.
    region_column : str, optional
        Names each area's region; needed with a mapping.
    people_column : str
        People of each area, persons or shares.
    method : {"ratio", "difference"}
        Multiply all by one factor, or add one difference to all.

    Raises
    ------
    MapError
        If a column is missing, people are missing or negative, an area with people has no estimate, a region has no
        target or a target no region, or a ratio of 0 would be needed.

    References
    ----------
    Datta, G. S., Ghosh, M., Steorts, R. & Maples, J. (2011). Bayesian benchmarking with applications to small area
    estimation. TEST 20, 574-588.
    """
    if method not in ("ratio", "difference"):
        raise MapError(f"method is {method!r}; expected 'ratio' or 'difference'.")
    if isinstance(target, Mapping) != (region_column is not None):
        raise MapError("give target as a mapping of region to estimate together with region_column, or neither.")
    columns = ["eblup", "eblup_mse", people_column, *([region_column] if region_column else [])]
    check_columns(table, columns, _WHAT, MapError)
    region = pd.Series("all", index=table.index) if region_column is None else table[region_column].astype(str)
    targets = {str(name): value for name, value in target.items()} if isinstance(target, Mapping) else {"all": target}
    if odd := sorted(set(targets) ^ set(region)):
        raise MapError(f"{some(odd)} stand only among the targets or only in {region_column}; each needs the other.")
    people, eblup, mse = (table[name].to_numpy(dtype=np.float64) for name in (people_column, "eblup", "eblup_mse"))
    if not (people >= 0).all():
        raise MapError(f"{people_column} is missing or negative for {int((~(people >= 0)).sum())} areas; fill them in.")
    if (lost := (people > 0) & ~np.isfinite(eblup)).any():
        raise MapError(
            f"{int(lost.sum())} areas have people but no estimate (rows {some(np.flatnonzero(lost))}), so a sum over "
            "all would miss them; give them covariates, or leave them out and take a target without them."
        )
    adjusted, rows = eblup.copy(), {}
    for name, goal in targets.items():
        of = (region == name).to_numpy() & (people > 0)
        if not of.any() or not np.isfinite(goal):
            raise MapError(f"region {name} has nobody, or no finite target ({goal}).")
        before = float(np.average(eblup[of], weights=people[of]))
        if method == "ratio" and not goal * before > 0:
            raise MapError(f"region {name}: {before:g} cannot become {goal:g} by a ratio; use method='difference'.")
        factor = goal / before if method == "ratio" else goal - before
        here = (region == name).to_numpy()
        adjusted[here] = eblup[here] * factor if method == "ratio" else eblup[here] + factor
        rows[name] = {"target": float(goal), "before": before, "factor": factor}
    made = table.assign(benchmarked=adjusted, benchmarked_mse=mse + (adjusted - eblup) ** 2)
    return Benchmarked(made, pd.DataFrame.from_dict(rows, orient="index").rename_axis("region"), method)


def publication_table(
    table: pd.DataFrame,
    *,
    area_column: str = "area",
    name_column: str | None = None,
    caution_cv: float = 0.20,
    withhold_cv: float = 0.333,
) -> pd.DataFrame:
    """The table of areas as statistics offices publish it: direct, model-based and combined, each with its error.

    Parameters
    ----------
    table : DataFrame
        As of :class:`~geopov.maps.admin.small_area.FayHerriot` or, after :func:`benchmark`, of :class:`Benchmarked`,
        with ``psus`` (primary sampling units of each area).
    area_column : str
        Identifies an area.
    name_column : str, optional
        Its name; default the identifier.
    caution_cv, withhold_cv : float
        Coefficients of variation above which an estimate is flagged ``caution`` or ``withhold``. Statistics Canada
        releases up to 16.5% without restriction, with a warning up to 33.3%, and nothing above; 20% is the warning
        elsewhere.

    Returns
    -------
    DataFrame
        ``area``, ``name``, ``households``, ``psus``; ``direct``, ``direct_se`` (from the design, none where that gave
        0), ``direct_se_used`` (what the model took, smoothed or not), ``direct_cv`` and ``direct_flag`` (of the one
        used); ``model``, ``model_rmse`` (synthetic); ``eblup``, ``eblup_rmse``, ``eblup_cv``; where there are any
        ``benchmarked``, ``benchmarked_rmse``, ``benchmarked_cv``; ``flag`` of the last of these; ``gain`` (variance
        used over the MSE of the last: above 1, the model pays). A direct estimate without a variance has the flag
        ``withhold``; without any direct estimate its flag is empty.

    Raises
    ------
    MapError
        If a column is missing, or the thresholds are not in order.
    """
    check_columns(table, [area_column, *_NEEDED, *([name_column] if name_column else [])], _WHAT, MapError)
    if not 0 < caution_cv < withhold_cv:
        raise MapError(f"caution_cv is {caution_cv}, withhold_cv {withhold_cv}; expected 0 < caution_cv < withhold_cv.")
    columns = ("estimate", "variance", "direct_variance")
    direct, given, used = (table[column].to_numpy(dtype=np.float64) for column in columns)
    made = pd.DataFrame(
        {
            "area": table[area_column].astype(str),
            "name": table[name_column or area_column].astype(str),
            "households": _counts(table["n"]),
            "psus": _counts(table["psus"]),
            "direct": direct,
            "direct_se": np.sqrt(np.where(np.isfinite(direct) & (given > 0), given, np.nan)),
            "direct_se_used": np.sqrt(used),
            "direct_cv": _cv(direct, used),
        }
    )
    made["direct_flag"] = _flags(made["direct_cv"], caution_cv, withhold_cv).where(np.isfinite(direct), "")
    made["model"], made["model_rmse"] = table["synthetic"], np.sqrt(table["synthetic_mse"])
    last = "eblup"
    for kind in ("eblup", "benchmarked"):
        if kind in table.columns:
            estimate, mse = (table[column].to_numpy(dtype=np.float64) for column in (kind, f"{kind}_mse"))
            made[kind], made[f"{kind}_rmse"], made[f"{kind}_cv"] = estimate, np.sqrt(mse), _cv(estimate, mse)
            last = kind
    made["flag"] = _flags(made[f"{last}_cv"], caution_cv, withhold_cv)
    made["gain"] = used / table[f"{last}_mse"].to_numpy(dtype=np.float64)
    return made.reset_index(drop=True)


def _counts(values: pd.Series) -> pd.Series:
    """Whole numbers, 0 where the survey was not."""
    return values.fillna(0).astype("int64")


def _cv(estimate: Floats, variance: Floats) -> Floats:
    size = np.abs(estimate)
    return np.divide(np.sqrt(variance), size, out=np.full_like(size, np.nan), where=size > 0)


def _flags(cv: pd.Series, caution: float, withhold: float) -> pd.Series:
    """Empty, ``caution`` or ``withhold``; an error that nobody knows is no small one."""
    values = cv.to_numpy()
    flags = np.where(values <= caution, "", np.where(values <= withhold, "caution", "withhold"))
    return pd.Series(flags, index=cv.index)
