"""What each rule of ``pipelines/Snakefile`` is told: its sources, its files and its command-line options."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geopov.catalog import Catalog, open_catalog
from geopov.study.config import Study
from geopov.study.sections import AreaClusters, DhsClusters, HouseholdClusters, LsmsClusters, PointClusters


@dataclass(frozen=True)
class StageArguments:
    """What one rule reads and is told.

    Attributes
    ----------
    options : str
        Quoted for the shell. Part of what decides whether a stage has to run again.
    sources : list of str
        Catalogue names it reads.
    files : list of str
        Other files it reads.
    """

    options: str = ""
    sources: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def workflow_arguments(study: Study) -> dict[str, StageArguments]:
    """Options of every rule, keyed by the rule's name."""
    catalog = open_catalog(study.catalog)
    scene_names = [name for scene in study.scene_sources for name in scene]
    scene = _scene_options(study)
    arguments = {
        "clusters": _clusters(study, catalog),
        "features": StageArguments(sources=scene_names),
        **{
            f"features/{role}": StageArguments(_quote(*scene, *_tile_options(study), "--extractor", _json(extractors)))
            for role, extractors in study.extractors.items()
        },
        **_network(study, catalog),
        "regression": StageArguments(_regression_options(study, catalog)),
        "map": StageArguments(),
        "style": StageArguments(),
        "picture": StageArguments(),
        "page": StageArguments(),
        "project": StageArguments(),
        "report": StageArguments(_quote("--title", study.map.title if study.map else study.name)),
    }
    if study.map is not None:
        options = [*scene, "--cell-m", study.map.cell_m, "--transform", study.map.transform, "--unit", study.map.unit]
        options += ["--title", study.map.title, "--source", study.map.source, "--style", study.map.style]
        if study.map.mode != "auto":
            options += ["--mode", study.map.mode]
        if study.map.block_px is not None:
            options += ["--block-px", study.map.block_px]
        sources = list(scene_names)
        if study.map.crs:
            options += ["--crs", study.map.crs]
        if not isinstance(study.map.region, str):
            options += ["--bounds", *study.map.region]
        elif study.map.region != "scene":
            options += ["--region", catalog[study.map.region].path]
            sources.append(study.map.region)
        arguments["map"] = StageArguments(_quote(*options), sources)
        arguments["style"] = StageArguments(_quote("--style", study.map.style))
        words = ["--title", study.map.title, "--source", study.map.source]
        shown = ["--outcome", study.outcome.column, "--unit", study.outcome.unit]
        arguments["page"] = StageArguments(_quote(*words, *shown))
        arguments["project"] = StageArguments(_quote(*words))
        arguments |= _products(study, catalog)
        arguments["picture"] = StageArguments(
            _quote("--style", study.map.style, "--title", study.map.title, "--source", study.map.source)
        )
    return arguments


def _products(study: Study, catalog: Catalog) -> dict[str, StageArguments]:
    """Options of the maps of people and of poverty."""
    made: dict[str, StageArguments] = {}
    assert study.map is not None
    people, poverty = study.population, study.poverty
    if people is not None:
        options: list[Any] = [catalog[people.zones].path, "--id", people.id, "--count", people.count]
        options += ["--method", people.method, "--title", "Population", "--source", study.map.source]
        options += ["--year", catalog[people.zones].year]
        for option, name in people.sources.items():
            options += [f"--{option}", catalog[name].path]
        if people.group is not None:
            options += ["--group", people.group]
        made["people"] = StageArguments(_quote(*options), study.product_sources["people"])
    if poverty is not None:
        outcome = ["--outcome-is", poverty.outcome_is]
        line = ["--line", poverty.line, "--line-unit", poverty.line_unit, "--within-sd", poverty.within_sd, *outcome]
        spread = ["--within-sd", poverty.within_sd] if poverty.outcome_is == "mean_of_log" else []
        made["consumption"] = StageArguments(_quote(*outcome, *spread))
        made["line"] = StageArguments(_quote(*line))
        if people is not None:
            options = [*line, "--correlation-km", poverty.correlation_km, "--zones", catalog[people.zones].path]
            options += ["--zones-id", people.id, "--zones-count", people.count]
            if poverty.units is not None:
                options += ["--units", catalog[poverty.units].path, "--id", poverty.units_id]
            made["poor"] = StageArguments(_quote(*options), study.product_sources["poor"])
    return made


