"""What needs several stages at once: points to features, and a grid of cells to a map.

Clusters and cells walk one path, points -> tiles -> features; the map has none of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from pyproj import Geod

from geopov import features as feature_stage
from geopov import maps, survey, tiles
from geopov.catalog import Catalog
from geopov.errors import MapError, StudyError
from geopov.features import Extractor
from geopov.grid import Bounds, as_crs
from geopov.maps import Region
from geopov.raster import Scene, agree_on_bands
from geopov.regression import WelfareModel
from geopov.tiles.store import describe_scenes

_WGS84 = Geod(ellps="WGS84")
ProgressCallback = Callable[[int, int], None]
Transform = Literal["none", "exp"]

# Cells predicted at once. Their features, not their pixels, are what takes memory: 16,384 x 1,300 x 4 bytes is 85 MB.
_CELLS_PER_STRIP = 16_384


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
    array = feature_stage.extract(extractor, tiles.extract(list(scenes), points, spec), progress=progress)
    return array.assign_attrs({name: json.dumps(value) for name, value in attrs.items()})


def _draw_positions(points: gpd.GeoDataFrame, n_draws: int, seed: int) -> tuple[gpd.GeoDataFrame, float]:
    """Draws of where each point truly lies, named by a ``tile_id``, and how far the farthest is from its own."""
    draws = survey.draw_positions(points, n_draws=n_draws, seed=seed)
    published = points.to_crs("EPSG:4326").set_index(points["cluster_id"].astype(str)).geometry
    own = published.reindex(draws["cluster_id"])
    _, _, metres = _WGS84.inv(own.x, own.y, draws.geometry.x, draws.geometry.y)
    return draws.assign(tile_id=draws["point_id"]), float(np.max(metres)) / 1000


class CellModel:
    """A fitted model that looks at scenes: longitudes and latitudes in, predictions out.

    Parameters
    ----------
    scenes : sequence of Scene
        What the model looks at.
    model : WelfareModel
        Carries the extractor, tile spec and window its features were made with, so that cells are treated as the
        clusters were.
    transform : {"none", "exp"}
        Applied to mean and bounds; "exp" turns the prediction of a logarithm into its unit, as the median.
    unit, description : str, optional
        What the bands are in after the transformation; default the model's.

    Attributes
    ----------
    band_names : tuple of str
        ``mean``, ``lower``, ``upper``, ``in_support`` (1 or 0).
    units : tuple of str
        One a band.
    """

    band_names = ("mean", "lower", "upper", "in_support")

    def __init__(
        self,
        scenes: Sequence[Scene],
        model: WelfareModel,
        *,
        transform: Transform = "none",
        unit: str | None = None,
        description: str | None = None,
    ) -> None:
        if not model.extractor or not model.tile_spec:
            raise StudyError(
                "the model does not say how its features were made; fit it on what `geopov features extract` wrote."
            )
        self.scenes = list(scenes)
        self._ground = scene_region(scenes)
        self.model = model
        self.transform = transform
        unit = model.unit if unit is None else unit
        self.units = (unit, unit, unit, "1 = inside the training data, 0 = outside")
        self.description = description or model.outcome
        self.spec = tiles.TileSpec.from_dict(model.tile_spec)
        self.extractor = feature_stage.build(model.extractor)

    def __call__(self, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Predictions (4, n) for cells centred on these points; NaN where the scenes show nothing."""
        bands = np.full((len(self.band_names), len(lon)), np.nan, dtype=np.float32)
        # A map may reach beyond its scenes, a prediction may not.
        near = self._ground.contains(lon, lat)
        if near.any():
            bands[:, near] = self._predict(lon[near], lat[near])
        return bands

    def _predict(self, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        cells = gpd.GeoDataFrame(
            {"cluster_id": np.arange(len(lon)).astype(str)}, geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326"
        )
        array = extract_features(self.scenes, cells, self.spec, self.extractor, **self.model.window)
        table = self.model.predict(array.to_numpy())
        values = table[list(self.band_names)].to_numpy(dtype=np.float64).T
        if self.transform == "exp":
            values[:3] = np.exp(values[:3])
        bands = np.full((len(self.band_names), len(lon)), np.nan, dtype=np.float32)
        bands[:, array["cluster_id"].to_numpy().astype(int)] = values
        return bands


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


def predict_map(
    scenes: Sequence[Scene],
    model: WelfareModel,
    *,
    path: Path,
    cell_m: float,
    region: Region | None = None,
    crs: str | None = None,
    transform: Transform = "none",
    unit: str | None = None,
    title: str | None = None,
    tags: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """Predict every cell of a region into a Cloud Optimized GeoTIFF, strip by strip.

    Parameters
    ----------
    scenes : sequence of Scene
        What the model looks at.
    model : WelfareModel
        From :func:`geopov.regression.evaluate`.
    path : Path
        Of the map; bands as :attr:`CellModel.band_names`.
    cell_m : float
        Side of a cell in metres.
    region : Region, optional
        Default: the scenes.
    crs : str, optional
        Of the map, in metres; default :func:`geopov.grid.local_crs`.
    transform, unit
        As for :class:`CellModel`.
    title : str, optional
        What the map shows.
    tags : mapping, optional
        Further provenance to store in the file.
    progress : callable, optional
        Called with (rows done, rows in all).

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    MapError
        If the region and the scenes do not meet.
    """
    inside = scene_region(scenes)
    if region is None:
        region = inside
    elif not region.to_crs(inside.crs).geometry.intersects(inside.geometry):
        raise MapError(
            f"the region {_edges(region.lonlat_bounds)} does not meet the scenes {_edges(inside.lonlat_bounds)} "
            "(west, south, east, north in degrees). Choose another region, or check the scenes' CRS."
        )
    predictor = CellModel(scenes, model, transform=transform, unit=unit, description=title)
    grid = region.grid(cell_m=cell_m, crs=crs)
    provenance = {"outcome": model.outcome, "interval": f"{model.coverage.nominal:.0%}", "transform": transform}
    provenance |= {"model": json.dumps(model.provenance, sort_keys=True), "scenes": ", ".join(s.name for s in scenes)}
    return maps.predict(
        predictor,
        grid,
        path=path,
        mask=region,
        rows_per_strip=max(1, _CELLS_PER_STRIP // grid.width),
        tags=provenance | dict(tags or {}) | ({"title": title} if title else {}),
        progress=progress,
    )


def scene_region(scenes: Sequence[Scene]) -> Region:
    """The ground that at least one of the scenes covers."""
    outlines = [Region.from_bounds(scene.bounds, crs=scene.crs).to_crs("EPSG:4326") for scene in scenes]
    return Region(shapely.union_all([outline.geometry for outline in outlines]), as_crs("EPSG:4326"))


def _edges(bounds: Bounds) -> str:
    return "(" + ", ".join(f"{edge:.3f}" for edge in bounds) + ")"
