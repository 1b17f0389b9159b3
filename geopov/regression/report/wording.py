"""What the scores of a run say, in sentences: the three answers of the first screen, and the cautions.

The answers are for a reader who has never met R²; each figure in them stands in a table further down with its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from geopov.regression.report.format import decimals, number, percent, percent_interval, quantity, signed

FEW_CLUSTERS, FEW_BLOCKS = 100, 20
MAX_YEAR_GAP = 3
"""Years between survey and imagery above which a reader is warned."""
MIN_SLOPE = 0.8
MAX_NUGGET_SHARE = 0.8
"""Part of the error variance that neighbours do not share, above which the width of blocks hardly matters."""
_UNSEEN = {
    "SpatialBlocks": "In places it had not seen",
    "LeaveOneCountryOut": "In countries it had not seen",
    "LeaveOneSurveyOut": "In surveys it had not seen",
    "RandomFolds": "In clusters it had not seen, though it may have seen their neighbours",
}

_LOGARITHM = re.compile(r"ln\s?\((.+)\)")
"""The unit of an outcome in natural logarithms, around the unit that a reader knows."""

Summary = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One question of the first screen with its answer, short and in a sentence."""

    question: str
    short: str
    text: str


@dataclass(frozen=True)
class Caution:
    """Something to know before using the map: its name in a few words, and one sentence."""

    title: str
    text: str


def row_of(summary: Summary, predictor: str, subset: str = "all") -> dict[str, Any]:
    """One row of the table of scores."""
    rows = summary["scores"]
    found: dict[str, Any] = next(row for row in rows if row["predictor"] == predictor and row["subset"] == subset)
    return found


def name_of(summary: Summary, predictor: str) -> str:
    """A predictor as a table calls it."""
    return "model" if predictor == "model" else str(summary["baselines"].get(predictor, predictor))


def plain_name(summary: Summary, predictor: str) -> str:
    """A baseline without the name of its algorithm, which a table adds in brackets."""
    return name_of(summary, predictor).split(" (")[0]


def answers(summary: Summary) -> list[Answer]:
    """How good, compared to what, and how sure."""
    return [_how_good(summary), _compared_to_what(summary), _how_sure(summary)]


def _unseen(summary: Summary) -> str:
    return _UNSEEN.get(summary["splits"].get("name"), "In clusters it had not seen")


def _how_good(summary: Summary) -> Answer:
    pooled, question = row_of(summary, "model"), "How good is it?"
    if pooled["R2"] <= 0:
        text = f"{_unseen(summary)}, the model predicts no better than one figure for the whole survey would."
        return Answer(question, "Not good", text)
    share = percent(pooled["R2"])
    text = f"{_unseen(summary)}, the model accounts for {share} of the differences between clusters"
    return Answer(question, share, text + percent_interval(pooled["R2_low"], pooled["R2_high"]) + ".")


def _r2_differences(summary: Summary) -> dict[str, dict[str, Any]]:
    return {row["predictor"]: row for row in summary["differences"] if row["score"] == "R2"}


def not_beaten(summary: Summary) -> list[str]:
    """The baselines that the model is not shown to beat on R², the best of them first."""
    rows = [name for name, row in _r2_differences(summary).items() if row["verdict"] != "better"]
    return sorted(rows, key=lambda name: (name != summary["baseline"], -(row_of(summary, name)["R2"] or 0.0)))


def _compared_to_what(summary: Summary) -> Answer:
    best, question = summary["baseline"], "Is it better than something simpler?"
    row, theirs = _r2_differences(summary)[best], max(row_of(summary, best)["R2"], 0.0)
    simpler = f"The best simpler way, {plain_name(summary, best)}, accounts for {percent(theirs)} of the differences."
    if row["low"] is None:
        text = f"{simpler} There are too few independent blocks to say whether the model is better."
        return Answer(question, "Cannot be said", text)
    ahead = row["difference"] >= 0
    ends = (row["low"], row["high"]) if ahead else (-row["high"], -row["low"])
    points = _points(abs(row["difference"]), *ends)
    if row["verdict"] == "worse":
        return Answer(question, "No, it is worse", f"{simpler} The model is worse by {points}.")
    if row["verdict"] != "better":
        place = "ahead" if ahead else "behind"
        text = f"{simpler} The model is not shown to be better: it is {place} by {points}."
        return Answer(question, "Not shown", text)
    text = f"{simpler} The model is better by {points}."
    others = not_beaten(summary)
    if not others:
        return Answer(question, "Yes", text)
    return Answer(question, "Not than all", f"{text} It is not shown to beat {listed(summary, others)}.")


def _points(difference: float, low: float, high: float) -> str:
    """A difference of shares; a decimal where without it an end of the interval would look like zero."""
    digits = 1 if min(abs(low), abs(high)) < 0.01 else 0
    value, *ends = (number(100 * share, digits) for share in (difference, low, high))
    return f"{value} percentage points (95% interval {ends[0]} to {ends[1]})"


