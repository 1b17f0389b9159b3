"""Decode read units: one rasterio handle a thread and file, missing values found, nothing kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geopov.errors import RasterError
from geopov.raster.file import Level, RasterFile
from geopov.raster.remote import FailedError, ask, inherited_options, is_remote
from geopov.raster.unreadable import Unreadable

__all__ = ["Block", "BlockReader", "UnitKey"]

UnitKey = tuple[str, int | None, int, int]
"""A read unit anywhere: path, overview, row and column of the unit."""

# File handles a thread keeps open; many scenes of many files would otherwise meet the system's limit of 1,024.
_HANDLES_A_THREAD = 32
# GDAL keeps the blocks a handle has decoded until the handle is closed or its cache, 5% of the machine's memory, is
# full. No block is asked for twice here, so handles are closed after this many bytes: a header read again now and then.
_BYTES_A_THREAD = 48 << 20


@dataclass(frozen=True)
class Block:
    """A decoded read unit.

    Attributes
    ----------
    column, row : int
        Of its upper left pixel in its level.
    data : array (band, y, x)
        In the file's type; 0 where invalid.
    valid : bool array (y, x) or None
        True = valid in every band of the file. None: all are.
    """

    column: int
    row: int
    data: np.ndarray
    valid: np.ndarray | None


class BlockReader:
    """Decodes read units of files, in any number of threads.

    A rasterio dataset must not be used by two threads, so that each thread opens its own handle of a file. Use as a
    context manager: leaving it closes every handle.

    A unit that cannot be read is tried again with a new handle, as :mod:`geopov.raster.remote` says. Options and
    credentials of a ``rasterio.Env`` around the making of the reader hold in all threads.

    Parameters
    ----------
    on_unreadable : callable, optional
        Told of each unit that cannot be read while its file can still be opened, from the thread that reads; the unit
        then counts as invalid pixels. Default: an error.
    unreadable : set, optional
        Units that counted as unreadable before. They are neither tried nor told again; new ones are added.
    """

    def __init__(
        self,
        *,
        on_unreadable: Callable[[Unreadable], None] | None = None,
        unreadable: set[UnitKey] | None = None,
    ) -> None:
        self._local = threading.local()
        self._all: list[_Handles] = []
        self._lock = threading.Lock()
        self._options = inherited_options()
        self._on_unreadable = on_unreadable
        self._unreadable = set() if unreadable is None else unreadable

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every handle; no thread may be reading."""
        with self._lock:
            for handles in self._all:
                handles.close()
            self._all.clear()

    def read(self, file: RasterFile, level: Level, unit_row: int, unit_column: int) -> Block:
        """Decode one read unit.

        Raises
        ------
        RasterError
            If the file is gone; without ``on_unreadable`` also if it is cut short or damaged there, or its store does
            not send these pixels.
        """
        key = file.path, level.overview, unit_row, unit_column
        if key in self._unreadable:
            return _nothing(file, level, unit_row, unit_column)
        handles = self._handles()
        opened = False

        def decode() -> Block:
            nonlocal opened
            opened = False
            handle = handles.get(file, level)
            opened = True
            try:
                return _decode(handle, file, level, unit_row, unit_column)
            except RasterioError:
                handles.close_one(file, level)
                raise

        try:
            return ask(file.path, decode, options=self._options)
        except FailedError as error:
            # A file that no longer opens is no hole in a picture: all that is left of it would be holes.
            if not opened or self._on_unreadable is None:
                raise _error(file, level, unit_row, unit_column, error) from error
            reason = str(error)
        self._unreadable.add(key)
        self._on_unreadable(Unreadable.of_unit(file, level, unit_row, unit_column, reason))
        return _nothing(file, level, unit_row, unit_column)

    def _handles(self) -> _Handles:
        handles: _Handles | None = getattr(self._local, "handles", None)
        if handles is None:
            handles = self._local.handles = _Handles()
            with self._lock:
                self._all.append(handles)
        return handles


