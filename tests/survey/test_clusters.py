from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey import dropped, read_clusters, write_clusters

RENAME = {"URBAN_RURA": "urban", "DHSYEAR": "year"}


def test_a_dhs_like_table_becomes_clusters(survey_table, columns):
    clusters = read_clusters(survey_table, **columns, outcomes=["wealth"], rename=RENAME)
    assert clusters.crs == "EPSG:4326"
    assert clusters["cluster_id"].tolist() == ["1", "2", "3", "4"]
    assert clusters["urban"].tolist() == [True, False, False, True]
    assert clusters["year"].dtype == "int64"
    assert clusters.geometry.x.tolist() == [27.1, 27.2, 27.3, 27.4]
    assert list(clusters.columns) == ["cluster_id", "year", "urban", "wealth", "region", "geometry"]


def test_every_dropped_row_is_named_with_its_reason(survey_table, columns):
    survey_table.loc[1, "LATNUM"] = np.nan
    left_out = dropped(read_clusters(survey_table, **columns, outcomes=["wealth"]))
    assert left_out["id"].tolist() == ["2", "5", "6"]
    assert [reason.split(",")[0] for reason in left_out["reason"]] == [
        "no coordinates",
        "coordinates (0",
        "no value of wealth",
    ]
    assert set(left_out["source"]) == {"clusters"}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".dta"])
def test_all_file_kinds_give_the_same_clusters(survey_table, columns, tmp_path, suffix):
    path = tmp_path / f"survey{suffix}"
    if suffix == ".parquet":
        survey_table.to_parquet(path)
    elif suffix == ".csv":
        survey_table.to_csv(path, index=False)
    else:
        survey_table.to_stata(path, write_index=False)
    arguments = {**columns, "outcomes": ["wealth"], "rename": RENAME}
    expected = read_clusters(survey_table, **arguments)
    found = read_clusters(path, **arguments)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found.attrs == expected.attrs


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".parquet"])
def test_a_file_with_geometry_needs_no_columns(survey_table, tmp_path, suffix):
    points = gpd.points_from_xy(survey_table["LONGNUM"], survey_table["LATNUM"], crs="EPSG:4326")
    table = gpd.GeoDataFrame(survey_table[["DHSCLUST", "wealth"]], geometry=points).to_crs("EPSG:3857")
    path = tmp_path / f"points{suffix}"
    if suffix == ".geojson":
        table = table.to_crs("EPSG:4326")
    table.to_parquet(path) if suffix == ".parquet" else table.to_file(path)
    clusters = read_clusters(path, id_column="DHSCLUST", outcomes=["wealth"])
    assert clusters["cluster_id"].tolist() == ["1", "2", "3", "4"]
    np.testing.assert_allclose(clusters.geometry.x, [27.1, 27.2, 27.3, 27.4], rtol=1e-9)


def test_projected_columns_with_their_crs(survey_table, columns):
    points = gpd.GeoSeries(gpd.points_from_xy(survey_table["LONGNUM"], survey_table["LATNUM"]), crs="EPSG:4326")
    utm = points.to_crs("EPSG:32735")
    table = survey_table.assign(LONGNUM=utm.x, LATNUM=utm.y).drop(index=4)
    clusters = read_clusters(table, **columns, crs="EPSG:32735")
    np.testing.assert_allclose(clusters.geometry.y, [-29.1, -29.2, -29.3, -29.4, -29.6], atol=1e-9)


def test_written_clusters_come_back_and_repeat_byte_for_byte(survey_table, columns, tmp_path):
    clusters = read_clusters(survey_table, **columns, outcomes=["wealth"], rename=RENAME)
    write_clusters(clusters, tmp_path / "a.parquet", provenance={"by": "test"})
    again = read_clusters(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again, clusters)
    pd.testing.assert_frame_equal(dropped(again), dropped(clusters))
    assert again.attrs["provenance"] == {"by": "test"}
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a.dropped.csv", dtype=str), dropped(clusters), check_dtype=False
    )
    write_clusters(again, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.dropped.csv",
        "a.parquet",
        "b.dropped.csv",
        "b.parquet",
    ]


def test_where_takes_values_of_any_type(survey_table, columns):
    table = survey_table.drop(index=4)
    assert len(read_clusters(table, **columns, where={"DHSYEAR": "2014"})) == 4
    assert len(read_clusters(table, **columns, where={"DHSYEAR": 2014, "region": ["A"]})) == 2
    assert len(read_clusters(table, **columns, where={"region": ["A", "B"]})) == 5
    table["urban"] = table["URBAN_RURA"] == "U"
    assert len(read_clusters(table, **columns, where={"urban": "true"})) == 2


def test_keep_limits_the_columns(survey_table, columns):
    clusters = read_clusters(survey_table.drop(index=4), **columns, outcomes=["wealth"], rename=RENAME, keep=["region"])
    assert list(clusters.columns) == ["cluster_id", "year", "urban", "wealth", "region", "geometry"]
    clusters = read_clusters(survey_table.drop(index=4), **columns, keep=[])
    assert list(clusters.columns) == ["cluster_id", "geometry"]


