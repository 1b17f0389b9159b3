"""Households of an LSMS survey, read through an adapter: amounts by hand, positions, and what can be wrong."""

from __future__ import annotations

import json
import zipfile
from typing import ClassVar

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.lsms import Adapter, Ppp, read_adapter, read_lsms

TEN_LINES = """\
survey: XXX_2020_LSMS
country: Somewhere
year: 2020
household: hhid
cluster: ea
weight: wt
size: members
consumption: {column: total, of: household, per: year, prices: nominal, currency: XXX}
coordinates: {lon: lon_mod, lat: lat_mod}
displacement: {urban_km: 5, rural_km: 5}
"""
PPP_2017 = Ppp(factor=2.0, year=2017, cpi_ratio=1.25, source="made up")


@pytest.fixture
def households() -> pd.DataFrame:
    """Three households: 365, 730 and 1,460 a year; of 1, 4 and 2 people; in areas 7, 7 and 8."""
    return pd.DataFrame(
        {
            "hhid": [701.0, 702.0, 801.0],
            "ea": [7, 7, 8],
            "wt": [10.0, 20.0, 30.0],
            "members": [1, 4, 2],
            "total": [365.0, 730.0, 1460.0],
            "ae": [1.0, 2.0, 1.6],
            "place": [1, 1, 2],
            "index": [100.0, 125.0, 80.0],
            "line": [182.5, 182.5, 182.5],
            "when": [2019.0, 2020.0, 2020.0],
            "lon_mod": [34.0, 34.0, 33.5],
            "lat_mod": [-11.0, -11.0, -12.0],
        }
    )


def adapter(**changes) -> Adapter:
    """The ten lines, with some keys of an adapter changed, added or (None) taken out."""
    keys = {
        "name": "xxx",
        "survey": "XXX_2020_LSMS",
        "country": "Somewhere",
        "year": 2020,
        "household": "hhid",
        "cluster": "ea",
        "weight": "wt",
        "size": "members",
        "consumption": {"column": "total", "of": "household", "per": "year", "prices": "real", "currency": "XXX"},
        "coordinates": {"lon": "lon_mod", "lat": "lat_mod"},
    }
    return Adapter.model_validate({key: value for key, value in (keys | changes).items() if value is not None})


def money(**changes) -> dict:
    """The consumption key with some parts changed."""
    return {"column": "total", "of": "household", "per": "year", "prices": "real", "currency": "XXX"} | changes


def test_ten_lines_are_enough(tmp_path, households):
    path = tmp_path / "new_survey.yaml"
    path.write_text(TEN_LINES)
    assert len(TEN_LINES.splitlines()) == 10
    table = read_lsms(path, households=households)
    assert table["household_id"].tolist() == ["701", "702", "801"]
    assert table["cluster_id"].tolist() == ["7", "7", "8"]
    assert table["consumption_xxx"].tolist() == [1.0, 0.5, 2.0]
    assert table[["survey", "country", "year"]].drop_duplicates().to_numpy().tolist() == [
        ["XXX_2020_LSMS", "Somewhere", 2020]
    ]
    assert table["weight"].tolist() == [10.0, 20.0, 30.0]
    assert table["household_size"].tolist() == [1.0, 4.0, 2.0]
    assert table["displacement_km"].tolist() == [5.0, 5.0, 5.0]
    assert table[["lon", "lat"]].to_numpy().tolist() == [[34.0, -11.0], [34.0, -11.0], [33.5, -12.0]]
    assert table.attrs["units"]["consumption_xxx"] == "XXX per person per day, nominal prices"
    assert any("not marked as checked" in note for note in table.attrs["notes"])
    assert any("nominal prices" in note for note in table.attrs["notes"])


