"""From a welfare map to poverty: consumption, headcount, gap and severity at a line, and quintiles.

A welfare map holds, for each cell, a predicted logarithm and its interval. What a statistics office asks for is a share
of people, and a cell's level alone cannot give it: below a line lie some people of almost every cell. So people within
a cell are taken to be spread as the survey's households are within its clusters, lognormally with standard deviation
sigma of logarithms. For a cell with mean m of logs, predicted with an error e of standard deviation s:

- headcount at line z, the error integrated out:  E Phi((ln z - m - e) / sigma) = Phi((ln z - m) / sqrt(sigma² + s²));
- gap and severity (Foster, Greer and Thorbecke 1984, Econometrica 52:761), with v = sigma² + s², d = (ln z - m) / √v:
  P_a = sum over k = 0..a of C(a, k) (-1)^k exp(k (m - ln z) + k² v / 2) Phi(d - k √v);
- lower and upper: the same with v = sigma² at the two ends of the interval of m.

What m is depends on what the model was trained on. The mean of logs is m itself. The logarithm of the mean is
L = m + sigma² / 2, so m = L - sigma² / 2, and the cell's mean consumption is exp(L) = exp(m + sigma² / 2).

s is half the interval's width over the normal quantile of its level. It comes from clusters, whose outcomes carry
sampling error of their own, so it is rather too large than too small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from geopov._validation import check_positive, sha256_of
from geopov.errors import MapError
from geopov.maps.poverty.lognormal import Floats, lognormal_fgt, smearing_factor
from geopov.maps.poverty.quintiles import write_quintiles
from geopov.maps.poverty.welfare_map import (
    SUPPORT_UNIT,
    Strip,
    WelfareMap,
    check_same_grid,
    inherited_tags,
    plain_unit,
    read_rows,
)
from geopov.maps.read import RasterMap
from geopov.raster.write import write_cog

__all__ = [
    "PovertyModel",
    "lognormal_fgt",
    "smearing_factor",
    "write_consumption",
    "write_poverty",
    "write_quintiles",
]

OutcomeIs = Literal["log_of_mean", "mean_of_log"]
Estimate = Literal["mean", "median", "smearing"]
Index = Literal["headcount", "gap", "severity"]


@dataclass(frozen=True)
class _Measure:
    alpha: int
    style: str
    title: str
    unit: str


_MEASURES = {
    "headcount": _Measure(0, "headcount", "Poverty headcount", "share of people"),
    "gap": _Measure(1, "poverty_gap", "Poverty gap", "share of the line"),
    "severity": _Measure(2, "poverty_severity", "Poverty severity", "squared share of the line"),
}
_FGT_FORMULA = (
    "P_a = sum_k C(a,k) (-1)^k exp(k (m - ln z) + k^2 v / 2) Phi((ln z - m) / sqrt(v) - k sqrt(v)), a = {alpha}, "
    "v = within_sd^2 + s^2, s = (upper - lower) / (2 x normal quantile) in logs, {mean_log}; "
    "bounds: v = within_sd^2 at the ends of the interval of m"
)
_MEAN_LOG = {"log_of_mean": "m = prediction - within_sd^2 / 2", "mean_of_log": "m = prediction"}


@dataclass(frozen=True)
class PovertyModel:
    """A poverty line, and how people are spread around the level of their cell.

    Attributes
    ----------
    line : float
        Poverty line, above zero.
    line_unit : str
        Its unit, which must be the map's: "PPP USD per person per day".
    within_sd : float or path
        Standard deviation of log consumption within a cell (:func:`geopov.survey.within_cluster_sd`), or a raster of it
        on the map's grid, as where urban and rural places differ.
    outcome_is : {"log_of_mean", "mean_of_log"}
        What the model predicted: the logarithm of a cluster's mean consumption, or the mean of its logarithms.
    """

    line: float
    line_unit: str
    within_sd: float | str | Path
    outcome_is: OutcomeIs

    def __post_init__(self) -> None:
        check_positive(self.line, "the poverty line", MapError)
        _check_outcome(self.outcome_is)
        _check_within(self.within_sd)

    def tags(self) -> dict[str, str]:
        """What a map made with it says of it."""
        own = {"line": f"{self.line:.10g}", "line_unit": self.line_unit, "outcome_is": self.outcome_is}
        return own | within_tags(self.within_sd)

    def check_unit(self, welfare: WelfareMap) -> None:
        """Raise unless line and map are in the same unit."""
        if plain_unit(self.line_unit) != plain_unit(welfare.unit):
            raise MapError(
                f"the poverty line is in {self.line_unit!r}, the map {welfare.raster.path.name} in {welfare.unit!r}. "
                "Convert the line to the map's currency, prices and period, and name that unit."
            )

    def mean_log(self, log_level: Floats, within_sd: Floats) -> Floats:
        """Mean of logs of cells (y, x) whose outcome is ``log_level``."""
        return log_level - within_sd**2 / 2 if self.outcome_is == "log_of_mean" else log_level

    def index(self, log_level: Floats, within_sd: Floats, error_sd: Floats | float = 0.0, *, alpha: int = 0) -> Floats:
        """P_alpha of cells with outcome ``log_level``, integrated over a normal error of it with ``error_sd``."""
        spread = np.sqrt(within_sd**2 + np.square(error_sd))
        return lognormal_fgt(self.mean_log(log_level, within_sd), spread, self.line, alpha=alpha)


def write_poverty(
    welfare: str | Path,
    *,
    path: str | Path,
    model: PovertyModel,
    index: Index = "headcount",
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Map a poverty index: the share of people below the line, their gap, or its severity.

    The value is the expected index, the prediction error integrated out. Its bounds are the index at the ends of the
    interval of the cell's level, hence of the same level since it falls steadily with it; where the error is far wider
    than the spread of people the expectation can lie beyond them, and the bound is then moved out to it.

    Parameters
    ----------
    welfare : path
        A map of log consumption; see :class:`geopov.maps.poverty.welfare_map.WelfareMap`.
    path : path
        Of the COG to write; bands ``headcount`` (or ``gap``, ``severity``), ``lower``, ``upper``, ``in_support``.
    model : PovertyModel
        The line and the spread of people within a cell.
    index : {"headcount", "gap", "severity"}
        P_0, P_1 or P_2.
    tags : mapping of str to str, optional
        Further provenance to store in the file.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If the line is in another unit than the map, bands or tags are missing, or grids differ.
    """
    if index not in _MEASURES:
        raise MapError(f"index is {index!r}; expected one of {', '.join(_MEASURES)}.")
    measure = _MEASURES[index]
    with WelfareMap.open(welfare) as cells, open_within(model.within_sd, cells) as within:
        model.check_unit(cells)

        def measured(strip: Strip) -> tuple[Floats, Floats, Floats]:
            sd = within(strip.first, strip.first + len(strip.mean))
            value = model.index(strip.mean, sd, strip.error_sd, alpha=measure.alpha)
            # Richer cells have fewer poor, so the upper end of welfare is the lower end of poverty.
            lower, upper = (model.index(end, sd, alpha=measure.alpha) for end in (strip.upper, strip.lower))
            return value, lower, upper

        formula = _FGT_FORMULA.format(alpha=measure.alpha, mean_log=_MEAN_LOG[model.outcome_is])
        own = {"style": measure.style, "title": f"{measure.title} at {model.line:g} {model.line_unit}"}
        own |= {"formula": formula} | model.tags()
        return _write(cells, measured, path=path, name=index, unit=measure.unit, tags=own | dict(tags or {}))


