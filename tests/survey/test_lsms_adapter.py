"""Adapters: the shipped ones, and what a written one can have wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from geopov.errors import SurveyError
from geopov.survey.lsms import Adapter, adapter_names, adapter_table, read_adapter

SHIPPED = adapter_names()
KEYS = {
    "survey": "XXX_2020_LSMS",
    "country": "Somewhere",
    "year": 2020,
    "household": "hhid",
    "cluster": "ea",
    "weight": "wt",
    "size": "members",
    "consumption": "{column: total, of: household, per: year, prices: nominal, currency: XXX}",
}


def write(path: Path, **keys: object) -> Path:
    path.write_text("".join(f"{key}: {value}\n" for key, value in (KEYS | keys).items()))
    return path


def test_the_surveys_of_five_countries_are_there():
    assert {"malawi_ihs3_2010", "malawi_ihs4_2016", "malawi_ihs5_2019"} <= set(SHIPPED)
    assert {"malawi_ihps_2010", "malawi_ihps_2013"} <= set(SHIPPED)
    assert [name for name in SHIPPED if name.startswith("nigeria_ghs_w")] == [
        "nigeria_ghs_w1_2010",
        "nigeria_ghs_w2_2012",
        "nigeria_ghs_w3_2015",
        "nigeria_ghs_w4_2018",
    ]
    for country, waves in (("tanzania_nps", 5), ("uganda_unps", 4), ("ethiopia_ess", 4)):
        assert len([name for name in SHIPPED if name.startswith(country)]) == waves


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_adapters_say_where_they_come_from(name):
    adapter = read_adapter(name)
    assert adapter.name == name
    assert adapter.source
    assert adapter.files is not None
    assert adapter.checked == (name == "malawi_ihs5_2019")
    assert adapter.ppp is None or adapter.ppp.source
    assert adapter.checked or adapter.notes
    if isinstance(adapter.year, int):
        assert name.endswith(str(adapter.year))
    assert (adapter.files.locations is None) == (adapter.coordinates is None)


def test_the_table_of_adapters():
    table = adapter_table()
    assert table["name"].tolist() == SHIPPED
    assert table["survey"].is_unique
    assert table.loc[table["checked"], "name"].tolist() == ["malawi_ihs5_2019"]
    row = table.set_index("name").loc["nigeria_ghs_w1_2010"]
    assert row["currency"] == "NGN"
    assert row["households"] == "cons_agg_wave1_visit2.dta, secta_harvestw1.dta"
    assert not row["ppp"]


def test_an_adapter_passes_through():
    adapter = read_adapter("malawi_ihs5_2019")
    assert read_adapter(adapter) is adapter
    assert isinstance(adapter, Adapter)


def test_unknown_names_and_paths(tmp_path):
    with pytest.raises(SurveyError, match=r"no adapter 'malawi_ihs9'; geopov has ethiopia_ess_w1_2011, .*\.yaml"):
        read_adapter("malawi_ihs9")
    with pytest.raises(SurveyError, match=r"absent\.yaml cannot be read"):
        read_adapter(tmp_path / "absent.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("survey: [")
    with pytest.raises(SurveyError, match="broken is no YAML"):
        read_adapter(path)
    path.write_bytes(b"survey: \xff\xfe")
    with pytest.raises(SurveyError, match="no YAML"):
        read_adapter(path)
    path.write_text("just words")
    with pytest.raises(SurveyError, match="broken is wrong"):
        read_adapter(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"weigth": "wt"}, "weigth"),
        ({"ppp": "{factor: 2, year: 2017, cpi_ratio: 1}"}, r"ppp\.source"),
        ({"ppp": "{factor: 0, year: 2017, cpi_ratio: 1, source: x}"}, r"ppp\.factor"),
        ({"ppp": "{factor: 2, year: 2017, cpi_ratio: .nan, source: x}"}, r"ppp\.cpi_ratio"),
        ({"consumption": "{column: c, of: village, per: year, prices: real, currency: XXX}"}, r"consumption\.of"),
        ({"consumption": "{column: c, of: person, per: decade, prices: real, currency: XXX}"}, r"consumption\.per"),
        ({"consumption": "{column: c, of: person, per: 0, prices: real, currency: XXX}"}, r"consumption\.per"),
        (
            {"consumption": "{column: c, of: person, per: day, prices: real, currency: Kwacha}"},
            r"consumption\.currency",
        ),
        (
            {"consumption": "{column: c, of: adult_equivalent, per: day, prices: real, currency: XXX}"},
            "adult_equivalents",
        ),
        (
            {
                "consumption": "{column: c, of: person, per: day, prices: real, currency: XXX}",
                "deflator": "{column: i, period: 2019}",
            },
            "deflate them twice",
        ),
        (
            {"consumption": "{column: c, of: person, per: day, prices: nominal, period: May, currency: XXX}"},
            "no one period",
        ),
        ({"poverty_line": "{per: year}"}, "either column or value"),
        ({"poverty_line": "{column: z}"}, "different prices"),
        ({"displacement": "dhs"}, "column urban"),
        ({"displacement": "far"}, "displacement"),
        ({"join": "{households: hhid, locations: id}"}, "join needs coordinates"),
        ({"household": "[]"}, "household"),
    ],
)
def test_what_an_adapter_can_have_wrong(tmp_path, keys, message):
    with pytest.raises(SurveyError, match=message):
        read_adapter(write(tmp_path / "mine.yaml", **keys))


def test_a_written_adapter(tmp_path):
    adapter = read_adapter(write(tmp_path / "mine.yaml", household="[ea, hhid]", deflator='{column: i, period: "May"}'))
    assert adapter.name == "mine"
    assert adapter.household == ("ea", "hhid")
    assert adapter.columns == ["ea", "hhid", "wt", "members", "total", "i"]
    assert not adapter.checked
    assert adapter.prices == "real (May)"
