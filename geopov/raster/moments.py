"""Statistics of a raster, gathered row by row while it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Moments:
    """Count, extremes, mean and squared deviations of the values seen so far.

    Rows are merged one after another (Chan, Golub and LeVeque 1983), so that rounding does not depend on the strips.
    """

    n: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0

    def add_rows(self, values: np.ndarray, valid: np.ndarray) -> None:
        """Add ``values`` (rows, width) where ``valid``."""
        counts = valid.sum(axis=1)
        filled = np.where(valid, values, 0.0)
        means = filled.sum(axis=1) / np.maximum(counts, 1)
        squares = (np.where(valid, values - means[:, None], 0.0) ** 2).sum(axis=1)
        for n, mean, square in zip(counts.tolist(), means.tolist(), squares.tolist(), strict=True):
            if n:
                step, total = mean - self.mean, self.n + n
                self.mean += step * n / total
                self.squares += square + step**2 * self.n * n / total
                self.n = total
        if valid.any():
            self.low = min(self.low, float(values[valid].min()))
            self.high = max(self.high, float(values[valid].max()))

    def tags(self, cells: int) -> dict[str, str]:
        """GDAL's statistics tags, which QGIS and gdalinfo read instead of scanning the file."""
        percent = {"STATISTICS_VALID_PERCENT": f"{100 * self.n / cells:.4g}"}
        if not self.n:
            return percent
        return percent | {
            "STATISTICS_MINIMUM": repr(self.low),
            "STATISTICS_MAXIMUM": repr(self.high),
            "STATISTICS_MEAN": repr(self.mean),
            "STATISTICS_STDDEV": repr(math.sqrt(self.squares / self.n)),
        }
