"""Progress of a run on stderr: a live bar in a terminal, a line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Reporter:
    """Tells what a run is doing.

    Parameters
    ----------
    shown
        False for silence.
    """

    def __init__(self, shown: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not shown)
        self._live = shown and self._console.is_terminal
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Show one stage while it runs, and its duration when it is done."""
        begin = time.perf_counter()
        if self._live:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self._console, transient=True) as self._progress:
                self._task = self._progress.add_task(title, total=None)
                yield
            self._progress = None
        else:
            yield
        self._console.print(f"{title}: {time.perf_counter() - begin:.1f} s", highlight=False)
        sys.stderr.flush()

    def advance(self, share: float) -> None:
        """Share of the running stage that is done, 0 to 1."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=1.0, completed=share)

    def say(self, text: str) -> None:
        """Add a detail to the running stage; shown in a terminal only."""
        if self._progress is not None:
            self._progress.console.print(f"  {text}", style="dim", highlight=False)
