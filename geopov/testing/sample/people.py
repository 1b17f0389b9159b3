"""Where people live and how well off they are: towns, roads, villages, homesteads, wealth.

Mechanisms. Towns follow Zipf's rule, and the country's trunk roads join them. Villages lie near roads and water;
homesteads scatter around them. Wealth of a place is access to markets (time to towns, weighted by their size) plus what
varies from region to region (correlated over kilometres) plus, inside towns, what varies from quarter to quarter, plus
what is a village's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from geopov.testing.sample.fields import CELL_M, Floats, smooth_noise

__all__ = ["Land", "People", "Roads", "draw_land", "draw_people"]

Points = npt.NDArray[np.float64]
"""(n, 2): row and column in cells of 100 m."""


@dataclass(frozen=True)
class Land:
    """What nature made, on the causes' grid (n, n); none of it depends on wealth.

    Attributes
    ----------
    height, redness, moisture, rock : array (n, n)
        Relief, colour of the soil, greenness of wild plants, bare rock and sand; standard normal.
    rivers : tuple of array (n, n)
        Signed distance to each river, in cells, exact near it; bilinear values between cells cross zero on it.
    depth : array (n, n)
        Of the lakes: above zero on open water, in cells from the shore.
    """

    height: Floats
    redness: Floats
    moisture: Floats
    rock: Floats
    rivers: tuple[Floats, Floats]
    depth: Floats

    @property
    def dry(self) -> npt.NDArray[np.bool_]:
        """The mainland, 300 m and more from the lakes."""
        parts, _ = ndimage.label(~ndimage.binary_dilation(self.depth > 0, iterations=3))
        largest: npt.NDArray[np.bool_] = parts == np.bincount(parts[parts > 0]).argmax()
        return largest

    @property
    def river(self) -> Floats:
        """Distance to the nearest river, in cells."""
        return np.minimum(*(np.abs(river) for river in self.rivers))


@dataclass(frozen=True)
class Roads:
    """Ways as lines of points, each with whether it is a paved trunk road between towns or a track."""

    lines: list[Points]
    paved: list[bool]


@dataclass(frozen=True)
class People:
    """Who lives where.

    Attributes
    ----------
    wealth : array (n, n)
        Mean wealth of those who live, or would live, at a cell: standard normal over people.
    urban : bool array (n, n)
        Cells of towns.
    houses : array (house, 2)
        Row and column in cells.
    house_wealth : array (house,)
        The cell's wealth and the household's own.
    household_size : int array (house,)
        People.
    roads : Roads
        Ways.
    """

    wealth: Floats
    urban: npt.NDArray[np.bool_]
    houses: Points
    house_wealth: npt.NDArray[np.float64]
    household_size: npt.NDArray[np.int64]
    roads: Roads


def draw_land(rng: np.random.Generator, n: int) -> Land:
    """Relief with rivers in its valleys, soils, plants and bare ground."""
    height = smooth_noise(rng, n, correlation_cells=70) + 0.35 * smooth_noise(rng, n, correlation_cells=18)
    # A river is where a surface that rises across the country changes sign: one runs south, one east.
    across = np.linspace(-0.5, 0.5, n)
    main = 8 * (across[None, :] + rng.uniform(-0.3, 0.3)) + smooth_noise(rng, n, correlation_cells=50)
    side = 9 * (across[:, None] + rng.uniform(-0.3, 0.3)) + smooth_noise(rng, n, correlation_cells=40)
    shore = np.quantile(height, 0.025) - height
    islets = ndimage.binary_fill_holes(shore > 0) & (shore <= 0)
    shore[islets] = shore.max()
    return Land(
        height=height,
        redness=smooth_noise(rng, n, correlation_cells=60),
        moisture=smooth_noise(rng, n, correlation_cells=40) - 0.3 * height,
        rock=smooth_noise(rng, n, correlation_cells=7) + 0.6 * smooth_noise(rng, n, correlation_cells=40),
        rivers=(_signed_distance(main), _signed_distance(side)),
        depth=_signed_distance(shore),
    )


def _signed_distance(surface: Floats) -> Floats:
    """Cells to the line where a surface changes sign: along its gradient nearby, cell by cell farther off."""
    near = surface / (np.hypot(*np.gradient(surface)) + 1e-6)
    inside = surface > 0
    far = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    found: Floats = np.where(np.abs(far) > 3, far, near).astype(np.float32)
    return found


def draw_people(rng: np.random.Generator, land: Land, *, n_towns: int, n_villages: int, n_rural: int) -> People:
    """Towns and the roads between them, villages, wealth, and the houses of all.

    Parameters
    ----------
    rng : Generator
        Of all draws.
    land : Land
        Nobody lives on lakes; villages keep near rivers.
    n_towns, n_villages, n_rural : int
        Towns, villages, and houses outside towns.
    """
    n = len(land.height)
    dry = land.dry
    towns = _apart(rng, np.where(dry, 1.0, 0.0), n_towns, apart_cells=n / 7, edge=n // 12)
    # Zipf: the k-th town has 1/k of the first town's people.
    size = 1.0 / np.arange(1, len(towns) + 1)
    roads = _trunk_roads(rng, towns)
    to_road = _distance_to(roads.lines, n)
    pull = np.exp(-to_road / 25) + 0.5 * np.exp(-land.river / 15) + 0.25
    villages = _apart(rng, np.where(dry, pull, 0.0), n_villages, apart_cells=9, edge=3)
    roads = _tracks(rng, roads, villages, to_road)

    rows, cols = np.mgrid[0:n, 0:n].astype(np.float32)
    away = np.stack([np.hypot(rows - r, cols - c) for r, c in towns])
    radius = (26 * np.sqrt(size))[:, None, None]
    # A town has a dense core and ragged edges.
    ragged = np.exp(0.25 * smooth_noise(rng, n, correlation_cells=10))
    built = np.exp(-((away / (radius * ragged)) ** 2)).max(axis=0)
    urban = (built > 0.35) & dry
    wealth = _wealth(rng, n, away=away, size=size, to_road=to_road, urban=urban)

    rural = _rural_density(rng, n, villages) * np.where(dry & ~urban, 1.0, 0.0) * np.exp(-0.2 * np.abs(land.height))
    # Quarters are denser in the core, and slums denser than villas.
    town = np.where(urban, (0.35 + built) * np.exp(-0.25 * wealth), 0.0)
    n_urban = int(7.0 * urban.sum())
    houses = np.concatenate([_scatter(rng, rural, n_rural), _scatter(rng, town, n_urban)])
    own = _village_effect(rng, n, villages)
    at = houses.astype(np.intp)
    place = wealth + np.where(urban, 0.0, 0.35 * own)
    people_mean, people_sd = place[at[:, 0], at[:, 1]].mean(), place[at[:, 0], at[:, 1]].std()
    place = ((place - people_mean) / people_sd).astype(np.float32)
    house_wealth = place[at[:, 0], at[:, 1]] + 0.5 * rng.standard_normal(len(houses))
    household_size = 1 + rng.poisson(np.clip(4.2 - 0.5 * house_wealth, 2.0, 6.0))
    return People(place, urban, houses, house_wealth, household_size, roads)


def _apart(rng: np.random.Generator, weight: npt.NDArray[Any], n: int, *, apart_cells: float, edge: int) -> Points:
    """Points drawn by weight, none closer to an earlier one than ``apart_cells``."""
    inner = np.zeros_like(weight)
    inner[edge:-edge, edge:-edge] = weight[edge:-edge, edge:-edge]
    cells = rng.choice(inner.size, size=min(inner.size, 60 * n), p=(inner / inner.sum()).ravel())
    spots = np.stack(np.unravel_index(cells, inner.shape), axis=1) + rng.random((len(cells), 2))
    kept = np.empty((0, 2))
    for spot in spots:
        if len(kept) == n:
            break
        if not len(kept) or np.hypot(*(kept - spot).T).min() >= apart_cells:
            kept = np.vstack([kept, spot])
    return kept


def _bent(rng: np.random.Generator, start: Points, end: Points, *, bend: float) -> Points:
    """A line from start to end that winds, one point every 30 m."""
    length = float(np.hypot(*(end - start)))
    along = np.linspace(0, 1, max(2, int(length / 0.3)))
    across = np.array([-(end - start)[1], (end - start)[0]]) / max(length, 1e-9)
    waves = sum(
        rng.normal() / k * np.sin(k * np.pi * along + (0 if k == 1 else rng.uniform(0, 6))) for k in (1, 2, 3, 5)
    )
    # Pinned at both ends.
    sway = bend * length * waves * np.sin(np.pi * along)
    return start + along[:, None] * (end - start) + sway[:, None] * across


def _trunk_roads(rng: np.random.Generator, towns: Points) -> Roads:
    tree = minimum_spanning_tree(cdist(towns, towns)).tocoo()
    pairs = list(zip(tree.row.tolist(), tree.col.tolist(), strict=True))
    lines = [_bent(rng, towns[a], towns[b], bend=0.05) for a, b in pairs]
    return Roads(lines, [True] * len(lines))


def _tracks(rng: np.random.Generator, trunk: Roads, villages: Points, to_road: Floats) -> Roads:
    """A track from each village to the nearest trunk road or to a village that is nearer to one."""
    stops = np.concatenate(trunk.lines)[::20]
    reach = to_road[tuple(villages.astype(np.intp).T)]
    lines = list(trunk.lines)
    for village in np.argsort(reach):
        nearer = villages[reach < reach[village]]
        ends = np.concatenate([stops, nearer]) if len(nearer) else stops
        lines.append(_bent(rng, villages[village], ends[np.argmin(np.hypot(*(ends - villages[village]).T))], bend=0.06))
    return Roads(lines, [*trunk.paved, *[False] * len(villages)])


def _distance_to(lines: list[Points], n: int) -> Floats:
    clear = np.ones((n, n), dtype=bool)
    rows, cols = np.clip(np.concatenate(lines).astype(np.intp), 0, n - 1).T
    clear[rows, cols] = False
    found: Floats = ndimage.distance_transform_edt(clear).astype(np.float32)
    return found


def _wealth(
    rng: np.random.Generator, n: int, *, away: Floats, size: Floats, to_road: Floats, urban: npt.NDArray[np.bool_]
) -> Floats:
    # Gravity: a town's pull falls by half every 4 km.
    market = np.log((size[:, None, None] * np.exp2(-away * CELL_M / 4000)).sum(axis=0) + 0.02)
    access = (market - market.mean()) / market.std() + 0.4 * np.exp(-to_road / 10)
    region = smooth_noise(rng, n, correlation_cells=80)
    quarter = smooth_noise(rng, n, correlation_cells=14)
    found: Floats = (0.6 * access + 0.75 * region + np.where(urban, 0.6 + 0.7 * quarter, 0.0)).astype(np.float32)
    return found


def _rural_density(rng: np.random.Generator, n: int, villages: Points) -> Floats:
    """Houses a cell, relative: the nuclei of villages, homesteads around them, and a few anywhere."""
    weight = rng.lognormal(0.0, 0.6, len(villages))
    spots = np.zeros((n, n))
    np.add.at(spots, tuple(villages.astype(np.intp).T), weight)
    near = ndimage.gaussian_filter(spots, 1.6) / 0.06
    around = ndimage.gaussian_filter(spots, 6.0) / 0.06
    found: Floats = (0.5 * near + 3.0 * around + 0.08).astype(np.float32)
    return found


def _village_effect(rng: np.random.Generator, n: int, villages: Points) -> Floats:
    """What a village has of its own, shared by the homesteads nearest to it."""
    marks = np.ones((n, n), dtype=bool)
    effect = np.zeros((n, n), dtype=np.float32)
    rows, cols = villages.astype(np.intp).T
    marks[rows, cols], effect[rows, cols] = False, rng.standard_normal(len(villages))
    nearest = ndimage.distance_transform_edt(marks, return_distances=False, return_indices=True)
    found: Floats = effect[tuple(nearest)]
    return found


def _scatter(rng: np.random.Generator, density: Floats, n: int) -> Points:
    flat = density.ravel().astype(np.float64)
    cells = rng.choice(flat.size, size=n, p=flat / flat.sum())
    return np.stack(np.unravel_index(np.sort(cells), density.shape), axis=1) + rng.random((n, 2))
