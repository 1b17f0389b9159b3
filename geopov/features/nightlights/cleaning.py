"""From the pixels of composites to clean light: one median, noise and negative values dark, masked places missing."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely
from affine import Affine

from geopov.errors import FeatureError
from geopov.features.nightlights.windows import WindowReader
from geopov.raster import BlockReader

if TYPE_CHECKING:
    from geopov.features.nightlights.lights import Lights

# Radiance has noise about zero of a few nW/cm²/sr; anything lower is a missing value that the file does not declare.
_LOWEST = -10.0


class CleanReader:
    """Cleaned windows of lights; what :meth:`Footprints.sums` reads strips with; a context manager."""

    def __init__(self, lights: Lights) -> None:
        self._lights = lights
        self._stack = ExitStack()
        self._tree = shapely.STRtree(lights.mask)

    def __enter__(self) -> CleanReader:
        reader = self._stack.enter_context(BlockReader())
        counts = self._lights.observations
        self._files = [WindowReader(file, reader) for file in self._lights.scene.files]
        self._counts = [WindowReader(file, reader) for file in (counts.files if counts else ())]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def __call__(self, rows: tuple[int, int], columns: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
        """Layers (y, x) of a window: lights, valid, masked, saturated.

        Raises
        ------
        FeatureError
            If a value is so far below zero that it must stand for something else.
        """
        lights = self._lights
        sensor = lights.sensor
        values = _stacked(self._files, rows, columns)
        if any(file.file.dtype.kind != "f" for file in self._files):
            values *= np.float32(sensor.integer_scale)
        if self._counts:
            values[~(_stacked(self._counts, rows, columns) >= lights.min_observations)] = np.nan
        values[values > sensor.highest * (1 + 1e-6)] = np.nan
        least = np.nanmin(values, initial=np.inf)
        if least < _LOWEST:
            raise FeatureError(
                f"{lights.scene.name} holds {least:g} {sensor.unit}, which no light is. If it stands for missing, "
                "declare it: Scene.open(path, nodata=...)."
            )
        median = _median(values)
        masked = self._masked(rows, columns, median.shape)
        valid = np.isfinite(median) & ~masked
        cleaned = np.where(valid & (median >= max(lights.noise_floor, 0.0)), median, 0.0)
        return {
            "lights": cleaned if lights.calibration is None else lights.calibration(cleaned),
            "valid": valid,
            "masked": masked,
            "saturated": (cleaned >= sensor.highest) & sensor.saturates,
        }

    def _masked(self, rows: tuple[int, int], columns: tuple[int, int], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        t = self._lights.scene.transform
        west, north = t.c + columns[0] * t.a, t.f + rows[0] * t.e
        moved = Affine(t.a, 0.0, west, 0.0, t.e, north)
        east, south = west + shape[1] * t.a, north + shape[0] * t.e
        near = self._tree.query(shapely.box(west, south, east, north))
        if not len(near):
            return np.zeros(shape, dtype=bool)
        burnt = rasterio.features.rasterize(
            self._lights.mask[near].tolist(), out_shape=shape, transform=moved, all_touched=True, dtype="uint8"
        )
        return np.asarray(burnt, dtype=bool)


def _stacked(files: list[WindowReader], rows: tuple[int, int], columns: tuple[int, int]) -> npt.NDArray[np.float32]:
    layers = []
    for file in files:
        data, valid = file.read(rows, columns)
        layer = data.astype(np.float32)
        layer[:, ~valid] = np.nan
        layers.append(layer)
    return np.concatenate(layers)


def _median(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Over the first axis, missing values left out; NaN where all are."""
    if len(values) == 1:
        only: npt.NDArray[np.float32] = values[0]
        return only
    ordered = np.sort(values, axis=0)
    count = np.isfinite(ordered).sum(axis=0)
    below, above = np.maximum(count - 1, 0) // 2, count // 2
    above = np.minimum(above, np.maximum(count - 1, 0))
    pair = [np.take_along_axis(ordered, index[None], axis=0)[0] for index in (below, above)]
    result: npt.NDArray[np.float32] = (pair[0] + pair[1]) / 2
    return result
