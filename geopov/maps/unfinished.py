"""The folder beside a map that is being made: its finished blocks, what they belong to, and who is at work.

``NAME.tif.unfinished/`` holds ``job.json`` (what the blocks are of), ``lock`` (held by the process at work) and one
small compressed file a block below ``blocks/ROW/COLUMN``, where row and column are the first of the block.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import shutil
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from geopov.errors import MapError, RasterError
from geopov.grid import CellBlock
from geopov.maps.blocks import BlockValues
from geopov.raster.disk import free_space

_JOB, _LOCK, _BLOCKS = "job.json", "lock", "blocks"
_ABOUT = (
    "The finished blocks of a map that is not whole yet. The command that was making it goes on from here when it is "
    "run again; to begin anew, delete this folder."
)

# Locks are held by open files, and a forked child has its parent's: it must not hold them on when the parent dies.
_held: set[int] = set()


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


class Unfinished:
    """The blocks of a map that is being made. From :func:`unfinished`.

    Attributes
    ----------
    folder : Path
        ``NAME.tif.unfinished``, beside the map.
    resumable : bool
        Whether a later run of the same job may go on from here.
    finished : int
        Blocks without holes that are in the folder.
    """

    def __init__(self, folder: Path, *, resumable: bool) -> None:
        self.folder = folder
        self.resumable = resumable
        self.finished = 0

    @property
    def remedy(self) -> str:
        """What to do after an error, in a sentence."""
        if self.resumable and self.finished:
            return f"{self.finished} finished blocks are kept in {self.folder}: the same command goes on from them."
        return "No block is kept: the same command begins anew."

    @contextmanager
    def disk_errors(self, needed_bytes: int | None = None) -> Iterator[None]:
        """Tell what to do about a disk that takes no more; ``needed_bytes`` is at most what the map still needs.

        Raises
        ------
        MapError
            For every OSError within, and for every RasterError: a map that could not be written whole.
        """
        try:
            yield
        except (OSError, RasterError) as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            needed = f"; up to {needed_bytes / 1e6:,.1f} MB are needed" if needed_bytes is not None else ""
            raise MapError(
                f"the map cannot be written to {self.folder.parent}: {getattr(cause, 'strerror', None) or cause}. "
                f"{free_space(self.folder)} are free there{needed}. Make room if the disk is full or a quota is "
                f"reached. {self.remedy}"
            ) from error

    def path(self, block: CellBlock) -> Path:
        """Of a block's file: one folder a row of blocks, or a continent's would be too large to list."""
        return self.folder / _BLOCKS / f"{block.rows[0]:07d}" / f"{block.columns[0]:07d}"

    def has(self, block: CellBlock) -> bool:
        """Whether there is a file of the block."""
        return self.path(block).exists()

    def recover(self, block: CellBlock) -> bool:
        """Whether an earlier run finished this block; a file that is damaged or has holes is removed."""
        if not self.has(block):
            return False
        known = self.read(block)
        if known is None or known.holes:
            self.path(block).unlink()
            return False
        self.finished += 1
        return True

    def write(self, block: CellBlock, known: BlockValues) -> None:
        """Keep a block; it takes its name when it is whole."""
        path = self.path(block)
        header = {"row": block.rows[0], "column": block.columns[0], "shape": known.values.shape, "holes": known.holes}
        content = json.dumps(header).encode() + b"\n" + known.values.astype("<f4").tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        # The format's CRC is what tells a damaged file from a whole one, and cells outside the mask take no room.
        try:
            partial.write_bytes(gzip.compress(content, compresslevel=1))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self.finished += not known.holes

    def read(self, block: CellBlock) -> BlockValues | None:
        """A block that was kept; None if there is none, or its file is not as it was written."""
        try:
            header, _, content = gzip.decompress(self.path(block).read_bytes()).partition(b"\n")
            about = json.loads(header)
            if (about["row"], about["column"]) != (block.rows[0], block.columns[0]):
                return None
            values = np.frombuffer(content, "<f4").reshape(about["shape"])
            return BlockValues(values, tuple(about["holes"]))
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
            return None

    def discard(self) -> None:
        """Remove all but the lock."""
        self.finished = 0
        for item in self.folder.iterdir():
            if item.is_dir():
                shutil.rmtree(item)
            elif item.name != _LOCK:
                item.unlink()


@contextmanager
def unfinished(path: Path, job: Mapping[str, Any], *, resumable: bool) -> Iterator[Unfinished]:
    """The folder of a map's blocks, locked, holding what earlier runs of the same job finished.

    It goes when the map is finished, or when nothing in it is of use to a later run.

    Parameters
    ----------
    path : Path
        Of the map.
    job : mapping
        What the blocks depend on, in what JSON can hold. Blocks of another job are discarded.
    resumable : bool
        Whether ``job`` says all that they depend on. Otherwise nothing is taken over from an earlier run.

    Raises
    ------
    MapError
        If another process is making the same map, or the folder is not one that geopov made.
    """
    blocks = Unfinished(path.with_name(f"{path.name}.unfinished"), resumable=resumable)
    with blocks.disk_errors():
        lock = _lock(blocks.folder, path)
    try:
        with blocks.disk_errors():
            _prepare(blocks, {"about": _ABOUT, "map": path.name, "job": dict(job)})
        try:
            yield blocks
        except BaseException:
            if not (resumable and blocks.finished):
                _remove(blocks)
            raise
        _remove(blocks)
    finally:
        if lock in _held:
            _held.remove(lock)
            os.close(lock)


def _prepare(blocks: Unfinished, job: dict[str, Any]) -> None:
    path = blocks.folder / _JOB
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if blocks.resumable and before == json.loads(json.dumps(job)):
        for item in blocks.folder.iterdir():  # Half a map, where a run was killed while it was put together.
            if item.is_dir() and item.name != _BLOCKS:
                shutil.rmtree(item)
        return
    blocks.discard()
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(job, indent=1), encoding="utf-8")
    partial.replace(path)


def _remove(blocks: Unfinished) -> None:
    # Last goes the lock, still held: whoever opened it meanwhile sees that it has no name any more, and tries again.
    blocks.discard()
    (blocks.folder / _LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        blocks.folder.rmdir()


def _lock(folder: Path, path: Path) -> int:
    """An open, locked file in the folder, which is made if need be."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        names = {item.name for item in folder.iterdir()}
        if names and not names & {_JOB, _LOCK}:
            raise MapError(f"{folder} is in the way: it is not a folder that geopov made. Move it, or rename the map.")
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # Another process finished its map, and removed the folder, just now.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
            os.close(lock)
            raise MapError(
                f"{path} is being made by {who}. Wait for it or stop it: its finished blocks are kept, and the same "
                "command goes on from them. Or write to another path."
            ) from error
        except OSError:
            os.close(lock)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):
                _held.add(lock)
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return lock
        os.close(lock)
