"""Households to clusters: the mean consumption of the people of a cluster, and how many households it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, check_positive, check_unique, some
from geopov.errors import SurveyError
from geopov.survey.clusters import AT_ZERO, NO_POSITION, check_clusters, drop_rows, note_dropped
from geopov.survey.tables import as_ids, as_number, read_table

_WHAT = "the table of households"


def aggregate_households(
    households: pd.DataFrame | Path | str,
    *,
    cluster_column: str,
    weight_column: str,
    size_column: str,
    outcome: str,
    lon_column: str,
    lat_column: str,
    household_column: str,
    locations: pd.DataFrame | Path | str | None = None,
    to_ppp_usd_per_day: float | None = None,
    units: str = "national",
) -> gpd.GeoDataFrame:
    """Clusters of a household survey, with the mean outcome of their people.

    The mean over households is weighted by household weight times household size: a per-capita amount describes
    people, and a weight stands for households. Households without a position, outcome, weight or size are dropped and
    named, one by one.

    Parameters
    ----------
    households : DataFrame or path
        One row a household.
    cluster_column : str
        Names the cluster (enumeration area, primary sampling unit).
    weight_column, size_column : str
        Household sampling weight and number of members.
    outcome : str
        Consumption (or income) per person, in one unit of money and time for all households.
    lon_column, lat_column : str
        Coordinates in EPSG:4326, in ``households`` or in ``locations``.
    household_column : str
        Names the household; also joins ``locations``.
    locations : DataFrame or path, optional
        One row a household: ``household_column``, ``lon_column``, ``lat_column``.
    to_ppp_usd_per_day : float, optional
        What one unit of ``outcome`` is in PPP USD per person per day, such as 1 / (365 x PPP conversion factor) for
        amounts a year; say in the study which factor, year and source that is. Without it the amounts stay as they
        are, and so does their name.
    units : str
        Ends the name of an outcome that is not converted, such as ``"mwk_per_year"``.

    Returns
    -------
    GeoDataFrame
        Clusters in EPSG:4326, sorted by ``cluster_id``. ``households`` (their number), ``weight`` (the people they
        stand for: sum of weight x size), and ``consumption`` (PPP USD per person per day) with ``log_consumption``,
        or ``OUTCOME_UNITS`` with ``log_OUTCOME_UNITS``; the logarithm is the natural one, of the mean.

    Raises
    ------
    SurveyError
        If a column is missing, a household stands twice, a value is no number, the households of one cluster lie at
        different places, or nothing is left.
    """
    if to_ppp_usd_per_day is not None:
        check_positive(to_ppp_usd_per_day, "to_ppp_usd_per_day", SurveyError)
    table = read_table(households) if isinstance(households, str | Path) else households
    check_columns(table, [household_column, cluster_column, weight_column, size_column, outcome], _WHAT, SurveyError)
    household = as_ids(table[household_column], _WHAT)
    check_unique(household, _WHAT, SurveyError)
    if locations is not None:
        table = _with_locations(table, household, locations, household_column, [lon_column, lat_column])
    check_columns(table, [lon_column, lat_column], _WHAT, SurveyError)
    people = pd.DataFrame(
        {
            "household": household,
            ID_COLUMN: as_ids(table[cluster_column], _WHAT),
            "lon": as_number(table[lon_column], _WHAT),
            "lat": as_number(table[lat_column], _WHAT),
            "outcome": as_number(table[outcome], _WHAT),
            # Weighted people: what a mean per person, and a sum over people, are taken with.
            "weight": as_number(table[weight_column], _WHAT) * as_number(table[size_column], _WHAT),
        }
    )
    usable, left_out = _split(people, outcome, weight_column, size_column)
    _check_one_place(usable)

    grouped = usable.assign(total=usable["outcome"] * usable["weight"]).groupby(ID_COLUMN, sort=True)
    total = grouped.agg(
        households=("household", "size"),
        weight=("weight", "sum"),
        total=("total", "sum"),
        lon=("lon", "first"),
        lat=("lat", "first"),
    ).reset_index()
    name = "consumption" if to_ppp_usd_per_day is not None else f"{outcome}_{units}"
    mean = total["total"] / total["weight"] * (to_ppp_usd_per_day if to_ppp_usd_per_day is not None else 1.0)
    clusters = gpd.GeoDataFrame(
        {
            ID_COLUMN: total[ID_COLUMN],
            "weight": total["weight"],
            "households": total["households"],
            name: mean,
            f"log_{name}": np.log(mean.where(mean > 0)),
        },
        geometry=gpd.points_from_xy(total["lon"], total["lat"]),
        crs="EPSG:4326",
    )
    for reason, ids in left_out:
        clusters = note_dropped(clusters, "households", ids, reason)
    lost = sorted(set(people[ID_COLUMN]) - set(clusters[ID_COLUMN]))
    clusters = note_dropped(clusters, "clusters", lost, "none of its households can be used")
    clusters = drop_rows(clusters, mean <= 0, f"mean {outcome} is not above zero: its logarithm is undefined")
    return check_clusters(clusters)


def _with_locations(
    table: pd.DataFrame, household: pd.Series, locations: pd.DataFrame | Path | str, key: str, columns: Sequence[str]
) -> pd.DataFrame:
    what = "the table of locations"
    places = read_table(locations) if isinstance(locations, str | Path) else locations
    check_columns(places, [key, *columns], what, SurveyError)
    ids = as_ids(places[key], what)
    check_unique(ids, what, SurveyError)
    clash = [column for column in columns if column in table.columns]
    if clash:
        raise SurveyError(
            f"{some(map(repr, clash))} stand in the table of households and in that of locations; "
            "leave out the locations, or rename the columns of one."
        )
    if not household.isin(ids).any():
        raise SurveyError(
            f"no household ({some(household)}) has a location ({some(ids)}): do both tables name households by {key!r}?"
        )
    found = places[list(columns)].set_axis(ids, axis=0).reindex(household)
    return table.assign(**{column: found[column].to_numpy() for column in columns})


def _split(
    people: pd.DataFrame, outcome: str, weight_column: str, size_column: str
) -> tuple[pd.DataFrame, list[tuple[str, list[str]]]]:
    """The households that can be used, and for each reason to leave one out the households it applies to."""
    reasons = {
        NO_POSITION: people["lon"].isna() | people["lat"].isna(),
        AT_ZERO: (people["lon"] == 0) & (people["lat"] == 0),
        f"no value of {outcome}": people["outcome"].isna(),
        f"{weight_column} x {size_column} is missing or not above zero": ~(people["weight"] > 0),
    }
    left_out = []
    usable = pd.Series(True, index=people.index)
    for reason, applies in reasons.items():
        # The first reason that applies is the one that counts, so that the numbers add up.
        left_out.append((reason, people.loc[usable & applies, "household"].tolist()))
        usable &= ~applies
    if not usable.any():
        counts = "; ".join(f"{len(ids)} for {reason}" for reason, ids in left_out if ids)
        raise SurveyError(f"no household is left: {counts}. Are these the right columns?")
    return people[usable], left_out


def _check_one_place(people: pd.DataFrame) -> None:
    places = people.groupby(ID_COLUMN)[["lon", "lat"]].nunique().max(axis=1)
    many = places[places > 1].index
    if len(many):
        raise SurveyError(
            f"{len(many)} clusters have households at more than one place ({some(many)}); expected the one position "
            "that surveys publish for a cluster. Average the coordinates of each cluster first."
        )
