"""Scenes: what a source raster holds and where it lies, learned from headers alone."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS

from geopov._validation import some
from geopov.errors import RasterError
from geopov.grid import Bounds
from geopov.raster.file import Header, RasterFile, read_header

__all__ = ["Scene", "agree_on_bands"]

PathLike = str | os.PathLike[str]
BandChoice = Sequence[int | str]
NodataChoice = float | Sequence[float | None]


@dataclass(frozen=True)
class Scene:
    """A source image: one file, or several whose bands are stacked.

    The first file is the reference: its CRS and its grid are the scene's. The others may lie on any grid in any CRS.

    Attributes
    ----------
    name : str
        Shown in tables and messages.
    files : tuple of RasterFile
        In the order given; each is path-like.
    band_names : list of str
        One a band, unique.

    Examples
    --------
    >>> scene = Scene.open(["viirs.tif", "ndvi.tif"])  # doctest: +SKIP
    >>> scene.band_names  # doctest: +SKIP
    ['viirs', 'ndvi']
    """

    name: str
    files: tuple[RasterFile, ...]
    band_names: list[str]

    @classmethod
    def open(
        cls,
        paths: PathLike | Sequence[PathLike],
        *,
        bands: BandChoice | None = None,
        nodata: NodataChoice | None = None,
        name: str | None = None,
    ) -> Scene:
        """Read the headers of a file, or of several files to be stacked as bands.

        Parameters
        ----------
        paths : path or sequence of paths
            Anything GDAL reads; the first is the reference grid.
        bands : sequence of int or str, optional
            Bands to keep, in this order: names, or numbers from 1 across the stacked files. Default: all but alpha.
        nodata : float or sequence of float, optional
            Missing value that replaces what the files say, for all bands or one for each kept band (None: no value
            is missing). NaN and infinity are always invalid.
        name : str, optional
            Default: the first file's stem.

        Raises
        ------
        RasterError
            If a file cannot be read, has no CRS, is rotated, or a band is not there.
        """
        sources = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not sources:
            raise RasterError("no file was given; a scene needs at least one.")
        headers = [read_header(os.fspath(path)) for path in sources]
        candidates = _name_bands(headers)
        chosen = _choose_bands(candidates, bands, [header.path for header in headers])
        missing = _missing_values(chosen, nodata)
        files = []
        for i, header in enumerate(headers):
            slots = [slot for slot, band in enumerate(chosen) if band.file == i]
            if slots:
                files.append(header.select([chosen[s].number for s in slots], slots, [missing[s] for s in slots]))
        first = sources[0]
        return cls(name or Path(os.fspath(first)).stem, tuple(files), [band.name for band in chosen])

    @classmethod
    def stack(cls, scenes: Sequence[Scene]) -> Scene:
        """One scene with the bands of all, on the grid of the first.

        Raises
        ------
        RasterError
            If there is none, or two bands have the same name.
        """
        if not scenes:
            raise RasterError("no scene was given; a stack needs at least one.")
        names = [name for scene in scenes for name in scene.band_names]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise RasterError(f"the bands {some(repeated)} stand in more than one of the stacked scenes; rename them.")
        files: list[RasterFile] = []
        before = 0
        for scene in scenes:
            files += [replace(file, slots=tuple(slot + before for slot in file.slots)) for file in scene.files]
            before += len(scene.band_names)
        return cls(scenes[0].name, tuple(files), names)

    def rename(self, band_names: Sequence[str]) -> Scene:
        """The same scene with other names for its bands.

        Raises
        ------
        RasterError
            If there are not as many names as bands, or one stands twice.
        """
        names = [str(name) for name in band_names]
        if len(names) != len(self.band_names) or len(set(names)) != len(names):
            raise RasterError(
                f"{self.name} has the bands {some(self.band_names, 20)}; they cannot be renamed to {some(names, 20)}: "
                "expected one different name for each."
            )
        return replace(self, band_names=names)

    @property
    def crs(self) -> CRS:
        """Of the reference file."""
        return self.files[0].crs

    @property
    def transform(self) -> Affine:
        """Of the reference file, north up."""
        level = self.files[0].levels[0]
        return Affine(level.dx, 0.0, level.left, 0.0, -level.dy, level.top)

    @property
    def width(self) -> int:
        """Columns of the reference file."""
        return self.files[0].levels[0].width

    @property
    def height(self) -> int:
        """Rows of the reference file."""
        return self.files[0].levels[0].height

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in the scene's CRS."""
        return self.files[0].bounds

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the pixels of all files."""
        return np.result_type(*(file.dtype for file in self.files))

    @property
    def lonlat_bounds(self) -> Bounds:
        """West, south, east, north in degrees; west is above east where the scene crosses the 180th meridian."""
        return self.files[0].lonlat_bounds


@dataclass(frozen=True)
class _Band:
    file: int
    number: int
    name: str
    nodata: float | None
    is_alpha: bool


def _name_bands(headers: list[Header]) -> list[_Band]:
    """Bands of all files, each with a name of its own: its label, else made from the file's stem and its number."""
    labels = [label for header in headers for label in header.labels]
    bands, taken = [], set[str]()
    for i, header in enumerate(headers):
        stem = Path(header.path).stem
        for number, label in enumerate(header.labels, start=1):
            name = label if label is not None and labels.count(label) == 1 else None
            if name is None and len(headers) == 1:
                name = f"band_{number}"
            elif name is None:
                name = stem if len(header.labels) == 1 else f"{stem}_{label or number}"
            while name in taken:
                name = f"{name}_{number}"
            taken.add(name)
            bands.append(_Band(i, number, name, header.nodata[number - 1], header.alpha[number - 1]))
    return bands


