"""What needs several stages at once: scenes by their names, points to features, a model with its network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from pyproj import Geod

from geopov import features as feature_stage
from geopov import survey, tiles
from geopov.catalog import Catalog
from geopov.errors import StudyError
from geopov.features import Extractor
from geopov.grid import as_crs
from geopov.maps import Region, Run
from geopov.raster import Scene, Unreadable, agree_on_bands
from geopov.regression import WelfareModel
from geopov.study.parts import extract_in_parts
from geopov.tiles.store import describe_scenes

_WGS84 = Geod(ellps="WGS84")
ProgressCallback = Callable[[int, int], None]


def open_scenes(
    scenes: Sequence[Sequence[str]],
    *,
    catalog: Catalog | None = None,
    bands: Sequence[int | str] | None = None,
    nodata: float | None = None,
) -> list[Scene]:
    """Open scenes by the names of their files or of their sources in a catalogue.

    Parameters
    ----------
    scenes : sequence of sequence of str
        For each scene the paths or catalogue names of what is stacked as its bands, in order.
    catalog : Catalog, optional
        Where names that are no files are looked up; it knows nodata values and band names that files do not say.
    bands, nodata
        For scenes of files, as in :meth:`geopov.raster.Scene.open`.

    Raises
    ------
    RasterError, CatalogError
        If a file cannot be opened, or there is neither a file nor a source of that name.
    StudyError
        If a source is no raster, or ``bands`` or ``nodata`` are given for sources of a catalogue.
    """
    opened = []
    for names in scenes:
        if catalog is None or all(Path(name).exists() or name.startswith("/vsi") for name in names):
            opened.append(Scene.open(list(names), bands=bands, nodata=nodata))
        elif bands is not None or nodata is not None:
            raise StudyError(f"bands or nodata are given for {', '.join(names)}; for sources, the catalogue says them.")
        else:
            opened.append(Scene.stack([_open_source(name, catalog) for name in names]))
    return agree_on_bands(opened)


def _open_source(name: str, catalog: Catalog) -> Scene:
    scene = catalog[name].open()
    if not isinstance(scene, Scene):
        raise StudyError(f"the source {name!r} is a {catalog[name].kind}; a scene needs a source of kind raster.")
    return scene


def extract_features(
    scenes: Sequence[Scene],
    points: gpd.GeoDataFrame,
    spec: tiles.TileSpec,
    extractor: Extractor,
    *,
    window_km: float | None = None,
    n_tiles: int = 1,
    displacement_draws: int = 0,
    seed: int = 0,
    threads: int = 2,
    on_unreadable: Callable[[Unreadable], None] | None = None,
    run: Run | None = None,
    progress: ProgressCallback | None = None,
) -> xr.DataArray:
    """Features of each cluster: the mean over its tiles, read and computed side by side.

    Parameters
    ----------
    scenes : sequence of Scene
        Overlaps are resolved by :func:`geopov.tiles.extract`.
    points : GeoDataFrame
        Clusters.
    spec : TileSpec
        Of the tiles.
    extractor : Extractor
        From :func:`geopov.features.build`.
    window_km, n_tiles : float, int
        Spread ``n_tiles`` tiles over a square window of this side around each cluster; without a window, one tile.
    displacement_draws : int
        Average over so many draws of where each cluster truly lies, given its published place and ``displacement_km``
        (:func:`geopov.survey.draw_positions`), each with its own tile or window of tiles. 0: the published place.
    seed : int
        Of the draws.
    threads, on_unreadable
        As for :func:`geopov.tiles.extract`; not with ``run``.
    run : Run, optional
        Workers that compute parts of the clusters, from :func:`geopov.study.open_run`; the numbers are the same.
        Default: in this process, reading and computing side by side.
    progress : callable, optional
        Called with (tiles done, tiles in all).

    Returns
    -------
    DataArray (cluster, feature)
        With provenance in its attributes: the extractor, the tiles, the window, the digests of the scenes' files.
    """
    attrs = {"window": {"window_km": window_km, "n_tiles": n_tiles}, "scenes": describe_scenes(scenes)}
    if displacement_draws:
        points, reach_km = _draw_positions(points, displacement_draws, seed)
        attrs["displacement"] = {"n_draws": displacement_draws, "seed": seed, "reach_km": reach_km}
    if window_km is not None:
        owners = points["cluster_id"]
        if displacement_draws:
            points = points.assign(cluster_id=points["point_id"])
        points = tiles.tile_points(points, spec, window_km=window_km, n_tiles=n_tiles)
        points["cluster_id"] = np.repeat(owners.to_numpy(), n_tiles)
    if run is not None:
        array = extract_in_parts(scenes, points, spec, extractor, run=run, progress=progress)
    else:
        cut = tiles.extract(list(scenes), points, spec, threads=threads, on_unreadable=on_unreadable)
        array = feature_stage.extract(extractor, cut, progress=progress)
    return array.assign_attrs({name: json.dumps(value) for name, value in attrs.items()})


def _draw_positions(points: gpd.GeoDataFrame, n_draws: int, seed: int) -> tuple[gpd.GeoDataFrame, float]:
    """Draws of where each point truly lies, named by a ``tile_id``, and how far the farthest is from its own."""
    draws = survey.draw_positions(points, n_draws=n_draws, seed=seed)
    published = points.to_crs("EPSG:4326").set_index(points["cluster_id"].astype(str)).geometry
    own = published.reindex(draws["cluster_id"])
    _, _, metres = _WGS84.inv(own.x, own.y, draws.geometry.x, draws.geometry.y)
    return draws.assign(tile_id=draws["point_id"]), float(np.max(metres)) / 1000


def load_model(path: str | Path) -> WelfareModel:
    """A model that :func:`geopov.regression.evaluate` wrote, ready for :class:`CellModel`.

    A network that a study trained is named relative to the work folder, so that the folder may be moved; here it is
    found again from wherever the model is opened.

    Raises
    ------
    RegressionError
        If the file is no model.
    """
    model = WelfareModel.load(path)
    work = Path(path).resolve().parent.parent

    def found(spec: dict[str, Any]) -> dict[str, Any]:
        if "parts" in spec:
            return spec | {"parts": [found(part) for part in spec["parts"]]}
        weights = spec.get("weights")
        if spec.get("name") == "pretrained" and not Path(str(weights)).exists() and (work / str(weights)).exists():
            return spec | {"weights": str(work / str(weights))}
        return spec

    return replace(model, extractor=found(dict(model.extractor))) if model.extractor else model


def scene_region(scenes: Sequence[Scene]) -> Region:
    """The ground that at least one of the scenes covers."""
    outlines = [Region.from_bounds(scene.bounds, crs=scene.crs).to_crs("EPSG:4326") for scene in scenes]
    return Region(shapely.union_all([outline.geometry for outline in outlines]), as_crs("EPSG:4326"))
