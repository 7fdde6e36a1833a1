"""Files written one step after another, so that one that cannot be made takes no other with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bayesunmix.core.output_folder import names_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """Some files of a result.

    Attributes
    ----------
    what : str
        As a sentence names them.
    write : callable
        Takes the folder that they go into.
    """

    what: str
    write: Callable[[Path], object]


def take(steps: Iterable[Step], folder: Path) -> dict[str, Exception]:
    """Take every step, and return what stopped those that failed; they leave no half files behind."""
    failed: dict[str, Exception] = {}
    for step in steps:
        before = set(names_of(folder))
        try:
            step.write(folder)
        except Exception as error:
            # Whatever a figure fails of, the numbers must be kept.
            logger.debug("%s could not be written", step.what, exc_info=True)
            failed[step.what] = error
            for name in set(names_of(folder)) - before:
                (folder / name).unlink(missing_ok=True)
    return failed


def sentences(failed: Mapping[str, Exception]) -> list[str]:
    """Say what could not be written, and why."""
    return [
        f"{_beginning(what)} ({type(error).__name__}: {' '.join(str(error).split())})."
        for what, error in failed.items()
    ]


def without(warnings: Iterable[str], steps: Iterable[Step]) -> list[str]:
    """Leave out what was said of steps that are taken anew."""
    said = tuple(_beginning(step.what) for step in steps)
    return [warning for warning in warnings if not warning.startswith(said)]


def _beginning(what: str) -> str:
    return f"{what[0].upper()}{what[1:]} could not be written"


def disk_error(failed: Mapping[str, Exception]) -> OSError | None:
    """Return the first error that the disk is to blame for."""
    return next((error for error in failed.values() if isinstance(error, OSError)), None)
