"""``geopov survey dhs|lsms|adapters``: clusters from the files that the survey programmes hand out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.table import Table

from geopov._validation import atomic_path
from geopov.cli._common import console
from geopov.cli.survey._shared import (
    ImageryYears,
    MaxYearGap,
    MinHouseholds,
    NightlightsYears,
    Output,
    Years,
    finish,
)
from geopov.errors import SurveyError
from geopov.survey import Ppp, adapter_table, dhs_clusters, lsms_clusters, read_adapter

app = typer.Typer()


@app.command(epilog="Example: geopov survey dhs RWHR61DT.ZIP RWGE61FL.ZIP -o clusters.parquet")
def dhs(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Distribution zips, folders or unpacked files: household recodes and GPS data."),
    ],
    output: Output,
    indicator: Annotated[
        list[str] | None, typer.Option(help="Indicator of the asset index, in place of the usual twelve; repeat it.")
    ] = None,
    min_households: MinHouseholds = 1,
    imagery_year: ImageryYears = None,
    nightlights_year: NightlightsYears = None,
    max_year_gap: MaxYearGap = None,
) -> None:
    """Clusters of DHS surveys: asset wealth, International Wealth Index, deprivations, and where they lie."""
    clusters = dhs_clusters(sources, indicators=indicator, min_households=min_households)
    finish(
        clusters,
        output,
        command="dhs",
        inputs=_files(sources),
        parameters={"indicators": indicator, "min_households": min_households},
        years=Years(imagery_year, nightlights_year, max_year_gap),
    )


@app.command(
    epilog="Example: geopov survey lsms malawi_ihs5_2019 --households ihs5_consumption_aggregate.dta "
    "--locations householdgeovariables_ihs5.dta -o clusters.parquet"
)
def lsms(
    adapter: Annotated[str, typer.Argument(help="A shipped adapter (geopov survey adapters), or a YAML of your own.")],
    output: Output,
    households: Annotated[
        list[Path],
        typer.Option(help="Consumption aggregate: .dta, .sav, .csv, .parquet, or a zip or folder with it; repeatable."),
    ],
    locations: Annotated[Path | None, typer.Option(help="Geovariables; default beside the households.")] = None,
    line_ppp_usd: Annotated[
        float | None, typer.Option(help="Poverty line in PPP USD per person per day, such as 2.15.")
    ] = None,
    line_national: Annotated[
        float | None, typer.Option(help="Poverty line per person in the adapter's currency and period, real prices.")
    ] = None,
    ppp_factor: Annotated[float | None, typer.Option(help="National currency per PPP USD.")] = None,
    ppp_year: Annotated[int | None, typer.Option(help="Reference year of that factor.")] = None,
    cpi_ratio: Annotated[
        float | None, typer.Option(help="Prices of the survey's base over those of that year.")
    ] = None,
    ppp_source: Annotated[str | None, typer.Option(help="Where factor and ratio are published.")] = None,
    direct: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the headcount by --by as direct estimates for `maps admin`."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="region, stratum, urban or psu of the households.")
    ] = None,
    min_households: MinHouseholds = 1,
    imagery_year: ImageryYears = None,
    nightlights_year: NightlightsYears = None,
    max_year_gap: MaxYearGap = None,
) -> None:
    """Clusters of an LSMS survey: consumption, poverty, and where they lie."""
    if (direct is None) != (by is None):
        raise SurveyError("--direct and --by go together: the file to write, and what to estimate by.")
    chosen = read_adapter(adapter)
    ppp = _ppp(ppp_factor, ppp_year, cpi_ratio, ppp_source)
    options: dict[str, Any] = {
        "line_ppp_usd": line_ppp_usd,
        "line_national": line_national,
        "min_households": min_households,
        "by": by,
    }
    clusters = lsms_clusters(chosen, households=households, locations=locations, ppp=ppp, **options)
    if direct is not None:
        with atomic_path(direct) as partial:
            pd.DataFrame(clusters.attrs["measures"]["headcount"]["areas"]).to_csv(partial, index=False)
    finish(
        clusters,
        output,
        command="lsms",
        inputs=_files([*households, *([locations] if locations else [])]),
        parameters={
            "adapter": chosen.model_dump(mode="json"),
            "ppp": None if ppp is None else ppp.model_dump(mode="json"),
            **options,
        },
        years=Years(imagery_year, nightlights_year, max_year_gap),
    )


@app.command(epilog="Example: geopov survey adapters")
def adapters() -> None:
    """List the LSMS adapters that come with geopov, and whether each was run on the survey's real file."""
    table = Table("name", "survey", "year", "real file", "currency", "PPP", "files")
    for row in adapter_table().to_dict("records"):
        files = ", ".join(name for name in (row["households"], row["locations"]) if name)
        checked, ppp = "checked" if row["checked"] else "not checked", "yes" if row["ppp"] else "to be given"
        table.add_row(row["name"], row["survey"], row["year"], checked, row["currency"], ppp, files)
    console.print(table)


def _ppp(factor: float | None, year: int | None, cpi_ratio: float | None, source: str | None) -> Ppp | None:
    given = {"--ppp-factor": factor, "--ppp-year": year, "--cpi-ratio": cpi_ratio, "--ppp-source": source}
    if all(value is None for value in given.values()):
        return None
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise SurveyError(
            f"a PPP conversion needs all of {', '.join(given)}; {', '.join(missing)} is missing. Amounts without a "
            "year and a source cannot be compared."
        )
    try:
        return Ppp.model_validate({"factor": factor, "year": year, "cpi_ratio": cpi_ratio, "source": source})
    except ValueError as error:
        raise SurveyError(f"the PPP conversion is not possible: {error}") from error


def _files(sources: list[Path]) -> dict[str, Path]:
    """The files among the sources and in their folders, by name, for provenance."""
    files = [path for source in sources for path in (sorted(source.rglob("*")) if source.is_dir() else [source])]
    return {path.name: path for path in sorted(files) if path.is_file()}
