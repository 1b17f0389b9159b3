"""``geopov features extract`` and ``list``: tiles to features."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from geopov._validation import some
from geopov.cli._common import console, progress_bar
from geopov.cli._options import (
    BandNames,
    CatalogFile,
    Nodata,
    SceneNames,
    Scheduler,
    Workers,
    open_scene_options,
    read_points,
)
from geopov.errors import FeatureError


def extract(
    extractor: Annotated[
        str,
        typer.Option(help="A name, a specification as JSON, or a YAML or JSON file with one specification or a list."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="NetCDF file to write.")],
    tiles_folder: Annotated[
        Path | None, typer.Option("--tiles", metavar="DIR", help="Tiles that `geopov tiles extract` saved.")
    ] = None,
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    band: BandNames = None,
    nodata: Nodata = None,
    points: Annotated[Path | None, typer.Option("--points", metavar="FILE", help="GeoParquet of clusters.")] = None,
    size_px: Annotated[int | None, typer.Option("--size-px", help="Side of a tile in pixels.")] = None,
    resolution_m: Annotated[float | None, typer.Option("--resolution-m", help="Side of a pixel in metres.")] = None,
    context_px: Annotated[int, typer.Option("--context-px", help="Pixels to add around each tile.")] = 0,
    window_km: Annotated[
        float | None, typer.Option("--window-km", help="Spread --n-tiles over a window of this side.")
    ] = None,
    n_tiles: Annotated[int, typer.Option("--n-tiles", help="Tiles a cluster: 1, 4, 9, 16, 25, ... 100.")] = 1,
    displacement_draws: Annotated[
        int,
        typer.Option("--displacement-draws", min=0, help="Average over draws of where each cluster truly lies."),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of those draws.")] = 0,
    scheduler: Scheduler = "threads",
    workers: Workers = None,
) -> None:
    """Compute the features of each cluster: the mean over its tiles.

    From saved tiles, or from scenes and points, reading and computing side by side without saving tiles. With the
    scheduler "processes", or that of a Dask cluster, parts of the clusters are computed by its workers.

    \b
    Example:
      geopov features extract --tiles tiles/ --extractor band_mean -o features.nc
      geopov features extract --scene viirs.tif --points clusters.parquet --size-px 24 --resolution-m 463 \\
        --extractor '{"name": "efficientnet_lite0", "bands": [1, 1, 1], "stretch": "log", "lo": 0.1, "hi": 100}' \\
        -o features.nc
    """
    from geopov import features, study, tiles

    chosen = features.build(read_spec(extractor))
    with progress_bar("Extracting features") as progress:
        if tiles_folder is not None:
            if scene or points or displacement_draws:
                raise FeatureError(
                    "--tiles and --scene, --points or --displacement-draws are given; expected saved tiles or scenes."
                )
            saved = tiles.TileSet.open(tiles_folder)
            array = features.extract(chosen, saved, progress=progress)
            array.attrs["scenes"] = json.dumps(saved.source.provenance()["scenes"])
        else:
            if not scene or points is None or size_px is None or resolution_m is None:
                raise FeatureError(
                    "expected --tiles, or else all of --scene, --points, --size-px and --resolution-m, to cut tiles."
                )
            elsewhere = scheduler.startswith("processes") or "://" in scheduler
            with study.open_run(scheduler, workers=workers) if elsewhere else nullcontext() as run:
                array = study.extract_features(
                    open_scene_options(scene, catalog, band, nodata),
                    read_points(points),
                    tiles.TileSpec(size_px=size_px, resolution_m=resolution_m, context_px=context_px),
                    chosen,
                    window_km=window_km,
                    n_tiles=n_tiles,
                    displacement_draws=displacement_draws,
                    seed=seed,
                    run=run,
                    progress=progress,
                )
    dropped = json.loads(array.attrs["dropped"])
    if array.sizes["cluster"] == 0:
        raise FeatureError(
            f"none of the {len(dropped)} clusters has a tile with enough valid pixels. Does the scene cover them? "
            "`geopov tiles extract` tells how much of each tile is valid; min_valid lowers what is asked."
        )
    features.write_features(array, output)
    console.print(f"{array.sizes['cluster']} clusters x {array.sizes['feature']} features -> {output}")
    if dropped:
        reasons = Counter(cluster["reason"] for cluster in dropped)
        for reason, count in reasons.items():
            names = some(cluster["cluster_id"] for cluster in dropped if cluster["reason"] == reason)
            console.print(f"dropped {count}: {reason} ({names})", highlight=False, markup=False)


def list_extractors() -> None:
    """List the names of extractors on this machine.

    \b
    Example:
      geopov features list
    """
    from geopov import features

    for name in features.extractor_names():
        console.print(name, highlight=False)


def read_spec(text: str) -> Any:
    """What ``--extractor`` names: inline JSON, a YAML or JSON file, or the name of an extractor."""
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise FeatureError(
                f'--extractor is no valid JSON: {error}. Quote it: \'{{"name": "band_mean"}}\'.'
            ) from None
    path = Path(text)
    if path.suffix not in (".yaml", ".yml", ".json"):
        return text
    if not path.is_file():
        raise FeatureError(f"--extractor names the file {path}, which is not there.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FeatureError(f"{path} is not readable as YAML: {error}") from None
    if not isinstance(content, str | dict | list):
        raise FeatureError(f"{path} holds {content!r}; expected one specification or a list, each with the key 'name'.")
    return content
