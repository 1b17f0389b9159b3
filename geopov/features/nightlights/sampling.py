"""Points for pretraining, drawn by their night light: balanced in class, away from the survey, split by place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt

from geopov._validation import ID_COLUMN, check_positive
from geopov.errors import FeatureError
from geopov.features.nightlights.blocks import SPLITS, deal_blocks
from geopov.features.nightlights.candidates import SampledRegion, clear_of
from geopov.features.nightlights.classes import LightsClasses
from geopov.features.nightlights.draws import draw
from geopov.features.nightlights.footprints import TilePlaces
from geopov.features.nightlights.lights import Lights
from geopov.grid import Bounds, as_crs, transform_xy
from geopov.raster import Scene

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ClassChoice = LightsClasses | str | Sequence[float]


def sample_by_nightlights(
    lights: Lights,
    *,
    n: int,
    size_px: int,
    resolution_m: float,
    context_px: int = 0,
    region: Scene | Bounds | gpd.GeoDataFrame | gpd.GeoSeries | None = None,
    tiles_crs: Any = None,
    away_from: gpd.GeoDataFrame | None = None,
    buffer_km: float = 0.0,
    classes: ClassChoice = "mixture",
    n_classes: int = 3,
    stratify: bool = True,
    spacing_m: float | None = None,
    split_block_km: float | None = None,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    min_valid: float = 0.5,
    seed: int = 0,
) -> gpd.GeoDataFrame:
    """Points whose tiles a network is trained on to tell the night light of (Jean et al. 2016).

    Tiles lie on a lattice over the region. Those near the survey are left out, so that no pixel which a test cluster is
    judged by was trained on; the others are divided into training, validation and test by square blocks, with a gap in
    which tiles of two splits would meet. Classes are found on the training split alone.

    Parameters
    ----------
    lights : Lights
        From :func:`~geopov.features.nightlights.lights.open_lights`.
    n : int
        Points wanted; fewer come where a class or the region has no more, and the report says so.
    size_px, resolution_m, context_px
        Of the tiles, as of :class:`geopov.tiles.TileSpec`. The value of a tile is the mean light over its ground,
        without context.
    region : Scene, bounds, GeoDataFrame or GeoSeries, optional
        The daytime image, or west, south, east, north in degrees: tiles lie wholly inside. Polygons, such as a country:
        the middles of tiles lie inside; they also keep the sea out. Default: the whole raster of lights.
    tiles_crs : CRS, optional
        Of the images that tiles are cut from, along whose axes they lie. Default: the region's, if it is a Scene, else
        a plane at its middle.
    away_from : GeoDataFrame, optional
        Points of the survey: all clusters, or those of its test blocks.
    buffer_km : float
        Least distance from the edge of a tile, with its context, to a point of the survey. Half the side of the
        survey's own tiles, and what its points are displaced by (DHS: 5 km in the country), keep the pixels apart.
    classes : LightsClasses, "mixture", "quantiles" or sequence of float
        Or the edges between classes. A mixture is fitted to digital numbers, or to the logarithm of 1 + radiance.
    n_classes : int
        Of a mixture or quantiles.
    stratify : bool
        As many points of each class as can be had, in each split. False: at random.
    spacing_m : float, optional
        Of the lattice. Default: the side of a tile with its context, so that none overlap, or less where the region
        would not hold three places a point; tiles then overlap within a split, and never between two.
    split_block_km : float, optional
        Side of the blocks. Default: such that 50 cover the region, and at least four tiles wide.
    shares : three numbers
        Of points in training, validation and test.
    min_valid : float
        Share of a tile's ground that must have valid lights.
    seed : int
        Places lattice and blocks, and draws.

    Returns
    -------
    GeoDataFrame
        EPSG:4326, a row a point: ``cluster_id``, ``lights``, ``lights_class`` (0 the darkest), ``split``. The
        attribute ``nightlights`` is the report, JSON: how the lights were made, edges of classes, counts by class and
        split, and how many places were left out for what.

    Raises
    ------
    FeatureError
        If an argument cannot be, no place is left, or a class has none in training.
    """
    _check(n, size_px, context_px, buffer_km, resolution_m)
    rng = np.random.default_rng(seed)
    side_m, seen_m = size_px * resolution_m, (size_px + 2 * context_px) * resolution_m
    area = SampledRegion.of(lights.scene if region is None else region)
    plane = area.plane()
    axes = as_crs(tiles_crs) if tiles_crs is not None else (area.crs if isinstance(region, Scene) else plane)
    spacing = _spacing_m(area.area_m2(plane), n, seen_m) if spacing_m is None else spacing_m
    check_positive(spacing, "spacing_m", FeatureError)
    lon, lat, thinned = area.lattice(plane, spacing_m=spacing, rng=rng)
    places, left_out = _allowed(TilePlaces.at(lon, lat, crs=axes), area, away_from, seen_m=seen_m, buffer_km=buffer_km)
    places, found, without = _with_lights(places, lights, side_m=side_m, min_valid=min_valid)
    value = found["mean"]

    xy = np.column_stack(transform_xy("EPSG:4326", plane, places.lon, places.lat))
    block_m = _block_m(len(places), spacing, seen_m) if split_block_km is None else split_block_km * 1000
    # A square turned against the plane's axes reaches out by its diagonal, and a tile may be moved by half a pixel.
    gap_m = seen_m / 2 * np.sqrt(2) + resolution_m
    split = deal_blocks(xy, value, block_m=block_m, gap_m=gap_m, shares=shares, rng=rng)
    parted = _classes(classes, value[split == 0], n=n_classes, unit=lights.unit, seed=seed)
    group = parted.assign(value)
    chosen = draw(group, split, n_classes=len(parted), n=n, shares=shares, stratify=stratify, rng=rng)
    _check_drawn(group[chosen], split[chosen], parted, shares)
    points = gpd.GeoDataFrame(
        {
            ID_COLUMN: [f"n{number:06d}" for number in range(1, len(chosen) + 1)],
            "lights": value[chosen],
            "lights_class": group[chosen],
            "split": np.asarray(SPLITS, dtype=object)[split[chosen]],
        },
        geometry=gpd.points_from_xy(places.lon[chosen], places.lat[chosen]),
        crs="EPSG:4326",
    )
    report = {
        **lights.to_dict(),
        "tile": {"size_px": size_px, "resolution_m": resolution_m, "context_px": context_px},
        "classes": parted.to_dict(),
        "wanted": n,
        "points": len(points),
        "counts": _counts(group[chosen], split[chosen], len(parted)),
        "available": _counts(group, split, len(parted)),
        "saturated_points": int((found["saturated"][chosen] > 0).sum()) if lights.sensor.saturates else None,
        "buffer_km": buffer_km if away_from is not None else None,
        "n_left_out_near_survey": left_out.get("near_survey"),
        "left_out": {"places": len(lon), **left_out, **without, "between_splits": int((split < 0).sum())},
        "lattice_thinned": thinned,
        "spacing_m": spacing,
        "split_block_km": block_m / 1000,
        "split_gap_km": gap_m / 1000,
        "shares": [float(share) for share in shares],
        "stratified": stratify,
        "min_valid": min_valid,
        "seed": seed,
        "notes": _notes(group[chosen], split[chosen], parted, wanted=n, shares=shares),
    }
    points.attrs["nightlights"] = json.dumps(report, ensure_ascii=False)
    return points


def _allowed(
    places: TilePlaces, area: SampledRegion, survey: gpd.GeoDataFrame | None, *, seen_m: float, buffer_km: float
) -> tuple[TilePlaces, dict[str, int]]:
    """Places whose tiles lie in the region and clear of the survey, and how many do not."""
    inside = area.holds(places, side_m=seen_m)
    left_out = {"beyond_the_region": int((~inside).sum())}
    places = _keep(places, inside, why="the tiles do not fit into the region; take a smaller size_px")
    if survey is not None:
        clear = clear_of(places, survey, side_m=seen_m, buffer_km=buffer_km)
        left_out["near_survey"] = int((~clear).sum())
        places = _keep(places, clear, why="the survey is everywhere; take a smaller buffer_km or a larger region")
    return places, left_out


def _with_lights(
    places: TilePlaces, lights: Lights, *, side_m: float, min_valid: float
) -> tuple[TilePlaces, dict[str, Floats], dict[str, int]]:
    """Places with a value, what was found there, and how many have none."""
    found = lights.summarise(lights.to_pixels(places.corners(side_m), crs=places.crs), min_valid=min_valid)
    usable = np.isfinite(found["mean"])
    without = {
        "without_lights": int((~usable).sum()),
        "without_lights_for_the_mask": int((~usable & (found["valid"] + found["masked"] >= min_valid)).sum()),
    }
    kept = _keep(places, usable, why="the lights have no valid pixels there")
    return kept, {name: column[usable] for name, column in found.items()}, without


def _keep(places: TilePlaces, kept: npt.NDArray[np.bool_], *, why: str) -> TilePlaces:
    if not kept.any():
        raise FeatureError(f"none of {len(kept)} places is left to draw points from: {why}.")
    return places.take(kept)


def _spacing_m(area_m2: float, n: int, seen_m: float) -> float:
    # More places than points, since few are bright.
    return float(min(seen_m, np.sqrt(area_m2 / (3 * n))))


def _block_m(n_places: int, spacing_m: float, seen_m: float) -> float:
    return float(max(np.sqrt(n_places * spacing_m**2 / 50), 4 * seen_m))


def _classes(choice: ClassChoice, values: Floats, *, n: int, unit: str, seed: int) -> LightsClasses:
    if isinstance(choice, LightsClasses):
        return choice
    if choice == "mixture":
        return LightsClasses.fit_mixture(values, n=n, scale="linear" if unit == "DN" else "log", seed=seed)
    if choice == "quantiles":
        return LightsClasses.quantiles(values, n=n)
    if isinstance(choice, str):
        raise FeatureError(f"classes is {choice!r}; expected 'mixture', 'quantiles' or edges, such as [3, 35].")
    return LightsClasses.given(choice)


def _notes(group: Ints, split: Ints, classes: LightsClasses, *, wanted: int, shares: Sequence[float]) -> list[str]:
    notes = []
    if len(group) < wanted:
        notes.append(f"{wanted} points were wanted, and the region has no more than {len(group)}.")
    for number, (name, share) in enumerate(zip(SPLITS, shares, strict=True)):
        empty = np.setdiff1d(np.arange(len(classes)), group[split == number])
        if share and len(empty):
            notes.append(f"{name} has no tile of the class {', '.join(classes.names[c] for c in empty)}.")
    return notes


def _counts(group: Ints, split: Ints, n_classes: int) -> dict[str, list[int]]:
    return {name: np.bincount(group[split == i], minlength=n_classes).tolist() for i, name in enumerate(SPLITS)}


def _check(n: int, size_px: int, context_px: int, buffer_km: float, resolution_m: float) -> None:
    for value, name, least in ((n, "n", 1), (size_px, "size_px", 1), (context_px, "context_px", 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise FeatureError(f"{name} is {value!r}; expected a whole number, at least {least}.")
    check_positive(resolution_m, "resolution_m", FeatureError)
    if not np.isfinite(buffer_km) or buffer_km < 0:
        raise FeatureError(f"buffer_km is {buffer_km!r}; expected 0 or more.")


def _check_drawn(group: Ints, split: Ints, classes: LightsClasses, shares: Sequence[float]) -> None:
    for number, (name, share) in enumerate(zip(SPLITS, shares, strict=True)):
        if share and not (split == number).any():
            raise FeatureError(
                f"no point is left for {name}; take more points, a larger region, or a smaller split_block_km or "
                "spacing_m."
            )
    empty = [classes.names[c] for c in range(len(classes)) if not ((group == c) & (split == 0)).any()]
    if empty:
        raise FeatureError(
            f"training has no tile of the class {', '.join(empty)}; choose other class edges, fewer classes, or a "
            "region where such light is."
        )
