"""The area-level model against its formulas, an independent REML, and worlds whose truth is known."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from geopov.errors import MapError
from geopov.maps.admin.publication import benchmark, publication_table
from geopov.maps.admin.small_area import _from_arcsine, _to_arcsine, fay_herriot, smooth_variances


def world(seed, *, areas=40, sigma=0.05, unsampled=0):
    """A country of shares: truth, a covariate that tells half of it, and a survey of varying precision."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=areas)
    truth = 0.4 + 0.08 * x + sigma * rng.normal(size=areas)
    variance = 0.004 * rng.uniform(0.2, 3, size=areas)
    table = pd.DataFrame(
        {
            "area": [f"a{i:03}" for i in range(areas)],
            "estimate": truth + np.sqrt(variance) * rng.normal(size=areas),
            "variance": variance,
            "n": np.round(1 / variance).astype(int),
            "psus": 4,
            "wealth": x,
            "people": rng.uniform(1e4, 1e6, size=areas).round(),
        }
    )
    table.loc[areas - unsampled :, ["estimate", "variance"]] = np.nan
    return table, truth


def reml(y, x, psi):
    """The root of the restricted score with full matrices (Rao & Molina, 2015, 6.1), and the errors of its terms."""

    def projection(s):
        inverse = np.diag(1 / (s + psi))
        covariance = np.linalg.inv(x.T @ inverse @ x)
        return inverse - inverse @ x @ covariance @ x.T @ inverse, covariance, covariance @ x.T @ inverse @ y

    def score(s):
        p, _, _ = projection(s)
        return y @ p @ p @ y - np.trace(p)

    sigma2 = brentq(score, 0.0, 10.0, xtol=1e-14) if score(0.0) > 0 else 0.0
    _, covariance, beta = projection(sigma2)
    gamma = sigma2 / (sigma2 + psi)
    spread = np.diag(x @ covariance @ x.T)
    g3 = psi**2 / (sigma2 + psi) ** 3 * 2 / (1 / (sigma2 + psi) ** 2).sum()
    mse = gamma * psi + (1 - gamma) ** 2 * spread + 2 * g3
    return sigma2, beta, covariance, gamma * y + (1 - gamma) * (x @ beta), mse


@pytest.mark.parametrize("seed", range(12))
def test_estimates_and_errors_are_those_of_an_independent_reml(seed):
    table, _ = world(seed, areas=10 + 5 * (seed % 3), sigma=[0.01, 0.05, 0.1][seed % 3])
    x = np.column_stack([np.ones(len(table)), table["wealth"]])
    sigma2, beta, covariance, eblup, mse = reml(table["estimate"].to_numpy(), x, table["variance"].to_numpy())
    fit = fay_herriot(table, covariates=["wealth"])
    assert fit.area_variance == pytest.approx(sigma2, rel=1e-5, abs=1e-9)
    np.testing.assert_allclose(fit.coefficients["estimate"], beta, rtol=1e-6)
    np.testing.assert_allclose(fit.coefficients["se"], np.sqrt(np.diag(covariance)), rtol=1e-5)
    np.testing.assert_allclose(fit.table["eblup"], eblup, rtol=1e-5)
    np.testing.assert_allclose(fit.table["eblup_mse"], mse, rtol=1e-5)
    np.testing.assert_allclose(fit.table["synthetic"], x @ beta, rtol=1e-6)


def test_samplics_agrees_where_it_converges():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="samplics is archived", category=FutureWarning)
        samplics = pytest.importorskip("samplics")
    compared = 0
    for seed in range(25):
        table, _ = world(seed, areas=12 + seed)
        model = samplics.EblupAreaModel(method=samplics.FitMethod.reml)
        area, x = np.arange(len(table)), table[["wealth"]].to_numpy()
        model.fit(
            yhat=table["estimate"].to_numpy(), X=x, area=area, error_std=np.sqrt(table["variance"].to_numpy()), tol=1e-8
        )
        model.predict(X=x, area=area)
        if not model.convergence["achieved"]:
            continue
        fit = fay_herriot(table, covariates=["wealth"])
        np.testing.assert_allclose(fit.table["eblup"], list(model.area_est.values()), rtol=1e-5)
        np.testing.assert_allclose(fit.table["eblup_mse"], list(model.area_mse.values()), rtol=1e-5)
        compared += 1
    assert compared >= 22


