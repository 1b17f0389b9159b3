from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from geopov.features import build
from geopov.features.networks import onnx
from geopov.features.networks.engines import PooledNetwork, forward_all, make_engine, make_map_engine, micro_batch

CPU_ENGINES = ["eager", "fused", "onnxruntime"]


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
        trunk[1].running_mean.normal_()
        trunk[1].running_var.uniform_(0.5, 2)
    return PooledNetwork(trunk.eval().requires_grad_(False), share=1).eval()


@pytest.fixture(scope="module")
def parts():
    return torch.rand(5, 4, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def features(engine, network, parts, threads):
    forward = make_engine(engine, network, parts[0], half=False)
    return np.stack(list(forward_all(forward, lambda i: parts[i], len(parts), engine=engine, threads=threads)))


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_every_engine_gives_the_features_in_order(engine, network, parts):
    with torch.inference_mode():
        expected = np.stack([network(part).numpy() for part in parts])
    found = features(engine, network, parts, threads=2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_number_of_threads_changes_no_bit_of_onnxruntime(network, parts):
    one, three = (features("onnxruntime", network, parts, threads=threads) for threads in (1, 3))
    assert np.array_equal(one, three)


@pytest.mark.parametrize("engine", ["fused", "onnxruntime"])
def test_a_tile_does_not_depend_on_its_company(engine, rng):
    data = rng.integers(0, 256, (70, 3, 32, 32), dtype=np.uint8)
    valid = np.ones((70, 32, 32), dtype=bool)
    valid[[3, 68]] = False
    extractor = build({"name": "squeezenet1_1", "weights": None, "engine": engine, "threads": 2})
    together, order = extractor(data, valid), rng.permutation(70)
    assert np.flatnonzero(np.isnan(together).any(axis=1)).tolist() == [3, 68]
    assert np.array_equal(extractor(data[order], valid[order]), together[order], equal_nan=True)
    assert np.array_equal(extractor(data[60:], valid[60:]), together[60:], equal_nan=True)
    assert np.isnan(extractor(data[[3]], valid[[3]])).all()


def test_onnxruntime_computes_micro_batches_side_by_side():
    # Neither can go on before the other has come: computed one after the other they would wait in vain.
    both = threading.Barrier(2, timeout=20)

    def forward(images):
        both.wait()
        return images.numpy()

    found = list(forward_all(forward, lambda i: torch.full((1,), float(i)), 4, engine="onnxruntime", threads=2))
    assert [part.item() for part in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("engine", [*CPU_ENGINES, "cuda"])
def test_an_error_in_preparing_comes_through_and_threads_are_given_back(engine):
    before = torch.get_num_threads()

    def prepare(part):
        if part == 1:
            raise ValueError("no such tile")
        return torch.zeros(1)

    with pytest.raises(ValueError, match="no such tile"):
        list(forward_all(lambda images: images.numpy(), prepare, 3, engine=engine, threads=before + 1))
    assert torch.get_num_threads() == before


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([*CPU_ENGINES, "cuda"]))
def test_micro_batches_are_powers_of_two_and_shrink_with_the_image(height, width, engine):
    n = micro_batch(height, width, engine=engine)
    assert n >= 1
    assert n & (n - 1) == 0
    assert micro_batch(2 * height, width, engine=engine) in (n, n // 2 or 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 1e-2)])
def test_a_gpu_agrees(network, parts, half, tolerance):
    forward = make_engine("cuda", network, parts[0], half=half)
    found = np.stack(list(forward_all(forward, lambda i: parts[i], len(parts), engine="cuda", threads=None)))
    expected = features("eager", network, parts, threads=1)
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


class _Trimmed(nn.Module):
    """Leaves out the last row, whose number the graph then holds."""

    def forward(self, images):
        return images[:, :, : images.shape[2] - 1]


class _PadsToStride(nn.Module):
    """Pads as TensorFlow does: by what the sides leave over the stride."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, images):
        below, right = (-int(side) % 4 for side in images.shape[2:])
        return self.convolution(nn.functional.pad(images, (0, right, 0, below)))


@pytest.mark.parametrize("over", [(0, 0), (1, 3)])
def test_one_export_serves_images_of_any_side(network, over):
    trunk = _PadsToStride(network.trunk).eval()
    forward = onnx.for_any_side(trunk, torch.zeros(1, 3, 32 + over[0], 40 + over[1]), stride_px=4)
    assert forward is not None
    for sides in ((8, 12), (64, 20), (200, 340)):
        image = torch.rand(1, 3, *(side + more for side, more in zip(sides, over, strict=True)))
        with torch.inference_mode():
            expected = trunk(image).numpy()
        np.testing.assert_allclose(forward(image), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_network_that_holds_the_size_of_its_export_runs_without(network):
    trunk, sample = nn.Sequential(network.trunk, _Trimmed()).eval(), torch.zeros(1, 3, 64, 64)
    assert onnx.for_any_side(trunk, sample, stride_px=4) is None
    image = torch.rand(1, 3, 96, 80)
    with torch.inference_mode():
        expected = trunk(image).numpy()
    found = make_map_engine("onnxruntime", trunk, sample, stride_px=4, half=False)(image)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
