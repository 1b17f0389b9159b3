"""The table of ``geopov run --estimate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from geopov.study.estimate import Estimate, StageEstimate

# How far off estimates are meant to be at most (`python bench/estimate.py` tells), and what machine is not quiet.
_UNCERTAINTY, _BUSY = 0.3, 0.25


def print_estimate(estimate: Estimate, console: Console) -> None:
    """Show what a run would take, as a table and a few sentences.

    Parameters
    ----------
    estimate : Estimate
        From :func:`geopov.study.estimate.estimate_study`.
    console : Console
        To print on.
    """
    if not estimate.stages:
        console.print(f"{estimate.study}: everything is up to date; a run would do nothing.", highlight=False)
        return
    table = Table(title=f"What a run of {estimate.study} will take", title_justify="left")
    table.add_column("stage", overflow="fold")
    for heading in ("tiles", "pixels", "read", "time", "memory", "disk"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in estimate.stages:
        table.add_row(_name(stage), *_figures(stage, stage.cost.seconds))
    table.add_section()
    table.add_row("in all", *_figures(estimate.total, estimate.seconds), style="bold")
    console.print(table)
    for sentence in _sentences(estimate):
        console.print(sentence, highlight=False, markup=False)


def _name(stage: StageEstimate) -> str:
    name = stage.name if stage.jobs == 1 else f"{stage.name} ({stage.jobs} processes)"
    return f"{name}\n[dim]{stage.note}[/]" if stage.note else name


def _figures(stage: StageEstimate, seconds: float) -> list[str]:
    return [
        f"{stage.tiles:,}" if stage.tiles else "",
        _many(stage.pixels),
        _bytes(stage.decoded_bytes),
        _time(seconds),
        _bytes(stage.memory_bytes),
        _bytes(stage.disk_bytes),
    ]


def _sentences(estimate: Estimate) -> list[str]:
    total = estimate.total
    low, high = estimate.seconds * (1 - _UNCERTAINTY), estimate.seconds * (1 + _UNCERTAINTY)
    hours = total.cost.cpu_seconds / 3600
    lines = [
        f"{_time(estimate.seconds)} on the {estimate.cores} cores of this machine, most likely {_time(low)} to "
        f"{_time(high)}; {hours:.2g} core-hours.",
        f"Measured here in {_time(estimate.probe_seconds)}: every stage's start, and a small piece of its work on this "
        "study's own scenes.",
        *estimate.notes,
        f"Pixels are those that extractors look at. {_bytes(total.decoded_bytes)} are decoded, about "
        f"{_bytes(total.read_bytes)} of the files on this machine read for it. Memory is the most that one process of "
        "a stage held, disk the most that it can write; while the map is being written, "
        f"{_bytes(estimate.scratch_bytes)} more.",
    ]
    if estimate.busy > _BUSY:
        lines.append(
            f"Other programs kept this machine busy ({estimate.busy:.0%} of the time at the start): on a quiet one a "
            "run is faster, and this estimate better."
        )
    return lines


def _many(number: int) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number) if number else ""


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B" if number else ""


def _time(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    if seconds < 5970:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{seconds / 86_400:.3g} days"
