"""Weights as named tensors: read from files without running anything in them, and loaded into networks.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from geopov._validation import some
from geopov.errors import FeatureError

__all__ = ["State", "load_state", "read_state"]

State = dict[str, torch.Tensor]


def read_state(path: Path) -> State:
    """A state dict from a ``.pth`` or ``.safetensors`` file, loaded without running anything in it.

    Raises
    ------
    FeatureError
        If there is no such file, or it holds anything but named tensors.
    """
    if not path.is_file():
        raise FeatureError(
            f"there are no weights {path}; expected 'imagenet', a .pth file, or null for a random start."
        )
    try:
        state = _read(path)
    except Exception as error:  # bytes that are no weights make the reader fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureError(
            f"{path} does not load as plain weights ({reason}). Save them with torch.save(model.state_dict(), path)."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FeatureError(f"{path} is no state dict of tensors; save it with torch.save(model.state_dict(), path).")
    return state


def _read(path: Path) -> State:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_state(network: nn.Module, state: State, *, head: tuple[str, ...], source: str) -> None:
    """Load all but the head, which may have been trained for other classes.

    Raises
    ------
    FeatureError
        If the weights are those of another network.
    """
    # Files published before 2020 write the layers of a DenseNet as norm.1, and count no batches.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): value for key, value in state.items()}
    own = network.state_dict()
    wanted = {key: value.shape for key, value in own.items() if not key.startswith(head)}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own and not key.startswith(head)]
    reshaped = [
        f"{key} {tuple(state[key].shape)} not {tuple(shape)}"
        for key, shape in wanted.items()
        if key in state and state[key].shape != shape
    ]
    problems = [
        f"{label}: {some(keys)}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if keys
    ]
    if problems:
        raise FeatureError(f"{source} holds the weights of another network; {'; '.join(problems)}.")
    network.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
