"""Every error that geopov raises on purpose.

The tree; each also inherits the built-in a caller would catch without knowing geopov::

    GeopovError
    ├── CatalogError            (ValueError)         a catalogue that cannot be read, or an entry that is wrong
    │   ├── SourceNotFoundError (FileNotFoundError)  a name, a file or a wheel member that is not there
    │   ├── ChecksumError                            bytes that are not the bytes the catalogue promises
    │   └── OfflineError        (ConnectionError)    a download that is needed but not allowed
    ├── SurveyError             (ValueError)         survey tables, cluster points, outcomes
    ├── RasterError             (ValueError)         a scene that cannot be opened, read or placed on the ground
    ├── TileError               (ValueError)         a tile that cannot be planned, cut, saved or opened
    ├── FeatureError            (ValueError)         an extractor and the tiles it was given do not fit
    ├── RegressionError         (ValueError)         data a model or a split cannot be built on
    ├── MapError                (ValueError)         a grid, a raster or a style that cannot be written
    ├── StudyError              (ValueError)         a study file; carries every problem found, not only the first
    └── MissingDependencyError  (ImportError)        an extra that is not installed

A message says what was given, what was expected and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CatalogError",
    "ChecksumError",
    "FeatureError",
    "GeopovError",
    "MapError",
    "MissingDependencyError",
    "OfflineError",
    "RasterError",
    "RegressionError",
    "SourceNotFoundError",
    "StudyError",
    "SurveyError",
    "TileError",
]


class GeopovError(Exception):
    """Base of all errors raised on purpose by geopov."""

    def __str__(self) -> str:
        # KeyError and OSError relatives would otherwise show repr() or an errno in place of the message.
        return "\n".join(str(arg) for arg in self.args)


class CatalogError(GeopovError, ValueError):
    """A catalogue cannot be read, or one of its entries is wrong."""


class SourceNotFoundError(CatalogError, FileNotFoundError):
    """A name, a file or an archive member is not there."""

    # Of the two bases' the one that Python takes too; those who bring errors back from other processes ask for it.
    __new__ = FileNotFoundError.__new__  # type: ignore[assignment]


class ChecksumError(CatalogError):
    """The bytes received are not the bytes the catalogue promises."""


class OfflineError(CatalogError, ConnectionError):
    """A download is needed, but offline mode is on."""

    __new__ = ConnectionError.__new__  # type: ignore[assignment]


class SurveyError(GeopovError, ValueError):
    """A survey table, its cluster points or its outcome cannot be used."""


class RasterError(GeopovError, ValueError):
    """A scene cannot be opened, read, written or placed on the ground."""


class TileError(GeopovError, ValueError):
    """A tile cannot be planned, cut, saved or opened."""


class FeatureError(GeopovError, ValueError):
    """An extractor and the tiles it was given do not fit."""


class RegressionError(GeopovError, ValueError):
    """A model, a split or a score cannot be computed from this data."""


class MapError(GeopovError, ValueError):
    """A grid, a map or a style cannot be made."""


class StudyError(GeopovError, ValueError):
    """A study file is wrong.

    Attributes
    ----------
    problems : tuple of str
        Every problem found, in the order of the file.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(self.problems, start=1))
        super().__init__(message + lines)


class MissingDependencyError(GeopovError, ImportError):
    """An optional dependency is not installed; the message carries the pip line."""