@pytest.mark.parametrize(
    ("of", "per", "per_person", "per_adult"),
    [
        ("household", "year", [1.0, 0.5, 2.0], [1.0, 1.0, 2.5]),
        ("person", "year", [1.0, 2.0, 4.0], [1.0, 4.0, 5.0]),
        ("adult_equivalent", "year", [1.0, 1.0, 3.2], [1.0, 2.0, 4.0]),
        ("household", "month", [12.0, 6.0, 24.0], [12.0, 12.0, 30.0]),
        ("household", "week", [365 / 7, 365 / 14, 730 / 7], [365 / 7, 365 / 7, 912.5 / 7]),
        ("household", "day", [365.0, 182.5, 730.0], [365.0, 365.0, 912.5]),
        ("person", 28, [365 / 28, 730 / 28, 1460 / 28], [365 / 28, 1460 / 28, 1825 / 28]),
    ],
)
def test_every_unit_and_period_by_hand(households, of, per, per_person, per_adult):
    chosen = adapter(consumption=money(of=of, per=per), adult_equivalents="ae")
    table = read_lsms(chosen, households=households)
    np.testing.assert_allclose(table["consumption_xxx"], per_person, rtol=1e-15)
    np.testing.assert_allclose(table["consumption_ae_xxx"], per_adult, rtol=1e-15)


def test_from_nominal_to_real_to_ppp_by_hand(households):
    chosen = adapter(
        consumption=money(prices="nominal"),
        adult_equivalents="ae",
        deflator={"column": "index", "base": 100, "period": "national, April 2019"},
        poverty_line={"column": "line"},
    )
    real = read_lsms(chosen, households=households)
    # 1, 0.5 and 2 a day at the prices of 1.00, 1.25 and 0.80.
    assert real["consumption_xxx"].tolist() == [1.0, 0.4, 2.5]
    assert real["poverty_line"].tolist() == [0.5, 0.5, 0.5]
    assert real.attrs["units"]["poverty_line"] == "XXX per person per day, real (national, April 2019) prices"

    table = read_lsms(chosen, households=households, ppp=PPP_2017)
    # ... over 2 XXX per PPP USD of 2017, prices having risen by a quarter since.
    assert table["consumption"].tolist() == [0.4, 0.16, 1.0]
    assert table["consumption_ae"].tolist() == pytest.approx([0.4, 0.32, 1.25])
    assert table["poverty_line"].tolist() == [0.2, 0.2, 0.2]
    assert "consumption_xxx" not in table
    assert table.attrs["units"]["consumption"].startswith("2017 PPP USD per person per day")
    record = table.attrs["measures"]["consumption"]
    assert record == json.loads(json.dumps(record))
    assert record["ppp"] == {"factor": 2.0, "year": 2017, "cpi_ratio": 1.25, "source": "made up"}
    assert record["deflator"] == {"column": "index", "base": 100.0, "period": "national, April 2019"}
    assert [step.split(":")[0].split(",")[0] for step in record["steps"]] == [
        "total",
        "divided by 365 days",
        "divided by household members (per person)",
        "divided by index / 100",
        "divided by 2 XXX per 2017 PPP USD and by 1.25 (prices)",
    ]


def test_a_nominal_line_is_deflated_and_a_line_of_adults_is_named_so(households):
    chosen = adapter(
        consumption=money(prices="nominal"),
        adult_equivalents="ae",
        deflator={"column": "index", "base": 100, "period": "April 2019"},
        poverty_line={"value": 365, "of": "adult_equivalent", "prices": "nominal"},
    )
    table = read_lsms(chosen, households=households)
    assert table["poverty_line_ae"].tolist() == [1.0, 0.8, 1.25]
    assert "poverty_line" not in table


def test_a_household_at_the_line_stays_at_it(households):
    chosen = adapter(consumption=money(of="person", column="line"), poverty_line={"column": "line"})
    table = read_lsms(chosen, households=households.assign(members=[3, 7, 11]), ppp=PPP_2017)
    assert (table["consumption"] == table["poverty_line"]).all()


@settings(max_examples=25, deadline=None)
@given(
    amount=st.lists(st.floats(0.01, 1e9), min_size=3, max_size=3),
    size=st.lists(st.integers(1, 30), min_size=3, max_size=3),
    factor=st.floats(0.01, 1e4),
    scale=st.floats(0.01, 100),
    order=st.permutations([0, 1, 2]),
)
def test_amounts_scale_and_rows_do_not_matter(amount, size, factor, scale, order):
    table = pd.DataFrame({"hhid": [1, 2, 3], "ea": 1, "wt": 1.0, "members": size, "total": amount})
    ppp = Ppp(factor=factor, year=2017, cpi_ratio=1.0, source="made up")
    once = read_lsms(adapter(), households=table, ppp=ppp).set_index("household_id")["consumption"]
    more = read_lsms(
        adapter(),
        households=table.assign(total=table["total"] * scale).iloc[list(order)].reset_index(drop=True),
        ppp=ppp,
    ).set_index("household_id")["consumption"]
    np.testing.assert_allclose(more.reindex(once.index), once * scale, rtol=1e-12)
    people = np.asarray(size, dtype=float)
    np.testing.assert_allclose((once.to_numpy() * people * factor * 365), amount, rtol=1e-12)


