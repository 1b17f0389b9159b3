"""A sample study from a seed: image, nightlights, census, survey, their catalogue, and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from geopov._validation import atomic_path, sha256_of, still_gpkg_date
from geopov.errors import SurveyError
from geopov.grid import Bounds
from geopov.raster import write_cog
from geopov.testing.sample import image, night, survey
from geopov.testing.sample.fields import CELL_M, FINE, PIXEL_M, Place
from geopov.testing.sample.people import People, draw_land, draw_people

__all__ = ["SampleWorld", "write_sample_world"]

CRS = "EPSG:32736"
YEAR = 2020
# Where the made-up country lies: on the central meridian of its zone, 6 degrees south.
_CENTRE = (500_000.0, 9_336_000.0)


@dataclass(frozen=True)
class SampleWorld:
    """The files of a made-up country, and what they were made from.

    Attributes
    ----------
    folder : Path
        Where the files lie.
    scene : Path
        COG, uint8, 10 m, UTM: blue, green, red, nir.
    lights : Path
        COG, float32, 15 arc-seconds, EPSG:4326: radiance in nW/cm²/sr, noise included.
    clusters : Path
        CSV, one row a cluster, as a survey office gives it out; see :data:`geopov.testing.sample.survey.PUBLISHED`.
    zones : Path
        GeoPackage of census zones: ``zone_id``, ``population``, ``households``.
    truth : Path
        COG, 100 m: ``wealth`` (standard normal over people) and ``people`` a cell.
    catalog : Path
        Catalogue of the files above, each with its sha256; the sources are ``sample_scene``, ``sample_lights``,
        ``sample_clusters``, ``sample_zones`` and ``sample_truth``.
    true_clusters : DataFrame
        The survey's table with ``true_lon``, ``true_lat``, ``displaced_km`` and ``true_wealth``; in no file.
    """

    folder: Path
    scene: Path
    lights: Path
    clusters: Path
    zones: Path
    truth: Path
    catalog: Path
    true_clusters: pd.DataFrame


def write_sample_world(
    folder: Path | str, *, seed: int = 0, size_km: float = 48.0, n_clusters: int = 320, n_zones: int = 160
) -> SampleWorld:
    """Write a country made up from a seed; the same arguments give the same bytes.

    How wealth comes about, and how it shows, is told in the modules of :mod:`geopov.testing.sample`: ``people``
    (towns, roads, villages, wealth), ``image`` (roofs, fields, roads), ``night`` (electric light), ``survey``
    (clusters, displaced by the rule of the DHS Program, and census zones).

    Parameters
    ----------
    folder : path
        Made if need be.
    seed : int
        All draws follow from it.
    size_km : float
        Side of the country, a multiple of 0.1 km, from 8.
    n_clusters, n_zones : int
        Clusters of the survey, zones of the census.

    Returns
    -------
    SampleWorld
        Paths of the files, and the truth of the clusters.

    Raises
    ------
    SurveyError
        If the size or a count is none that can be made.
    """
    n = round(size_km * 1000 / CELL_M)
    if not 80 <= n <= 2000 or abs(n * CELL_M / 1000 - size_km) > 1e-9:
        raise SurveyError(f"size_km is {size_km!r}; expected 8 to 200, a multiple of 0.1.")
    if n_clusters < 2 or n_zones < 2:
        raise SurveyError(f"n_clusters is {n_clusters} and n_zones {n_zones}; expected at least 2 of each.")
    folder = Path(folder)
    # One stream a part, so that a change in one leaves the others as they were.
    ground, living, looks, glow, asked, counted = np.random.default_rng(seed).spawn(6)
    half = n * CELL_M / 2
    place = Place(CRS, _CENTRE[0] - half, _CENTRE[1] + half, n)
    area = (n / 480) ** 2
    land = draw_land(ground, n)
    people = draw_people(
        living,
        land,
        n_towns=max(2, round(8 * area)),
        n_villages=max(4, round(380 * area)),
        n_rural=round(120_000 * area),
    )

    n_px = n * FINE
    placed: dict[str, Any] = {"crs": CRS, "width": n_px, "height": n_px, "transform": place.transform(PIXEL_M)}
    scene = write_cog(
        folder / "scene.tif",
        image.strips(looks, land, people, image.paint(looks, land, people)),
        **placed,
        band_names=image.BANDS,
        dtype="uint8",
        nodata=0,
        units=f"reflectance x {image.SCALE:g}",
        description="A made-up country by day",
    )
    radiance, grid = night.draw_lights(glow, people, place)
    lights = write_cog(
        folder / "lights.tif",
        [(0, radiance[None])],
        crs="EPSG:4326",
        transform=grid,
        width=radiance.shape[1],
        height=radiance.shape[0],
        band_names=["radiance"],
        units="nW/cm²/sr",
        description="A made-up country by night",
    )
    truth = _write_truth(folder / "truth.tif", people, place)
    table = survey.draw_survey(asked, people, n_clusters, place=place, bounds=_inner_bounds(place), year=YEAR)
    clusters = folder / "clusters.csv"
    with atomic_path(clusters) as partial:
        table[survey.PUBLISHED].to_csv(partial, index=False, lineterminator="\n")
    zones = folder / "zones.gpkg"
    with still_gpkg_date(), atomic_path(zones) as partial:
        survey.draw_census(counted, people, n_zones, place=place).to_file(partial, driver="GPKG", layer="zones")
    catalog = _write_catalog(folder, seed)
    return SampleWorld(folder, scene, lights, clusters, zones, truth, catalog, table)


def _inner_bounds(place: Place) -> Bounds:
    """The largest rectangle in degrees that keeps a kilometre within the country's edges."""
    lon, lat = place.border(margin=1000 / CELL_M)
    return float(lon[0].max()), float(lat[3].max()), float(lon[1].min()), float(lat[2].min())


