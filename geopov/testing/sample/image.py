"""The daytime image: what land, fields, roofs and roads reflect at 10 m in blue, green, red and near infrared.

Wealth shows in roofs (metal rather than thatch, and larger), in fields (larger, greener parcels), in roads (tarmac
rather than earth; streets on a grid) and in trees among houses. Soil, wild plants, bare rock, rivers, shade and haze
vary more than any of these, and have nothing to do with it. Old metal has the colour of red soil, and bare rock is as
bright as new metal: a pixel alone does not tell a roof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit

from geopov.testing.sample.fields import FINE, Floats, refine, smooth_noise
from geopov.testing.sample.people import Land, People

__all__ = ["BANDS", "SCALE", "Paint", "paint", "strips"]

BANDS = ("blue", "green", "red", "nir")
SCALE = 400.0
"""Digital numbers (0-255) per unit of reflectance."""

Colour = tuple[float, float, float, float]
_PALE_SOIL: Colour = (0.13, 0.18, 0.24, 0.32)
_RED_SOIL: Colour = (0.07, 0.10, 0.19, 0.27)
_GRASS: Colour = (0.06, 0.09, 0.10, 0.26)
_TREES: Colour = (0.03, 0.05, 0.04, 0.30)
_CROP: Colour = (0.04, 0.09, 0.06, 0.40)
_FALLOW: Colour = (0.10, 0.14, 0.19, 0.27)
_ROCK: Colour = (0.24, 0.28, 0.31, 0.35)
_WATER: Colour = (0.05, 0.06, 0.04, 0.02)
_TARMAC: Colour = (0.09, 0.10, 0.10, 0.12)
_EARTH_ROAD: Colour = (0.14, 0.19, 0.27, 0.35)
_METAL: Colour = (0.34, 0.36, 0.38, 0.42)
_RUST: Colour = (0.12, 0.14, 0.22, 0.28)
_THATCH: Colour = (0.09, 0.12, 0.15, 0.22)

_STRIP = 48
"""Cells (100 m) painted at once."""


@dataclass(frozen=True)
class Paint:
    """Things on the ground at single pixels, in the order they are painted, sorted by row.

    Attributes
    ----------
    row, col : int array (k,)
        Pixel.
    colour : float32 array (k, 4)
        Reflectance by band.
    cover : float32 array (k,)
        Share of the pixel that the thing covers.
    """

    row: npt.NDArray[np.int64]
    col: npt.NDArray[np.int64]
    colour: Floats
    cover: Floats

    def rows(self, first: int, last: int) -> slice:
        """Those in rows ``first`` to ``last`` (exclusive)."""
        low, high = np.searchsorted(self.row, [first, last])
        return slice(int(low), int(high))


def paint(rng: np.random.Generator, land: Land, people: People) -> list[Paint]:
    """Roofs, then roads over them; what would lie on a lake is left out."""
    return [_dry(_roofs(rng, people), land), _dry(_roads(rng, people), land)]


def strips(
    rng: np.random.Generator, land: Land, people: People, things: list[Paint]
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The image in strips of rows, as :func:`geopov.raster.write_cog` takes them."""
    n = len(people.wealth)
    ground = _Ground(rng, land, people)
    for first in range(0, n, _STRIP):
        rows = (first * FINE, min(first + _STRIP, n) * FINE)
        image = ground.paint(rng, *rows)
        for thing in things:
            _lay(image, thing, *rows)
        ground.haze_over(image, *rows)
        # The sensor's noise, and what single pixels differ by.
        image += 0.006 * rng.standard_normal(image.shape, dtype=np.float32)
        yield rows[0], np.clip(np.rint(image * SCALE), 1, 255).astype(np.uint8)


