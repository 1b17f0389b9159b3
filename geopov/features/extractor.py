"""The contract of an extractor, and the way from a name or a specification to one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from geopov._optional import is_available, require
from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features._input import Array
from geopov.features.callable import CALLABLE
from geopov.features.histograms import BandHistograms
from geopov.features.preprocess import Preprocessing
from geopov.features.statistics import BandStatistics

__all__ = ["Concatenation", "Extractor", "build", "extractor_names"]

Spec: TypeAlias = str | Mapping[str, Any]
"""A name, or a mapping with the key ``name`` and parameters."""


class Extractor(Protocol):
    """Turns a batch of tiles into features."""

    name: str
    """What it is called in specifications."""

    context_px: int
    """Pixels of context it needs on each side of a tile; neither more nor less."""

    @property
    def feature_names(self) -> list[str]:
        """One name a column."""
        ...

    def for_bands(self, band_names: Sequence[str]) -> Extractor:
        """The same extractor for tiles whose bands have these names; raises FeatureError if it needs others."""
        ...

    def spec(self) -> dict[str, Any]:
        """JSON types from which :func:`build` makes the extractor again."""
        ...

    def provenance(self) -> dict[str, Any]:
        """JSON types that say how the numbers came about: weights, their sha256, preprocessing, version."""
        ...

    def __call__(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Features (tile, feature) of data (tile, band, y, x) and valid (tile, y, x); NaN rows where it cannot tell."""
        ...


def build(specs: Spec | Sequence[Spec]) -> Extractor:
    """Make an extractor from a specification; from several, one that puts their features side by side.

    Parameters
    ----------
    specs : str, mapping, or a sequence of them
        A name, or a mapping with ``name`` and the extractor's parameters. Names are ``band_statistics``, ``band_mean``
        (short for the statistic "mean"), ``band_histograms``, ``random_convolution``, ``pretrained`` (a network that
        was trained here: ``weights`` is its folder), ``efficientnet_lite0``, torchvision's convolutional classifiers,
        and ``timm/NAME`` for those of timm.

    Returns
    -------
    Extractor

    Raises
    ------
    FeatureError
        If a name or parameter is unknown or wrong.
    MissingDependencyError
        If the extra that an extractor needs is not installed.

    Examples
    --------
    >>> extractor = build({"name": "band_mean", "bands": ["radiance"], "windows_px": [24, 8]})
    >>> extractor.feature_names
    ['radiance_24px_mean', 'radiance_8px_mean']
    """
    if isinstance(specs, str | Mapping):
        return _build_one(specs)
    parts = list(specs)
    if not parts:
        raise FeatureError("the list of extractors is empty; name at least one, such as 'band_statistics'.")
    return _build_one(parts[0]) if len(parts) == 1 else Concatenation([_build_one(part) for part in parts])


def extractor_names() -> list[str]:
    """Names :func:`build` knows on this machine; what needs torch or torchvision only where they are installed."""
    own = [name for name in _BUILDERS if name != CALLABLE and (name != "random_convolution" or is_available("torch"))]
    if is_available("torch") and is_available("torchvision"):
        from geopov.features.networks.backbones import network_names
        from geopov.features.networks.network import PRETRAINED

        return [*own, PRETRAINED, *network_names()]
    return own


