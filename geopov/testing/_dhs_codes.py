"""Names, labels and codes of the DHS household recode, by phase, as far as the sample files use them.

From the DHS recode manuals (phases III to VII) and the GPS data format of the DHS Program. Codes of a question stand
from the worst answer to the best, so that a household's wealth can choose one.
"""

from __future__ import annotations

from collections.abc import Mapping

# The questions with several answers: phase to (code, label), worst first.
_FLOOR = (
    (12, "dung"),
    (11, "earth/sand"),
    (21, "wood planks"),
    (34, "cement"),
    (33, "ceramic tiles"),
    (31, "parquet or polished wood"),
)
_FUEL = (
    (11, "animal dung"),
    (9, "straw/shrubs/grass"),
    (8, "wood"),
    (7, "charcoal"),
    (5, "kerosene"),
    (2, "lpg"),
    (1, "electricity"),
)
_WATER_NOW = (
    (43, "river/dam/lake/ponds/stream/canal/irrigation channel"),
    (42, "unprotected spring"),
    (32, "unprotected well"),
    (41, "protected spring"),
    (31, "protected well"),
    (21, "tube well or borehole"),
    (13, "public tap/standpipe"),
    (12, "piped to yard/plot"),
    (11, "piped into dwelling"),
)
_WATER_4 = (
    (42, "river, stream"),
    (43, "pond, lake"),
    (41, "spring"),
    (23, "open public well"),
    (22, "open well in yard/plot"),
    (33, "protected public well"),
    (13, "public tap"),
    (12, "piped into yard/plot"),
    (11, "piped into dwelling"),
)
_WATER_3 = (
    (32, "river, stream"),
    (33, "pond, lake"),
    (31, "spring"),
    (22, "public well"),
    (21, "well in residence/yard/plot"),
    (13, "public tap"),
    (12, "piped into yard/plot"),
    (11, "piped into residence"),
)
_TOILET_NOW = (
    (31, "no facility/bush/field"),
    (42, "bucket toilet"),
    (23, "pit latrine without slab/open pit"),
    (22, "pit latrine with slab"),
    (21, "ventilated improved pit latrine (vip)"),
    (13, "flush to pit latrine"),
    (12, "flush to septic tank"),
    (11, "flush to piped sewer system"),
)
_TOILET_OLD = (
    (31, "no facility, bush, field"),
    (21, "traditional pit toilet"),
    (22, "ventilated improved pit latrine"),
    (12, "shared flush toilet"),
    (11, "own flush toilet"),
)
#: Codes in the label sets that the sample draws rarely: not of a household's wealth.
_MORE: Mapping[str, tuple[tuple[int, str], ...]] = {
    "hv201": ((51, "rainwater"), (61, "tanker truck"), (71, "bottled water"), (96, "other")),
    "hv205": ((96, "other"),),
    "hv213": ((35, "carpet"), (96, "other")),
    "hv226": ((95, "no food cooked in household"), (96, "other")),
}
_RESIDENT = {"hv201": 97, "hv205": 97, "hv213": 97, "hv226": 97}

ASSETS: Mapping[str, tuple[str, float]] = {
    # Label, and the wealth at which half the households have it (standard deviations of the sample).
    "hv206": ("has electricity", 0.6),
    "hv207": ("has radio", -0.6),
    "hv208": ("has television", 0.9),
    "hv209": ("has refrigerator", 1.4),
    "hv210": ("has bicycle", 0.2),
    "hv211": ("has motorcycle/scooter", 1.2),
    "hv212": ("has car/truck", 1.9),
    "hv221": ("has telephone (land-line)", 1.6),
    "hv243a": ("has mobile telephone", -0.3),
    "hv243c": ("has animal-drawn cart", 1.5),
    "hv243e": ("has a computer", 1.8),
}
#: First phase whose household recode has the variable; the others have it throughout.
SINCE: Mapping[str, int] = {
    "hv221": 4,
    "hv225": 4,
    "hv226": 4,
    "hv243a": 5,
    "hv243c": 5,
    "hv243e": 6,
    "hv270": 5,
    "hv271": 5,
}