def test_design_year_urban_and_several_columns(households):
    chosen = adapter(
        year="when",
        cluster=["place", "ea"],
        urban={"column": "place", "values": [2]},
        region="place",
        stratum=["place", "members"],
        displacement="dhs",
    )
    table = read_lsms(chosen, households=households)
    assert table["year"].tolist() == [2019, 2020, 2020]
    assert table["cluster_id"].tolist() == ["1-7", "1-7", "2-8"]
    assert table["urban"].tolist() == [False, False, True]
    assert table["displacement_km"].tolist() == [5.0, 5.0, 2.0]
    assert table["region"].tolist() == ["1", "1", "2"]
    assert table["stratum"].tolist() == ["1-1", "1-4", "2-2"]
    assert read_lsms(adapter(urban="place"), households=households)["urban"].tolist() == [True, True, False]
    assert read_lsms(adapter(displacement="none"), households=households)["displacement_km"].tolist() == [0.0] * 3


def test_missing_codes_and_members_of_nobody_are_no_values(households):
    households.loc[0, "total"], households.loc[1, "members"], households.loc[2, "lon_mod"] = -99, 0, -99
    table = read_lsms(adapter(missing=[-99]), households=households)
    assert table["consumption_xxx"].isna().tolist() == [True, True, False]
    assert table["lon"].isna().tolist() == [False, False, True]
    with pytest.raises(SurveyError, match=r"1 negative values in 'total' \(-99.*missing"):
        read_lsms(adapter(), households=households)


def test_where_takes_rows(households):
    table = read_lsms(adapter(where={"place": 1}), households=households)
    assert table["household_id"].tolist() == ["701", "702"]


def test_locations_by_household_and_by_area(households):
    main = households.drop(columns=["lon_mod", "lat_mod"])
    by_household = pd.DataFrame({"HHID": ["0702", "701"], "LON_MOD": [34.0, 34.0], "LAT_MOD": [-11.0, -11.0]})
    table = read_lsms(adapter(), households=main, locations=by_household)
    assert table["lon"].tolist()[:2] == [34.0, 34.0]
    assert np.isnan(table["lon"][2])
    by_area = pd.DataFrame({"area": [8, 7, 7], "lon_mod": [33.5, 34.0, 34.0], "lat_mod": [0.0, -11.0, -11.0]})
    chosen = adapter(join={"households": "ea", "locations": "area"})
    table = read_lsms(chosen, households=main, locations=by_area)
    assert table["lon"].tolist() == [34.0, 34.0, 33.5]
    assert [each["role"] for each in table.attrs["files"]] == ["households", "locations"]
    with pytest.raises(SurveyError, match=r"disagree in 'lon_mod', 'lat_mod' for 1 values of area \(7\)"):
        read_lsms(chosen, households=main, locations=by_area.assign(lon_mod=[33.5, 34.0, 34.1]))
    with pytest.raises(SurveyError, match="of another survey"):
        read_lsms(chosen, households=main, locations=by_area.assign(area=[91, 92, 93]))
    with pytest.raises(SurveyError, match="has no column 'lat_mod'"):
        read_lsms(chosen, households=main, locations=by_area.drop(columns="lat_mod"))


def test_coordinates_of_the_locations_count_where_both_files_have_them(households):
    locations = households[["hhid"]].assign(lon_mod=30.0, lat_mod=-10.0)
    table = read_lsms(adapter(), households=households, locations=locations)
    assert table["lon"].tolist() == [30.0] * 3


