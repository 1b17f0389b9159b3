"""Where work runs: in this thread, in threads, in processes of this machine, or on the workers of a Dask cluster.

Whoever has many independent tasks asks for a run and draws results from it; what a task computes must depend on nothing
but the task, so that the results are the same wherever they come from and however often one is repeated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from geopov.errors import StudyError
from geopov.study.execution.clusters import cluster, processes
from geopov.study.execution.pools import serial, threads

if TYPE_CHECKING:
    from geopov.maps.blocks import Run

__all__ = ["open_run", "read_scheduler", "usable_cores"]


@contextmanager
def open_run(
    scheduler: str = "threads", *, workers: int | None = None, memory_mb: float | None = None
) -> Iterator[Run]:
    """Workers for as long as the block lasts.

    Parameters
    ----------
    scheduler : str
        ``"serial"``: this thread. ``"threads"``: threads of this process. ``"processes"``: processes of this machine,
        one thread each, started for the block; one that is killed is started anew. ``"threads:4"`` and
        ``"processes:4"`` say how many at once. ``"tcp://host:port"`` or ``"tls://host:port"``: the workers of a Dask
        cluster that others have started.
    workers : int, optional
        How many threads or processes; default one a core that this process may use. Of a cluster: how many to wait for
        before work begins, default 1; those that come later are used as well.
    memory_mb : float, optional
        Memory of each process in MiB; one that takes 95% of it is ended and started anew. Default: equal shares of the
        machine's. For ``"processes"`` alone.

    Yields
    ------
    Run
        ``run(function, payload, tasks)``. ``function`` is pure; ``payload`` is handed to it as it is in this process,
        and pickled for others, which unpickle it once. At most two tasks a worker are drawn ahead of what was taken
        from the iterator. The first error of a task is raised, and what has not begun is cancelled.

    Raises
    ------
    StudyError
        If the arguments make no sense together; if a cluster does not answer, has no workers, or they run other
        software; while running, if one task's workers die again and again, or the cluster is lost.
    MissingDependencyError
        If processes or a cluster are asked for without ``distributed``.
    """
    kind, workers = read_scheduler(scheduler, workers)
    if memory_mb is not None and (kind != "processes" or memory_mb <= 0):
        raise StudyError(
            f"memory_mb is {memory_mb:g} with the scheduler {scheduler!r}; expected a positive number with "
            "'processes': threads share the memory of one process, and a cluster's workers are started with theirs."
        )
    with ExitStack() as stack:
        # Pools of BLAS within each of several threads would wait for one another, and their number decide last bits.
        stack.enter_context(threadpool_limits(limits=1))
        if kind == "serial":
            yield serial
        elif kind == "threads":
            yield stack.enter_context(threads(workers or usable_cores()))
        elif kind == "processes":
            yield stack.enter_context(processes(workers or usable_cores(), memory_mb=memory_mb))
        else:
            yield stack.enter_context(cluster(scheduler, workers=workers or 1))


def usable_cores() -> int:
    """Cores that this process may use, which in a job of a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_scheduler(scheduler: str, workers: int | None) -> tuple[str, int | None]:
    """The kind of a scheduler, such as ``"threads"``, and how many workers were asked for.

    Raises
    ------
    StudyError
        As :func:`open_run`.
    """
    kind, colon, rest = scheduler.partition(":")
    if workers is not None and workers < 1:
        raise StudyError(f"workers is {workers}; expected at least 1.")
    if kind in ("tcp", "tls") and rest.startswith("//") and len(rest) > 2:
        return kind, workers
    if kind in ("threads", "processes") and rest.isdecimal() and int(rest) > 0:
        if workers not in (None, int(rest)):
            raise StudyError(f"the scheduler is {scheduler!r} and workers is {workers}; give one of them.")
        return kind, int(rest)
    if colon or kind not in ("serial", "threads", "processes"):
        raise StudyError(
            f"the scheduler is {scheduler!r}; expected 'serial', 'threads', 'threads:4', 'processes', 'processes:4', "
            "or the address of a Dask scheduler such as 'tcp://10.0.0.1:8786'."
        )
    if kind == "serial" and workers not in (None, 1):
        raise StudyError(f"workers is {workers} with the scheduler 'serial'; for more than one use 'threads'.")
    return kind, workers
