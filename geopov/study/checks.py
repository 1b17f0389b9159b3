"""Everything that can be known to be wrong before a run starts, said at once."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import geopandas as gpd
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from geopov import features, maps, survey
from geopov._validation import some
from geopov.catalog import Catalog
from geopov.errors import GeopovError, StudyError
from geopov.raster import Scene, agree_on_bands
from geopov.study.config import NETWORK_FOLDER, Study
from geopov.study.sections import AreaClusters, DhsClusters, HouseholdClusters, LsmsClusters, PointClusters
from geopov.study.stages import open_scenes, scene_region

AREA_OUTCOMES = ("population", "density", "log_density")


def check_study(study: Study, catalog: Catalog, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Raise with everything that is wrong with a study; fetches its sources.

    Names come first: a study with a misspelt one fetches nothing, but what is here already is looked into all the same,
    so that one message tells everything. Of the data, headers and survey tables are read.

    Parameters
    ----------
    study : Study
        From :func:`geopov.study.read_study`.
    catalog : Catalog
        Of the study.
    progress : callable, optional
        Called with (done, total) bytes while sources are fetched.

    Raises
    ------
    StudyError
        Sources the catalogue lacks or has as another kind; unknown extractors or styles; files that are not there;
        scenes without CRS or the bands an extractor needs; missing columns; an outcome without numbers; points or a
        region that do not meet the scenes.
    CatalogError
        If a source cannot be fetched.
    """
    problems = [*_source_problems(study, catalog), *_extractor_problems(study), *_pretrain_problems(study)]
    problems += _map_problems(study)
    if isinstance(study.clusters, AreaClusters) and not study.clusters.recipe.is_file():
        problems.append(f"clusters.recipe: there is no file {study.clusters.recipe}.")
    if not problems:
        catalog.fetch_many(study.sources, progress=progress)
    problems += [problem for problem in _data_problems(study, catalog) if problem not in problems]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise StudyError(f"the study {study.name!r} cannot run; {count}:", problems)


def _data_problems(study: Study, catalog: Catalog) -> list[str]:
    def here(names: Iterable[str]) -> bool:
        return all(name in catalog and catalog[name].presence in ("here", "in place") for name in names)

    problems: list[str] = []
    scenes: list[Scene] = []
    for number, names in enumerate(study.scene_sources, start=1):
        if here(names):
            scenes += _try(problems, f"scene {number}", partial(open_scenes, [names], catalog=catalog)) or []
    scenes = agree_on_bands(scenes)
    for role, specs in _extractors(study).items():
        for spec in specs:
            for scene in scenes:
                _try(problems, role, partial(_bind, spec, scene))
    ground = _try(problems, "scenes", partial(scene_region, scenes)) if scenes else None
    outline = _try(problems, "clusters", partial(_outline, study, catalog)) if here(study.cluster_sources) else None
    if ground is not None and outline is not None and not ground.geometry.intersects(outline):
        problems.append(
            f"clusters: they lie in {_edges(outline.bounds)}, the scenes cover {_edges(ground.geometry.bounds)} "
            "(west, south, east, north in degrees), so no cluster is on a scene. Are longitude and latitude swapped, "
            "or is it another country's scene?"
        )
    if study.map is not None and ground is not None and here(study.region_sources):
        region = _try(problems, "map.region", partial(_region, study, catalog))
        if region is not None and not region.to_crs("EPSG:4326").geometry.intersects(ground.geometry):
            problems.append(f"map.region: it lies in {_edges(region.lonlat_bounds)}, beside the scenes.")
    return problems


def _source_problems(study: Study, catalog: Catalog) -> Iterator[str]:
    rasters = {name for names in study.scene_sources for name in names}
    if study.pretrain is not None:
        rasters.add(study.pretrain.lights)
    if study.population is not None:
        rasters |= {name for option, name in study.population.sources.items() if option != "water"}
    for name in study.sources:
        if name not in catalog:
            yield f"source {name!r}: the catalogue {catalog.path.name} has no such entry."
        elif (catalog[name].kind == "raster") != (name in rasters):
            wanted = "a raster" if name in rasters else "a table or polygons"
            yield f"source {name!r}: the catalogue says kind {catalog[name].kind}; expected {wanted}."


def _extractor_problems(study: Study) -> list[str]:
    problems: list[str] = []
    for role, specs in _extractors(study).items():
        for spec in specs:
            built = _try(problems, role, partial(features.build, spec))
            if built is not None and built.context_px != study.tiles.context_px:
                problems.append(
                    f"{role}: {built.name} has context_px={built.context_px}, tiles have {study.tiles.context_px}; "
                    "give both the same."
                )
    return problems


