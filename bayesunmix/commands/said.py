"""What commands say to the user: lines on stderr, what became of the work, the verdict."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from bayesunmix.core import processes
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.core.severity import Doubt

if TYPE_CHECKING:
    from bayesunmix.results.result import Result
    from bayesunmix.results.verdict import Verdict


def say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"bayesunmix: {text}", err=True)


def say_end(text: str) -> None:
    """Say how the command ends; of several processes, one does where all know it."""
    if processes.speaks():
        say(f"process {processes.index()}: {text}" if processes.index() else text)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as one line, except those that the verdict says at the end; others as Python does."""
    if not processes.is_first() or any(isinstance(part, Doubt) for part in getattr(message, "args", ())):
        return
    if issubclass(category, BayesUnmixWarning):
        say(f"warning: {message}")
    else:
        with contextlib.suppress(OSError, ValueError):
            click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


def stage(title: str) -> AbstractContextManager[None]:
    """Show that a command is at work."""
    from bayesunmix.core.progress import Reporter

    return Reporter().stage(title, said=False)


def finish(result: Result, out: Path) -> None:
    """Say where the answer is and what it is worth."""
    if processes.is_first():
        click.echo(f"wrote {out}")
    say_verdict(result.verdict)


def say_verdict(verdict: Verdict) -> None:
    """Say the verdict with every finding, and end with its status."""
    for line in verdict.lines() if processes.is_first() else ():
        say(line)
    if verdict.level.exit_status:
        click.get_current_context().exit(verdict.level.exit_status)


def flush() -> None:
    """Hand everything over before Python ends; a reader that has gone is no error."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # Python flushes again at its end, and must find somebody who listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