def answers(phase: int) -> dict[str, tuple[tuple[int, str], ...]]:
    """Answers to each question of that phase, worst first."""
    return {
        "hv201": {3: _WATER_3, 4: _WATER_4}.get(phase, _WATER_NOW),
        "hv205": _TOILET_NOW if phase >= 5 else _TOILET_OLD,
        "hv213": _FLOOR,
        "hv226": _FUEL,
    }


def variable_labels(phase: int) -> dict[str, str]:
    """What each variable is, in the recode manual's words."""
    labels = {
        "hhid": "case identification",
        "whhid": "case identification",
        "wlthindf": "wealth index factor score",
        "wlthind5": "wealth index quintile",
        "hv000": "country code and phase",
        "hv001": "cluster number",
        "hv002": "household number",
        "hv005": "household sample weight (6 decimals)",
        "hv006": "month of interview",
        "hv007": "year of interview",
        "hv008": "date of interview (cmc)",
        "hv009": "number of household members",
        "hv012": "number of de jure members",
        "hv013": "number of de facto members",
        "hv015": "result of household interview",
        "hv021": "primary sampling unit",
        "hv022": "sample strata for sampling errors" if phase >= 6 else "sample stratum number",
        "hv023": "stratification used in sample design" if phase >= 6 else "sample domain",
        "hv024": "region",
        "hv025": "type of place of residence",
        "hv201": "source of drinking water",
        "hv204": "time to get to water source (minutes)",
        "hv205": "type of toilet facility",
        "hv213": "main floor material",
        "hv216": "number of rooms used for sleeping",
        "hv225": "share toilet with other households",
        "hv226": "type of cooking fuel",
        "hv270": "wealth index combined" if phase >= 7 else "wealth index",
        "hv271": "wealth index factor score combined (5 decimals)"
        if phase >= 7
        else "wealth index factor score (5 decimals)",
        **{name: label for name, (label, _) in ASSETS.items()},
    }
    members = {
        "hvidx": "line number",
        "hv104": "sex of household member",
        "hv105": "age of household members",
        "hv108": "education completed in single years",
        "hv110": "member still in school",
        "hv121": "member attended school during current school year",
    }
    labels |= {f"{name}_{line:02d}": label for name, label in members.items() for line in range(1, 21)}
    return {name: _cased(label, phase) for name, label in labels.items()}


def value_labels(phase: int, *, regions: tuple[str, ...], name_missing: bool) -> dict[str, dict[int, str]]:
    """Label sets of the variables; with those of the missing codes if ``name_missing``."""
    yes_no = {0: "no", 1: "yes"} | ({7: "not a dejure resident"} if phase <= 6 else {})
    strata = [f"{region} - {place}" for region in regions for place in ("urban", "rural")]
    sets: dict[str, dict[int, str]] = {name: dict(yes_no) for name in (*ASSETS, "hv225")}
    sets |= {
        name: dict(sorted((*codes, *_MORE[name], (_RESIDENT[name], "not a dejure resident"))))
        for name, codes in answers(phase).items()
    }
    if name_missing:
        sets = {name: codes | {9 if max(codes) < 9 else 99: "missing"} for name, codes in sets.items()}
    sets |= {
        "hv015": {1: "completed"},
        "hv024": dict(enumerate(regions, 1)),
        "hv025": {1: "urban", 2: "rural"},
        "hv204": {996: "on premises", 998: "don't know"} | ({999: "missing"} if name_missing else {}),
        "hv270": {1: "poorest", 2: "poorer", 3: "middle", 4: "richer", 5: "richest"},
        "hv023": dict(enumerate(strata, 1)),
    }
    members = {
        "hv104": {1: "male", 2: "female"},
        "hv105": {95: "95+", 98: "don't know"},
        "hv108": {97: "inconsistent", 98: "don't know"},
        "hv110": {0: "no", 1: "yes"},
        "hv121": {0: "no", 1: "currently attending", 2: "attended at some time"},
    }
    sets |= {f"{name}_{line:02d}": codes for name, codes in members.items() for line in range(1, 21)}
    return {name: {code: _cased(label, phase) for code, label in codes.items()} for name, codes in sets.items()}


def _cased(label: str, phase: int) -> str:
    # Labels of older files begin with a capital.
    return label[:1].upper() + label[1:] if phase <= 4 else label