def test_codes_keep_their_leading_zeros_in_csv(tmp_path):
    path = tmp_path / "survey.csv"
    path.write_text("ea,lon,lat,y,long\n007,27.1,-29.1,1,12345678901234567890\n010,27.2,-29.2,2,1\n")
    clusters = read_clusters(path, id_column="ea", lon_column="lon", lat_column="lat")
    assert clusters["cluster_id"].tolist() == ["007", "010"]
    assert clusters["y"].dtype == "int64"
    assert clusters["long"].tolist() == ["12345678901234567890", "1"]


@pytest.mark.parametrize(
    ("codes", "urban"),
    [
        (["U", "R"], [True, False]),
        (["urban", "RURAL"], [True, False]),
        ([1, 2], [True, False]),
        ([1.0, 0.0], [True, False]),
        ([True, False], [True, False]),
    ],
)
def test_codings_of_urban(codes, urban):
    table = pd.DataFrame({"cluster_id": ["a", "b"], "x": [1.0, 2.0], "y": [3.0, 4.0], "urban": codes})
    assert read_clusters(table, lon_column="x", lat_column="y")["urban"].tolist() == urban


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(6)))
def test_the_order_of_rows_changes_nothing_but_the_order(order):
    table = pd.DataFrame({"id": range(6), "x": [0.0, 1, 2, 3, 4, 5], "y": [0.0, 1, 2, 3, 4, np.nan], "v": range(6)})
    arguments = {"id_column": "id", "lon_column": "x", "lat_column": "y", "outcomes": ["v"]}
    expected, found = read_clusters(table, **arguments), read_clusters(table.iloc[list(order)], **arguments)
    pd.testing.assert_frame_equal(
        found.sort_values("cluster_id", ignore_index=True), expected.sort_values("cluster_id", ignore_index=True)
    )
    assert set(dropped(found)["id"]) == {"0", "5"}


def broken(table: pd.DataFrame, **changes: object) -> pd.DataFrame:
    table = table.drop(index=4).reset_index(drop=True)
    for column, value in changes.items():
        table[column] = value
    return table


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"lon_column": "LATNUM", "lat_column": "LONGNUM"}, "swapped"),
        ({"LATNUM": 100.0}, {}, "look swapped"),
        ({"LONGNUM": 512345.0}, {}, "name their CRS"),
        ({"DHSCLUST": 1}, {}, "stand more than once"),
        ({"DHSCLUST": [1, 2, 3, 4, None]}, {}, "no identifier"),
        ({}, {"id_column": "v001"}, "no column 'v001'"),
        ({}, {"lat_column": None}, "give both"),
        ({}, {"outcomes": ["consumption"]}, "no column 'consumption'"),
        ({"wealth": "high"}, {"outcomes": ["wealth"]}, "no number"),
        ({"wealth": np.nan}, {"outcomes": ["wealth"]}, "no cluster is left: 5 dropped for no value of wealth"),
        ({"LATNUM": 0.0, "LONGNUM": 0.0}, {}, "no cluster is left"),
        ({}, {"where": {"region": "Z"}}, "no row with region = 'Z'"),
        ({}, {"where": {"province": "Z"}}, "no column 'province'"),
        ({}, {"where": {"region": "A", "URBAN_RURA": "R", "DHSYEAR": 2014}}, "meets all of"),
        ({"urban": "semi"}, {}, "neither urban nor rural"),
        ({"year": 14}, {}, "four digits"),
        ({"weight": -1.0}, {}, "negative or missing"),
        ({}, {"crs": "EPSG:0"}, "names no CRS"),
        ({}, {"rename": {"URBAN": "urban"}}, "no column 'URBAN'"),
        ({"urban": "U"}, {"rename": {"URBAN_RURA": "urban"}}, "already has a column"),
    ],
)
def test_bad_input_is_named(survey_table, columns, changes, arguments, message):
    with pytest.raises(SurveyError, match=message):
        read_clusters(broken(survey_table, **changes), **{**columns, **arguments})


def test_a_geometry_without_crs_and_a_table_without_geometry(survey_table):
    with pytest.raises(SurveyError, match="no geometry; name its columns"):
        read_clusters(survey_table, id_column="DHSCLUST")
    points = gpd.GeoDataFrame({"cluster_id": ["a"]}, geometry=gpd.points_from_xy([1.0], [2.0]))
    with pytest.raises(SurveyError, match="no CRS"):
        read_clusters(points)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".dta", ".gpkg"])
def test_damaged_and_absent_files(tmp_path, suffix):
    path = tmp_path / f"survey{suffix}"
    with pytest.raises(SurveyError, match="is not there"):
        read_clusters(path)
    path.write_bytes(b"\x00\xff\xfe\x80 not a table" * 9)
    with pytest.raises(SurveyError, match=r"survey\.\w+"):
        read_clusters(path)
    with pytest.raises(SurveyError, match="no table that can be read"):
        read_clusters(tmp_path / "survey.xlsx")


def test_a_truncated_parquet_and_an_empty_csv(survey_table, tmp_path):
    path = tmp_path / "survey.parquet"
    survey_table.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SurveyError, match="Is it whole"):
        read_clusters(path)
    empty = tmp_path / "survey.csv"
    empty.write_text("cluster_id,lon,lat\n")
    with pytest.raises(SurveyError, match="has no rows"):
        read_clusters(empty)


def test_clusters_are_written_as_parquet_only(survey_table, columns, tmp_path):
    clusters = read_clusters(survey_table, **columns)
    with pytest.raises(SurveyError, match=r"must end in \.parquet"):
        write_clusters(clusters, tmp_path / "clusters.gpkg")