class _Handles:
    """The open datasets of one thread, the least recently used closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, int | None], tuple[Any, int]] = OrderedDict()
        self._read = 0

    def get(self, file: RasterFile, level: Level) -> Any:
        while self._open and (self._read > _BYTES_A_THREAD or len(self._open) >= _HANDLES_A_THREAD):
            self._close_oldest()
        key = (file.path, level.overview)
        dataset, read = self._open.pop(key, (None, 0))
        if dataset is None:
            options = {} if level.overview is None else {"overview_level": level.overview}
            dataset = rasterio.open(file.path, **options)
        unit_bytes = level.unit_width * level.unit_height * file.dtype.itemsize * len(file.bands)
        self._open[key] = (dataset, read + unit_bytes)
        self._read += unit_bytes
        return dataset

    def close(self) -> None:
        while self._open:
            self._close_oldest()

    def close_one(self, file: RasterFile, level: Level) -> None:
        """Close the handle of a file's level, which the next reading opens anew."""
        dataset, read = self._open.pop((file.path, level.overview))
        dataset.close()
        self._read -= read

    def _close_oldest(self) -> None:
        dataset, read = self._open.popitem(last=False)[1]
        dataset.close()
        self._read -= read


def _decode(handle: Any, file: RasterFile, level: Level, unit_row: int, unit_column: int) -> Block:
    row, column, height, width = level.window(unit_row, unit_column)
    window = Window(column, row, width, height)
    data = handle.read(list(file.bands), window=window, out_dtype=file.dtype)
    mask = handle.read_masks(file.bands[0], window=window) if file.has_mask else None
    valid = _valid(data, file.nodata, mask)
    if valid is not None:
        data[:, ~valid] = 0
    return Block(column, row, data, valid)


def _nothing(file: RasterFile, level: Level, unit_row: int, unit_column: int) -> Block:
    """A unit of invalid pixels."""
    row, column, height, width = level.window(unit_row, unit_column)
    data = np.zeros((len(file.bands), height, width), dtype=file.dtype)
    return Block(column, row, data, np.zeros((height, width), dtype=bool))


def _error(file: RasterFile, level: Level, unit_row: int, unit_column: int, error: FailedError) -> RasterError:
    row, column, _, _ = level.window(unit_row, unit_column)
    overview = "" if level.overview is None else f" of overview {level.overview}"
    where = f"{file.path}: the pixels at row {row}, column {column}{overview}"
    advice = (
        "The store does not answer in time, or the file is damaged there; try again later, or give it longer with the "
        "environment variables GDAL_HTTP_LOW_SPEED_TIME and GDAL_HTTP_TIMEOUT (seconds)."
        if is_remote(file.path)
        else "The file is cut short or damaged; fetch it again."
    )
    return RasterError(
        f"{file.path}: the pixels at row {row}, column {column}{where} cannot be read ({error}). {advice}"
    )


def _valid(data: np.ndarray, nodata: tuple[float | None, ...], mask: np.ndarray | None) -> np.ndarray | None:
    """True where every band holds a value; None where that is everywhere."""
    if mask is None and data.dtype.kind != "f" and all(value is None for value in nodata):
        return None
    valid = np.ones(data.shape[1:], dtype=bool) if mask is None else mask > 0
    if data.dtype.kind == "f":
        valid &= np.isfinite(data).all(axis=0)
    for band, value in zip(data, nodata, strict=True):
        if value is not None:
            valid &= ~_is_missing(band, value)
    return None if valid.all() else valid


def _is_missing(band: np.ndarray, nodata: float) -> np.ndarray:
    if band.dtype.kind != "f":
        limits = np.iinfo(band.dtype)
        if not float(nodata).is_integer() or not limits.min <= nodata <= limits.max:
            # A value the type cannot hold, such as -9999 on bytes, marks nothing.
            return np.zeros(band.shape, dtype=bool)
        missing: np.ndarray = band == int(nodata)
        return missing
    if abs(nodata) > 1e30:
        # Stands for "the lowest float32" and is written with as few as two digits (-3.4e38), so compare no digits.
        return band < -1e30 if nodata < 0 else band > 1e30
    # Tags are decimal text: equal to within a few steps of float32.
    return np.abs(band - nodata) <= 4 * float(np.finfo(np.float32).eps) * abs(nodata)
