from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from geopov import features
from geopov.errors import FeatureError, MissingDependencyError
from geopov.features import BandStatistics, Concatenation, build, extract, extractor_names


def test_public_names():
    assert sorted(features.__all__) == sorted(set(features.__all__))
    assert all(hasattr(features, name) for name in features.__all__)


def test_import_is_light():
    code = (
        "import sys, geopov.features; "
        "print([m for m in ('torch', 'torchvision', 'timm', 'onnxruntime', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_statistics_work_without_torch(monkeypatch, fake_tiles):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    assert extract(build("band_mean"), fake_tiles(np.ones((2, 1, 2, 2)))).to_numpy().tolist() == [[1], [1]]
    assert extractor_names() == ["band_statistics", "band_mean", "band_histograms", "concatenation"]
    with pytest.raises(MissingDependencyError, match=r"'resnet18'.*'torch'.*pip install 'geopov\[cnn\]'"):
        build("resnet18")


def test_specifications_come_in_several_forms():
    assert build({"name": "band_mean"}).spec() == build("band_mean").spec() == build(["band_mean"]).spec()
    assert build("band_mean").statistics == ("mean",)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "expected the key 'name'"),
        ([], "list of extractors is empty"),
        ({"name": "band_mean", "window_px": 3}, "no parameter 'window_px'; did you mean 'windows_px'"),
        ({"name": "band_mean", "statistics": ["max"]}, "no parameter 'statistics'"),
        ({"name": "resnet18", "input": 3}, "no parameter 'input'; did you mean 'input_px'"),
        ({"name": "resnet19", "weights": None}, "no extractor 'resnet19'; did you mean 'resnet18'"),
        ({"name": "vit_b_16", "weights": None}, "vit_b_16 is a transformer"),
    ],
)
def test_wrong_specifications(spec, message):
    with pytest.raises(FeatureError, match=message):
        build(spec)


def test_side_by_side(fake_tiles, rng):
    tiles = fake_tiles(rng.random((4, 1, 4, 4)), band_names=["light"])
    specs = [{"name": "band_mean"}, {"name": "band_mean", "windows_px": [2]}]
    both = build(specs)
    assert isinstance(both, Concatenation)
    array = extract(both, tiles)
    assert array["feature"].to_numpy().tolist() == ["band_statistics1:light_mean", "band_statistics2:light_2px_mean"]
    for column, spec in enumerate(specs):
        assert np.array_equal(array.to_numpy()[:, column], extract(build(spec), tiles).to_numpy()[:, 0])
    assert extract(build(both.spec()), tiles).identical(array)


def test_a_row_is_whole_or_not_there():
    data, valid = np.ones((2, 1, 4, 4)), np.ones((2, 4, 4), dtype=bool)
    valid[1, 1:3, 1:3] = False
    both = Concatenation([BandStatistics(), BandStatistics(windows_px=[2])])
    assert np.isnan(both(data, valid)).all(axis=1).tolist() == [False, True]


def test_one_context_for_all():
    with pytest.raises(FeatureError, match="context_px 0, 2 cannot be put side by side"):
        build([{"name": "band_mean"}, {"name": "band_mean", "context_px": 2}])
