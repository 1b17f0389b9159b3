"""geopov: satellite images and a household survey in, poverty and density maps out.

The stages are modules of their own, loaded when first used::

    geopov.catalog      named, verified inputs
    geopov.survey       survey files -> clusters
    geopov.tiles        clusters or cells + scenes -> tiles
    geopov.features     tiles -> features
    geopov.regression   features + outcome -> model, scores, intervals, report
    geopov.maps         predictions -> COG, style, picture
    geopov.study        all of them in one run
    geopov.testing      survey files made up in the documented layouts, to try it all without microdata
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geopov import catalog, features, maps, regression, study, survey, testing, tiles
    from geopov.catalog import open_catalog
    from geopov.tiles import TileSpec

try:
    __version__ = version("geopov")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "TileSpec",
    "catalog",
    "features",
    "maps",
    "open_catalog",
    "regression",
    "study",
    "survey",
    "testing",
    "tiles",
]

_SHORTCUTS = {"open_catalog": "geopov.catalog", "TileSpec": "geopov.tiles"}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import geopov` costs milliseconds and a stage costs only what it needs itself.
    if name in _SHORTCUTS:
        return getattr(importlib.import_module(_SHORTCUTS[name]), name)
    if name in __all__:
        return importlib.import_module(f"geopov.{name}")
    raise AttributeError(f"module 'geopov' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
