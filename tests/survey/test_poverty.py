from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import SurveyError
from geopov.survey.poverty import fgt, shortfalls

DATA = Path(os.environ.get("GEOPOV_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_known_answer():
    terms = shortfalls(pd.Series([1.0, 1.5, 2.0, 4.0, np.nan, 0.0]), 2.0)
    assert terms.columns.tolist() == ["poor", "poverty_gap", "poverty_severity"]
    np.testing.assert_array_equal(terms["poor"], [1, 1, 0, 0, np.nan, 1])
    np.testing.assert_array_equal(terms["poverty_gap"], [0.5, 0.25, 0, 0, np.nan, 1])
    np.testing.assert_array_equal(terms["poverty_severity"], [0.25, 0.0625, 0, 0, np.nan, 1])


def test_the_indices_are_weighted_means_over_people():
    consumption, people = pd.Series([1.0, 1.5, 4.0, np.nan]), np.array([1.0, 2.0, 5.0, 100.0])
    assert fgt(consumption, 2.0, weights=people) == pytest.approx(3 / 8)
    assert fgt(consumption, 2.0, weights=people, alpha=1) == pytest.approx((0.5 + 2 * 0.25) / 8)
    assert fgt(consumption, 2.0, weights=pd.Series(people), alpha=2) == pytest.approx((0.25 + 2 * 0.0625) / 8)


def test_a_line_for_each_household():
    terms = shortfalls(pd.Series([1.0, 1.0, 1.0], index=[3, 4, 5]), pd.Series([2.0, 0.5, np.nan], index=[3, 4, 5]))
    np.testing.assert_array_equal(terms["poverty_gap"], [0.5, 0, np.nan])
    assert terms.index.tolist() == [3, 4, 5]


@pytest.mark.real
@pytest.mark.skipif(not (DATA / "malawi").is_dir(), reason=f"no real data at {DATA}: set GEOPOV_REAL_DATA")
def test_malawi_is_reproduced_household_by_household():
    table = pd.read_stata(DATA / "malawi" / "ihs5_consumption_aggregate.dta", convert_categoricals=False)
    terms = shortfalls(table["rexpaggpc"], table["pline"])
    assert (terms["poor"] == table["poor"]).all()
    # The file has percent, in single precision.
    np.testing.assert_allclose(100 * terms["poverty_gap"], table["gap_poor"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(100 * terms["poverty_severity"], table["gap2_poor"], rtol=1e-4, atol=1e-4)
    headcount = fgt(table["rexpaggpc"], table["pline"], weights=table["hh_wgt"] * table["hhsize"])
    assert headcount == pytest.approx(0.3293, abs=5e-5)


amounts = st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.1, 10.0)), min_size=2, max_size=30)
lines = st.floats(0.5, 50.0)
alphas = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def unpack(rows: list[tuple[float, float]]) -> tuple[pd.Series, np.ndarray]:
    consumption, people = map(np.array, zip(*rows, strict=True))
    return pd.Series(consumption), people


@settings(max_examples=25, deadline=None)
@given(rows=amounts, line=lines)
def test_the_indices_fall_from_headcount_to_severity(rows, line):
    consumption, people = unpack(rows)
    headcount, gap, severity = (fgt(consumption, line, weights=people, alpha=alpha) for alpha in (0, 1, 2))
    assert 0 <= severity <= gap <= headcount <= 1 + 1e-12


@settings(max_examples=25, deadline=None)
# A power of two, so that an amount exactly at the line stays there.
@given(rows=amounts, line=lines, alpha=alphas, exponent=st.integers(-20, 20))
def test_neither_currency_nor_the_scale_of_weights_matters(rows, line, alpha, exponent):
    consumption, people = unpack(rows)
    factor = 2.0**exponent
    expected = fgt(consumption, line, weights=people, alpha=alpha)
    assert fgt(consumption * factor, line * factor, weights=people, alpha=alpha) == pytest.approx(expected, rel=1e-12)
    assert fgt(consumption, line, weights=people * factor, alpha=alpha) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows=amounts, line=lines, alpha=alphas, data=st.data())
def test_more_for_one_household_or_a_lower_line_is_never_more_poverty(rows, line, alpha, data):
    consumption, people = unpack(rows)
    expected = fgt(consumption, line, weights=people, alpha=alpha)
    richer = consumption.copy()
    richer.iloc[data.draw(st.integers(0, len(rows) - 1))] += data.draw(st.floats(0.0, 50.0))
    assert fgt(richer, line, weights=people, alpha=alpha) <= expected + 1e-12
    assert fgt(consumption, line * data.draw(st.floats(0.1, 1.0)), weights=people, alpha=alpha) <= expected + 1e-12


@settings(max_examples=25, deadline=None)
@given(rows=amounts, line=lines, alpha=alphas, data=st.data())
def test_the_whole_is_the_mean_of_its_groups_by_people(rows, line, alpha, data):
    consumption, people = unpack(rows)
    first = np.arange(len(rows)) < data.draw(st.integers(1, len(rows) - 1))
    parts = [fgt(consumption[part], line, weights=people[part], alpha=alpha) for part in (first, ~first)]
    expected = np.average(parts, weights=[people[first].sum(), people[~first].sum()])
    assert fgt(consumption, line, weights=people, alpha=alpha) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(rows=amounts, line=lines, alpha=alphas, data=st.data())
def test_order_and_splitting_households_change_nothing(rows, line, alpha, data):
    consumption, people = unpack(rows)
    expected = fgt(consumption, line, weights=people, alpha=alpha)
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = fgt(consumption.iloc[order], line, weights=people[order], alpha=alpha)
    assert shuffled == pytest.approx(expected, rel=1e-12)
    halves = pd.concat([consumption, consumption], ignore_index=True)
    split = fgt(halves, line, weights=np.r_[people / 2, people / 2], alpha=alpha)
    assert split == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("line", "weights", "alpha", "message"),
    [
        (0.0, [1, 1], 0, "above zero"),
        (-1.0, [1, 1], 0, "above zero"),
        (np.nan, [1, 1], 0, "finite number"),
        ("two", [1, 1], 0, "expected a number above zero"),
        (pd.Series([np.nan, np.nan]), [1, 1], 0, "no poverty line is known"),
        (pd.Series([1.0, 0.0]), [1, 1], 0, "1 are not"),
        (pd.Series([1.0, 1.0], index=[7, 8]), [1, 1], 0, "another index"),
        (pd.Series(["high", "low"]), [1, 1], 0, "no number"),
        (1.0, [1, -1], 0, "negative or missing"),
        (1.0, [1, np.nan], 0, "negative or missing"),
        (1.0, [1], 0, "expected one for each of 2"),
        (1.0, [0, 0], 0, "no household has both"),
        (1.0, [1, 1], -1, "alpha is -1"),
        (1.0, [1, 1], np.nan, "alpha is nan"),
    ],
)
def test_bad_input_is_named(line, weights, alpha, message):
    with pytest.raises(SurveyError, match=message):
        fgt(pd.Series([1.0, 2.0]), line, weights=np.array(weights, dtype=float), alpha=alpha)


def test_consumption_that_is_no_number():
    with pytest.raises(SurveyError, match="'rexpaggpc' that are no number"):
        shortfalls(pd.Series(["much", 1.0], name="rexpaggpc"), 1.0)
