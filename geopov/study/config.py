"""A study: one YAML file that says which scene, which clusters, which outcome, and what to map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from geopov.errors import StudyError
from geopov.study.sections import (
    AreaClusters,
    DhsClusters,
    HouseholdClusters,
    LsmsClusters,
    Map,
    Outcome,
    PointClusters,
    Population,
    Poverty,
    Pretrain,
    Regression,
    SampleWorld,
    Section,
    Tiles,
)

__all__ = ["NETWORK_FOLDER", "Study", "read_study"]

NETWORK_FOLDER = "network"
"""Where, in the work folder, a study keeps the network it trains."""


class Study(Section):
    """Everything one run needs.

    Attributes
    ----------
    name : str
        Short name; the work folder is ``work/NAME``.
    catalog : Path
        The catalogue that the sources are named in, relative to the study file.
    sample_world : SampleWorld or None
        Instead of a catalogue: a world made up from a seed, whose catalogue has the sources ``sample_scene``,
        ``sample_lights``, ``sample_clusters`` and ``sample_zones``.
    scenes : list
        Each a catalogue name, or a list of names stacked as the bands of one scene.
    features, baseline : list of dict
        Extractors, as :func:`geopov.features.build` takes them. The baseline is what the model has to beat.
    random_convolution : dict or None
        Parameters of random convolutional features, which then stand beside the model too: how well filters that nobody
        trained do on the same tiles.
    pretrain : Pretrain or None
        A network to train on nightlights first; the extractor ``pretrained`` without ``weights`` stands for it.
    population, poverty : optional
        Sections for the maps of people and of poverty.
    max_year_gap : int or None
        Clusters surveyed more years than this from the nearest image, or from the nearest nightlights, are left out.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    catalog: Path = Path()
    sample_world: SampleWorld | None = None
    scenes: list[str | list[str]] = Field(min_length=1)
    clusters: Annotated[
        PointClusters | HouseholdClusters | AreaClusters | DhsClusters | LsmsClusters, Field(discriminator="kind")
    ]
    max_year_gap: int | None = Field(default=None, ge=0)
    outcome: Outcome
    tiles: Tiles
    pretrain: Pretrain | None = None
    features: list[dict[str, Any]] = Field(min_length=1)
    baseline: list[dict[str, Any]] = Field(default=[], min_length=0)
    random_convolution: dict[str, Any] | None = None
    regression: Regression
    map: Map | None = None
    population: Population | None = None
    poverty: Poverty | None = None

    @model_validator(mode="after")
    def _sources_from_one_place(self) -> Self:
        # The catalogue of a sample world is filled in when the world has been made.
        if self.sample_world is None and self.catalog == Path():
            raise ValueError("neither catalog nor sample_world is given; expected one of them")
        return self

    @model_validator(mode="after")
    def _pretrained_is_trained(self) -> Self:
        wanted = any(spec.get("name") == "pretrained" and "weights" not in spec for spec in self.features)
        if wanted and self.pretrain is None:
            raise ValueError("features name 'pretrained' without weights; add the section pretrain, or weights")
        if self.pretrain is not None and not wanted:
            raise ValueError("pretrain trains a network that no features use; add {name: pretrained} to features")
        return self

    @model_validator(mode="after")
    def _bands_need_blocks(self) -> Self:
        if self.regression.banded and len(self.features) < 2:
            raise ValueError("regression.banded needs at least two extractors in features, one a block")
        return self

    @model_validator(mode="after")
    def _maps_need_a_map(self) -> Self:
        if self.map is None and (self.population is not None or self.poverty is not None):
            raise ValueError("population and poverty are laid on the cells of the map; add a map")
        counted = self.poverty is not None and self.population is not None
        if counted and self.poverty is not None and self.poverty.correlation_km is None:
            raise ValueError(
                "the number of poor needs poverty.correlation_km, how far errors of the map resemble each other"
            )
        if self.poverty is not None and self.poverty.units is not None and self.population is None:
            raise ValueError("poverty.units are to hold numbers of poor; add a population")
        return self

    @property
    def products(self) -> list[str]:
        """Names of the maps that are made beside ``map.tif``, without their ending."""
        people = ["people"] if self.population is not None else []
        poor = ["poor"] if people and self.poverty is not None else []
        welfare = ["consumption", "headcount", "gap", "severity", "quintile"] if self.poverty is not None else []
        return [*people, *welfare, *poor]

    @property
    def scene_sources(self) -> list[list[str]]:
        """Catalogue names of each scene's files."""
        return [[scene] if isinstance(scene, str) else scene for scene in self.scenes]

    @property
    def extractors(self) -> dict[str, list[dict[str, Any]]]:
        """Extractors of each file of features: the model's and those it is compared with."""
        model = [
            spec | {"weights": NETWORK_FOLDER} if spec.get("name") == "pretrained" and "weights" not in spec else spec
            for spec in self.features
        ]
        roles = {"model": model, "baseline": self.baseline}
        if self.random_convolution is not None:
            roles["random"] = [{"name": "random_convolution", **self.random_convolution}]
        seen = {"context_px": self.tiles.context_px} if self.tiles.context_px else {}
        return {role: [seen | spec for spec in extractors] for role, extractors in roles.items() if extractors}

    @property
    def cluster_sources(self) -> list[str]:
        """Catalogue names that the clusters are made from."""
        match self.clusters:
            case PointClusters(source=source):
                return [source]
            case HouseholdClusters(households=households, locations=locations):
                return [households, locations]
            case AreaClusters(inputs=inputs):
                return list(inputs.values())
            case DhsClusters(sources=sources):
                return sources
            case LsmsClusters(locations=places) as lsms:
                return [*lsms.household_sources, *([] if places is None else [places])]

    @property
    def region_sources(self) -> list[str]:
        """Catalogue name of the polygons that bound the map, if any."""
        region = "scene" if self.map is None else self.map.region
        return [region] if isinstance(region, str) and region != "scene" else []

    @property
    def product_sources(self) -> dict[str, list[str]]:
        """Catalogue names that the maps of people and of the poor are made from, by the map."""
        people = [] if self.population is None else [self.population.zones, *self.population.sources.values()]
        units = [] if self.poverty is None or self.poverty.units is None else [self.poverty.units]
        zones = people[:1] if self.poverty is not None else []
        return {"people": people, "poor": [*zones, *units]}

    @property
    def sources(self) -> list[str]:
        """Every catalogue name the study uses, each once."""
        scenes = [name for scene in self.scene_sources for name in scene]
        products = [name for names in self.product_sources.values() for name in names]
        lights = [] if self.pretrain is None else [self.pretrain.lights]
        return list(dict.fromkeys([*scenes, *lights, *self.cluster_sources, *self.region_sources, *products]))