def _pretrain_problems(study: Study) -> Iterator[str]:
    if study.pretrain is None:
        return
    own = {"tiles", "labels", "folder", "backbone", "weights", "seed", "progress"}
    known = set(inspect.signature(features.pretrain).parameters) - own
    for key in study.pretrain.training:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected some of {some(sorted(known), 30)}."
            yield f"pretrain.training: there is no option {key!r}; {hint}"


def _extractors(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Extractors by the key of the study file that names them."""
    keys = {"model": "features", "baseline": "baseline", "random": "random_convolution"}
    return {
        keys[role]: [spec for spec in specs if study.pretrain is None or spec.get("weights") != NETWORK_FOLDER]
        for role, specs in study.extractors.items()
    }


def _map_problems(study: Study) -> Iterator[str]:
    if study.map is None:
        return
    if study.map.style not in maps.PRODUCTS:
        yield f"map.style: {study.map.style!r} is unknown; expected one of {', '.join(maps.PRODUCTS)}."
    if study.map.crs is not None:
        try:
            crs = CRS.from_user_input(study.map.crs)
        except CRSError:
            yield f"map.crs: {study.map.crs!r} is no CRS; expected one such as EPSG:32636."
        else:
            if not crs.is_projected:
                yield f"map.crs: {study.map.crs} is in degrees; cells of metres need a projected CRS."


def _outline(study: Study, catalog: Catalog) -> Any:
    """A geometry in degrees that says where the clusters are, from tables that are read as the stage will read them."""
    match study.clusters:
        case PointClusters() as points:
            clusters = survey.read_clusters(
                catalog[points.source].path,
                id_column=points.id,
                lon_column=points.lon,
                lat_column=points.lat,
                crs=points.crs,
                outcomes=[study.outcome.column],
                where=points.where,
                rename=points.rename,
            )
        case HouseholdClusters() as households:
            clusters = survey.aggregate_households(
                catalog[households.households].path,
                locations=catalog[households.locations].path,
                household_column=households.household,
                cluster_column=households.cluster,
                weight_column=households.weight,
                size_column=households.size,
                outcome=households.consumption,
                lon_column=households.lon,
                lat_column=households.lat,
                to_ppp_usd_per_day=households.to_ppp_usd_per_day,
            )
        case DhsClusters() as dhs:
            # A recode may hold a gigabyte; where the clusters lie is in a small file beside it.
            _check_outcome(study, [*survey.DHS_OUTCOMES, *(f"{name}_se" for name in survey.DHS_OUTCOMES)])
            return survey.clusters_in([catalog[name].path for name in dhs.sources]).geometry.union_all()
        case LsmsClusters() as lsms:
            clusters = survey.lsms_clusters(
                lsms.adapter,
                households=[catalog[name].path for name in lsms.household_sources],
                locations=None if lsms.locations is None else catalog[lsms.locations].path,
                line_ppp_usd=lsms.line_ppp_usd,
                line_national=lsms.line_national,
                min_households=lsms.min_households,
            )
        case AreaClusters() as areas:
            recipe = survey.read_recipe(areas.recipe)
            _check_outcome(study, AREA_OUTCOMES)
            polygons = catalog[areas.inputs[recipe.polygons.input]].open()
            assert isinstance(polygons, gpd.GeoDataFrame)
            return shapely.box(*polygons.to_crs("EPSG:4326").total_bounds)
    _check_outcome(study, clusters.columns)
    return clusters.geometry.union_all()


def _bind(spec: dict[str, Any], scene: Scene) -> None:
    features.build(spec).for_bands(scene.band_names)


def _check_outcome(study: Study, columns: Any) -> None:
    if study.outcome.column not in columns:
        raise StudyError(f"outcome.column is {study.outcome.column!r}; the clusters have {', '.join(columns)}.")


def _region(study: Study, catalog: Catalog) -> maps.Region | None:
    assert study.map is not None
    if not isinstance(study.map.region, str):
        return maps.Region.from_bounds(study.map.region)
    return None if study.map.region == "scene" else maps.Region.from_file(catalog[study.map.region].path)


def _try(problems: list[str], where: str, call: Callable[[], Any]) -> Any:
    """The result of ``call``, or None with its error noted."""
    try:
        return call()
    except GeopovError as error:
        text = f"{where}: {error}"
        if text not in problems:
            problems.append(text)
        return None


def _edges(bounds: tuple[float, float, float, float]) -> str:
    return "(" + ", ".join(f"{edge:.2f}" for edge in bounds) + ")"
