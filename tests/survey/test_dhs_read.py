from __future__ import annotations

import json
import zipfile
from itertools import permutations
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyreadstat
import pytest

from geopov.errors import SurveyError
from geopov.survey import dropped
from geopov.survey.dhs import read_dhs
from geopov.testing.dhs import write_dhs


def recode(code: str = "RW6", *, year: int = 2014, clusters=(1, 2, 3, 4), urban=(1, 1, 2, 2), size: int = 4):
    """Two households a cluster."""
    number = np.repeat(clusters, 2)
    return pd.DataFrame(
        {
            "hhid": [f"{cluster:8d}{household:4d}" for cluster in clusters for household in (1, 2)],
            "hv000": code,
            "hv001": number,
            "hv002": [1, 2] * len(clusters),
            "hv005": 1_000_000,
            "hv007": year,
            "hv009": size,
            "hv021": number,
            "hv022": 1,
            "hv023": np.repeat(urban, 2),
            "hv024": 1,
            "hv025": np.repeat(urban, 2),
            "hv206": 1,
            "hv271": 50_000,
        }
    )


def gps(code: str = "RW", *, year: int = 2014, clusters=(1, 2, 3, 4), urban="UURR", missing=()):
    shift = np.array([number not in missing for number in clusters], dtype=float)
    longitude, latitude = (30 + 0.1 * np.arange(len(clusters))) * shift, -2.0 * shift
    table = pd.DataFrame(
        {
            "DHSID": [f"{code}{year}{number:08d}" for number in clusters],
            "DHSCC": code,
            "DHSYEAR": year,
            "DHSCLUST": clusters,
            "DHSREGNA": "Kigali",
            "SOURCE": ["MIS" if number in missing else "GPS" for number in clusters],
            "URBAN_RURA": list(urban),
            "LATNUM": latitude,
            "LONGNUM": longitude,
            "DATUM": "WGS84",
        }
    )
    return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(longitude, latitude), crs="EPSG:4326")