def write_consumption(
    welfare: str | Path,
    *,
    path: str | Path,
    outcome_is: OutcomeIs,
    estimate: Estimate = "mean",
    within_sd: float | str | Path | None = None,
    residuals: ArrayLike | None = None,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Map the mean consumption of the people of each cell, brought back from logarithms.

    With L the predicted logarithm of the cell's mean (for ``mean_of_log`` the prediction + sigma² / 2), exp(L) is the
    median over the prediction error and too low on average; the mean is exp(L + s² / 2) for normal errors, or exp(L)
    times Duan's smearing factor for errors distributed as the residuals are. Bounds are exp of the bounds of L.

    Parameters
    ----------
    welfare : path
        A map of log consumption.
    path : path
        Of the COG to write; bands ``consumption``, ``lower``, ``upper``, ``in_support``.
    outcome_is : {"log_of_mean", "mean_of_log"}
        As in :class:`PovertyModel`.
    estimate : {"mean", "median", "smearing"}
        Over the prediction error.
    within_sd : float or path, optional
        As in :class:`PovertyModel`; needed for ``mean_of_log`` only.
    residuals : array (n,), optional
        For "smearing": observed minus predicted logarithm of held-out clusters.
    tags : mapping of str to str, optional
        Further provenance to store in the file.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If what the estimate needs is not given, or something is given that it does not use; bands or tags are missing.
    """
    _check_outcome(outcome_is)
    _check_estimate(estimate, outcome_is, within_sd, residuals)
    factor = smearing_factor(residuals) if residuals is not None else 1.0
    with WelfareMap.open(welfare) as cells, open_within(within_sd or 0.0, cells) as within:

        def measured(strip: Strip) -> tuple[Floats, Floats, Floats]:
            shift = within(strip.first, strip.first + len(strip.mean)) ** 2 / 2
            correction = strip.error_sd**2 / 2 if estimate == "mean" else math.log(factor)
            return np.exp(strip.mean + shift + correction), np.exp(strip.lower + shift), np.exp(strip.upper + shift)

        own = {"style": "consumption", "title": "Mean consumption of the people of a cell", "estimate": estimate}
        own |= {"formula": _consumption_formula(estimate, outcome_is, factor), "outcome_is": outcome_is}
        own |= within_tags(within_sd) if within_sd is not None else {}
        return _write(cells, measured, path=path, name="consumption", unit=cells.unit, tags=own | dict(tags or {}))


def _check_estimate(estimate: str, outcome_is: str, within_sd: object, residuals: object) -> None:
    if estimate not in get_args(Estimate):
        raise MapError(f"estimate is {estimate!r}; expected one of {', '.join(get_args(Estimate))}.")
    if (estimate == "smearing") != (residuals is not None):
        raise MapError(f"estimate is {estimate!r}; residuals are needed for 'smearing' and used for nothing else.")
    if (outcome_is == "mean_of_log") != (within_sd is not None):
        raise MapError(
            f"outcome_is is {outcome_is!r}; within_sd is needed where it is the mean of logarithms, to come from there "
            "to the logarithm of the mean, and used for nothing else."
        )
    if within_sd is not None:
        _check_within(within_sd)


def _consumption_formula(estimate: str, outcome_is: str, factor: float) -> str:
    level = "prediction" if outcome_is == "log_of_mean" else "prediction + within_sd^2 / 2"
    corrected = {"mean": "exp(L + s^2 / 2)", "median": "exp(L)", "smearing": f"{factor:.6g} exp(L) (Duan 1983)"}
    error = ", s = (upper - lower) / (2 x normal quantile) in logs" if estimate == "mean" else ""
    return f"{corrected[estimate]}, L = {level}{error}; bounds: exp at the ends of the interval of L"


def _write(
    cells: WelfareMap,
    measured: Callable[[Strip], tuple[Floats, Floats, Floats]],
    *,
    path: str | Path,
    name: str,
    unit: str,
    tags: Mapping[str, str],
) -> Path:
    """Write value, lower, upper and in_support of every strip."""

    def strips() -> Iterator[tuple[int, Floats]]:
        for strip in cells.strips():
            value, lower, upper = measured(strip)
            bands = [value, np.minimum(lower, value), np.maximum(upper, value), strip.in_support]
            yield strip.first, np.stack(bands)

    source = cells.raster.source
    return write_cog(
        path,
        strips(),
        crs=cells.raster.crs,
        transform=source.transform,
        width=source.width,
        height=source.height,
        band_names=(name, "lower", "upper", "in_support"),
        units=(unit, unit, unit, SUPPORT_UNIT),
        description=tags["title"],
        tags=inherited_tags(cells.raster) | dict(tags),
    )


def within_tags(within_sd: float | str | Path) -> dict[str, str]:
    """The spread as a tag; a raster by its digest, since its path means nothing elsewhere."""
    if isinstance(within_sd, str | Path):
        return {"within_sd": "raster", "within_sd_sha256": sha256_of(Path(within_sd))}
    return {"within_sd": f"{within_sd:.6g}"}


@contextmanager
def open_within(within_sd: float | str | Path, cells: WelfareMap) -> Iterator[Callable[[int, int], Floats]]:
    """Something that gives the spread (rows, width) of the rows from a first to a last (exclusive)."""
    if not isinstance(within_sd, str | Path):
        width = cells.raster.source.width
        yield lambda first, last: np.full((last - first, width), float(within_sd))
        return
    with RasterMap.open(within_sd) as raster:
        check_same_grid(cells.raster, raster)

        def rows(first: int, last: int) -> Floats:
            spread: Floats = read_rows(raster, [1], first, last)[0]
            if (spread <= 0).any():
                raise MapError(f"{raster.path} holds spreads of zero or less; expected SDs of log consumption.")
            return spread

        yield rows


def _check_outcome(outcome_is: str) -> None:
    if outcome_is not in get_args(OutcomeIs):
        raise MapError(f"outcome_is is {outcome_is!r}; expected one of {', '.join(get_args(OutcomeIs))}.")


def _check_within(within_sd: Any) -> None:
    if not isinstance(within_sd, str | Path):
        check_positive(within_sd, "within_sd (the spread of log consumption within a cell)", MapError)
