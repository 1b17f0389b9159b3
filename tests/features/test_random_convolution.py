from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geopov.errors import FeatureError, MissingDependencyError
from geopov.features import build, extract, extractor_names


def convolution(**parameters):
    return build({"name": "random_convolution", "n_features": 8, "lo": 0, "hi": 1} | parameters)


def all_valid(data):
    return np.ones((len(data), *data.shape[2:]), dtype=bool)


def by_hand(extractor, tile, valid, *, context_px=0, bias=0.0):
    """Both signs of every filter at every position, in plain loops over unit pixel values (band, y, x)."""
    filters = extractor.filters(len(tile)).astype(float)
    size, k = tile.shape[-1], filters.shape[-1]
    reach = k // 2
    found = []
    for middle_y in range(reach, size - reach):
        for middle_x in range(reach, size - reach):
            inside = all(context_px <= middle < size - context_px for middle in (middle_y, middle_x))
            window = np.s_[middle_y - reach : middle_y + reach + 1, middle_x - reach : middle_x + reach + 1]
            if inside and valid[window].all():
                responses = [float(np.sum(tile[:, *window] * kernel)) for kernel in filters]
                found.append([max(0, sign * r - bias) for sign in (1, -1) for r in responses])
    return np.mean(found, axis=0) if found else np.full(2 * len(filters), np.nan)


@settings(max_examples=40, deadline=None)
@given(
    data=hnp.arrays(np.float32, (2, 2, 7, 7), elements=st.floats(0, 1, width=32)),
    valid=hnp.arrays(np.bool_, (2, 7, 7), elements=st.sampled_from([True, True, True, True, True, False])),
    patch_px=st.sampled_from([1, 3, 5]),
    context_px=st.integers(0, 2),
    bias=st.sampled_from([0.0, 0.2]),
)
def test_equals_loops_on_any_holes(data, valid, patch_px, context_px, bias):
    extractor = convolution(patch_px=patch_px, context_px=context_px, bias=bias, min_valid=0)
    rows = extractor(data, valid)
    for tile in range(2):
        middle = valid[tile, context_px : 7 - context_px, context_px : 7 - context_px]
        expected = by_hand(extractor, data[tile], valid[tile], context_px=context_px, bias=bias)
        if not middle.any():
            expected = np.full(8, np.nan)
        np.testing.assert_allclose(rows[tile], expected, rtol=1e-4, atol=1e-5)


def test_filters_are_of_unit_norm_and_differ():
    filters = convolution(n_features=40).filters(3)
    assert filters.shape == (20, 3, 3, 3)
    flat = filters.reshape(20, -1)
    overlaps = np.abs(flat @ flat.T)
    np.testing.assert_allclose(np.diag(overlaps), 1, rtol=1e-6)
    assert overlaps[~np.eye(20, dtype=bool)].max() < 0.95
    assert not np.array_equal(filters, convolution(n_features=40, seed=1).filters(3))


def test_both_signs_add_up_to_the_response_of_a_flat_image():
    data = np.full((1, 1, 6, 6), 0.5, dtype=np.float32)
    extractor = convolution()
    positive, negative = np.split(extractor(data, all_valid(data))[0], 2)
    sums = 0.5 * extractor.filters(1).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(positive - negative, sums, atol=1e-6)
    assert not np.any((positive > 0) & (negative > 0))
    assert np.any(positive > 0)
    assert np.any(negative > 0)


def test_features_scale_with_the_image_and_do_not_see_where_things_are(rng):
    data = np.zeros((1, 1, 20, 20), dtype=np.float32)
    data[0, 0, 4:8, 4:8] = rng.random((4, 4))
    extractor = convolution()
    row = extractor(data, all_valid(data))
    # The square stays clear of the edges, so that each of its patches is met once wherever it lies.
    moved = extractor(np.roll(data, (7, 5), axis=(2, 3)), all_valid(data))
    np.testing.assert_allclose(moved, row, rtol=1e-5)
    np.testing.assert_allclose(extractor(0.25 * data, all_valid(data)), 0.25 * row, rtol=1e-5)


def test_a_tile_does_not_depend_on_its_company(rng):
    data = rng.random((12, 2, 9, 9)).astype(np.float32)
    valid = rng.random((12, 9, 9)) > 0.05
    extractor = convolution()
    alone = np.concatenate([extractor(data[i : i + 1], valid[i : i + 1]) for i in range(12)])
    assert np.array_equal(extractor(data, valid), alone, equal_nan=True)


def test_what_invalid_pixels_hold_does_not_matter(rng):
    data = rng.random((1, 1, 9, 9)).astype(np.float32)
    valid = all_valid(data)
    valid[0, 2:4, 3] = False
    extractor = convolution()
    row = extractor(data, valid)
    for nonsense in (np.nan, np.inf, -32768):
        data[0, 0, ~valid[0]] = nonsense
        assert np.array_equal(extractor(data, valid), row)
    assert np.isfinite(row).all()


def test_rows_without_a_whole_patch_or_with_too_few_pixels_are_nan():
    data = np.full((3, 1, 6, 6), 0.5, dtype=np.float32)
    valid = all_valid(data)
    valid[1, ::3, :] = False  # two rows in three are valid, but no patch is whole
    valid[2, 2:] = False
    rows = convolution(min_valid=0.4)(data, valid)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, True]


