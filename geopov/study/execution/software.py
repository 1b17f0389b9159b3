"""What a process runs, so that two of them can tell whether they compute alike."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from geopov import __version__

__all__ = ["differences", "software"]

# What decides numbers, or whether one process can read what another wrote.
_PACKAGES = (
    *("geopov", "dask", "distributed", "numpy", "scipy", "pandas", "scikit-learn", "rasterio", "pyproj", "shapely"),
    *("torch", "onnxruntime"),
)


def software() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers, as far as they are installed."""
    found = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found | {"geopov": __version__}


def differences(theirs: Mapping[str, str] | Exception) -> str:
    """What another process runs otherwise than this one, in words; empty if nothing."""
    if isinstance(theirs, Exception):
        return f"geopov {__version__} cannot be loaded ({type(theirs).__name__}: {theirs})"
    ours = software()
    names = [name for name in ("python", *_PACKAGES) if ours.get(name) != theirs.get(name)]
    return ", ".join(f"{name} {theirs.get(name, 'missing')} (here {ours.get(name, 'missing')})" for name in names)
