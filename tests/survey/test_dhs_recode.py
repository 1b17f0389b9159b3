from __future__ import annotations

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.dhs import DhsName, read_recode
from geopov.survey.dhs.members import member_columns, summarise_members
from geopov.survey.dhs.wealth import read_wealth

NAN = np.nan
YES_NO = {0: "no", 1: "yes", 9: "missing"}
LABELS = {
    "hv024": {1: "kigali city", 2: "sud"},
    "hv025": {1: "urban", 2: "rural"},
    "hv201": {11: "piped into dwelling", 43: "river/dam/lake", 97: "not a dejure resident", 99: "missing"},
    "hv204": {996: "on premises", 998: "don't know"},
    "hv205": {11: "flush to piped sewer system", 15: "flush, don't know where", 31: "no facility/bush/field"},
    "hv213": {11: "earth, sand", 33: "ceramic tiles", 99: "missing"},
    "hv226": {2: "lpg", 8: "wood", 95: "no food cooked in house", 99: "missing"},
    **dict.fromkeys(("hv206", "hv207", "hv208", "hv209", "hv210", "hv211", "hv212", "hv221", "hv225"), YES_NO),
    **dict.fromkeys(("hv243a", "hv243c", "hv243e"), YES_NO),
}


def recode(n: int = 8, **columns: object) -> pd.DataFrame:
    """Households of four clusters, two urban, in the layout of phase 6; ``columns`` replace or, as None, remove."""
    cluster = np.arange(n) * 4 // n + 1
    table = pd.DataFrame(
        {
            "hhid": [f"{c:8d}{h:4d}" for c, h in zip(cluster, range(1, n + 1), strict=True)],
            "hv000": "RW6",
            "hv001": cluster,
            "hv002": range(1, n + 1),
            "hv005": 1_250_000,
            "hv007": 2014,
            "hv008": 1378,
            "hv009": 4,
            "hv012": 4,
            "hv015": 1,
            "hv021": cluster,
            "hv022": (cluster > 2) + 1,
            "hv023": (cluster > 2) + 1,
            "hv024": (cluster > 2) + 1,
            "hv025": (cluster > 2) + 1,
            "hv201": 11,
            "hv204": 996,
            "hv205": 15,
            "hv213": 33,
            "hv216": 2,
            "hv225": 0,
            "hv226": 8,
            "hv270": 3,
            "hv271": -123_456,
            **dict.fromkeys(("hv206", "hv207", "hv208", "hv209", "hv210", "hv211", "hv212", "hv221"), 1),
            **dict.fromkeys(("hv243a", "hv243c", "hv243e"), 0),
        }
    )
    for column, values in columns.items():
        table[column] = values
    return table.drop(columns=[column for column, values in columns.items() if values is None])


@pytest.fixture
def read(tmp_path):
    def read(table: pd.DataFrame, name: str = "RWHR61FL", **arguments):
        path = tmp_path / f"{name}.DTA"
        labels = {column: of for column, of in LABELS.items() if column in table}
        pyreadstat.write_dta(table, path, variable_value_labels=labels)
        return read_recode(path, name=DhsName.parse(name), **arguments)

    return read


def test_documented_variables_under_the_fields_names(read):
    result = read(recode())
    first = result.households.iloc[0].to_dict()
    assert result.n_rows == len(result.households) == 8
    assert result.years == (2014, 2014)
    assert (first["cluster"], first["household"], first["urban"], first["region"]) == (1, "1", True, "kigali city")
    assert (first["stratum"], first["psu"]) == ("1", "1")
    assert first["weight"] == 1.25
    assert first["household_size"] == 4
    assert first["wealth_score"] == pytest.approx(-1.23456)
    assert first["wealth_quintile"] == 3
    assert (first["electricity"], first["mobile_phone"], first["landline"], first["phone"]) == (1, 0, 1, 1)
    assert (first["rooms"], first["rooms_per_person"], first["water_minutes"]) == (2, 0.5, 0)
    assert (first["floor"], first["floor_level"], first["water_improved"], first["fuel_clean"]) == (5, 2, 1, 0)
    # "Flush, don't know where" is a toilet, not an unknown answer.
    assert first["toilet"] > 1
    assert result.households["urban"].tolist() == [True] * 4 + [False] * 4


