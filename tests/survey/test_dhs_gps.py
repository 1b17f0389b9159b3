from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from geopov.errors import SurveyError
from geopov.survey import dropped
from geopov.survey.dhs import DhsName, read_positions

NAME = DhsName("RW", "GE", "61", "")
LON, LAT = [30.0, 30.1, 30.2, 30.3], [-1.9, -2.0, -2.1, -2.2]


def positions(**columns: object) -> gpd.GeoDataFrame:
    """Four clusters in the fields of the GPS data format; ``columns`` replace or, as None, remove."""
    table = pd.DataFrame(
        {
            "DHSID": [f"RW2014{number:08d}" for number in range(1, 5)],
            "DHSCC": "RW",
            "DHSYEAR": 2014,
            "DHSCLUST": [1, 2, 3, 4],
            "CCFIPS": "NULL",
            "DHSREGNA": ["Kigali", "Kigali", "Sud", "NULL"],
            "SOURCE": "GPS",
            "URBAN_RURA": ["U", "U", "R", "R"],
            "LATNUM": LAT,
            "LONGNUM": LON,
            "ALT_GPS": 9999,
            "DATUM": "WGS84",
        }
    )
    for column, values in columns.items():
        table[column] = values
    shape = gpd.points_from_xy(table["LONGNUM"], table["LATNUM"], crs="EPSG:4326")
    return gpd.GeoDataFrame(
        table.drop(columns=[column for column, values in columns.items() if values is None]), geometry=shape
    )


@pytest.fixture
def read(tmp_path):
    def read(table: gpd.GeoDataFrame, *, prj: bool = True) -> gpd.GeoDataFrame:
        path = tmp_path / "RWGE61FL.shp"
        table.to_file(path)
        if not prj:
            path.with_suffix(".prj").unlink()
        return read_positions(path, name=NAME)

    return read


def test_documented_fields_under_the_fields_names(read):
    found = read(positions())
    assert found.crs == "EPSG:4326"
    assert found["cluster_id"].tolist()[0] == "RW201400000001"
    assert found["cluster"].tolist() == [1, 2, 3, 4]
    assert found["urban"].tolist() == [True, True, False, False]
    assert found["displacement_km"].tolist() == [2, 2, 5, 5]
    assert found["year"].tolist() == [2014] * 4
    assert found["country"].unique().tolist() == ["Rwanda"]
    assert found["region"].tolist() == ["Kigali", "Kigali", "Sud", None]
    assert found["position_source"].unique().tolist() == ["GPS"]
    assert found.geometry.x.tolist() == LON
    assert found.geometry.y.tolist() == LAT
    assert found.attrs["notes"] == []


def test_rows_without_coordinates_are_named_once_each_with_its_reason(read):
    table = positions(
        SOURCE=["MIS", "GPS", "mis", "GAZ"], LONGNUM=[0.0, 0.0, 30.2, 30.3], LATNUM=[0.0, 0.0, -2.1, -2.2],
        DATUM=["", "WGS84", "", "WGS84"],
    )  # fmt: skip
    found = read(table)
    assert found["cluster"].tolist() == [4]
    left_out = dropped(found)
    assert left_out["id"].tolist() == ["RW201400000001", "RW201400000003", "RW201400000002"]
    assert ["MIS" in reason for reason in left_out["reason"]] == [True, True, False]
    assert found.attrs["clusters"] == {number: f"RW2014{number:08d}" for number in range(1, 5)}
    with pytest.raises(SurveyError, match="none of 4 clusters has coordinates"):
        read(positions(SOURCE="MIS"))


def test_the_equator_and_greenwich_are_places(read):
    found = read(positions(LONGNUM=[0.0, 30.0, 30.1, 30.2], LATNUM=[5.5, 0.0, 0.1, 0.2]))
    assert len(found) == 4


def test_cluster_and_year_as_floats_and_columns_in_lower_case(read):
    table = positions(DHSCLUST=[1.0, 2.0, 3.0, 4.0], DHSYEAR=2014.0).rename(columns=str.lower)
    assert read(table)["cluster_id"].tolist() == read(positions())["cluster_id"].tolist()
    with pytest.raises(SurveyError, match="1 of 4 rows have no whole number in DHSCLUST"):
        read(positions(DHSCLUST=[1.0, 2.0, 3.5, 4.0]))
    with pytest.raises(SurveyError, match="1 identifiers stand more than once"):
        read(positions(DHSCLUST=[1, 2, 3, 3]))


def test_without_prj_the_datum_column_decides(read):
    found = read(positions(), prj=False)
    assert found.geometry.x.tolist() == LON
    assert "no .prj" in found.attrs["notes"][0]
    with pytest.raises(SurveyError, match=r"no \.prj, and rows without DATUM"):
        read(positions(DATUM=["WGS84", "", "WGS84", "WGS84"]), prj=False)
    with pytest.raises(SurveyError, match="DATUM 'XYZ' is not known"):
        read(positions(DATUM="XYZ"), prj=False)


def test_an_empty_datum_is_that_of_the_prj(read):
    assert read(positions(DATUM=None)).geometry.x.tolist() == LON


@pytest.mark.parametrize("spelling", ["WGS 84", "wgs_1984", "D_WGS_1984", "World Geodetic System 1984"])
def test_spellings_of_wgs84(read, spelling):
    assert read(positions(DATUM=spelling)).attrs["notes"] == []


def test_another_datum_is_transformed(read):
    expected = gpd.GeoSeries(gpd.points_from_xy(LON, LAT), crs="EPSG:4210").to_crs("EPSG:4326")
    found = read(positions(DATUM=["Arc 1960", "WGS84", "ARC1960", "WGS84"]), prj=False)
    # Arc 1960 lies about 300 m from WGS 84 in East Africa.
    assert np.abs(found.geometry.y - LAT).max() > 0.001
    np.testing.assert_allclose(found.geometry.y[[0, 2]], expected.y[[0, 2]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.geometry.x[[1, 3]], [LON[1], LON[3]], rtol=0, atol=1e-12)
    assert any("transformed from Arc 1960" in note for note in found.attrs["notes"])
    with pytest.raises(SurveyError, match=r"DATUM says Arc 1960, but the \.prj says WGS 84"):
        read(positions(DATUM="Arc 1960"))


def test_a_projected_shapefile_agrees_with_its_columns_or_is_refused(read):
    np.testing.assert_allclose(read(positions().to_crs("EPSG:32735")).geometry.x, LON)
    bare = positions().to_crs("EPSG:32735").drop(columns=["LATNUM", "LONGNUM"])
    np.testing.assert_allclose(read(bare).geometry.y, LAT, rtol=0, atol=1e-7)
    moved = positions()
    moved.loc[1, "LATNUM"] = -1.5
    with pytest.raises(SurveyError, match=r"points of 1 clusters lie elsewhere than LATNUM and LONGNUM say \(2\)"):
        read(moved)


def test_wrong_files_are_refused(read):
    with pytest.raises(SurveyError, match=r"named after Rwanda \(RW\), but its DHSCC says KE"):
        read(positions(DHSCC="KE"))
    with pytest.raises(SurveyError, match="has no column 'DHSCLUST'"):
        read(positions(DHSCLUST=None))
    with pytest.raises(SurveyError, match="neither urban nor rural"):
        read(positions(URBAN_RURA=["U", "R", "", "R"]))
    with pytest.raises(SurveyError, match="four-digit year"):
        read(positions(DHSYEAR=14))
    with pytest.raises(SurveyError, match="outside longitude"):
        read(positions(LONGNUM=[30.0, 30.1, 30.2, 999.0]))
