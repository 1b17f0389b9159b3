"""One thread a computation, for many computations side by side."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

__all__ = ["one_thread"]

_lock = threading.Lock()
_inside = 0
_before = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, PyTorch and BLAS compute with one thread; afterwards with as many as before.

    Threads that wait for one another cost more than they gain where whole computations run side by side, and how many
    share a sum must not decide its last bits. May be entered by several threads at once.
    """
    global _inside, _before
    torch = sys.modules.get("torch")
    with _lock:
        if torch is not None:
            if not _inside:
                _before = torch.get_num_threads()
            # Each thread takes its number from here when it first computes, and from its own call afterwards.
            torch.set_num_threads(1)
        _inside += 1
    try:
        with threadpool_limits(1):
            yield
    finally:
        with _lock:
            _inside -= 1
            if torch is not None and not _inside and _before:
                torch.set_num_threads(_before)
