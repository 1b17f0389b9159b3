"""Files as surveys are handed out: in folders, in zips, and in zips inside one zip, behind one list.

A zip from elsewhere is not trusted: what it declares is checked when it is listed and again, byte by byte, when a
member is unpacked. The checks follow the ZIP application note (APPNOTE.TXT 6.3.10, sections 4.3.12 and 4.4).
"""

from __future__ import annotations

import copy
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from geopov._validation import atomic_path, some
from geopov.errors import SurveyError

# Many times a recode of a gigabyte, and little enough to stop before most disks are full.
MAX_BYTES = 32 * 2**30
# Deflate reaches 1032 at most, on one byte repeated. A table of one-byte codes, 99.9% of them blank at random, packs
# 270 to 1, and one with 99% of its columns blank 135 to 1.
MAX_RATIO = 500
# A small member may be all zeros without harm.
RATIO_MATTERS_BYTES = 100 * 2**20
# What GDAL and pyreadstat read besides the file that is named.
_SIBLINGS = {".shp": (".shx", ".dbf", ".prj", ".cpg"), ".sas7bdat": (".sas7bcat",)}
_CLUTTER = {"__macosx", "thumbs.db", "desktop.ini"}
_PIECE_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, UnicodeError)
_BY_HAND = "If you trust it, unpack it yourself and name the folder."


@dataclass(frozen=True)
class SourceFile:
    """One file of a survey, wherever it lies."""

    name: str
    """File name without folders, in its own spelling: ``RWHR61FL.DTA``."""
    origin: str
    """Where it came from, from the given source on: ``RWHR61DT.ZIP/RWHR61FL.DTA``."""
    size: int
    """Bytes, unpacked."""
    _locate: Callable[[], Path] = field(repr=False, compare=False)

    @property
    def suffix(self) -> str:
        """Extension in lower case, with its dot."""
        return Path(self.name).suffix.lower()

    def path(self) -> Path:
        """The file on disk: itself, or a zip member unpacked on first use until :func:`open_files` ends.

        A shapefile's .shx, .dbf, .prj and .cpg come along, and the .sas7bcat catalogue of a .sas7bdat.

        Raises
        ------
        SurveyError
            If the member is damaged, packed in a way that cannot be read, larger than it declares or than the free
            disk, or :func:`open_files` has ended.
        """
        return self._locate()


@contextmanager
def open_files(sources: Sequence[Path | str] | Path | str, *, max_bytes: int = MAX_BYTES) -> Iterator[list[SourceFile]]:
    """The files in some folders, files and zips, in a fixed order, nothing unpacked unless asked for.

    Hidden files and what file managers leave behind (``__MACOSX``, ``Thumbs.db``) are passed over. A zip inside a zip
    is opened too, as bulk downloads come; for its list it is unpacked as a whole. A file reached twice counts once.

    Parameters
    ----------
    sources : sequence of path
        Folders (with all below them), zips (by extension) and plain files.
    max_bytes : int
        Most bytes that one zip may declare, unpacked.

    Yields
    ------
    list of SourceFile
        Their unpacked members vanish when the block ends.

    Raises
    ------
    SurveyError
        If a source is not there or nothing is in it; if a zip is truncated, no zip or encrypted, has members that
        leave its folder (``../``, absolute, links), declares over ``max_bytes``, or is packed as zip bombs are.
    """
    given = [Path(sources)] if isinstance(sources, str | Path) else [Path(source) for source in sources]
    if not given:
        raise SurveyError("no file is given; expected folders, zips or files of a survey.")
    with tempfile.TemporaryDirectory(prefix="geopov-") as scratch:
        unpacker = _Unpacker(Path(scratch), max_bytes)
        files: dict[Path, list[SourceFile]] = {}
        for source in given:
            for path, origin in _walk(source):
                if path.resolve() not in files:
                    files[path.resolve()] = _open_plain(path, origin, unpacker)
        found = [file for each in files.values() for file in each]
        if not found:
            raise SurveyError(f"there is no file in {some(given)}; is it the right folder, and was it unpacked?")
        yield found


