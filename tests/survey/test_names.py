from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey import NameRules, match_names
from geopov.survey.areas.names import similarity


def pairs(matches: pd.DataFrame) -> dict[object, object]:
    both = matches.dropna(subset=["left", "right"])
    return dict(zip(both["left"], both["right"], strict=True))


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Kathmandu Metropolitan City", "kathmandu"),
        ("São-Tomé  (Água)", "saotomeagua"),
        ("City", "city"),
        ("पोखरा महानगरपालिका", "पोखरामहानगरपालिका"),
        ("Beeshal", "bishal"),
    ],
)
def test_folding(name, folded):
    assert NameRules(drop=["metropolitan", "City"], replace=[("ee", "i")]).fold(name) == folded


def test_similarity_by_hand():
    # ^n ni ig gh ht t$ and ^n na ac ch ht t$ share ^n, ht, t$: 2 x 3 / 12; the classic pair of Dice's coefficient
    np.testing.assert_allclose(similarity(["night", "abc"], ["nacht", "abc"]), [[0.5, 0.0], [0.0, 1.0]])


@settings(max_examples=50, deadline=None)
@given(names=st.lists(st.text("abcde", min_size=1, max_size=8), min_size=1, max_size=6))
def test_similarity_is_symmetric_bounded_and_one_for_the_same_name(names):
    alike = similarity(names, names)
    np.testing.assert_allclose(alike, alike.T)
    np.testing.assert_allclose(np.diag(alike), 1.0)
    assert ((alike >= 0) & (alike <= 1 + 1e-12)).all()


def test_a_near_twin_does_not_take_the_name_of_its_neighbour():
    left = pd.Series({"a": "Haripur", "b": "Haripurwa", "c": "Mikwakhola", "d": "Maiwakhola"})
    right = pd.Series({4: "Maiwakhola", 3: "Mikwakhola", 2: "Haripurwa", 1: "Haripur"})
    matches = match_names(left, right)
    assert pairs(matches) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert set(matches["how"]) == {"same name"}


def test_the_last_one_left_is_matched_and_two_left_are_not():
    left, right = pd.Series({"a": "Alpha", "b": "Dhorchaur"}), pd.Series({1: "Alpha", 2: "Kumakh"})
    matches = match_names(left, right)
    assert pairs(matches) == {"a": 1, "b": 2}
    assert matches.set_index("left").loc["b", "how"] == "last one left in its group"
    left["c"], right[3] = "Sukidaha", "Gangadev"
    matches = match_names(left, right)
    assert pairs(matches) == {"a": 1}
    unmatched = matches[matches["how"] == "no name similar enough"]
    assert set(unmatched["left"].dropna()) == {"b", "c"}
    assert set(unmatched["right"].dropna()) == {2, 3}


def test_a_tie_is_left_open():
    matches = match_names(pd.Series({"a": "Kalika", "b": "Bheri"}), pd.Series({1: "Kalika", 2: "Kalika", 3: "Bheri"}))
    assert pairs(matches) == {"b": 3}


def test_aliases():
    left, right = pd.Series({"a": "Sukidaha", "b": "Duikholi"}), pd.Series({1: "Pariwartan", 2: "Gangadev"})
    rules = NameRules(aliases={"Sukidaha": "Gangadev", "Duikholi": "Pariwartan"})
    matches = match_names(left, right, rules=rules)
    assert pairs(matches) == {"a": 2, "b": 1}
    assert set(matches["how"]) == {"alias"}
    with pytest.raises(SurveyError, match="Sukidah: Gangadev"):
        match_names(left, right, rules=NameRules(aliases={"Sukidah": "Gangadev"}))


GROUPS = {
    "west": ["Kalika", "Bhimad", "Rampur", "Malika"],
    "east": ["Kalika", "Sunwal", "Rampur", "Tansen"],
    "north": ["Kalika", "Lumbini"],
}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_groups_are_found_by_their_members_whatever_their_labels_and_order(data):
    rows = [(group, name) for group, names in GROUPS.items() for name in names]
    left = pd.DataFrame(rows, columns=["group", "name"])
    right = left.iloc[data.draw(st.permutations(range(len(left))))]
    labels = dict(zip(GROUPS, data.draw(st.permutations([1, 2, 3])), strict=True))
    matches = match_names(
        left["name"], right["name"], left_groups=left["group"], right_groups=right["group"].map(labels)
    )
    assert pairs(matches) == {i: i for i in left.index}


def test_a_group_without_a_partner_is_listed():
    left, right = pd.Series(["Alpha", "Beta", "Gamma"]), pd.Series(["Alpha", "Gamma"])
    matches = match_names(left, right, left_groups=pd.Series(["x", "y", "z"]), right_groups=pd.Series([1, 2]))
    assert pairs(matches) == {0: 0, 2: 1}
    assert matches.loc[matches["left"] == 1, "how"].item() == "no name similar enough"


def test_bad_input_is_named():
    names = pd.Series(["Alpha", None], index=["a", "b"])
    with pytest.raises(SurveyError, match=r"1 left places have no name \(b\)"):
        match_names(names, pd.Series(["Alpha"]))
    good = pd.Series(["Alpha"])
    with pytest.raises(SurveyError, match="on one side only"):
        match_names(good, good, left_groups=good)
    with pytest.raises(SurveyError, match="1 right names have no group"):
        match_names(good, good, left_groups=good, right_groups=pd.Series([None]))
