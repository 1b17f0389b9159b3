from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geopov.errors import FeatureError
from geopov.features import BandStatistics

ALL = ("mean", "std", "min", "p10", "p50", "p90", "max")


def all_valid(data):
    return np.ones((len(data), *data.shape[2:]), dtype=bool)


def test_hand_drawn_answer():
    data = np.arange(1, 17, dtype=np.uint8).reshape(1, 1, 4, 4)
    extractor = BandStatistics(windows_px=[4, 2], statistics=["mean", "min", "max", "p50"], bands=[1])
    assert extractor(data, all_valid(data)).tolist() == [[8.5, 1, 16, 8.5, 8.5, 6, 11, 8.5]]
    assert extractor.feature_names == [f"b1_{w}px_{s}" for w in (4, 2) for s in ("mean", "min", "max", "p50")]


@settings(max_examples=60, deadline=None)
@given(
    data=hnp.arrays(np.float32, (3, 2, 6, 6), elements=st.floats(-1000, 1000, width=32)),
    valid=hnp.arrays(np.bool_, (3, 6, 6)),
)
def test_equals_numpy_on_any_holes(data, valid):
    rows = BandStatistics(windows_px=[6, 4, 2], statistics=ALL, min_valid=0)(data, valid)
    for tile in range(3):
        inner = [valid[tile, e : 6 - e, e : 6 - e] for e in (0, 1, 2)]
        if not all(mask.any() for mask in inner):
            assert np.isnan(rows[tile]).all()
            continue
        expected = []
        for band in range(2):
            for edge, mask in enumerate(inner):
                values = data[tile, band, edge : 6 - edge, edge : 6 - edge][mask].astype(float)
                expected += [values.mean(), values.std(), values.min()]
                expected += [*np.quantile(values, [0.1, 0.5, 0.9]), values.max()]
        np.testing.assert_allclose(rows[tile], expected, rtol=1e-5, atol=1e-3)


def test_a_tile_does_not_depend_on_its_company(rng):
    data = rng.gamma(0.5, 3, (40, 2, 8, 8)).astype(np.float32)
    valid = rng.random((40, 8, 8)) > 0.2
    extractor = BandStatistics(windows_px=[8, 4], min_valid=0.5)
    together = extractor(data, valid)
    alone = np.concatenate([extractor(data[i : i + 1], valid[i : i + 1]) for i in range(40)])
    assert np.array_equal(together, alone, equal_nan=True)


def test_too_few_valid_pixels_give_nan():
    data = np.ones((3, 1, 4, 4), dtype=np.float32)
    valid = all_valid(data)
    valid[0, :2] = False  # a half is enough
    valid[1, :2] = valid[1, 2, 0] = False
    valid[2] = False
    rows = BandStatistics(min_valid=0.5)(data, valid)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, True]


def test_invalid_pixels_do_not_count():
    data = np.full((1, 1, 4, 4), 7, dtype=np.int16)
    data[0, 0, 0, 0] = -32768
    valid = data[:, 0] > 0
    assert BandStatistics(statistics=["mean", "std", "min"])(data, valid).tolist() == [[7, 0, 7]]


def test_log_is_taken_of_each_pixel():
    data = np.array([[[[-1.0, 0.0], [0.9, 9.9]]]], dtype=np.float32)
    rows = BandStatistics(statistics="mean", transform="log", offset=0.1)(data, all_valid(data))
    np.testing.assert_allclose(rows[0, 0], np.log([0.1, 0.1, 1.0, 10.0]).mean(), rtol=1e-6)


def test_windows_may_reach_into_the_context():
    data = np.zeros((1, 1, 6, 6), dtype=np.float32)
    data[0, 0, 0, 0] = 36
    rows = BandStatistics(windows_px=[6, 2], statistics="mean", context_px=2)(data, all_valid(data))
    assert rows.tolist() == [[1, 0]]
    default = BandStatistics(statistics="mean", context_px=2)(data, all_valid(data))
    assert default.tolist() == [[0]]


def test_bands_by_name_and_number():
    data = np.stack([np.full((1, 2, 2), value, dtype=np.uint8) for value in (1, 2, 3)], axis=1)
    extractor = BandStatistics(statistics="mean", bands=["nir", 1])
    bound = extractor.for_bands(["red", "green", "nir"])
    assert bound.feature_names == ["nir_mean", "red_mean"]
    assert bound(data, all_valid(data)).tolist() == [[3, 1]]
    with pytest.raises(FeatureError, match="for_bands"):
        extractor(data, all_valid(data))
    with pytest.raises(FeatureError, match="no band 'nir'; their bands are red, green, blue"):
        extractor.for_bands(["red", "green", "blue"])
    with pytest.raises(FeatureError, match="band 3 is asked for, but the tiles have 2"):
        BandStatistics(bands=[3]).for_bands(["a", "b"])
    with pytest.raises(FeatureError, match="not known yet"):
        _ = BandStatistics().feature_names


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"windows_px": []}, "windows_px"),
        ({"windows_px": [4, 4]}, "windows_px"),
        ({"windows_px": [0]}, "windows_px"),
        ({"statistics": ["median"]}, "no statistic 'median'"),
        ({"statistics": ["p101"]}, "no statistic 'p101'"),
        ({"statistics": []}, "at least one"),
        ({"bands": [0]}, "counted from 1"),
        ({"bands": 1.5}, "expected a list"),
        ({"transform": "sqrt"}, "transform is 'sqrt'"),
        ({"transform": "log"}, "offset is None"),
        ({"transform": "log", "offset": 0}, "above zero"),
        ({"offset": 0.1}, "transform is not 'log'"),
        ({"min_valid": 1.5}, "min_valid is 1.5"),
        ({"context_px": -1}, "context_px is -1"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(FeatureError, match=message):
        BandStatistics(**parameters)


@pytest.mark.parametrize(
    ("shape", "valid_shape", "message"),
    [
        ((2, 1, 4, 5), (2, 4, 5), "square tiles"),
        ((2, 4, 4), (2, 4, 4), "square tiles"),
        ((2, 1, 4, 4), (2, 4, 3), "expected bool with shape"),
    ],
)
def test_wrong_arrays(shape, valid_shape, message):
    with pytest.raises(FeatureError, match=message):
        BandStatistics()(np.zeros(shape), np.ones(valid_shape, dtype=bool))


def test_windows_that_do_not_fit():
    data = np.zeros((1, 1, 8, 8))
    with pytest.raises(FeatureError, match="does not fit into tiles of 8 px"):
        BandStatistics(windows_px=[10])(data, all_valid(data))
    with pytest.raises(FeatureError, match="cannot lie in the middle of tiles of 8 px; take 4 or 6"):
        BandStatistics(windows_px=[5])(data, all_valid(data))
