from __future__ import annotations

import json

import numpy as np
import pytest

from geopov.errors import FeatureError
from geopov.features import Preprocessing

NEUTRAL = {"band_names": None, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def planes(preprocessing, data, valid=None, **changes):
    data = np.asarray(data)
    valid = np.ones((len(data), *data.shape[2:]), dtype=bool) if valid is None else valid
    return preprocessing.planes(data, valid, **(NEUTRAL | changes))


def test_linear_stretch_clips_and_normalises():
    data = np.array([-5, 0, 50, 100, 400], dtype=np.float32).reshape(5, 1, 1, 1)
    found = planes(Preprocessing(bands=(1, 1, 1), lo=0, hi=100), data, mean=(0.5, 0, 0), std=(0.25, 1, 2))
    unit = np.array([0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(found[:, :, 0, 0], np.stack([(unit - 0.5) / 0.25, unit, unit / 2], axis=1))


def test_log_stretch():
    data = np.array([-1, 0, 0.1, 1, 10, 100, 1000], dtype=np.float32).reshape(7, 1, 1, 1)
    found = planes(Preprocessing(bands=(1, 1, 1), stretch="log", lo=0.1, hi=100), data)
    np.testing.assert_allclose(found[:, 0, 0, 0], [0, 0, 0, 1 / 3, 2 / 3, 1, 1], atol=1e-6)


def test_bands_become_planes_in_their_order():
    data = np.arange(4, dtype=np.uint8).reshape(1, 4, 1, 1) * 51
    found = planes(Preprocessing(bands=("nir", 2, "blue")), data, band_names=["blue", "green", "red", "nir"])
    np.testing.assert_allclose(found[0, :, 0, 0], [0.6, 0.2, 0], atol=1e-6)


def test_a_limit_for_each_plane():
    data = np.full((1, 3, 1, 1), 100, dtype=np.uint16)
    found = planes(Preprocessing(lo=(0, 50, 0), hi=(100, 150, 400)), data)
    np.testing.assert_allclose(found[0, :, 0, 0], [1, 0.5, 0.25])


def test_invalid_pixels_are_the_mean():
    data = np.full((1, 3, 2, 2), 255, dtype=np.uint8)
    valid = np.array([[[True, False], [True, True]]])
    found = planes(Preprocessing(), data, valid, mean=(0.5, 0.5, 0.5))
    assert found[0, :, 0, 1].tolist() == [0, 0, 0]
    assert (found[0][:, valid[0]] == 0.5).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int16"])
def test_limits_are_never_fitted(dtype):
    with pytest.raises(FeatureError, match=f"the tiles are {dtype}.*Give lo and hi in the unit of the bands"):
        planes(Preprocessing(), np.ones((1, 3, 2, 2), dtype=dtype))


def test_parameters_survive_json():
    one = Preprocessing(bands=("a", 2, 2), stretch="log", lo=(1, 2, 3), hi=9, input_px=64, min_valid=0.25)
    assert Preprocessing(**json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bands": []}, "bands is empty"),
        ({"bands": [1, 2, True]}, "counted from 1"),
        ({"stretch": "histogram"}, "'linear' or 'log'"),
        ({"lo": 0}, "give both"),
        ({"lo": 5, "hi": 5}, "lo below hi"),
        ({"lo": "0", "hi": 5}, "lo is '0'"),
        ({"lo": 0, "hi": float("nan")}, "finite"),
        ({"lo": [0, 1], "hi": 5}, "or 3, one a plane"),
        ({"stretch": "log", "lo": 0, "hi": 5}, "above zero"),
        ({"input_px": 0}, "input_px is 0"),
        ({"input_px": 32.0}, "input_px is 32.0"),
        ({"min_valid": -0.1}, "min_valid"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(FeatureError, match=message):
        Preprocessing(**parameters)


def test_one_band_scene_names_the_remedy():
    with pytest.raises(FeatureError, match=r"band 2 is asked for, but the tiles have 1.*bands=\[1, 1, 1\]"):
        planes(Preprocessing(), np.zeros((1, 1, 2, 2), dtype=np.uint8))