def _network(study: Study, catalog: Catalog) -> dict[str, StageArguments]:
    """Options of drawing points by their nightlights and of training a network on them."""
    wanted = study.pretrain
    if wanted is None:
        return {}
    tiles, lights = study.tiles, catalog[wanted.lights]
    size = ["--size-px", tiles.size_px, "--resolution-m", tiles.resolution_m, "--context-px", tiles.context_px]
    scenes = [name for scene in study.scene_sources for name in scene]
    assert isinstance(tiles.context_px, int)  # a number since the study was prepared
    tile_km = (tiles.size_px + 2 * tiles.context_px) * tiles.resolution_m / 1000
    # The corner of a cluster's window is the farthest that its tiles reach.
    buffer_km = wanted.buffer_km if wanted.buffer_km is not None else max(tiles.window_km or 0.0, tile_km) / 2 * 2**0.5
    options: list[Any] = [*_scene_options(study), *size, "--lights", lights.path, "--sensor", wanted.sensor]
    options += ["--points", wanted.n_points, "--buffer-km", buffer_km, "--n-classes", wanted.n_classes]
    classes = wanted.classes if isinstance(wanted.classes, str) else ",".join(f"{edge:g}" for edge in wanted.classes)
    options += ["--classes", classes, "--seed", wanted.seed]
    for option in ("noise_floor", "harmonise", "split_block_km"):
        if (value := getattr(wanted, option)) is not None:
            options += [f"--{option.replace('_', '-')}", value]
    if isinstance(lights.nodata, int | float):
        options += ["--nodata", lights.nodata]
    train = [*_scene_options(study), *size, "--backbone", wanted.backbone, "--weights", wanted.weights or "none"]
    train += ["--seed", wanted.seed, *_training_options(wanted.training)]
    return {
        "points": StageArguments(_quote(*options), [*scenes, wanted.lights]),
        "network": StageArguments(_quote(*train), scenes),
    }


# Parameters of `pretrain` whose option has another name.
_OPTION_NAMES = {"bands": "band", "class_weights": "balance"}


def _training_options(training: dict[str, Any]) -> list[Any]:
    options: list[Any] = []
    for key, value in training.items():
        name = _OPTION_NAMES.get(key, key).replace("_", "-")
        if key == "class_weights":
            options.append("--balance" if value == "balanced" else "--no-balance")
        elif key == "augment" and not value:
            options += ["--augment", "none"]
        elif value is not None:
            for part in value if isinstance(value, list) else [value]:
                options += [f"--{name}", part]
    return options


def _scene_options(study: Study) -> list[Any]:
    options: list[Any] = ["--catalog", study.catalog]
    for names in study.scene_sources:
        options += ["--scene", ",".join(names)]
    return options


def _tile_options(study: Study) -> list[Any]:
    tiles = study.tiles
    options = ["--size-px", tiles.size_px, "--resolution-m", tiles.resolution_m, "--context-px", tiles.context_px]
    if tiles.window_km is not None:
        options += ["--window-km", tiles.window_km, "--n-tiles", tiles.n_tiles]
    if tiles.displacement_draws:
        options += ["--displacement-draws", tiles.displacement_draws]
    return options


