"""One file over https, resumed where it broke off, and renamed only when its sha256 is right."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, NoReturn

from geopov._validation import sha256_of
from geopov.catalog.cache import Cache
from geopov.errors import CatalogError, ChecksumError, SourceNotFoundError

__all__ = ["download"]

ATTEMPTS = 5
BACKOFF_S = 0.5  # doubled after each attempt: 7.5 s of waiting in all
TIMEOUT_S = 30.0
_PIECE_BYTES = 1 << 16  # at most this much of what came is lost when the process is killed
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class _TransferError(Exception):
    """A failure that another attempt may not meet."""


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Redirects are followed, but not to a plain connection."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise CatalogError(f"{req.full_url} redirects to {newurl}, which is not https.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def download(
    url: str, path: Path, *, sha256: str, source: str, cache: Cache, report: Callable[[int, int], None]
) -> None:
    """Download ``url`` to ``path``; the caller holds the cache's lock of ``sha256``.

    Parameters
    ----------
    url : str
        An https URL.
    path : Path
        Where the whole, verified file goes.
    sha256 : str
        Of its bytes.
    source : str
        Name of the source, for messages.
    cache : Cache
        Keeps the partial file, from which a later call goes on.
    report : callable
        Called with (done, total) bytes.

    Raises
    ------
    ChecksumError
        If the bytes are others than promised.
    SourceNotFoundError
        If the server has no such file.
    CatalogError
        If the transfer fails; after a passing failure, only when some attempts have met it.
    """
    partial = cache.work_path(f"{sha256}.partial")
    what = f"{source!r} ({url})"
    resumed = partial.exists()
    # A run killed between the last byte and the rename has left all of it.
    if not (resumed and sha256_of(partial) == sha256):
        _transfer(url, partial, what, cache, report)
        if resumed and sha256_of(partial) != sha256:
            # The two halves may be of two versions of the file: only a download in one piece can tell.
            partial.unlink()
            _transfer(url, partial, what, cache, report)
    got, size = sha256_of(partial), partial.stat().st_size
    if got != sha256:
        partial.unlink()
        raise ChecksumError(
            f"{what}: the {size:,} bytes received have sha256 {got}, expected {sha256}. "
            "They were thrown away. Fetch again; if it repeats, the file has changed at its source: "
            "look at what changed before you put the new sha256 into the catalogue."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(path)


def _transfer(url: str, partial: Path, what: str, cache: Cache, report: Callable[[int, int], None]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _receive(url, partial, what, cache, report)
        except _TransferError as error:
            if attempt == ATTEMPTS:
                kept = partial.stat().st_size if partial.exists() else 0
                raise CatalogError(
                    f"{what}: the download failed {ATTEMPTS} times, the last time because {error}. "
                    f"{kept:,} bytes are kept; fetch again to go on from there."
                ) from error
        time.sleep(BACKOFF_S * 2 ** (attempt - 1))
    return None


def _receive(url: str, partial: Path, what: str, cache: Cache, report: Callable[[int, int], None]) -> None:
    """One attempt: ask for what is missing of ``partial`` and append it, or start over if the server does."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "geopov", "Accept-Encoding": "identity"})  # noqa: S310
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with _opener().open(request, timeout=TIMEOUT_S) as response:
            appending = response.status == HTTPStatus.PARTIAL_CONTENT
            if appending and not _continues_at(start, response.headers.get("Content-Range")):
                partial.unlink(missing_ok=True)
                raise _TransferError("the server sent another range than asked for")
            done = start if appending else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length and length.isdigit() else 0
            cache.check_space(total - done, what)
            with partial.open("ab" if appending else "wb") as stream:
                for piece in iter(lambda: response.read(_PIECE_BYTES), b""):
                    stream.write(piece)
                    done += len(piece)
                    report(done, max(done, total))
    except urllib.error.HTTPError as error:
        with error:
            _refused(error.code, partial, what)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        _broken(error, what)
    if done < total:
        raise _TransferError(f"it ended after {done:,} of {total:,} bytes")


def _opener() -> urllib.request.OpenerDirector:
    # A fresh context reads SSL_CERT_FILE and SSL_CERT_DIR, which is how a private authority is trusted.
    context = ssl.create_default_context()
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _HttpsOnly())


def _continues_at(start: int, content_range: str | None) -> bool:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return match is not None and int(match.group(1)) == start


def _refused(status: int, partial: Path, what: str) -> NoReturn:
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        # More is here than the server has, so it is not a beginning of the server's file.
        partial.unlink(missing_ok=True)
        raise _TransferError("the partial file was longer than the server's")
    if status in _PASSING_STATUS:
        raise _TransferError(f"the server answered {status}")
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise SourceNotFoundError(f"{what}: the server has no such file (it answered {status}). Check the URL.")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise CatalogError(f"{what}: the server redirects ({status}) to a place which is not https, or in circles.")
    raise CatalogError(f"{what}: the server answered {status}. Check the URL, and whether it asks for a login.")


def _broken(error: Any, what: str) -> NoReturn:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        raise CatalogError(
            f"{what}: the server's certificate cannot be trusted ({reason.verify_message}). "
            "If your organisation has its own authority, name its file in SSL_CERT_FILE."
        ) from error
    raise _TransferError(str(reason) or type(reason).__name__) from error
