"""Progress on the page of a notebook: one output, which is written anew as the run goes on.

It needs IPython's display and nothing else: no widgets, which many kernels lack, and no text that grows frame by frame
where a notebook is run without a screen. Details of a stage go when it ends. What a saved notebook keeps is the last
frame: one line for a run that is finished, a line for each stage of one that failed.
"""

from __future__ import annotations

import sys
from html import escape
from importlib import import_module
from typing import Any

from bayesunmix.core.summary import SENTENCE

_BAR_LETTERS = 20


def in_notebook() -> bool:
    """Whether a kernel shows what this process says on the page of a notebook."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return running is not None and getattr(running, "kernel", None) is not None


class NotebookOutput:
    """The output of a run: finished stages, and the stage that runs with its details."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._details: list[str] = []
        self._handle: Any = None

    def add(self, line: str) -> None:
        """Add the line of a finished stage, which the next frame shows."""
        self._lines.append(line)

    def add_detail(self, text: str) -> None:
        """Add a detail of the stage that runs, which is shown until it ends."""
        self._details.append(f"  {text}")

    def end_stage(self) -> None:
        """Show finished stages alone."""
        self._details.clear()
        self.show()

    def end(self, seconds: float) -> None:
        """Leave one line of all that was done."""
        stages = "; ".join(line.replace(": ", " ", 1) for line in self._lines)
        self._lines[:] = [f"finished in {seconds:.0f} s{f' ({stages})' if stages else ''}"]
        self.show()

    def show(self, running: str = "", share: float | None = None) -> None:
        """Show all lines and, below them, what runs.

        Parameters
        ----------
        running
            Name of the stage and the time since it began; nothing where no stage runs.
        share
            What is done of it, 0 to 1; None where that is not known.
        """
        lines = [*self._lines, *self._details]
        frame = {"text/plain": _text(lines, running, share), "text/html": _html(lines, running, share)}
        if self._handle is not None:
            self._handle.update(frame, raw=True)
        elif lines or running:
            self._handle = import_module("IPython.display").display(frame, raw=True, display_id=True)


def _text(lines: list[str], running: str, share: float | None) -> str:
    bar = ""
    if running and share is not None:
        done = round(_BAR_LETTERS * share)
        bar = f" |{'█' * done}{' ' * (_BAR_LETTERS - done)}| {share:.0%}"
    return "\n".join([*lines, *([running + bar] if running else [])])


def _html(lines: list[str], running: str, share: float | None) -> str:
    said = escape("\n".join(lines))
    parts = [f'<div style="{SENTENCE}">{said}</div>'] if lines else []
    if running:
        known = "" if share is None else f' value="{share:.3f}"'
        percent = "" if share is None else f" {share:.0%}"
        parts.append(f'<div><progress max="1"{known}></progress> {escape(running)}{percent}</div>')
    return f'<div class="bayesunmix">{"".join(parts)}</div>'