def _clusters(study: Study, catalog: Catalog) -> StageArguments:
    outcome = study.outcome.column
    files: list[str] = []
    match study.clusters:
        case PointClusters() as points:
            options = ["points", catalog[points.source].path, "--outcome", outcome]
            options += ["--id", points.id, "--lon", points.lon, "--lat", points.lat, "--crs", points.crs]
            for column, value in points.where.items():
                options += ["--where", f"{column}={value}"]
            for column, name in points.rename.items():
                options += ["--rename", f"{column}={name}"]
            if points.displacement is not None:
                options += ["--displacement", points.displacement]
        case HouseholdClusters() as hh:
            options = ["households", catalog[hh.households].path, "--outcome", hh.consumption]
            options += ["--locations", catalog[hh.locations].path, "--on", hh.household, "--cluster", hh.cluster]
            options += ["--weight", hh.weight, "--size", hh.size, "--lon", hh.lon, "--lat", hh.lat]
            if hh.to_ppp_usd_per_day is not None:
                options += ["--to-ppp-usd-per-day", hh.to_ppp_usd_per_day]
        case DhsClusters() as dhs:
            options = ["dhs", *(catalog[name].path for name in dhs.sources), "--min-households", dhs.min_households]
        case LsmsClusters() as lsms:
            options = ["lsms", lsms.adapter]
            for name in lsms.household_sources:
                options += ["--households", catalog[name].path]
            if lsms.locations is not None:
                options += ["--locations", catalog[lsms.locations].path]
            if lsms.line_ppp_usd is not None:
                options += ["--line-ppp-usd", lsms.line_ppp_usd]
            if lsms.line_national is not None:
                options += ["--line-national", lsms.line_national]
            options += ["--min-households", lsms.min_households]
            files = [lsms.adapter] if Path(lsms.adapter).is_file() else []
        case AreaClusters() as areas:
            options = ["areas", areas.recipe]
            for key, name in areas.inputs.items():
                options += ["--input", f"{key}={catalog[name].path}"]
            files = [str(areas.recipe)]
    return StageArguments(_quote(*options, *_year_limit(study, catalog)), study.cluster_sources, files)


def _year_limit(study: Study, catalog: Catalog) -> list[Any]:
    if study.max_year_gap is None:
        return []
    return [*_years(study, catalog), "--max-year-gap", study.max_year_gap]


def _years(study: Study, catalog: Catalog) -> list[Any]:
    """Years of the scenes, and of those of their sources that the baseline sees, which are the nightlights."""
    names = [name for scene in study.scene_sources for name in scene]
    options: list[Any] = [word for name in names for word in ("--imagery-year", catalog[name].year)]
    for name in nightlights_sources(study, catalog):
        options += ["--nightlights-year", catalog[name].year]
    return options


def nightlights_sources(study: Study, catalog: Catalog) -> list[str]:
    """The sources whose bands the baseline's extractors read, each once; all of them where it names no bands."""
    found: dict[str, None] = {}
    for names in study.scene_sources:
        bands = [(band, name) for name in names for band in catalog[name].bands or ()]
        owner: dict[str | int, str] = dict(bands)
        owner |= {number: name for number, (_, name) in enumerate(bands, start=1)}
        for spec in study.baseline:
            found |= dict.fromkeys(owner[band] for band in spec.get("bands") or owner if band in owner)
    return list(found)


def _regression_options(study: Study, catalog: Catalog) -> str:
    regression, outcome = study.regression, study.outcome
    options: list[Any] = ["--outcome", outcome.column, "--unit", outcome.unit, "--label", outcome.label]
    options += ["--buffer-km", regression.buffer_km, "--seed", regression.seed, "--coverage", regression.coverage]
    # Permutations and repeats share the algebra of one penalty.
    permutations, repeats = (0, 0) if regression.banded else (regression.permutations, regression.repeats)
    options += ["--deshrink", regression.deshrink, "--permutations", permutations]
    if regression.block_km is not None:
        options += ["--block-km", regression.block_km, "--folds", regression.n_folds, "--repeats", repeats]
    if regression.leave_out is not None:
        options += ["--leave-out", regression.leave_out]
    if regression.fold_column is not None:
        options += ["--fold-column", regression.fold_column]
    if regression.components is not None:
        options += ["--components", regression.components]
    if regression.banded:
        options += ["--banded"]
    if regression.allow_overlap:
        options += ["--allow-overlap"]
    return _quote(*options, *_years(study, catalog))


def _quote(*words: Any) -> str:
    return shlex.join(str(word) for word in words)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
