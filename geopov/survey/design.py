"""From households to clusters and totals, with the design of the survey: weights, strata, primary sampling units.

A household weight stands for households; times the number of members it stands for people. What describes people
(consumption per person, poverty) is averaged over people, what describes dwellings over households.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, check_points, check_unique, some
from geopov.errors import SurveyError
from geopov.survey.carried import CARRIED, carry, carry_attrs
from geopov.survey.clusters import AT_ZERO, NO_POSITION, check_clusters, drop_rows, entries, without_attrs
from geopov.survey.files.tables import as_ids, as_number
from geopov.survey.sampling import Codes, Numbers, linearised_mean, weighted_means

Per = Literal["people", "households"]

UNPLACED = "no position for this cluster"
NO_HOUSEHOLDS = "none of its households can be used"
NOT_ASKED = "no household of it is in the table of households"
_COUNTS = ("weight", "household_weight", "households", "households_effective")
_WHAT = "the table of households"


def aggregate_clusters(
    households: pd.DataFrame,
    *,
    outcomes: Mapping[str, str] | Sequence[str],
    positions: gpd.GeoDataFrame | None = None,
    per: Per = "people",
    logs: Sequence[str] = (),
    min_households: int = 1,
    weight_column: str = "weight",
    size_column: str = "household_size",
) -> gpd.GeoDataFrame:
    """Clusters of a household survey: weighted means of their households, each with its standard error.

    Households without a position, without a value of any outcome, or without a weight and size above zero are dropped
    and named. An outcome that only some households of a cluster lack is averaged over the others.

    Parameters
    ----------
    households : DataFrame
        One row a household: ``household_id``, ``cluster_id``, ``weight_column``, ``size_column``, the outcomes, and
        ``lon``, ``lat`` (EPSG:4326) where ``positions`` are not given. Of ``survey``, ``country``, ``year``,
        ``urban``, ``region``, ``stratum``, ``psu``, ``displacement_km`` and ``poverty_line``, those present are
        carried: the most common value of the cluster, with a note where it is not the only one.
    outcomes : sequence or mapping of str
        Columns of numbers to average; a mapping gives the name in the clusters, ``{"poor": "headcount"}``.
    positions : GeoDataFrame, optional
        One point a cluster, with a CRS and ``cluster_id``. Its other columns are carried too, and fill in those of
        the households.
    per : {"people", "households"}
        Whose mean: weights are household weight x size, or household weight.
    logs : sequence of str
        Outcomes (by their name in the clusters) to take the natural logarithm of. Clusters whose mean is not above
        zero are dropped and named.
    min_households : int
        Clusters with fewer usable households are dropped and named.
    weight_column, size_column : str
        Household sampling weight and number of members.

    Returns
    -------
    GeoDataFrame (cluster)
        Points in EPSG:4326, sorted by ``cluster_id``: ``weight`` (people: sum of weight x size), ``household_weight``
        (sum of weights), ``households`` (usable ones), ``households_effective`` (Kish: (sum w)² / sum w², w as the
        means are taken with), and each outcome ``y`` with ``y_se``; for logs ``log_y`` (of the mean) with
        ``log_y_se`` (delta method), and ``mean_log_y`` (mean of the logs, NaN where a household is not above zero)
        with ``mean_log_y_se``. A standard error is NaN where one household answered. ``attrs``: ``dropped``, and
        ``units``, ``measures``, ``notes`` of the households.

    Raises
    ------
    SurveyError
        If a column is missing, a household or a position stands twice, a value is no number, a cluster lies at
        several places or belongs to several surveys, or nothing is left.
    """
    names = _check_arguments(outcomes, per, logs, min_households)
    attrs = carry_attrs(households.attrs, {} if positions is None else positions.attrs, names=names)
    households = without_attrs(households)
    people = _people(households, names, weight_column, size_column)
    values = pd.DataFrame({column: as_number(households[column], _WHAT).to_numpy() for column in names})
    places = None if positions is None else _check_positions(positions, people[ID_COLUMN])
    no_weight = f"{weight_column} x {size_column} is missing or not above zero"
    usable, left_out = _split(people, values, places, no_weight, households.columns)
    kept, answers = people[usable], values[usable]
    codes, ids = pd.factorize(kept[ID_COLUMN], sort=True)
    points = _one_place(kept) if places is None else places.geometry.reindex(ids)

    weight = kept["people" if per == "people" else "weight"].to_numpy()
    columns: dict[str, Any] = {
        "weight": np.bincount(codes, kept["people"]),
        "household_weight": np.bincount(codes, kept["weight"]),
        "households": np.bincount(codes),
        "households_effective": np.bincount(codes, weight) ** 2 / np.bincount(codes, weight**2),
    }
    for column, name in names.items():
        columns |= _columns_of(answers[column].to_numpy(), weight, codes, name, log=name in logs)
    known = None if places is None else places.drop(columns=[*columns], errors="ignore")
    carried, notes = carry(households.loc[usable.to_numpy()], kept[ID_COLUMN], known, ids)
    clusters = gpd.GeoDataFrame({ID_COLUMN: ids, **carried, **columns}, geometry=points.to_numpy(), crs="EPSG:4326")
    for n in range(1, min_households):
        few = clusters["households"] == n
        clusters = drop_rows(clusters, few, f"usable households: {n}, expected at least {min_households}")
    for column, name in names.items():
        if name in logs:
            reason = f"mean {column} is not above zero: its logarithm is undefined"
            clusters = drop_rows(clusters, clusters[name] <= 0, reason)
    attrs["dropped"] += [
        *_entries(people, left_out, places, ids, attrs["dropped"]),
        *clusters.attrs.get("dropped", []),
    ]
    attrs["notes"] += notes
    if unplaced := len(left_out.get(UNPLACED, [])):
        attrs["notes"].append(f"{unplaced} households are left out with clusters that have no position.")
    clusters.attrs = {key: of for key, of in attrs.items() if of}
    return check_clusters(clusters)


def estimate(
    households: pd.DataFrame,
    column: str,
    *,
    by: str | None = None,
    per: Per = "people",
    weight_column: str = "weight",
    size_column: str = "household_size",
) -> pd.DataFrame:
    """Weighted mean of a column, for the whole survey or for groups of households, with its standard error.

    The error follows from the design: strata, and within them primary sampling units drawn with replacement. A group
    is a domain: units without households of it count as drawn, with nothing to add.

    Parameters
    ----------
    households : DataFrame
        One row a household, all of the survey, also those outside the groups: ``cluster_id``, ``weight_column``,
        ``size_column``, ``column``; where they are present, ``survey`` and ``stratum`` (a missing stratum is a stratum
        of its own in each survey; without the column, each survey is one) and ``psu`` (default ``cluster_id``).
    column : str
        Numbers. Households without a value, or without a weight and size above zero, count for nothing.
    by : str, optional
        Column whose values are the groups; households without one are in none.
    per : {"people", "households"}
        Whose mean: weights are household weight x size, or household weight.
    weight_column, size_column : str
        Household sampling weight and number of members.

    Returns
    -------
    DataFrame (group)
        Indexed by the values of ``by``, or one row ``all``. ``mean``; ``se`` (Taylor linearisation, NaN where all
        answers come from one primary sampling unit); ``cv`` (se over the mean without its sign); ``n`` (households
        that answered); ``n_effective`` (Kish, of the weights); ``deff`` (design effect: variance over that of ``n``
        households drawn at random with replacement); ``psus`` and ``strata`` with answers; ``single_psu_strata``,
        those of them with one unit in the survey, whose spread within is unknown: its distance from the grand mean
        stands for it.

    Raises
    ------
    SurveyError
        If a column is missing, a value is no number, or no household is left.
    """
    if per not in ("people", "households"):
        raise SurveyError(f"per is {per!r}; expected 'people' or 'households'.")
    columns = [ID_COLUMN, weight_column, size_column, column, *([by] if by else [])]
    check_columns(households, columns, _WHAT, SurveyError)
    households = without_attrs(households)
    value = as_number(households[column], _WHAT).to_numpy()
    weight = as_number(households[weight_column], _WHAT).to_numpy()
    size = as_number(households[size_column], _WHAT).to_numpy()
    answered = ~np.isnan(value) & (weight * size > 0)
    if not answered.any():
        raise SurveyError(f"no household has both a value of {column} and a weight; is this the right column?")
    stratum, psu = _design_of(households)
    weight = weight * size if per == "people" else weight
    groups = pd.Series("all", index=households.index) if by is None else households[by]
    rows = {}
    for group in sorted(groups[answered].dropna().unique()):
        of = answered & (groups == group).to_numpy()
        rows[group] = linearised_mean(value[of], weight[of], stratum, psu, of)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def _design_of(households: pd.DataFrame) -> tuple[Codes, Codes]:
    """Stratum and primary sampling unit of each household as codes from 0; strata nest in surveys, units in strata."""
    above = [name for name in ("survey", "stratum") if name in households]
    unit = "psu" if "psu" in households else ID_COLUMN
    if households[unit].isna().any():
        raise SurveyError(f"{_WHAT} has {int(households[unit].isna().sum())} rows without {unit}; fill or drop them.")
    codes = households[[*above, unit]].astype(object).reset_index(drop=True)
    stratum = codes.groupby(above, dropna=False).ngroup() if above else pd.Series(0, index=codes.index)
    psu = codes.groupby([*above, unit], dropna=False).ngroup()
    return np.asarray(stratum, dtype=np.intp), np.asarray(psu, dtype=np.intp)


def _check_arguments(
    outcomes: Mapping[str, str] | Sequence[str], per: str, logs: Sequence[str], min_households: int
) -> dict[str, str]:
    """Column of the households to name in the clusters, once all arguments are found to fit."""
    if isinstance(outcomes, str) or isinstance(logs, str) or not outcomes:
        raise SurveyError(f"outcomes are {outcomes!r} and logs {logs!r}; expected lists of columns, ['consumption'].")
    names = dict(outcomes) if isinstance(outcomes, Mapping) else {column: column for column in outcomes}
    made = [f"{name}{end}" for name in names.values() for end in ("", "_se")]
    made += [f"{log}_{name}{end}" for name in logs for log in ("log", "mean_log") for end in ("", "_se")]
    taken = [name for name in made if made.count(name) > 1 or name in {*_COUNTS, *CARRIED, ID_COLUMN, "geometry"}]
    if taken:
        raise SurveyError(
            f"columns {some(map(repr, dict.fromkeys(taken)))} of the clusters would stand for two things; "
            "give the outcomes other names, as in {'poor': 'headcount'}."
        )
    if not set(logs) <= set(names.values()):
        raise SurveyError(f"logs are {logs!r}; expected some of the outcomes: {some(names.values(), 20)}.")
    if per not in ("people", "households"):
        raise SurveyError(f"per is {per!r}; expected 'people' or 'households'.")
    if isinstance(min_households, bool) or not isinstance(min_households, int) or min_households < 1:
        raise SurveyError(f"min_households is {min_households!r}; expected a whole number from 1.")
    return names


def _people(households: pd.DataFrame, names: Iterable[str], weight_column: str, size_column: str) -> pd.DataFrame:
    """The households on a plain index: who, where, and whom they stand for; lon and lat are NaN where absent."""
    check_columns(households, ["household_id", ID_COLUMN, weight_column, size_column, *names], _WHAT, SurveyError)
    household = as_ids(households["household_id"], _WHAT)
    check_unique(household, _WHAT, SurveyError)
    weight = as_number(households[weight_column], _WHAT).to_numpy()
    missing = pd.Series(np.nan, index=households.index)
    return pd.DataFrame(
        {
            "household": household.to_numpy(),
            ID_COLUMN: as_ids(households[ID_COLUMN], _WHAT).to_numpy(),
            "lon": as_number(households.get("lon", missing), _WHAT).to_numpy(),
            "lat": as_number(households.get("lat", missing), _WHAT).to_numpy(),
            "weight": weight,
            "people": weight * as_number(households[size_column], _WHAT).to_numpy(),
        }
    )


def _check_positions(positions: gpd.GeoDataFrame, clusters: pd.Series) -> gpd.GeoDataFrame:
    """Positions in EPSG:4326, indexed by cluster."""
    if isinstance(positions, gpd.GeoDataFrame) and ID_COLUMN in positions:
        positions = positions.assign(**{ID_COLUMN: as_ids(positions[ID_COLUMN], "the table of positions")})
    places = check_points(without_attrs(positions), error=SurveyError).set_index(ID_COLUMN)
    if not clusters.isin(places.index).any():
        raise SurveyError(
            f"no cluster of the households ({some(clusters.unique())}) is among the positions ({some(places.index)}): "
            "are both of the same survey, and named alike?"
        )
    return places


def _split(
    people: pd.DataFrame,
    values: pd.DataFrame,
    places: gpd.GeoDataFrame | None,
    no_weight: str,
    columns: Collection[str],
) -> tuple[pd.Series, dict[str, pd.DataFrame]]:
    """Which households can be used, and by reason those that cannot."""
    if places is not None:
        reasons = {UNPLACED: ~people[ID_COLUMN].isin(places.index)}
    elif {"lon", "lat"} <= set(columns):
        reasons = {
            NO_POSITION: people["lon"].isna() | people["lat"].isna(),
            AT_ZERO: (people["lon"] == 0) & (people["lat"] == 0),
        }
    else:
        raise SurveyError(f"{_WHAT} has no columns 'lon' and 'lat'; give the positions of the clusters.")
    reasons[f"no value of {' or '.join(values.columns)}"] = values.isna().all(axis=1)
    reasons[no_weight] = ~((people["weight"] > 0) & (people["people"] > 0))
    usable, left_out = pd.Series(True, index=people.index), {}
    for reason, applies in reasons.items():
        # The first reason that applies is the one that counts, so that the numbers add up.
        left_out[reason] = people[usable & applies]
        usable &= ~applies
    if not usable.any():
        counts = "; ".join(f"{len(of)} for {reason}" for reason, of in left_out.items() if len(of))
        raise SurveyError(f"no household is left: {counts}. Are these the right columns?")
    return usable, left_out


def _entries(
    people: pd.DataFrame,
    left_out: Mapping[str, pd.DataFrame],
    places: gpd.GeoDataFrame | None,
    ids: pd.Index,
    before: list[dict[str, str]],
) -> list[dict[str, str]]:
    """Each household that was left out, and each cluster without any; those without a position by cluster."""
    named = {entry["id"] for entry in before if entry["source"] == "clusters"}
    unplaced = set(left_out[UNPLACED][ID_COLUMN]) if UNPLACED in left_out else set()
    made = entries("clusters", sorted(unplaced - named), UNPLACED)
    for reason, of in left_out.items():
        made += entries("households", of["household"] if reason != UNPLACED else [], reason)
    asked = set(people[ID_COLUMN])
    made += entries("clusters", sorted(asked - unplaced - set(ids)), NO_HOUSEHOLDS)
    never = set() if places is None else set(places.index) - asked - named
    return made + entries("clusters", sorted(never), NOT_ASKED)


def _one_place(people: pd.DataFrame) -> gpd.GeoSeries:
    grouped = people.groupby(ID_COLUMN, sort=True)[["lon", "lat"]]
    places = grouped.nunique().max(axis=1)
    many = places[places > 1].index
    if len(many):
        raise SurveyError(
            f"{len(many)} clusters have households at more than one place ({some(many)}); expected the one position "
            "that surveys publish for a cluster. Average the coordinates of each cluster first."
        )
    first = grouped.first()
    return gpd.GeoSeries(gpd.points_from_xy(first["lon"], first["lat"]), crs="EPSG:4326")


def _columns_of(value: Numbers, weight: Numbers, codes: Codes, name: str, *, log: bool) -> dict[str, Any]:
    mean, se = weighted_means(value, weight, codes)
    columns = {name: mean, f"{name}_se": se}
    if log:
        above = np.where(mean > 0, mean, np.nan)
        # Households at or below zero have no logarithm, and a mean over the others would be of other households.
        never = np.bincount(codes, value <= 0) > 0
        logs = np.log(np.where((value > 0) & ~never[codes], value, np.nan))
        mean_log, mean_log_se = weighted_means(logs, weight, codes)
        columns |= {
            f"log_{name}": np.log(above),
            f"log_{name}_se": se / above,
            f"mean_log_{name}": mean_log,
            f"mean_log_{name}_se": mean_log_se,
        }
    return columns