def _choose_bands(bands: list[_Band], choice: BandChoice | None, paths: list[str]) -> list[_Band]:
    if choice is None:
        return [band for band in bands if not band.is_alpha] or bands
    by_name = {band.name: band for band in bands}
    chosen = []
    for wanted in choice:
        if isinstance(wanted, str) and wanted in by_name:
            chosen.append(by_name[wanted])
        elif not isinstance(wanted, str) and 1 <= wanted <= len(bands):
            chosen.append(bands[wanted - 1])
        else:
            raise RasterError(
                f"{some(paths)} has no band {wanted!r}; it has {len(bands)}: {some(by_name, 20)}. "
                "Give names, or numbers from 1."
            )
    if not chosen or len({band.name for band in chosen}) < len(chosen):
        raise RasterError(f"bands is {list(choice)!r}; expected at least one band, and each only once.")
    return chosen


def _missing_values(chosen: list[_Band], nodata: NodataChoice | None) -> list[float | None]:
    if nodata is None:
        return [band.nodata for band in chosen]
    if isinstance(nodata, int | float | np.number):
        return [float(nodata)] * len(chosen)
    if len(nodata) != len(chosen):
        raise RasterError(f"nodata has {len(nodata)} values for {len(chosen)} bands; give one, or one for each band.")
    return [None if value is None else float(value) for value in nodata]


def agree_on_bands(scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes of a mosaic under common band names, where only what their files share tells them apart.

    Stacked files are named after themselves: ``T36MZC_B04, T36MZC_B08`` of one granule and ``T37MBT_B04, T37MBT_B08``
    of the next both become ``B04, B08``. Scenes that agree already, or that differ in more, come back as they are.
    """
    if len({tuple(scene.band_names) for scene in scenes}) < 2:
        return list(scenes)
    short = [_without_common_parts(scene.band_names) for scene in scenes]
    if any(names != short[0] for names in short):
        return list(scenes)
    return [scene.rename(names) for scene, names in zip(scenes, short, strict=True)]


def _without_common_parts(names: Sequence[str]) -> list[str]:
    """Names without the words, parted by ``_``, ``-`` or ``.``, that all of them begin or end with."""
    words = [re.split("[_.-]", name) for name in names]
    for end in (0, -1):
        while len({parts[end] for parts in words}) == 1 and min(map(len, words)) > 1:
            for parts in words:
                parts.pop(end)
    return ["_".join(parts) for parts in words]
