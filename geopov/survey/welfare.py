"""From survey files to clusters with welfare measures: the whole way for DHS and for LSMS surveys.

Each step is a function of its own module; here they are put in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import check_positive, some
from geopov.errors import SurveyError
from geopov.survey.assets.asset_index import AssetIndex, compare
from geopov.survey.assets.deprivation import deprivation_score
from geopov.survey.assets.iwi import iwi
from geopov.survey.design import aggregate_clusters, estimate
from geopov.survey.dhs import read_dhs
from geopov.survey.lsms import Adapter, Ppp, read_adapter, read_lsms
from geopov.survey.lsms.files import Table
from geopov.survey.lsms.prices import Divisor, per_day
from geopov.survey.poverty import shortfalls
from geopov.survey.sampling import within_cluster_sd

DHS_OUTCOMES = ("asset_wealth", "asset_wealth_country", "iwi", "deprivation", "wealth_score")
"""Means over households. What a survey's files do not allow is left out; see :func:`dhs_clusters`."""

POVERTY = {"poor": "headcount", "poverty_gap": "poverty_gap", "poverty_severity": "poverty_severity"}
"""A household's term of each poverty index, and the name of its mean over people."""


def dhs_clusters(
    sources: Sequence[Path | str], *, indicators: Sequence[str] | None = None, min_households: int = 1
) -> gpd.GeoDataFrame:
    """Clusters of DHS surveys with their asset wealth.

    Parameters
    ----------
    sources : sequence of path
        Distribution zips, folders or unpacked files: household recodes and GPS data, of one survey or of many.
    indicators : sequence of str, optional
        Of the asset index; default :data:`geopov.survey.assets.asset_index.INDICATORS`.
    min_households : int
        Clusters with fewer are left out and named.

    Returns
    -------
    GeoDataFrame
        Clusters with ``asset_wealth`` (one index of all surveys given), ``asset_wealth_country`` (within each country),
        ``iwi`` (0 to 100, International Wealth Index), ``deprivation`` (0 to 1) and ``wealth_score`` (the survey's own
        hv271), as means over households by household weight, each with ``_se``. One that no household has is left
        out, and a note says so. ``attrs["measures"]`` has loadings and rank correlations;
        :func:`describe_measures` puts them in words.

    Raises
    ------
    SurveyError
        As :func:`geopov.survey.read_dhs`, :class:`geopov.survey.AssetIndex` and
        :func:`geopov.survey.aggregate_clusters`.
    """
    survey = read_dhs(sources)
    households = survey.households
    pooled = AssetIndex.fit(households, indicators=indicators)
    within = AssetIndex.fit(households, indicators=indicators, by="country")
    # One unknown variable of twelve is allowed, as the Global Data Lab allows it.
    fixed, deprived = iwi(households, max_unknown=1), deprivation_score(households)
    scored = households.assign(
        asset_wealth=pooled.score(households),
        asset_wealth_country=within.score(households),
        iwi=fixed,
        deprivation=deprived,
    )
    measures: dict[str, Any] = {
        "asset_wealth": pooled.to_dict() | {"agreement": _agreement(scored, "asset_wealth")},
        "asset_wealth_country": within.to_dict() | {"agreement": _agreement(scored, "asset_wealth_country")},
        "iwi": fixed.attrs["measure"] | {"known": int(fixed.notna().sum()), "of": len(scored)},
        "deprivation": deprived.attrs["measure"] | {"known": int(deprived.notna().sum()), "of": len(scored)},
    }
    outcomes = [name for name in DHS_OUTCOMES if name in scored and scored[name].notna().any()]
    notes = [
        f"no household has {name}: its variables are not in the files" for name in DHS_OUTCOMES if name not in outcomes
    ]
    scored.attrs = dict(households.attrs)
    clusters = aggregate_clusters(
        scored, outcomes=outcomes, positions=survey.positions, per="households", min_households=min_households
    )
    clusters.attrs["measures"] = {name: measures[name] for name in measures if name in outcomes}
    clusters.attrs["notes"] = [*clusters.attrs.get("notes", []), *notes]
    return clusters


