from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import yaml

from geopov.errors import SurveyError
from geopov.survey import build_areas, dropped, read_recipe


def test_wards_find_their_counts_through_zones_and_names(country):
    path, inputs = country
    areas = build_areas(read_recipe(path), inputs).set_index("cluster_id")
    assert sorted(areas.index) == ["3-1-1", "3-1-2", "3-2-1", "3-2-2", "7-1-1", "7-1-2", "7-2-1"]
    assert areas.loc["3-2-1", "geometry"].x == pytest.approx(80.05)
    assert areas.loc["7-2-1", "geometry"].x == pytest.approx(81.05)
    assert areas.loc["7-1-2", "pieces"] == 2
    assert areas.loc["3-1-1", "zone_polygon"] == "Bheri Malika"
    assert areas["zone_match"].to_dict()["3-1-1"] == "last one left in its group"
    assert areas["zone_match"].to_dict()["3-2-1"] == "same name"
    assert set(areas["country"]) == {"Nepal"}
    assert set(areas["year"]) == {2021}


def test_what_is_not_joined_is_listed_with_its_reason(country):
    path, inputs = country
    left_out = dropped(build_areas(read_recipe(path), inputs))
    assert left_out[["source", "id"]].to_numpy().tolist() == [
        ["polygons", "way/9"],
        ["counts", "3-2-3"],
        ["clusters", "7-2-2"],
    ]
    assert left_out["reason"][0] == "lies in no zone"


def test_zones_without_a_name_in_the_counts_are_listed(country):
    path, inputs = country
    zones = gpd.read_parquet(inputs["zones"])
    zones.loc[[0, 1], "name"] = ["Xanadu", "Yzgur"]
    zones.to_parquet(inputs["zones"])
    left_out = dropped(build_areas(read_recipe(path), inputs)).groupby(["source", "reason"])["id"].apply(list)
    assert left_out["polygons", "its zone Xanadu is like no zone of the counts by name"] == ["way/0", "way/1"]
    assert left_out["polygons", "its zone Yzgur is like no zone of the counts by name"] == ["way/2", "way/3"]
    lost = "its zone Kalika Gaunpalika is like no zone of the polygons by name"
    assert left_out["counts", lost] == ["3-2-1", "3-2-2", "3-2-3"]


def test_corrections_are_applied_and_must_fit(country, tmp_path):
    path, inputs = country
    recipe = yaml.safe_load(path.read_text())
    recipe["polygons"]["corrections"] = {"input": "fixes", "on": "osm", "values": {"ward": "right"}}
    path.write_text(yaml.safe_dump(recipe))
    inputs = {**inputs, "fixes": tmp_path / "fixes.csv"}
    inputs["fixes"].write_text("osm,right\nway/3,3\n")
    areas = build_areas(read_recipe(path), inputs)
    assert "3-1-2" not in set(areas["cluster_id"])
    inputs["fixes"].write_text("osm,right\nway/99,3\n")
    with pytest.raises(SurveyError, match="way/99"):
        build_areas(read_recipe(path), inputs)


def test_a_recipe_without_zones_joins_by_key(country, tmp_path):
    _, inputs = country
    polygons = gpd.read_parquet(inputs["wards"]).iloc[:2]
    polygons.to_file(tmp_path / "wards.gpkg")
    pd.DataFrame({"id": [1, 2], "n": [10, 20]}).to_csv(tmp_path / "n.csv", index=False)
    path = tmp_path / "plain.yaml"
    path.write_text(
        "{country: X, year: 2020, polygons: {input: a, key: [ward]}, counts: {input: b, key: [id], population: n}}"
    )
    areas = build_areas(read_recipe(path), {"a": tmp_path / "wards.gpkg", "b": tmp_path / "n.csv"})
    assert areas["population"].tolist() == [10.0, 20.0]
    assert dropped(areas).empty


def test_inputs_missing_and_unknown_are_both_named(country):
    path, inputs = country
    recipe = read_recipe(path)
    census = inputs.pop("census")
    with pytest.raises(SurveyError, match=r"missing: census\. not asked for: cencus"):
        build_areas(recipe, {**inputs, "cencus": census})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polygon": {}}, "polygon: Extra inputs"),
        ({"year": "soon"}, "year: "),
        ({"polygons": {"input": "wards", "key": []}}, r"polygons\.key"),
        ({"zones": None}, "need zones"),
        ({"zones": {"input": "zones", "name": "name"}}, "need one another"),
        ({"counts": {"input": "census", "key": ["ward_no"], "population": "people"}}, "zones need"),
        ({"names": {"min_similarity": 2}}, "min_similarity"),
    ],
)
def test_a_wrong_recipe_says_where(country, change, message):
    path, _ = country
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(SurveyError, match=message):
        read_recipe(path)


def test_a_recipe_that_is_no_yaml_or_not_there(tmp_path):
    with pytest.raises(SurveyError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("country: [")
    with pytest.raises(SurveyError, match="no YAML"):
        read_recipe(tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(SurveyError, match="no recipe of areas"):
        read_recipe(tmp_path / "empty.yaml")


def test_the_recipe_of_nepal_is_valid():
    recipe = read_recipe(Path(__file__).parents[2] / "pipelines" / "nepal_areas.yaml")
    assert recipe.inputs == ["wards", "demographics_ward", "ward_number_fixes", "local_levels", "districts"]
