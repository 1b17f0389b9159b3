"""Reading ahead in a thread, so that the disk and the processor work at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["prefetch"]

Item = TypeVar("Item")


class _End:
    """Put last into the queue: the source is exhausted, or has failed."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(source: Iterable[Item], *, depth: int = 2) -> Iterator[Item]:
    """The items of ``source``, drawn by a thread that stays at most ``depth`` of them ahead.

    Parameters
    ----------
    source : iterable
        Iterated over in the thread, and in no other.
    depth : int
        Items waiting at most; bounds the memory.

    Yields
    ------
    object
        The items in their order. An exception of ``source`` is raised here, after the items before it. When the
        consumer stops early the thread ends before the generator does.
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Item | _End) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def draw() -> None:
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as error:  # carried over to the consumer
            put(_End(error))
        else:
            put(_End())

    thread = threading.Thread(target=draw, name="geopov-prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
