"""Whether a raster on disk holds what was given to be written."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

# Side of the blocks of our files: what is decoded at once.
BLOCK_PX = 512


class Checksums:
    """A CRC of each column of blocks in each band, of rows that come north to south in strips of any height."""

    def __init__(self, count: int, width: int) -> None:
        self._sums = np.zeros((-(-width // BLOCK_PX), count), dtype=np.int64)

    def add_rows(self, values: np.ndarray) -> None:
        """Add the next rows, (band, rows, width), in the file's dtype."""
        for column in range(len(self._sums)):
            left = column * BLOCK_PX
            self._add(column, values[:, :, left : left + BLOCK_PX])

    def _add(self, column: int, values: np.ndarray) -> None:
        for band, rows in enumerate(values):
            self._sums[column, band] = zlib.crc32(np.ascontiguousarray(rows).data, int(self._sums[column, band]))

    def match(self, path: Path) -> bool:
        """Whether the file holds the rows added, and all its overviews can be decoded.

        One block is in memory at a time.

        Raises
        ------
        RasterioIOError
            If a block cannot be decoded.
        """
        with rasterio.open(path) as source:
            found = Checksums(source.count, source.width)
            for column, values in _blocks(source):
                found._add(column, values)
            levels = len(source.overviews(1))
        for level in range(levels):
            with rasterio.open(path, overview_level=level) as overview:
                for _ in _blocks(overview):
                    pass
        return np.array_equal(found._sums, self._sums)


def _blocks(source: rasterio.DatasetReader) -> Iterator[tuple[int, np.ndarray]]:
    """Each block's column of blocks and values (band, y, x); column by column, north to south."""
    for left in range(0, source.width, BLOCK_PX):
        for top in range(0, source.height, BLOCK_PX):
            size = min(BLOCK_PX, source.width - left), min(BLOCK_PX, source.height - top)
            yield left // BLOCK_PX, source.read(window=Window(left, top, *size))