def test_special_codes_are_missing_and_what_looks_like_them_is_not(read):
    table = recode(
        hv001=[998, 998, 9, 9, 99, 99, 2, 2],
        hv021=[998, 998, 9, 9, 99, 99, 2, 2],
        hv002=[9, 98, 99, 998, 999, 8, 7, 97],
        hv009=[9, 8, 7, 4, 4, 4, 4, 4],
        hv216=[9, 8, 7, 99, 98, NAN, 1, 1],
        hv207=[0, 1, 7, 8, 9, NAN, 1, 1],
        hv204=[9, 98, 99, 996, 998, 999, NAN, 997],
        hv201=[11, 99, 97, NAN, 43, 11, 11, 11],
        hv226=[8, 2, 95, 99, 98, NAN, 8, 8],
        hv213=[11, 33, 99, 97, NAN, 33, 33, 33],
        hv270=[1, 5, 9, NAN, 0, 1, 1, 1],
        hv271=[9, 98, 99, 998, 99_999_999, NAN, 999, 999_998],
    )
    households = read(table).households
    assert households["cluster"].tolist() == [998, 998, 9, 9, 99, 99, 2, 2]
    assert households["household"].tolist() == ["9", "98", "99", "998", "999", "8", "7", "97"]
    expected = {
        "household_size": [9, 8, 7, 4, 4, 4, 4, 4],
        "rooms": [9, 8, 7, NAN, NAN, NAN, 1, 1],
        "rooms_per_person": [1, 1, 1, NAN, NAN, NAN, 0.25, 0.25],
        "radio": [0, 1, NAN, NAN, NAN, NAN, 1, 1],
        "water_minutes": [9, 98, 99, 0, NAN, NAN, NAN, NAN],
        "fuel_clean": [0, 1, 1, NAN, NAN, NAN, 0, 0],
        "floor": [1, 5, NAN, NAN, NAN, 5, 5, 5],
        "wealth_quintile": [1, 5, NAN, NAN, NAN, 1, 1, 1],
        "wealth_score": [9e-5, 98e-5, 99e-5, 998e-5, NAN, NAN, 999e-5, 9.99998],
    }
    for column, values in expected.items():
        np.testing.assert_allclose(households[column].astype(float), values, err_msg=column)
    np.testing.assert_equal(households["water"].isna().tolist(), [False, True, True, True, *[False] * 4])


def test_a_code_that_the_manual_does_not_know_is_missing_and_noted(read):
    result = read(recode(hv208=[0, 1, 2, 2, 1, 1, 1, 1]))
    assert result.households["television"].isna().sum() == 2
    assert any("hv208 (television) has code 2 (no label) in 2 households" in note for note in result.notes)


def test_members_left_out_when_the_household_has_none_are_the_de_jure_ones(read):
    households = read(recode(hv009=[0, 0, *[4] * 6], hv012=[2, 0, *[5] * 6])).households
    np.testing.assert_equal(households["household_size"].tolist(), [2, NAN, *[4] * 6])
    np.testing.assert_equal(households["rooms_per_person"].tolist(), [1, NAN, *[0.5] * 6])


def test_rows_without_weight_or_interview_are_named(read):
    result = read(recode(hv005=[0, NAN, *[1_000_000] * 6], hv015=[1, 1, 2, NAN, 1, 1, 1, 1]))
    assert result.n_rows == 8
    assert result.households["household"].tolist() == ["4", "5", "6", "7", "8"]
    assert [entry[:2] for entry in result.dropped] == [(2, "3"), (1, "1"), (1, "2")]
    assert ["hv015" in entry[2] for entry in result.dropped] == [True, False, False]
    with pytest.raises(SurveyError, match="none of 8 households has a weight"):
        read(recode(hv015=2))


