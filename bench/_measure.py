"""Seconds, ratios, memory and slopes, as several benchmarks take them."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock and of the CPUs, this process's threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast ours is: the median over rounds in which both had their turn; of rates."""
    return statistics.median(a / b for a, b in zip(ours, other, strict=True))


def peak_mib() -> float:
    """The most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would count the parent's memory at the fork.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def slope(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Of the logarithm of time on the logarithm of size: 1 where twice as much takes twice as long."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def rounded(values: Mapping[str, float | None], digits: int = 2) -> dict[str, float | None]:
    """For JSON."""
    return {key: None if value is None else round(value, digits) for key, value in values.items()}