def _write_truth(path: Path, people: People, place: Place) -> Path:
    n = len(people.wealth)
    count = np.zeros((n, n), dtype=np.float32)
    np.add.at(count, tuple(people.houses.astype(np.intp).T), people.household_size)
    return write_cog(
        path,
        [(0, np.stack([people.wealth, count]))],
        crs=CRS,
        transform=place.transform(CELL_M),
        width=n,
        height=n,
        band_names=["wealth", "people"],
        units=["standard deviations", "people a cell"],
        description="The truth behind a made-up country",
    )


def _write_catalog(folder: Path, seed: int) -> Path:
    common = {
        "licence": "CC0-1.0",
        "citation": f"Sample world of geopov.testing, seed {seed}; made up, no place on Earth.",
        "year": YEAR,
    }
    raster = {"kind": "raster"}
    files: dict[str, tuple[str, dict[str, Any]]] = {
        "sample_scene": (
            "scene.tif",
            raster
            | {"crs": CRS, "nodata": 0, "units": [f"reflectance x {image.SCALE:g}"], "bands": list(image.BANDS)}
            | {"description": "The country by day, 10 m."},
        ),
        "sample_lights": (
            "lights.tif",
            raster
            | {"crs": "EPSG:4326", "nodata": None, "units": ["nW/cm²/sr"], "bands": ["radiance"]}
            | {"description": f"The country by night, 15 arc-seconds; below {night.NOISE_FLOOR} is noise."},
        ),
        "sample_clusters": (
            "clusters.csv",
            {"kind": "survey", "description": "Clusters of 20 households, displaced by the rule of the DHS Program."},
        ),
        "sample_zones": (
            "zones.gpkg",
            {"kind": "vector", "crs": "EPSG:4326", "description": "Census zones: zone_id, population, households."},
        ),
        "sample_truth": (
            "truth.tif",
            raster
            | {"crs": CRS, "nodata": None, "units": ["standard deviations", "people a cell"]}
            | {"bands": ["wealth", "people"], "description": "What image, lights, census and survey were made from."},
        ),
    }
    entries = {
        name: {"uri": file, "sha256": sha256_of(folder / file), **entry, **common}
        for name, (file, entry) in files.items()
    }
    path = folder / "catalog.yaml"
    with atomic_path(path) as partial:
        partial.write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    return path
