"""Progress of a run: a moving bar in a terminal (stderr) and in a notebook, lines elsewhere; and what its stages cost.

Where no bar can move, a line every ten seconds names the stage, the share that is done where the stage knows it, and
the time since it began.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from bayesunmix.core.costs import Cost, Meter, peak_bytes
from bayesunmix.core.log import aside, tell
from bayesunmix.core.memory import give_back
from bayesunmix.core.notebook import NotebookOutput, in_notebook

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FRAMES = 0.25
# A notebook's frames are sent to a browser.
SECONDS_BETWEEN_PAGES = 0.5
_WITHOUT_SHARE = "{desc}: {elapsed}"
_WITH_SHARE = "{desc}: {percentage:3.0f} % |{bar}| {elapsed}"


class Reporter:
    """Tells what a run is doing.

    Parameters
    ----------
    shown
        False for silence.

    Attributes
    ----------
    costs
        What each finished stage took, by its name.
    held_before
        Most bytes that the process had held when the run began.
    """

    def __init__(self, shown: bool = True) -> None:
        self.costs: dict[str, Cost] = {}
        self.held_before = peak_bytes()
        self._shown = shown
        self._begin = time.monotonic()
        self._display: _Display | None = None
        self._page = NotebookOutput() if shown and in_notebook() else None

    @contextmanager
    def stage(self, title: str, name: str | None = None, *, said: bool = True) -> Iterator[None]:
        """Show one stage while it runs, and its duration when it is done.

        Parameters
        ----------
        title
            What the stage is called.
        name
            What it is called among the costs; its title where none is given.
        said
            False for a stage that leaves no line when it is done.
        """
        meter = Meter()
        tell(logging.INFO, f"{title} begins")
        with self._displayed(title):
            yield
        give_back()
        cost = meter.read()
        self.costs[name or title] = cost
        line = f"{title}: {cost.seconds:.1f} s"
        tell(logging.INFO, line)
        if said and self._shown:
            self._say_done(line)

    def _say_done(self, line: str) -> None:
        if self._page is None:
            write_line(line)
            return
        self._page.add(line)
        self._page.show()

    def _display_of(self, title: str) -> _Display:
        """Return what shows a stage here."""
        if self._page is not None:
            return _Frames(title, self._page)
        return _Bar(title) if _can_move() else _Lines(title)

    @contextmanager
    def _displayed(self, title: str) -> Iterator[None]:
        """Keep the display of a stage moving, and take it away however the stage ends."""
        if not self._shown:
            yield
            return
        display = self._display_of(title)
        ended = threading.Event()

        def keep_moving() -> None:
            while not ended.wait(display.seconds):
                # A terminal that is gone must not stop a run whose files are still wanted.
                with contextlib.suppress(OSError, ValueError):
                    display.move()

        # A kernel knows by its context which cell a thread writes for.
        context = contextvars.copy_context()
        mover = threading.Thread(target=context.run, args=[keep_moving], daemon=True)
        self._display = display
        mover.start()
        try:
            yield
        finally:
            self._display = None
            ended.set()
            mover.join()
            with contextlib.suppress(OSError, ValueError):
                display.close()

    def advance(self, share: float) -> None:
        """Share of the running stage that is done, 0 to 1."""
        if self._display is not None:
            self._display.share = min(max(share, 0.0), 1.0)

    def finish(self) -> None:
        """Leave one line of a run that is done on the page of a notebook; what was written elsewhere stays."""
        if self._page is not None:
            self._page.end(time.monotonic() - self._begin)

    def say(self, text: str) -> None:
        """Add a detail to the running stage; shown beside a moving bar only."""
        tell(logging.INFO, text)
        if isinstance(self._display, _Frames):
            self._display.page.add_detail(text)
        if isinstance(self._display, _Bar):
            with aside():
                write_line(f"  {text}")


def write_line(text: str) -> None:
    """Write a line on stderr, if anybody is there to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


class _Display(Protocol):
    """Something that shows a stage and is moved every so many seconds."""

    seconds: float
    share: float | None

    def move(self) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """A line every ten seconds."""

    seconds = SECONDS_BETWEEN_LINES

    def __init__(self, title: str) -> None:
        self.share: float | None = None
        self._title = title
        self._begin = time.monotonic()

    def move(self) -> None:
        done = "" if self.share is None else f"{self.share:.0%} done, "
        write_line(f"{self._title}: {done}{time.monotonic() - self._begin:.0f} s")

    def close(self) -> None:
        pass


class _Frames:
    """A bar on the page of a notebook."""

    seconds = SECONDS_BETWEEN_PAGES

    def __init__(self, title: str, page: NotebookOutput) -> None:
        self.share: float | None = None
        self.page = page
        self._title = title
        self._begin = time.monotonic()
        self.move()

    def move(self) -> None:
        self.page.show(f"{self._title}: {time.monotonic() - self._begin:.0f} s", self.share)

    def close(self) -> None:
        self.page.end_stage()


class _Bar:
    """A bar of tqdm, which moves in a terminal."""

    seconds = SECONDS_BETWEEN_FRAMES

    def __init__(self, title: str) -> None:
        self.share: float | None = None
        self._bar = _tqdm(title)

    def move(self) -> None:
        if self.share is not None:
            self._bar.bar_format = _WITH_SHARE
            self._bar.n = self.share
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def _tqdm(title: str) -> Any:  # noqa: ANN401 - tqdm ships no types
    from tqdm import tqdm

    return tqdm(total=1.0, desc=title, bar_format=_WITHOUT_SHARE, leave=False, file=sys.stderr)


def _can_move() -> bool:
    """Whether stderr is a terminal."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
