"""The cache folder: verified files under their own sha256, so that catalogues share them and none is fetched twice."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geopov._validation import sha256_of
from geopov.errors import CatalogError

__all__ = ["Cache", "default_cache_dir", "offline_from_environment"]

_YES, _NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


def default_cache_dir() -> Path:
    """``$GEOPOV_CACHE``, or geopov's folder among the user's caches on this platform."""
    if chosen := os.environ.get("GEOPOV_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "geopov"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "geopov"


def offline_from_environment() -> bool:
    """Whether ``GEOPOV_OFFLINE`` forbids downloads.

    Raises
    ------
    CatalogError
        If it holds neither a yes nor a no.
    """
    value = os.environ.get("GEOPOV_OFFLINE", "").strip().lower()
    if value not in _YES | _NO:
        raise CatalogError(f"GEOPOV_OFFLINE is {value!r}; expected 1 to forbid downloads, or 0.")
    return value in _YES


@dataclass(frozen=True)
class Cache:
    """A folder of verified files; the only place the catalogue writes to.

    A file lies at ``ab/ab12.../filename`` where ``ab12...`` is its sha256. It gets there by one rename after its bytes
    were hashed, so a file under its final name is whole and right.

    Attributes
    ----------
    folder : Path
        Made when first written to.
    """

    folder: Path

    def place(self, sha256: str, filename: str) -> Path:
        """Where the file with this sha256 lies, or would lie."""
        return self.folder / sha256[:2] / sha256 / filename

    def holds(self, sha256: str, filename: str) -> bool:
        """Whether the file is there and its bytes still have this sha256."""
        path = self.place(sha256, filename)
        return path.is_file() and sha256_of(path) == sha256

    def work_path(self, name: str) -> Path:
        """A place for unfinished work, the same in every run so that a later one can go on; hold its lock."""
        path = self.folder / ".work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Only one process, and one thread of it, is inside a lock of one name; others wait."""
        path = self.work_path(f"{name}.lock")
        with path.open("a") as stream:
            # Released by the kernel when the stream closes, also when the process is killed.
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def check_space(self, n_bytes: int, what: str) -> None:
        """Raise unless the cache's disk has room for ``n_bytes`` more."""
        free = shutil.disk_usage(self.folder).free
        if n_bytes > free:
            raise CatalogError(
                f"{what} needs {n_bytes / 1e6:,.0f} MB, but {self.folder} has {free / 1e6:,.0f} MB left. "
                "Free some space, or choose another folder with GEOPOV_CACHE."
            )
