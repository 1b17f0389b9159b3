from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.assets import housing

NAN = np.nan

# Label, standard code, rank, IWI level, improved: labels as DHS recode files of phases 5 to 8 spell them.
FLOOR = [
    ("Earth/sand", 11, 1, 0, 0),
    ("Dung", 12, 1, 0, 0),
    ("Wood planks", 21, 2, 1, 1),
    ("Palm/bamboo", 22, 2, 1, 1),
    ("Parquet or polished wood", 31, 5, 2, 1),
    ("Vinyl or asphalt strips", 32, 4, 2, 1),
    ("Ceramic tiles", 33, 5, 2, 1),
    ("Cement", 34, 3, 1, 1),
    ("Carpet", 35, 4, 2, 1),
    ("Other", 96, NAN, 0, 0),
]
WATER = [
    ("Piped into dwelling", 11, 5, 2, 1),
    ("Piped to yard/plot", 12, 5, 2, 1),
    ("Piped to neighbor", 13, 4, 1, 1),
    ("Public tap/standpipe", 14, 4, 1, 1),
    ("Tube well or borehole", 21, 3, 1, 1),
    ("Protected well", 31, 3, 1, 1),
    ("Unprotected well", 32, 2, 0, 0),
    ("Protected spring", 41, 3, 1, 1),
    ("Unprotected spring", 42, 2, 0, 0),
    ("River/dam/lake/ponds/stream/canal/irrigation channel", 43, 1, 0, 0),
    ("Rainwater", 51, 3, 0, 1),
    ("Tanker truck", 61, 2, 1, 1),
    ("Cart with small tank", 62, 2, 0, 1),
    ("Bottled water", 71, 5, 2, 1),
    ("Sachet water", 72, 4, 1, 1),
    ("Other", 96, NAN, 0, 0),
]
TOILET = [
    ("Flush to piped sewer system", 11, 5, 2, 1),
    ("Flush to septic tank", 12, 5, 2, 1),
    ("Flush to pit latrine", 13, 5, 2, 1),
    ("Flush to somewhere else", 14, 4, 2, 0),
    ("Flush, don't know where", 15, 5, 2, 0),
    ("Ventilated Improved Pit latrine (VIP)", 21, 4, 1, 1),
    ("Pit latrine with slab", 22, 3, 1, 1),
    ("Pit latrine without slab/open pit", 23, 2, 0, 0),
    ("No facility/bush/field", 31, 1, 0, 0),
    ("Composting toilet", 41, 3, 1, 1),
    ("Bucket toilet", 42, 2, 0, 0),
    ("Hanging toilet/latrine", 43, 2, 0, 0),
    ("Other", 96, NAN, 0, 0),
]
FUEL = [
    ("Electricity", 1, 1),
    ("LPG", 2, 1),
    ("Natural gas", 3, 1),
    ("Biogas", 4, 1),
    ("Kerosene", 5, 1),
    ("Coal, lignite", 6, 0),
    ("Charcoal", 7, 0),
    ("Wood", 8, 0),
    ("Straw/shrubs/grass", 9, 0),
    ("Agricultural crop", 10, 0),
    ("Animal dung", 11, 0),
    ("No food cooked in house", 95, 1),
    ("Other", 96, 1),
]
TABLES = [(housing.floor, FLOOR), (housing.water, WATER), (housing.toilet, TOILET), (housing.fuel, FUEL)]


@pytest.mark.parametrize(("place", "expected"), TABLES)
def test_labels_and_standard_codes_agree_on_the_present_phases(place, expected):
    codes = pd.Series([row[1] for row in expected], dtype=float)
    want = np.array([row[2:] for row in expected], dtype=float)
    np.testing.assert_array_equal(place(codes), want)
    # The same labels on other codes: nothing but the words can have placed them.
    moved = {float(i + 201): row[0] for i, row in enumerate(expected)}
    table = place(pd.Series(list(moved)), moved)
    np.testing.assert_array_equal(table, want)
    assert table.attrs["unplaced"] == []
    assert len(table.attrs["placed"]) == len(expected)


