"""Adapters: how one survey's files are read, in a few lines of YAML.

What every household survey of the LSMS kind has, under the names that survey gave it. An adapter of a new survey needs
eight keys, and two more to place it on the ground::

    survey: XXX_2020_LSMS
    country: Somewhere
    year: 2020
    household: hhid
    cluster: ea_id
    weight: hh_wgt
    size: hhsize
    consumption: {column: totcons, of: household, per: year, prices: nominal, currency: XXX}
    coordinates: {lon: lon_mod, lat: lat_mod}
    displacement: {urban_km: 2, rural_km: 5}
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from geopov.errors import SurveyError
from geopov.survey.lsms.prices import PovertyLine, PriceChain, Strict


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Key = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
"""One column, or several that name a thing together; their values are joined by hyphens."""


class Urban(Strict):
    """A column of more kinds of places than two, and the values of it that are urban."""

    column: str
    values: list[int | str] = Field(min_length=1)


class Coordinates(Strict):
    """Columns of the published position."""

    lon: str
    lat: str
    crs: str = "EPSG:4326"


class Join(Strict):
    """The columns by which a row of the locations belongs to a household: of the household, or of its cluster."""

    households: Key
    locations: Key


class Displacement(Strict):
    """How far a published position may lie from the true one."""

    urban_km: float = Field(ge=0)
    rural_km: float = Field(ge=0)


class Files(Strict):
    """File names in the distribution, so that people find them."""

    households: Key
    """The consumption aggregate, then those with the columns it lacks."""
    locations: str | None = None


# Burgert, C. R. et al. (2013). Geographic displacement procedure and georeferenced data release policy for the
# Demographic and Health Surveys. DHS Spatial Analysis Reports 7. One rural cluster in a hundred lies up to 10 km away.
DHS_DISPLACEMENT = Displacement(urban_km=2.0, rural_km=5.0)
NO_DISPLACEMENT = Displacement(urban_km=0.0, rural_km=0.0)


class Adapter(PriceChain):
    """What :func:`geopov.survey.lsms.read_lsms` needs to know of a survey beside its files."""

    name: str = ""
    """The file's name without its ending."""
    survey: str
    """Identifier, such as the one of the World Bank's microdata catalogue: ``MWI_2019_IHS-V``."""
    country: str
    year: int | str
    """The year, or the column that has each household's."""
    household: Key
    cluster: Key
    weight: str
    """Household sampling weight: how many households it stands for."""
    size: str
    """Household members."""
    adult_equivalents: str | None = None
    urban: str | Urban | None = None
    region: Key | None = None
    stratum: Key | None = None
    psu: Key | None = None
    poverty_line: PovertyLine | None = None
    coordinates: Coordinates | None = None
    join: Join | None = None
    """Default: ``household``, under the same names in both files."""
    displacement: Literal["dhs", "none"] | Displacement | None = None
    """The rule of DHS (urban 2 km, rural 5 km), none, or the survey's own."""
    movers: Literal["error", "unplaced"] = "error"
    """Households of a cluster elsewhere than most of it: a mistake, or, in a panel, people who moved."""
    where: dict[str, Any] = Field(default_factory=dict)
    """Column to value or values: the rows to take."""
    missing: tuple[float, ...] = ()
    """Numbers that mean no answer, in every column of numbers."""
    files: Files | None = None
    checked: bool = False
    """Whether it was run on the survey's real file."""
    source: str = ""
    url: str = ""
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        units = [self.consumption.of, self.poverty_line.of if self.poverty_line else None]
        if self.adult_equivalents is None and "adult_equivalent" in units:
            raise ValueError("amounts of an adult_equivalent need the column adult_equivalents")
        rule = self.displaced
        if rule is not None and rule.urban_km != rule.rural_km and self.urban is None:
            raise ValueError("displacement differs between urban and rural places and needs the column urban")
        if self.deflator is None and self.poverty_line and self.poverty_line.prices != self.consumption.prices:
            raise ValueError("poverty_line and consumption are in different prices, and there is no deflator")
        if self.join is not None and self.coordinates is None:
            raise ValueError("join needs coordinates")
        return self

    @property
    def columns(self) -> list[str]:
        """Every column it names of a household, save coordinates and what only joins the files."""
        urban = self.urban.column if isinstance(self.urban, Urban) else self.urban
        named = [*self.household, *self.cluster, self.weight, self.size, self.adult_equivalents, urban]
        named += [self.year if isinstance(self.year, str) else None]
        named += [each for key in (self.region, self.stratum, self.psu) if key for each in key]
        named += [self.consumption.column, self.deflator.column if self.deflator else None]
        named += [self.poverty_line.column if self.poverty_line else None, *self.where]
        return list(dict.fromkeys(column for column in named if column is not None))

    @property
    def every_column(self) -> list[str]:
        """All the columns it names, of either file."""
        place = [self.coordinates.lon, self.coordinates.lat] if self.coordinates else []
        keys = [*self.join.households, *self.join.locations] if self.join else []
        return list(dict.fromkeys([*self.columns, *place, *keys]))

    @property
    def displaced(self) -> Displacement | None:
        """The displacement rule in km; None where it is not known."""
        if isinstance(self.displacement, str):
            return DHS_DISPLACEMENT if self.displacement == "dhs" else NO_DISPLACEMENT
        return self.displacement


