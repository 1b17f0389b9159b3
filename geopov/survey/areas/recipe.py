"""Recipes: how one country's polygons and census table fit together, written down in YAML instead of in code.

A recipe names its inputs by keys; which files those are is said when it is run, so that it works on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import geopandas as gpd
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geopov._validation import check_columns, some
from geopov.errors import SurveyError
from geopov.survey.areas.names import NameRules, match_names
from geopov.survey.areas.polygons import check_polygons, find_owners, join_keys, read_areas
from geopov.survey.clusters import note_dropped
from geopov.survey.files.tables import as_ids, read_table


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Corrections(_Strict):
    """Known mistakes of the polygons' table, corrected by another table."""

    input: str
    on: str  # a column of both tables
    values: dict[str, str]  # column of the polygons: column of the corrections


class Polygons(_Strict):
    """The areas' polygons."""

    input: str
    key: list[str] = Field(min_length=1)
    name: str | None = None  # names a polygon where it is listed as left out
    corrections: Corrections | None = None


class Zones(_Strict):
    """Larger polygons the areas lie in, which the counts know by name only."""

    input: str
    name: str
    groups: str | None = None  # input of still larger polygons; zones are matched within them


class Counts(_Strict):
    """The census table."""

    input: str
    key: list[str] = Field(min_length=1)
    population: str
    keep: list[str] = []
    zone: list[str] = []  # columns that name a zone together
    zone_name: str | None = None
    zone_group: str | None = None


class Names(_Strict):
    """How zone names are compared; see :class:`geopov.survey.NameRules`."""

    drop: list[str] = []
    replace: list[tuple[str, str]] = []
    aliases: dict[str, str] = {}
    min_similarity: float = Field(default=0.6, ge=0, le=1)


class AreaRecipe(_Strict):
    """What :func:`build_areas` needs to know beside the files."""

    country: str
    year: int
    polygons: Polygons
    counts: Counts
    zones: Zones | None = None
    names: Names = Names()

    @model_validator(mode="after")
    def _zones_fit(self) -> Self:
        given = bool(self.counts.zone), self.counts.zone_name is not None
        if self.zones is not None and not all(given):
            raise ValueError("zones need counts.zone and counts.zone_name")
        if self.zones is None and any((*given, self.counts.zone_group)):
            raise ValueError("counts.zone, zone_name and zone_group need zones")
        if self.zones is not None and (self.zones.groups is None) != (self.counts.zone_group is None):
            raise ValueError("zones.groups and counts.zone_group need one another")
        return self

    @property
    def inputs(self) -> list[str]:
        """Keys of all the files it needs."""
        keys = [self.polygons.input, self.counts.input]
        keys += [self.polygons.corrections.input] if self.polygons.corrections else []
        keys += [self.zones.input] if self.zones else []
        keys += [self.zones.groups] if self.zones and self.zones.groups else []
        return keys


