from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.assets.iwi import CHEAP, EXPENSIVE, LEVELS, OWNED, VARIABLES, iwi

GOODS = ("television", "refrigerator", "phone", "car", "bicycle", "electricity")
POOREST = {**dict.fromkeys((*GOODS, "radio", "computer"), 0.0), "rooms": 1.0}
POOREST |= {"water_level": 0.0, "floor_level": 0.0, "toilet_level": 0.0}
RICHEST = {**dict.fromkeys((*GOODS, "radio", "computer"), 1.0), "rooms": 4.0}
RICHEST |= {"water_level": 2.0, "floor_level": 2.0, "toilet_level": 2.0}


def table(*households: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame(list(households), index=[f"h{i}" for i in range(len(households))])


def test_published_constant_puts_the_poorest_at_0_and_the_richest_at_100():
    assert 25.00447 + sum(min(weights) for weights in LEVELS.values()) == pytest.approx(0, abs=1e-9)
    most = 25.00447 + sum(OWNED.values()) + sum(max(weights) for weights in LEVELS.values())
    assert most == pytest.approx(100, abs=3e-6)
    assert iwi(table(POOREST, RICHEST)).tolist() == [0.0, 100.0]
    assert len(VARIABLES) == 12


def test_a_household_by_hand():
    # Electricity, a phone and a radio; public tap, cement floor, pit with slab, two sleeping rooms.
    own = {**POOREST, "electricity": 1.0, "phone": 1.0, "radio": 1.0, "rooms": 2.0}
    own |= {"water_level": 1.0, "floor_level": 1.0, "toilet_level": 1.0}
    by_hand = 25.00447 + 8.056664 + 7.127699 + 4.118394 - 2.302023 + 1.227531 - 1.090393 + 0.384050
    assert iwi(table(own))["h0"] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(("rooms", "points"), [(0, 0), (1, 0), (2, 4.083731), (3, 7.14469), (9, 7.14469)])
def test_sleeping_rooms_count_up_to_three(rooms, points):
    assert iwi(table({**POOREST, "rooms": float(rooms)}))["h0"] == pytest.approx(points, abs=1e-5)


def test_an_expensive_utensil_stands_for_a_cheap_one_and_a_car_for_both():
    base = iwi(table(POOREST))["h0"]
    cheap, expensive, car = OWNED["cheap_utensils"], OWNED["expensive_utensils"], OWNED["car"]
    for changes, points in [
        ({"radio": 1.0}, cheap),
        ({"fan": 1.0}, cheap),
        ({"computer": 1.0}, cheap + expensive),
        ({"motorcycle": 1.0, "computer": np.nan}, cheap + expensive),
        ({"car": 1.0}, cheap + expensive + car),
    ]:
        assert iwi(table({**POOREST, **changes}))["h0"] - base == pytest.approx(points, abs=1e-5)


def test_unknown_utensils():
    asked_nothing = {name: value for name, value in POOREST.items() if name not in (*CHEAP, *EXPENSIVE)}
    owner = {**asked_nothing, "car": 1.0}
    index = iwi(table(asked_nothing, owner), max_unknown=0)
    assert index.isna().tolist() == [True, False]
    assert index.attrs["measure"]["unknown"]["cheap_utensils"] == 1
    assert index.attrs["measure"]["cheap_utensils"] == {"all": []}


def test_unknown_variables_and_columns():
    households = table({**RICHEST, "floor_level": np.nan}, {**RICHEST, "floor_level": np.nan, "rooms": np.nan}, RICHEST)
    assert iwi(households).isna().tolist() == [True, True, False]
    assert iwi(households, max_unknown=1).tolist() == [100.0, pytest.approx(np.nan, nan_ok=True), 100.0]
    assert iwi(households.drop(columns="bicycle")).isna().all()
    assert iwi(households.drop(columns="bicycle"), max_unknown=3).tolist() == [100.0] * 3
    measure = json.loads(json.dumps(iwi(households).attrs["measure"]))
    assert measure["unknown"]["floor_level"] == 2
    assert measure["expensive_utensils"] == {"all": ["computer"]}
    pooled = pd.concat([households.assign(survey="A"), households.assign(survey="B", radio=np.nan, fan=0.0)])
    assert iwi(pooled).attrs["measure"]["cheap_utensils"] == {"A": ["radio"], "B": ["fan"]}


def test_without_a_car_the_place_between_least_and_most_is_near_the_weights_estimated_anew():
    # The Global Data Lab's weights for surveys that do not ask for a car, from a published application to Bangladesh.
    levels = [(-6.65873, -2.38544, 8.357154), (-7.989144, 1.367741, 6.386174), (-7.840124, -1.130903, 8.564661)]
    levels += [(-3.846817, 0.42927, 3.551996)]
    owned = dict(zip(GOODS, (9.065771, 8.775876, 7.429358, 0, 1.901476, 8.519543), strict=True))
    owned |= {"radio": 4.322058, "computer": 6.791118}
    rows, theirs = [], []
    for goods in itertools.product((0.0, 1.0), repeat=5):
        for level in itertools.product((0, 1, 2), repeat=4):
            own = dict(zip(("television", "refrigerator", "phone", "electricity", "computer"), goods, strict=True))
            row = {**POOREST, **own, "car": np.nan, "radio": max(own["computer"], own["phone"])}
            row |= dict(zip(("water_level", "floor_level", "toilet_level"), map(float, level[:3]), strict=True))
            rows.append({**row, "rooms": level[3] + 1.0})
            theirs.append(
                26.334816
                + sum(weights[i] for weights, i in zip(levels, level, strict=True))
                + sum(owned[name] for name in owned if row[name] == 1)
            )
    ours = iwi(pd.DataFrame(rows), max_unknown=1)
    assert np.abs(ours - theirs).max() < 0.4


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=10, max_size=10),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), min_size=4, max_size=4),
    st.integers(0, 11),
)
def test_more_of_anything_is_never_poorer(goods, levels, max_unknown):
    names = (*GOODS, "radio", "computer", "motorcycle", "generator")
    own = dict(zip(names, goods, strict=True)) | dict(zip(LEVELS, levels, strict=True))
    richer = [{**own, name: value + 1} for name, value in own.items() if value < 1]
    before, *after = iwi(table(own, *richer), max_unknown=max_unknown)
    assert np.isnan(before) or 0 <= before <= 100
    assert np.isnan(before) or all(value >= before - 1e-9 for value in after)


def test_wrong_input_is_named():
    with pytest.raises(SurveyError, match=r"has 9 in 'television'; expected 0, 1"):
        iwi(table({**POOREST, "television": 9.0}))
    with pytest.raises(SurveyError, match="'floor_level'; expected 0, 1, 2"):
        iwi(table({**POOREST, "floor_level": 5.0}))
    with pytest.raises(SurveyError, match="negative sleeping rooms"):
        iwi(table({**POOREST, "rooms": -1.0}))
    for wrong in (-1, 12, 0.5, True):
        with pytest.raises(SurveyError, match="max_unknown"):
            iwi(table(POOREST), max_unknown=wrong)