def listed(summary: Summary, names: list[str]) -> str:
    """Baselines in a sentence, those that differ by algorithm alone once."""
    texts = list(dict.fromkeys(plain_name(summary, name) for name in names))
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def _how_sure(summary: Summary) -> Answer:
    coverage = summary["coverage"]
    width, logged = margin(summary), _LOGARITHM.fullmatch(summary["unit"])
    text, ends = f"The margin for one place is {width}", margins(summary)
    if logged:
        width = f"÷ or × {factor(summary['half_width_median'])}"
        text = f"The margin for one place is a factor of {factor(summary['half_width_median'])} in {logged[1]}"
        ends = [factor(end) for end in summary["half_width_range"] or []]
    text += f" (from {' to '.join(ends)} for most)" if ends else ""
    text += f". It is meant to hold for {percent(coverage['nominal'])} of places, and held for "
    text += f"{percent(coverage['measured'])} of those held out{percent_interval(coverage['low'], coverage['high'])}."
    return Answer("How sure is one prediction?", width, text)


def margin(summary: Summary) -> str:
    """Half the width of the prediction interval of a typical place, with its unit."""
    return f"± {quantity(summary['half_width_median'], summary['unit'])}"


def margins(summary: Summary) -> list[str]:
    """Half the widths between which eight places in ten lie, in the digits of :func:`margin`."""
    digits = decimals(summary["half_width_median"], significant=2)
    return [number(end, digits) for end in summary["half_width_range"] or []]


def factor(half_width: float) -> str:
    """Half the width of an interval in logarithms, as what to divide and multiply by."""
    return quantity(float(np.exp(half_width)))


def as_predicted(summary: Summary) -> dict[str, Any]:
    """The scores before any de-shrinking, which the comparisons by other folds do without."""
    return next((row for row in summary["shrinkage"] if row["method"] == "none"), row_of(summary, "model"))


def on_the_map(summary: Summary) -> dict[str, Any]:
    """The row of the shrinkage table for the method that the map uses, or the model's scores without such a table."""
    rows: list[dict[str, Any]] = summary["shrinkage"]
    return next((row for row in rows if row["method"] == summary["deshrink"]), row_of(summary, "model"))


def cautions(summary: Summary) -> list[Caution]:
    """What a reader should know before using the map, the gravest first."""
    return [*_doubts_of_the_test(summary), *_doubts_of_the_model(summary), *_doubts_of_the_data(summary)]


def _doubts_of_the_test(summary: Summary) -> list[Caution]:
    found = []
    leakage, advice, block_km = summary["leakage"], summary["block_advice"], summary["splits"].get("block_km")
    if summary["splits"].get("name") == "RandomFolds" or leakage is None or not leakage["checked"]:
        text = "Test clusters may share images or surroundings with training clusters, so the scores flatter the model."
        found.append(Caution("Leakage allowed", text))
    elif leakage["tile_km"] == 0:
        text = "It is not known how much ground an image covers, so overlaps of test and training went unchecked."
        found.append(Caution("Overlap not checked", text))
    if advice is not None and block_km is not None and _too_small(advice, block_km):
        text = f"Errors resemble each other further than the {block_km:g} km blocks of the test; "
        found.append(Caution("Small blocks", f"{text}blocks of {advice['block_km']:.0f} km are advised."))
    if summary["n"] < FEW_CLUSTERS:
        found.append(Caution("Few clusters", f"Only {summary['n']} clusters: every figure here is rough."))
    if summary["n_blocks"] < FEW_BLOCKS:
        text = f"Only {summary['n_blocks']} independent blocks: the intervals themselves are uncertain."
        found.append(Caution("Few blocks", text))
    return found


def _too_small(advice: dict[str, Any], block_km: float) -> bool:
    nugget_share = advice["nugget_share"]
    matters = nugget_share is None or nugget_share < MAX_NUGGET_SHARE
    return bool(matters and advice["block_km"] > 1.05 * block_km)


def _doubts_of_the_model(summary: Summary) -> list[Caution]:
    found, others = [], not_beaten(summary)
    pooled, coverage, slope = row_of(summary, "model"), summary["coverage"], on_the_map(summary)["slope"]
    if pooled["R2"] <= 0:
        text = "A single average for the whole survey would do as well; the map should not be used."
        found.append(Caution("No predictive value", text))
    worse = [name for name in others if _r2_differences(summary)[name]["verdict"] == "worse"]
    if worse:
        text = f"The model predicts worse than {listed(summary, worse)}."
        found.append(Caution("Worse than something simpler", text))
    elif others and pooled["R2"] > 0:
        text = f"The model is not shown to predict better than {listed(summary, others)}."
        found.append(Caution("Not better than something simpler", text))
    if slope is not None and slope < MIN_SLOPE:
        text = f"A difference of 1 on the ground shows as about {number(slope)} on the map: "
        text += "the lowest places are lower than they look, the highest higher."
        found.append(Caution("Drawn towards the average", text))
    if coverage["low"] is not None and not coverage["low"] <= coverage["nominal"] <= coverage["high"]:
        text = f"They held for {percent(coverage['measured'])} of held-out clusters, not for "
        found.append(Caution("Margins not as promised", f"{text}{percent(coverage['nominal'])}."))
    return found