class Concatenation:
    """Several extractors, their features side by side.

    A tile that one of them cannot tell anything about has no features at all.

    Parameters
    ----------
    parts : sequence of Extractor
        All for tiles with the same context. Feature names get the part's name before them, numbered where it repeats.
    """

    def __init__(self, parts: Sequence[Extractor]) -> None:
        contexts = sorted({part.context_px for part in parts})
        if len(contexts) > 1:
            raise FeatureError(
                f"extractors with context_px {some(contexts)} cannot be put side by side; give them all the same."
            )
        self.name = "concatenation"
        self.parts = tuple(parts)
        self.context_px = contexts[0]

    @property
    def feature_names(self) -> list[str]:
        """``part:feature``, part by part."""
        names = [part.name for part in self.parts]
        numbered = [
            f"{name}{names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)
        ]
        return [
            f"{name}:{feature}"
            for name, part in zip(numbered, self.parts, strict=True)
            for feature in part.feature_names
        ]

    def for_bands(self, band_names: Sequence[str]) -> Concatenation:
        """The same extractors for tiles whose bands have these names."""
        return Concatenation([part.for_bands(band_names) for part in self.parts])

    def spec(self) -> dict[str, Any]:
        """The parts' specifications under one name."""
        return {"name": self.name, "parts": [part.spec() for part in self.parts]}

    def provenance(self) -> dict[str, Any]:
        """The parts' provenance."""
        return {"parts": [part.provenance() for part in self.parts]}

    def __call__(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Features (tile, feature) of all parts; a row is NaN if any part of it is."""
        rows = np.concatenate([part(data, valid) for part in self.parts], axis=1)
        rows[np.isnan(rows).any(axis=1)] = np.nan
        return rows


def _build_one(spec: Spec) -> Extractor:
    parameters: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise FeatureError(
            f"an extractor is specified as {spec!r}; expected the key 'name', such as name: band_statistics."
        )
    return _BUILDERS.get(name, _build_network)(name, parameters)


def _build_concatenation(name: str, parameters: dict[str, Any]) -> Extractor:
    _check_parameters(name, parameters, {"parts"})
    return build(list(parameters.get("parts", [])))


def _build_statistics(name: str, parameters: dict[str, Any]) -> Extractor:
    known = set(inspect.signature(BandStatistics).parameters)
    if name == "band_mean":
        _check_parameters(name, parameters, known - {"statistics"})
        return BandStatistics(statistics=("mean",), **parameters)
    _check_parameters(name, parameters, known)
    return BandStatistics(**parameters)


def _build_histograms(name: str, parameters: dict[str, Any]) -> Extractor:
    _check_parameters(name, parameters, set(inspect.signature(BandHistograms).parameters))
    if "edges" not in parameters:
        raise FeatureError(f"the extractor {name!r} needs its 'edges', a list of increasing numbers.")
    return BandHistograms(**parameters)


def _build_random_convolution(name: str, parameters: dict[str, Any]) -> Extractor:
    require("torch", purpose=f"The extractor {name!r}")
    from geopov.features.random_convolution import RandomConvolution

    _check_parameters(name, parameters, set(inspect.signature(RandomConvolution).parameters))
    return RandomConvolution(**parameters)


def _refuse_callable(name: str, parameters: dict[str, Any]) -> Extractor:
    called = parameters.get("called", name)
    raise FeatureError(
        f"the extractor {called!r} is a function ({parameters.get('function', 'of unknown origin')}), and a "
        "specification is data, which is not allowed to name code to run. Make it in code: "
        "geopov.features.callable.CallableExtractor(function, name=..., feature_names=...)."
    )


def _build_network(name: str, parameters: dict[str, Any]) -> Extractor:
    for module in ("torch", "torchvision"):
        require(module, purpose=f"The extractor {name!r} is none of {some(_BUILDERS)}; a network")
    from geopov.features.networks.network import NetworkExtractor

    own = set(inspect.signature(NetworkExtractor).parameters) - {"name", "preprocessing"}
    _check_parameters(name, parameters, own | set(Preprocessing.parameter_names()))
    return NetworkExtractor(name, **parameters)


def _check_parameters(name: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {some(sorted(known), 20)}."
            raise FeatureError(f"the extractor {name!r} has no parameter {key!r}; {hint}")


_BUILDERS: dict[str, Callable[[str, dict[str, Any]], Extractor]] = {
    "band_statistics": _build_statistics,
    "band_mean": _build_statistics,
    "band_histograms": _build_histograms,
    "concatenation": _build_concatenation,
    CALLABLE: _refuse_callable,
    "random_convolution": _build_random_convolution,
}
