"""Histograms of bands: a feature set without a network, which keeps what means and percentiles lose.

Yeh et al. (2020, Nature Communications 11:2583) set a ridge on histograms of the bands beside their networks, and the
networks were not far ahead of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

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

__all__ = ["BandHistograms"]


class BandHistograms(OfBands):
    """Share of a tile's valid pixels between given edges, band by band.

    The lowest and the highest bin are open, so that e edges make e + 1 bins and the shares of a band add up to 1. A
    value on an edge belongs to the bin above it. Context is not looked at.

    Parameters
    ----------
    edges : sequence of float, or a sequence of such
        Increasing, in the unit of the bands: one list for all bands, or one a band. They are never fitted on the tiles,
        which would let test clusters leak into training.
    bands : sequence of str or int, optional
        Names, or numbers counted from 1. Default: all.
    min_valid : float
        Tiles with a smaller share of valid pixels give a row of NaN.
    context_px : int
        Context around the tiles.
    """

    def __init__(
        self,
        *,
        edges: Sequence[float] | Sequence[Sequence[float]],
        bands: Sequence[str | int] | str | int | None = None,
        min_valid: float = 0.5,
        context_px: int = 0,
    ) -> None:
        check_share(min_valid, "min_valid")
        check_context(context_px)
        self.name = "band_histograms"
        self.edges = _check_edges(edges)
        self.bands = None if bands is None else check_bands(bands, "bands")
        self.min_valid, self.context_px = min_valid, context_px

    @property
    def feature_names(self) -> list[str]:
        """One name a column, such as ``radiance_bin07``, band by band, from the lowest bin, ``bin00``."""
        if self.bands is None and self._band_names is None:
            raise FeatureError(
                "the bands are not known yet; name them with bands=[...], or call for_bands(band_names)."
            )
        bands = range(1, len(self._band_names or ()) + 1) if self.bands is None else self.bands
        labels = [self._label(band) for band in bands]
        return [
            f"{label}_bin{number:02d}"
            for label, edges in zip(labels, self._edges_of(len(labels)), strict=True)
            for number in range(len(edges) + 1)
        ]

    def spec(self) -> dict[str, Any]:
        """What :func:`geopov.features.build` needs to make it again."""
        return {
            "name": self.name,
            "edges": [list(edges) for edges in self.edges],
            "bands": None if self.bands is None else list(self.bands),
            "min_valid": self.min_valid,
            "context_px": self.context_px,
        }

    def provenance(self) -> dict[str, Any]:
        """How the numbers came about."""
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
            Rows of NaN where a tile has too few valid pixels, or a valid one is no finite number.
        """
        size_px = check_batch(data, valid, context_px=self.context_px)
        positions = self._positions(data.shape[1])
        seen = centre(valid, size_px)
        values = centre(data[:, positions], size_px)
        finite = (np.isfinite(values) | ~seen[:, None]).all(axis=(1, 2, 3))
        columns = [
            _shares(values[:, number], seen, np.asarray(edges))
            for number, edges in enumerate(self._edges_of(len(positions)))
        ]
        rows = np.concatenate(columns, axis=1).astype(np.float32)
        rows[~(finite & enough_valid(valid, size_px=size_px, min_valid=self.min_valid))] = np.nan
        return rows

    def _positions(self, n_bands: int) -> list[int]:
        positions = super()._positions(n_bands)
        self._edges_of(len(positions))
        return positions

    def _label(self, band: str | int) -> str:
        if isinstance(band, str):
            return band
        # Files without descriptions give bands empty names.
        return (self._band_names is not None and self._band_names[band - 1]) or f"b{band}"

    def _edges_of(self, n_bands: int) -> tuple[tuple[float, ...], ...]:
        if len(self.edges) not in (1, n_bands):
            raise FeatureError(f"edges has {len(self.edges)} lists for {n_bands} bands; give one, or one a band.")
        return self.edges * n_bands if len(self.edges) == 1 else self.edges


def _shares(values: Array, valid: Array, edges: Array) -> npt.NDArray[np.float64]:
    """Shares (tile, bin) of the valid pixels of one band (tile, y, x); 0 where a tile has none."""
    n_bins = len(edges) + 1
    bins = np.searchsorted(edges, values, side="right") + n_bins * np.arange(len(values))[:, None, None]
    counts = np.bincount(bins[valid], minlength=n_bins * len(values)).reshape(len(values), n_bins)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def _check_edges(edges: Any) -> tuple[tuple[float, ...], ...]:
    lists = edges if isinstance(edges, list | tuple) else []
    if lists and not any(isinstance(part, list | tuple) for part in lists):
        lists = [lists]
    if not lists or not all(isinstance(part, list | tuple) and part for part in lists):
        raise FeatureError(f"edges is {edges!r}; expected a list of increasing numbers, or one such list a band.")
    for part in lists:
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in part)
        if not numbers or any(low >= high for low, high in pairwise(part)):
            raise FeatureError(f"edges holds {list(part)!r}; expected finite numbers, each above the one before it.")
    return tuple(tuple(float(edge) for edge in part) for part in lists)
