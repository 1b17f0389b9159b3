"""``geopov features points``: nightlights to points for pretraining."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geopov.cli._common import console
from geopov.cli._options import CatalogFile, Nodata, SceneNames, open_scene_options, read_points
from geopov.errors import FeatureError

if TYPE_CHECKING:
    import geopandas as gpd

    from geopov.raster import Scene


def points(
    lights: Annotated[
        list[Path], typer.Option("--lights", metavar="FILE", help="Raster of night lights; repeat it for months.")
    ],
    size_px: Annotated[int, typer.Option("--size-px", help="Side of a tile in pixels.")],
    resolution_m: Annotated[float, typer.Option("--resolution-m", help="Side of a pixel in metres.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="GeoParquet file to write.")],
    n: Annotated[int, typer.Option("-n", "--points", help="Points wanted.")] = 20_000,
    context_px: Annotated[int, typer.Option("--context-px", help="Pixels around each tile.")] = 0,
    sensor: Annotated[str, typer.Option(help="viirs, dmsp or black_marble.")] = "viirs",
    nodata: Nodata = None,
    noise_floor: Annotated[
        float | None, typer.Option("--noise-floor", help="Values below are dark. Default: the sensor's.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", metavar="FILE", help="Fires and gas flares, whose light is left out.")
    ] = None,
    mask_buffer_km: Annotated[float, typer.Option("--mask-buffer-km", help="Widens the mask.")] = 0.0,
    harmonise: Annotated[
        str | None, typer.Option(help="Published calibration: hii, or elvidge2014:F182010 and the like.")
    ] = None,
    observations: Annotated[
        list[Path] | None,
        typer.Option("--observations", metavar="FILE", help="Counts of cloud-free observations, one for each raster."),
    ] = None,
    scene: SceneNames = None,
    catalog: CatalogFile = None,
    region: Annotated[
        Path | None,
        typer.Option(
            "--region", metavar="FILE", help="Polygons such as a country; default: the scenes, or the lights."
        ),
    ] = None,
    tiles_crs: Annotated[
        str | None,
        typer.Option("--tiles-crs", help="Of the images to be cut, such as EPSG:32736; default: the scenes'."),
    ] = None,
    away_from: Annotated[
        Path | None, typer.Option("--away-from", metavar="FILE", help="GeoParquet of the survey's clusters.")
    ] = None,
    buffer_km: Annotated[float, typer.Option("--buffer-km", help="From a tile's edge to a cluster, at least.")] = 0.0,
    classes: Annotated[str, typer.Option(help="mixture, quantiles, or edges such as 3,35.")] = "mixture",
    n_classes: Annotated[int, typer.Option("--n-classes", help="Of a mixture or quantiles.")] = 3,
    stratify: Annotated[bool, typer.Option("--stratify/--no-stratify", help="As many points of each class.")] = True,
    spacing_m: Annotated[float | None, typer.Option("--spacing-m", help="Between places for tiles.")] = None,
    split_block_km: Annotated[
        float | None, typer.Option("--split-block-km", help="Side of the blocks that part training from test.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of places, blocks and draws.")] = 0,
) -> None:
    """Draw points whose tiles a network learns to tell the night light of.

    They are balanced in class, kept away from the survey, and split by blocks into training, validation and test.

    \b
    Example:
      geopov features points --lights viirs.tif --scene landsat.tif --size-px 224 --resolution-m 30 \\
        --away-from clusters.parquet --buffer-km 10 -n 20000 -o points.parquet
    """
    from geopov._validation import atomic_path
    from geopov.features.nightlights.lights import open_lights
    from geopov.features.nightlights.sampling import sample_by_nightlights
    from geopov.raster import Scene

    source = open_lights(
        Scene.open(lights, nodata=nodata),
        sensor=sensor,  # type: ignore[arg-type]  # checked where it is used
        noise_floor=noise_floor,
        mask=mask,
        mask_buffer_km=mask_buffer_km,
        harmonise=harmonise,
        observations=observations or None,
    )
    scenes = open_scene_options(scene, catalog) if scene else []
    table = sample_by_nightlights(
        source,
        n=n,
        size_px=size_px,
        resolution_m=resolution_m,
        context_px=context_px,
        region=_read_region(region) if region is not None else _ground(scenes),
        tiles_crs=tiles_crs if tiles_crs is not None or not scenes else scenes[0].crs,
        away_from=None if away_from is None else read_points(away_from),
        buffer_km=buffer_km,
        classes=_read_classes(classes),
        n_classes=n_classes,
        stratify=stratify,
        spacing_m=spacing_m,
        split_block_km=split_block_km,
        seed=seed,
    )
    with atomic_path(output) as partial:
        table.to_parquet(partial)
    _print_report(json.loads(table.attrs["nightlights"]), output)


def _read_region(path: Path) -> gpd.GeoDataFrame:
    import geopandas as gpd

    try:
        return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise FeatureError(f"--region {path} is not readable as polygons ({error}).") from error


def _ground(scenes: Sequence[Scene]) -> Scene | gpd.GeoSeries | None:
    """Where the scenes are; a single one as it is, because its tiles lie on its own grid."""
    if len(scenes) < 2:
        return scenes[0] if scenes else None
    import geopandas as gpd

    from geopov.study import scene_region

    ground = scene_region(scenes)
    return gpd.GeoSeries([ground.geometry], crs=ground.crs)


def _read_classes(text: str) -> str | list[float]:
    if text in ("mixture", "quantiles"):
        return text
    try:
        return [float(edge) for edge in text.split(",")]
    except ValueError:
        raise FeatureError(f"--classes is {text!r}; expected mixture, quantiles, or edges such as 3,35.") from None


def _print_report(report: dict[str, Any], output: Path) -> None:
    console.print(f"{report['points']} of {report['wanted']} points -> {output}", highlight=False)
    for number, name in enumerate(report["classes"]["names"]):
        counts = ", ".join(f"{split} {counts[number]}" for split, counts in report["counts"].items())
        console.print(f"class {number}, {name} {report['unit']}: {counts}", highlight=False, markup=False)
    for reason, count in report["left_out"].items():
        if reason != "places" and count:
            console.print(f"left out {reason.replace('_', ' ')}: {count} of {report['left_out']['places']} places")
    if report["harmonised"]:
        console.print(f"harmonised: {report['harmonisation']['citation']}", highlight=False, markup=False)
    for note in report["notes"]:
        console.print(note, highlight=False, markup=False)