def _walk(source: Path) -> Iterator[tuple[Path, str]]:
    """The files of one source, each with its place in it."""
    if source.is_file():
        yield source, source.name
        return
    if not source.is_dir():
        raise SurveyError(f"{source} is not there; check the path.")
    seen = {source.resolve()}
    for folder, folders, names in os.walk(source, followlinks=True):
        inner = {name: Path(folder, name).resolve() for name in sorted(folders) if not _is_clutter(name)}
        # A link back to a folder above would be walked for ever.
        folders[:] = [name for name, real in inner.items() if real not in seen]
        seen.update(inner.values())
        for name in sorted(names):
            path = Path(folder, name)
            if _is_clutter(name):
                continue
            if not path.is_file():
                raise SurveyError(f"{path} is no file, or a link to nowhere; remove it or give it its target.")
            yield path, path.relative_to(source).as_posix()


def _open_plain(path: Path, origin: str, unpacker: _Unpacker) -> list[SourceFile]:
    if path.suffix.lower() == ".zip":
        return unpacker.list(path, origin)
    return [SourceFile(path.name, origin, path.stat().st_size, lambda: path)]


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


class _Unpacker:
    """Lists zips, each with a folder of its own for the members that will be asked for."""

    def __init__(self, scratch: Path, max_bytes: int) -> None:
        self.scratch = scratch
        self.max_bytes = max_bytes
        self.archives = 0

    def list(self, archive: Path, origin: str, *, depth: int = 1) -> list[SourceFile]:
        """The members of one zip, checked, those of zips inside it included."""
        members = self._members(archive, origin)
        folder = self.scratch / str(self.archives)
        self.archives += 1
        files = []
        for name, info in sorted(members.items()):
            where = f"{origin}/{name}"
            member = _Member(archive, origin, members, name, folder)
            if Path(name).suffix.lower() != ".zip":
                files.append(SourceFile(PurePosixPath(name).name, where, info.file_size, member.locate))
            elif depth == 2:
                raise SurveyError(f"{where} is a zip in a zip in a zip; unpack the outer one and name its folder.")
            else:
                files += self.list(member.locate(), where, depth=depth + 1)
        return files

    def _members(self, archive: Path, origin: str) -> dict[str, zipfile.ZipInfo]:
        with _opened(archive, origin) as opened:
            infos = opened.infolist()
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = _member_name(info, origin)
            if info.is_dir() or any(_is_clutter(part) for part in PurePosixPath(name).parts):
                continue
            if name in members:
                raise SurveyError(f"{origin} has two members named {name!r}; unpack it and keep the right one.")
            members[name] = info
            _check_ratio(info.file_size, info.compress_size, f"{origin}/{name}")
        declared = sum(info.file_size for info in members.values())
        # Members of a bomb may share their bytes, each harmless alone.
        _check_ratio(declared, archive.stat().st_size, origin)
        if declared > self.max_bytes:
            raise SurveyError(
                f"{origin} declares {_gib(declared)} unpacked, over the limit of {_gib(self.max_bytes)}. {_BY_HAND}"
            )
        return members


