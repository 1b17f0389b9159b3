"""Tasks on the workers of a Dask scheduler: processes of this machine, or a cluster that others have started."""

from __future__ import annotations

import functools
import logging
import pickle
import platform
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from geopov import _optional
from geopov.errors import StudyError
from geopov.study.execution.pools import AHEAD, LOOK_S, P, R, T, stream
from geopov.study.execution.software import differences, software

if TYPE_CHECKING:
    from geopov.maps.blocks import Run

__all__ = ["cluster", "processes"]

# Seconds for a scheduler to answer, and for it to be without any worker.
_CONNECT_S, _NO_WORKER_S = 20.0, 60.0

# Ctrl-C reaches every process of a terminal; the one that started the others ends them in order.
_LEAVE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@contextmanager
def processes(workers: int, *, memory_mb: float | None = None) -> Iterator[Run]:
    """A run on so many new processes of this machine."""
    distributed = _optional.require("distributed", purpose="Work in several processes")
    # A worker told to wait for memory that it never gets back would wait for ever; one that is ended is replaced.
    memory = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
    with (
        tempfile.TemporaryDirectory(prefix="geopov-", ignore_cleanup_errors=True) as folder,
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit="auto" if memory_mb is None else int(memory_mb * 2**20),
            local_directory=folder,
            # No dashboard; the port where it would be is still opened, so that it had better be a free one.
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0", "local_directory": folder},
            silence_logs=logging.CRITICAL,
            config=memory,
            preload=[_LEAVE_INTERRUPTS],
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield _ClientRun(client, f"{workers} processes")


@contextmanager
def cluster(address: str, *, workers: int = 1) -> Iterator[Run]:
    """A run on all workers of the Dask scheduler at an address, once there are at least so many."""
    distributed = _optional.require("distributed", purpose=f"The cluster at {address}")
    with distributed.utils.silence_logging_cmgr(logging.CRITICAL):
        try:
            client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no Dask scheduler answers at {address} within {_CONNECT_S:g} s ({error}). Start one with `dask "
                "scheduler`, and give the address it prints, as this machine reaches it."
            ) from error
        with client:
            run = _ClientRun(client, address)
            run.wait_for_workers(workers)
            run.check_software()
            yield run


class _ClientRun:
    """Tasks on the workers of a Dask client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        # Calls that look alike are not taken for the same: what a function reads may have changed.
        self._executor = client.get_executor(pure=False)
        self._threads, self._counted = 1, -float("inf")
        self._none_since: float | None = None

    def __call__(self, function: Callable[[P, T], R], payload: P, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        # Comes with distributed, and takes functions of scripts and notebooks as well.
        import cloudpickle  # type: ignore[import-untyped]
        from distributed.scheduler import KilledWorker

        work = pickle.dumps((software(), cloudpickle.dumps((function, payload))))
        # A task like any other: the scheduler keeps how it is made, so that no worker is the only one to have it.
        held = self._client.submit(bytes, work, pure=False)
        submit = functools.partial(self._executor.submit, _call, held)
        with closing(stream(submit, tasks, ahead=self._ahead, look=self._count)) as finished:
            for task, future in finished:
                try:
                    result = future.result()
                except KilledWorker as error:
                    raise StudyError(
                        f"{error.allowed_failures + 1} workers died one after the other with the task "
                        f"{textwrap.shorten(str(task), 300)}, which is given up. Most often a worker's memory is too "
                        "small for it: give fewer workers more memory each, or compute smaller blocks."
                    ) from error
                except CancelledError as error:
                    raise self._lost() from error
                yield task, result

    def _ahead(self) -> int:
        # Workers come and go, but not by the second.
        if time.monotonic() - self._counted > LOOK_S:
            self._count()
        return AHEAD * max(self._threads, 1)

    def _count(self) -> None:
        """Count the workers' threads; an error if there has long been none."""
        try:
            self._threads = sum(self._client.nthreads().values())
        except Exception as error:  # whatever its transport raises
            raise self._lost() from error
        self._counted = time.monotonic()
        if self._threads:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = self._counted
        elif self._counted - self._none_since > _NO_WORKER_S:
            raise StudyError(f"{self._name}: no worker has been left for {_NO_WORKER_S:g} s. Start some and run again.")

    def _lost(self) -> StudyError:
        return StudyError(f"{self._name}: the connection to the scheduler is lost. See that it runs, and run again.")

    def wait_for_workers(self, workers: int) -> None:
        """Wait until there are so many workers."""
        try:
            self._client.wait_for_workers(workers, timeout=_NO_WORKER_S)
        except TimeoutError as error:
            raise StudyError(
                f"the Dask scheduler at {self._name} has {len(self._client.nthreads())} workers after "
                f"{_NO_WORKER_S:g} s; expected at least {workers}. Start them with `dask worker {self._name}`."
            ) from error

    def check_software(self) -> None:
        """See that all workers run what this process runs."""
        found = self._client.run(software, on_error="return")
        problems = [f"{worker}: {text}" for worker, theirs in sorted(found.items()) if (text := differences(theirs))]
        if problems:
            raise StudyError(
                f"{len(problems)} of {len(found)} workers at {self._name} run other software than this process. Start "
                "them from the same environment, so that every part of a result is computed alike:",
                problems,
            )


_loading = threading.Lock()


@functools.lru_cache(maxsize=2)
def _loaded(work: bytes) -> tuple[Callable[[Any, Any], Any], Any]:
    theirs, pickled = pickle.loads(work)  # noqa: S301  # from the client that this worker serves
    if text := differences(theirs):
        raise StudyError(
            f"the worker on {platform.node()} runs other software than who sent it work, which has {text}."
        )
    threadpool_limits(limits=1)
    function, payload = pickle.loads(pickled)  # noqa: S301
    return function, payload


def _call(work: bytes, task: Any) -> Any:
    """One task on a worker."""
    with _loading:
        function, payload = _loaded(work)
    return function(payload, task)
