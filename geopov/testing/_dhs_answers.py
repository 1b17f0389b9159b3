"""What the made-up households answer, coded as the household recode of the phase codes it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geopov.testing import _dhs_codes as codes

MEMBERS = 12
_SLOPE = 2.5
Column = NDArray[np.float64]


def draw_households(rng: np.random.Generator, clusters: pd.DataFrame, n_each: int) -> pd.DataFrame:
    """``n_each`` households in each cluster: latent wealth, size, visitors and weight.

    Towns were sampled twice as densely as the country, which the weights, with mean 1, undo.
    """
    each = clusters.loc[clusters.index.repeat(n_each)].reset_index(drop=True)
    n = len(each)
    number = np.tile(np.arange(1, n_each + 1), len(clusters))
    size = np.minimum(1 + rng.poisson(3.4, n), MEMBERS)
    weight = np.where(each["urban"], 0.5, 1.0) * rng.uniform(0.7, 1.3, len(clusters)).repeat(n_each)
    return pd.DataFrame(
        {
            "hhid": [f"{cluster:>8}{household:>4}" for cluster, household in zip(each["cluster"], number, strict=True)],
            "cluster": each["cluster"],
            "household": number,
            "urban": each["urban"],
            "region": each["region"],
            "weight": weight / weight.mean(),
            "size": size,
            "visitors_only": rng.random(n) < 0.01,
            "wealth": each["wealth"] + rng.normal(0, 0.65, n),
        }
    )


def recode(
    rng: np.random.Generator, people: pd.DataFrame, *, country: str, phase: int, year: int, missing_share: float
) -> pd.DataFrame:
    """The household variables, hv000 to hv226, as nullable integers (hhid and hv000 text)."""
    n = len(people)
    wealth = people["wealth"].to_numpy()
    month = 9 + people["cluster"].to_numpy() % 4
    stratum = 2 * (people["region"].to_numpy() - 1) + np.where(people["urban"], 1, 2)
    columns: dict[str, object] = {
        "hv001": people["cluster"],
        "hv002": people["household"],
        "hv005": np.round(people["weight"] * 1e6),
        "hv006": month,
        "hv007": np.full(n, year % 100 if phase <= 3 else year),
        "hv008": (year - 1900) * 12 + month,
        "hv009": people["size"],
        "hv012": np.where(people["visitors_only"], 0, people["size"]),
        "hv013": people["size"],
        "hv015": np.ones(n),
        "hv021": people["cluster"],
        "hv022": stratum,
        "hv023": stratum,
        "hv024": people["region"],
        "hv025": np.where(people["urban"], 1, 2),
    }
    answers = _answers(rng, wealth, phase)
    foreign = people["visitors_only"].to_numpy()
    for name, values in answers.items():
        if phase >= codes.SINCE.get(name, phase):
            columns[name] = _unanswered(rng, values, name, foreign & (phase <= 6), missing_share)
    table = pd.DataFrame(columns, index=people.index).astype("Int32")
    table.insert(0, "hhid", people["hhid"])
    table.insert(1, "hv000", f"{country}{phase}")
    return table


def _answers(rng: np.random.Generator, wealth: Column, phase: int) -> dict[str, Column]:
    n = len(wealth)
    answers: dict[str, Column] = {name: _choose(rng, wealth, options) for name, options in codes.answers(phase).items()}
    piped = np.isin(answers["hv201"], (11, 12))
    minutes = np.clip(np.round(rng.gamma(2, 12 * np.exp(-0.3 * wealth))), 1, 300)
    answers["hv204"] = np.where(piped, 996.0, minutes).astype(float)
    for name, (_, threshold) in codes.ASSETS.items():
        # A cart is a thing of the country: the less likely the richer.
        slope = -1.0 if name == "hv243c" else _SLOPE
        chance = 1 / (1 + np.exp(-slope * (wealth - np.sign(slope) * threshold)))
        answers[name] = (rng.random(n) < chance).astype(float)
    answers["hv216"] = np.clip(np.round(2 + 0.7 * wealth + rng.normal(0, 0.7, n)), 1, 8)
    shared = (rng.random(n) < 0.25).astype(float)
    answers["hv225"] = np.where(answers["hv205"] == 31, np.nan, shared)
    return {name: answers[name] for name in sorted(answers)}


def _choose(rng: np.random.Generator, wealth: Column, options: tuple[tuple[int, str], ...]) -> Column:
    # The answer's rank follows wealth with noise; the cuts are evenly spaced over most households' wealth.
    cuts = np.linspace(-1.3, 2.2, len(options) - 1)
    rank = np.searchsorted(cuts, wealth + rng.normal(0, 0.45, len(wealth)))
    return np.array([code for code, _ in options], dtype=float)[rank]


def _unanswered(
    rng: np.random.Generator, values: Column, name: str, foreign: NDArray[np.bool_], share: float
) -> Column:
    """Some answers missing: by the code of the variable's width (9, 99, 999), not known (998), blank, or foreign."""
    width = {"hv204": 3, "hv216": 2, "hv201": 2, "hv205": 2, "hv213": 2, "hv226": 2}.get(name, 1)
    missing, unknown = 10.0**width - 1, 10.0**width - 2
    out = values.copy()
    if width == 3:
        out[rng.random(len(out)) < share / 2] = unknown
    elif name != "hv216":
        out[foreign] = 7 if width == 1 else 97
    lot = rng.random(len(out))
    out[lot < share / 2] = missing
    out[(lot >= share / 2) & (lot < share)] = np.nan
    return out


