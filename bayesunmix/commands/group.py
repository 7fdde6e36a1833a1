"""The group of all commands: complaints of one line, a log of what failed, and an exit status that is a contract.

Exit status: 0 done; 1 something failed that the user did not cause; 2 bad input or configuration; 3 finished and
written, but a diagnostic says not to trust it; 130 interrupted. Every complaint is one line on stderr, and what failed
has its traceback in a log.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from bayesunmix import __version__
from bayesunmix.commands.said import flush, say, say_end, show_warning
from bayesunmix.core import processes
from bayesunmix.core.errors import InputError, InputErrors, failure_text, one_line
from bayesunmix.core.log import keeping, log_uncaught, tell

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

# What continues an interrupted command.
GO_ON = {
    "unmix": "; finished stages are kept: the same command with --resume goes on",
    "batch": "; finished maps and stages are kept: the same command goes on",
}

# New objects after which Python looks for garbage among them.
NEW_OBJECTS = 20_000


@contextlib.contextmanager
def _rarely_collected() -> Iterator[None]:
    """Look for cyclic garbage less often than Python does by itself, which took 5 % of a run's processor time.

    Most objects are what the imported libraries are made of, and those stay.
    """
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class CommandGroup(click.Group):
    """Click group whose complaints are one line and whose exit status is the contract's."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 - click's own signature
        """Run a command and exit with its status."""
        kwargs["standalone_mode"] = False
        with warnings.catch_warnings(), _rarely_collected():
            warnings.showwarning = show_warning
            log_uncaught()
            try:
                status = super().main(*args, **kwargs)
            except (InputError, click.ClickException) as error:
                *others, last = _complaints(error)
                for text in others:
                    say(f"error: {one_line(text)}")
                say_end(f"error: {one_line(last)}")
                status = BAD_INPUT
            except click.Abort:
                say("interrupted")
                status = INTERRUPTED
        flush()
        status = status if isinstance(status, int) else 0
        if processes.alone():
            # JAX would wait for processes that do not know that this one ends, or are gone.
            os._exit(status)
        sys.exit(status)

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run a command; what it fails by goes into a log, and one line says where that is."""
        with keeping() as log:
            tell(logging.INFO, f"bayesunmix {__version__}: {' '.join(sys.argv[1:])}")
            try:
                return super().invoke(context)
            except click.exceptions.Exit:
                raise
            except (InputError, click.ClickException, click.Abort) as error:
                tell(logging.ERROR, str(error))
                raise
            except BrokenPipeError:  # nobody reads on: `| head`
                return None
            except KeyboardInterrupt:
                tell(logging.WARNING, "interrupted")
                say_end("interrupted" + GO_ON.get(context.invoked_subcommand or "", ""))
                context.exit(INTERRUPTED)
            except Exception as error:
                tell(logging.ERROR, "The command failed.", error)
                kept = GO_ON.get(context.invoked_subcommand or "", "") if log.path else ""
                what = processes.LOST if processes.lost(error) else failure_text(error)
                say_end(f"error: {what}{kept}; {_where(log.rescue())}")
                context.exit(FAILED)


def _complaints(error: InputError | click.ClickException) -> list[str]:
    """Return what an error complains of, each for a line of its own."""
    if isinstance(error, click.ClickException):
        return [error.format_message()]
    return [str(each) for each in (error.errors if isinstance(error, InputErrors) else (error,))]


def _where(path: Path | None) -> str:
    return "no log could be written" if path is None else f"details are in {path}"
