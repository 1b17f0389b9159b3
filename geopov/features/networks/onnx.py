"""Networks as ONNX Runtime runs them: one thread a pass, and the same bytes in any thread.

Imports torch; reached only through :mod:`geopov.features.networks.engines`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from geopov._optional import require

__all__ = ["Forward", "for_any_side", "for_one_shape"]

Forward = Callable[[torch.Tensor], npt.NDArray[np.float32]]
"""Images (n, 3, y, x), float32 on the CPU, to features (n, n_features) or to the network's final map."""


def for_one_shape(network: nn.Module, sample: torch.Tensor) -> Forward:
    """For images (n, c, y, x) shaped as ``sample``, for which it plans its memory."""
    return _forward(_exported(network, sample), plan=True)


def for_any_side(network: nn.Module, sample: torch.Tensor, *, stride_px: int) -> Forward | None:
    """For images whose sides differ from the sample's by multiples of ``stride_px``; None if that cannot be had.

    Exporting for any size at once can take minutes, and some networks then pad each image by what its sides leave over
    a stride. A fully convolutional network exported for one size holds nothing of that size but in the declarations of
    its inputs and outputs, which are opened here. Whether that is so shows an image of another size.
    """
    model = _exported(network, sample)
    for value in (*model.graph.input[:1], *model.graph.output):
        for axis in (2, 3):
            side = value.type.tensor_type.shape.dim[axis]
            side.ClearField("dim_value")
            side.dim_param = f"{value.name}_{axis}"
    # Shapes of all that lies between, which ONNX Runtime infers anew.
    del model.graph.value_info[:]
    forward = _forward(model, plan=False)
    height, width = sample.shape[2] + stride_px, sample.shape[3] + 2 * stride_px
    other = torch.rand(1, sample.shape[1], height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(other).numpy()
    try:
        got = forward(other)
    except Exception:  # its errors have no class in common but this
        return None
    same = got.shape == expected.shape and np.allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    return forward if same else None


def _exported(network: nn.Module, sample: torch.Tensor) -> Any:
    """The network as an ONNX model."""
    require("onnxscript", purpose="The engine 'onnxruntime'")
    program = torch.onnx.export(network, (sample,), dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto


def _forward(model: Any, *, plan: bool) -> Forward:
    onnxruntime = require("onnxruntime", purpose="The engine 'onnxruntime'")
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = plan
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name

    def forward(images: torch.Tensor) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(None, {source: images.numpy()})[0])

    return forward
