"""The sentences of the first screen say what the scores say, and no more."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopov.regression.report import format as formatting
from geopov.regression.report import wording


def _row(predictor: str, r2: float | None, **others: Any) -> dict[str, Any]:
    interval = {"R2_low": None if r2 is None else r2 - 0.1, "R2_high": None if r2 is None else r2 + 0.1}
    return {"predictor": predictor, "subset": "all", "R2": r2, "slope": 0.9, **interval, **others}


def _difference(predictor: str, value: float, low: float | None, high: float | None) -> dict[str, Any]:
    verdict = "no difference shown" if low is None or low <= 0 <= high else "better" if low > 0 else "worse"
    ends = {"difference": value, "low": low, "high": high, "verdict": verdict}
    return {"predictor": predictor, "score": "R2", **ends}


def _summary(**changes: Any) -> dict[str, Any]:
    """A run with nothing to warn of."""
    return {
        "unit": "index",
        "n": 240,
        "n_survey": 240,
        "n_blocks": 31,
        "splits": {"name": "SpatialBlocks", "block_km": 50.0, "n_folds": 5},
        "baseline": "nightlights_ridge",
        "baselines": {
            "nightlights_ridge": "nightlights alone (ridge)",
            "nightlights_knn": "nightlights alone (neighbours)",
            "kriging": "interpolation (kriging)",
        },
        "scores": [_row("model", 0.7), _row("nightlights_ridge", 0.5), _row("kriging", 0.4)],
        "differences": [_difference("nightlights_ridge", 0.2, 0.1, 0.3), _difference("kriging", 0.3, 0.1, 0.5)],
        "coverage": {"nominal": 0.9, "measured": 0.88, "low": 0.84, "high": 0.92},
        "half_width_median": 0.784,
        "half_width_range": [0.7, 1.13],
        "out_of_support": 5,
        "shrinkage": [],
        "deshrink": "none",
        "leakage": {"tile_km": 6.7, "buffer_km": 0.0, "checked": True, "text": ""},
        "block_advice": {"block_km": 40.0, "range_km": 38.0, "nugget_share": 0.5, "text": ""},
        "years": {"survey": [2014], "imagery": [2015], "gap": 1},
        "survey": None,
        "repeats": None,
        "permutation": None,
        **changes,
    }


def test_three_answers() -> None:
    good, compared, sure = wording.answers(_summary())
    assert good.short == "70%"
    assert good.text == (
        "In places it had not seen, the model accounts for 70% of the differences between clusters "
        "(95% interval 60% to 80%)."
    )
    assert compared.short == "Yes"
    assert compared.text == (
        "The best simpler way, nightlights alone, accounts for 50% of the differences. "
        "The model is better by 20 percentage points (95% interval 10 to 30)."
    )
    assert sure.short == "± 0.78 index"
    assert sure.text == (
        "The margin for one place is ± 0.78 index (from 0.70 to 1.13 for most). It is meant to hold for 90% of places, "
        "and held for 88% of those held out (95% interval 84% to 92%)."
    )
    assert wording.cautions(_summary()) == []


@pytest.mark.parametrize(
    ("ends", "short", "words"),
    [
        ((-0.1, -0.2, -0.05), "No, it is worse", "worse by 10 percentage points (95% interval 5 to 20)"),
        (
            (0.05, -0.1, 0.2),
            "Not shown",
            "not shown to be better: it is ahead by 5 percentage points (95% interval −10",
        ),
        ((-0.05, -0.2, 0.1), "Not shown", "it is behind by 5 percentage points (95% interval −10 to 20)"),
        ((0.05, 0.002, 0.1), "Yes", "better by 5.0 percentage points (95% interval 0.2 to 10.0)"),
        ((0.05, None, None), "Cannot be said", "too few independent blocks to say"),
    ],
)
def test_a_model_that_does_not_beat_the_baseline_is_said_not_to(ends: tuple, short: str, words: str) -> None:
    summary = _summary(differences=[_difference("nightlights_ridge", *ends), _difference("kriging", 0.3, 0.1, 0.5)])
    answer = wording.answers(summary)[1]
    assert answer.short == short
    assert words in answer.text
    titles = [caution.title for caution in wording.cautions(summary)]
    warned = "Worse" if "worse" in short else "Not better"
    assert titles == ([] if short == "Yes" else [f"{warned} than something simpler"])


def test_beating_the_best_on_average_is_not_beating_all() -> None:
    """The best baseline may be beaten while a noisier one is not."""
    rivals = [("nightlights_ridge", 0.1), ("kriging", -0.1), ("nightlights_knn", -0.2)]
    rows = [_row("model", 0.7), *(_row(name, 0.5) for name, _ in rivals)]
    summary = _summary(scores=rows, differences=[_difference(name, 0.2, low, 0.5) for name, low in rivals])
    answer = wording.answers(summary)[1]
    assert answer.short == "Not than all"
    assert answer.text.endswith("It is not shown to beat interpolation or nightlights alone.")


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"name": "LeaveOneCountryOut"}, "In countries it had not seen"),
        ({"name": "LeaveOneSurveyOut"}, "In surveys it had not seen"),
        ({"name": "GivenFolds", "column": "fold"}, "In clusters it had not seen"),
        ({"name": "RandomFolds", "n_folds": 5}, "though it may have seen their neighbours"),
    ],
)
def test_unseen_is_what_the_folds_left_out(splits: dict, words: str) -> None:
    summary = _summary(splits=splits)
    assert words in wording.answers(summary)[0].text
    assert splits["name"] in wording.about_folds(summary)
    titles = [caution.title for caution in wording.cautions(summary)]
    assert titles == (["Leakage allowed"] if splits["name"] == "RandomFolds" else [])


ADVICE = {"block_km": 80.0, "range_km": 75.0, "text": ""}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 60, "n_survey": 60, "out_of_support": 0}, "Few clusters. Only 60 clusters"),
        ({"n_blocks": 8}, "Few blocks. Only 8 independent blocks"),
        ({"out_of_support": 30}, "Unfamiliar places. 30 of 240 clusters look unlike"),
        ({"n_survey": 300}, "Clusters left out. 60 of 300 clusters could not be used"),
        ({"years": {"survey": [2010, 2014], "imagery": [2018], "gap": 8}}, "(2010–2014) and images (2018) lie up to 8"),
        ({"survey": {"window": "The window of 2 km is small."}}, "Displaced clusters. The window of 2 km is small."),
        ({"leakage": {"tile_km": 6.7, "checked": False}}, "Leakage allowed."),
        ({"leakage": None}, "Leakage allowed."),
        ({"leakage": {"tile_km": 0.0, "checked": True}}, "Overlap not checked."),
        ({"block_advice": ADVICE | {"nugget_share": 0.3}}, "50 km blocks of the test; blocks of 80 km are advised"),
        ({"scores": [_row("model", 0.7, slope=0.55)]}, "shows as about 0.55 on the map"),
        ({"scores": [_row("model", -0.1)]}, "No predictive value."),
        (
            {"coverage": {"nominal": 0.9, "measured": 0.7, "low": 0.6, "high": 0.8}},
            "70% of held-out clusters, not for 90%",
        ),
    ],
)
def test_each_caution(changes: dict[str, Any], words: str) -> None:
    (caution,) = wording.cautions(_summary(**changes))
    assert words in f"{caution.title}. {caution.text}"


def test_no_caution_at_the_edge() -> None:
    """Three years are close enough, errors of which neighbours share little allow any block, old folders know none."""
    quiet = {"years": {"survey": [2014], "imagery": [2017], "gap": 3}, "n": 100, "n_survey": 105, "n_blocks": 20}
    assert wording.cautions(_summary(**quiet, block_advice=ADVICE | {"nugget_share": 0.9})) == []
    assert wording.cautions(_summary(years=None, block_advice=None)) == []


def test_a_map_without_shrinkage_is_not_warned_of() -> None:
    """The warning is of the predictions on the map, and the cost is named."""
    rows = [{"method": "none", "slope": 0.6, "R2": 0.7, "rmse_cost": 0.0}]
    rows += [{"method": "linear", "slope": 1.0, "R2": 0.6, "rmse_cost": 0.0961}]
    assert [c.title for c in wording.cautions(_summary(shrinkage=rows))] == ["Drawn towards the average"]
    corrected = _summary(shrinkage=rows, deshrink="linear")
    assert wording.cautions(corrected) == []
    assert "de-shrunk by the linear method, which adds 0.096 index to the RMSE" in wording.about_deshrinking(corrected)


def test_a_margin_in_logarithms_is_a_factor() -> None:
    summary = _summary(unit="ln(people per km²)", half_width_median=1.1, half_width_range=[0.693147, 1.386294])
    answer = wording.answers(summary)[2]
    assert answer.short == "÷ or × 3.0"
    assert answer.text.startswith("The margin for one place is a factor of 3.0 in people per km² (from 2.0 to 4.0 for")
    assert wording.margin(summary) == "± 1.1 ln(people per km²)"


def test_chance_and_luck() -> None:
    test = {"n": 99, "null_median": 0.004, "null_95": 0.021, "observed_r2": 0.7321, "p_value": 0.01}
    assert wording.about_permutation(_summary(permutation=test)) == (
        "With the images reshuffled among the clusters 99 times, r² was 0.004 in the middle and below 0.021 in 95% of "
        "the reshuffles; with the images in their places it is 0.732 (p = 0.010)."
    )
    repeats = {"n": 3, "R2": [0.6, 0.72, 0.65], "r2_pearson": [0.6, 0.7, 0.7]}
    text = wording.about_repeats(_summary(repeats=repeats))
    assert "R² was 0.65 in the middle, and between 0.60 and 0.72. The division of this report gives 0.70." in text


def test_numbers() -> None:
    assert formatting.number(None) == "–"
    assert formatting.number(-0.001) == "0.00"
    assert formatting.number(-1234.5, 0) == "−1,234"
    assert formatting.signed(0.126) == "+0.13"
    assert formatting.signed(0.001) == "0.00"
    assert formatting.percent(0.705) == "70%"
    assert [formatting.quantity(value) for value in (0.784, 0.0123, 12.3, 1234.5, 0.0)] == [
        "0.78", "0.012", "12", "1,234", "0.00",
    ]  # fmt: skip
    assert formatting.quantity(0.5, "USD a day") == "0.50 USD a day"
    assert formatting.quantity(None, "USD") == "–"


@given(st.floats(-1e6, 1e6), st.integers(1, 4))
def test_a_quantity_keeps_its_digits(value: float, significant: int) -> None:
    text = formatting.quantity(value, significant=significant)
    assert re.fullmatch(r"−?[\d,]+(\.\d+)?", text)
    read = float(text.replace("−", "-").replace(",", ""))
    # From a certain size on there are no decimals left to drop.
    whole = 0.51 if abs(value) >= 10.0 ** (significant - 1) else 0.0
    assert abs(read - value) <= max(0.51 * 10.0 ** (1 - significant) * abs(value), whole)
