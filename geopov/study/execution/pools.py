"""Many tasks through an executor, a few at a time."""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

if TYPE_CHECKING:
    from geopov.maps.blocks import Run

__all__ = ["AHEAD", "LOOK_S", "P", "R", "T", "serial", "stream", "threads"]

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")

AHEAD = 2
"""Tasks in flight a worker: one it computes and one that waits, so that none idles while results travel."""

LOOK_S = 2.0
"""Seconds between looks at what nobody reports by itself."""


def serial(function: Callable[[P, T], R], payload: P, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Run one task after another, in this thread."""
    for task in tasks:
        yield task, function(payload, task)


@contextmanager
def threads(workers: int) -> Iterator[Run]:
    """A run on so many threads of this process."""
    # OpenMP counts by thread, so each is told.
    executor = ThreadPoolExecutor(workers, "geopov", initializer=threadpool_limits, initargs=(1,))

    def run(function: Callable[[P, T], R], payload: P, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        def submit(task: T) -> Future[R]:
            return executor.submit(function, payload, task)

        with closing(stream(submit, tasks, ahead=lambda: AHEAD * workers)) as finished:
            for task, future in finished:
                yield task, future.result()

    try:
        yield run
    finally:
        executor.shutdown(cancel_futures=True)


def stream(
    submit: Callable[[T], Future[R]],
    tasks: Iterable[T],
    *,
    ahead: Callable[[], int],
    look: Callable[[], None] = lambda: None,
) -> Generator[tuple[T, Future[R]], None, None]:
    """Each task with its future, once that is done.

    Parameters
    ----------
    submit : callable
        Has a task computed.
    tasks : iterable
        Drawn lazily.
    ahead : callable
        How many tasks may be in flight now.
    look : callable, optional
        Called while none finishes; raises if none ever will.
    """
    remaining = iter(tasks)
    flying: dict[Future[R], T] = {}
    done: queue.SimpleQueue[Future[R]] = queue.SimpleQueue()

    def top_up() -> None:
        # One at a time: a task that is drawn is in flight, whatever drawing the next one raises.
        while len(flying) < ahead():
            try:
                task = next(remaining)
            except StopIteration:
                return
            future = submit(task)
            flying[future] = task
            future.add_done_callback(done.put)

    try:
        top_up()
        while flying:
            try:
                future = done.get(timeout=LOOK_S)
            except queue.Empty:
                look()
                continue
            task = flying.pop(future)
            top_up()
            yield task, future
    finally:
        for future in flying:
            future.cancel()
