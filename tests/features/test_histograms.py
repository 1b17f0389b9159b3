from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geopov.errors import FeatureError
from geopov.features import BandHistograms, build, extract


def all_valid(data):
    return np.ones((len(data), *data.shape[2:]), dtype=bool)


def test_hand_counted_answer():
    data = np.array([[[[-5, 0], [1, 7]], [[10, 10], [19, 20]]]], dtype=np.int16)
    extractor = BandHistograms(edges=[[0, 1, 5], [20]])
    assert extractor(data, all_valid(data)).tolist() == [[0.25, 0.25, 0.25, 0.25, 0.75, 0.25]]
    names = ["red_bin00", "red_bin01", "red_bin02", "red_bin03", "nir_bin00", "nir_bin01"]
    assert extractor.for_bands(["red", "nir"]).feature_names == names


@settings(max_examples=60, deadline=None)
@given(
    data=hnp.arrays(np.float32, (3, 2, 5, 5), elements=st.floats(-10, 10, width=32)),
    valid=hnp.arrays(np.bool_, (3, 5, 5)),
    edges=st.lists(st.integers(-9, 9), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_equals_numpy_on_any_holes(data, valid, edges):
    rows = BandHistograms(edges=edges, min_valid=0)(data, valid)
    for tile in range(3):
        seen = valid[tile]
        if not seen.any():
            assert np.isnan(rows[tile]).all()
            continue
        bins = [-np.inf, *edges, np.inf]
        expected = [np.histogram(data[tile, band][seen], bins)[0] / seen.sum() for band in range(2)]
        np.testing.assert_allclose(rows[tile], np.concatenate(expected), rtol=1e-6)


def test_a_tile_does_not_depend_on_its_company_nor_on_its_context(rng):
    data = rng.gamma(0.5, 3, (20, 1, 8, 8)).astype(np.float32)
    valid = rng.random((20, 8, 8)) > 0.2
    extractor = BandHistograms(edges=[0.5, 1, 2], context_px=2)
    together = extractor(data, valid)
    alone = np.concatenate([extractor(data[i : i + 1], valid[i : i + 1]) for i in range(20)])
    assert np.array_equal(together, alone, equal_nan=True)
    inner = BandHistograms(edges=[0.5, 1, 2])(data[:, :, 2:6, 2:6], valid[:, 2:6, 2:6])
    assert np.array_equal(together, inner, equal_nan=True)


def test_what_invalid_pixels_hold_does_not_matter_but_valid_ones_must_be_numbers():
    data = np.ones((4, 1, 4, 4), dtype=np.float32)
    valid = all_valid(data)
    data[0, 0, 0, 0], valid[0, 0, 0] = np.nan, False
    data[1, 0, 0, 0] = np.nan
    data[2, 0, 0, 0] = np.inf
    valid[3, :, :3] = False
    rows = BandHistograms(edges=[0])(data, valid)
    assert rows[0].tolist() == [0, 1]
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, True, True]


def test_a_specification_makes_it_again(fake_tiles, rng):
    tiles = fake_tiles(rng.random((4, 2, 6, 6)), band_names=["a", "b"])
    extractor = build({"name": "band_histograms", "edges": [0.2, 0.5], "bands": ["b", 1]})
    array = extract(extractor, tiles)
    assert array["feature"].to_numpy().tolist() == [f"{band}_bin0{number}" for band in "ba" for number in range(3)]
    assert extract(build(json.loads(json.dumps(extractor.spec()))), tiles).identical(array)
    assert json.loads(json.dumps(extractor.provenance()))["extractor"] == extractor.spec()
    with pytest.raises(FeatureError, match="no band 'b'"):
        extractor.for_bands(["red", "green"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"edges": []}, "expected a list of increasing numbers"),
        ({"edges": 3}, "expected a list of increasing numbers"),
        ({"edges": [[1], []]}, "expected a list of increasing numbers"),
        ({"edges": [[1], 2]}, "expected a list of increasing numbers"),
        ({"edges": [1, 1]}, "each above the one before"),
        ({"edges": [1, float("nan")]}, "each above the one before"),
        ({"edges": [1, "2"]}, "each above the one before"),
        ({"edges": [1], "bands": [0]}, "counted from 1"),
        ({"edges": [1], "min_valid": -1}, "min_valid is -1"),
        ({"edges": [1], "context_px": 0.5}, "context_px is 0.5"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(FeatureError, match=message):
        BandHistograms(**parameters)


def test_edges_and_bands_must_agree():
    with pytest.raises(FeatureError, match="edges has 2 lists for 3 bands"):
        BandHistograms(edges=[[1], [2]]).for_bands(["a", "b", "c"])
    with pytest.raises(FeatureError, match="not known yet"):
        _ = BandHistograms(edges=[1]).feature_names
    with pytest.raises(FeatureError, match="needs its 'edges'"):
        build("band_histograms")
    with pytest.raises(FeatureError, match="no parameter 'edge'; did you mean 'edges'"):
        build({"name": "band_histograms", "edge": [1]})
