"""A map of predicted welfare, read strip by strip as logarithms with their errors, beside other rasters of its grid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.windows import Window
from scipy.special import ndtri

from geopov._validation import sha256_of, some
from geopov.errors import MapError
from geopov.maps.read import RasterMap

Floats = NDArray[np.float64]

BANDS = ("mean", "lower", "upper", "in_support")
"""Of a welfare map."""
SUPPORT_UNIT = "1 = inside the training data, 0 = outside"

# A strip holds a handful of float64 arrays of so many cells: some 30 MB.
_STRIP_CELLS = 1 << 19


@dataclass(frozen=True)
class Strip:
    """Rows of a welfare map, in logarithms; each array is (rows, width) and NaN where the map is.

    Attributes
    ----------
    first : int
        Row of the map.
    mean, lower, upper : array
        Predicted logarithm and the ends of its interval.
    in_support : array
        1 or 0.
    error_sd : array
        Standard deviation of the prediction error.
    """

    first: int
    mean: Floats
    lower: Floats
    upper: Floats
    in_support: Floats
    error_sd: Floats


@dataclass(frozen=True)
class WelfareMap:
    """An open map of a predicted logarithm, as :func:`geopov.study.predict_map` writes it, with or without "exp".

    Attributes
    ----------
    raster : RasterMap
        Bands mean, lower, upper, in_support.
    unit : str
        Of the amount, not of its logarithm.
    level : float
        Of the interval.
    transform : str
        "exp" where the bands hold the amount itself.
    """

    raster: RasterMap
    unit: str
    level: float
    transform: str

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[WelfareMap]:
        """Open a welfare map and close it at the end of the block.

        Raises
        ------
        MapError
            If a band or a tag is missing, or the map holds something else than logarithms or their exponential.
        """
        with RasterMap.open(path) as raster:
            transform, unit = raster.tags.get("transform", ""), raster.units[welfare_bands(raster)[0] - 1]
            logarithm = re.fullmatch(r"\s*(?:ln|log)\s*\((.*)\)\s*", unit)
            if transform not in ("none", "exp") or (transform == "none") != bool(logarithm):
                raise MapError(
                    f"{path} has the unit {unit!r} and the tag transform {transform!r}; expected a prediction of log "
                    "consumption: unit 'ln(...)' with transform none, or the amount's own unit with transform exp."
                )
            amount = logarithm.group(1) if logarithm else unit
            yield cls(raster, amount.strip(), interval_level(raster), transform)

    def strips(self, rows: int | None = None) -> Iterator[Strip]:
        """The map from north to south."""
        quantile = ndtri((1 + self.level) / 2)
        for first, values in read_strips(self.raster, welfare_bands(self.raster), rows or rows_per_strip(self.raster)):
            if self.transform == "exp":
                if (values[:3] <= 0).any():
                    raise MapError(f"{self.raster.path} holds amounts of zero or less, which have no logarithm.")
                values[:3] = np.log(values[:3])
            mean, lower, upper, support = values
            if (lower > upper).any():
                raise MapError(f"{self.raster.path} has cells whose lower bound lies above the upper; map it again.")
            yield Strip(first, mean, lower, upper, support, (upper - lower) / (2 * quantile))


def welfare_bands(raster: RasterMap) -> list[int]:
    """Numbers of the bands mean, lower, upper and in_support; raises where one is missing."""
    missing = [name for name in BANDS if raster.band_number(name) is None]
    if missing:
        raise MapError(
            f"{raster.path} has no band {some(missing)}; its bands are {some(raster.band_names, 20)}. "
            f"Expected a welfare map with {', '.join(BANDS)}, as `geopov maps predict` writes it."
        )
    return [raster.band_names.index(name) + 1 for name in BANDS]


def interval_level(raster: RasterMap) -> float:
    """Nominal coverage of a map's interval, from its tag ``interval`` such as "90%"."""
    stated = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", raster.tags.get("interval", ""))
    level = float(stated.group(1)) / 100 if stated else 0.0
    if not 0 < level < 1:
        raise MapError(
            f"{raster.path} does not say what its interval covers (tag interval is "
            f"{raster.tags.get('interval')!r}); write it in, for 90%: rio edit-info --tag interval=90%."
        )
    return level


def rows_per_strip(raster: RasterMap) -> int:
    """Rows to read at once."""
    return max(1, _STRIP_CELLS // int(raster.source.width))


def read_strips(raster: RasterMap, bands: Sequence[int], rows: int) -> Iterator[tuple[int, Floats]]:
    """First row and values (band, rows, width) of consecutive strips; NaN where any of the bands has no data."""
    source = raster.source
    for first in range(0, source.height, rows):
        values = read_rows(raster, bands, first, min(first + rows, source.height))
        values[:, np.isnan(values).any(axis=0)] = np.nan
        yield first, values


def read_rows(raster: RasterMap, bands: Sequence[int], first: int, last: int) -> Floats:
    """Rows ``first`` to ``last`` (exclusive) as float (band, rows, width) with NaN for nodata."""
    window = Window(0, first, raster.source.width, last - first)
    try:
        read = raster.source.read(list(bands), window=window, masked=True)
    except RasterioIOError as error:
        raise MapError(f"{raster.path} cannot be read, it may be cut short: {error}") from error
    values: Floats = read.astype(float).filled(np.nan)
    values[~np.isfinite(values)] = np.nan
    return values


def check_same_grid(first: RasterMap, other: RasterMap) -> None:
    """Raise unless two rasters have the same CRS, origin, cell size and shape."""
    a, b = first.source, other.source
    near = np.allclose(np.array(a.transform), np.array(b.transform), rtol=0, atol=1e-3 * abs(a.transform.a))
    if first.crs != other.crs or a.shape != b.shape or not near:
        grids = "; ".join(_grid_words(raster) for raster in (first, other))
        raise MapError(
            f"two rasters lie on different grids ({grids}). Make them with the same region and cell size, "
            "or lay one on the grid of the other first: geopov.maps.density.weights.resample_to."
        )


def _grid_words(raster: RasterMap) -> str:
    source, (west, _, _, north) = raster.source, raster.bounds
    size = f"{source.width} x {source.height} cells of {source.transform.a:g}"
    return f"{raster.path.name}: {raster.crs_name}, {size} from ({west:.10g}, {north:.10g})"


def plain_unit(unit: str) -> str:
    """A unit without what spelling leaves open: "PPP USD per person per day" and "PPP USD/person/day" are one."""
    return re.sub(r"\s*(?:/|\bper\b)\s*", "/", " ".join(unit.casefold().split()))


def inherited_tags(welfare: RasterMap, *, population: str | Path | None = None) -> dict[str, str]:
    """What a map made from ``welfare`` says of it: its digest, and its interval, outcome, source and year if it has."""
    kept = {name: welfare.tags[name] for name in ("interval", "outcome", "source", "year") if name in welfare.tags}
    digests = {"population_sha256": sha256_of(Path(population))} if population is not None else {}
    return kept | {"welfare_sha256": sha256_of(welfare.path)} | digests