@dataclass(frozen=True)
class _Member:
    """A member of a zip, and the files beside it that it is read with."""

    archive: Path
    origin: str
    members: dict[str, zipfile.ZipInfo]
    name: str
    folder: Path

    def locate(self) -> Path:
        """The path, after unpacking the member and its siblings if they are not there yet."""
        if not self.folder.parent.is_dir():
            raise SurveyError(
                f"{self.origin}/{self.name} was asked for after open_files ended; use it inside the block."
            )
        target = self.folder / self.name
        for sibling in self._siblings():
            other = self.folder / sibling
            if other.stem.lower() == target.stem.lower():
                # GDAL looks for .shx beside .shp and .SHX beside .SHP; zips mix them.
                other = target.with_suffix(other.suffix.upper() if target.suffix.isupper() else other.suffix.lower())
            self._unpack(sibling, other)
        self._unpack(self.name, target)
        return target

    def _siblings(self) -> list[str]:
        own = PurePosixPath(self.name)
        wanted = _SIBLINGS.get(own.suffix.lower(), ())
        others = [PurePosixPath(name) for name in self.members]
        return [
            str(other)
            for other in others
            if other.parent == own.parent
            and other.suffix.lower() in wanted
            # A catalogue of formats serves every table beside it, whatever its name.
            and (other.suffix.lower() == ".sas7bcat" or other.stem.lower() == own.stem.lower())
        ]

    def _unpack(self, name: str, target: Path) -> None:
        if target.is_file():
            return
        origin, info, scratch = f"{self.origin}/{name}", self.members[name], self.folder.parent
        free = shutil.disk_usage(scratch).free
        if info.file_size > free:
            raise SurveyError(
                f"{origin} needs {_gib(info.file_size)} unpacked and {scratch.parent} has {_gib(free)} free. "
                "Make room, or set TMPDIR to a folder on a larger disk."
            )
        with _opened(self.archive, origin) as opened:
            try:
                with atomic_path(target) as partial, partial.open("wb") as out:
                    for piece in _inflate(opened, info, origin):
                        out.write(piece)
            except OSError as error:
                raise SurveyError(f"{origin} cannot be unpacked into {scratch.parent}: {error}.") from error


@contextmanager
def _opened(archive: Path, origin: str) -> Iterator[zipfile.ZipFile]:
    """A zip open for reading, the ways in which zips are broken told apart."""
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except NotImplementedError as error:
        raise SurveyError(f"{origin} is packed in a way not read here ({error}). {_BY_HAND}") from error
    except (*_DAMAGE, OSError, RuntimeError) as error:
        whole = zipfile.is_zipfile(archive)
        remedy = "It is damaged: download it again." if whole else "It is cut short, or no zip: download it again."
        raise SurveyError(f"{origin} cannot be read: {error}. {remedy}") from error


def _member_name(info: zipfile.ZipInfo, origin: str) -> str:
    """The member's name with forward slashes, or an error if it is not safe to unpack."""
    name = info.filename
    if not info.flag_bits & 0x800:
        # Without that flag the name is cp437 by the standard; macOS writes UTF-8 all the same.
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    place = PurePosixPath(name.replace("\\", "/"))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not place.name or place.is_absolute() or ".." in place.parts or re.match(r"[A-Za-z]:", name):
        raise SurveyError(f"{origin} has a member {name!r} that would be written outside its folder; do not trust it.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise SurveyError(f"{origin} has a member {name!r} that is a link or a device, no file; do not trust it.")
    if info.flag_bits & 0x1:
        raise SurveyError(f"{origin} is encrypted ({name!r}); unpack it with its password and name the folder.")
    return place.as_posix()


def _check_ratio(unpacked: int, packed: int, origin: str) -> None:
    if unpacked > RATIO_MATTERS_BYTES and unpacked > MAX_RATIO * max(packed, 1):
        raise SurveyError(f"{origin} packs {_gib(unpacked)} into {packed} bytes, as a zip bomb does. {_BY_HAND}")


def _inflate(opened: zipfile.ZipFile, info: zipfile.ZipInfo, origin: str) -> Iterator[bytes]:
    """The bytes of a member, as many as it declares."""
    # zipfile stops at the declared size and calls what it has the member; asked for more it shows what follows.
    generous = copy.copy(info)
    generous.file_size = info.file_size + 2 * _PIECE_BYTES
    so_far = 0
    with opened.open(generous) as stream:
        while piece := stream.read(_PIECE_BYTES):
            so_far += len(piece)
            if so_far > info.file_size:
                raise SurveyError(f"{origin} is larger than the {info.file_size} bytes it declares; do not trust it.")
            yield piece
    if so_far < info.file_size:
        raise SurveyError(f"{origin} ends after {so_far} of {info.file_size} bytes; download it again.")


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"
