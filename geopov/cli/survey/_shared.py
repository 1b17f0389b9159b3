"""What the survey commands share: the years they compare, what they write, and what they print of clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import geopandas as gpd
import typer
from rich.table import Table

import geopov
from geopov._validation import sha256_of, some
from geopov.cli._common import console
from geopov.errors import SurveyError
from geopov.survey import describe_measures, dropped, gap_text, limit_year_gap, write_clusters

Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", help="GeoParquet file of the clusters; a GeoPackage and a data dictionary go beside it."
    ),
]
ImageryYears = Annotated[
    list[int] | None, typer.Option("--imagery-year", help="Year of the images, to compare with; repeat it.")
]
NightlightsYears = Annotated[
    list[int] | None, typer.Option("--nightlights-year", help="Year of the nightlights, to compare with; repeat it.")
]
MaxYearGap = Annotated[
    int | None, typer.Option(help="Leave out clusters surveyed more years than this from the nearest image.", min=0)
]
MinHouseholds = Annotated[int, typer.Option(help="Leave out clusters with fewer households that can be used.", min=1)]

# Paths and names are no markup, and a line that is too long for the screen may be cut by the screen only.
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


class Displacement(StrEnum):
    """Rules of displacement by name; see :data:`geopov.survey.RULES`."""

    dhs = "dhs"
    lsms = "lsms"
    none = "none"


class Years(NamedTuple):
    """What ``--imagery-year``, ``--nightlights-year`` and ``--max-year-gap`` said."""

    imagery: list[int] | None = None
    nightlights: list[int] | None = None
    max_gap: int | None = None


def finish(
    clusters: gpd.GeoDataFrame,
    output: Path,
    *,
    command: str,
    inputs: Mapping[str, Path],
    parameters: dict[str, Any],
    years: Years | None = None,
) -> gpd.GeoDataFrame:
    """Compare the years, write the clusters with their provenance, and print what they are."""
    years = years or Years()
    if years.imagery or years.nightlights:
        clusters = limit_year_gap(
            clusters,
            imagery_years=years.imagery or [],
            nightlights_years=years.nightlights or [],
            max_years=years.max_gap,
        )
        parameters = parameters | {"years": years._asdict()}
        console.print(gap_text(clusters), **PLAIN)
    elif years.max_gap is not None:
        raise SurveyError("--max-year-gap needs a year to compare with; give --imagery-year or --nightlights-year.")
    provenance = {
        "geopov": geopov.__version__,
        "command": f"survey {command}",
        "inputs_sha256": {name: sha256_of(path) for name, path in inputs.items()},
        "parameters": parameters,
    }
    write_clusters(clusters, output, provenance=provenance)
    show(clusters, output)
    return clusters


def show(clusters: gpd.GeoDataFrame, path: Path) -> None:
    """Print what is in a table of clusters, where they lie, and what was left out."""
    west, south, east, north = clusters.total_bounds
    console.print(
        f"{path}: {len(clusters)} clusters, longitude {west:.3f}..{east:.3f}, latitude {south:.3f}..{north:.3f}",
        **PLAIN,
    )
    for column in ("survey", "country", "year", "urban"):
        if column in clusters:
            counts = clusters[column].value_counts().sort_index()
            console.print(f"{column}: {some((f'{value} ({count})' for value, count in counts.items()), 12)}", **PLAIN)
    errors = [column for column in clusters if str(column).endswith("_se")]
    numbers = clusters.select_dtypes("number").drop(columns=["year", "cluster", *errors], errors="ignore")
    if not numbers.empty:
        table = Table("column", "n", "mean", "sd", "min", "median", "max")
        for column, row in numbers.describe().T.iterrows():
            values = [row[name] for name in ("mean", "std", "min", "50%", "max")]
            table.add_row(str(column), f"{row['count']:.0f}", *(f"{value:.4g}" for value in values))
        console.print(table)
    for note in clusters.attrs.get("notes", []):
        console.print(f"Note: {note}", **PLAIN)
    for measure in describe_measures(clusters.attrs.get("measures", {})):
        console.print(f"{measure['title']}. {measure['text']}", **PLAIN)
        for part in measure["tables"]:
            table = Table(*part["columns"], title=part["title"], title_justify="left")
            for cells in part["rows"]:
                table.add_row(*(cell if isinstance(cell, str) else _number(cell) for cell in cells))
            console.print(table)
    left_out = dropped(clusters)
    if left_out.empty:
        console.print("Nothing was left out.")
        return
    table = Table("left out", "n", "reason", "which")
    for source, reason in left_out[["source", "reason"]].drop_duplicates().itertuples(index=False):
        ids = left_out.loc[(left_out["source"] == source) & (left_out["reason"] == reason), "id"]
        table.add_row(source, str(len(ids)), reason, some(ids, 6))
    console.print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def pairs(values: Sequence[str] | None, option: str) -> list[tuple[str, str]]:
    """The NAME=VALUE pairs of an option."""
    split = [value.partition("=") for value in values or []]
    for (name, equals, value), given in zip(split, values or [], strict=True):
        if not (name and equals and value):
            raise SurveyError(f"{option} is {given!r}; expected NAME=VALUE.")
    return [(name, value) for name, _, value in split]
