from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.assets.deprivation import SMALL_ASSETS, WEIGHTS, deprivation_score, deprivations, is_poor

FINE = {
    "schooling_years_max": 6.0,
    "child_out_of_school": 0.0,
    "fuel_clean": 1.0,
    "toilet_improved": 1.0,
    "water_improved": 1.0,
    "electricity": 1.0,
    "floor_improved": 1.0,
    **dict.fromkeys(SMALL_ASSETS, 0.0),
    "car": 1.0,
}
FAILS = {
    "schooling": {"schooling_years_max": 5.0},
    "attendance": {"child_out_of_school": 1.0},
    "cooking_fuel": {"fuel_clean": 0.0},
    "sanitation": {"toilet_improved": 0.0},
    "drinking_water": {"water_improved": 0.0},
    "electricity": {"electricity": 0.0},
    "housing": {"floor_improved": 0.0},
    "assets": {"car": 0.0},
}


def table(*households: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(list(households))


def fails(*names: str) -> dict[str, float]:
    household = dict(FINE)
    for name in names:
        household |= FAILS[name]
    return household


def test_weights_are_those_of_the_mpi_without_health():
    assert sum(WEIGHTS.values()) == pytest.approx(2 / 3)
    assert WEIGHTS["schooling"] == pytest.approx(3 * WEIGHTS["assets"])


@pytest.mark.parametrize("name", FAILS)
def test_each_indicator_by_itself(name):
    households = table(FINE, fails(name))
    deprived = deprivations(households)
    assert deprived.iloc[0].sum() == 0
    assert deprived.columns[deprived.iloc[1] == 1].tolist() == [name]
    # Over the two thirds of the weight that are not health.
    assert deprivation_score(households).tolist() == pytest.approx([0, WEIGHTS[name] * 1.5])


def test_scores_and_the_poor_by_hand():
    households = table(
        fails("schooling"),  # 1/4
        fails("schooling", "assets"),  # 1/3: on the line
        fails("cooking_fuel", "sanitation", "housing", "assets"),  # 4 / 12: on the line
        fails("cooking_fuel", "sanitation", "housing"),  # 1/4
        fails(*FAILS),
    )
    score = deprivation_score(households)
    np.testing.assert_allclose(score, [1 / 4, 1 / 3, 1 / 3, 1 / 4, 1])
    assert is_poor(score).tolist() == [0, 1, 1, 0, 1]
    assert is_poor(score, cutoff=1.0).tolist() == [0, 0, 0, 0, 1]
    assert deprivations(households).sum(axis=1).tolist() == [1, 2, 4, 3, 8]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"car": 0.0, "radio": 1.0}, 1),
        ({"car": 0.0, "radio": 1.0, "animal_cart": 1.0}, 0),
        ({"car": np.nan, "radio": 1.0, "phone": np.nan}, 1),
        ({"car": 1.0, **dict.fromkeys(SMALL_ASSETS, np.nan)}, 0),
        ({"car": 0.0, **dict.fromkeys(SMALL_ASSETS, np.nan)}, np.nan),
    ],
)
def test_assets(changes, expected):
    np.testing.assert_array_equal(deprivations(table({**FINE, **changes}))["assets"], [expected])


def test_indicators_that_a_survey_lacks_are_left_out_and_the_weights_rescaled():
    education = ["schooling_years_max", "child_out_of_school"]
    with_members = table(fails("schooling"), fails("sanitation")).assign(survey="A")
    without = table(fails("schooling"), fails("sanitation")).drop(columns=education).assign(survey="B")
    score = deprivation_score(pd.concat([with_members, without], ignore_index=True))
    np.testing.assert_allclose(score, [1 / 4, 1 / 12, 0, 1 / 6])
    left_out = json.loads(json.dumps(score.attrs["measure"]))["left_out"]
    assert left_out["A"] == ["nutrition", "child_mortality"]
    assert left_out["B"] == ["nutrition", "child_mortality", "schooling", "attendance"]
    assert deprivations(without).attrs["left_out"] == left_out["B"]


def test_households_that_lack_too_much_have_no_score():
    unknown = dict.fromkeys(["fuel_clean", "toilet_improved"], np.nan)
    much = dict.fromkeys(["schooling_years_max", "child_out_of_school", "electricity"], np.nan)
    households = table(FINE, {**fails("schooling"), **unknown}, {**fails("sanitation"), **much})
    np.testing.assert_allclose(deprivation_score(households), [0, 3 / 10, np.nan])
    np.testing.assert_allclose(deprivation_score(households, max_missing=0.6), [0, 3 / 10, 1 / 5])
    np.testing.assert_allclose(deprivation_score(households, max_missing=0.0), [0, np.nan, np.nan])
    assert is_poor(deprivation_score(households)).isna().tolist() == [False, False, True]


def test_nothing_known_is_nothing_scored():
    score = deprivation_score(pd.DataFrame({"survey": ["A", "A"]}))
    assert score.isna().all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=8, max_size=8), min_size=1, max_size=8), st.data()
)
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_order(rows, data):
    columns = list(dict.fromkeys(name for change in FAILS.values() for name in change))
    households = pd.DataFrame(rows, columns=columns).assign(survey="A")
    score = deprivation_score(households)
    assert score.dropna().between(0, 1 + 1e-12).all()
    order = data.draw(st.permutations(range(len(rows))))
    pd.testing.assert_series_equal(deprivation_score(households.iloc[order]), score.iloc[order])
    known = deprivations(households).notna()
    np.testing.assert_array_equal(score[known.all(axis=1)].isna(), False)


def test_wrong_input_is_named():
    with pytest.raises(SurveyError, match=r"has 9 in 'fuel_clean'; expected 0, 1"):
        deprivations(table({**FINE, "fuel_clean": 9.0}))
    with pytest.raises(SurveyError, match="max_missing"):
        deprivation_score(table(FINE), max_missing=1.0)
    with pytest.raises(SurveyError, match="cutoff"):
        is_poor(pd.Series([0.5]), cutoff=0.0)
