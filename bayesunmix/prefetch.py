"""Imports that take seconds, made while something else keeps the program busy.

JAX, SciPy and Matplotlib load for several seconds. A run on a file loads them while HyperSpy opens the file in a
process of its own; a run on a map that is in memory loads them while the map is checked and binned.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bayesunmix.core.processes import is_first
from bayesunmix.data.reader import start_reader


def import_stages(*, files: bool) -> None:
    """Import what the stages need, and what draws the figures where there are `files` to write."""
    for module in ("stages", "report.page") if files else ("stages",):
        importlib.import_module(f"bayesunmix.{module}")


def while_reading() -> None:
    """Start the process that reads files, and import the stages while it imports HyperSpy."""
    start_reader()
    import_stages(files=is_first())


@contextmanager
def while_preparing(*, files: bool) -> Iterator[None]:
    """Import the stages on the side; what comes after this has them."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(import_stages, files=files)
        yield
