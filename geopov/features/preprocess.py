"""From pixel values to what a network was trained on: three planes of zero mean and unit variance."""

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

Limit = float | tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How bands become the red, green and blue planes of a network.

    Nothing is fitted on the data: a limit taken from the tiles at hand would differ between clusters and map cells,
    and would let test clusters leak into training.

    Parameters
    ----------
    bands : three of str or int
        Bands shown to the network as red, green and blue: names, or numbers counted from 1 as GDAL does. One band may
        be repeated, such as ``(1, 1, 1)`` for a nightlights image.
    stretch : {"linear", "log"}
        How values between ``lo`` and ``hi`` are spread over 0 to 1; values outside are clipped. "log" suits radiance
        and other skewed bands, and needs ``lo`` above zero.
    lo, hi : float or three floats, optional
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
        if len(bands) != 3:
            raise FeatureError(
                f"bands is {list(bands)!r}; expected three, for the network's red, green and blue. "
                "Repeat one if there is only one: bands=[1, 1, 1]."
            )
        object.__setattr__(self, "bands", bands)
        for name in ("lo", "hi"):
            object.__setattr__(self, name, _as_limit(getattr(self, name), name))
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
        """``lo`` and ``hi`` of the three planes, each (3,), for tiles of this dtype.

        Raises
        ------
        FeatureError
            If they were not given and the dtype does not imply them.
        """
        return limits_of(self.stretch, _listed(self.lo), _listed(self.hi), dtype=dtype, n_bands=3)

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
        mean, std : three floats
            Of the images the network was trained on, on the scale 0 to 1.

        Returns
        -------
        float32 array (tile, 3, y, x)
            Zero, which is the network's mean, at invalid pixels.
        """
        positions = band_positions(self.bands, n_bands=data.shape[1], band_names=band_names)
        lo, hi = self.limits(data.dtype)
        planes = np.empty((data.shape[0], 3, *data.shape[2:]), dtype=np.float32)
        done: dict[tuple[float, ...], int] = {}
        for plane, position in enumerate(positions):
            # A repeated band is stretched once.
            key = (position, lo[plane], hi[plane], mean[plane], std[plane])
            if key in done:
                planes[:, plane] = planes[:, done[key]]
                continue
            done[key] = plane
            unit = to_unit(data[:, position], lo[plane], hi[plane], stretch=self.stretch)
            planes[:, plane] = (unit - np.float32(mean[plane])) / np.float32(std[plane])
        planes[np.broadcast_to(~valid[:, None], planes.shape)] = 0
        return planes


def _as_limit(value: Any, name: str) -> Limit | None:
    expected = "a finite number, or three, one a plane"
    numbers = as_numbers(value, name, expected)
    if numbers is None:
        return None
    if len(numbers) not in (1, 3):
        raise FeatureError(f"{name} is {value!r}; expected {expected}.")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def _listed(limit: Limit | None) -> tuple[float, ...] | None:
    return limit if limit is None or isinstance(limit, tuple) else (limit,)
