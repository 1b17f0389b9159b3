"""Writing to a disk that may be full: a place for what is not whole yet, and one error with one remedy."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from geopov.errors import RasterError

__all__ = ["disk_errors", "folder_beside", "free_space"]


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A hidden folder on the same disk, which goes with all that GDAL leaves in it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=f".{path.stem}.", suffix=".partial", dir=path.parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk and GDAL say while ``path`` is written into one error that tells what is free.

    Raises
    ------
    RasterError
        For every OSError and every error of GDAL within.
    """
    try:
        yield
    except (OSError, RasterioError, CPLE_BaseError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None:  # What GDAL said first is what was the matter.
            reason = reason.__cause__
        told = getattr(reason, "strerror", None) or reason
        raise RasterError(
            f"{path} cannot be written: {told} ({free_space(path)} are free there). Make room if the disk is full or a "
            "quota is reached, or choose another folder."
        ) from error


def free_space(path: Path) -> str:
    """What is free on the disk of ``path``, which may not be there yet, in words."""
    place = next(parent for parent in path.absolute().parents if parent.exists())
    return f"{shutil.disk_usage(place).free / 1e6:,.1f} MB"
