"""Years between surveys and images, by hand and against a loop."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.clusters import dropped
from geopov.survey.year_gap import gap_text, limit_year_gap, year_gap


@pytest.fixture
def points() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"cluster_id": ["a", "b", "c", "d"], "year": [2009, 2014, 2014, 2019]},
        geometry=gpd.points_from_xy([27, 28, 29, 30], [-29, -29, -30, -30]),
        crs="EPSG:4326",
        index=[3, 1, 2, 7],
    )


def test_gaps_are_image_minus_survey_and_the_older_of_equals(points):
    gaps = year_gap(points, imagery_years=[2016, 2012], nightlights_years=[2013])
    assert gaps["cluster_id"].tolist() == ["a", "b", "c", "d"]
    assert gaps["year"].tolist() == [2009, 2014, 2014, 2019]
    assert gaps["imagery_gap"].tolist() == [3, -2, -2, -3]
    assert gaps["nightlights_gap"].tolist() == [4, -1, -1, -6]
    assert gaps.index.equals(points.index)


def test_without_images_there_is_no_gap(points):
    gaps = year_gap(points, imagery_years=[2014])
    assert gaps["nightlights_gap"].isna().all()
    limited = limit_year_gap(points, imagery_years=[2014], max_years=5)
    assert "nightlights_gap" not in limited.columns
    assert len(limited) == 4


@given(
    surveys=st.lists(st.integers(1985, 2025), min_size=1, max_size=8),
    images=st.lists(st.integers(1985, 2025), min_size=1, max_size=5),
)
def test_no_image_is_nearer(surveys, images):
    table = pd.DataFrame({"cluster_id": [str(i) for i in range(len(surveys))], "year": surveys})
    gap = year_gap(table, imagery_years=images)["imagery_gap"]
    for survey, found in zip(surveys, gap, strict=True):
        assert survey + found in images
        assert abs(found) == min(abs(image - survey) for image in images)


def test_clusters_beyond_the_limit_are_dropped_and_named_with_their_years(points):
    points.attrs["dropped"] = [{"source": "clusters", "id": "z", "reason": "no coordinates"}]
    limited = limit_year_gap(points, imagery_years=[2012, 2016], nightlights_years=[2013], max_years=2)
    assert limited["cluster_id"].tolist() == ["b", "c"]
    assert limited["imagery_gap"].tolist() == [-2, -2]
    assert limited["nightlights_gap"].tolist() == [-1, -1]
    left_out = dropped(limited).set_index("id")["reason"].to_dict()
    assert left_out == {
        "z": "no coordinates",
        "a": "survey of 2009, nearest imagery of 2012: more than 2 years apart",
        "d": "survey of 2019, nearest imagery of 2016: more than 2 years apart",
    }


def test_nightlights_count_too_and_without_a_limit_nothing_is_dropped(points):
    limited = limit_year_gap(points, imagery_years=[2009, 2014, 2019], nightlights_years=[2013], max_years=4)
    assert limited["cluster_id"].tolist() == ["a", "b", "c"]
    assert dropped(limited)["reason"].tolist() == [
        "survey of 2019, nearest nightlights of 2013: more than 4 years apart"
    ]
    every = limit_year_gap(points, imagery_years=[1990])
    assert every["imagery_gap"].tolist() == [-19, -24, -24, -29]
    assert dropped(every).empty


def test_the_sentence(points):
    gaps = year_gap(points, imagery_years=[2012, 2016], nightlights_years=[2014])
    assert gap_text(gaps) == (
        "Median years between survey and nearest image: imagery 2.5 (at most 3; same year 0%, image older 75%, "
        "newer 25%); nightlights 2.5 (at most 5; same year 50%, image older 25%, newer 25%)."
    )
    assert gap_text(limit_year_gap(points, imagery_years=[2014])).startswith("Median years")
    assert gap_text(year_gap(points, imagery_years=[])) == "The years of the images are not known."


def test_what_is_wrong_is_said(points):
    with pytest.raises(SurveyError, match="no column 'year', so the gap between survey and images is unknown"):
        year_gap(points.drop(columns="year"), imagery_years=[2014])
    with pytest.raises(SurveyError, match=r"1 of 4 clusters have no year of four digits \(a\)"):
        year_gap(points.assign(year=[np.nan, 2014, 2014, 2014]), imagery_years=[2014])
    with pytest.raises(SurveyError, match=r"nightlights_years is \[14\]"):
        year_gap(points, imagery_years=[2014], nightlights_years=[14])
    with pytest.raises(SurveyError, match="max_years is -1"):
        limit_year_gap(points, imagery_years=[2014], max_years=-1)
    with pytest.raises(SurveyError, match=r"all 4 lie more than 1 years from the nearest image \(Median years"):
        limit_year_gap(points, imagery_years=[1990], max_years=1)
