"""r² among the poorest, by hand, and its bootstrap against repeating rows."""

from __future__ import annotations

import numpy as np
import pytest

from geopov.errors import RegressionError
from geopov.regression.bootstrap import Bootstrap, interval
from geopov.regression.curves import poorest_curve


def test_by_hand() -> None:
    rng = np.random.default_rng(0)
    observed = rng.normal(size=50)
    predictors = {"one": observed + rng.normal(size=50), "two": -observed, "training_mean": np.zeros(50)}
    curve = poorest_curve(observed, predictors, np.arange(50), shares=(0.1, 0.4, 1.0), n_draws=50)
    assert list(curve) == ["predictor", "share", "n", "r2_pearson", "r2_pearson_low", "r2_pearson_high"]
    assert curve["predictor"].tolist() == ["one"] * 3 + ["two"] * 3
    assert curve["n"].tolist() == [5, 20, 50] * 2
    poorest = np.argsort(observed)[:20]
    by_hand = np.corrcoef(observed[poorest], predictors["one"][poorest])[0, 1] ** 2
    assert curve.loc[1, "r2_pearson"] == pytest.approx(by_hand)
    assert curve.loc[2, "r2_pearson"] == pytest.approx(np.corrcoef(observed, predictors["one"])[0, 1] ** 2)
    assert curve.loc[[4, 5], "r2_pearson"].tolist() == pytest.approx([1, 1])
    assert curve.loc[[0, 3], ["r2_pearson", "r2_pearson_low"]].isna().all(axis=None)  # five clusters say nothing


def test_intervals_are_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    observed, blocks = rng.normal(size=80) + 50, np.arange(80) // 8
    predicted = observed + rng.normal(size=80)
    curve = poorest_curve(observed, {"model": predicted}, blocks, shares=(0.5,), n_draws=60, seed=4)
    draws = []
    for counts in Bootstrap.draw(10, n_draws=60, seed=4).counts:
        rows = np.repeat(np.arange(80), counts[blocks].astype(int))
        poorest = rows[np.argsort(observed[rows], kind="stable")]
        cut = observed[poorest[39]]
        inside = poorest[observed[poorest] < cut]
        # Copies of the cluster at the edge count in part, as many as there is room for.
        weights = np.append(np.ones(len(inside)), 40 - len(inside))
        points = np.append(inside, poorest[39])
        o, p = observed[points], predicted[points]
        o, p = o - np.average(o, weights=weights), p - np.average(p, weights=weights)
        draws.append((weights @ (o * p)) ** 2 / ((weights @ o**2) * (weights @ p**2)))
    found = curve.iloc[0]
    assert (found["r2_pearson_low"], found["r2_pearson_high"]) == pytest.approx(interval(np.array(draws)))


def test_lights_go_out_among_the_poor() -> None:
    """Nightlights that start at the median see nothing below it."""
    rng = np.random.default_rng(0)
    observed = rng.normal(size=600)
    noise = 0.3 * rng.normal(size=(2, 600))
    predictors = {"images": observed + noise[0], "lights": np.maximum(observed, 0) + noise[1]}
    curve = poorest_curve(observed, predictors, np.arange(600) // 5).set_index(["predictor", "share"])
    assert curve.loc[("lights", 0.4), "r2_pearson_high"] < 0.1 < 0.5 < curve.loc[("images", 0.4), "r2_pearson_low"]
    assert curve.loc[("lights", 1.0), "r2_pearson"] > 0.5


def test_few_blocks_have_no_interval_and_nothing_no_rows() -> None:
    values = np.arange(40.0)
    curve = poorest_curve(values, {"model": values}, np.arange(40) // 10)
    assert curve["r2_pearson_low"].isna().all()
    assert curve.loc[curve["share"] > 0.2, "r2_pearson"].tolist() == pytest.approx([1] * 8)
    empty = poorest_curve(values, {"training_mean": values}, np.arange(40))
    assert list(empty) == list(curve)
    assert empty.empty


def test_bad_input() -> None:
    values = np.arange(10.0)
    for shares in ((), (0.0, 1.0), (1.2,)):
        with pytest.raises(RegressionError, match=r"shares are \[.*\]; expected numbers above 0"):
            poorest_curve(values, {"model": values}, values, shares=shares)
    with pytest.raises(RegressionError, match="observed has shape"):
        poorest_curve(values, {"model": values[:5]}, values)
