"""Any function of tiles as an extractor, for use in code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geopov import __version__
from geopov._validation import some
from geopov.errors import FeatureError
from geopov.features._input import Array, OfBands, check_bands, check_batch, check_context, check_share, enough_valid

__all__ = ["CALLABLE", "CallableExtractor"]

CALLABLE = "callable"
"""What its specifications are called by."""

TileFunction = Callable[[Array, npt.NDArray[np.bool_]], Any]


class CallableExtractor(OfBands):
    """A function that turns a batch of tiles into one row of numbers a tile.

    It is made in code and in code only: a specification is data, and data must not name code to run, so
    :func:`geopov.features.build` refuses to make it again. A model saved with it needs it handed over once more.

    Parameters
    ----------
    function : callable
        Of ``data`` (tile, band, y, x), in the tiles' own dtype and with the context where there is one, and ``valid``
        (tile, y, x), bool. Returns numbers (tile, feature); a row of NaN where it cannot tell.
    name : str
        What it is called in provenance.
    feature_names : sequence of str
        One a column, all different.
    bands : sequence of str or int, optional
        Bands it is shown, in this order: names, or numbers counted from 1. Default: all.
    context_px : int
        Context around the tiles it needs.
    min_valid : float
        Tiles with a smaller share of valid pixels are not shown to it and give a row of NaN.

    Examples
    --------
    >>> contrast = CallableExtractor(
    ...     lambda data, valid: np.ptp(data, axis=(2, 3)), name="contrast", feature_names=["nir"], bands=["nir"]
    ... )
    >>> data = np.arange(8, dtype=np.uint16).reshape(1, 2, 2, 2)
    >>> contrast.for_bands(["red", "nir"])(data, np.ones((1, 2, 2), dtype=bool)).tolist()
    [[3.0]]
    """

    def __init__(
        self,
        function: TileFunction,
        *,
        name: str,
        feature_names: Sequence[str],
        bands: Sequence[str | int] | str | int | None = None,
        context_px: int = 0,
        min_valid: float = 0.5,
    ) -> None:
        if not callable(function):
            raise FeatureError(f"function is {function!r}; expected a function of data and valid.")
        if not isinstance(name, str) or not name:
            raise FeatureError(f"name is {name!r}; expected what the extractor is to be called.")
        check_context(context_px)
        check_share(min_valid, "min_valid")
        self.name = name
        self.function = function
        self.bands = None if bands is None else check_bands(bands, "bands")
        self.context_px = context_px
        self.min_valid = min_valid
        self._feature_names = _check_names(feature_names)

    @property
    def feature_names(self) -> list[str]:
        """One name a column."""
        return list(self._feature_names)

    def spec(self) -> dict[str, Any]:
        """A record of its parameters, from which no extractor can be built."""
        return {
            "name": CALLABLE,
            "called": self.name,
            "function": _path_of(self.function),
            "feature_names": self.feature_names,
            "bands": None if self.bands is None else list(self.bands),
            "context_px": self.context_px,
            "min_valid": self.min_valid,
        }

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about, as far as can be told of a function."""
        return {"extractor": self.spec(), "geopov": __version__}

    def __call__(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Features (tile, feature) of a batch.

        Parameters
        ----------
        data : array (tile, band, y, x)
            Pixel values.
        valid : bool array (tile, y, x)
            True where a pixel is valid in every band.

        Returns
        -------
        float32 array (tile, feature)
            Rows of NaN where a tile has too few valid pixels, or the function gives anything but finite numbers.

        Raises
        ------
        FeatureError
            If the function returns something of another shape.
        """
        size_px = check_batch(data, valid, context_px=self.context_px)
        enough = enough_valid(valid, size_px=size_px, min_valid=self.min_valid)
        rows = np.full((len(data), len(self._feature_names)), np.nan, dtype=np.float32)
        if enough.any():
            rows[enough] = self._checked(data[enough][:, self._positions(data.shape[1])], valid[enough])
        rows[~np.isfinite(rows).all(axis=1)] = np.nan
        return rows

    def _checked(self, data: Array, valid: Array) -> Array:
        expected = (len(data), len(self._feature_names))
        found = np.asarray(self.function(data, valid))
        if found.shape != expected or found.dtype.kind not in "buif":
            raise FeatureError(
                f"the function of {self.name!r} returned {found.dtype} of shape {found.shape} for {expected[0]} tiles; "
                f"expected numbers (tile, feature) of shape {expected}."
            )
        return found


def _check_names(names: Sequence[str]) -> tuple[str, ...]:
    good = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not good or not names or len(set(names)) != len(names):
        shown = some(names) if isinstance(names, list | tuple) else repr(names)
        raise FeatureError(f"feature_names is {shown or 'empty'}; expected a list of different names, one a column.")
    return tuple(names)


def _path_of(function: TileFunction) -> str:
    # An instance has no name of its own, and its repr has an address, which differs from run to run.
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