def read_recipe(path: Path | str) -> AreaRecipe:
    """Read a recipe.

    Raises
    ------
    SurveyError
        If the file is absent or no YAML, or a key is unknown, missing or of another type.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return AreaRecipe.model_validate(content)
    except OSError as error:
        raise SurveyError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SurveyError(f"{path.name} is no YAML: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'recipe'}: {each['msg']}" for each in error.errors()]
        raise SurveyError(f"{path.name} is no recipe of areas: {'; '.join(problems)}.") from error


def build_areas(recipe: AreaRecipe, inputs: Mapping[str, Path]) -> gpd.GeoDataFrame:
    """Clusters from the census areas a recipe describes.

    Parameters
    ----------
    recipe : AreaRecipe
        From :func:`read_recipe`.
    inputs : mapping
        Each of ``recipe.inputs`` to its file.

    Returns
    -------
    GeoDataFrame
        As :func:`geopov.survey.read_areas`, with ``country`` and ``year``; where the recipe has zones also ``zone_id``,
        ``zone`` and ``zone_polygon`` (the zone's key and name in the counts, and its name among the polygons) and
        ``zone_match`` (how the names were matched), so that a match can be looked at, and left out.

    Raises
    ------
    SurveyError
        If an input is missing or not asked for, or as :func:`geopov.survey.read_areas` and :func:`match_names`.
    """
    missing = [key for key in recipe.inputs if key not in inputs]
    unknown = [key for key in inputs if key not in recipe.inputs]
    if missing or unknown:
        raise SurveyError(
            f"the recipe's inputs are {some(recipe.inputs, 20)}; "
            + (f"missing: {some(missing)}. " if missing else "")
            + (f"not asked for: {some(unknown)}. " if unknown else "")
            + "Give each as --input NAME=PATH."
        )
    tables = {key: read_table(path) for key, path in inputs.items()}
    polygons, counts = tables[recipe.polygons.input], tables[recipe.counts.input]
    check_polygons(polygons, recipe.polygons.key, recipe.polygons.input)
    if recipe.polygons.corrections is not None:
        polygons = _correct(polygons, recipe.polygons.corrections, tables)
    polygon_key, count_key, keep = recipe.polygons.key, recipe.counts.key, recipe.counts.keep
    if recipe.zones is not None:
        polygons, counts = _join_zones(recipe, recipe.zones, tables, polygons, counts)
        polygon_key = ["zone_id", *polygon_key]
        count_key = ["zone_id", *count_key]
        keep = [*keep, "zone_id", "zone", "zone_polygon", "zone_match"]
    areas = read_areas(
        polygons,
        counts,
        polygon_key=polygon_key,
        count_key=count_key,
        population=recipe.counts.population,
        keep=keep,
        polygon_name=recipe.polygons.name,
    )
    areas.insert(1, "country", recipe.country)
    areas.insert(2, "year", recipe.year)
    return areas


def _correct(polygons: gpd.GeoDataFrame, by: Corrections, tables: Mapping[str, pd.DataFrame]) -> gpd.GeoDataFrame:
    table = tables[by.input]
    check_columns(table, [by.on, *by.values.values()], by.input, SurveyError)
    check_columns(polygons, [by.on, *by.values], "the polygons", SurveyError)
    table = table.set_index(as_ids(table[by.on], by.input))
    where = as_ids(polygons[by.on], "the polygons")
    lost = table.index[~table.index.isin(where)]
    if len(lost) or table.index.has_duplicates:
        raise SurveyError(
            f"{by.input} corrects polygons that are not there or corrects one twice "
            f"({some(lost if len(lost) else table.index[table.index.duplicated()])}). Is it of another version?"
        )
    found = where.isin(table.index)
    polygons = polygons.copy()
    for column, source in by.values.items():
        corrected = where.map(table[source].astype("string"))
        polygons[column] = corrected.where(found, polygons[column].astype("string"))
    return polygons


def _join_zones(
    recipe: AreaRecipe,
    zones_of: Zones,
    tables: Mapping[str, pd.DataFrame],
    polygons: gpd.GeoDataFrame,
    counts: pd.DataFrame,
) -> tuple[gpd.GeoDataFrame, pd.DataFrame]:
    """Both tables with the ``zone_id`` of the counts, without the rows whose zone is unknown; those are noted."""
    zones, of = tables[zones_of.input], recipe.counts
    check_columns(counts, [*of.key, *of.zone, str(of.zone_name)], of.input, SurveyError)
    counts = counts.assign(zone_id=join_keys(counts, of.zone), zone=counts[of.zone_name])
    matches = _match_zones(recipe, zones_of, tables, counts)

    owners = find_owners(polygons, zones)
    # A polygon that no zone holds for its greater part belongs to none.
    owner = owners["zone"].where(owners["share"] > 0.5)
    polygons = polygons.assign(zone_id=owner.map(matches.set_index("left")["right"]))
    labels = polygons[recipe.polygons.name] if recipe.polygons.name else polygons.index.to_series()
    located = polygons[polygons["zone_id"].notna()]
    located = note_dropped(located, "polygons", labels[owner.isna()], "lies in no zone")
    unmatched = owner[owner.notna() & polygons["zone_id"].isna()].map(zones[zones_of.name])
    for name in unmatched.unique():
        reason = f"its zone {name} is like no zone of the counts by name"
        located = note_dropped(located, "polygons", labels[unmatched.index[unmatched == name]], reason)

    by_id = matches.set_index("right")
    counts["zone_polygon"] = counts["zone_id"].map(by_id["left"]).map(zones[zones_of.name])
    counts["zone_match"] = counts["zone_id"].map(by_id["how"])
    known = counts[counts["zone_match"].notna()]
    unknown = counts[counts["zone_match"].isna()]
    for name in unknown["zone"].unique():
        reason = f"its zone {name} is like no zone of the polygons by name"
        rows = unknown[unknown["zone"].isna() if pd.isna(name) else unknown["zone"] == name]
        known = note_dropped(known, "counts", join_keys(rows, ["zone_id", *of.key]), reason)
    return located, known


def _match_zones(
    recipe: AreaRecipe, zones_of: Zones, tables: Mapping[str, pd.DataFrame], counts: pd.DataFrame
) -> pd.DataFrame:
    """Matched zones: ``left`` an index label of the zones' polygons, ``right`` a ``zone_id``, and ``how``."""
    zones, group = tables[zones_of.input], recipe.counts.zone_group
    check_polygons(zones, [zones_of.name], zones_of.input)
    check_columns(counts, [group] if group else [], recipe.counts.input, SurveyError)
    named = counts.dropna(subset=["zone_id", "zone"]).drop_duplicates("zone_id").set_index("zone_id")
    matches = match_names(
        zones[zones_of.name],
        named["zone"],
        left_groups=_groups(zones, tables[zones_of.groups]) if zones_of.groups else None,
        right_groups=named[group] if group else None,
        rules=NameRules(**recipe.names.model_dump()),
    )
    return matches.dropna(subset=["left", "right"])


def _groups(zones: gpd.GeoDataFrame, groups: pd.DataFrame) -> pd.Series:
    check_polygons(groups, [], "the groups of zones")
    owners = find_owners(zones, groups)
    # Zones that lie in no group form one of their own, so that they are matched by name at least.
    return owners["zone"].where(owners["share"] > 0.5).fillna(-1)
