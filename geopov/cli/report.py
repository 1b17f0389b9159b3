"""``geopov report``: what the regression found, as one page for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from geopov.cli._common import console, progress_bar


class Protocol(StrEnum):
    """What ``--protocol`` takes."""

    JEAN2016 = "jean2016"


def report(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The HTML file.")],
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR...]", help="What `geopov regression fit` wrote.")
    ] = None,
    maps: Annotated[
        list[Path] | None, typer.Option("--map", metavar="FILE", help="A picture of the map (.png); may be repeated.")
    ] = None,
    captions: Annotated[
        list[str] | None, typer.Option("--caption", help="What each --map shows, in their order. Default: the title.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Default: from the outcome.")] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="Instead: the figures of Jean et al. (2016), as published and held out by place."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option("--features", metavar="FILE", help="With --protocol: features of the clusters (.nc).")
    ] = None,
    clusters: Annotated[
        Path | None, typer.Option("--clusters", metavar="FILE", help="With --protocol: survey clusters (GeoParquet).")
    ] = None,
    outcome: Annotated[
        str | None, typer.Option("--outcome", metavar="COLUMN", help="With --protocol: column of the clusters.")
    ] = None,
    nightlights: Annotated[
        Path | None, typer.Option("--nightlights", metavar="FILE", help="With --protocol: nightlights features (.nc).")
    ] = None,
    block_km: Annotated[
        float | None,
        typer.Option("--block-km", help="With --protocol: side of the blocks held out, in km. Default: 50."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="With --protocol: reshuffles of the images. Default: 100.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="With --protocol: of folds and reshuffles.")] = None,
) -> None:
    """Write one self-contained HTML file with maps, scores against the baseline, uncertainty and provenance.

    Example: geopov report wealth/ --map wealth.png --caption "Asset wealth in 1 km cells" -o report.html

    With --protocol jean2016 the page has figures 3 to 5 of that paper for any clusters and features, its defects listed
    and beside it what is left without them. Example: geopov report --protocol jean2016 --features features.nc
    --clusters clusters.parquet --outcome asset_wealth --nightlights nightlights.nc -o jean2016.html
    """
    from geopov.errors import RegressionError

    needed = {"--features": features, "--clusters": clusters, "--outcome": outcome}
    options = needed | {"--nightlights": nightlights, "--block-km": block_km, "--trials": trials, "--seed": seed}
    if protocol is None:
        _refuse(options, "only with --protocol jean2016")
        if not folders:
            raise RegressionError(
                "no DIR is given; expected at least one folder that `geopov regression fit` wrote, or --protocol."
            )
        _of_folders(folders, output, maps or [], captions or [], title)
        return
    _refuse({"DIR": folders, "--map": maps, "--caption": captions}, f"not with --protocol {protocol.value}")
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise RegressionError(f"--protocol {protocol.value} also needs {' and '.join(missing)}.")
    assert features is not None
    assert clusters is not None
    assert outcome is not None
    sizes = {"block_km": block_km, "n_trials": trials, "seed": seed}
    given = {name: value for name, value in sizes.items() if value is not None}
    _jean2016(features, clusters, outcome, nightlights, output, title, given)


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raise where an option is given that would be ignored."""
    from geopov.errors import RegressionError

    given = [name for name, value in options.items() if value not in (None, [])]
    if given:
        raise RegressionError(f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} given; expected {why}.")


def _of_folders(folders: list[Path], output: Path, maps: list[Path], captions: list[str], title: str | None) -> None:
    from geopov.errors import RegressionError
    from geopov.regression import render_report

    if captions and len(captions) != len(maps):
        raise RegressionError(f"{len(maps)} --map and {len(captions)} --caption are given; expected as many of each.")
    named = captions or [title or picture.stem.replace("_", " ") for picture in maps]
    render_report(folders, output, maps=list(zip(maps, named, strict=True)), title=title)
    console.print(Text(str(output)))


def _jean2016(
    features: Path,
    clusters: Path,
    outcome: str,
    nightlights: Path | None,
    output: Path,
    title: str | None,
    sizes: dict[str, float],
) -> None:
    from dataclasses import replace

    import geopandas as gpd
    from rich.table import Table

    from geopov._validation import sha256_of
    from geopov.errors import RegressionError
    from geopov.features import read_features
    from geopov.regression.jean2016 import PROCEDURES, check_page, jean2016, render_jean2016

    paths = {"features": features, "clusters": clusters} | ({"nightlights": nightlights} if nightlights else {})
    for name, path in paths.items():
        if not path.is_file():
            raise RegressionError(f"--{name} is {path}, which is not there; expected the file an earlier stage wrote.")
    check_page(output)
    with progress_bar("Drawing the figures") as progress:
        figures = jean2016(
            read_features(features),
            gpd.read_parquet(clusters),
            outcome=outcome,
            nightlights=None if nightlights is None else read_features(nightlights),
            progress=progress,
            **sizes,  # type: ignore[arg-type]  # whole numbers where they are expected, by the options' types
        )
    inputs = {name: sha256_of(path) for name, path in paths.items()}
    render_jean2016(replace(figures, meta={**figures.meta, "inputs": inputs}), output, title=title)
    table = Table("country", "clusters", *(f"r² {PROCEDURES[name]}" for name in figures.meta["procedures"]))
    for country, rows in figures.scores.groupby("country", sort=False):
        table.add_row(str(country), str(rows["n"].iloc[0]), *(f"{r2:.2f}" for r2 in rows["r2"]))
    console.print(table)
    console.print(Text(str(output)))
