"""An asset wealth index: the first principal component of what households own and how they live.

After Filmer & Pritchett (2001, Demography 38:115) and, pooled over countries, Yeh et al. (2020, Nat Commun 11:2583).
The index ranks the households it was made from, and has no unit: an index of one pool cannot be compared with that of
another, for which see :mod:`geopov.survey.assets.iwi`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, some
from geopov.errors import SurveyError
from geopov.survey.files.tables import as_number

INDICATORS = (
    "electricity",
    "radio",
    "television",
    "refrigerator",
    "phone",
    "bicycle",
    "motorcycle",
    "car",
    "rooms_per_person",
    "floor",
    "water",
    "toilet",
)
"""The indicators that Yeh et al. (2020) pool (ownership as 0 and 1, quality ranks of 1 to 5), with the refrigerator,
bicycle and motorcycle that surveys ask for too, and rooms per person where they count rooms."""

GOODS = ("electricity", "television", "refrigerator", "phone", "landline", "mobile_phone", "car", "computer", "floor")
"""What is more common among the rich everywhere; bicycles, radios and carts can be goods of the poor."""

POOLED = "pooled"
_WHAT = "the table of households"
_FEWEST = 3


@dataclass(frozen=True)
class Component:
    """First principal component of one group of households.

    Attributes
    ----------
    loadings : DataFrame
        Indexed by indicator: ``mean`` and ``sd`` (weighted), ``loading`` (element of the unit eigenvector), ``effect``
        (what one unit more, as from not owning to owning, adds to the score), ``n`` (households that know it) and
        ``missing`` (share of the households in the fit that do not).
    explained : float
        Share of the variance of the standardised indicators.
    households, imputed, unused : int
        Households in the fit, those of them with at least one indicator put at its mean, and those that took no part,
        for lack of a weight or of too many indicators.
    left_out : tuple of (indicator, reason)
        Indicators that could not be used.
    """

    loadings: pd.DataFrame
    explained: float
    households: int
    imputed: int
    unused: int
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AssetIndex:
    """Asset wealth of households, by :meth:`fit` and :meth:`score`.

    Attributes
    ----------
    by : "country", "survey" or None
        The column whose groups have an index each; None for one index of all.
    max_missing : float
        Share of the indicators that a household may lack.
    components : mapping of group to Component
        The group of the pooled index is called ``"pooled"``.
    """

    by: Literal["country", "survey"] | None
    max_missing: float
    components: Mapping[str, Component]

    @classmethod
    def fit(
        cls,
        households: pd.DataFrame,
        *,
        indicators: Sequence[str] | None = None,
        by: Literal["country", "survey"] | None = None,
        weight: str = "weight",
        max_missing: float = 0.5,
    ) -> AssetIndex:
        """Find the component that the indicators share.

        The indicators are standardised by their weighted mean and standard deviation, an unknown one is put at its
        mean, and the index is the first eigenvector of their weighted second moments (the correlations, where nothing
        is missing). Its sign is that of its covariance with the mean of the standardised :data:`GOODS`, or of all
        indicators where none of those is among them.

        Household weights are rescaled to a mean of one within each survey, so that a survey counts by its households,
        as DHS weights do already and as in the unweighted pools of the literature; expansion weights of an LSMS would
        otherwise drown the rest.

        Parameters
        ----------
        households : DataFrame
            One row a household, with ``survey``, the weight and the indicators as numbers.
        indicators : sequence of str, optional
            Columns to use; default those of :data:`INDICATORS` that are there. One that a whole survey of a group
            lacks, or that never varies, is left out of the group's index and listed in ``left_out``.
        by : "country" or "survey", optional
            An index within each; default one over all.
        weight : str
            Household sampling weight. Households without one, or with 0, are scored but take no part in the fit.
        max_missing : float
            Households that lack a larger share of the indicators take no part and get no score.

        Raises
        ------
        SurveyError
            If a column is missing or no number, a weight is negative, fewer than three indicators or no household
            are left, or the sign cannot be told.
        """
        if not 0 <= max_missing < 1:
            raise SurveyError(f"max_missing is {max_missing!r}; expected a share of the indicators from 0 to below 1.")
        check_columns(households, ["survey", weight, *([by] if by else []), *(indicators or [])], _WHAT, SurveyError)
        names = list(dict.fromkeys(indicators if indicators is not None else INDICATORS))
        values = _values(households, names)
        surveys, groups = _groups(households, "survey"), _groups(households, by)
        weights = _per_survey(as_number(households[weight], _WHAT), surveys, weight)
        components = {}
        for group in sorted(set(groups)):
            # A mask and not labels: tables that were concatenated may name rows twice.
            rows = (groups == group).to_numpy()
            components[group] = _component(values[rows], weights[rows], surveys[rows], group, max_missing)
        return cls(by=by, max_missing=max_missing, components=components)

    def score(self, households: pd.DataFrame) -> pd.Series:
        """Asset wealth: mean 0 and standard deviation 1 over the weighted households of the fit, richer is higher.

        Other households than those of the fit may be scored too. A column that is not there is unknown to all.

        Returns
        -------
        Series of float
            ``asset_wealth`` (``asset_wealth_country`` or ``_survey`` within groups) on the index of ``households``;
            NaN where a larger share of the indicators than ``max_missing`` is unknown.

        Raises
        ------
        SurveyError
            If a group was not in the fit, or a value is no number.
        """
        groups = _groups(households, self.by)
        unknown = sorted(set(groups) - set(self.components))
        if unknown:
            raise SurveyError(
                f"the index was not fitted on {self.by} {some(map(repr, unknown))}, only on "
                f"{some(map(repr, self.components))}; fit it on all households together."
            )
        name = "asset_wealth" if self.by is None else f"asset_wealth_{self.by}"
        scores = np.full(len(households), np.nan)
        for group, component in self.components.items():
            rows = (groups == group).to_numpy()
            table = component.loadings
            values = _values(households[rows], list(table.index))
            enough = values.isna().mean(axis=1) <= self.max_missing
            sums = ((values - table["mean"]) * table["effect"]).fillna(0.0).sum(axis=1)
            scores[rows] = sums.where(enough).to_numpy()
        return pd.Series(scores, index=households.index, name=name)

    @property
    def loadings(self) -> pd.DataFrame:
        """One row a group and indicator: ``group``, ``indicator`` and the columns of :class:`Component`'s loadings."""
        tables = [
            component.loadings.rename_axis("indicator").reset_index().assign(group=group)
            for group, component in self.components.items()
        ]
        table = pd.concat(tables, ignore_index=True)
        return table[["group", *(column for column in table.columns if column != "group")]]

    def to_dict(self) -> dict[str, Any]:
        """All of the index as JSON can hold it, for reports and provenance."""
        return {
            "by": self.by,
            "max_missing": self.max_missing,
            "groups": {
                group: {
                    "explained": component.explained,
                    "households": component.households,
                    "imputed": component.imputed,
                    "unused": component.unused,
                    "left_out": dict(component.left_out),
                    "loadings": {str(n): row.to_dict() for n, row in component.loadings.iterrows()},
                }
                for group, component in self.components.items()
            },
        }


