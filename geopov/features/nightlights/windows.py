"""Windows of a raster file, each of its blocks decoded once as long as windows go down it in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from geopov.raster import Block, BlockReader, RasterFile


@dataclass
class WindowReader:
    """Reads windows of a file's own pixels; blocks of the last window are kept for the next.

    Attributes
    ----------
    file : RasterFile
    reader : BlockReader
        Open; shared by several files.
    """

    file: RasterFile
    reader: BlockReader
    _kept: dict[tuple[int, int], Block] = field(default_factory=dict)

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels of rows and columns (first, last exclusive) inside the file.

        Returns
        -------
        data : array (band, y, x)
        valid : bool array (y, x)
            True = valid in every band of the file.
        """
        level = self.file.levels[0]
        shape = rows[1] - rows[0], columns[1] - columns[0]
        data = np.zeros((len(self.file.bands), *shape), dtype=self.file.dtype)
        valid = np.ones(shape, dtype=bool)
        needed = {
            (row, column)
            for row in range(rows[0] // level.unit_height, (rows[1] - 1) // level.unit_height + 1)
            for column in range(columns[0] // level.unit_width, (columns[1] - 1) // level.unit_width + 1)
        }
        self._kept = {unit: block for unit, block in self._kept.items() if unit in needed}
        for unit in sorted(needed):
            if unit not in self._kept:
                self._kept[unit] = self.reader.read(self.file, level, *unit)
            self._paste(self._kept[unit], data, valid, rows[0], columns[0])
        return data, valid

    @staticmethod
    def _paste(
        block: Block, data: npt.NDArray[Any], valid: npt.NDArray[np.bool_], first_row: int, first_column: int
    ) -> None:
        height, width = block.data.shape[1:]
        top, left = block.row - first_row, block.column - first_column
        to_rows = slice(max(top, 0), min(top + height, valid.shape[0]))
        to_columns = slice(max(left, 0), min(left + width, valid.shape[1]))
        rows = slice(to_rows.start - top, to_rows.stop - top)
        columns = slice(to_columns.start - left, to_columns.stop - left)
        data[:, to_rows, to_columns] = block.data[:, rows, columns]
        if block.valid is not None:
            valid[to_rows, to_columns] = block.valid[rows, columns]
