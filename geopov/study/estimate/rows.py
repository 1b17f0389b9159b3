"""One row a stage, from what was counted and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geopov.study.config import Study
from geopov.study.estimate.measure import Finished
from geopov.study.estimate.result import Cost, Estimate, StageEstimate, makespan

__all__ = ["Probed", "rows_of"]

_ROLES = {"model": "features", "baseline": "features of the baseline", "random": "random convolution"}
_PRODUCTS = ("people", "consumption", "poverty", "quintile", "poor")
_PRESENTATION = ("style", "picture", "page", "project", "report")
# A map's four bands of float32; overviews add a third.
_CELL_BYTES, _OVERVIEWS = 16, 4 / 3


@dataclass(frozen=True)
class Probed:
    """Everything that was found out.

    Attributes
    ----------
    jobs : mapping
        Jobs by rule that a run would start.
    found : mapping
        Processes that were run: ``start`` (all that comes before the first stage), ``clusters``, ``points``, ``probe``
        and ``picture``.
    answer : mapping
        Of the probe.
    sizes : mapping
        Bytes of the files of ``clusters`` and ``points``.
    from_scratch : bool
        Whether nothing was there.
    """

    jobs: Mapping[str, int]
    found: Mapping[str, Finished]
    answer: Mapping[str, Any]
    sizes: Mapping[str, int]
    from_scratch: bool


def rows_of(study: Study, probed: Probed, *, cores: int, scheduler: str | None = None) -> Estimate:
    """The estimate; the time of the probe itself is for the caller to fill in."""
    stages = [_finished(probed, "start", "start and checks")] if probed.jobs else []
    stages += [_finished(probed, name, name) for name in ("clusters", "points") if name in probed.jobs]
    stages += _with_scenes(probed, cores)
    if "map" in probed.answer:
        stages.append(_map(probed, cores))
    stages += _small(probed)
    wide = sum(stage.cost.seconds for stage in stages if stage.cores > 1 or stage.name in ("start and checks", *_FIRST))
    rest = [(stage.cost.seconds / stage.jobs, 1) for stage in stages if stage.name in _LAST for _ in range(stage.jobs)]
    start = probed.answer.get("start")
    return Estimate(
        study=study.name,
        stages=tuple(stages),
        seconds=wide + makespan(rest, cores),
        scratch_bytes=_scratch_bytes(probed),
        from_scratch=probed.from_scratch,
        cores=cores,
        busy=max(0.0, 1 - start["cpu_seconds"] / start["seconds"]) if start else 0.0,
        probe_seconds=0.0,
        notes=tuple(_notes(probed, scheduler)),
    )


_FIRST = ("clusters", "points", "network", "regression", "map", *_ROLES.values())
_LAST = ("other maps", "pictures, page, project, report")


def _finished(probed: Probed, key: str, name: str) -> StageEstimate:
    done = probed.found[key]
    return StageEstimate(name, cost=done.cost, memory_bytes=done.memory_bytes, disk_bytes=probed.sizes.get(key, 0))


def _with_scenes(probed: Probed, cores: int) -> list[StageEstimate]:
    """Stages that look at the scenes, and the regression on what they saw."""
    answer, start = probed.answer, probed.answer.get("start", {})
    rows = []
    if "network" in answer:
        found = answer["network"]
        cost = (
            Cost.of(start) + _torch(answer) + sum((Cost.of(found[key]) for key in ("fixed", "steps", "epochs")), Cost())
        )
        note = f"{found['n_tiles']:,} tiles, {found['n_epochs']} epochs, less where it stops early"
        rows.append(_row("network", found, cost, cores, found["disk_bytes"], note))
    for role, name in _ROLES.items():
        if (found := answer.get(f"features/{role}")) is None:
            continue
        cost = Cost.of(start) + Cost.of(found["fixed"]) + Cost.of(found["each"]) * found["n_clusters"]
        cost += _torch(answer) if role in answer.get("torch", {}).get("roles", ()) else Cost()
        note = f"{found['n_clusters']:,} clusters, {found['n_features']:,} features"
        rows.append(_row(name, found, cost, cores, 4 * found["n_clusters"] * found["n_features"], note))
    if "regression" in answer:
        found = answer["regression"]
        n, p = found["n"], found["n_features"]
        # The support's directions are most of the model's file.
        disk = 8 * p * (min(n, p) + 4)
        note = f"{n:,} clusters, {p:,} features"
        rows.append(_row("regression", found, Cost.of(start) + Cost.of(found), cores, disk, note))
    return rows


def _row(
    name: str, found: Mapping[str, Any], cost: Cost, cores: int, disk_bytes: float, note: str, **more: Any
) -> StageEstimate:
    return StageEstimate(
        name,
        **found.get("reading", {}),
        cost=cost,
        memory_bytes=int(found["memory_bytes"]),
        disk_bytes=int(disk_bytes),
        cores=cores,
        note=note,
    )


def _torch(answer: Mapping[str, Any]) -> Cost:
    return Cost.of(answer["torch"]) if "torch" in answer else Cost()


def _map(probed: Probed, cores: int) -> StageEstimate:
    answer = probed.answer
    found = answer["map"]
    cost = Cost.of(answer["start"])
    fixed = Cost.of(found["fixed"])
    model = answer.get("features/model")
    if model is not None:
        # The extractor was prepared a second time here, which is faster: its first time counts.
        first = Cost.of(model["fixed"])
        fixed = max(fixed, first, key=lambda cost: cost.seconds)
        cost += _torch(answer) if "model" in answer.get("torch", {}).get("roles", ()) else Cost()
    cost += fixed + Cost.of(found["blocks"])
    side = found["block_cells"]
    blocks = f"{found['n_blocks']:,} blocks of {side} x {side} cells, {found['at_once']} at once"
    note = f"{blocks}, {found['n_cells']:,} cells, {found['mode']}"
    return _row("map", found, cost, cores, _cell_bytes(found) * _OVERVIEWS, note)


def _cell_bytes(found: Mapping[str, Any]) -> int:
    return _CELL_BYTES * int(found["width"]) * int(found["height"])


def _scratch_bytes(probed: Probed) -> int:
    return _cell_bytes(probed.answer["map"]) if "map" in probed.answer else 0


def _small(probed: Probed) -> list[StageEstimate]:
    """Stages that mostly start: each is taken to be as long as drawing the map's picture."""
    if (picture := probed.found.get("picture") or probed.found.get("clusters") or probed.found.get("start")) is None:
        return []
    rows = []
    for name, rules in zip(_LAST, (_PRODUCTS, _PRESENTATION), strict=True):
        jobs = sum(probed.jobs.get(rule, 0) for rule in rules)
        if jobs:
            disk = jobs * _scratch_bytes(probed) * _OVERVIEWS if rules is _PRODUCTS else 0
            rows.append(
                StageEstimate(
                    name,
                    jobs=jobs,
                    cost=picture.cost * jobs,
                    memory_bytes=picture.memory_bytes,
                    disk_bytes=int(disk),
                )
            )
    return rows


def _notes(probed: Probed, scheduler: str | None) -> list[str]:
    measured = [
        f"{found['n_measured']:,} of {found['n_clusters']:,} clusters"
        for key, found in probed.answer.items()
        if key.startswith("features/")
    ]
    notes = []
    if measured:
        notes.append(f"Rates come from {', '.join(measured)} and from blocks of the map, on this machine.")
    if scheduler and "://" in scheduler:
        notes.append(f"The workers at {scheduler} are not measured: all is counted as computed by this machine.")
    elif scheduler and scheduler.startswith("processes"):
        notes.append("Starting the processes of a stage is not counted.")
    if not probed.from_scratch:
        notes.append("What is up to date in the work folder is not counted.")
    return notes
