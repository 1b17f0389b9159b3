"""Displacement on real clusters and rasters: the figures of bench/displacement.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from geopov.survey.displacement.positions import check_window, displacement_km, minimum_window_km, share_outside
from geopov.survey.year_gap import gap_text, limit_year_gap

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "bench/displacement.py"
    spec = importlib.util.spec_from_file_location("bench_displacement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "n", "r2"), [("nigeria", 1450, 0.635), ("lesotho", 792, 0.429)])
def test_displacing_again_weakens_what_rasters_say(
    bench: ModuleType, real_data: Path, name: str, n: int, r2: float
) -> None:
    country = bench.countries(real_data)[name]
    assert len(country.clusters) == n
    near, far = bench.redisplaced(country, n_draws=12)
    assert near.given == pytest.approx(r2, abs=0.001)
    for found in (near, far):
        assert found.table["score"].is_monotonic_decreasing
    # Once more by the rule costs .03 to .05 of r²; a mean jitter of 6 to 10 km takes a fifth to a half of it.
    assert 0.02 < r2 - near.table.set_index("multiple").loc[1.0, "score"] < 0.07
    jittered = far.table[far.table["mean_km"].between(5.5, 11)]["score"]
    assert len(jittered) >= 2
    assert (0.4 * r2 < jittered).all()
    assert (jittered < 0.82 * r2).all()
    # So the true positions would score more than the published ones.
    assert near.given + 0.02 < near.undisplaced < near.given + 0.15
    assert near.low < near.undisplaced < near.high


def test_averaging_over_draws_of_the_true_position(bench: ModuleType, real_data: Path) -> None:
    found = {name: bench.averaged(country, n_draws=10) for name, country in bench.countries(real_data).items()}
    nigeria, lesotho = (list(found[name].values()) for name in ("nigeria", "lesotho"))
    for published, drawn, *_ in (nigeria, lesotho):
        assert published < drawn < published + 0.05
    # Towns are small and light up single pixels in Lesotho. In Nigeria the map and the count of people have cells of
    # 7.65 km, wider than the displacement.
    assert lesotho[2] > lesotho[0] + 0.05
    assert abs(nigeria[2] - nigeria[0]) < 0.02
    # A window that holds every true position blurs what is read.
    assert lesotho[3] < lesotho[0] - 0.05


def test_published_predictions_do_not_carry_a_fall_with_jitter(bench: ModuleType, real_data: Path) -> None:
    surveys = bench.by_jitter(real_data)
    assert len(surveys) == 43
    assert surveys["n"].sum() == 19_669
    assert 1.6 < surveys["mean_km"].min() < surveys["mean_km"].max() < 2.4
    # The rule's mean is the share of towns in other words.
    assert np.corrcoef(surveys["mean_km"], surveys["urban"])[0, 1] == pytest.approx(-1)
    assert abs(surveys["mean_km"].corr(surveys["r2"], method="spearman")) < 0.3


def test_a_published_image_of_6_7_km_misses_some_clusters(real_data: Path) -> None:
    table = pd.read_parquet(real_data / "surveys/dhs_clusters.parquet")
    table["displacement_km"] = displacement_km(table, "dhs")
    assert minimum_window_km(table) == 10
    # 224 pixels of 30 m, as the paper's images.
    share = share_outside(table, window_km=6.72)
    assert 0.15 < share < 0.17
    text = check_window(table, window_km=6.72)
    assert text is not None
    assert f"the displacement of {int((~table['urban']).sum())} of 19669 clusters: about {share:.1%}" in text


def test_lesotho_and_its_images_lie_years_apart(bench: ModuleType, real_data: Path) -> None:
    clusters = bench.countries(real_data)["lesotho"].clusters
    limited = limit_year_gap(clusters, imagery_years=[2015], nightlights_years=[2014], max_years=3)
    assert set(limited["year"]) == {2014}
    assert len(limited.attrs["dropped"]) == len(clusters) - len(limited) > 300
    assert "imagery 1 (at most 1" in gap_text(limited)