def adapter_names() -> list[str]:
    """Names of the adapters that come with geopov, in alphabetical order."""
    folder = files("geopov.survey.lsms") / "adapters"
    return sorted(Path(each.name).stem for each in folder.iterdir() if each.name.endswith(".yaml"))


def read_adapter(adapter: str | Path | Adapter) -> Adapter:
    """An adapter that comes with geopov, by name, or one of your own, by path.

    Parameters
    ----------
    adapter : str or path
        One of :func:`adapter_names`, or a file that ends in .yaml or .yml.

    Raises
    ------
    SurveyError
        If there is none of that name or path, it is no YAML, or a key is unknown, missing or of another type.
    """
    if isinstance(adapter, Adapter):
        return adapter
    if Path(adapter).suffix.lower() not in (".yaml", ".yml"):
        if str(adapter) not in adapter_names():
            raise SurveyError(
                f"there is no adapter {str(adapter)!r}; geopov has {', '.join(adapter_names())}. "
                "For another survey give the path of your own adapter, which ends in .yaml."
            )
        text = (files("geopov.survey.lsms") / "adapters" / f"{adapter}.yaml").read_text(encoding="utf-8")
        return _parse(text, str(adapter))
    path = Path(adapter)
    try:
        return _parse(path.read_text(encoding="utf-8"), path.stem)
    except OSError as error:
        raise SurveyError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SurveyError(f"{path.name} is no YAML: {error}") from error


def _parse(text: str, name: str) -> Adapter:
    try:
        content = yaml.safe_load(text)
        return Adapter.model_validate({"name": name, **content} if isinstance(content, dict) else content)
    except yaml.YAMLError as error:
        raise SurveyError(f"the adapter {name} is no YAML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'adapter'}: {each['msg']}" for each in error.errors()]
        raise SurveyError(f"the adapter {name} is wrong: {'; '.join(problems)}.") from error


def adapter_table() -> pd.DataFrame:
    """The adapters that come with geopov: one row each.

    Returns
    -------
    DataFrame
        ``name``, ``survey``, ``country``, ``year`` (text: a year or the column that has it), ``checked`` (bool),
        ``currency``, ``ppp`` (bool), ``households`` and ``locations`` (file names), ``source``.
    """
    rows = []
    for name in adapter_names():
        adapter = read_adapter(name)
        rows.append(
            {
                "name": name,
                "survey": adapter.survey,
                "country": adapter.country,
                "year": str(adapter.year),
                "checked": adapter.checked,
                "currency": adapter.consumption.currency,
                "ppp": adapter.ppp is not None,
                "households": ", ".join(adapter.files.households) if adapter.files else "",
                "locations": (adapter.files.locations or "") if adapter.files else "",
                "source": adapter.source,
            }
        )
    return pd.DataFrame(rows)