def compare(
    index: pd.Series, wealth_score: pd.Series, households: pd.DataFrame, *, weight: str = "weight"
) -> pd.DataFrame:
    """How alike an index and a survey's own wealth score (DHS hv271) rank the households and the clusters.

    Parameters
    ----------
    index, wealth_score : Series of float
        One value a household, on the index of ``households``. Households that lack one are left out of both.
    households : DataFrame
        ``survey``, ``cluster_id`` and the household weight, with which the means of clusters are taken.

    Returns
    -------
    DataFrame
        One row a survey: ``survey``, ``households``, ``spearman_households``, ``clusters``, ``spearman_clusters``.
        A correlation is NaN where there are fewer than three, or where one of the two never varies.

    Raises
    ------
    SurveyError
        If a column is missing, or the three are not of the same households.
    """
    check_columns(households, ["survey", ID_COLUMN, weight], _WHAT, SurveyError)
    if not (index.index.equals(households.index) and wealth_score.index.equals(households.index)):
        raise SurveyError(
            "the index, the wealth score and the households differ in their rows; expected the same index."
        )
    both = pd.DataFrame(
        {
            "survey": households["survey"],
            "cluster": households[ID_COLUMN],
            "weight": as_number(households[weight], _WHAT),
            "ours": index.astype(float),
            "theirs": wealth_score.astype(float),
        }
    ).dropna()
    rows = []
    for survey, part in both.groupby("survey", sort=True):
        weighted = part[["ours", "theirs"]].mul(part["weight"], axis=0).groupby(part["cluster"]).sum()
        total = part.groupby("cluster")["weight"].sum()
        means = weighted.div(total.where(total > 0), axis=0).dropna()
        rows.append(
            {
                "survey": survey,
                "households": len(part),
                "spearman_households": _spearman(part),
                "clusters": len(means),
                "spearman_clusters": _spearman(means),
            }
        )
    columns = ["survey", "households", "spearman_households", "clusters", "spearman_clusters"]
    return pd.DataFrame(rows, columns=columns)


def _spearman(pairs: pd.DataFrame) -> float:
    ranks = pairs[["ours", "theirs"]].rank()
    if len(ranks) < _FEWEST or (ranks.nunique() < 2).any():
        return float("nan")
    return float(np.corrcoef(ranks["ours"], ranks["theirs"])[0, 1])


