from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopov.survey.dhs import COUNTRIES, KINDS, DhsName

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RWHR61DT.ZIP", DhsName("RW", "HR", "61", "DT")),
        ("rwge61fl.zip", DhsName("RW", "GE", "61", "FL")),
        ("data/RW/RWHR61FL.DTA", DhsName("RW", "HR", "61", "FL")),
        ("C:\\data\\KEHR8CSV.zip", DhsName("KE", "HR", "8C", "SV")),
        ("SNIR7ADT", DhsName("SN", "IR", "7A", "DT")),
        ("COHR41.ZIP", DhsName("CO", "HR", "41", "")),
        ("households.dta", None),
        ("RWHR61DT (1).zip", None),
        ("RWQQ61DT.zip", None),
        ("RWHR6DT.zip", None),
        ("", None),
    ],
)
def test_a_name_says_country_kind_version_and_format(name, expected):
    assert DhsName.parse(name) == expected


def test_country_phase_and_the_file_to_fetch():
    name = DhsName.parse("BUHR7ADT.ZIP")
    # BU is Burundi for the DHS Program, and no country for the ISO.
    assert (name.country, name.phase, name.sibling("GE", "FL")) == ("Burundi", "7", "BUGE7AFL.ZIP")
    assert DhsName("QQ", "HR", "61", "DT").country == "QQ"


@given(
    st.sampled_from(sorted(COUNTRIES)),
    st.sampled_from(sorted(KINDS)),
    st.text(LETTERS + "0123456789", min_size=2, max_size=2),
    st.sampled_from(["DT", "SV", "SD", "FL"]),
    st.sampled_from(["", ".zip", ".DTA", ".shp"]),
    st.booleans(),
)
def test_every_name_of_the_convention_is_read_in_either_case(country, kind, version, file_format, suffix, lower):
    text = country + kind + version + file_format + suffix
    assert DhsName.parse(text.lower() if lower else text) == DhsName(country, kind, version, file_format)
