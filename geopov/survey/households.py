"""Households to clusters: the mean consumption of the people of a cluster, and how many households it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, check_positive, check_unique, some
from geopov.errors import SurveyError
from geopov.survey.design import aggregate_clusters
from geopov.survey.files.tables import as_ids, as_number, read_table

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
        or ``OUTCOME_UNITS`` with ``log_OUTCOME_UNITS``; the logarithm is the natural one, of the mean. Standard
        errors and the mean of the logarithms stand beside them, as :func:`geopov.survey.design.aggregate_clusters`
        makes them.

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
    # Read here, so that what is wrong is named as the caller's files name it.
    columns = {
        "household_id": household,
        ID_COLUMN: as_ids(table[cluster_column], _WHAT),
        "lon": as_number(table[lon_column], _WHAT),
        "lat": as_number(table[lat_column], _WHAT),
        outcome: as_number(table[outcome], _WHAT) * (1.0 if to_ppp_usd_per_day is None else to_ppp_usd_per_day),
        weight_column: as_number(table[weight_column], _WHAT),
        size_column: as_number(table[size_column], _WHAT),
    }
    name = "consumption" if to_ppp_usd_per_day is not None else f"{outcome}_{units}"
    return aggregate_clusters(
        pd.DataFrame(columns),
        outcomes={outcome: name},
        logs=[name],
        weight_column=weight_column,
        size_column=size_column,
    )


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
