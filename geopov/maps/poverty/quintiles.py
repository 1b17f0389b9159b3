"""Fifths of people, or of cells, from poorest to best off: classes that need no unit and no line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geopov.errors import MapError
from geopov.maps.poverty.lognormal import Floats
from geopov.maps.poverty.welfare_map import (
    SUPPORT_UNIT,
    check_same_grid,
    inherited_tags,
    read_rows,
    read_strips,
    rows_per_strip,
    welfare_bands,
)
from geopov.maps.read import RasterMap
from geopov.raster.write import write_cog

_N_CLASSES = 5
_NO_CLASS = 255
# A class limit is right to the range of the map over this.
_BINS = 1 << 20


def write_quintiles(
    welfare: str | Path,
    *,
    path: str | Path,
    population: str | Path | None = None,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Map the fifth of the people that the people of each cell belong to, from 1, poorest, to 5.

    Everybody in a cell counts as being at its predicted level. ``lower`` and ``upper`` are the fifths that the ends of
    the cell's interval would fall into, among the predicted levels.

    Parameters
    ----------
    welfare : path
        A map of any predicted welfare, logarithm or index; bands mean, lower, upper, in_support.
    path : path
        Of the COG to write: uint8 bands ``quintile``, ``lower``, ``upper``, ``in_support``, 255 where unknown, with
        overviews of single cells since classes have no average.
    population : path, optional
        A map with a band ``people`` on the same grid; a fifth holds a fifth of them. Without it, a fifth of the cells.
    tags : mapping of str to str, optional
        Further provenance to store in the file.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If bands are missing, grids differ, people are negative, or no known cell has any.
    """
    with ExitStack() as stack:
        cells = stack.enter_context(RasterMap.open(welfare))
        welfare_bands(cells)
        people = stack.enter_context(RasterMap.open(population)) if population is not None else None
        low, high = _range(cells)
        classes = _classes(cells, people, low, high)

        def strips() -> Iterator[tuple[int, NDArray[np.uint8]]]:
            for first, values in _strips(cells):
                known = np.isfinite(values)
                bands = classes[_bin(np.where(known, values, low), low, high)]
                # in_support is a flag already, not a level.
                bands[3] = np.where(known[3], values[3], 0).round().astype(np.uint8)
                yield first, np.where(known, bands, _NO_CLASS).astype(np.uint8)

        of = "people" if people is not None else "cells"
        own = {"style": "quintile", "title": f"Welfare quintiles of {of}, from 1 (poorest) to 5", "quintiles_of": of}
        return write_cog(
            path,
            strips(),
            crs=cells.crs,
            transform=cells.source.transform,
            width=cells.source.width,
            height=cells.source.height,
            band_names=("quintile", "lower", "upper", "in_support"),
            # Four bands of bytes would be taken for a picture: red, green, blue and how opaque it is.
            dtype="uint8",
            nodata=_NO_CLASS,
            units=("quintile",) * 3 + (SUPPORT_UNIT,),
            description=own["title"],
            tags=inherited_tags(cells, population=population) | own | dict(tags or {}),
            overview_resampling="nearest",
        )


def people_band(raster: RasterMap) -> int:
    """Number of the band ``people`` of a population map."""
    band = raster.band_number("people")
    if band is None:
        raise MapError(
            f"{raster.path} has no band 'people'; its bands are {', '.join(raster.band_names)}. Expected the people of "
            "each cell, not their density, as `geopov maps density` writes them."
        )
    return band


def read_people(raster: RasterMap, first: int, last: int) -> Floats:
    """People (rows, width) of rows ``first`` to ``last`` (exclusive), 0 where the map knows none."""
    people: Floats = np.nan_to_num(read_rows(raster, [people_band(raster)], first, last)[0])
    if (people < 0).any():
        raise MapError(f"{raster.path} has cells with fewer than 0 people; is its nodata value declared?")
    return people


def _strips(cells: RasterMap) -> Iterator[tuple[int, Floats]]:
    return read_strips(cells, welfare_bands(cells), rows_per_strip(cells))


def _range(cells: RasterMap) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for _, values in _strips(cells):
        known = values[0][np.isfinite(values[0])]
        low, high = min(low, known.min(initial=np.inf)), max(high, known.max(initial=-np.inf))
    if low > high:
        raise MapError(f"{cells.path} has no cell with data, so there is nothing to divide.")
    return float(low), float(high)


def _bin(values: Floats, low: float, high: float) -> NDArray[np.int64]:
    scaled = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    return np.clip(scaled * (_BINS - 1), 0, _BINS - 1).round().astype(np.int64)


def _classes(cells: RasterMap, people: RasterMap | None, low: float, high: float) -> NDArray[np.uint8]:
    """The class of each bin: the fifth that the middle of its people lies in."""
    weight = np.zeros(_BINS)
    if people is not None:
        check_same_grid(cells, people)
    for first, values in _strips(cells):
        mean = values[0]
        known = np.isfinite(mean)
        of = read_people(people, first, first + len(mean))[known] if people is not None else np.ones(known.sum())
        weight += np.bincount(_bin(mean[known], low, high), weights=of, minlength=_BINS)
    total = weight.sum()
    if not total > 0:
        raise MapError("no cell of known welfare has people; are the two maps of the same place?")
    middle = (np.cumsum(weight) - weight / 2) / total
    return np.asarray(np.clip(np.floor(middle * _N_CLASSES) + 1, 1, _N_CLASSES), dtype=np.uint8)