def members(rng: np.random.Generator, people: pd.DataFrame, phase: int, missing_share: float) -> pd.DataFrame:
    """Members' sex, age, years of education and attendance, a column a line of the roster; blank past the last."""
    n, size = len(people), people["size"].to_numpy()
    attends = "hv121" if phase >= 4 else "hv110"
    columns: dict[str, Column] = {}
    for line in range(1, MEMBERS + 1):
        # The first line is the head's, and the second mostly an adult's.
        age = np.round(np.clip(rng.normal(42, 13, n), 18, 95) if line <= 2 else rng.uniform(0, 30, n))
        reached = np.clip(np.round(7 + 3 * people["wealth"] + rng.normal(0, 2, n)), 0, 17)
        years = np.minimum(reached, np.maximum(age - 6, 0))
        school = (age >= 6) & (age <= 18) & (rng.random(n) < 1 / (1 + np.exp(-2 - 1.5 * people["wealth"])))
        person = {
            "hvidx": np.full(n, float(line)),
            "hv104": rng.integers(1, 3, n).astype(float),
            "hv105": np.where(rng.random(n) < missing_share / 2, 98, age),
            "hv108": np.where(rng.random(n) < missing_share, rng.choice([97, 98, 99], n), years),
            attends: np.where(rng.random(n) < missing_share / 2, 9, school),
        }
        columns |= {f"{name}_{line:02d}": np.where(size >= line, values, np.nan) for name, values in person.items()}
    ordered = sorted(columns, key=lambda name: (name.partition("_")[0] != "hvidx", name))
    return pd.DataFrame({name: columns[name] for name in ordered}, index=people.index).astype("Int32")


def wealth_index(table: pd.DataFrame, people: pd.DataFrame) -> tuple[Column, NDArray[np.int_]]:
    """Factor score and quintile (1 poorest to 5): the first principal component of the answers, and fifths of people.

    Assets count as owned or not; answers to a question with several count one indicator each; missing ones as not
    owned. (Rutstein & Johnson 2004, DHS Comparative Reports 6.)
    """
    indicators = [(table[name] == 1).fillna(False) for name in codes.ASSETS if name in table]
    for name in ("hv201", "hv205", "hv213", "hv226"):
        if name in table:
            indicators += [(table[name] == code).fillna(False) for code in sorted(table[name].dropna().unique())]
    matrix = np.column_stack([column.to_numpy(dtype=float) for column in indicators])
    spread = matrix.std(axis=0)
    matrix = (matrix[:, spread > 0] - matrix[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    # Households that all answer the same have no component, and one score.
    score = np.linalg.svd(matrix, full_matrices=False)[0][:, 0] if spread.any() else np.zeros(len(table))
    wealth = people["wealth"].to_numpy()
    score = score * (-1.0 if score @ (wealth - wealth.mean()) < 0 else 1.0) / (score.std() or 1.0)
    order = np.argsort(score, kind="stable")
    share = np.empty(len(score))
    share[order] = np.cumsum((people["weight"] * people["size"]).to_numpy()[order])
    quintile = np.minimum((share / share.max() * 5).astype(int), 4) + 1
    return score, quintile