@pytest.fixture
def put(tmp_path):
    def put(name: str, table: pd.DataFrame, *, member: str | None = None, zipped: bool = True) -> Path:
        """A recode (.dta, or .sav for SV) or GPS file of that name, as its zip."""
        stem = member or f"{name[:6]}FL"
        folder = tmp_path / f"unpacked {name}"
        folder.mkdir()
        if isinstance(table, gpd.GeoDataFrame):
            table.to_file(folder / f"{stem}.shp")
        elif "SV" in name.upper():
            pyreadstat.write_sav(table, folder / f"{stem}.SAV", variable_value_labels={"hv024": {1: "kigali"}})
        else:
            pyreadstat.write_dta(table, folder / f"{stem}.DTA", variable_value_labels={"hv024": {1: "kigali"}})
        if not zipped:
            return folder
        with zipfile.ZipFile(tmp_path / f"{name}", "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, path.name)
        return tmp_path / name

    return put


def test_zips_folders_and_files_in_any_mix_order_and_case(put):
    packed = [put("RWHR61DT.ZIP", recode()), put("rwge61fl.zip", gps())]
    unpacked = [put("rwhr61dt", recode(), zipped=False), put("RWGE61FL", gps(), zipped=False)]
    expected = read_dhs(packed)
    assert expected.households["household_id"].tolist()[:3] == [f"RW20140000000{n}" for n in ("1-1", "1-2", "2-1")]
    assert expected.households["survey"].unique().tolist() == ["RW2014"]
    assert expected.households["year"].unique().tolist() == [2014]
    assert expected.households["urban"].dtype == bool
    assert expected.households["stratum"].unique().tolist() == ["RW2014-1", "RW2014-2"]
    assert expected.households["psu"].tolist()[:3] == ["RW2014-1", "RW2014-1", "RW2014-2"]
    assert expected.positions["cluster_id"].tolist() == sorted(set(expected.households["cluster_id"]))
    for sources in (packed[::-1], unpacked, [packed[0], unpacked[1]], packed[0].parent):
        found = read_dhs(sources)
        pd.testing.assert_frame_equal(found.households, expected.households)
        pd.testing.assert_frame_equal(found.positions, expected.positions)
    json.dumps([expected.households.attrs, expected.positions.attrs])


def test_the_same_survey_in_two_formats_is_read_once(put):
    sources = [put("RWHR61SV.ZIP", recode()), put("RWHR61DT.ZIP", recode()), put("RWGE61FL.ZIP", gps())]
    found = read_dhs(sources).households
    assert len(found) == 8
    assert found.attrs["files"][-1] == {
        "file": "RWHR61SV.ZIP/RWHR61FL.SAV",
        "role": "not used: the same survey as RWHR61DT.ZIP/RWHR61FL.DTA",
    }


def test_spss_gives_what_stata_gives(put):
    positions = put("RWGE61FL.ZIP", gps())
    stata, spss = put("RWHR61DT.ZIP", recode()), put("RWHR61SV.ZIP", recode())
    pd.testing.assert_frame_equal(read_dhs([spss, positions]).households, read_dhs([stata, positions]).households)


def test_clusters_of_one_file_only_are_named(put):
    sources = [
        put("RWHR61DT.ZIP", recode(clusters=(1, 2, 3, 4), urban=(1, 1, 2, 2))),
        put("RWGE61FL.ZIP", gps(clusters=(1, 2, 3, 5), urban="UURR", missing=(2,))),
    ]
    survey = read_dhs(sources)
    assert survey.positions["cluster"].tolist() == [1, 3]
    left_out = dropped(survey.positions).set_index("id")["reason"].to_dict()
    assert left_out == {
        "RW201400000002": "SOURCE is MIS: the survey could not place it",
        "RW201400000004": "not in the GPS file (GE)",
        "RW201400000005": "no household in the household recode (HR)",
    }
    # Their households are kept: an index of wealth is fitted on all.
    assert len(survey.households) == 8


def test_surveys_of_several_countries_and_years_are_pooled(put):
    sources = [
        put("RWHR61DT.ZIP", recode()),
        put("RWGE61FL.ZIP", gps()),
        put("RWHR53DT.ZIP", recode("RW5", year=2008, size=3)),
        put("RWGE54FL.ZIP", gps(year=2007)),
        put("KEHR72SV.ZIP", recode("KE6", size=5)),
        put("KEGE71FL.ZIP", gps("KE")),
    ]
    expected = read_dhs(sources)
    assert expected.households["survey"].unique().tolist() == ["KE2014", "RW2007", "RW2014"]
    assert expected.households["country"].unique().tolist() == ["Kenya", "Rwanda"]
    assert expected.households["household_id"].is_unique
    assert expected.positions["cluster_id"].is_unique
    assert expected.households.groupby("survey")["household_size"].first().tolist() == [5, 3, 4]
    for order in list(permutations(sources))[::241]:
        pd.testing.assert_frame_equal(read_dhs(order).households, expected.households)


def test_two_surveys_of_one_country_and_year_have_the_version_in_their_ids(put):
    sources = [
        put("SNHR7ADT.ZIP", recode("SN7", year=2016)),
        put("SNGE7AFL.ZIP", gps("SN", year=2016, missing=(4,))),
        put("SNHR7BDT.ZIP", recode("SN7", year=2016, size=6)),
        put("SNGE7BFL.ZIP", gps("SN", year=2016)),
    ]
    survey = read_dhs(sources)
    assert survey.households["survey"].unique().tolist() == ["SN2016-7A", "SN2016-7B"]
    assert survey.positions["cluster_id"].is_unique
    assert set(survey.positions["cluster_id"]) <= set(survey.households["cluster_id"])
    assert dropped(survey.positions)["id"].tolist() == ["SN201600000004-7A"]


def test_continuous_surveys_of_one_phase_are_told_apart_by_year(put):
    sources = [
        put("SNHR70DT.ZIP", recode("SN7", year=2014)),
        put("SNHR7ADT.ZIP", recode("SN7", year=2017, size=5)),
        put("SNGE7HFL.ZIP", gps("SN", year=2017, missing=(1,))),
        put("SNGE7IFL.ZIP", gps("SN", year=2014)),
    ]
    survey = read_dhs(sources)
    assert survey.households.groupby("survey")["household_size"].first().to_dict() == {"SN2014": 4, "SN2017": 5}
    assert survey.positions["survey"].value_counts().to_dict() == {"SN2014": 4, "SN2017": 3}


def test_two_gps_files_that_fit_alike_are_an_error_that_names_them(put):
    sources = [put("RWHR61DT.ZIP", recode()), put("RWGE62FL.ZIP", gps()), put("RWGE63FL.ZIP", gps())]
    with pytest.raises(SurveyError, match=r"fits RWGE62FL\.ZIP/RWGE62FL\.shp, RWGE63FL\.ZIP/RWGE63FL\.shp alike"):
        read_dhs(sources)


def test_files_of_different_surveys_do_not_belong_together(put):
    households = put("RWHR61DT.ZIP", recode())
    with pytest.raises(SurveyError, match=r"do not belong together: interviews of 2014 to 2014, .* of 2019"):
        read_dhs([households, put("RWGE61FL.ZIP", gps(year=2019))])
    with pytest.raises(SurveyError, match=r"of 4 clusters in the one \(hv001\) and 4 in the other .* 1 are the same"):
        read_dhs([households, put("rwge61fl.zip", gps(clusters=(4, 5, 6, 7), urban="RRRR"))])
    with pytest.raises(SurveyError, match="only 50% of their clusters are urban or rural in both"):
        read_dhs([households, put("RWge61FL.zip", gps(urban="URUR"))])
    with pytest.raises(SurveyError, match=r"no positions for RWHR61: add RWGE61FL\.ZIP"):
        read_dhs([households, put("RWGE71FL.ZIP", gps(year=2019))])


def test_one_file_alone_says_which_to_fetch(put):
    with pytest.raises(SurveyError, match=r"no positions for RWHR61: add RWGE61FL\.ZIP"):
        read_dhs(put("RWHR61DT.ZIP", recode()))
    with pytest.raises(SurveyError, match=r"no households for RWGE61: add RWHR61DT\.ZIP"):
        read_dhs(put("RWGE61FL.ZIP", gps()))
    with pytest.raises(SurveyError, match=r"no positions for RWHR61: add RWGE61FL\.ZIP"):
        read_dhs([put("rwhr61dt.zip", recode()), put("KEGE61FL.ZIP", gps("KE"))])
    with pytest.raises(
        SurveyError, match=r"no household recode .* RWIR61DT.ZIP/RWIR61FL.DTA \(not used: women's recode\)"
    ):
        read_dhs(put("RWIR61DT.ZIP", recode()))
    with pytest.raises(SurveyError, match="not named as DHS files are"):
        read_dhs(put("households.zip", recode(), member="households"))


def test_flat_text_names_the_formats_that_can_be_read(tmp_path, put):
    with zipfile.ZipFile(tmp_path / "RWHR61FL.ZIP", "w") as archive:
        archive.writestr("RWHR61FL.DAT", "1  1RW6")
        archive.writestr("RWHR61FL.DO", "infix str hhid 1-12")
    with pytest.raises(SurveyError, match=r"fixed columns, .* Download RWHR61DT\.ZIP \(Stata\), RWHR61SV\.ZIP"):
        read_dhs([tmp_path / "RWHR61FL.ZIP", put("RWGE61FL.ZIP", gps())])


def test_a_recode_whose_member_has_another_name_goes_by_its_zip(put):
    survey = read_dhs([put("RWHR61DT.ZIP", recode(), member="data"), put("RWGE61FL.ZIP", gps())])
    assert survey.households.attrs["files"][0]["file"] == "RWHR61DT.ZIP/data.DTA"


def test_another_countrys_recode_under_this_name(put):
    with pytest.raises(SurveyError, match=r"RWHR61DT\.ZIP/RWHR61FL\.DTA is named after Rwanda .* hv000 says KE"):
        read_dhs([put("RWHR61DT.ZIP", recode("KE6")), put("RWGE61FL.ZIP", gps())])


def test_two_releases_of_one_survey_are_an_error(put):
    sources = [put("RWHR60DT.ZIP", recode()), put("RWHR61DT.ZIP", recode()), put("RWGE61FL.ZIP", gps())]
    with pytest.raises(SurveyError, match=r"hold the same households \(8 of 8\): two releases of one survey"):
        read_dhs(sources)


def test_two_files_of_one_name_that_differ_are_an_error(put):
    first, other = put("RWHR61DT.ZIP", recode()), put("rwhr61dt.zip", recode(clusters=(1, 2, 3), urban=(1, 1, 2)))
    with pytest.raises(SurveyError, match="have one name and differ"):
        read_dhs([first, other, put("RWGE61FL.ZIP", gps())])


def test_residence_comes_from_the_gps_file_where_hv025_is_missing(put):
    table = recode(clusters=(1, 2, 3, 4, 5), urban=(1, 1, 2, 2, 2))
    table["hv025"] = table["hv025"].where(~table["hv001"].isin([2, 5])).astype(float)
    survey = read_dhs([put("RWHR61DT.ZIP", table), put("RWGE61FL.ZIP", gps())])
    assert survey.households.groupby("cluster_id")["urban"].first().tolist() == [True, True, False, False]
    assert dropped(survey.households)["id"].tolist() == ["RW201400000005-1", "RW201400000005-2"]


def test_three_phases_written_in_the_documented_layouts(tmp_path):
    """Variable names, codes and formats differ by phase; the truth they were made from does not."""
    truths = [
        write_dhs(tmp_path, version="31", members=True, encoding="cp1252", seed=1),
        write_dhs(tmp_path, version="41", file_format="SV", seed=2),
        write_dhs(tmp_path, version="61", members=True, seed=3),
    ]
    survey = read_dhs(tmp_path)
    households, positions = survey.households, survey.positions
    assert households["survey"].unique().tolist() == [truth.survey for truth in truths]
    assert positions.attrs["notes"] == households.attrs["notes"]
    for truth in truths:
        found = households[households["survey"] == truth.survey]
        ids = truth.survey + truth.households["cluster"].astype(str).str.zfill(8)
        assert found["cluster_id"].tolist() == ids.tolist()
        np.testing.assert_allclose(found["weight"], truth.households["weight"], atol=1e-6)
        np.testing.assert_array_equal(found["household_size"], truth.households["size"])
        score = pd.Series(found["wealth_score"].to_numpy())
        assert score.corr(truth.households["wealth"], method="spearman") > 0.7
        located = truth.clusters[truth.clusters["located"]]
        placed = positions[positions["survey"] == truth.survey]
        assert placed["cluster_id"].tolist() == located["dhsid"].tolist()
        np.testing.assert_allclose(placed.geometry.x, located["lon_displaced"], atol=1e-6)
        assert placed["urban"].tolist() == located["urban"].tolist()
        richer = found.set_index(truth.households["wealth"].to_numpy()).sort_index()
        for column in ("electricity", "television", "floor", "water", "toilet"):
            poor, rich = np.array_split(richer[column].to_numpy(dtype=float), 2)
            assert np.nanmean(rich) > np.nanmean(poor), (truth.survey, column)
    labels = set(households.loc[households["survey"] == truths[0].survey, "region"])
    assert any("É" in text or "ï" in text or "é" in text for text in labels)
