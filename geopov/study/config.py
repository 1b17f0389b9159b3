"""A study: one YAML file that says which scene, which clusters, which outcome, and what to map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geopov.errors import StudyError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PointClusters(_Section):
    """Clusters from a table with one row a cluster: `geopov survey points`."""

    kind: Literal["points"]
    source: str
    id: str = "cluster_id"
    lon: str = "lon"
    lat: str = "lat"
    crs: str = "EPSG:4326"
    where: dict[str, str | int | bool] = {}
    rename: dict[str, str] = {}
    displacement: Literal["dhs", "lsms", "none"] | None = None


class DhsClusters(_Section):
    """Clusters from the files of the DHS Program, with an asset wealth index: `geopov survey dhs`."""

    kind: Literal["dhs"]
    sources: list[str] = Field(min_length=1)
    min_households: int = Field(default=1, gt=0)


class LsmsClusters(_Section):
    """Clusters from an LSMS survey by an adapter, shipped or a YAML of one's own: `geopov survey lsms`."""

    kind: Literal["lsms"]
    adapter: str
    households: str | list[str]
    locations: str | None = None
    line_ppp_usd: float | None = Field(default=None, gt=0)
    line_national: float | None = Field(default=None, gt=0)
    min_households: int = Field(default=1, gt=0)

    @property
    def household_sources(self) -> list[str]:
        """Catalogue names of the households' files."""
        return [self.households] if isinstance(self.households, str) else self.households

    @model_validator(mode="after")
    def _one_line(self) -> Self:
        if self.line_ppp_usd is not None and self.line_national is not None:
            raise ValueError("line_ppp_usd and line_national are both given; expected one poverty line")
        return self


class HouseholdClusters(_Section):
    """Clusters from a table of households and one of locations: `geopov survey households`."""

    kind: Literal["households"]
    households: str
    locations: str
    household: str
    cluster: str
    weight: str
    size: str
    consumption: str
    lon: str
    lat: str
    to_ppp_usd_per_day: float | None = None


class AreaClusters(_Section):
    """Clusters from census areas joined to their counts by a recipe: `geopov survey areas`."""

    kind: Literal["areas"]
    recipe: Path
    inputs: dict[str, str]


class Outcome(_Section):
    """The column to predict."""

    column: str
    unit: str
    label: str


class Tiles(_Section):
    """Size of the tiles, how many make a cluster, and over how many draws of its true position they are averaged.

    Draws need clusters with a column ``displacement_km``; each has a tile, or a window of tiles, of its own.
    """

    size_px: int = Field(gt=0)
    resolution_m: float = Field(gt=0)
    context_px: int = Field(default=0, ge=0)
    window_km: float | None = Field(default=None, gt=0)
    n_tiles: int = Field(default=1, gt=0)
    displacement_draws: int = Field(default=0, ge=0)


class Regression(_Section):
    """How clusters are divided, what is fitted, and the share of clusters that intervals should cover.

    Folds are square blocks of ``block_km``, or one country or survey at a time (``leave_out``), or the values of a
    column (``fold_column``). Training clusters whose tiles would overlap a test tile are left out unless
    ``allow_overlap``; ``buffer_km`` leaves out more.
    """

    block_km: float | None = Field(default=None, gt=0)
    n_folds: int = Field(default=5, gt=1)
    leave_out: Literal["country", "survey"] | None = None
    fold_column: str | None = None
    buffer_km: float = Field(default=0.0, ge=0)
    allow_overlap: bool = False
    components: int | None = Field(default=None, gt=0)
    deshrink: Literal["none", "linear", "tweedie"] = "none"
    permutations: int = Field(default=100, ge=0)
    repeats: int = Field(default=20, ge=0)
    seed: int = 0
    coverage: float = Field(default=0.9, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_way_to_divide(self) -> Self:
        ways = {"block_km": self.block_km, "leave_out": self.leave_out, "fold_column": self.fold_column}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of {', '.join(ways)}; got {', '.join(given) or 'none'}")
        return self


class Map(_Section):
    """The grid of cells to predict, and how the map presents itself."""

    title: str
    source: str
    cell_m: float = Field(gt=0)
    region: str | tuple[float, float, float, float] = "scene"
    crs: str | None = None
    transform: Literal["none", "exp"] = "none"
    unit: str
    style: str


class Population(_Section):
    """People on the map's cells, from a census: `geopov maps density`."""

    zones: str
    id: str
    count: str
    method: Literal["equal_area", "proportional", "settlement", "learned"]
    raster: str | None = None
    lights: str | None = None
    elevation: str | None = None
    group: str | None = None
    water: str | None = None

    @property
    def sources(self) -> dict[str, str]:
        """Catalogue names by the option that takes them."""
        named = {"raster": self.raster, "lights": self.lights, "elevation": self.elevation, "water": self.water}
        return {option: name for option, name in named.items() if name is not None}


class Poverty(_Section):
    """Maps of consumption, poverty at a line and, with a population, the number of poor.

    The model of the study must predict log consumption, and its map show it.
    """

    line: float = Field(gt=0)
    line_unit: str
    within_sd: float = Field(gt=0)
    outcome_is: Literal["log_of_mean", "mean_of_log"] = "log_of_mean"
    correlation_km: float | None = Field(default=None, gt=0)
    units: str | None = None
    units_id: str | None = None

    @model_validator(mode="after")
    def _units_have_names(self) -> Self:
        if (self.units is None) != (self.units_id is None):
            raise ValueError("units and units_id go together: polygons, and the column that names them")
        return self


class Study(_Section):
    """Everything one run needs.

    Attributes
    ----------
    name : str
        Short name; the work folder is ``work/NAME``.
    catalog : Path
        The catalogue that the sources are named in, relative to the study file.
    scenes : list
        Each a catalogue name, or a list of names stacked as the bands of one scene.
    features, baseline : list of dict
        Extractors, as :func:`geopov.features.build` takes them. The baseline is what the model has to beat.
    random_convolution : dict or None
        Parameters of random convolutional features, which then stand beside the model too: how well filters that nobody
        trained do on the same tiles.
    population, poverty : optional
        Sections for the maps of people and of poverty.
    max_year_gap : int or None
        Clusters surveyed more years than this from the nearest image, or from the nearest nightlights, are left out.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    catalog: Path
    scenes: list[str | list[str]] = Field(min_length=1)
    clusters: Annotated[
        PointClusters | HouseholdClusters | AreaClusters | DhsClusters | LsmsClusters, Field(discriminator="kind")
    ]
    max_year_gap: int | None = Field(default=None, ge=0)
    outcome: Outcome
    tiles: Tiles
    features: list[dict[str, Any]] = Field(min_length=1)
    baseline: list[dict[str, Any]] = Field(default=[], min_length=0)
    random_convolution: dict[str, Any] | None = None
    regression: Regression
    map: Map | None = None
    population: Population | None = None
    poverty: Poverty | None = None

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
        roles = {"model": self.features, "baseline": self.baseline}
        if self.random_convolution is not None:
            roles["random"] = [{"name": "random_convolution", **self.random_convolution}]
        return {role: extractors for role, extractors in roles.items() if extractors}

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
        return list(dict.fromkeys([*scenes, *self.cluster_sources, *self.region_sources, *products]))


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
    folder = path.resolve().parent
    update: dict[str, Any] = {"catalog": folder / study.catalog}
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
