"""Extractors on real clusters: a network that ImageNet trained looks at nightlights, beside simpler ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from geopov import features, survey
from geopov.errors import OfflineError, SourceNotFoundError
from geopov.regression import score
from geopov.study import downstream_scores, extract_features, open_scenes
from geopov.tiles import TileSpec

pytestmark = pytest.mark.real

LOG = {"stretch": "log", "lo": 0.1, "hi": 60.0, "min_valid": 0.01}


@pytest.fixture
def judged(real_data: Path) -> Any:
    """From an extractor's specification to r² on Lesotho's 794 clusters, in blocks of 20 km."""
    clusters = survey.read_clusters(
        real_data / "surveys/dhs_clusters.parquet",
        lon_column="lon",
        lat_column="lat",
        outcomes=["asset_wealth"],
        where={"country": "lesotho"},
    )
    scenes = open_scenes([[str(real_data / "lesotho/viirs_nightlights.tif")]], nodata=-3.4028234663852886e38)
    judge = downstream_scores(clusters, outcome="asset_wealth", block_km=20)

    def r2(spec: dict[str, Any]) -> dict[str, float]:
        array = extract_features(scenes, clusters, TileSpec(size_px=24, resolution_m=463), features.build(spec))
        assert array.sizes["cluster"] == 794
        return judge(array)

    return r2


def test_a_network_sees_more_than_the_mean_radiance(judged: Any) -> None:
    mean = judged(
        {"name": "band_statistics", "statistics": ["mean"], "transform": "log", "offset": 0.1, "min_valid": 0.01}
    )
    try:
        network = judged({"name": "efficientnet_lite0", "bands": [1, 1, 1], "input_px": 48, **LOG})
    except (SourceNotFoundError, OfflineError) as error:
        pytest.skip(f"the network's weights cannot be fetched here: {error}")
    windows = judged(
        {
            "name": "band_statistics",
            "windows_px": [2, 4, 8, 16, 24],
            "transform": "log",
            "offset": 0.1,
            "min_valid": 0.01,
        }
    )
    assert mean["r2"] < network["r2"] < 0.8
    # Near the published residual network on nightlights (.645 on these clusters), with thirty numbers a cluster.
    assert 0.55 < windows["r2"] < 0.8


def test_published_network_on_lesotho(real_data: Path) -> None:
    table = pd.read_parquet(real_data / "surveys/dhs_clusters.parquet")
    predictions = pd.read_parquet(real_data / "surveys/dhs_published_predictions_incountry.parquet")
    here = (table["country"] == "lesotho").to_numpy()
    found = score(table.loc[here, "asset_wealth"], predictions.loc[here, "Resnet-18 NL"])
    assert found["r2_pearson"] == pytest.approx(0.645, abs=0.001)