class _Ground:
    """Soil, plants, rock, water and fields."""

    def __init__(self, rng: np.random.Generator, land: Land, people: People) -> None:
        n = len(land.height)
        self._land = land
        at = tuple(people.houses.astype(np.intp).T)
        density = np.zeros((n, n), dtype=np.float32)
        np.add.at(density, at, 1.0)
        near = ndimage.gaussian_filter(density, 5.0)
        # Fields around homesteads; none in towns, where the yards are bare.
        self._farmed = np.where(people.urban, 0.0, near / (near + 0.25)).astype(np.float32)
        self._yards = np.clip(ndimage.gaussian_filter(density, 0.7) / 8.0, 0, 0.8).astype(np.float32)
        self._wealth, self._urban = people.wealth, people.urban.astype(np.float32)
        slope = np.gradient(land.height)
        self._shade = (1 + 4.0 * (slope[0] - slope[1])).clip(0.75, 1.25).astype(np.float32)
        self._haze = 0.02 * np.exp(0.8 * smooth_noise(rng, n, correlation_cells=90))
        self._season = smooth_noise(rng, n, correlation_cells=50)
        self._parcels = [_Parcels(rng, n, 4, 3), _Parcels(rng, n, 10, 8)]

    def paint(self, rng: np.random.Generator, first: int, last: int) -> Floats:
        land, shape = self._land, (last - first, len(self._land.height) * FINE)
        grids = {
            "red": land.redness, "wet": land.moisture, "rock": land.rock, "depth": land.depth,
            "main": land.rivers[0], "side": land.rivers[1], "shade": self._shade, "season": self._season,
            "farmed": self._farmed, "yards": self._yards, "wealth": self._wealth, "urban": self._urban,
        }  # fmt: skip
        up = {name: refine(grid, first, last) for name, grid in grids.items()}
        grain = rng.standard_normal(shape, dtype=np.float32)
        clumps = refine(rng.standard_normal((shape[0] // 4, shape[1] // 4)).astype(np.float32), factor=4)
        image = np.empty((4, *shape), dtype=np.float32)
        _fill(image, _PALE_SOIL, _RED_SOIL, expit(1.5 * up["red"]))
        image *= 1 + 0.05 * clumps
        river = np.minimum(np.abs(up["main"]), np.abs(up["side"]) + 0.15)
        # Grass between bushes; trees where it is wet, along rivers, and in the gardens of the well off.
        _mix(image, _GRASS, expit(0.9 * up["wet"] + 0.5 * clumps) * (1 - up["yards"]))
        leafy = up["wet"] + 1.1 * clumps + 0.6 * grain + 2.0 * np.exp(-river / 3)
        _mix(image, _TREES, 0.85 * expit(4 * (leafy - 2.2)))
        self._sow(image, up, first, last)
        _mix(image, _ROCK, expit(5 * (up["rock"] - 2.2 + 0.5 * grain + 0.3 * clumps)) * 0.9)
        _mix(image, _EARTH_ROAD, up["yards"] * 0.7)
        gardens = expit(3 * (0.7 * up["wealth"] + 1.2 * grain - 2.6)) * (up["urban"] + 0.5 * up["farmed"])
        _mix(image, _TREES, 0.7 * np.minimum(gardens, 1))
        image *= up["shade"]
        _mix(image, _WATER, expit(10 * np.maximum(up["depth"], 0.35 - river)))
        return image

    def _sow(self, image: Floats, up: dict[str, Floats], first: int, last: int) -> None:
        small, large = (parcels.draws(first, last) for parcels in self._parcels)
        # Those who have more land work it in larger parcels; those who buy fertiliser and water have greener ones.
        is_large = small[1] < expit(1.2 * up["wealth"] - 1.0)
        use = np.where(is_large, large[0], small[0])
        state = np.where(is_large, large[1], small[1])
        edge = np.where(is_large, large[2], small[2])
        farmed = (use < up["farmed"]).astype(np.float32) * np.where(edge, 0.35, 0.85).astype(np.float32)
        green = expit(4 * (state - 0.62) + 0.9 * up["wealth"] + 0.8 * up["season"])
        _mix(image, _FALLOW, farmed)
        _mix(image, _CROP, farmed * green)

    def haze_over(self, image: Floats, first: int, last: int) -> None:
        haze = refine(self._haze, first, last)
        for band, scattered in zip(image, (1.0, 0.7, 0.5, 0.2), strict=True):
            band += scattered * haze


class _Parcels:
    """A warped grid of parcels, each with two draws of its own."""

    def __init__(self, rng: np.random.Generator, n: int, width_px: int, height_px: int) -> None:
        self._warp = [3.0 * width_px * smooth_noise(rng, n, correlation_cells=8) for _ in range(2)]
        self._size = (height_px, width_px)
        self._draws = rng.random((2, 1 << 16), dtype=np.float32)

    def draws(self, first: int, last: int) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """Both draws of each pixel's parcel, and whether the pixel lies on the parcel's bank."""
        warp_rows, warp_cols = (refine(warp, first, last) for warp in self._warp)
        rows = warp_rows + np.arange(first, last, dtype=np.float32)[:, None]
        cols = warp_cols + np.arange(warp_cols.shape[1], dtype=np.float32)[None, :]
        height, width = self._size
        row, col = np.floor(rows / height).astype(np.int32), np.floor(cols / width).astype(np.int32)
        # Two odd numbers spread neighbours over the table of draws.
        place = (row * np.int32(40503) + col * np.int32(10007)) & 0xFFFF
        bank = (rows - row * height < 1) | (cols - col * width < 1)
        return self._draws[0][place], self._draws[1][place], bank


def _roofs(rng: np.random.Generator, people: People) -> Paint:
    at = people.houses.astype(np.intp)
    urban = people.urban[at[:, 0], at[:, 1]]
    wealth = people.house_wealth
    metal = rng.random(len(wealth)) < expit(1.5 * wealth + 0.2 + 0.8 * urban)
    new = rng.random(len(wealth)) < expit(0.8 * wealth + 0.4)
    colour = np.where(metal[:, None], np.where(new[:, None], _METAL, _RUST), _THATCH)
    colour = colour * (1 + 0.15 * rng.standard_normal((len(wealth), 1)))
    # A hut covers half a pixel; a large house two or four.
    size = (
        1
        + (rng.random(len(wealth)) < expit(1.3 * wealth - 0.8))
        + 2 * (rng.random(len(wealth)) < expit(2 * wealth - 4))
    )
    cover = np.clip(0.45 + 0.12 * wealth + 0.12 * rng.standard_normal(len(wealth)), 0.15, 0.95)
    corner = (people.houses * FINE).astype(np.int64)
    spots = [
        (corner[size > k] + step, colour[size > k], cover[size > k]) for k, step in enumerate(((0, 0), (0, 1), (1, 0)))
    ]
    place, colours, covers = (np.concatenate(part) for part in zip(*spots, strict=True))
    return Paint(place[:, 0], place[:, 1], colours, covers)


def _roads(rng: np.random.Generator, people: People) -> Paint:
    parts = []
    for line, paved in zip(people.roads.lines, people.roads.paved, strict=True):
        pixels = np.unique(_densely(line), axis=0)
        if paved:
            pixels = np.unique((pixels[:, None] + np.array([(0, 0), (0, 1), (1, 0)])).reshape(-1, 2), axis=0)
        else:
            middle = np.clip(line[len(line) // 2].astype(np.intp), 0, len(people.wealth) - 1)
            paved = rng.random() < expit(2.5 * (people.wealth[middle[0], middle[1]] - 1.0))
        parts.append((pixels, paved))
    parts += _streets(rng, people)
    place = np.concatenate([pixels for pixels, _ in parts])
    is_paved = np.repeat([paved for _, paved in parts], [len(pixels) for pixels, _ in parts])
    colour = np.where(is_paved[:, None], _TARMAC, _EARTH_ROAD)
    return Paint(place[:, 0], place[:, 1], colour, np.where(is_paved, 0.8, 0.6))


def _densely(line: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    along = np.arange(len(line))
    fine = np.linspace(0, len(line) - 1, 6 * len(line))
    return np.stack([np.interp(fine, along, line[:, axis]) * FINE for axis in (0, 1)], axis=1).astype(np.int64)


def _streets(rng: np.random.Generator, people: People) -> list[tuple[npt.NDArray[np.int64], bool]]:
    """A grid of streets in each town, kept in the poor quarters here and there only, paved in the better ones."""
    towns, n_towns = ndimage.label(ndimage.binary_dilation(people.urban))
    found: list[tuple[npt.NDArray[np.int64], bool]] = []
    for town in range(1, n_towns + 1):
        cells = np.argwhere(towns == town)
        pixels = (cells[:, None, :] * FINE + np.indices((FINE, FINE)).reshape(2, -1).T[None]).reshape(-1, 2)
        wealth = np.repeat(people.wealth[cells[:, 0], cells[:, 1]], FINE * FINE)
        turn = rng.uniform(0, np.pi / 2)
        along = pixels @ [np.cos(turn), np.sin(turn)]
        across = pixels @ [-np.sin(turn), np.cos(turn)]
        street = (np.mod(along, 15) < 1.2) | (np.mod(across, 9) < 1.2)
        chance = np.repeat(rng.random(len(cells)), FINE * FINE)
        paved = street & (chance < expit(2 * wealth - 1))
        earth = street & ~paved & (chance < expit(2 * wealth + 1.5))
        found += [(pixels[earth], False), (pixels[paved], True)]
    return found


def _dry(thing: Paint, land: Land) -> Paint:
    """What lies within the country and on land, sorted by row."""
    n = len(land.depth)
    row, col = thing.row // FINE, thing.col // FINE
    kept = (row >= 0) & (row < n) & (col >= 0) & (col < n)
    kept[kept] = land.depth[row[kept], col[kept]] <= 0
    order = np.flatnonzero(kept)[np.argsort(thing.row[kept], kind="stable")]
    return Paint(
        thing.row[order],
        thing.col[order],
        thing.colour[order].astype(np.float32),
        thing.cover[order].astype(np.float32),
    )


def _lay(image: Floats, thing: Paint, first: int, last: int) -> None:
    part = thing.rows(first, last)
    row, col, cover = thing.row[part] - first, thing.col[part], thing.cover[part]
    for band in range(len(image)):
        image[band, row, col] = image[band, row, col] * (1 - cover) + thing.colour[part, band] * cover


def _fill(image: Floats, one: Colour, other: Colour, share: Floats) -> None:
    for band, (a, b) in zip(image, zip(one, other, strict=True), strict=True):
        np.multiply(share, np.float32(b - a), out=band)
        band += np.float32(a)


def _mix(image: Floats, colour: Colour, share: Floats) -> None:
    for band, value in zip(image, colour, strict=True):
        band += (np.float32(value) - band) * share
