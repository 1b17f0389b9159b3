"""Optional dependencies: probed without importing them, and asked for by name with the line that installs them."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from geopov.errors import MissingDependencyError

# module -> the extra of pyproject.toml that brings it
_EXTRA = {
    "torch": "cnn",
    "torchvision": "cnn",
    "timm": "cnn",
    "lightning": "cnn",
    "captum": "explain",
    "tensorboard": "tensorboard",
    "himalaya": "fusion",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "snakemake": "pipelines",
    "pystac": "stac",
    "jsonschema": "stac",
    "distributed": "scale",
    "snakemake_executor_plugin_slurm": "slurm",
}


def is_available(module: str) -> bool:
    """Whether ``module`` could be imported, found out without importing it."""
    return importlib.util.find_spec(module) is not None


def require(module: str, *, purpose: str) -> ModuleType:
    """Import and return ``module``, or say what needs it and how to install it.

    Parameters
    ----------
    module : str
        Top-level module name, e.g. ``"torch"``.
    purpose : str
        What the caller wants it for, as the subject of a sentence: ``"Extracting CNN features"``.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    if not is_available(module):
        extra = _EXTRA.get(module)
        install = f"geopov[{extra}]" if extra else module
        raise MissingDependencyError(
            f"{purpose} needs the package {module!r}, which is not installed. Run: pip install '{install}'"
        )
    return importlib.import_module(module)
