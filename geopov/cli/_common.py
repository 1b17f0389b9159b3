"""What the subcommands share: one console, one kind of progress bar, one way to end with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console()
errors = Console(stderr=True)

ProgressCallback = Callable[[int, int], None]


@contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback]:
    """A Rich bar on stderr; yields the callback ``(done, total)`` that library functions take as ``progress``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bar:
        task = bar.add_task(label, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
