"""The Malawi household survey and the African cluster tables, as published; see GEOPOV_REAL_DATA in CONTRIBUTING."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geopov.survey import (
    aggregate_households,
    clusters_in,
    describe_files,
    displacement_km,
    draw_clusters,
    dropped,
    limit_year_gap,
    read_clusters,
    text_map,
    write_clusters,
)

DATA = Path(os.environ.get("GEOPOV_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (DATA / "malawi").is_dir(),
        reason=f"no real data at {DATA}: set GEOPOV_REAL_DATA to the folder that holds malawi/ and surveys/",
    ),
]


@pytest.fixture(scope="module")
def malawi():
    return aggregate_households(
        DATA / "malawi" / "ihs5_consumption_aggregate.dta",
        locations=DATA / "malawi" / "householdgeovariables_ihs5.dta",
        household_column="case_id",
        cluster_column="ea_id",
        weight_column="hh_wgt",
        size_column="hhsize",
        outcome="rexpaggpc",
        lon_column="ea_lon_mod",
        lat_column="ea_lat_mod",
    )


def test_malawi_has_137_areas_of_which_7_lie_at_zero(malawi):
    left_out = dropped(malawi)
    households = left_out[left_out["source"] == "households"]["reason"].str[:12].value_counts().to_dict()
    assert households == {"coordinates ": 112, "no coordinat": 1}
    assert left_out.loc[left_out["reason"] == "no coordinates", "id"].tolist() == ["105112100009"]
    assert (left_out["source"] == "clusters").sum() == 7
    assert len(malawi) == 130
    assert malawi["households"].sum() == 2176 - 113


def test_malawi_means_are_those_of_its_people(malawi):
    table = pd.read_stata(DATA / "malawi" / "ihs5_consumption_aggregate.dta", convert_categoricals=False)
    # The one household without a location counts for nothing; every other area is taken whole.
    table = table[(table["case_id"] != "105112100009") & table["ea_id"].isin(malawi["cluster_id"])]
    people = table["hh_wgt"] * table["hhsize"]
    expected = (table["rexpaggpc"] * people).groupby(table["ea_id"]).sum() / people.groupby(table["ea_id"]).sum()
    found = malawi.set_index("cluster_id")["rexpaggpc_national"]
    np.testing.assert_allclose(found, expected.reindex(found.index), rtol=1e-12)
    overall = np.average(malawi["rexpaggpc_national"], weights=malawi["weight"])
    assert overall == pytest.approx((table["rexpaggpc"] * people).sum() / people.sum())


def test_lesotho_has_794_clusters(tmp_path):
    clusters = read_clusters(
        DATA / "surveys" / "dhs_clusters.parquet",
        lon_column="lon",
        lat_column="lat",
        outcomes=["asset_wealth"],
        where={"country": "lesotho"},
    )
    assert len(clusters) == 794
    assert dropped(clusters).empty
    assert clusters["year"].value_counts().to_dict() == {2014: 399, 2009: 395}
    west, south, east, north = clusters.total_bounds
    assert 26.9 < west < east < 29.6
    assert -30.8 < south < north < -28.5


def test_all_19669_clusters_can_be_placed():
    clusters = read_clusters(
        DATA / "surveys" / "dhs_clusters.parquet", lon_column="lon", lat_column="lat", outcomes=["asset_wealth"]
    )
    assert len(clusters) + len(dropped(clusters)) == 19_669
    assert clusters["country"].nunique() == 23


def test_all_19669_clusters_are_described_and_drawn(tmp_path):
    path = tmp_path / "africa.parquet"
    clusters = read_clusters(DATA / "surveys" / "dhs_clusters.parquet", lon_column="lon", lat_column="lat")
    clusters["displacement_km"] = displacement_km(clusters, "dhs")
    write_clusters(clusters, path)
    (described,) = describe_files(path)
    assert (described.kind, described.rows) == ("clusters", 19_669)
    points = clusters_in(path)
    assert len(points) == 19_669
    drawn = text_map(points, width=80)
    assert max(map(len, drawn.splitlines())) <= 80
    assert f"rural {int((~clusters['urban']).sum()):,}" in drawn
    draw_clusters(points, tmp_path / "africa.png", title="Africa")
    assert (tmp_path / "africa.png").stat().st_size > 50_000


def test_clusters_surveyed_long_before_the_images_are_named():
    clusters = read_clusters(DATA / "surveys" / "dhs_clusters.parquet", lon_column="lon", lat_column="lat")
    recent = limit_year_gap(clusters, imagery_years=[2014, 2016], nightlights_years=[2013], max_years=2)
    years = clusters["year"]
    kept = (years.between(2012, 2018)) & (years.between(2011, 2015))
    assert len(recent) == int(kept.sum())
    assert len(dropped(recent)) == int((~kept).sum())
    assert recent["nightlights_gap"].abs().max() <= 2