def _doubts_of_the_data(summary: Summary) -> list[Caution]:
    found, n, n_survey = [], summary["n"], summary["n_survey"]
    gap = (summary["years"] or {}).get("gap")
    if gap is not None and gap > MAX_YEAR_GAP:
        text = f"Survey ({years(summary['years']['survey'])}) and images ({years(summary['years']['imagery'])}) "
        found.append(Caution("Different years", f"{text}lie up to {gap} years apart; places may have changed."))
    narrow = (summary["survey"] or {}).get("window")
    if narrow:
        found.append(Caution("Displaced clusters", narrow))
    if summary["out_of_support"] > 0.05 * n:
        text = f"{summary['out_of_support']} of {n} clusters look unlike those the model learned from; in such places, "
        found.append(Caution("Unfamiliar places", f"{text}which the map marks, margins are not to be relied on."))
    if n_survey - n > 0.05 * n_survey:
        text = f"{n_survey - n} of {n_survey} clusters could not be used; the reasons are below."
        found.append(Caution("Clusters left out", text))
    return found


def years(values: list[int]) -> str:
    """Years as a range."""
    if not values:
        return "not recorded"
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)}–{max(values)}"


def about_folds(summary: Summary) -> str:
    """How the clusters were divided, in words and with every parameter."""
    splits = summary["splits"]
    how = {
        "SpatialBlocks": "The land is cut into squares, which are dealt whole to the folds",
        "LeaveOneCountryOut": "Each country is predicted from the others",
        "LeaveOneSurveyOut": "Each survey is predicted from the others",
        "RandomFolds": "Clusters are dealt to the folds at random, so a cluster's neighbours may be in its training",
    }.get(splits["name"], "The folds were given with the clusters")
    parameters = "".join(f", {key} = {value}" for key, value in splits.items() if key != "name")
    return f"{how} ({splits['name']}{parameters}). There are {summary['n_blocks']} blocks."


def about_repeats(summary: Summary) -> str:
    """How much the score owes to where the lines between the blocks fall; empty without repeats."""
    repeats = summary["repeats"]
    if not repeats:
        return ""
    low, middle, high = np.quantile(repeats["R2"], [0, 0.5, 1])
    return (
        f"The country was divided into folds {repeats['n']} times along other lines: R² was {number(middle)} in the "
        f"middle, and between {number(low)} and {number(high)}. The division of this report gives "
        f"{number(as_predicted(summary)['R2'])}."
    )


def about_permutation(summary: Summary) -> str:
    """What the model finds when images are dealt to the wrong clusters; empty without the test."""
    test = summary["permutation"]
    if not test:
        return ""
    return (
        f"With the images reshuffled among the clusters {test['n']} times, r² was {number(test['null_median'], 3)} in "
        f"the middle and below {number(test['null_95'], 3)} in 95% of the reshuffles; with the images in their "
        f"places it is {number(test['observed_r2'], 3)} (p = {quantity(test['p_value'])})."
    )


def about_blocks(summary: Summary) -> str:
    """How R² divides among the blocks of features; empty without blocks."""
    blocks = summary["blocks"]
    if not blocks:
        return ""
    rows = sorted(blocks["rows"], key=lambda row: -row["share"])
    parts = ", ".join(f"{row['block']} {number(row['share'])}" for row in rows)
    return f"Of an R² of {number(blocks['R2'])}, the blocks of features contribute: {parts}."


def about_banding(summary: Summary) -> str:
    """Whether one penalty a block does better than one for all; empty without blocks."""
    plain = summary["blocks"] and summary["blocks"]["plain"]
    if not plain:
        return ""
    margin = "too few blocks for an interval"
    if plain["low"] is not None:
        margin = f"95% interval {signed(plain['low'])} to {signed(plain['high'])}"
    figures = f"R² {number(summary['blocks']['R2'])} against {number(plain['R2'])}"
    says = {"better": "is better than", "worse": "is worse than"}.get(plain["verdict"], "is not shown to differ from")
    return (
        f"One penalty for each block {says} one penalty for all: {figures} "
        f"(difference {signed(plain['difference'])}, {margin})."
    )


def about_deshrinking(summary: Summary) -> str:
    """Which correction the map uses and what it costs."""
    rows = {row["method"]: row for row in summary["shrinkage"]}
    method = summary["deshrink"]
    if method == "none" or method not in rows:
        return "The map shows the predictions as they are, without de-shrinking."
    cost = quantity(rows[method]["rmse_cost"], summary["unit"])
    return f"The map shows predictions de-shrunk by the {method} method, which adds {cost} to the RMSE."
