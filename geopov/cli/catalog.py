"""``geopov catalog``: what data there is, bringing it here, and whether it is what it should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column, Table
from rich.text import Text

from geopov.catalog import Catalog, Source, find_catalog, open_catalog
from geopov.cli._common import ProgressCallback, console, errors
from geopov.errors import CatalogError

app = typer.Typer(help="List, fetch and verify data sources.", no_args_is_help=True)

CatalogFile = Annotated[
    Path | None,
    typer.Option("--catalog", metavar="FILE", help="Default: data_catalog.yaml here or in a folder above."),
]
CacheDir = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="Default: $GEOPOV_CACHE, or the user's cache folder.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Never download. Also: GEOPOV_OFFLINE=1.")]


@app.command("list")
def list_sources(catalog: CatalogFile = None, cache: CacheDir = None, offline: Offline = False) -> None:
    """List the sources, and whether they are here.

    Example: geopov catalog list
    """
    opened = _open(catalog, cache, offline)
    table = Table(
        Column("name", overflow="fold"),
        "kind",
        "year",
        "here",
        "licence",
        title=Text(str(opened.path)),
        title_justify="left",
    )
    for name, source in opened.items():
        table.add_row(Text(name), source.kind, str(source.year), _whereabouts(source), Text(source.licence))
    console.print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A source of the catalogue.")],
    catalog: CatalogFile = None,
    cache: CacheDir = None,
    offline: Offline = False,
) -> None:
    """Show all that the catalogue says about one source.

    Example: geopov catalog show nepal_viirs_2025
    """
    source = _open(catalog, cache, offline)[name]
    table = Table(show_header=False, box=None, title=Text(source.name, style="bold"), title_justify="left")
    for key, value in source.model_dump().items():
        if value is None and (key, source.kind) == ("nodata", "raster"):
            value = "none"
        if value is not None and value != "":
            lines = "\n".join(map(str, value)) if isinstance(value, tuple) else str(value)
            table.add_row(key, Text(lines, overflow="fold"))
    table.add_row("here", _whereabouts(source))
    console.print(table)


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Sources of the catalogue.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Fetch all of them.")] = False,
    catalog: CatalogFile = None,
    cache: CacheDir = None,
    offline: Offline = False,
) -> None:
    """Bring sources into the cache, check their sha256, and print their paths.

    What is there already is only checked; a download that broke off goes on where it stopped.

    Example: geopov catalog fetch nepal_viirs_2025 nepal_wards
    """
    if bool(names) == every:
        raise CatalogError("name the sources to fetch, or give --all (not both). `geopov catalog list` shows them.")
    opened = _open(catalog, cache, offline)
    with _download_bar() as progress:
        fetched = opened.fetch_many(None if every else names, progress=progress)
    for name, paths in fetched.items():
        for path in paths:
            typer.echo(f"{name}\t{path}")


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Sources to check; default all.")] = None,
    catalog: CatalogFile = None,
    cache: CacheDir = None,
    offline: Offline = False,
) -> None:
    """Check every file that is here: its sha256, and of rasters CRS, nodata and bands. Downloads nothing.

    Example: geopov catalog verify
    """
    opened = _open(catalog, cache, offline)
    statuses = [status for name in names or opened for status in opened[name].verify()]
    table = Table(Column("name", overflow="fold"), "file", "state", title=Text(str(opened.path)), title_justify="left")
    for status in statuses:
        style = "red" if status.is_wrong else "green" if status.state == "ok" else "yellow"
        filename = status.uri.rstrip("/").rsplit("/", 1)[-1]
        table.add_row(Text(status.source), Text(filename, overflow="fold"), Text(status.state, style=style))
    console.print(table)
    wrong = [f"\n  {status.source}: {status.state}: {status.detail}" for status in statuses if status.is_wrong]
    if wrong:
        raise CatalogError(f"{len(wrong)} of {len(statuses)} files are not what {opened.path} says:{''.join(wrong)}")


def _open(catalog: Path | None, cache: Path | None, offline: bool) -> Catalog:
    # None rather than False, so that GEOPOV_OFFLINE counts where the option is not given.
    return open_catalog(catalog or find_catalog(), cache_dir=cache, offline=offline or None)


def _whereabouts(source: Source) -> Text:
    try:
        return Text(source.presence, style="green" if source.presence == "here" else "yellow")
    except CatalogError as error:
        return Text(str(error), style="red")


@contextmanager
def _download_bar() -> Iterator[ProgressCallback]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task("fetching", total=None, visible=False)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield update