def lsms_clusters(
    adapter: str | Path | Adapter,
    *,
    households: Table | Sequence[Table],
    locations: Table | None = None,
    ppp: Ppp | None = None,
    line_ppp_usd: float | None = None,
    line_national: float | None = None,
    by: str | None = None,
    min_households: int = 1,
) -> gpd.GeoDataFrame:
    """Clusters of an LSMS survey with their consumption and, where a line is known, their poverty.

    Parameters
    ----------
    adapter, households, locations, ppp
        As for :func:`geopov.survey.read_lsms`.
    line_ppp_usd : float, optional
        Poverty line in PPP USD per person per day, such as 2.15 in prices of 2017; needs a PPP conversion.
    line_national : float, optional
        Poverty line per person in the adapter's currency and period, in real prices of the survey's base. Default: the
        line that the survey's file gives each household, if it gives one.
    by : str, optional
        Column of the households (region, stratum, urban, psu) to also estimate the headcount by: the direct estimates
        that :func:`geopov.maps.fay_herriot` joins with a map.
    min_households : int
        Clusters with fewer are left out and named.

    Returns
    -------
    GeoDataFrame
        Clusters with ``consumption`` (PPP USD per person per day; ``consumption_mwk`` and the like in national
        currency where no PPP is known) as means over people, ``log_consumption`` (of the mean) and
        ``mean_log_consumption`` (mean of the logarithms), ``consumption_ae`` per adult equivalent, and ``headcount``,
        ``poverty_gap``, ``poverty_severity``, each with ``_se``. ``attrs["measures"]`` has every step from the file's
        amount, and what the line gives for all people of the survey, those without a position included.

    Raises
    ------
    SurveyError
        If two lines are given, or one in PPP without a conversion; or as :func:`geopov.survey.read_lsms` and
        :func:`geopov.survey.aggregate_clusters`.
    """
    adapter = read_adapter(adapter)
    if ppp is not None:
        adapter = adapter.model_copy(update={"ppp": ppp})
    table = read_lsms(adapter, households=households, locations=locations)
    money = adapter.column("person")
    logs = [name for name in (money, adapter.column("adult_equivalent")) if name in table]
    outcomes = {name: name for name in logs}
    line, against = _line(adapter, table, line_ppp_usd, line_national)
    if by is not None and (line is None or by not in table):
        raise SurveyError(
            f"the headcount is to be estimated by {by!r}, but "
            + ("no poverty line is known." if line is None else f"the households have {some(table.columns, 20)}.")
        )
    if line is not None:
        attrs = dict(table.attrs)
        table = table.join(shortfalls(table[adapter.column(against)], line))
        table.attrs = attrs
        outcomes |= POVERTY
    clusters = aggregate_clusters(table, outcomes=outcomes, logs=logs, min_households=min_households)
    measures = dict(table.attrs["measures"])
    measures["consumption"] = measures["consumption"] | {"within_sd": _within(table, money)}
    if line is not None:
        measures["headcount"] = _poverty(table, line, adapter.unit(against), by)
    clusters.attrs["measures"] = measures
    return clusters


def _within(table: pd.DataFrame, money: str) -> float | None:
    """Spread of log consumption among the people of a cluster; None where no cluster has two households."""
    people = table["weight"] * table["household_size"]
    usable = (table[money] > 0) & (people > 0)
    if not table.loc[usable, "cluster_id"].duplicated().any():
        return None
    kept = table[usable]
    return within_cluster_sd(np.log(kept[money]), kept["cluster_id"], weights=people[usable])


def _line(
    adapter: Adapter, table: pd.DataFrame, line_ppp_usd: float | None, line_national: float | None
) -> tuple[pd.Series | None, Divisor]:
    """The line of each household, and whether it is one of consumption per person or per adult equivalent."""
    if line_ppp_usd is not None and line_national is not None:
        raise SurveyError("a poverty line is given in PPP USD and another in national currency; expected one.")
    if line_ppp_usd is not None:
        check_positive(line_ppp_usd, "line_ppp_usd", SurveyError)
        if adapter.ppp is None:
            raise SurveyError(
                f"the poverty line is {line_ppp_usd:g} PPP USD, but {adapter.name} has no PPP conversion; "
                "give ppp (factor, year, cpi_ratio, source), or the line in national currency."
            )
        return pd.Series(float(line_ppp_usd), index=table.index, name="line"), "person"
    if line_national is not None:
        check_positive(line_national, "line_national", SurveyError)
        daily = per_day(pd.Series(float(line_national), index=table.index), adapter.consumption.per)
        return adapter.convert(daily, None, nominal=False).rename("line"), "person"
    if "poverty_line_ae" in table:
        return table["poverty_line_ae"], "adult_equivalent"
    return table.get("poverty_line"), "person"


def _poverty(table: pd.DataFrame, line: pd.Series, unit: str, by: str | None) -> dict[str, Any]:
    """The line and what it gives for the whole survey, with standard errors of its design."""
    rows = []
    for column, name in POVERTY.items():
        row = estimate(table, column, per="people").iloc[0]
        rows.append({"index": name} | {key: _plain(row[key]) for key in ("mean", "se", "cv", "n", "deff")})
    values = np.unique(line.dropna())
    made = {"unit": unit, "line": [float(values.min()), float(values.max())], "national": rows}
    if by is not None:
        found = estimate(table, "poor", by=by, per="people")
        areas = [
            {"area": str(area), "estimate": _plain(row["mean"]), "variance": _plain(row["se"] ** 2)}
            | {"n": int(row["n"]), "psus": int(row["psus"])}
            for area, row in found.iterrows()
        ]
        made |= {"by": by, "areas": areas}
    return made