def test_a_column_the_first_file_lacks_comes_from_another(households):
    main = households.drop(columns=["wt", "ea", "lon_mod", "lat_mod"])
    cover = households[["hhid", "wt", "total"]].iloc[::-1].assign(total=-1.0)
    locations = households[["hhid", "ea", "lon_mod", "lat_mod"]]
    table = read_lsms(adapter(), households=[main, cover], locations=locations)
    expected = read_lsms(adapter(), households=households)
    pd.testing.assert_frame_equal(table, expected)
    other_key = adapter(join={"households": "hhid", "locations": "id"})
    table = read_lsms(
        other_key,
        households=[main, cover.rename(columns={"hhid": "id"})],
        locations=locations.rename(columns={"hhid": "id"}),
    )
    pd.testing.assert_frame_equal(table, expected)


def test_without_locations_no_household_has_a_position(households):
    table = read_lsms(adapter(), households=households.drop(columns=["lon_mod", "lat_mod"]))
    assert table["lon"].isna().all()
    assert any("no locations were given" in note for note in table.attrs["notes"])
    with pytest.raises(SurveyError, match="'lon_mod' only"):
        read_lsms(adapter(), households=households.drop(columns="lat_mod"))
    with pytest.raises(SurveyError, match="names no coordinates"):
        read_lsms(adapter(coordinates=None), households=households, locations=households)


def test_zero_positions_stay_and_projected_ones_are_transformed(households):
    at_zero = households.assign(lon_mod=[34.0, 34.0, 0.0], lat_mod=[-11.0, -11.0, 0.0])
    table = read_lsms(adapter(), households=at_zero)
    assert table.loc[2, ["lon", "lat"]].tolist() == [0.0, 0.0]
    projected = at_zero.assign(lon_mod=[500_000.0, 500_000.0, 0.0], lat_mod=[8_783_000.0, 8_783_000.0, 0.0])
    crs = {"lon": "lon_mod", "lat": "lat_mod", "crs": "EPSG:32736"}
    table = read_lsms(adapter(coordinates=crs), households=projected)
    assert table.loc[0, "lon"] == pytest.approx(33.0)
    assert -12 < table.loc[0, "lat"] < -10
    assert table.loc[2, ["lon", "lat"]].tolist() == [0.0, 0.0]
    with pytest.raises(SurveyError, match="outside longitude"):
        read_lsms(adapter(), households=projected)
    with pytest.raises(SurveyError, match=r"coordinates\.crs"):
        read_lsms(adapter(coordinates=crs | {"crs": "EPSG:1"}), households=projected)


def test_two_places_of_one_cluster_are_an_error_or_movers(households):
    more = pd.concat([households, households.iloc[[0]].assign(hhid=703.0, lon_mod=20.0)])
    with pytest.raises(SurveyError, match=r"1 clusters of xxx have households at more than one place \(7\)"):
        read_lsms(adapter(), households=more)
    table = read_lsms(adapter(movers="unplaced"), households=more)
    assert table.set_index("household_id")["lon"].isna().to_dict() == {
        "701": False,
        "702": False,
        "801": False,
        "703": True,
    }
    assert any(note.startswith("1 households of 1 clusters") for note in table.attrs["notes"])
    with pytest.raises(SurveyError, match="703"):
        read_lsms(adapter(movers="unplaced"), households=pd.concat([more, more.iloc[[3]]]))


@pytest.mark.parametrize(
    ("changes", "damage", "message"),
    [
        ({}, {"hhid": [1, 1, 2]}, "1 identifiers stand more than once"),
        ({}, {"hhid": ["a", "", "c"]}, "no identifier in 'hhid'"),
        ({"year": "when"}, {"when": [19, 20, 20]}, "no year of four digits"),
        ({}, {"total": ["1", "many", "3"]}, "no number"),
        ({"urban": {"column": "place", "values": [9]}}, {}, "has no 'place' of 9"),
        ({"urban": {"column": "place", "values": [1]}}, {"place": [1, None, 2]}, "1 rows without a value of 'place'"),
        (
            {"consumption": money(prices="nominal"), "deflator": {"column": "index", "period": "2019"}},
            {"index": [100, 0, 100]},
            "not above zero for 1",
        ),
    ],
)
def test_what_a_file_can_have_wrong(households, changes, damage, message):
    with pytest.raises(SurveyError, match=message):
        read_lsms(adapter(**changes), households=households.assign(**damage))


