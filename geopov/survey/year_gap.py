"""The gap between the year of a survey and the years of the images it is explained by."""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd

from geopov._validation import ID_COLUMN, check_columns, some
from geopov.errors import SurveyError
from geopov.survey.clusters import drop_rows
from geopov.survey.files.tables import as_number

GAPS = ("imagery_gap", "nightlights_gap")


def year_gap(
    clusters: pd.DataFrame, *, imagery_years: Sequence[int], nightlights_years: Sequence[int] = ()
) -> pd.DataFrame:
    """Years from each cluster's survey to the nearest image, of the imagery and of the nightlights.

    Parameters
    ----------
    clusters : DataFrame
        With ``cluster_id`` and ``year``.
    imagery_years, nightlights_years : sequence of int
        Years that the images show; none where there are none.

    Returns
    -------
    DataFrame
        By the index of ``clusters``: ``cluster_id``, ``year`` (int), ``imagery_gap`` and ``nightlights_gap`` (float,
        image minus survey: negative where the image is older; NaN where there are no images). Of two images as near as
        each other the older counts, which cannot show what came after the survey.

    Raises
    ------
    SurveyError
        If the clusters have no year, or a year is no year of four digits.
    """
    check_columns(clusters, [ID_COLUMN], "the table of clusters", SurveyError)
    if "year" not in clusters.columns:
        raise SurveyError(
            "the clusters have no column 'year', so the gap between survey and images is unknown; "
            "add the year of the survey, or rename its column to 'year'."
        )
    year = as_number(clusters["year"], "the table of clusters")
    bad = ~((year > 1900) & (year < 2100) & (year % 1 == 0))
    if bad.any():
        raise SurveyError(
            f"{int(bad.sum())} of {len(clusters)} clusters have no year of four digits "
            f"({some(clusters.loc[bad, ID_COLUMN])}); recode them."
        )
    given = {
        "imagery_gap": ("imagery_years", imagery_years),
        "nightlights_gap": ("nightlights_years", nightlights_years),
    }
    gaps = {column: _nearest(year.to_numpy(), _years(years, name)) for column, (name, years) in given.items()}
    return pd.DataFrame({ID_COLUMN: clusters[ID_COLUMN], "year": year.astype("int64"), **gaps}, index=clusters.index)


def limit_year_gap(
    clusters: gpd.GeoDataFrame,
    *,
    imagery_years: Sequence[int],
    nightlights_years: Sequence[int] = (),
    max_years: float | None = None,
) -> gpd.GeoDataFrame:
    """Clusters with their gaps as columns, and without those whose nearest image is too many years away.

    Parameters
    ----------
    clusters : GeoDataFrame
        As :func:`geopov.survey.read_clusters` returns them.
    imagery_years, nightlights_years : sequence of int
        As in :func:`year_gap`; what there are no images of adds no column and sets no limit.
    max_years : float, optional
        Largest gap either way, of the imagery and of the nightlights; default no limit.

    Returns
    -------
    GeoDataFrame
        With ``imagery_gap`` and ``nightlights_gap``; those left out are in :func:`geopov.survey.dropped`, each with its
        years.

    Raises
    ------
    SurveyError
        If no cluster is left, or as for :func:`year_gap`.
    """
    gaps = year_gap(clusters, imagery_years=imagery_years, nightlights_years=nightlights_years)
    known = [column for column in GAPS if gaps[column].notna().any()]
    limited = clusters.assign(**{column: gaps[column] for column in known})
    limited.attrs = dict(clusters.attrs)
    if max_years is None:
        return limited
    if not max_years >= 0:
        raise SurveyError(f"max_years is {max_years!r}; expected a number of years, zero or more.")
    for column in known:
        beyond = limited[column].abs() > max_years
        what = column.removesuffix("_gap")
        for (year, gap), rows in limited[beyond].groupby(["year", column], sort=True):
            reason = f"survey of {year:.0f}, nearest {what} of {year + gap:.0f}: more than {max_years:g} years apart"
            limited = drop_rows(limited, pd.Series(True, index=rows.index), reason)
    if len(limited) == 0:
        raise SurveyError(
            f"no cluster is left: all {len(clusters)} lie more than {max_years:g} years from the nearest image "
            f"({gap_text(gaps)}) Raise max_years, or use images of other years."
        )
    return limited


def gap_text(gaps: pd.DataFrame) -> str:
    """One sentence for reports, from :func:`year_gap` or the clusters of :func:`limit_year_gap`."""
    parts = []
    for column in GAPS:
        gap = gaps[column].dropna() if column in gaps.columns else pd.Series(dtype=float)
        if not len(gap):
            continue
        median, largest, same = gap.abs().median(), gap.abs().max(), float((gap == 0).mean())
        older, newer = float((gap < 0).mean()), float((gap > 0).mean())
        parts.append(
            f"{column.removesuffix('_gap')} {median:g} (at most {largest:g}; same year {same:.0%}, "
            f"image older {older:.0%}, newer {newer:.0%})"
        )
    if not parts:
        return "The years of the images are not known."
    return f"Median years between survey and nearest image: {'; '.join(parts)}."


def _years(years: Sequence[int], name: str) -> np.ndarray:
    whole = [year for year in years if isinstance(year, int | np.integer) and not isinstance(year, bool)]
    if len(whole) < len(years) or not all(1900 < year < 2100 for year in whole):
        raise SurveyError(f"{name} is {years!r}; expected years of four digits, such as [2013, 2014].")
    return np.array(sorted(whole), dtype=np.float64)


def _nearest(survey: np.ndarray, image: np.ndarray) -> np.ndarray:
    if not len(image):
        return np.full(len(survey), np.nan)
    gap = image - survey[:, None]
    # argmin takes the first of equals, the older since the years are sorted.
    nearest: np.ndarray = np.take_along_axis(gap, np.abs(gap).argmin(axis=1)[:, None], axis=1)[:, 0]
    return nearest