def test_with_no_covariates_and_equal_variances_it_is_the_textbooks_shrinkage():
    y = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    areas = pd.DataFrame({"area": list("abcde"), "estimate": y, "variance": 0.02, "n": 50})
    fit = fay_herriot(areas, covariates=[])
    # With equal variances REML is the sample variance less the sampling variance: 0.1 - 0.02.
    assert fit.area_variance == pytest.approx(0.08, rel=1e-6)
    np.testing.assert_allclose(fit.table["gamma"], 0.8, rtol=1e-6)
    np.testing.assert_allclose(fit.table["eblup"], 0.8 * y + 0.2 * 0.5, rtol=1e-6)
    # g1 = .8 x .02, g2 = .2^2 x .1 / 5, g3 = .02^2 / .1^3 x 2 / (5 / .1^2)
    np.testing.assert_allclose(fit.table["eblup_mse"], 0.016 + 0.0008 + 2 * 0.0016, rtol=1e-6)


def test_areas_without_an_estimate_get_the_synthetic_one_with_its_error():
    table, _ = world(3, areas=40, unsampled=10)
    fit = fay_herriot(table, covariates=["wealth"])
    lone = fit.table.iloc[30:]
    assert (lone["gamma"] == 0).all()
    assert lone["variance_used"].isna().all()
    np.testing.assert_array_equal(lone["eblup"], lone["synthetic"])
    x = np.column_stack([np.ones(40), table["wealth"]])
    sampled = slice(0, 30)
    sigma2, beta, covariance, _, _ = reml(
        table["estimate"].to_numpy()[sampled], x[sampled], table["variance"].to_numpy()[sampled]
    )
    np.testing.assert_allclose(lone["eblup"], x[30:] @ beta, rtol=1e-6)
    expected = sigma2 + np.einsum("ij,jk,ik->i", x[30:], covariance, x[30:])
    np.testing.assert_allclose(lone["eblup_mse"], expected, rtol=1e-5)
    assert any(note.startswith("10 areas without a usable direct estimate") for note in fit.notes)
    # Adding areas that nobody asked leaves the others as they were.
    without = fay_herriot(table.iloc[:30], covariates=["wealth"])
    np.testing.assert_allclose(fit.table["eblup"].iloc[:30], without.table["eblup"], rtol=1e-9)


def test_units_do_not_matter():
    table, _ = world(5)
    plain = fay_herriot(table, covariates=["wealth"])
    scaled = table.assign(
        estimate=table["estimate"] * 1e4, variance=table["variance"] * 1e8, wealth=table["wealth"] * 1e7 + 3e7
    )
    fit = fay_herriot(scaled, covariates=["wealth"])
    np.testing.assert_allclose(fit.table["eblup"] / 1e4, plain.table["eblup"], rtol=1e-6)
    np.testing.assert_allclose(fit.table["eblup_mse"] / 1e8, plain.table["eblup_mse"], rtol=1e-5)


def test_many_areas_and_tiny_variances_neither_warn_nor_fail():
    table, truth = world(6, areas=400)
    fit = fay_herriot(table, covariates=["wealth"])
    assert np.mean((fit.table["eblup"] - truth) ** 2) < np.mean((table["estimate"] - truth) ** 2)


def simulate(repeats, likelihood, **options):
    """Means over worlds: true squared errors in areas asked, the error claimed, share of truths in 95% intervals."""
    found = {"direct": [], "synthetic": [], "eblup": [], "claimed": [], "covered": [], "lone": []}
    for seed in range(repeats):
        table, truth = world(1000 + seed, unsampled=5, **options)
        fit = fay_herriot(table, covariates=["wealth"], likelihood=likelihood).table
        asked = fit["estimate"].notna().to_numpy()
        for name, column in (("direct", "estimate"), ("synthetic", "synthetic"), ("eblup", "eblup")):
            found[name].append(((fit[column] - truth) ** 2)[asked].mean())
        found["claimed"].append(fit["eblup_mse"][asked].mean())
        inside = np.abs(fit["eblup"] - truth) <= 1.96 * np.sqrt(fit["eblup_mse"])
        found["covered"].append(inside[asked].mean())
        found["lone"].append(inside[~asked].mean())
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize(("areas", "sigma"), [(40, 0.05), (80, 0.05)])
def test_known_worlds_eblup_beats_both_its_parts_and_says_how_far_off_it_is(areas, sigma):
    found = simulate(200, "reml", areas=areas, sigma=sigma)
    assert found["eblup"] < 0.7 * found["direct"]
    assert found["eblup"] < 0.8 * found["synthetic"]
    assert found["claimed"] == pytest.approx(found["eblup"], rel=0.06)
    assert 0.91 < found["covered"] < 0.96
    assert 0.88 < found["lone"] < 0.96