# Labels of older phases and single countries, whose codes mean something else in the standard.
@pytest.mark.parametrize(
    ("place", "code", "label", "expected"),
    [
        (housing.water, 21, "Well in residence", [2, 0, NAN]),
        (housing.water, 22, "Public well, traditional", [2, 0, 0]),
        (housing.water, 31, "Spring", [2, 0, NAN]),
        (housing.water, 32, "River, stream", [1, 0, 0]),
        (housing.water, 33, "Covered public well", [3, 1, 1]),
        (housing.water, 41, "Rainwater", [3, 0, 1]),
        (housing.water, 12, "Public tap", [4, 1, 1]),
        (housing.water, 13, "Piped outside compound", [4, 1, 1]),
        (housing.water, 35, "Dug well - protected", [3, 1, 1]),
        (housing.water, 44, "Not protected spring", [2, 0, 0]),
        (housing.toilet, 11, "Own flush toilet", [5, 2, 1]),
        (housing.toilet, 12, "Shared flush toilet", [5, 1, 0]),
        (housing.toilet, 21, "Traditional pit toilet", [2, 0, 0]),
        (housing.toilet, 22, "Vent. imp. pit latrine", [4, 1, 1]),
        (housing.toilet, 24, "Uncovered pit latrine with slab", [3, 1, 1]),
        (housing.toilet, 25, "Covered pit latrine no slab", [2, 0, 0]),
        (housing.toilet, 26, "Latrine without flush", [2, 0, NAN]),
        (housing.toilet, 61, "Latrine non améliorée, unimproved", [2, 0, 0]),
        (housing.toilet, 51, "Public toilet", [3, 1, 0]),
        (housing.floor, 36, "Cement & sand", [3, 1, 1]),
        (housing.floor, 13, "Natural floor: clay", [1, 0, 0]),
        (housing.floor, 30, "Finished floor", [NAN, NAN, 1]),
        (housing.floor, 23, "Burnt bricks", [2, 1, 1]),
        (housing.floor, 37, "Linoleum tiles", [4, 2, 1]),
        (housing.fuel, 5, "Firewood", [0]),
        (housing.fuel, 4, "Paraffin / kerosene", [1]),
        (housing.fuel, 12, "Does not cook", [1]),
        (housing.fuel, 13, "Biogas", [1]),
    ],
)
def test_words_of_a_label_go_before_the_code(place, code, label, expected):
    table = place(pd.Series([float(code)]), {code: label})
    np.testing.assert_array_equal(table.iloc[0], np.array(expected, dtype=float))


def test_codes_of_another_phase_are_not_read_without_labels():
    codes = pd.Series([21.0, 21.0, np.nan])
    assert housing.water(codes)["water"].tolist()[:2] == [3.0, 3.0]
    table = housing.water(codes, standard=False)
    assert table.isna().all(axis=None)
    assert table.attrs["unplaced"] == [{"code": 21.0, "label": "", "n": 2}]


@pytest.mark.parametrize(
    "label", ["Missing", "Don't know", "DK", "Not a dejure resident", "99. missing", "Inconsistent"]
)
def test_special_labels_are_missing_and_no_riddle(label):
    table = housing.toilet(pd.Series([31.0, 11.0]), {31: label, 11: "Flush to septic tank"})
    assert table["toilet"].isna().tolist() == [True, False]
    assert table.attrs["unplaced"] == []


def test_what_no_class_takes_is_named():
    table = housing.floor(pd.Series([77.0, 77.0, 34.0]), {77: "Yurt felt", 34: "Cement"})
    assert table["floor"].isna().tolist() == [True, True, False]
    assert table.attrs["unplaced"] == [{"code": 77.0, "label": "Yurt felt", "n": 2}]
    assert table.attrs["placed"] == {"Cement": "cement"}


def test_country_codes_fall_into_the_group_of_their_first_digit():
    table = housing.floor(pd.Series([14.0, 24.0, 38.0]), {14: "Lipan", 24: "Cocos", 38: "Mazaico"})
    np.testing.assert_array_equal(table, [[1, 0, 0], [2, 1, 1], [NAN, NAN, 1]])


def test_half_an_hour_makes_water_unimproved():
    codes = pd.Series([11.0, 31.0, 31.0, 31.0, 32.0, np.nan])
    minutes = pd.Series([0.0, 29.0, 30.0, np.nan, 5.0, 45.0])
    improved = housing.water(codes, minutes=minutes)["water_improved"]
    np.testing.assert_array_equal(improved, [1, 1, 0, 1, 0, NAN])


def test_a_shared_toilet_is_unimproved_and_a_shared_flush_medium():
    codes = pd.Series([11.0, 11.0, 11.0, 22.0, 31.0, np.nan])
    shared = pd.Series([0.0, 1.0, np.nan, 1.0, np.nan, 1.0])
    table = housing.toilet(codes, shared=shared)
    np.testing.assert_array_equal(table["toilet"], [5, 5, 5, 3, 1, NAN])
    np.testing.assert_array_equal(table["toilet_level"], [2, 1, 2, 1, 0, NAN])
    np.testing.assert_array_equal(table["toilet_improved"], [1, 0, 1, 0, 0, NAN])
    own = housing.toilet(pd.Series([1.0]), {1: "Flush, not shared"})
    assert own["toilet_improved"].tolist() == [1.0]


def test_wrong_input_is_named():
    with pytest.raises(SurveyError, match=r"'hv213'.*no number"):
        housing.floor(pd.Series(["cement"], name="hv213"))
    with pytest.raises(SurveyError, match="value label"):
        housing.floor(pd.Series([11.0]), {"a": "Earth"})
    with pytest.raises(SurveyError, match="minutes has another index"):
        housing.water(pd.Series([11.0]), minutes=pd.Series([1.0], index=[5]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 99).map(float), st.just(float("nan"))), max_size=30), st.data())
def test_each_household_is_placed_by_its_own_code(codes, data):
    order = data.draw(st.permutations(range(len(codes))))
    series = pd.Series(codes, dtype=float, index=[f"h{i}" for i in range(len(codes))])
    for place, _ in TABLES:
        table = place(series)
        assert table.index.equals(series.index)
        pd.testing.assert_frame_equal(place(series.iloc[order]), table.iloc[order])
        for column in table:
            allowed = [0, 1] if column.endswith(("improved", "clean")) else range(6)
            assert table[column].dropna().isin(allowed).all()
