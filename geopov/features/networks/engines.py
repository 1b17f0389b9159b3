"""Ways to run a network's forward pass, equal in their numbers to about 1e-6 and unequal in their speed.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geopov._optional import is_available
from geopov.errors import FeatureError
from geopov.features._prefetch import prefetch
from geopov.features.networks import onnx
from geopov.features.networks.onnx import Forward

__all__ = [
    "EngineName",
    "Forward",
    "PooledNetwork",
    "choose_engine",
    "forward_all",
    "make_engine",
    "make_map_engine",
    "micro_batch",
    "one_thread",
    "torch_threads",
]

EngineName = Literal["auto", "eager", "fused", "onnxruntime", "cuda"]

# Pixels of one forward pass: on CPUs larger batches leave the caches and gain nothing, on GPUs smaller ones starve it.
# ONNX Runtime's passes have one thread, so that a smaller batch keeps it busy.
_PIXELS = {"eager": 64 * 96**2, "fused": 64 * 96**2, "onnxruntime": 4 * 224**2, "cuda": 256 * 224**2}
_LARGEST = {"eager": 64, "fused": 64, "onnxruntime": 64, "cuda": 1024}


class PooledNetwork(nn.Module):
    """A trunk whose final feature map is averaged over the middle of the image.

    Parameters
    ----------
    trunk : Module
        (n, 3, y, x) to (n, c, y', x').
    share : float
        Side of the middle as a share of the image's; 1 without context. Cells of the map that the middle covers in part
        count in proportion.
    """

    def __init__(self, trunk: nn.Module, *, share: float) -> None:
        super().__init__()
        self.trunk = trunk
        self.share = share

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, c) of images (n, 3, y, x)."""
        feature_map: torch.Tensor = self.trunk(images)
        if self.share == 1:
            return feature_map.mean((2, 3))
        rows, columns = (middle_weights(int(n), self.share) for n in feature_map.shape[2:])
        weights = torch.from_numpy(np.outer(rows, columns).astype(np.float32)).to(feature_map)
        return (feature_map * weights).sum((2, 3))


def middle_weights(n: int, share: float) -> npt.NDArray[np.float64]:
    """What each of ``n`` equal steps contributes to the mean over the middle ``share`` of their length."""
    edges = np.linspace(0, 1, n + 1)
    low, high = (1 - share) / 2, (1 + share) / 2
    overlap = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
    weights: npt.NDArray[np.float64] = overlap / overlap.sum()
    return weights


def choose_engine(name: EngineName) -> EngineName:
    """The engine that ``"auto"`` stands for on this machine: the GPU, else ONNX Runtime, else fused PyTorch.

    Raises
    ------
    FeatureError
        If there is no such engine, or no such device.
    """
    if name not in get_args(EngineName):
        raise FeatureError(f"there is no engine {name!r}; expected one of {', '.join(get_args(EngineName))}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise FeatureError("engine is 'cuda', but PyTorch sees no GPU here; take engine='auto'.")
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "onnxruntime" if is_available("onnxruntime") and is_available("onnxscript") else "fused"


def micro_batch(height: int, width: int, *, engine: EngineName) -> int:
    """Images in one forward pass: a power of two that depends on nothing but their size and the engine."""
    fitting = _PIXELS[engine] // (height * width)
    return int(min(_LARGEST[engine], 1 << max(fitting.bit_length() - 1, 0)))


def forward_all(
    forward: Forward, prepare: Callable[[int], torch.Tensor], n: int, *, engine: EngineName, threads: int | None
) -> Iterator[npt.NDArray[np.float32]]:
    """Micro-batches through a network, prepared where that costs least.

    ONNX Runtime computes several micro-batches at once with one thread each: threads that never wait for one another
    gain more than threads that share a micro-batch, above all beside those that read tiles; and the numbers do not
    depend on how many there are. A GPU computes one while a thread prepares the next. PyTorch's threads on a CPU share
    each.

    Parameters
    ----------
    forward : callable
        From :func:`make_engine`.
    prepare : callable
        From the number of a micro-batch to its images; called in any thread.
    n : int
        Number of micro-batches.
    engine : str
        As given to :func:`make_engine`.
    threads : int, optional
        On a CPU; default: PyTorch's number.

    Yields
    ------
    float32 array (images, n_features)
        In the order of the micro-batches.
    """
    workers = threads or torch.get_num_threads()
    if engine == "onnxruntime":
        # Threads of the pool take their number of threads from here.
        with torch_threads(1), ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda i: forward(prepare(i)), range(n))
    else:
        with torch_threads(workers):
            images = map(prepare, range(n))
            yield from map(forward, prefetch(images, depth=1) if engine == "cuda" else images)


