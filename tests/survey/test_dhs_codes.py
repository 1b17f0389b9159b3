from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopov.survey.dhs.codes import labelled_text, says_no_value, special_codes, water_minutes, without_special, yes_no

NAN = np.nan


@pytest.mark.parametrize(
    "label",
    [
        "Missing", "MISSING", "(m) Missing", "don't know", "Don\u2019t know", "Doesn't know", "DK", "DK/missing",
        "Not a dejure resident", "not a de jure resident", "Not dejure resident", "not de-jure resident",
        "non de jure resident", "Inconsistent", "Not applicable", "manquant", "no sabe", " missing ",
    ],
)  # fmt: skip
def test_labels_that_stand_for_no_value(label):
    assert says_no_value(label)


@pytest.mark.parametrize(
    "label", ["Flush, don't know where", "No", "None", "Other", "No facility/bush/field", "On premises", "No floor", ""]
)
def test_labels_of_real_answers(label):
    assert not says_no_value(label)


def test_nines_eights_and_sevens_are_as_wide_as_the_variable():
    codes = pd.Series([0.0, 7, 8, 9, 96, 97, 98, 99, 996, 997, 998, 999, NAN])
    assert without_special(codes, {}, width=1).dropna().tolist() == [0, 96, 97, 98, 99, 996, 997, 998, 999]
    assert without_special(codes, {}, width=2).dropna().tolist() == [0, 7, 8, 9, 96, 996, 997, 998, 999]
    assert without_special(codes, {}, width=3).dropna().tolist() == [0, 7, 8, 9, 96, 97, 98, 99, 996]


def test_labels_have_the_last_word():
    codes = pd.Series([50.0, 88, 97, 98, 99])
    labels = {88: "don't know", 97: "97 rooms and over"}
    assert without_special(codes, labels, width=2).tolist()[0::2] == [50, 97, pytest.approx(NAN, nan_ok=True)]
    assert special_codes(labels, width=2) == {88, 98, 99}


def test_yes_no_has_only_yes_and_no():
    values = pd.Series([0.0, 1, 7, 8, 9, NAN, 2, 2, 3])
    answer, odd = yes_no(values, {0: "No", 1: "Yes", 3: "missing"})
    np.testing.assert_equal(answer.to_numpy(), [0, 1, *[NAN] * 7])
    assert odd == {2.0: 2}


def test_minutes_to_the_water():
    labels = {995: "more than a day", 996: "on premises", 998: "don't know"}
    minutes = water_minutes(pd.Series([0.0, 5, 240, 995, 996, 997, 998, 999, NAN]), labels)
    np.testing.assert_equal(minutes.to_numpy(), [0, 5, 240, NAN, 0, NAN, NAN, NAN, NAN])
    bare = water_minutes(pd.Series([30.0, 996, 998, 999]), {})
    np.testing.assert_equal(bare.to_numpy(), [30, 0, NAN, NAN])
    other = water_minutes(pd.Series([30.0, 888, 996]), {888: "Water delivered", 996: "inconsistent"})
    np.testing.assert_equal(other.to_numpy(), [30, 0, NAN])


def test_labels_as_text():
    text = labelled_text(pd.Series([1.0, 2, 1234567, NAN]), {1: " Kigali City ", 2: ""})
    assert text.tolist() == ["Kigali City", "2", "1234567", None]


@given(st.lists(st.integers(0, 1200), min_size=1), st.sampled_from([1, 2, 3]))
def test_only_the_three_codes_of_the_width_are_lost(values, width):
    codes = pd.Series(values, dtype=float)
    lost = codes[without_special(codes, {}, width=width).isna()]
    assert set(lost) == set(codes) & {10.0**width - back for back in (1, 2, 3)}