@pytest.mark.parametrize(("areas", "sigma"), [(15, 0.05), (40, 0.05)])
def test_known_worlds_the_adjusted_likelihood_covers_what_it_says(areas, sigma):
    found = simulate(200, "adjusted", areas=areas, sigma=sigma)
    assert found["eblup"] < 0.7 * found["direct"]
    assert 0.935 < found["covered"] < 0.97
    assert found["lone"] > 0.93


def test_a_covariate_that_says_nothing_does_no_harm():
    ratios = []
    for seed in range(60):
        table, truth = world(5000 + seed)
        noise = np.random.default_rng(seed).normal(size=len(table))
        fit = fay_herriot(table.assign(noise=noise), covariates=["noise"]).table
        ratios.append(((fit["eblup"] - truth) ** 2).sum() / ((fit["estimate"] - truth) ** 2).sum())
    assert np.mean(ratios) < 0.9


def test_unknown_variances_are_smoothed_over_log_n_and_named():
    table, _ = world(7)
    table.loc[[0, 1], "variance"] = [0.0, np.nan]
    fit = fay_herriot(table, covariates=["wealth"])
    assert fit.table["smoothed"].tolist() == [True, True, *[False] * 38]
    # n was the inverse of the variance, up to rounding.
    np.testing.assert_allclose(fit.table["variance_used"][:2], 1 / table["n"][:2], rtol=0.01)
    assert "2 sampling variances are from the variance function: a000, a001" in fit.notes
    given = fay_herriot(table, covariates=["wealth"], variances="given")
    np.testing.assert_array_equal(given.table["eblup"][:2], given.table["synthetic"][:2])
    every = fay_herriot(table, covariates=["wealth"], variances="all")
    assert every.table["smoothed"].all()


def test_the_variance_function_recovers_a_power_law_and_keeps_the_level():
    size = np.array([10, 20, 40, 80, 160, 320])
    np.testing.assert_allclose(smooth_variances(0.3 * size**-1.2, size), 0.3 * size**-1.2, rtol=1e-12)
    noisy = 0.3 / size * np.array([0.5, 2, 1, 0.7, 1.5, 1])
    assert smooth_variances(noisy, size).sum() == pytest.approx(noisy.sum())
    same = smooth_variances([1.0, 2.0, 3.0, np.nan], [5, 5, 5, 5])
    np.testing.assert_allclose(same, 2.0)
    assert np.isnan(smooth_variances([1.0, 2.0, 3.0, np.nan], [5, 5, 5, 0])[3])
    with pytest.raises(MapError, match="2 areas have a sampling variance above 0"):
        smooth_variances([1.0, 2.0, 0.0], [5, 5, 5])


@given(st.floats(0.05, 1.5), st.floats(1e-6, 0.2))
@settings(max_examples=40, deadline=None)
def test_the_way_back_from_the_arcsine_is_the_integral(mean, variance):
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    share = np.sin(mean + np.sqrt(variance) * nodes) ** 2
    expected = weights @ share / weights.sum()
    spread = weights @ (share - expected) ** 2 / weights.sum()
    back, var = _from_arcsine(np.array([mean]), np.array([variance]))
    assert back[0] == pytest.approx(expected, abs=1e-9)
    assert var[0] == pytest.approx(spread, rel=1e-4, abs=1e-9)


