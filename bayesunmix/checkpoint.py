"""Finished stages on disk, so that an interrupted run goes on where it stopped.

Each stage's result lies in a hidden folder of the output folder until the run is complete, under a key that names
everything the result depends on: counts, configuration, seed and version. A key that differs is never used.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bayesunmix.whole_file import whole_file

Result = TypeVar("Result")
FOLDER = ".stages"


class Stages:
    """Runs stages once.

    Parameters
    ----------
    folder
        Output folder; None keeps nothing.
    facts
        All that the results depend on, JSON-able.
    resume
        Use what an earlier run with the same facts has finished.
    """

    def __init__(self, folder: Path | None, facts: dict[str, Any], *, resume: bool) -> None:
        self.key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        self.timings: dict[str, float] = {}
        self.resumed: list[str] = []
        self._folder = None if folder is None else folder / FOLDER
        if self._folder is not None:
            if not resume:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, compute: Callable[[], Result]) -> Result:
        """Return a stage's result, from disk where an earlier run has finished it."""
        path = None if self._folder is None else self._folder / f"{name}.pickle"
        if path is not None and path.exists():
            with path.open("rb") as stream:
                # Written by this program into its own output folder; not a format to exchange.
                key, seconds, result = pickle.load(stream)
            if key == self.key:
                self.timings[name] = seconds
                self.resumed.append(name)
                return result  # type: ignore[no-any-return]
        begin = time.perf_counter()
        result = compute()
        self.timings[name] = time.perf_counter() - begin
        if path is not None:
            with whole_file(path) as stream:
                pickle.dump((self.key, self.timings[name], result), stream, protocol=5)
        return result

    def finish(self) -> None:
        """Remove the kept stages: the run is complete."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