def test_a_valid_pixel_that_is_no_number_leaves_no_features():
    data = np.full((1, 1, 6, 6), 0.5, dtype=np.float32)
    data[0, 0, 3, 3] = np.nan
    assert np.isnan(convolution()(data, all_valid(data))).all()


def test_stretches_are_taken_before_the_filters(rng):
    unit = rng.random((2, 2, 6, 6)).astype(np.float32)
    expected = convolution()(unit, all_valid(unit))
    linear = 10 + unit * np.array([90, 5], dtype=np.float32)[:, None, None]
    found = convolution(lo=10, hi=[100, 15])(linear, all_valid(unit))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    log = np.float32(0.1) * np.float32(1000) ** unit
    found = convolution(stretch="log", lo=0.1, hi=100)(log, all_valid(unit))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    clipped = convolution()(np.where(unit > 0.5, 1e6, -5).astype(np.float32), all_valid(unit))
    np.testing.assert_allclose(clipped, convolution()((unit > 0.5).astype(np.float32), all_valid(unit)), rtol=1e-6)


def test_bytes_need_no_limits(rng):
    data = rng.integers(0, 256, (2, 1, 6, 6), dtype=np.uint8)
    bare = build({"name": "random_convolution", "n_features": 8})
    expected = convolution()(data.astype(np.float32) / 255, all_valid(data))
    np.testing.assert_allclose(bare(data, all_valid(data)), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(FeatureError, match="no limits for its linear stretch"):
        bare(data.astype(np.uint16), all_valid(data))


def test_large_tiles_are_convolved_with_a_few_filters_at_a_time(rng, monkeypatch):
    data = rng.random((1, 3, 40, 40)).astype(np.float32)
    whole = convolution(n_features=120)(data, all_valid(data))
    monkeypatch.setattr("geopov.features.random_convolution._RESPONSES", 1)
    np.testing.assert_allclose(convolution(n_features=120)(data, all_valid(data)), whole, rtol=1e-5)


def test_bands_by_name_and_number(rng):
    data = rng.random((1, 3, 6, 6)).astype(np.float32)
    bound = convolution(bands=["nir", 1]).for_bands(["red", "green", "nir"])
    expected = convolution()(data[:, [2, 0]], all_valid(data))
    assert np.array_equal(bound(data, all_valid(data)), expected)
    with pytest.raises(FeatureError, match="no band 'nir'"):
        bound.for_bands(["red", "green", "blue"])
    with pytest.raises(FeatureError, match="lo has 2 values for 3 bands"):
        convolution(lo=[0, 0]).for_bands(["red", "green", "blue"])


def test_a_specification_makes_it_again(fake_tiles, rng):
    tiles = fake_tiles(rng.random((4, 2, 8, 8)), band_names=["a", "b"], context_px=1)
    extractor = convolution(bands=["b", 1], stretch="log", lo=[0.1, 0.2], seed=3, patch_px=5, context_px=1, bias=0.01)
    array = extract(extractor, tiles)
    assert extract(build(json.loads(json.dumps(extractor.spec()))), tiles).identical(array)
    assert array["feature"].to_numpy()[[0, 3, 4, 7]].tolist() == ["c0000_pos", "c0003_pos", "c0000_neg", "c0003_neg"]
    assert "not patches of images" in json.loads(json.dumps(extractor.provenance()))["filters"]


def test_named_only_where_torch_is(monkeypatch):
    assert "random_convolution" in extractor_names()
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    assert "random_convolution" not in extractor_names()
    with pytest.raises(MissingDependencyError, match=r"'random_convolution' needs the package 'torch'"):
        build("random_convolution")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_features": 7}, "n_features is 7; expected an even number"),
        ({"n_features": 0}, "n_features is 0"),
        ({"patch_px": 4}, "patch_px is 4; expected an odd number"),
        ({"patch_px": 3.0}, "patch_px is 3.0"),
        ({"seed": -1}, "seed is -1"),
        ({"bias": float("inf")}, "bias is inf"),
        ({"bands": [0]}, "counted from 1"),
        ({"stretch": "sqrt"}, "stretch is 'sqrt'"),
        ({"lo": None}, "one of lo and hi is given without the other"),
        ({"lo": 2}, "expected lo below hi"),
        ({"lo": [0, 2]}, "expected lo below hi"),
        ({"lo": [0, 0], "hi": [1, 1, 1]}, "lo has 2 values and hi 3"),
        ({"lo": []}, r"lo is \[\]"),
        ({"lo": "0"}, "lo is '0'; expected a finite number"),
        ({"stretch": "log"}, "needs it above zero"),
        ({"min_valid": 2}, "min_valid is 2"),
        ({"context_px": -1}, "context_px is -1"),
        ({"patch": 3}, "no parameter 'patch'; did you mean 'patch_px'"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(FeatureError, match=message):
        convolution(**parameters)


def test_patches_must_fit():
    data = np.zeros((1, 1, 4, 4), dtype=np.float32)
    with pytest.raises(FeatureError, match="patches of 5 px do not fit into tiles of 4 px"):
        convolution(patch_px=5)(data, all_valid(data))