def test_an_old_phase_lacks_some_variables(read):
    table = recode(hv000="RW3", hv007=92, hv008=1110, hv021=None, hv022=None, hv023=None, hv015=None, hv012=None)
    table = table.drop(columns=["hv243a", "hv243c", "hv243e", "hv270", "hv271", "hv225", "hv226"])
    result = read(table, "RWHR31FL")
    households = result.households
    assert result.years == (1992, 1992)
    assert households["phone"].tolist() == [1] * 8
    for column in ("mobile_phone", "animal_cart", "computer", "wealth_score", "toilet_shared", "fuel_clean"):
        assert households[column].isna().all(), column
    assert households["psu"].tolist() == ["1", "1", "2", "2", "3", "3", "4", "4"]
    assert households["stratum"].unique().tolist() == ["kigali city urban", "sud rural"]
    for word in ("mobile_phone (hv243a)", "RWWI31DT.ZIP", "clusters (hv001)", "region by urban and rural"):
        assert any(word in note for note in result.notes), word


def test_columns_in_upper_case_and_a_cluster_as_float(read):
    table = recode(hv001=np.repeat([1.0, 2.0, 3.0, 4.0], 2)).rename(columns=str.upper)
    pyreadstat_labels = {column.upper(): of for column, of in LABELS.items()}
    assert set(pyreadstat_labels) <= set(table.columns)
    households = read(table).households
    assert households["cluster"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert households["weight"].tolist() == [1.25] * 8


@pytest.mark.parametrize("rows", [1, 3, 8, 100, None])
def test_chunks_do_not_show(read, rows):
    rng = np.random.default_rng(0)
    table = recode(40, hv207=rng.integers(0, 10, 40), hv216=rng.integers(1, 5, 40), hv105_01=9, hv108_01=2, hv121_01=0)
    whole = read(table, chunk_rows=40).households
    pd.testing.assert_frame_equal(read(table, chunk_rows=rows).households, whole)
    assert whole["child_out_of_school"].tolist() == [1.0] * 40


@pytest.mark.parametrize("table", [recode(hv022=None), recode(hv022=NAN), recode(hv022=1), recode(hv022=range(1, 9))])
def test_the_stratum_is_hv023_where_hv022_cannot_be(read, table):
    table["hv023"] = np.repeat([7, 8], 4)
    assert read(table).households["stratum"].unique().tolist() == ["7", "8"]


def test_years_of_other_calendars(read):
    # Interviews of 2016: 2008 in Ethiopia, 2073 in Nepal; Nepal 1996 wrote two digits, and months since 1900 there.
    assert read(recode(hv000="ET7", hv007=2008), "ETHR71FL").years == (2016, 2016)
    assert read(recode(hv000="NP7", hv007=2073), "NPHR71FL").years == (2016, 2016)
    assert read(recode(hv000="NP3", hv007=52, hv008=(2052 - 1900) * 12 + 1), "NPHR31FL").years == (1995, 1995)
    assert read(recode(hv007=[99] * 4 + [0] * 4, hv008=[1200] * 4 + [1201] * 4)).years == (1999, 2000)


def test_a_household_that_stands_twice_is_an_error(read):
    table = recode()
    with pytest.raises(SurveyError, match=r"2 households stand more than once by hhid \(1   1, 1   2\)"):
        read(pd.concat([table, table.iloc[:2]]))
    with pytest.raises(SurveyError, match="by cluster and household"):
        read(pd.concat([table, table.iloc[:1]]).drop(columns="hhid"))


def test_compounds_whose_household_numbers_repeat_are_told_apart_by_hhid(read):
    hhid = [f"  {cluster}  {compound} 1" for cluster in range(1, 5) for compound in (1, 2)]
    households = read(recode(hhid=hhid, hv002=1)).households
    assert households["household"].tolist()[:3] == ["1-1-1", "1-2-1", "2-1-1"]


def test_another_file_under_a_recodes_name(read):
    with pytest.raises(SurveyError, match=r"named after Rwanda \(RW\), but its hv000 says KE"):
        read(recode(hv000="KE6"))
    with pytest.raises(SurveyError, match=r"has no hv001, hv005, hv009.*: not a household recode but women's recode"):
        read(pd.DataFrame({"caseid": ["1 1"], "v001": [1], "v005": [1_000_000]}))
    with pytest.raises(SurveyError, match="one row a person"):
        read(recode(hvidx=1))
    with pytest.raises(SurveyError, match=r"hv005 is 1\.5; expected weights times 1,000,000"):
        read(recode(hv005=1.5))
    with pytest.raises(SurveyError, match="8 of 8 rows have no whole number in hv001"):
        read(recode(hv001=1.5))


def test_wealth_index_from_a_file_of_its_own(read, tmp_path):
    table = recode(hv270=None, hv271=None)
    index = pd.DataFrame({"WHHID": table["hhid"][::-1], "WLTHINDF": np.arange(8) - 3.5, "WLTHIND5": 2}).iloc[:7]
    pyreadstat.write_dta(index, tmp_path / "RWWI41FL.DTA")
    wealth = read_wealth(tmp_path / "RWWI41FL.DTA")
    households = read(table, wealth=wealth).households
    np.testing.assert_equal(households["wealth_score"].tolist(), [NAN, 2.5, 1.5, 0.5, -0.5, -1.5, -2.5, -3.5])
    assert households["wealth_quintile"].tolist()[1:] == [2] * 7
    # A recode with a score of its own keeps it.
    assert read(recode(), wealth=wealth).households["wealth_score"].iloc[1] == pytest.approx(-1.23456)
    with pytest.raises(SurveyError, match=r"has 0 of the 8 households .* not of one survey"):
        read(recode(hv271=None, hhid=[f"x{i}" for i in range(8)]), wealth=wealth)


def test_schooling_and_children_out_of_school():
    columns = ["HV105_01", "hv105_02", "hv108_01", "hv108_02", "hv110_01", "hv121_01", "hv121_02", "hv105", "hv1211"]
    members = member_columns(columns)
    assert members == {
        "years": ["hv108_01", "hv108_02"],
        "attends": ["hv121_01", "hv121_02"],
        "age": ["hv105_01", "hv105_02"],
    }
    chunk = pd.DataFrame(
        # years, attends, age of the one; of the other
        [
            [8, 0, 40, 2, 1, 9, 1, 0],
            [98, 0, 40, 2, 0, 9, 2, 1],
            [97, 0, 40, 99, 9, 9, NAN, NAN],
            [0, 0, 5, NAN, NAN, NAN, 0, 0],
            [3, 0, 15, 4, 2, 14, 4, 0],
            [NAN, 0, 6, 1, 9, 14, 1, 1],
            [5, 9, 98, 6, 1, 14, 6, 0],
        ],
        columns=["hv108_01", "hv121_01", "hv105_01", "hv108_02", "hv121_02", "hv105_02", "_", "expected"],
    )
    summary = summarise_members(chunk, members, "the recode")
    np.testing.assert_equal(summary["schooling_years_max"].tolist(), [8, 2, NAN, 0, 4, 1, 6])
    np.testing.assert_equal(summary["child_out_of_school"].tolist(), chunk["expected"].tolist())


def test_before_phase_4_attendance_is_hv110():
    assert member_columns(["hv105_01", "hv110_01", "hv110_02"])["attends"] == ["hv110_01"]
    assert summarise_members(pd.DataFrame(index=[0, 1]), member_columns(["hv001"]), "").empty


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_nothing_but_the_order(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("order")
    rng = np.random.default_rng(seed)
    table = recode(24, hv009=rng.integers(0, 12, 24), hv005=rng.integers(0, 3, 24) * 700_000 + 1)
    shuffled = table.sample(frac=1, random_state=seed)
    households = []
    for i, each in enumerate((table, shuffled)):
        pyreadstat.write_dta(each, folder / f"{i}.dta", variable_value_labels=LABELS)
        found = read_recode(folder / f"{i}.dta", name=DhsName.parse("RWHR61FL"), chunk_rows=5).households
        households.append(found.set_index(["cluster", "household"]).sort_index())
    pd.testing.assert_frame_equal(*households)