def make_engine(name: EngineName, network: nn.Module, sample: torch.Tensor, *, half: bool) -> Forward:
    """Prepare a network for images shaped as ``sample``.

    Parameters
    ----------
    name : str
        As returned by :func:`choose_engine`.
    network : Module
        (n, 3, y, x) to (n, n_features), in evaluation mode.
    sample : Tensor (n, 3, y, x)
        Every later call has this shape, which lets ONNX Runtime plan, and makes a tile's numbers independent of how
        many others there are.
    half : bool
        Half precision, on a GPU only.
    """
    if name == "onnxruntime":
        return onnx.for_one_shape(network, sample)
    if name == "cuda":
        return _cuda(network, half)
    if name == "fused":
        network = fuse_batch_norm(network, sample).to(memory_format=torch.channels_last)
    layout = torch.channels_last if name == "fused" else torch.contiguous_format

    def forward(images: torch.Tensor) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(images.contiguous(memory_format=layout)).numpy())

    return forward


def make_map_engine(name: EngineName, trunk: nn.Module, sample: torch.Tensor, *, stride_px: int, half: bool) -> Forward:
    """Prepare a trunk for single large images, each computed by one thread.

    Unlike :func:`make_engine` it is called from several threads at once.

    Parameters
    ----------
    name : str
        As returned by :func:`choose_engine`.
    trunk : Module
        (1, n_bands, y, x) to (1, c, y', x'), in evaluation mode.
    sample : Tensor (1, n_bands, y, x)
        A small image that the trunk takes. The sides of later images differ from its own by multiples of the stride.
    stride_px : int
        Of the trunk.
    half : bool
        Half precision, on a GPU only.
    """
    if name == "onnxruntime":
        on_cpu = onnx.for_any_side(trunk, sample, stride_px=stride_px)
        return on_cpu or make_map_engine("fused", trunk, sample, stride_px=stride_px, half=False)
    forward, lock = make_engine(name, trunk, sample, half=half), threading.Lock()

    def alone(image: torch.Tensor) -> npt.NDArray[np.float32]:
        if name == "cuda":
            # One GPU computes one image after the other, and cuDNN's flags are the whole process's.
            with lock:
                return forward(image)
        with one_thread():
            return forward(image)

    return alone


_COUNTED = threading.Lock()
_inside = 0
_outside = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what PyTorch computes in this thread, while others may be within the block, too.

    PyTorch keeps its number of threads for each thread that has computed, and hands the last number that was set to
    threads yet to come. What was set before the first entered is what all have when they leave.
    """
    global _inside, _outside
    with _COUNTED:
        if not _inside:
            _outside = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _COUNTED:
            _inside -= 1
            torch.set_num_threads(_outside)


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """PyTorch's number of threads within the block; afterwards it is as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fuse_batch_norm(network: nn.Module, sample: torch.Tensor) -> nn.Module:
    """A copy in which each batch norm that follows a convolution is folded into it.

    Which follows which is found by watching one forward pass, so that no knowledge of the architecture is needed; the
    copy is then held against the original.

    Raises
    ------
    FeatureError
        If the folded network gives other numbers, as where a convolution's output is used twice.
    """
    fused = copy.deepcopy(network)
    for conv_name, norm_name in _conv_norm_pairs(fused, sample):
        conv, norm = fused.get_submodule(conv_name), fused.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        fused.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        # timm's batch norms carry the activation with them.
        fused.set_submodule(norm_name, getattr(norm, "act", nn.Identity()))
    with torch.inference_mode():
        expected, got = network(sample), fused(sample)
    if not torch.allclose(expected, got, rtol=0, atol=1e-4 * float(expected.abs().max())):
        raise FeatureError("folding batch norms changes this network's numbers; take engine='eager'.")
    return fused


def _conv_norm_pairs(network: nn.Module, sample: torch.Tensor) -> list[tuple[str, str]]:
    outputs: dict[int, tuple[str, torch.Tensor]] = {}
    pairs: list[tuple[str, str]] = []
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):

            def after(_: nn.Module, __: Any, output: torch.Tensor, name: str = name) -> None:
                # Held on to, so that no later tensor gets the same id.
                outputs[id(output)] = (name, output)

            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, nn.BatchNorm2d):

            def before(_: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
                if id(inputs[0]) in outputs:
                    pairs.append((outputs[id(inputs[0])][0], name))

            hooks.append(module.register_forward_pre_hook(before))
    try:
        with torch.inference_mode():
            network(sample[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _cuda(network: nn.Module, half: bool) -> Forward:
    network = copy.deepcopy(network).to("cuda").to(memory_format=torch.channels_last)

    def forward(images: torch.Tensor) -> npt.NDArray[np.float32]:
        # TF32 keeps ten bits, fewer than the agreement with CPUs that is promised.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=half)
        with torch.inference_mode(), exact, torch.autocast("cuda", dtype=torch.float16, enabled=half):
            # Only from pinned memory does a copy run beside the computing.
            ready = images if images.is_cuda else images.pin_memory().to("cuda", non_blocking=True)
            placed = ready.contiguous(memory_format=torch.channels_last)
            return np.asarray(network(placed).float().cpu().numpy())

    return forward
