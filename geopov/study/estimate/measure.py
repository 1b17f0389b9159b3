"""Clocks: what a piece of work in this process takes, and what a process of its own takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from geopov.study.estimate.result import Cost

__all__ = ["Finished", "Measured", "measured", "run_measured"]

_POLL_S = 0.02
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass
class Measured:
    """Filled in when its block ends.

    Attributes
    ----------
    cost : Cost
        Of all threads of this process.
    memory_bytes : int
        The most that the process held meanwhile; where the system cannot tell, since it started.
    """

    cost: Cost = field(default_factory=Cost)
    memory_bytes: int = 0

    def to_dict(self) -> dict[str, float]:
        """JSON types."""
        return {
            "seconds": self.cost.seconds,
            "cpu_seconds": self.cost.cpu_seconds,
            "memory_bytes": self.memory_bytes,
        }


@contextmanager
def measured() -> Iterator[Measured]:
    """Measure what happens in the block."""
    found = Measured()
    _forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found.cost = Cost(time.perf_counter() - wall, time.process_time() - cpu)
    found.memory_bytes = _peak_bytes("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def _forget_peak() -> None:
    try:
        # Linux: 5 sets the "high water mark" of the resident size to what it is now (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_bytes(process: int | str) -> int:
    """The most that a process has held; 0 where the system does not say."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return 0


@dataclass(frozen=True)
class Finished:
    """A process that has ended.

    Attributes
    ----------
    status : int
        Its exit status; negative where a signal ended it.
    output : str
        What it printed.
    cost : Cost
        Its own and its children's.
    memory_bytes : int
        The most that it held, its children not counted.
    """

    status: int
    output: str
    cost: Cost
    memory_bytes: int


def run_measured(command: Sequence[str], *, log: Path) -> Finished:
    """Run a program and wait for it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    log : Path
        Where what it prints is kept.
    """
    start = time.perf_counter()
    before = os.times()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        peak, pid = 0, 0
        while not pid:
            # The system's own account of a process begins with what its parent held when it was started.
            peak = max(peak, _peak_bytes(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0 if pid else _POLL_S)
        process.returncode = os.waitstatus_to_exitcode(status)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Finished(
        status=process.returncode,
        output=log.read_text(encoding="utf-8", errors="replace"),
        cost=Cost(time.perf_counter() - start, cpu),
        memory_bytes=peak or usage.ru_maxrss * _MAXRSS_BYTES,
    )