def read_study(path: str | Path) -> Study:
    """Read and check a study file; relative paths in it become absolute.

    Raises
    ------
    StudyError
        With every wrong key and value of the file at once.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"there is no study file {path}; expected a YAML such as pipelines/nepal.yaml.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path} holds a {type(content).__name__}; expected keys such as name, scenes and clusters.")
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{path} is not a valid study:", [_problem(item) for item in error.errors()]) from None
    if study.sample_world is not None and study.catalog != Path():
        raise StudyError(f"{path} gives both catalog and sample_world; a made-up world brings its own catalogue.")
    folder = path.resolve().parent
    update: dict[str, Any] = {} if study.sample_world is not None else {"catalog": folder / study.catalog}
    if isinstance(study.clusters, AreaClusters):
        update["clusters"] = study.clusters.model_copy(update={"recipe": folder / study.clusters.recipe})
    if isinstance(study.clusters, LsmsClusters) and study.clusters.adapter.endswith((".yaml", ".yml")):
        update["clusters"] = study.clusters.model_copy(update={"adapter": str(folder / study.clusters.adapter)})
    return study.model_copy(update=update)


def _problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key."
    if item["type"] == "missing":
        return f"{where}: missing."
    return f"{where}: {item['msg']}; got {item['input']!r}."