def _values(households: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The indicators as numbers; a column that is not there is unknown to all."""
    known = {n: as_number(households[n], _WHAT) for n in names if n in households.columns}
    return pd.DataFrame(known, index=households.index).reindex(columns=list(names))


def _groups(households: pd.DataFrame, by: str | None) -> pd.Series:
    if by is None:
        return pd.Series(POOLED, index=households.index)
    check_columns(households, [by], _WHAT, SurveyError)
    if households[by].isna().any():
        raise SurveyError(f"{int(households[by].isna().sum())} households have no {by}; fill it, or pool without it.")
    return households[by].astype(str)


def _per_survey(weights: pd.Series, survey: pd.Series, name: str) -> pd.Series:
    """Weights with a mean of one over the households of a survey that have one; the others weigh nothing."""
    if (weights < 0).any():
        raise SurveyError(f"{int((weights < 0).sum())} households have a negative {name}; expected 0 or more.")
    known = weights.where(weights > 0)
    return (known / known.groupby(survey).transform("mean")).fillna(0.0)


def _component(
    values: pd.DataFrame, weights: pd.Series, survey: pd.Series, group: str, max_missing: float
) -> Component:
    absent = {n for n in values.columns if not values[n].notna().groupby(survey).any().all()}
    left_out = [(n, _absence(values[n], survey)) for n in values.columns if n in absent]
    values = values.drop(columns=sorted(absent))
    used = (weights > 0) & (values.isna().mean(axis=1) <= max_missing)
    unused = int((~used).sum())
    values, weights = values[used], weights[used]
    if values.empty:
        raise SurveyError(
            f"no household is left for the asset index of {group!r}: all {unused} have no weight, or lack more than "
            f"{max_missing:.0%} of the indicators. Name fewer indicators, or allow more to be missing."
        )
    mean, sd = _moments(values, weights)
    # A spread at the level of rounding is no spread: dividing by it would make noise an indicator.
    flat = values.columns[~(sd > 1e-9 * (1 + mean.abs()))]
    left_out += [(str(n), "the same for all households") for n in flat]
    values, mean, sd = values.drop(columns=flat), mean.drop(flat), sd.drop(flat)
    if len(mean) < _FEWEST:
        reasons = "; ".join(f"{n}: {reason}" for n, reason in left_out)
        raise SurveyError(
            f"{len(mean)} indicators are left for the asset index of {group!r}, expected at least {_FEWEST} "
            f"(left out: {reasons or 'none'}). Name others, or leave out the survey that lacks them."
        )
    share = (weights / weights.sum()).to_numpy()
    standard = ((values - mean) / sd).fillna(0.0).to_numpy()
    moments = (standard * share[:, None]).T @ standard
    variances, vectors = np.linalg.eigh(moments)
    loading = _richer_is_higher(pd.Series(vectors[:, -1], index=values.columns), group)
    table = pd.DataFrame(
        {
            "mean": mean,
            "sd": sd,
            "loading": loading,
            "effect": loading / (sd * np.sqrt(variances[-1])),
            "n": values.notna().sum(),
            "missing": values.isna().mean(),
        }
    )
    return Component(
        loadings=table,
        explained=float(variances[-1] / variances.sum()),
        households=len(values),
        imputed=int(values.isna().any(axis=1).sum()),
        unused=unused,
        left_out=tuple(left_out),
    )


def _absence(values: pd.Series, survey: pd.Series) -> str:
    lacking = values.notna().groupby(survey).any()
    names = sorted(str(name) for name in lacking.index[~lacking])
    return "no household knows it" if len(names) == len(lacking) else f"not known in {some(names)}"


def _moments(values: pd.DataFrame, weights: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Weighted mean and standard deviation of each indicator over the households that know it."""
    weight = values.notna().mul(weights, axis=0)
    total = weight.sum()
    mean = (values * weight).sum() / total
    variance = ((values - mean) ** 2 * weight).sum() / total
    return mean, variance**0.5


def _richer_is_higher(loading: pd.Series, group: str) -> pd.Series:
    """The eigenvector, turned so that the index rises with the goods of the rich.

    Its covariance with the mean of some standardised indicators is its eigenvalue times their mean loading.
    """
    goods = [n for n in loading.index if n in GOODS] or list(loading.index)
    direction = float(loading[goods].mean())
    if abs(direction) < 1e-9:
        raise SurveyError(
            f"the asset index of {group!r} is unrelated to {some(goods)}, so that its sign cannot be told; "
            "add indicators that the rich own more often."
        )
    return loading if direction > 0 else -loading