def test_arcsine_scale_gives_shares_and_takes_zeros():
    assert _to_arcsine(np.array([0.5]), np.array([0.01]))[0][0] == pytest.approx(np.pi / 4)
    rng = np.random.default_rng(8)
    errors = {"identity": [], "arcsine": []}
    covered = []
    for _ in range(60):
        n, x = rng.integers(8, 60, size=40), rng.normal(size=40)
        truth = np.sin(0.32 + 0.12 * x + 0.06 * rng.normal(size=40)) ** 2
        share = rng.binomial(n, truth) / n
        areas = pd.DataFrame(
            {"area": range(40), "estimate": share, "variance": share * (1 - share) / (n - 1), "n": n, "wealth": x}
        )
        for scale in errors:
            fit = fay_herriot(areas, covariates=["wealth"], variances="all", scale=scale).table
            errors[scale].append(((fit["eblup"] - truth) ** 2).mean())
            if scale == "arcsine":
                assert fit["eblup"].between(0, 1).all()
                covered.append((np.abs(fit["eblup"] - truth) <= 1.96 * np.sqrt(fit["eblup_mse"])).mean())
    assert (share == 0).any()
    assert np.mean(errors["arcsine"]) < np.mean(errors["identity"])
    assert 0.91 < np.mean(covered) < 0.98


def test_limits_are_kept_and_counted():
    table, _ = world(9, areas=20)
    table.loc[0, "wealth"] = 12.0
    table.loc[0, ["estimate", "variance"]] = np.nan
    fit = fay_herriot(table, covariates=["wealth"], limits=(0.0, 1.0))
    assert fit.table["eblup"][0] == 1.0
    assert any("1 EBLUPs lay beyond 0 to 1" in note for note in fit.notes)


def test_no_variance_between_areas_is_said():
    table, _ = world(10, areas=12)
    table["estimate"] = 0.4 + 0.08 * table["wealth"] + 1e-3 * (-1) ** np.arange(12)
    fit = fay_herriot(table, covariates=["wealth"])
    assert fit.area_variance == 0
    np.testing.assert_allclose(fit.table["eblup"], fit.table["synthetic"])
    assert fay_herriot(table, covariates=["wealth"], likelihood="adjusted").area_variance > 0
    assert (fit.table["eblup_mse"] > 0).all()
    assert any("estimated as 0" in note for note in fit.notes)


def test_an_area_without_covariates_is_named_and_left_without():
    table, _ = world(11)
    table.loc[4, "wealth"] = np.nan
    fit = fay_herriot(table, covariates=["wealth"])
    assert np.isnan(fit.table["eblup"][4])
    assert "1 areas lack a covariate and have no model estimate: a004" in fit.notes


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"estimate": "many"}, {}, "'estimate' of the table of areas is not numeric"),
        ({"area": "same"}, {}, "identifiers stand more than once"),
        ({"variance": -0.1}, {}, "negative variances"),
        ({"flat": 1.0}, {"covariates": ["flat"]}, "constant or collinear"),
        ({"gamma": 1.0}, {}, "already has the column gamma"),
        ({"estimate": 1.3}, {"scale": "arcsine"}, "outside 0 to 1"),
        ({}, {"covariates": ["wealth", "lights"]}, "has no column 'lights'"),
        ({}, {"covariates": "wealth"}, "expected a list of columns"),
        ({}, {"variances": "some"}, "expected 'missing' or 'all' or 'given'"),
        ({}, {"scale": "logit"}, "expected 'identity' or 'arcsine'"),
        ({}, {"likelihood": "ml"}, "expected 'reml' or 'adjusted'"),
    ],
)
def test_bad_input_is_an_error_that_names_it(change, options, message):
    table, _ = world(12)
    with pytest.raises(MapError, match=message):
        fay_herriot(table.assign(**change), **({"covariates": ["wealth"]} | options))


def test_collinear_and_few_areas_are_errors():
    table, _ = world(13)
    with pytest.raises(MapError, match="constant or collinear"):
        fay_herriot(table.assign(twice=2 * table["wealth"]), covariates=["wealth", "twice"])
    with pytest.raises(MapError, match="need at least 4"):
        fay_herriot(table.iloc[:3], covariates=["wealth"])


@given(st.integers(0, 50), st.sampled_from(["ratio", "difference"]), st.floats(0.2, 0.7))
@settings(max_examples=20, deadline=None)
def test_benchmarked_estimates_add_up_exactly(seed, method, target):
    table, _ = world(seed, areas=25, unsampled=3)
    fit = fay_herriot(table, covariates=["wealth"])
    made = benchmark(fit.table, target=target, method=method)
    assert np.average(made.table["benchmarked"], weights=made.table["people"]) == pytest.approx(target, rel=1e-12)
    change = made.table["benchmarked"] - made.table["eblup"]
    np.testing.assert_allclose(made.table["benchmarked_mse"], made.table["eblup_mse"] + change**2)
    factor = made.factors.loc["all", "factor"]
    expected = made.table["eblup"] * factor if method == "ratio" else made.table["eblup"] + factor
    np.testing.assert_allclose(made.table["benchmarked"], expected)


