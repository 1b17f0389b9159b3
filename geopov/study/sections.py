"""The sections of a study file, each with what it may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of a study file: unknown keys are errors, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PointClusters(Section):
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


class DhsClusters(Section):
    """Clusters from the files of the DHS Program, with an asset wealth index: `geopov survey dhs`."""

    kind: Literal["dhs"]
    sources: list[str] = Field(min_length=1)
    min_households: int = Field(default=1, gt=0)


class LsmsClusters(Section):
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


class HouseholdClusters(Section):
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


class AreaClusters(Section):
    """Clusters from census areas joined to their counts by a recipe: `geopov survey areas`."""

    kind: Literal["areas"]
    recipe: Path
    inputs: dict[str, str]


class Outcome(Section):
    """The column to predict."""

    column: str
    unit: str
    label: str


class Tiles(Section):
    """Size of the tiles, how many make a cluster, and over how many draws of its true position they are averaged.

    Draws need clusters with a column ``displacement_km``; each has a tile, or a window of tiles, of its own.
    ``context_px`` is what networks see around each tile, and what lets the cells of a map share their computation:
    "auto" takes what leaves 1% of error at the seams of blocks, "exact" the network's whole reach. Extractors that name
    no ``context_px`` get the tiles'.
    """

    size_px: int = Field(gt=0)
    resolution_m: float = Field(gt=0)
    context_px: Annotated[int, Field(ge=0)] | Literal["auto", "exact"] = 0
    window_km: float | None = Field(default=None, gt=0)
    n_tiles: int = Field(default=1, gt=0)
    displacement_draws: int = Field(default=0, ge=0)


class SampleWorld(Section):
    """A made-up country with a known truth, instead of a catalogue: :func:`geopov.testing.write_sample_world`."""

    seed: int = Field(default=0, ge=0)
    size_km: float = Field(default=48.0, gt=0)
    n_clusters: int = Field(default=320, gt=1)
    n_zones: int = Field(default=160, gt=1)


class Pretrain(Section):
    """A network that the study trains itself, to tell the nightlights of a tile: `geopov features points`, `pretrain`.

    Points are drawn where the scenes are, evenly over the classes of light, and ``buffer_km`` away from every cluster:
    by default so far that no tile for training reaches into a tile of the survey. ``training`` holds further options of
    :func:`geopov.features.pretrain`; the extractor ``pretrained`` is the result.
    """

    lights: str
    sensor: Literal["viirs", "dmsp", "black_marble"] = "viirs"
    n_points: int = Field(gt=0)
    buffer_km: float | None = Field(default=None, ge=0)
    noise_floor: float | None = None
    harmonise: str | None = None
    classes: Literal["mixture", "quantiles"] | list[float] = "mixture"
    n_classes: int = Field(default=3, gt=1)
    split_block_km: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    backbone: str
    weights: str | None = "imagenet"
    training: dict[str, Any] = {}


class Regression(Section):
    """How clusters are divided, what is fitted, and the share of clusters that intervals should cover.

    Folds are square blocks of ``block_km``, or one country or survey at a time (``leave_out``), or the values of a
    column (``fold_column``). ``banded`` gives each extractor's features a penalty of their own, and leaves permutations
    and repeats out. Training clusters whose tiles would overlap a test tile are left out unless
    ``allow_overlap``; ``buffer_km`` leaves out more.
    """

    block_km: float | None = Field(default=None, gt=0)
    n_folds: int = Field(default=5, gt=1)
    leave_out: Literal["country", "survey"] | None = None
    fold_column: str | None = None
    buffer_km: float = Field(default=0.0, ge=0)
    allow_overlap: bool = False
    banded: bool = False
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
        if self.banded and self.components is not None:
            raise ValueError("banded and components are both given; principal components would mix the blocks")
        return self


class Map(Section):
    """The grid of cells to predict, and how the map presents itself.

    ``mode`` and ``block_px`` are as for :class:`geopov.study.CellModel`.
    """

    title: str
    source: str
    cell_m: float = Field(gt=0)
    region: str | tuple[float, float, float, float] = "scene"
    crs: str | None = None
    transform: Literal["none", "exp"] = "none"
    unit: str
    style: str
    mode: Literal["auto", "shared", "crops"] = "auto"
    block_px: int | None = Field(default=None, gt=0)


class Population(Section):
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


class Poverty(Section):
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
