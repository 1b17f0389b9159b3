from __future__ import annotations

import pytest

from geopov.errors import FeatureError, OfflineError
from geopov.features import EFFICIENTNET_LITE0, fetch_weights


def test_offline_without_a_copy(monkeypatch, tmp_path):
    monkeypatch.delenv(EFFICIENTNET_LITE0.variable, raising=False)
    monkeypatch.setenv("GEOPOV_OFFLINE", "1")
    monkeypatch.setenv("GEOPOV_CACHE", str(tmp_path))
    with pytest.raises(OfflineError, match=f"efficientnet_lite0_imagenet.*{EFFICIENTNET_LITE0.variable}"):
        fetch_weights()


def test_a_named_copy_must_be_there_and_right(monkeypatch, tmp_path, lite0_weights):
    monkeypatch.setenv(EFFICIENTNET_LITE0.variable, str(tmp_path / "none.pth"))
    with pytest.raises(FeatureError, match="there is no such file"):
        fetch_weights()
    (tmp_path / "other.pth").write_bytes(b"not the weights")
    monkeypatch.setenv(EFFICIENTNET_LITE0.variable, str(tmp_path / "other.pth"))
    with pytest.raises(FeatureError, match="sha256"):
        fetch_weights()
    monkeypatch.setenv(EFFICIENTNET_LITE0.variable, str(lite0_weights))
    assert fetch_weights() == lite0_weights
