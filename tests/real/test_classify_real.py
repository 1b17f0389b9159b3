"""Settled or empty, told from Lesotho's lights at night: labels from GHS-POP, which was made without those lights.

This is not a network that sees roofs: no daytime image of Lesotho is at hand. It shows the path on real pixels, real
labels and real imbalance, and that the probabilities hold in blocks of the country not trained on.
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest

from geopov.features.classification.apply import classify, open_classifier
from geopov.features.classification.classifier import train_classifier
from geopov.features.classification.labels import prepare_labels
from geopov.features.classification.sheet import write_page
from geopov.features.classification.two_stage import train_two_stage
from geopov.features.comparison.intervals import auroc_delong
from geopov.grid import CellGrid
from geopov.maps.density.weights import resample_to
from geopov.raster import Scene
from geopov.tiles import TileSpec, extract

pytestmark = pytest.mark.real

LESOTHO = (27.0, -30.7, 29.5, -28.5)
BLOCK_KM = 30


@pytest.fixture
def country(real_data):
    """Squares of 3.8 km with their lights, called empty (fewer than 200 people), villages, or town (5,000 and more)."""
    grid = CellGrid.from_bounds(LESOTHO, cell_m=3800)
    people = resample_to(grid, real_data / "lesotho" / "ghs_pop_250m.tif", how="sum")
    x, y = grid.centres()
    inside = np.isfinite(people)
    count = people[inside]
    labels = gpd.GeoDataFrame(
        {
            "cluster_id": [f"square{i:04d}" for i in range(len(count))],
            "settled": count >= 200,
            "kind": np.select([count >= 5000, count >= 200], ["town", "villages"], "empty"),
        },
        geometry=gpd.points_from_xy(x[inside], y[inside]),
        crs=grid.crs,
    ).to_crs("EPSG:4326")
    lights = Scene.open(real_data / "lesotho" / "viirs_nightlights.tif")
    return extract(lights, labels, TileSpec(size_px=8, resolution_m=463)), labels


def test_settled_squares_are_told_by_their_lights_in_blocks_not_trained_on(country, tmp_path):
    tiles, labels = country
    classifier = train_classifier(
        tiles, labels, label="settled", folder=tmp_path, extractor="band_statistics", block_km=BLOCK_KM
    )
    labelled = prepare_labels(tiles, labels, label="settled", block_km=BLOCK_KM)
    table = classify(classifier, tiles)
    test = labelled.positions[labelled.of("test")]
    test = test[table["predicted"].notna().to_numpy()[test]]
    settled, probability = labels["settled"].to_numpy()[test], table["p_settled"].to_numpy()[test]
    auroc = auroc_delong(settled, probability)
    share = settled.mean()
    assert auroc.low > 0.75
    assert classifier.checks["after"]["brier"] < 0.8 * 2 * share * (1 - share)
    assert classifier.checks["after"]["ece"] < 0.15
    assert probability.mean() == pytest.approx(share, abs=0.1)


def test_a_first_pass_on_mean_radiance_saves_work_at_the_sensitivity_asked_for(country, tmp_path):
    tiles, labels = country
    train_two_stage(
        tiles,
        labels,
        label="kind",
        positive=["villages", "town"],
        folder=tmp_path,
        first="band_mean",
        sensitivity=0.9,
        extractor="band_statistics",
        block_km=BLOCK_KM,
    )
    both = open_classifier(tmp_path)
    table = classify(both, tiles)
    sensitivity, kept = both.checks["sensitivity_of_first_pass"], both.checks["kept"]
    assert sensitivity[1] < 0.9 < sensitivity[2]
    assert kept[0] < 0.8
    assert both.checks["both_stages"]["accuracy"] > 0.75
    # Squares of Maseru and the other towns are the brightest of the country.
    towns = table[table["p_town"] > 0.9]
    assert len(towns) >= 10
    assert (labels["kind"].to_numpy()[towns.index] == "town").mean() > 0.8
    page = write_page(
        table,
        tiles,
        tmp_path / "page.html",
        classifier=both,
        truth=dict(zip(labels["cluster_id"], labels["kind"], strict=True)),
        stretch="log",
    )
    assert page.read_text(encoding="utf-8").count('<li class="tile') == 60