def test_benchmarks_by_region_and_what_they_refuse():
    table, _ = world(14, areas=20)
    fit = fay_herriot(table.assign(region=["north", "south"] * 10), covariates=["wealth"]).table
    made = benchmark(fit, target={"north": 0.5, "south": 0.3}, region_column="region")
    for region, target in (("north", 0.5), ("south", 0.3)):
        of = made.table[made.table["region"] == region]
        assert np.average(of["benchmarked"], weights=of["people"]) == pytest.approx(target, rel=1e-12)
    with pytest.raises(MapError, match="east stand only among"):
        benchmark(fit, target={"north": 0.5, "south": 0.3, "east": 0.1}, region_column="region")
    with pytest.raises(MapError, match="together with region_column"):
        benchmark(fit, target={"north": 0.5})
    with pytest.raises(MapError, match="cannot become 0 by a ratio"):
        benchmark(fit, target=0.0)
    with pytest.raises(MapError, match="missing or negative for 1 areas"):
        benchmark(fit.assign(people=[np.nan, *[1.0] * 19]), target=0.4)
    with pytest.raises(MapError, match="1 areas have people but no estimate"):
        benchmark(fit.assign(eblup=[np.nan, *[0.4] * 19]), target=0.4)


def test_the_published_table_holds_what_it_says():
    table, _ = world(15, areas=12, unsampled=2)
    table.loc[0, "variance"] = 0.0
    table["district"] = [f"District {i}" for i in range(12)]
    fit = fay_herriot(table, covariates=["wealth"])
    made = publication_table(benchmark(fit.table, target=0.4).table, name_column="district")
    assert list(made.columns) == [
        *("area", "name", "households", "psus", "direct", "direct_se", "direct_se_used", "direct_cv", "direct_flag"),
        *("model", "model_rmse", "eblup", "eblup_rmse", "eblup_cv"),
        *("benchmarked", "benchmarked_rmse", "benchmarked_cv", "flag", "gain"),
    ]
    row = made.iloc[1]
    assert row["name"] == "District 1"
    assert row["direct_cv"] == pytest.approx(np.sqrt(table["variance"][1]) / table["estimate"][1])
    assert row["gain"] == pytest.approx(table["variance"][1] / row["benchmarked_rmse"] ** 2)
    # A zero variance is no precision; an area not asked has no direct estimate to warn of.
    assert np.isnan(made["direct_se"][0])
    assert made["direct_se_used"][0] == pytest.approx(np.sqrt(1 / table["n"][0]), rel=0.01)
    left_out = publication_table(fay_herriot(table, covariates=["wealth"], variances="given").table)
    assert np.isnan(left_out["direct_cv"][0])
    assert left_out["direct_flag"][0] == "withhold"
    assert made["direct_flag"][11] == ""
    assert np.isnan(made["gain"][11])
    plain = publication_table(fit.table)
    assert "benchmarked" not in plain.columns
    assert plain["name"].tolist() == plain["area"].tolist()


def test_flags_follow_the_thresholds():
    areas = pd.DataFrame(
        {"area": list("abc"), "n": 10, "psus": 2, "estimate": 1.0, "variance": [0.04, 0.05, 0.12]}
        | dict.fromkeys(("synthetic", "synthetic_mse", "eblup"), 1.0)
        | {"eblup_mse": [0.01, 0.1, 0.2]}
    ).assign(direct_variance=lambda table: table["variance"])
    made = publication_table(areas)
    assert made["direct_flag"].tolist() == ["", "caution", "withhold"]
    assert made["flag"].tolist() == ["", "caution", "withhold"]
    assert publication_table(areas, caution_cv=0.1, withhold_cv=0.15)["flag"].tolist() == ["", "withhold", "withhold"]
    for caution, withhold in itertools.product((0.0, 0.5), (0.5,)):
        with pytest.raises(MapError, match="expected 0 < caution_cv < withhold_cv"):
            publication_table(areas, caution_cv=caution, withhold_cv=withhold)
