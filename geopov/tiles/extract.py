"""Cut tiles around points out of scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np

from geopov._validation import ID_COLUMN, check_columns, check_points, check_positive
from geopov.errors import TileError
from geopov.raster import Block, BlockReader, Scene, Unreadable, agree_on_bands
from geopov.raster.blocks import UnitKey
from geopov.tiles.assemble import Assembler
from geopov.tiles.batch import TileBatch
from geopov.tiles.pieces import COPY, LINEAR, WARP
from geopov.tiles.plan import Plan, make_plan
from geopov.tiles.schedule import Schedule, Step, make_schedule
from geopov.tiles.spec import TileSpec
from geopov.tiles.store import describe_scenes
from geopov.tiles.tileset import TileSet, make_index

__all__ = ["PlannedTiles", "extract"]

SceneLike = Scene | str | os.PathLike[str]


def extract(
    scene: SceneLike | Sequence[SceneLike],
    points: gpd.GeoDataFrame,
    spec: TileSpec,
    *,
    threads: int = 2,
    cache_mb: float = 256,
    on_unreadable: Callable[[Unreadable], None] | None = None,
) -> TileSet:
    """Plan the tiles around points; nothing but headers is read until the result is iterated or saved.

    Parameters
    ----------
    scene : Scene or path, or a sequence of them
        Several are a mosaic with the same bands. Each tile takes its grid and pixels from the scene that holds the
        greatest share of it (the earlier one where that is equal); what is invalid there is filled from the next. To
        stack files as bands, use :meth:`geopov.raster.Scene.open`.
    points : GeoDataFrame
        Points in any CRS with a unique ``cluster_id``; or, with several tiles a cluster, a unique ``tile_id`` and the
        owner's ``cluster_id`` (:func:`tile_points`).
    spec : TileSpec
        Size of the tiles.
    threads : int
        Threads that decode and assemble, each with its own file handles.
    cache_mb : float
        Megabytes of decoded blocks to hold between tiles that share them. Less than one row of blocks across the
        scene needs means that some blocks are decoded more than once.
    on_unreadable : callable, optional
        Told, with a :class:`geopov.raster.Unreadable`, of each unit of pixels (some blocks of a file) that cannot be
        read while its file can still be opened. Such a unit counts as invalid pixels, also in a file that promises
        none; the next scene fills them where one was asked. It is told once, from whichever thread read, and stays
        invalid for this TileSet; what the callable raises ends the reading. Default: an unreadable unit is an error.

    Returns
    -------
    TileSet
        One row a point, in the order of ``points``. Where no scene reaches, tiles are all invalid and ``scene`` is "".

    Raises
    ------
    TileError
        If points cannot be placed, none lies on a scene, or scenes differ in their bands.
    RasterError
        If a scene cannot be opened. When tiles are read: if a file is gone, or pixels cannot be read and
        ``on_unreadable`` is not given.

    Notes
    -----
    What fails is tried again with a new handle: on a disk once, at once; in a network store (https:, s3:, gs:, az:, or
    GDAL's /vsicurl/, /vsis3/...) twice, after 0.5 s and 3 s, unless the server says that there is no such file or no
    right to it. Requests to stores end after 10 s of silence and after 60 s in any case, so that a store that no longer
    answers is an error after 94 s. GDAL's environment variables (``GDAL_HTTP_LOW_SPEED_TIME``, ``GDAL_HTTP_TIMEOUT``,
    ``GDAL_HTTP_CONNECTTIMEOUT``, ``GDAL_HTTP_MAX_RETRY``...) or ``rasterio.Env`` around the call that reads set
    others. Masks and overviews in files of their own beside a file in a store are looked for only with
    ``GDAL_DISABLE_READDIR_ON_OPEN=FALSE``.

    Damage shows where it breaks the decompression. Bytes that were changed and still decode, as in uncompressed files,
    are pixels like others; only a check sum of the whole file, as in a data catalogue, tells.

    Examples
    --------
    >>> tiles = extract("rwanda.tif", clusters, TileSpec(size_px=224, resolution_m=30))  # doctest: +SKIP
    >>> for batch in tiles.iter_batches(64):  # doctest: +SKIP
    ...     use(batch.data, batch.valid, tiles.index.iloc[batch.positions])
    """
    check_positive(threads, "threads", TileError)
    check_positive(cache_mb, "cache_mb", TileError)
    scenes = _open_scenes(scene)
    table = _check_tiles(points)
    lon, lat = table.geometry.x.to_numpy(), table.geometry.y.to_numpy()
    plan = make_plan(scenes, lon, lat, spec)
    return TileSet(
        spec=spec,
        band_names=scenes[0].band_names,
        dtype=plan.dtype,
        index=make_index(table, [scene.name for scene in scenes], plan.placement),
        source=PlannedTiles(plan, threads=int(threads), cache_mb=cache_mb, on_unreadable=on_unreadable),
    )


class PlannedTiles:
    """Tiles read from scenes by a plan.

    Attributes
    ----------
    plan : Plan
        What each tile needs.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        threads: int,
        cache_mb: float,
        on_unreadable: Callable[[Unreadable], None] | None = None,
    ) -> None:
        self.plan = plan
        self._threads = threads
        self._cache_mb = cache_mb
        self._on_unreadable = on_unreadable
        self._unreadable: set[UnitKey] = set()
        self._assembler = Assembler(plan)

    def provenance(self) -> dict[str, Any]:
        """Scenes and the digests of their files."""
        return {"scenes": describe_scenes(self.plan.scenes)}

    def schedule(self, batch_size: int, positions: np.ndarray | None = None) -> Schedule:
        """The order of reading, and what is decoded when."""
        return make_schedule(self.plan, batch_size=batch_size, cache_mb=self._cache_mb, positions=positions)

    def describe(self, batch_size: int = 256) -> str:
        """What a reading touches, in a few lines."""
        plan, schedule = self.plan, self.schedule(batch_size)
        size = plan.spec.total_px
        kinds = np.bincount(plan.pieces.kind, minlength=3)
        lines = [
            f"tiles    {len(plan)} of {size} x {size} px, {plan.n_bands} bands, {plan.dtype}",
            f"outside  {plan.n_outside} lie on no scene",
            f"windows  {kinds[COPY]} copied, {kinds[LINEAR]} resampled, {kinds[WARP]} brought from another CRS",
            f"blocks   {schedule.n_units} to decode, {schedule.n_decodes} decodes, "
            f"{schedule.decoded_bytes / 2**20:.1f} MiB",
            f"memory   {schedule.peak_bytes / 2**20:.1f} MiB of blocks held at most",
        ]
        number = plan.level_number(plan.pieces.file, plan.pieces.level)
        for k, count in zip(*np.unique(number, return_counts=True), strict=True):
            overview = plan.files[plan.units.file[k]].levels[plan.units.level[k]].overview
            level = "own pixels" if overview is None else f"overview {overview}"
            lines.append(f"  {plan.files[plan.units.file[k]].path}: {level}, {count} windows")
        return "\n".join(lines)

    def batches(self, batch_size: int, positions: np.ndarray | None = None) -> Iterator[TileBatch]:
        """Read batches in read order, one batch ahead of the consumer."""
        schedule = self.schedule(batch_size, positions)
        reader = BlockReader(on_unreadable=self._on_unreadable, unreadable=self._unreadable)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="geopov-tiles")
        try:
            yield from self._run(schedule, reader, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            reader.close()

    def _run(self, schedule: Schedule, reader: BlockReader, pool: ThreadPoolExecutor) -> Iterator[TileBatch]:
        plan, size = self.plan, self.plan.spec.total_px
        waiting = iter(schedule.steps)
        upcoming = next(waiting, None)
        live: dict[int, Future[Block]] = {}
        arrays: dict[int, tuple[np.ndarray, np.ndarray, list[Future[None]]]] = {}
        decoded: list[tuple[Step, dict[int, Future[Block]]]] = []

        def assemble_oldest() -> None:
            step, blocks = decoded.pop(0)
            data, valid, tasks = arrays[step.batch]
            part = slice(step.start, step.stop)
            tasks.append(pool.submit(self._assemble, step.tiles, blocks, data[part], valid[part]))

        for number, positions in enumerate(schedule.batches):
            while upcoming is not None and upcoming.batch <= number + 1:
                if upcoming.batch not in arrays:
                    n = len(schedule.batches[upcoming.batch])
                    data = np.zeros((n, plan.n_bands, size, size), dtype=plan.dtype)
                    arrays[upcoming.batch] = data, np.zeros((n, size, size), dtype=bool), []
                # Tasks start in the order they are submitted: a step's blocks are all being decoded before it is
                # assembled, and the next step's decoding fills the threads meanwhile.
                for unit in upcoming.decode.tolist():
                    live[unit] = pool.submit(self._decode, reader, unit)
                decoded.append((upcoming, {unit: live[unit] for unit in upcoming.uses.tolist()}))
                for unit in upcoming.drop.tolist():
                    del live[unit]
                if len(decoded) > 1:
                    assemble_oldest()
                upcoming = next(waiting, None)
            while decoded and decoded[0][0].batch == number:
                assemble_oldest()
            data, valid, tasks = arrays.pop(number)
            for task in tasks:
                task.result()
            yield TileBatch(data, valid, positions)

    def _decode(self, reader: BlockReader, unit: int) -> Block:
        file_number, level_number, row, column = self.plan.units.locate(unit)
        file = self.plan.files[file_number]
        return reader.read(file, file.levels[level_number], row, column)

    def _assemble(
        self, tiles: np.ndarray, blocks: Mapping[int, Future[Block]], data: np.ndarray, valid: np.ndarray
    ) -> None:
        ready = {unit: future.result() for unit, future in blocks.items()}
        self._assembler.assemble(tiles, ready, data, valid)


def _open_scenes(scene: SceneLike | Sequence[SceneLike]) -> list[Scene]:
    given = [scene] if isinstance(scene, Scene | str | os.PathLike) else list(scene)
    if not given:
        raise TileError("no scene was given; expected a Scene, a path, or a list of them.")
    scenes = agree_on_bands([item if isinstance(item, Scene) else Scene.open(item) for item in given])
    first = scenes[0]
    for other in scenes[1:]:
        if other.band_names != first.band_names:
            raise TileError(
                f"scenes differ in their bands: {first.name} has {', '.join(first.band_names)}; "
                f"{other.name} has {', '.join(other.band_names)}. Choose the same with "
                "Scene.open(..., bands=[...]), or name them the same with Scene.rename."
            )
    return _tell_apart(scenes)


def _tell_apart(scenes: list[Scene]) -> list[Scene]:
    """Scenes whose names repeat (B04.tif in every granule's folder) get a number."""
    taken: set[str] = set()
    named = []
    for scene in scenes:
        name, number = scene.name, 2
        while name in taken:
            name, number = f"{scene.name}_{number}", number + 1
        taken.add(name)
        named.append(scene if name == scene.name else replace(scene, name=name))
    return named


def _check_tiles(points: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Points in EPSG:4326 with ``tile_id`` and ``cluster_id``."""
    if not isinstance(points, gpd.GeoDataFrame) or "tile_id" not in points.columns:
        table = check_points(points, error=TileError)
        return table.assign(tile_id=table[ID_COLUMN])
    check_columns(points, [ID_COLUMN], "the table of points", TileError)
    owners = points[ID_COLUMN].astype(str)
    # Clusters may repeat here; what must be unique is the tile.
    table = check_points(points.assign(**{ID_COLUMN: points["tile_id"].astype(str)}), error=TileError)
    return table.assign(tile_id=table[ID_COLUMN], **{ID_COLUMN: owners})
