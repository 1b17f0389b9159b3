"""The answer: one row a stage, and what follows from all of them."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Cost", "Estimate", "StageEstimate", "line", "makespan"]


@dataclass(frozen=True)
class Cost:
    """Time that something takes.

    Attributes
    ----------
    seconds : float
        By the clock.
    cpu_seconds : float
        Of all processor cores together.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.seconds * times, self.cpu_seconds * times)

    def __sub__(self, other: Cost) -> Cost:
        return self + other * -1

    @property
    def floored(self) -> Cost:
        """With zero in place of what noise made negative."""
        return Cost(max(self.seconds, 0.0), max(self.cpu_seconds, 0.0))

    @property
    def effort_s(self) -> float:
        """Seconds that it takes while nothing else is at work here: never more than the clock said."""
        return min(self.seconds, self.cpu_seconds)

    def to_dict(self) -> dict[str, float]:
        """JSON types."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    @classmethod
    def of(cls, measured: Mapping[str, float]) -> Cost:
        """The cost that a probe wrote as JSON."""
        return cls(measured["seconds"], measured["cpu_seconds"])


def line(small: tuple[int, Cost], large: tuple[int, Cost]) -> tuple[Cost, Cost]:
    """What a call costs, and each item in it, from two calls of different size; both at least zero."""
    (few, first), (many, last) = small, large
    if many <= few:
        return Cost(), last * (1 / many)
    each = ((last - first) * (1 / (many - few))).floored
    # Where noise hides the difference, everything is put on the items.
    each = Cost(each.seconds or last.seconds / many, each.cpu_seconds or last.cpu_seconds / many)
    return (last - each * many).floored, each


@dataclass(frozen=True)
class StageEstimate:
    """What one stage, or several small ones, will take.

    Attributes
    ----------
    name : str
        As people call it.
    jobs : int
        Processes of their own.
    tiles : int
        Tiles that lie on a scene; of a map, crops or large tiles.
    pixels : int
        Positions the extractor looks at, each counted as often as it is looked at, whatever its bands.
    decoded_bytes, read_bytes : int
        What is decoded, and about what of the files is read for it.
    cost : Cost
        Of all its jobs, one after another.
    memory_bytes : int
        The most that one of its processes holds.
    disk_bytes : int
        What it leaves in the work folder, at most.
    cores : int
        That one of its jobs holds.
    note : str
        What a reader should know of it.
    """

    name: str
    jobs: int = 1
    tiles: int = 0
    pixels: int = 0
    decoded_bytes: int = 0
    read_bytes: int = 0
    cost: Cost = Cost()
    memory_bytes: int = 0
    disk_bytes: int = 0
    cores: int = 1
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    study : str
        Its name.
    stages : tuple of StageEstimate
        Those that would run, in order.
    seconds : float
        By the clock, from the command to the report; less than the sum where stages run side by side.
    scratch_bytes : int
        Disk that a map needs besides while it is being written.
    from_scratch : bool
        Whether all stages would run; otherwise what is up to date is not counted.
    cores : int
        Of this machine.
    busy : float
        Share of the probe's time in which other programs kept it from computing: near 0 on a quiet machine.
    probe_seconds : float
        That finding all this out took.
    notes : tuple of str
        Whole sentences.
    """

    study: str
    stages: tuple[StageEstimate, ...]
    seconds: float
    scratch_bytes: int
    from_scratch: bool
    cores: int
    busy: float
    probe_seconds: float
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> StageEstimate:
        """Sums over the stages; of memory, the most of any."""
        sums = {
            name: sum(getattr(stage, name) for stage in self.stages)
            for name in ("jobs", "tiles", "pixels", "decoded_bytes", "read_bytes", "disk_bytes")
        }
        cost = sum((stage.cost for stage in self.stages), Cost())
        memory = max((stage.memory_bytes for stage in self.stages), default=0)
        return StageEstimate("in all", cost=cost, memory_bytes=memory, cores=self.cores, **sums)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self) | {"total": asdict(self.total)}


def makespan(jobs: Sequence[tuple[float, int]], cores: int) -> float:
    """Seconds that independent jobs take on some cores, each started as soon as it finds room, in this order.

    Parameters
    ----------
    jobs : sequence of (seconds, cores)
        More cores than there are count as all of them.
    cores : int
        Of the machine.
    """
    running: list[tuple[float, int]] = []
    now, free = 0.0, cores
    for seconds, wanted in jobs:
        needed = min(wanted, cores)
        while free < needed:
            now, freed = heapq.heappop(running)
            free += freed
        heapq.heappush(running, (now + seconds, needed))
        free -= needed
    return max((end for end, _ in running), default=now)
