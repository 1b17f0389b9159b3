"""Poverty from a welfare map: closed forms against simulated households, units, corrections, and what is refused."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rio_cogeo import cog_validate
from scipy.stats import norm

from geopov.errors import MapError
from geopov.maps.poverty.indices import (
    PovertyModel,
    lognormal_fgt,
    smearing_factor,
    write_consumption,
    write_poverty,
    write_quintiles,
)

UNIT = "PPP USD per person per day"
Z90 = norm.ppf(0.95)


def model(line=2.0, *, line_unit=UNIT, within_sd=0.5, outcome_is="log_of_mean"):
    return PovertyModel(line, line_unit, within_sd, outcome_is)


@pytest.fixture
def welfare(make_map):
    """A map of log consumption, 0.2 to 2 in logs, with one unknown cell; ``transform`` "exp" holds the amounts."""

    def write(mean=None, error_sd=0.3, *, transform="none", name="welfare.tif", **options):
        if mean is None:
            mean = np.linspace(0.2, 2.0, 12).reshape(3, 4)
            mean[0, 0] = np.nan
        half = Z90 * error_sd
        bands = {"mean": mean, "lower": mean - half, "upper": mean + half}
        if transform == "exp":
            bands = {band: np.exp(values) for band, values in bands.items()}
        bands["in_support"] = np.where(np.isnan(mean), np.nan, (mean > 1).astype(float))
        tags = {"interval": "90%", "transform": transform, "outcome": "log_consumption", "source": "A survey"}
        units = UNIT if transform == "exp" else f"ln({UNIT})"
        return make_map(bands, name, **({"units": units, "tags": tags} | options))

    return write


def read(path):
    with rasterio.open(path) as source:
        return dict(zip(source.descriptions, source.read().astype(float), strict=True))


def simulated_fgt(consumption, line):
    gap = np.clip(1 - consumption / line, 0, None)
    return [(consumption < line).mean(), gap.mean(), (gap**2).mean()]


@pytest.mark.parametrize(("m", "sd", "line"), [(0.7, 0.5, 2.0), (1.5, 0.8, 2.0), (-0.5, 0.3, 1.0)])
def test_closed_forms_agree_with_simulated_households(m, sd, line):
    households = np.exp(np.random.default_rng(0).normal(m, sd, 400_000))
    ours = [float(lognormal_fgt(m, sd, line, alpha=alpha)) for alpha in (0, 1, 2)]
    np.testing.assert_allclose(ours, simulated_fgt(households, line), atol=0.003)


@given(m=st.floats(-30, 30), sd=st.floats(0.01, 5), line=st.floats(1e-6, 1e6))
def test_indices_stay_within_each_other(m, sd, line):
    headcount, gap, severity = (float(lognormal_fgt(m, sd, line, alpha=alpha)) for alpha in (0, 1, 2))
    assert 0 <= severity <= gap + 1e-9
    assert gap <= headcount + 1e-9
    assert headcount <= 1


def test_everybody_at_half_the_line():
    assert [float(lognormal_fgt(math.log(1.0), 1e-4, 2.0, alpha=a)) for a in (0, 1, 2)] == pytest.approx([1, 0.5, 0.25])


@pytest.mark.parametrize("transform", ["none", "exp"])
@pytest.mark.parametrize("outcome_is", ["log_of_mean", "mean_of_log"])
def test_the_expected_index_integrates_the_prediction_error(welfare, tmp_path, transform, outcome_is):
    """Against a world in which levels are drawn around the prediction and households around the levels."""
    path = welfare(np.full((1, 2), 0.9), error_sd=0.4, transform=transform)
    draw = np.random.default_rng(1)
    level = 0.9 + draw.normal(0, 0.4, 400_000)
    mean_log = level - 0.6**2 / 2 if outcome_is == "log_of_mean" else level
    expected = simulated_fgt(np.exp(draw.normal(mean_log, 0.6)), 2.0)
    for index, truth in zip(("headcount", "gap", "severity"), expected, strict=True):
        out = write_poverty(
            path, path=tmp_path / "out.tif", model=model(within_sd=0.6, outcome_is=outcome_is), index=index
        )
        np.testing.assert_allclose(read(out)[index], truth, atol=0.003)


def test_bounds_cover_the_headcounts_of_cells_at_their_level(welfare, tmp_path):
    out = read(
        write_poverty(
            welfare(np.full((1, 2), 0.9), error_sd=0.4), path=tmp_path / "out.tif", model=model(within_sd=0.6)
        )
    )
    level = 0.9 + np.random.default_rng(2).normal(0, 0.4, 50_000)
    true = norm.cdf((math.log(2.0) - level + 0.6**2 / 2) / 0.6)
    inside = (true >= out["lower"][0, 0]) & (true <= out["upper"][0, 0])
    assert inside.mean() == pytest.approx(0.9, abs=0.006)
    assert (true < out["lower"][0, 0]).mean() == pytest.approx(0.05, abs=0.005)


def test_a_known_headcount(welfare, tmp_path):
    """ln z - m is 1 with sigma² + s² = 0.64 + 0.36, so the headcount is Phi(1)."""
    path = welfare(np.full((1, 2), math.log(2.0) - 1), error_sd=0.6)
    spread = model(within_sd=0.8, outcome_is="mean_of_log")
    assert read(write_poverty(path, path=tmp_path / "out.tif", model=spread))["headcount"][0, 0] == pytest.approx(
        norm.cdf(1), rel=1e-5
    )


def test_the_expectation_never_leaves_its_interval(welfare, tmp_path):
    """A wide error and a narrow spread: a few cells far below the line make the mean larger than the upper end."""
    path = welfare(np.full((1, 2), math.log(2.0) + 2), error_sd=1.0)
    out = read(write_poverty(path, path=tmp_path / "out.tif", model=model(within_sd=0.1)))
    assert (out["lower"] <= out["headcount"]).all()
    assert (out["headcount"] <= out["upper"]).all()
    assert out["headcount"][0, 0] > norm.cdf((-2 + Z90 + 0.1**2 / 2) / 0.1)


def test_the_map_says_what_it_is(welfare, tmp_path):
    source = welfare()
    out = write_poverty(source, path=tmp_path / "out.tif", model=model(), index="gap", tags={"country": "Nowhere"})
    with rasterio.open(out) as raster:
        tags = raster.tags()
        assert raster.descriptions == ("gap", "lower", "upper", "in_support")
        assert raster.units[:3] == ("share of the line",) * 3
        assert np.isnan(raster.nodata)
        assert np.isnan(raster.read(1)[0, 0])
        np.testing.assert_array_equal(raster.read(4), read(source)["in_support"])
    assert cog_validate(out, strict=True)[0]
    assert tags["style"] == "poverty_gap"
    assert (tags["line"], tags["line_unit"], tags["within_sd"], tags["interval"]) == ("2", UNIT, "0.5", "90%")
    assert tags["welfare_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert "within_sd^2 + s^2" in tags["formula"]
    assert "m = prediction - within_sd^2 / 2" in tags["formula"]
    assert (tags["source"], tags["country"]) == ("A survey", "Nowhere")
    assert str(tmp_path) not in " ".join(tags.values())


def test_strips_and_repeats_change_no_byte(welfare, tmp_path, monkeypatch):
    source = welfare(np.random.default_rng(0).normal(1, 0.5, (40, 30)))
    jobs = {
        "headcount": lambda path: write_poverty(source, path=path, model=model()),
        "consumption": lambda path: write_consumption(source, path=path, outcome_is="log_of_mean"),
        "quintile": lambda path: write_quintiles(source, path=path),
    }
    whole = {name: job(tmp_path / f"{name}.tif").read_bytes() for name, job in jobs.items()}
    monkeypatch.setattr("geopov.maps.poverty.welfare_map._STRIP_CELLS", 210)
    for name, job in jobs.items():
        assert job(tmp_path / "cut.tif").read_bytes() == whole[name]


def test_the_spread_may_differ_from_cell_to_cell(welfare, make_map, tmp_path):
    path = welfare(np.full((1, 2), 0.9))
    spread = make_map({"within_sd": np.array([[0.4, 0.7]])}, "spread.tif")
    out = read(write_poverty(path, path=tmp_path / "out.tif", model=model(within_sd=spread)))
    for column, sd in enumerate((0.4, 0.7)):
        alone = read(write_poverty(path, path=tmp_path / "alone.tif", model=model(within_sd=sd)))
        assert out["headcount"][0, column] == pytest.approx(alone["headcount"][0, 0], rel=1e-6)


@pytest.mark.parametrize("outcome_is", ["log_of_mean", "mean_of_log"])
def test_mean_consumption_is_that_of_the_people(welfare, tmp_path, outcome_is):
    path = welfare(np.full((1, 2), 0.9), error_sd=0.4)
    within = 0.6 if outcome_is == "mean_of_log" else None
    draw = np.random.default_rng(3)
    level = 0.9 + draw.normal(0, 0.4, 500_000)
    mean_log = level - 0.6**2 / 2 if outcome_is == "log_of_mean" else level
    people = np.exp(draw.normal(mean_log, 0.6))
    out = write_consumption(path, path=tmp_path / "out.tif", outcome_is=outcome_is, within_sd=within)
    assert read(out)["consumption"][0, 0] == pytest.approx(people.mean(), rel=0.006)
    with rasterio.open(out) as raster:
        assert raster.units[0] == UNIT


def test_the_three_estimates_of_consumption(welfare, tmp_path):
    path = welfare(np.full((1, 2), 0.9), error_sd=0.4)

    def of(estimate, **options):
        out = write_consumption(path, path=tmp_path / "out.tif", outcome_is="log_of_mean", estimate=estimate, **options)
        return read(out)["consumption"][0, 0]

    residuals = [-0.5, 0.1, 0.4]
    assert of("median") == pytest.approx(math.exp(0.9), rel=1e-5)
    assert of("mean") == pytest.approx(math.exp(0.9 + 0.08), rel=1e-5)
    assert of("smearing", residuals=residuals) == pytest.approx(math.exp(0.9) * np.exp(residuals).mean(), rel=1e-5)


def test_smearing_tends_to_the_lognormal_correction():
    residuals = np.random.default_rng(4).normal(0, 0.5, 200_000)
    assert smearing_factor(residuals) == pytest.approx(math.exp(0.125), rel=0.005)
    assert smearing_factor([0.0, 1.0], weights=[3, 1]) == pytest.approx((3 + math.e) / 4)


def test_fifths_of_cells_and_of_people(welfare, make_map, tmp_path):
    path = welfare(np.arange(10.0).reshape(1, 10) / 10, error_sd=0.15 / Z90)
    out = write_quintiles(path, path=tmp_path / "cells.tif")
    assert read(out)["quintile"].ravel().tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    people = make_map({"people": np.array([[80.0, 80, 80, 80, 0, np.nan, 20, 20, 20, 20]])}, "people.tif")
    out = write_quintiles(path, path=tmp_path / "people.tif", population=people)
    # 400 people, a class for each 80 of them: the four poorest cells are a class each.
    assert read(out)["quintile"].ravel()[[0, 1, 2, 3, 6, 7, 8, 9]].tolist() == [1, 2, 3, 4, 5, 5, 5, 5]
    with rasterio.open(out) as raster:
        assert raster.dtypes[0] == "uint8"
        assert raster.nodata == 255
        assert ColorInterp.alpha not in raster.colorinterp
        assert raster.tags()["quintiles_of"] == "people"
    # Bounds lie a cell and a half away.
    cells = read(tmp_path / "cells.tif")
    assert cells["lower"].ravel().tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert cells["upper"].ravel().tolist() == [2, 2, 3, 3, 4, 4, 5, 5, 5, 5]


def test_fifths_of_an_index_and_of_a_flat_map(welfare, tmp_path):
    flat = welfare(np.full((2, 3), -1.0), units="index", tags={})
    assert (read(write_quintiles(flat, path=tmp_path / "out.tif"))["quintile"] == 3).all()


def test_unknown_cells_have_no_class(welfare, tmp_path):
    out = read(write_quintiles(welfare(), path=tmp_path / "out.tif"))
    assert all(band[0, 0] == 255 for band in out.values())
    assert (out["in_support"] == 255).sum() == 1


def refused(message, job, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MapError, match=message):
        job()
    assert sorted(tmp_path.iterdir()) == before


def test_a_line_in_another_unit_is_refused_with_both(welfare, tmp_path):
    source = welfare()
    for unit in ("PPP USD per person per year", "MWK per person per day", ""):
        refused(
            f"line is in '{unit}', the map welfare.tif in '{UNIT}'",
            lambda unit=unit: write_poverty(source, path=tmp_path / "out.tif", model=model(line_unit=unit)),
            tmp_path,
        )


def test_spelling_of_a_unit_does_not_matter(welfare, tmp_path):
    spread = model(line_unit="ppp usd/person/day")
    assert write_poverty(welfare(), path=tmp_path / "out.tif", model=spread).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line": 0}, "the poverty line is 0"),
        ({"line": -1.9}, "the poverty line is -1.9"),
        ({"line": math.nan}, "the poverty line is nan"),
        ({"within_sd": 0.0}, "within_sd .* is 0.0"),
        ({"within_sd": -0.4}, "within_sd .* is -0.4"),
        ({"outcome_is": "log"}, "outcome_is is 'log'; expected one of log_of_mean, mean_of_log"),
    ],
)
def test_a_model_that_makes_no_sense(options, message):
    with pytest.raises(MapError, match=message):
        model(**options)


def test_maps_that_hold_no_log_consumption(welfare, make_map, tmp_path):
    cases = {
        "unit 'index' and the tag transform 'none'": welfare(units="index", name="index.tif"),
        "the tag transform ''": welfare(tags={"interval": "90%"}, name="untagged.tif"),
        "does not say what its interval covers": welfare(tags={"transform": "none"}, name="levelless.tif"),
        "has no band lower, upper, in_support": make_map({"mean": np.ones((2, 2))}, "bare.tif"),
        "amounts of zero or less": welfare(
            np.full((1, 2), -1.0), name="negative.tif", units=UNIT, tags={"interval": "90%", "transform": "exp"}
        ),
    }
    for message, source in cases.items():
        refused(
            message, lambda source=source: write_poverty(source, path=tmp_path / "out.tif", model=model()), tmp_path
        )


def test_bounds_upside_down(make_map, tmp_path):
    ones = np.ones((2, 2))
    bands = {"mean": ones, "lower": ones + 1, "upper": ones - 1, "in_support": ones}
    tags = {"interval": "90%", "transform": "none"}
    source = make_map(bands, units=f"ln({UNIT})", tags=tags)
    refused("lower bound lies above", lambda: write_poverty(source, path=tmp_path / "o.tif", model=model()), tmp_path)


def test_a_map_that_was_cut_short(welfare, tmp_path):
    source = welfare(np.random.default_rng(0).normal(1, 0.5, (600, 600)))
    source.write_bytes(source.read_bytes()[:-100_000])
    refused("cut short", lambda: write_poverty(source, path=tmp_path / "out.tif", model=model()), tmp_path)


def test_grids_that_differ_name_both_and_the_remedy(welfare, make_map, tmp_path):
    source, spread = welfare(), make_map({"within_sd": np.full((3, 5), 0.5)}, "spread.tif")
    refused(
        r"different grids \(welfare.tif: .* 4 x 3 cells .*; spread.tif: .* 5 x 3 cells .*resample_to",
        lambda: write_poverty(source, path=tmp_path / "out.tif", model=model(within_sd=spread)),
        tmp_path,
    )
    refused(
        "has no band 'people'; its bands are within_sd",
        lambda: write_quintiles(
            source, path=tmp_path / "o.tif", population=make_map({"within_sd": np.ones((3, 4))}, "spread.tif")
        ),
        tmp_path,
    )


def test_a_raster_of_spreads_must_be_positive(welfare, make_map, tmp_path):
    source, spread = welfare(), make_map({"within_sd": np.full((3, 4), 0.0)}, "spread.tif")
    refused(
        "holds spreads of zero or less",
        lambda: write_poverty(source, path=tmp_path / "out.tif", model=model(within_sd=spread)),
        tmp_path,
    )


def test_what_an_estimate_needs_and_what_it_does_not_use(welfare, tmp_path):
    source = welfare()
    for options, message in (
        ({"estimate": "smearing"}, "residuals are needed for 'smearing'"),
        ({"residuals": [0.1]}, "used for nothing else"),
        ({"outcome_is": "mean_of_log"}, "within_sd is needed"),
        ({"within_sd": 0.5}, "used for nothing else"),
        ({"estimate": "mode"}, "estimate is 'mode'"),
    ):
        with pytest.raises(MapError, match=message):
            write_consumption(source, path=tmp_path / "out.tif", **({"outcome_is": "log_of_mean"} | options))


def test_nobody_to_divide(welfare, make_map, tmp_path):
    source, nobody = welfare(), make_map({"people": np.zeros((3, 4))}, "people.tif")
    refused(
        "no cell of known welfare has people",
        lambda: write_quintiles(source, path=tmp_path / "out.tif", population=nobody),
        tmp_path,
    )


@pytest.mark.parametrize(("residuals", "weights"), [([], None), ([np.nan], None), ([0.1], [1, 2]), ([0.1], [0])])
def test_residuals_that_tell_no_factor(residuals, weights):
    with pytest.raises(MapError, match="residuals"):
        smearing_factor(residuals, weights=weights)