def test_the_file_of_another_survey_is_told_apart(tmp_path, households):
    path = tmp_path / "wrong.csv"
    households.to_csv(path, index=False)
    with pytest.raises(SurveyError) as error:
        read_lsms("malawi_ihs5_2019", households=path)
    message = str(error.value)
    for part in ("malawi_ihs5_2019", "'case_id'", "'rexpaggpc'", "members", "ihs5_consumption_aggregate.dta"):
        assert part in message
    with pytest.raises(SurveyError, match="no households' file is given"):
        read_lsms(adapter(), households=[])
    with pytest.raises(SurveyError, match="is not there"):
        read_lsms(adapter(), households=tmp_path / "absent.dta")


def test_stata_and_csv_files_say_the_same(tmp_path, households):
    households.to_csv(tmp_path / "h.csv", index=False)
    households.to_stata(tmp_path / "h.dta", write_index=False)
    tables = [read_lsms(adapter(), households=tmp_path / name) for name in ("h.csv", "h.dta")]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_dtype=False)
    assert [each.attrs["files"][0]["file"] for each in tables] == ["h.csv", "h.dta"]


def test_shipped_adapters_read_files_of_their_layout():
    chosen = read_adapter("tanzania_nps_w4_2014")
    main = pd.DataFrame(
        {
            "y4_hhid": ["1-001", "2-001"],
            "hhweight": [5.0, 6.0],
            "hhsize": [2, 4],
            "adulteq": [1.6, 3.0],
            "urban": [1, 2],
            "region": [1, 2],
            "strata": [3, 4],
            "expmR": [730.0, 1460.0],
        }
    )
    cover = pd.DataFrame({"y4_hhid": ["2-001", "1-001"], "clusterid": ["B", "A"]})
    places = pd.DataFrame({"clusterid": ["A", "B"], "lat_modified": [-6.0, -7.0], "lon_modified": [35.0, 36.0]})
    table = read_lsms(chosen, households=[main, cover], locations=places)
    assert table["consumption_tzs"].tolist() == [1.0, 1.0]
    assert table["urban"].tolist() == [False, True]
    assert table["lon"].tolist() == [35.0, 36.0]
    assert table["displacement_km"].tolist() == [5.0, 2.0]


class TestDistributions:
    """Zips and folders as they are handed out, in place of the files in them."""

    @pytest.fixture
    def handed_out(self, households, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        places = ["lon_mod", "lat_mod"]
        pyreadstat.write_dta(households.drop(columns=places), folder / "Consumption.dta")
        pyreadstat.write_dta(households[["hhid", *places]], folder / "geovariables.dta")
        pyreadstat.write_dta(households[["hhid", "when"]], folder / "roster.dta")
        (folder / "readme.txt").write_text("documents lie beside the data")
        with zipfile.ZipFile(tmp_path / "XXX_2020.zip", "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"XXX_2020/{path.name}")
        return tmp_path

    FILES: ClassVar = {"households": "consumption.dta", "locations": "GEOVARIABLES.dta"}

    def test_the_files_an_adapter_names_are_found(self, handed_out, households):
        expected = read_lsms(adapter(), households=households)
        for source in (handed_out / "XXX_2020.zip", handed_out / "in"):
            found = read_lsms(adapter(files=self.FILES), households=source)
            pd.testing.assert_frame_equal(found, expected)
            assert [file["file"] for file in found.attrs["files"]] == ["Consumption.dta", "geovariables.dta"]
        apart = read_lsms(
            adapter(files=self.FILES), households=handed_out / "in" / "Consumption.dta", locations=handed_out / "in"
        )
        pd.testing.assert_frame_equal(apart, expected)

    def test_which_file_is_meant_must_be_clear(self, handed_out):
        with pytest.raises(SurveyError, match=r"XXX_2020\.zip has 3 of file of data.*Consumption\.dta.*roster"):
            read_lsms(adapter(), households=handed_out / "XXX_2020.zip")
        other = {"households": "expenditure.dta"}
        with pytest.raises(SurveyError, match=r"has 0 of expenditure\.dta"):
            read_lsms(adapter(files=other), households=handed_out / "in")
