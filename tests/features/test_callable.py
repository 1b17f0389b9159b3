from __future__ import annotations

import numpy as np
import pytest

from geopov.errors import FeatureError
from geopov.features import build, extract
from geopov.features.callable import CallableExtractor


def brightest(data, valid):
    return np.where(valid[:, None], data, 0).max(axis=(2, 3))


def extractor(function=brightest, **parameters):
    return CallableExtractor(function, **({"name": "brightest", "feature_names": ["a", "b"]} | parameters))


def test_a_function_is_an_extractor(fake_tiles, rng):
    data = rng.integers(0, 100, (6, 2, 4, 4), dtype=np.uint16)
    valid = np.ones((6, 4, 4), dtype=bool)
    valid[3] = False
    tiles = fake_tiles(data, valid, clusters=["x", "x", "y", "y", "z", "z"])
    array = extract(extractor(), tiles)
    peaks = data.max(axis=(2, 3)).astype(float)
    expected = [peaks[:2].mean(axis=0), peaks[2], peaks[4:].mean(axis=0)]
    np.testing.assert_allclose(array.to_numpy(), expected)
    assert array["feature"].to_numpy().tolist() == ["a", "b"]


def test_it_sees_the_bands_it_asks_for_in_their_order(rng):
    data = rng.random((3, 3, 2, 2))
    seen = []

    def look(data, valid):
        seen.append(data)
        return data.mean(axis=(2, 3))

    found = extractor(look, bands=["nir", "red"]).for_bands(["red", "green", "nir"])
    rows = found(data, np.ones((3, 2, 2), dtype=bool))
    assert np.array_equal(seen[0], data[:, [2, 0]])
    np.testing.assert_allclose(rows, data[:, [2, 0]].mean(axis=(2, 3)), rtol=1e-6)
    with pytest.raises(FeatureError, match="no band 'nir'"):
        extractor(bands=["nir"]).for_bands(["red"])


def test_too_few_valid_pixels_are_not_shown_to_it(rng):
    data, valid = rng.random((3, 2, 4, 4)), np.ones((3, 4, 4), dtype=bool)
    valid[1, :3] = False
    shown = []
    rows = extractor(lambda data, valid: shown.append(len(data)) or np.ones((len(data), 2)))(data, valid)
    assert shown == [2]
    assert np.isnan(rows[:, 0]).tolist() == [False, True, False]
    assert extractor()(data[1:2], valid[1:2]).shape == (1, 2)


def test_a_row_that_is_no_number_is_dropped_whole():
    rows = extractor(lambda data, valid: [[1, np.inf], [1, 2]])(np.ones((2, 1, 2, 2)), np.ones((2, 2, 2), dtype=bool))
    assert np.isnan(rows).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("returned", [np.ones(2), np.ones((2, 3)), np.array([["a", "b"], ["c", "d"]]), None])
def test_functions_that_return_something_else(returned):
    with pytest.raises(FeatureError, match=r"the function of 'brightest' returned .* of shape \(2, 2\)"):
        extractor(lambda data, valid: returned)(np.ones((2, 1, 2, 2)), np.ones((2, 2, 2), dtype=bool))


def test_data_do_not_name_code():
    spec = extractor(bands=[1, 2]).spec()
    assert (spec["name"], spec["called"], spec["bands"]) == ("callable", "brightest", [1, 2])
    assert spec["function"].endswith(":brightest")
    with pytest.raises(FeatureError, match=r"'brightest' is a function \(.*:brightest\).*not allowed to name code"):
        build(spec)
    with pytest.raises(FeatureError, match="not allowed to name code"):
        build({"name": "callable", "function": "os:system"})


def test_an_object_is_recorded_by_its_class():
    class Brightest:
        def __call__(self, data, valid):
            return brightest(data, valid)

    assert extractor(Brightest()).spec()["function"].endswith("Brightest")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"function": 3}, "function is 3"),
        ({"name": ""}, "name is ''"),
        ({"feature_names": []}, "feature_names is empty"),
        ({"feature_names": "ab"}, "feature_names is 'ab'"),
        ({"feature_names": ["a", "a"]}, "different names"),
        ({"bands": [0]}, "counted from 1"),
        ({"min_valid": 2}, "min_valid is 2"),
        ({"context_px": -1}, "context_px is -1"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(FeatureError, match=message):
        extractor(**parameters)
