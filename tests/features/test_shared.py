from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geopov.errors import FeatureError
from geopov.features import build
from geopov.features.networks.engines import one_thread
from geopov.features.networks.sliding import box_means, valid_counts
from geopov.features.shared import alignment_px, block_bytes, block_features, shares_computation, tile_features

# SqueezeNet sees 112 px beyond its own 16 px squares.
EXACT_PX, STRIDE_PX = 112, 16


def network(context_px=EXACT_PX, **parameters):
    spec = {"name": "squeezenet1_1", "weights": None, "context_px": context_px, "engine": "fused", "threads": 1}
    return build(spec | parameters).for_bands(["red", "green", "blue"])


@pytest.fixture(scope="module")
def slid():
    return network()


@pytest.fixture(scope="module")
def block():
    """Pixels (3, 352, 400) and where they are valid."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (3, 44, 50)).astype(float)
    data = np.clip(np.kron(coarse, np.ones((8, 8))) + rng.normal(0, 20, (3, 352, 400)), 0, 255).astype(np.uint8)
    return data, np.ones(data.shape[1:], dtype=bool)


def crops(data, valid, left, top, side):
    cut = [(slice(y, y + side), slice(x, x + side)) for y, x in zip(top, left, strict=True)]
    return np.stack([data[:, y, x] for y, x in cut]), np.stack([valid[y, x] for y, x in cut])


def apart(found, expected):
    return np.linalg.norm(found - expected, axis=1).max() / np.linalg.norm(expected, axis=1).min()


@pytest.mark.parametrize(
    ("size_px", "context_px", "parameters"),
    [(64, 112, {}), (50, 60, {}), (90, 40, {"input_px": 64}), (33, 7, {"input_px": 75})],
)
def test_a_block_that_is_one_tile_is_that_tile(size_px, context_px, parameters, rng):
    extractor = network(context_px, **parameters)
    side = size_px + 2 * context_px
    data, valid = rng.integers(0, 256, (3, side, side), dtype=np.uint8), rng.random((side, side)) < 0.9
    at = np.array([context_px])
    found = block_features(extractor, data, valid, left=at, top=at, size_px=size_px)
    assert found.dtype == np.float32
    assert apart(found, extractor(data[None], valid[None])) < 2e-6


@pytest.mark.parametrize("size_px", [64, 50])
def test_tiles_on_the_lattice_are_crops_with_their_context(slid, block, size_px):
    data, valid = block
    left = np.array([112, 128, 160, 208]) if size_px == 64 else np.array([112, 144, 160, 224])
    top = np.array([112, 160, 144, 128])
    found = block_features(slid, data, valid, left=left, top=top, size_px=size_px)
    cut = crops(data, valid, left - EXACT_PX, top - EXACT_PX, size_px + 2 * EXACT_PX)
    assert apart(found, slid(*cut)) < 1e-5


def test_resized_tiles_on_the_lattice_are_crops(block):
    # 40 px become 80: a stride of 16 is 8 px of the tiles, and 60 px hold all that the network sees.
    extractor, (data, valid) = network(60, input_px=80), block
    left, top = np.array([60, 68, 140, 300]), np.array([60, 84, 148, 100])
    found = block_features(extractor, data, valid, left=left, top=top, size_px=40)
    assert apart(found, extractor(*crops(data, valid, left - 60, top - 60, 160))) < 1e-5


@pytest.mark.parametrize(("size_px", "parameters"), [(64, {}), (40, {"input_px": 80})])
def test_tiles_anywhere_are_crops_that_are_aligned(block, size_px, parameters):
    """With all that the network sees, and a stride to lay the crop's cells where the block's are."""
    extractor, (data, valid) = network(128 if not parameters else 64, **parameters), block
    context_px, step = extractor.context_px, alignment_px(extractor, size_px=size_px)
    assert step == (8 if parameters else 16)
    left, top = np.array([128, 133, 151, 200]), np.array([128, 147, 139, 130])
    found = block_features(extractor, data, valid, left=left, top=top, size_px=size_px)
    cut = crops(data, valid, left - context_px, top - context_px, size_px + 2 * context_px)
    corners = np.stack([left, top], axis=1) - context_px
    assert apart(tile_features(extractor, *cut, corners), found) < 1e-5
    # The block begins at a multiple of the step on its scene; crops are counted from there.
    assert apart(tile_features(extractor, *cut, corners + 5 * step), found) < 1e-5
    assert apart(tile_features(extractor, *cut, corners + 3), found) > 1e-3


def test_rows_depend_on_their_own_place_alone(slid, block):
    data, valid = block
    left, top = np.array([112, 150, 201]), np.array([140, 112, 160])
    together = block_features(slid, data, valid, left=left, top=top, size_px=64)
    for i in range(3):
        alone = block_features(slid, data, valid, left=left[i : i + 1], top=top[i : i + 1], size_px=64)
        assert alone.tobytes() == together[i : i + 1].tobytes()
    turned = block_features(slid, data, valid, left=left[::-1], top=top[::-1], size_px=64)
    assert turned[::-1].tobytes() == together.tobytes()


def test_threads_at_once_give_the_same_bytes(block):
    data, valid = block
    at = np.array([112, 130])
    before = torch.get_num_threads()
    expected = block_features(network(), data, valid, left=at, top=at, size_px=64).tobytes()
    shared = network()
    with ThreadPoolExecutor(3) as pool:
        found = list(
            pool.map(lambda _: block_features(shared, data, valid, left=at, top=at, size_px=64).tobytes(), range(4))
        )
    assert set(found) == {expected}
    assert torch.get_num_threads() == before


def test_one_thread_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before


def test_parts_that_cannot_be_slid_are_crops_to_the_bit(block, rng):
    data, _ = block
    valid = rng.random(data.shape[1:]) < 0.8
    extractor = build(
        [
            {"name": "band_statistics", "windows_px": [30, 8], "context_px": 5},
            {"name": "band_histograms", "edges": [0, 50, 100, 200, 255], "context_px": 5},
            {"name": "random_convolution", "n_features": 8, "context_px": 5},
        ]
    ).for_bands(["red", "green", "blue"])
    assert not shares_computation(extractor)
    left, top = rng.integers(5, 300, 150), rng.integers(5, 300, 150)
    found = block_features(extractor, data, valid, left=left, top=top, size_px=30)
    expected = extractor(*crops(data, valid, left - 5, top - 5, 40))
    assert found.tobytes() == expected.tobytes()


def test_side_by_side_a_network_and_statistics(slid, block):
    data, valid = block
    both = build([slid.spec(), {"name": "band_mean", "context_px": EXACT_PX}]).for_bands(["red", "green", "blue"])
    assert shares_computation(both)
    valid = valid.copy()
    valid[112:150, 112:176] = False
    left, top = np.array([112, 200]), np.array([112, 112])
    found = block_features(both, data, valid, left=left, top=top, size_px=64)
    assert found.shape == (2, len(both.feature_names))
    # Of the first tile 38 of 64 rows are invalid, and half is asked for.
    assert np.isnan(found).all(axis=1).tolist() == [True, False]
    assert found[1, -3:].tobytes() == both.parts[1](*crops(data, valid, left - 112, top - 112, 288))[1].tobytes()


def test_without_a_valid_tile_nothing_is_computed(slid, block):
    data, valid = block
    found = block_features(slid, data, np.zeros_like(valid), left=np.array([112]), top=np.array([112]), size_px=64)
    assert np.isnan(found).all()
    none = block_features(slid, data, valid, left=np.array([], int), top=np.array([], int), size_px=64)
    assert none.shape == (0, 512)


def test_one_broken_pixel_costs_the_tiles_that_see_it(block):
    extractor = network(lo=0, hi=255)
    data = block[0].astype(np.float32)
    data[0, 130, 120] = np.nan
    found = block_features(extractor, data, block[1], left=np.array([112, 272]), top=np.array([112, 112]), size_px=16)
    assert np.isnan(found).all(axis=1).tolist() == [True, False]


def test_what_can_be_slid():
    assert shares_computation(network())
    assert not shares_computation(network(0))
    excited = build({"name": "mobilenet_v3_small", "weights": None, "context_px": 32, "engine": "eager"})
    assert not shares_computation(excited)
    data, valid = np.zeros((3, 128, 128), np.uint8), np.ones((128, 128), bool)
    at = np.array([32])
    # It still answers, crop by crop.
    assert block_features(excited, data, valid, left=at, top=at, size_px=64).shape == (1, 576)
    with pytest.raises(FeatureError, match="looks at the whole image"):
        excited.block_features(data, valid, left=at, top=at, size_px=64)
    with pytest.raises(FeatureError, match="without context"):
        network(0).block_features(data, valid, left=at, top=at, size_px=64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": np.array([111])}, "tile 0 begins at left=111"),
        ({"top": np.array([200])}, "inside the block of 352 x 400 px"),
        ({"top": np.array([112, 112])}, "one a tile"),
        ({"left": np.array([112.0])}, "whole numbers"),
        ({"size_px": 0}, "size_px is 0"),
        ({"valid": np.ones((352, 400))}, "expected bool"),
        ({"data": np.ones((1, 3, 352, 400))}, "expected a block"),
    ],
)
def test_blocks_that_do_not_fit(slid, block, change, message):
    given = {"data": block[0], "valid": block[1], "left": np.array([112]), "top": np.array([112]), "size_px": 64}
    given |= change
    with pytest.raises(FeatureError, match=message):
        block_features(slid, given.pop("data"), given.pop("valid"), **given)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_means_over_boxes_are_those_of_finer_cells(drawn):
    height, width, fine = drawn.draw(st.integers(1, 5)), drawn.draw(st.integers(1, 5)), 4
    seed = drawn.draw(st.integers(0, 100))
    cells = np.random.default_rng(seed).normal(size=(3, height, width)).astype(np.float32)
    top, left = drawn.draw(st.integers(0, height * fine - 1)), drawn.draw(st.integers(0, width * fine - 1))
    bottom = drawn.draw(st.integers(top + 1, height * fine))
    right = drawn.draw(st.integers(left + 1, width * fine))
    found = box_means(
        cells,
        (np.array([top / fine]), np.array([bottom / fine])),
        (np.array([left / fine]), np.array([right / fine])),
    )
    finer = np.kron(cells, np.ones((fine, fine)))
    np.testing.assert_allclose(found[0], finer[:, top:bottom, left:right].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_valid_pixels_are_counted(rng):
    valid = rng.random((30, 40)) < 0.5
    left, top = rng.integers(0, 30, 20), rng.integers(0, 20, 20)
    found = valid_counts(valid, left=left, top=top, size_px=10)
    assert found.tolist() == [int(valid[y : y + 10, x : x + 10].sum()) for y, x in zip(top, left, strict=True)]


def test_memory_grows_with_the_block_and_the_networks_input():
    extractor = network()
    small, large = block_bytes(extractor, 256), block_bytes(extractor, 512)
    assert 3.5 < large / small < 4.5
    resized = network(60, input_px=80)
    # 256 px of tiles of 40 px that become 80 are 512 px to the network.
    assert block_bytes(resized, 256, size_px=40) > 0.9 * large
    assert block_bytes(build([extractor.spec(), {"name": "band_mean", "context_px": EXACT_PX}]), 512) >= large


def test_importing_it_imports_no_torch():
    code = "import sys, geopov.features.shared, geopov.features.context; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
