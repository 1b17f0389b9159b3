from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

from geopov.errors import SurveyError
from geopov.survey.assets.asset_index import INDICATORS, AssetIndex, compare

DATA = Path(os.environ.get("GEOPOV_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
BINARY = ("electricity", "radio", "television", "refrigerator", "phone", "bicycle", "motorcycle", "car")


def simulate(seed: int, *, n: int = 300, survey: str = "RW2014", shift: float = 0.0) -> pd.DataFrame:
    """Households whose goods follow one latent wealth, which comes along as ``wealth``."""
    rng = np.random.default_rng(seed)
    wealth = rng.normal(shift, 1, n)
    table = pd.DataFrame({name: (wealth + rng.normal(0, 1, n) > 0.3 * i - 1) * 1.0 for i, name in enumerate(BINARY)})
    table["rooms_per_person"] = np.exp(0.3 * wealth + rng.normal(0, 0.3, n))
    for name in ("floor", "water", "toilet"):
        table[name] = np.clip(np.round(3 + wealth + rng.normal(0, 1, n)), 1, 5)
    table["wealth"] = wealth
    table["weight"] = rng.uniform(0.2, 3, n)
    table["survey"], table["country"] = survey, survey[:2]
    table["cluster_id"] = [f"{survey}-{i // 15}" for i in range(n)]
    table.index = pd.Index([f"{survey}-{i}" for i in range(n)])
    return table


def test_three_indicators_by_hand():
    # Correlations of 1 between a and b and 0 with c: the first component is (1, 1, 0) / sqrt 2, of variance 2 of 3.
    table = pd.DataFrame(
        {"a": [0, 0, 1, 1], "b": [0, 0, 4, 4], "c": [7, 9, 7, 9], "weight": 2.0, "survey": "S"}, dtype=object
    )
    index = AssetIndex.fit(table, indicators=["a", "b", "c"])
    loadings = index.loadings.set_index("indicator")
    np.testing.assert_allclose(loadings["loading"], [0.5**0.5, 0.5**0.5, 0], atol=1e-12)
    np.testing.assert_allclose(loadings["mean"], [0.5, 2, 8])
    np.testing.assert_allclose(loadings["sd"], [0.5, 2, 1])
    # sqrt(1/2) of 2 SD, over the standard deviation sqrt 2 of the component
    np.testing.assert_allclose(loadings["effect"], [1, 0.25, 0], atol=1e-12)
    assert index.components["pooled"].explained == pytest.approx(2 / 3)
    np.testing.assert_allclose(index.score(table), [-1, -1, 1, 1])


def test_equal_weights_are_the_textbook_components():
    table = simulate(0).assign(weight=1.0)
    values = table[list(INDICATORS)]
    pca = PCA(n_components=1).fit((values - values.mean()) / values.std(ddof=0))
    index = AssetIndex.fit(table)
    loading = index.loadings.set_index("indicator")["loading"]
    np.testing.assert_allclose(loading.abs(), np.abs(pca.components_[0]), rtol=1e-8)
    assert index.components["pooled"].explained == pytest.approx(pca.explained_variance_ratio_[0])
    theirs = pca.transform((values - values.mean()) / values.std(ddof=0))[:, 0]
    assert abs(np.corrcoef(index.score(table), theirs)[0, 1]) == pytest.approx(1)


def test_scores_are_standardised_and_find_the_latent_wealth():
    table = pd.concat([simulate(1), simulate(2, survey="MW2015", shift=-1)])
    index = AssetIndex.fit(table)
    score = index.score(table)
    # Both surveys have as many households, so rescaling weights within each is all that their pooling does.
    weight = table["weight"] / table.groupby("survey")["weight"].transform("mean")
    assert np.average(score, weights=weight) == pytest.approx(0, abs=1e-10)
    assert np.average(score**2, weights=weight) == pytest.approx(1)
    assert spearmanr(score, table["wealth"])[0] > 0.85
    assert score.name == "asset_wealth"
    within = AssetIndex.fit(table, by="country").score(table)
    assert within.name == "asset_wealth_country"
    for country, part in within.groupby(table["country"]):
        assert np.average(part, weights=weight[part.index]) == pytest.approx(0, abs=1e-10)
        alone = table[table["country"] == country]
        pd.testing.assert_series_equal(part, AssetIndex.fit(alone).score(alone), check_names=False)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_weight_of_k_is_k_households(seed):
    table = simulate(seed, n=40)
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, 40).astype(float)
    holes = rng.random((40, len(INDICATORS))) < 0.1
    table[list(INDICATORS)] = table[list(INDICATORS)].mask(holes)
    weighted = AssetIndex.fit(table.assign(weight=counts))
    repeated = AssetIndex.fit(table.loc[table.index.repeat(counts.astype(int))].assign(weight=1.0))
    pd.testing.assert_series_equal(weighted.score(table), repeated.score(table), rtol=1e-6, atol=1e-8)
    share = rng.uniform(0.1, 0.9, 40)
    split = AssetIndex.fit(pd.concat([table.assign(weight=counts * share), table.assign(weight=counts * (1 - share))]))
    pd.testing.assert_series_equal(weighted.score(table), split.score(table), rtol=1e-6, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_neither_order_nor_scale_of_weights_matters(seed, rwanda, malawi):
    table = pd.concat([simulate(seed, n=60), simulate(seed + 1, n=50, survey="MW2015")])
    score = AssetIndex.fit(table).score(table)
    scale = table["survey"].map({"RW2014": rwanda, "MW2015": malawi})
    changed = table.assign(weight=table["weight"] * scale).sample(frac=1, random_state=seed)
    pd.testing.assert_series_equal(AssetIndex.fit(changed).score(changed)[table.index], score, rtol=1e-6, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_units_of_an_indicator_do_not_matter_but_its_direction_does(seed):
    table = simulate(seed, n=80)
    score = AssetIndex.fit(table).score(table)
    metres = table.assign(rooms_per_person=table["rooms_per_person"] * 12 + 5)
    pd.testing.assert_series_equal(AssetIndex.fit(metres).score(metres), score, rtol=1e-6, atol=1e-8)
    crowding = table.assign(rooms_per_person=-table["rooms_per_person"])
    flipped = AssetIndex.fit(crowding)
    pd.testing.assert_series_equal(flipped.score(crowding), score, rtol=1e-6, atol=1e-8)
    loading = flipped.loadings.set_index("indicator")["loading"]
    assert loading["rooms_per_person"] < 0 < loading["television"]


def test_richer_is_higher_even_where_most_indicators_are_of_the_poor():
    rng = np.random.default_rng(0)
    rich = rng.normal(size=200)
    table = pd.DataFrame({f"poor_{i}": -rich + rng.normal(size=200) for i in range(5)})
    table["car"] = (rich > 0.5) * 1.0
    index = AssetIndex.fit(table.assign(weight=1.0, survey="S"), indicators=[*(f"poor_{i}" for i in range(5)), "car"])
    assert np.corrcoef(index.score(table), rich)[0, 1] > 0.8


def test_an_indicator_that_a_survey_lacks_is_left_out_of_the_pool_only():
    table = pd.concat([simulate(1), simulate(2, survey="MW2015")])
    table.loc[table["survey"] == "MW2015", "motorcycle"] = np.nan
    pooled = AssetIndex.fit(table).components["pooled"]
    assert pooled.left_out == (("motorcycle", "not known in MW2015"),)
    assert "motorcycle" not in pooled.loadings.index
    assert pooled.imputed == 0
    within = AssetIndex.fit(table, by="survey").components
    assert within["RW2014"].left_out == ()
    assert within["MW2015"].left_out == (("motorcycle", "no household knows it"),)


def test_constant_and_absent_indicators_are_left_out_and_listed():
    table = simulate(1).assign(car=0.0).drop(columns="radio")
    assert AssetIndex.fit(table).components["pooled"].left_out == (
        ("radio", "no household knows it"),
        ("car", "the same for all households"),
    )


def test_unknown_values_are_put_at_the_mean_and_counted():
    table = simulate(3)
    table.iloc[0, table.columns.get_loc("floor")] = np.nan
    table.iloc[1, [table.columns.get_loc(name) for name in BINARY]] = np.nan
    table.iloc[2, table.columns.get_loc("weight")] = np.nan
    index = AssetIndex.fit(table)
    component = index.components["pooled"]
    assert (component.households, component.imputed, component.unused) == (298, 1, 2)
    assert component.loadings.loc["floor", "n"] == 297
    assert component.loadings.loc["floor", "missing"] == pytest.approx(1 / 298)
    score = index.score(table)
    # 8 of 12 unknown is too much; a household without a weight still has goods.
    assert score.isna().tolist() == [False, True, *[False] * 298]
    at_mean = table.iloc[[0]].assign(floor=component.loadings.loc["floor", "mean"])
    assert index.score(at_mean).iloc[0] == pytest.approx(score.iloc[0])
    others = table.drop(index=table.index[[1, 2]])
    pd.testing.assert_series_equal(AssetIndex.fit(others).score(others), score[others.index])


def test_the_index_goes_into_json():
    table = pd.concat([simulate(1), simulate(2, survey="MW2015")])
    index = AssetIndex.fit(table, by="country")
    there = json.loads(json.dumps(index.to_dict()))
    assert there["by"] == "country"
    assert there["groups"]["MW"]["households"] == 300
    row = index.loadings.set_index(["group", "indicator"]).loc[("MW", "car")]
    assert there["groups"]["MW"]["loadings"]["car"]["effect"] == row["effect"]
    owner, other = (index.score(table.iloc[[-1]].assign(car=value)).iloc[0] for value in (1.0, 0.0))
    assert owner - other == pytest.approx(row["effect"])


def test_comparison_with_the_wealth_score_of_the_survey():
    table = pd.concat([simulate(1), simulate(2, survey="MW2015")])
    score = AssetIndex.fit(table).score(table)
    theirs = (table["wealth"] * 3).mask(np.arange(600) % 50 == 0)
    result = compare(score, theirs, table).set_index("survey")
    known = theirs.notna() & (table["survey"] == "RW2014")
    assert result.loc["RW2014", "households"] == 294
    assert result.loc["RW2014", "spearman_households"] == pytest.approx(spearmanr(score[known], theirs[known])[0])
    means = pd.DataFrame(
        {
            cluster: [np.average(values[part.index], weights=part["weight"]) for values in (score, theirs)]
            for cluster, part in table[known].groupby("cluster_id")
        }
    )
    assert result.loc["RW2014", "clusters"] == 20
    assert result.loc["RW2014", "spearman_clusters"] == pytest.approx(spearmanr(means.loc[0], means.loc[1])[0])


def test_a_score_that_never_varies_has_no_correlation():
    table = simulate(1, n=30)
    result = compare(table["wealth"], table["wealth"] * 0, table)
    assert result[["spearman_households", "spearman_clusters"]].isna().all(axis=None)
    assert compare(table["wealth"], table["wealth"] * np.nan, table).empty


def test_wrong_input_is_named():
    table = simulate(1, n=30)
    with pytest.raises(SurveyError, match="no column 'boat'"):
        AssetIndex.fit(table, indicators=["boat", "car", "radio"])
    with pytest.raises(SurveyError, match="negative weight"):
        AssetIndex.fit(table.assign(weight=-1.0))
    with pytest.raises(SurveyError, match=r"2 indicators are left.*car: the same"):
        AssetIndex.fit(table.assign(car=0.0), indicators=["car", "radio", "floor"])
    with pytest.raises(SurveyError, match=r"no household is left.*all 30"):
        AssetIndex.fit(table.assign(weight=0.0))
    with pytest.raises(SurveyError, match="max_missing"):
        AssetIndex.fit(table, max_missing=1.0)
    with pytest.raises(SurveyError, match="no country"):
        AssetIndex.fit(table.assign(country=None), by="country")
    with pytest.raises(SurveyError, match="not fitted on country 'UG'"):
        AssetIndex.fit(table, by="country").score(table.assign(country="UG"))
    with pytest.raises(SurveyError, match="same index"):
        compare(table["wealth"], table["wealth"].iloc[1:], table)
    # The two that vary together pull opposite ways, and the third is unrelated to both.
    tied = pd.DataFrame({"a": [0, 0, 1, 1], "b": [1, 1, 0, 0], "c": [0, 1, 0, 1], "weight": 1.0, "survey": "S"})
    with pytest.raises(SurveyError, match="sign cannot be told"):
        AssetIndex.fit(tied, indicators=["a", "b", "c"])


def test_rows_named_twice_are_still_two_households():
    table = pd.concat([simulate(1, n=50), simulate(2, n=50, survey="MW2015")])
    twice = table.set_axis([*range(50), *range(50)], axis=0)
    np.testing.assert_allclose(
        AssetIndex.fit(twice, by="survey").score(twice), AssetIndex.fit(table, by="survey").score(table)
    )


@pytest.mark.real
def test_the_index_that_yeh_et_al_published_comes_back_from_their_assets():
    path = DATA / "surveys" / "lsms_assets_and_consumption.parquet"
    if not path.is_file():
        pytest.skip(f"there is no {path}; set GEOPOV_REAL_DATA to the real inputs")
    names = {"electric": "electricity", "tv": "television", "auto": "car"}
    names |= {"floor_qual": "floor", "toilet_qual": "toilet", "watsup_qual": "water"}
    clusters = pd.read_parquet(path).rename(columns=names).reset_index(drop=True)
    clusters["survey"] = clusters["country"] + clusters["year"].astype(str)
    indicators = ["rooms", "electricity", "phone", "radio", "television", "car", "floor", "toilet", "water"]
    score = AssetIndex.fit(clusters, indicators=indicators, weight="n").score(clusters)
    # Their component is of households and ours of the means of clusters, so that the loadings differ a little.
    assert len(clusters) == 2973
    assert np.corrcoef(score, clusters["index"])[0, 1] > 0.996
    for survey, part in score.groupby(clusters["survey"]):
        assert spearmanr(part, clusters.loc[part.index, "index"])[0] > 0.97, survey
