"""From pixel values to what a network was trained on: planes of zero mean and unit variance, one a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from geopov.errors import FeatureError
from geopov.features._input import Array, Band, band_positions, check_bands, check_share
from geopov.features._stretch import Stretch, as_numbers, check_stretch, limits_of, to_unit

__all__ = ["Preprocessing"]

Limit = float | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How bands become the planes of a network: red, green and blue, or those of a network made over for others.

    Nothing is fitted on the data: a limit taken from the tiles at hand would differ between clusters and map cells,
    and would let test clusters leak into training.

    Parameters
    ----------
    bands : sequence of str or int
        Bands shown to the network: names, or numbers counted from 1 as GDAL does. Three are its red, green and blue,
        and one may be repeated, such as ``(1, 1, 1)`` for a nightlights image. For any other number the network's first
        convolution is made over, see :func:`geopov.features.networks.inflate.inflated`.
    stretch : {"linear", "log"}
        How values between ``lo`` and ``hi`` are spread over 0 to 1; values outside are clipped. "log" suits radiance
        and other skewed bands, and needs ``lo`` above zero.
    lo, hi : float or sequence of float, optional
        Limits in the unit of the bands, one for all or one a plane. Required unless the tiles are uint8, where they are
        0 and 255.
    input_px : int, optional
        Side of the network's input; the tile without its context is resized to it bilinearly, with anti-aliasing where
        it shrinks, and its context in proportion. Default: the tile as it is.
    min_valid : float
        Tiles with a smaller share of valid pixels get no features.
    """

    bands: tuple[Band, ...] = (1, 2, 3)
    stretch: Stretch = "linear"
    lo: Limit | None = None
    hi: Limit | None = None
    input_px: int | None = None
    min_valid: float = 0.5

    def __post_init__(self) -> None:
        bands = check_bands(self.bands, "bands")
        if not bands:
            raise FeatureError("bands is empty; expected at least one, by custom three: red, green and blue.")
        object.__setattr__(self, "bands", bands)
        for name in ("lo", "hi"):
            object.__setattr__(self, name, _as_limit(getattr(self, name), name, len(bands)))
        check_stretch(self.stretch, _listed(self.lo), _listed(self.hi))
        size = self.input_px
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise FeatureError(f"input_px is {size!r}; expected a whole number of pixels above zero, or nothing.")
        check_share(self.min_valid, "min_valid")

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def parameter_names(cls) -> list[str]:
        """Names of the parameters."""
        return [field.name for field in fields(cls)]

    def limits(self, dtype: np.dtype[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """``lo`` and ``hi`` of the planes, each (n_bands,), for tiles of this dtype.

        Raises
        ------
        FeatureError
            If they were not given and the dtype does not imply them.
        """
        return limits_of(self.stretch, _listed(self.lo), _listed(self.hi), dtype=dtype, n_bands=len(self.bands))

    def planes(
        self,
        data: Array,
        valid: Array,
        *,
        band_names: Sequence[str] | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> npt.NDArray[np.float32]:
        """Normalised planes of a batch, before resizing.

        Parameters
        ----------
        data : array (tile, band, y, x)
            Pixel values.
        valid : bool array (tile, y, x)
            True where a pixel is valid.
        band_names : sequence of str, optional
            Names of the bands of ``data``.
        mean, std : sequence of float
            Of the images the network was trained on, on the scale 0 to 1, one a band.

        Returns
        -------
        float32 array (tile, n_bands, y, x)
            Zero, which is the network's mean, at invalid pixels.
        """
        positions = band_positions(self.bands, n_bands=data.shape[1], band_names=band_names)
        lo, hi = self.limits(data.dtype)
        planes = np.empty((data.shape[0], len(positions), *data.shape[2:]), dtype=np.float32)
        done: dict[tuple[float, ...], int] = {}
        for plane, position in enumerate(positions):
            # A repeated band is stretched once.
            key = (position, lo[plane], hi[plane], mean[plane], std[plane])
            if key in done:
                planes[:, plane] = planes[:, done[key]]
                continue
            done[key] = plane
            unit = to_unit(data[:, position], lo[plane], hi[plane], stretch=self.stretch)
            unit -= np.float32(mean[plane])
            np.divide(unit, np.float32(std[plane]), out=planes[:, plane])
        if not valid.all():
            planes[np.broadcast_to(~valid[:, None], planes.shape)] = 0
        return planes


def _as_limit(value: Any, name: str, n_bands: int) -> Limit | None:
    expected = f"a finite number, or {n_bands}, one a plane"
    numbers = as_numbers(value, name, expected)
    if numbers is None:
        return None
    if len(numbers) not in (1, n_bands):
        raise FeatureError(f"{name} is {value!r}; expected {expected}.")
    return numbers[0] if len(numbers) == 1 else numbers


def _listed(limit: Limit | None) -> tuple[float, ...] | None:
    return limit if limit is None or isinstance(limit, tuple) else (limit,)
