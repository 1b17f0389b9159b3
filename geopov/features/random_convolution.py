"""Random convolutional features: what an image shows to filters that nobody trained.

MOSAIKS (Rolf et al. 2021, Nature Communications 12:4392) convolves an image with thousands of small filters, rectifies
both signs of each response and averages over the image; a ridge on these averages comes close to trained networks on
many tasks. The paper's filters are whitened patches of the images themselves. Here they are the Gaussian ones that the
authors' code offers beside them, since an extractor must be rebuilt from its specification alone, without images, and
must be the same for clusters and map cells. They know less of what images look like, so they are a somewhat weaker
baseline than the paper's features, and should be called random convolutional features, not MOSAIKS.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from geopov import __version__
from geopov.errors import FeatureError
from geopov.features._input import (
    Array,
    OfBands,
    centre,
    check_bands,
    check_batch,
    check_context,
    check_share,
    enough_valid,
)
from geopov.features._stretch import Stretch, as_numbers, check_stretch, limits_of, to_unit

__all__ = ["RandomConvolution"]

# Responses held at once: as many as stay in a core's cache between convolution, rectification and average.
_RESPONSES = 2**19
# A convolution with fewer filters than this reads the image as often for less work.
_FEWEST = 16


class RandomConvolution(OfBands):
    """Mean over the tile of max(0, r - bias) and max(0, -r - bias), r being the response to a random Gaussian filter.

    The average is over positions whose patch holds valid pixels only. Without context the patch must lie in the tile;
    with context it is its middle that must.

    Parameters
    ----------
    n_features : int
        Even, since each filter gives two.
    patch_px : int
        Side of the filters; odd, so that a patch has a middle. The paper takes 3.
    seed : int
        Of the filters.
    bias : float
        Responses up to it count as none; filters have unit norm and pixels run from 0 to 1. The paper's is 0.
    bands : sequence of str or int, optional
        Names, or numbers counted from 1. Default: all.
    stretch : {"linear", "log"}
        How values between ``lo`` and ``hi`` are spread over 0 to 1; values outside are clipped.
    lo, hi : float or sequence of float, optional
        Limits in the unit of the bands, one for all or one a band. Required unless the tiles are uint8, where they are
        0 and 255. Nothing is fitted on the tiles; see :class:`geopov.features.Preprocessing`.
    min_valid : float
        Tiles with a smaller share of valid pixels give a row of NaN, as do tiles without a whole valid patch.
    context_px : int
        Context around the tiles.
    """

    def __init__(
        self,
        *,
        n_features: int = 512,
        patch_px: int = 3,
        seed: int = 0,
        bias: float = 0.0,
        bands: Sequence[str | int] | str | int | None = None,
        stretch: Stretch = "linear",
        lo: float | Sequence[float] | None = None,
        hi: float | Sequence[float] | None = None,
        min_valid: float = 0.5,
        context_px: int = 0,
    ) -> None:
        _check_whole(n_features, "n_features", lambda n: n > 0 and n % 2 == 0, "an even number above zero")
        _check_whole(patch_px, "patch_px", lambda n: n > 0 and n % 2 == 1, "an odd number of pixels")
        _check_whole(seed, "seed", lambda n: n >= 0, "a whole number, 0 or more")
        check_share(min_valid, "min_valid")
        check_context(context_px)
        self.name = "random_convolution"
        self.n_features, self.patch_px, self.seed = n_features, patch_px, seed
        self.bias = _check_number(bias, "bias")
        self.bands = None if bands is None else check_bands(bands, "bands")
        one_a_band = "a finite number, or one a band"
        self.stretch, self.lo, self.hi = stretch, as_numbers(lo, "lo", one_a_band), as_numbers(hi, "hi", one_a_band)
        self.min_valid, self.context_px = min_valid, context_px
        check_stretch(self.stretch, self.lo, self.hi)

    @property
    def feature_names(self) -> list[str]:
        """``c0000_pos`` and so on for one sign of the responses, then ``c0000_neg`` and so on for the other."""
        return [f"c{number:04d}_{sign}" for sign in ("pos", "neg") for number in range(self.n_features // 2)]

    def spec(self) -> dict[str, Any]:
        """What :func:`geopov.features.build` needs to make it again."""
        return {
            "name": self.name,
            "n_features": self.n_features,
            "patch_px": self.patch_px,
            "seed": self.seed,
            "bias": self.bias,
            "bands": None if self.bands is None else list(self.bands),
            "stretch": self.stretch,
            "lo": None if self.lo is None else list(self.lo),
            "hi": None if self.hi is None else list(self.hi),
            "min_valid": self.min_valid,
            "context_px": self.context_px,
        }

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
        return {
            "extractor": self.spec(),
            "filters": "Gaussian, of unit norm, drawn from the seed; not patches of images",
            "pooling": "mean over the tile of both signs of the response, rectified",
            "geopov": __version__,
        }

    def filters(self, n_bands: int) -> npt.NDArray[np.float32]:
        """The filters (filter, band, y, x), each of unit norm, for tiles of which ``n_bands`` bands are used."""
        shape = (self.n_features // 2, n_bands, self.patch_px, self.patch_px)
        drawn = np.random.default_rng(self.seed).standard_normal(shape)
        drawn /= np.sqrt(np.sum(drawn**2, axis=(1, 2, 3), keepdims=True))
        return drawn.astype(np.float32)

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
            Rows of NaN where a tile has too few valid pixels, or no whole valid patch.
        """
        size_px = check_batch(data, valid, context_px=self.context_px)
        seen_px = size_px + 2 * min(self.context_px, self.patch_px // 2)
        if self.patch_px > seen_px:
            raise FeatureError(
                f"patches of {self.patch_px} px do not fit into tiles of {seen_px} px; take smaller ones."
            )
        positions = self._positions(data.shape[1])
        filters = torch.from_numpy(self.filters(len(positions)))
        enough = enough_valid(valid, size_px=size_px, min_valid=self.min_valid)
        whole = _whole_patches(centre(valid, seen_px), self.patch_px)
        rows = np.full((len(data), self.n_features), np.nan, dtype=np.float32)
        for tile in np.flatnonzero(enough & whole.any(axis=(1, 2))):
            # One tile at a time, so that its numbers do not depend on how many came with it.
            planes = self._planes(centre(data[tile, positions], seen_px), centre(valid[tile], seen_px))
            rows[tile] = self._averages(torch.from_numpy(planes), torch.from_numpy(whole[tile]), filters)
        rows[~np.isfinite(rows).all(axis=1)] = np.nan
        return rows

    @torch.inference_mode()
    def _averages(self, planes: torch.Tensor, whole: torch.Tensor, filters: torch.Tensor) -> npt.NDArray[np.float32]:
        """Features (feature,) of planes (band, y, x), averaged where patches are whole (y', x')."""
        share = whole.flatten().to(torch.float32) / whole.sum()
        step = max(_FEWEST, _RESPONSES // len(share))
        signs: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for start in range(0, len(filters), step):
            response = functional.conv2d(planes[None], filters[start : start + step])[0].flatten(1)
            signs[0].append((response - self.bias).clamp_(min=0) @ share)
            signs[1].append(response.neg_().sub_(self.bias).clamp_(min=0) @ share)
        return np.asarray(torch.cat([*signs[0], *signs[1]]).numpy())

    def _planes(self, data: Array, valid: Array) -> npt.NDArray[np.float32]:
        """Bands (band, y, x) on the scale 0 to 1; 0 at invalid pixels, which no average looks at."""
        limits = limits_of(self.stretch, self.lo, self.hi, dtype=data.dtype, n_bands=len(data))
        lo, hi = (limit[:, None, None] for limit in limits)
        return np.asarray(np.where(valid, to_unit(data, lo, hi, stretch=self.stretch), 0), dtype=np.float32)

    def _positions(self, n_bands: int) -> list[int]:
        positions = super()._positions(n_bands)
        for name, limits in (("lo", self.lo), ("hi", self.hi)):
            if limits is not None and len(limits) not in (1, len(positions)):
                raise FeatureError(
                    f"{name} has {len(limits)} values for {len(positions)} bands; give one, or one a band."
                )
        return positions


def _whole_patches(valid: npt.NDArray[np.bool_], patch_px: int) -> npt.NDArray[np.bool_]:
    """Which patches (tile, y - patch_px + 1, x - patch_px + 1) hold valid pixels (tile, y, x) only."""
    patches = np.lib.stride_tricks.sliding_window_view(valid, (patch_px, patch_px), axis=(1, 2))
    return np.asarray(patches.all(axis=(-2, -1)), dtype=np.bool_)


def _check_number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FeatureError(f"{name} is {value!r}; expected a finite number.")
    return float(value)


def _check_whole(value: Any, name: str, good: Callable[[int], bool], expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not good(value):
        raise FeatureError(f"{name} is {value!r}; expected {expected}.")