def _agreement(households: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """Rank correlation with the survey's own wealth score, by survey; none where no survey has one."""
    if "wealth_score" not in households or households["wealth_score"].isna().all():
        return []
    table = compare(households[name], households["wealth_score"], households)
    return [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A value as JSON has it, None for NaN."""
    if isinstance(value, str):
        return value
    number = float(value)
    return None if np.isnan(number) else int(number) if number.is_integer() else number


def describe_measures(measures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``attrs["measures"]`` of clusters for people: what was computed, from what, and how well it holds.

    Returns
    -------
    list of dict
        ``title``, ``text`` and ``tables`` (each ``title``, ``columns`` and ``rows`` of text and numbers).
    """
    found = []
    for name, facts in measures.items():
        if name.startswith("asset_wealth"):
            found.append(_about_index(name, facts))
        elif name == "iwi":
            text = f"Fixed weights of {facts['source']}, so that surveys, countries and years compare. "
            text += f"Known for {facts['known']} of {facts['of']} households."
            for survey, cheap in facts["cheap_utensils"].items():
                asked = some([*cheap, *facts["expensive_utensils"][survey]], 10) or "none"
                text += f" Utensils that {survey} asks for: {asked}."
            text += " The index knows more of them, so it is a little too low."
            found.append({"title": "International Wealth Index (0 to 100)", "text": text, "tables": []})
        elif name == "deprivation":
            text = f"Share of weighted deprivations (0 to 1), {facts['source']}. "
            text += f"Known for {facts['known']} of {facts['of']} households."
            for survey, left_out in facts["left_out"].items():
                text += f" {survey} is without {some(left_out, 10)}."
            found.append({"title": "Deprivation", "text": text, "tables": []})
        elif name == "consumption":
            text = f"Unit: {facts['unit']}. " + "; ".join(facts["steps"]) + "."
            if facts.get("within_sd") is not None:
                text += f" Spread of log consumption among the people of a cluster: {facts['within_sd']:.3f} (SD)."
            if facts["ppp"]:
                text += f" PPP: {facts['ppp']['source']}."
            found.append({"title": "Consumption", "text": text, "tables": []})
        elif name == "headcount":
            found.append(_about_poverty(facts))
    return found


def _about_index(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    pooled = name == "asset_wealth"
    title = "Asset wealth, one index of all surveys" if pooled else "Asset wealth within each country"
    texts, tables = [], []
    for group, part in facts["groups"].items():
        text = f"{'' if pooled else group + ': '}the first component holds {part['explained']:.0%} of the variance of "
        text += f"{len(part['loadings'])} indicators over {part['households']} households"
        text += f"; {part['imputed']} of them have an indicator put at its mean" if part["imputed"] else ""
        text += f"; {part['unused']} took no part" if part["unused"] else ""
        for indicator, reason in part["left_out"].items():
            text += f"; {indicator} is left out ({reason})"
        texts.append(text + ".")
        rows = [
            [i, *(row[key] for key in ("loading", "effect", "mean", "missing"))] for i, row in part["loadings"].items()
        ]
        tables.append(
            {
                "title": "Loadings" if pooled else f"Loadings, {group}",
                "columns": ["indicator", "loading", "adds to the index", "mean", "missing"],
                "rows": sorted(rows, key=lambda row: -row[1]),
            }
        )
    if facts["agreement"]:
        keys = ["survey", "households", "spearman_households", "clusters", "spearman_clusters"]
        tables.append(
            {
                "title": "Rank correlation with the survey's own wealth score (hv271)",
                "columns": ["survey", "households", "Spearman, households", "clusters", "Spearman, clusters"],
                "rows": [[row[key] for key in keys] for row in facts["agreement"]],
            }
        )
    return {"title": title, "text": " ".join(text[0].upper() + text[1:] for text in texts), "tables": tables}


def _about_poverty(facts: Mapping[str, Any]) -> dict[str, Any]:
    low, high = facts["line"]
    line = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    tables = []
    if "areas" in facts:
        columns = ["area", "estimate", "variance", "n", "psus"]
        rows = [[row[column] for column in columns] for row in facts["areas"]]
        tables = [{"title": f"Headcount by {facts['by']}", "columns": columns, "rows": rows}]
    return {
        "title": "Poverty",
        "text": f"Line: {line} {facts['unit']}. A person is poor if the household's consumption is below it.",
        "tables": [
            {
                "title": "All people of the survey, those of clusters without a position included",
                "columns": ["index", "estimate", "standard error", "households", "design effect"],
                "rows": [[row["index"], row["mean"], row["se"], row["n"], row["deff"]] for row in facts["national"]],
            },
            *tables,
        ],
    }
