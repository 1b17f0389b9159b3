"""Asking again: how long a network store may keep a reading waiting, how often it is asked, and what is in vain."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import rasterio
from rasterio.env import get_gdal_config, getenv, hasenv, setenv
from rasterio.errors import RasterioError

__all__ = ["FailedError", "ask", "inherited_options", "is_remote"]

T = TypeVar("T")

# GDAL's file systems that speak with a server, and the schemes that rasterio turns into them; archives may wrap them.
_REMOTE = re.compile(
    r"(^|/)vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(_streaming)?[/?]|^([a-z0-9]+\+)*(https?|ftp|s3|gs|az|oss)://",
    re.IGNORECASE,
)

# Seconds before the next try. A crowded store ("503 slow down") mostly takes requests again within seconds. A file on
# a disk is tried once more with a new handle, which heals a stale one; waiting would not make damage whole.
STORE_PAUSES_S = (0.5, 3.0)
DISK_PAUSES_S = (0.0,)

# GDAL itself waits for ever. With these a request ends after 10 s without a byte, and after 60 s in any case: a read
# unit is about a megabyte, so the store must send 17 kB a second. GDAL asks three times for pixels that do not come,
# so that a unit of a silent store is given up after 3 tries x 3 x 10 s and the pauses, 94 s, and one of a store that
# trickles after 3 x 3 x 60 s, 9 minutes.
STORE_OPTIONS: dict[str, Any] = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_LOW_SPEED_TIME": 10,
    "GDAL_HTTP_TIMEOUT": 60,
    # Tries are counted here, where each starts with a new handle.
    "GDAL_HTTP_MAX_RETRY": 0,
    # Else opening a file lists its folder, which may hold millions, and asks for ten names of files beside it.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}

# GDAL keeps for the whole process that a file was not there, and the bytes of a transfer that broke off as if the file
# ended there. What was opened under this option is forgotten when it is closed.
_FORGET = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/:/vsiadls/:/vsioss/:/vsiswift/:/vsiwebhdfs/"}

# "No" of a server that hears us, in contrast to 408 (too slow), 425 (too early) and 429 (too often).
_FINAL = re.compile(r"response code:? *4(?!08|25|29)\d\d|does not exist|access ?denied", re.IGNORECASE)


class FailedError(Exception):
    """All tries failed; the message says why and how many there were."""


def is_remote(path: str) -> bool:
    """Whether a path leads to a network store: an address, a bucket, or GDAL's name for one."""
    return _REMOTE.search(path) is not None


def inherited_options() -> dict[str, Any]:
    """GDAL options and credentials set by ``rasterio.Env`` in this thread, to hand to others: each has its own."""
    return dict(getenv()) if hasenv() else {}


def ask(path: str, action: Callable[[], T], *, options: Mapping[str, Any] | None = None) -> T:
    """Do what reads a file, again after a pause where it fails.

    Parameters
    ----------
    path : str
        Of the file. One in a network store is read with limits on time (:data:`STORE_OPTIONS`) unless the environment
        or ``rasterio.Env`` sets others.
    action : callable
        Reads it through rasterio. It must not keep a handle that failed.
    options : mapping, optional
        GDAL options of another thread that hold here too (:func:`inherited_options`).

    Raises
    ------
    FailedError
        If the last try failed too, or a server said no.
    """
    pauses = STORE_PAUSES_S if is_remote(path) else DISK_PAUSES_S
    tries = 0
    while True:
        try:
            with _settings(path, options or {}, forget=tries > 0):
                return action()
        except RasterioError as error:
            tries += 1
            final = _FINAL.search(str(error)) is not None
            # The first "no" may be what GDAL remembers of an hour ago.
            if tries > len(pauses) or (final and tries > 1):
                raise FailedError(f"{_reason(path, error)}; tried {tries} times") from error
        if not final:
            time.sleep(pauses[tries - 1])


def _settings(path: str, options: Mapping[str, Any], *, forget: bool) -> AbstractContextManager[None]:
    return _store_settings(options, _FORGET if forget else {}) if is_remote(path) else nullcontext()


@contextmanager
def _store_settings(options: Mapping[str, Any], forget: Mapping[str, Any]) -> Iterator[None]:
    chosen = {name: value for name, value in STORE_OPTIONS.items() if get_gdal_config(name) is None}
    with rasterio.Env(**chosen):
        # Not through Env(...), which refuses credentials that are not in a session.
        setenv(**options, **forget)
        yield


def _reason(path: str, error: BaseException) -> str:
    """What went wrong first, of the chain of complaints that it led to; one line, without the path."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".").split(f"{path}:", 1)[-1].strip()
    # libtiff counts with -1 where a format has no rows.
    return text.replace(" at row 4294967295, col 4294967295", "")
