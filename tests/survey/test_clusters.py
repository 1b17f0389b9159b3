from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
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
    files = [f"{name}.{end}" for name in "ab" for end in ("dictionary.csv", "dropped.csv", "gpkg", "parquet")]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def written(tmp_path, **columns: object) -> gpd.GeoDataFrame:
    points = gpd.points_from_xy([30.0, 31.0], [-1.0, -2.0], crs="EPSG:4326")
    clusters = gpd.GeoDataFrame({"cluster_id": ["a", "b"], **columns}, geometry=points)
    write_clusters(clusters, tmp_path / "c.parquet")
    return pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="clusters")


def test_a_geopackage_and_a_dictionary_stand_beside_the_clusters(survey_table, columns, tmp_path):
    clusters = read_clusters(survey_table, **columns, outcomes=["wealth"], rename=RENAME)
    write_clusters(clusters, tmp_path / "a.parquet")
    assert pyogrio.list_layers(tmp_path / "a.gpkg").tolist() == [["clusters", "Point"], ["dropped", None]]
    found = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="clusters")
    pd.testing.assert_frame_equal(found.drop(columns="geometry"), pd.DataFrame(clusters).drop(columns="geometry"))
    assert found.geometry.geom_equals(clusters.geometry).all()
    assert found.crs == "EPSG:4326"
    left_out = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="dropped", read_geometry=False)
    pd.testing.assert_frame_equal(left_out, dropped(clusters), check_dtype=False)
    described = pd.read_csv(tmp_path / "a.dictionary.csv")
    assert described["column"].tolist() == list(clusters.columns)
    with closing(sqlite3.connect(tmp_path / "a.gpkg")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_every_file_repeats_byte_for_byte_at_another_time(survey_table, columns, tmp_path):
    clusters = read_clusters(survey_table, **columns, outcomes=["wealth"], rename=RENAME)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2001-02-03T04:05:06.000Z"})
    try:
        write_clusters(clusters, tmp_path / "a.parquet")
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "2001-02-03T04:05:06.000Z"
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(first) == ["a.dictionary.csv", "a.dropped.csv", "a.gpkg", "a.parquet"]
    time.sleep(1.1)
    write_clusters(clusters, tmp_path / "a.parquet")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_a_geopackage_takes_every_type(tmp_path):
    found = written(
        tmp_path,
        flag=[True, False],
        maybe=pd.array([True, None], dtype="boolean"),
        count=pd.array([1, None], dtype="Int64"),
        small=np.array([1, 255], dtype="uint8"),
        single=np.array([0.5, np.nan], dtype="float32"),
        group=pd.Categorical(["x", None]),
        pieces=[["p", "q"], None],
        empty=[None, None],
    )
    assert found["flag"].tolist() == [True, False]
    assert found["count"][0] == 1
    assert np.isnan(found["count"][1])
    assert found["small"].tolist() == [1, 255]
    assert found["single"][0] == 0.5
    assert [found[name][0] for name in ("maybe", "group")] == ["True", "x"]
    assert json.loads(found["pieces"][0]) == ["p", "q"]
    assert found[["maybe", "group", "pieces", "empty"]].loc[1].isna().all()


def test_names_that_a_geopackage_takes_for_one_are_told_apart(tmp_path):
    found = written(tmp_path, fid=[7, 8], Region=["A", "B"], region=["a", "b"], geom=["x", "y"])
    assert found.columns.tolist() == ["cluster_id", "fid_", "Region", "region_", "geom_", "geometry"]
    assert found["fid_"].tolist() == [7, 8]
    assert found["region_"].tolist() == ["a", "b"]


def test_a_write_that_fails_leaves_the_old_clusters_whole(survey_table, columns, tmp_path, monkeypatch):
    clusters = read_clusters(survey_table, **columns, outcomes=["wealth"])
    write_clusters(clusters, tmp_path / "a.parquet")
    before = (tmp_path / "a.parquet").read_bytes(), (tmp_path / "a.gpkg").read_bytes()
    with pytest.raises(TypeError):
        write_clusters(clusters, tmp_path / "a.parquet", provenance={"what": object()})
    assert (tmp_path / "a.parquet").read_bytes() == before[0]
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]


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


def test_a_geopackage_of_ours_comes_back_as_a_table(survey_table, columns, tmp_path):
    clusters = read_clusters(survey_table, outcomes=["wealth"], **columns)
    write_clusters(clusters, tmp_path / "clusters.parquet")
    again = read_clusters(tmp_path / "clusters.gpkg", outcomes=["wealth"])
    assert again["cluster_id"].tolist() == clusters["cluster_id"].tolist()
    assert again["wealth"].tolist() == clusters["wealth"].tolist()
