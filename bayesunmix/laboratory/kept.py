"""Results of a study, a file for each number, made over processes: what is there is read, what is missing is made.

A study that was stopped thus goes on where it was, and grows by asking for more numbers. Its folder is its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from joblib import Parallel, delayed, parallel_config

from bayesunmix.core.errors import InputError
from bayesunmix.core.whole_file import whole_file

Found = TypeVar("Found")

FACTS = "study.json"
PROGRAMS = "programs"


@dataclass(frozen=True)
class Form(Generic[Found]):
    """How one result lies in the folder.

    Attributes
    ----------
    name : str
        Of its file, with a place for the number, such as ``map_{:05d}.json``.
    write : (stream, result) -> None
    read : path -> result
    """

    name: str
    write: Callable[[IO[bytes], Found], None]
    read: Callable[[Path], Found]

    def path(self, folder: Path, number: int) -> Path:
        """Return the file of a number."""
        return folder / self.name.format(number)


def kept(
    make: Callable[[int], Found],
    numbers: Sequence[int],
    folder: Path,
    facts: Mapping[str, Any],
    form: Form[Found],
    *,
    processes: int = 1,
    progress: Callable[[Found], None] | None = None,
) -> list[Found]:
    """Return what is made of each number: what the folder holds is read back, the rest is made.

    Parameters
    ----------
    make
        Makes the result of a number; with more than one process it travels by pickle.
    numbers
        What it is called with.
    folder
        Where each result is kept.
    facts
        All that the results depend on, JSON-able.
    form
        How a result is written and read.
    processes
        Each single-threaded; with 1 the work is done in this process, with all its threads.
    progress
        Told of every result that has been made, as each is done.

    Raises
    ------
    InputError
        If the folder holds results of other facts.
    """
    claim_folder(folder, facts)
    missing = [number for number in numbers if not form.path(folder, number).exists()]
    for number in _over_processes(partial(_one, make, folder, form), missing, folder, processes):
        if progress is not None:
            progress(form.read(form.path(folder, number)))
    return [form.read(form.path(folder, number)) for number in numbers]


def claim_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write down what a folder's files depend on, or refuse a folder of another study.

    Raises
    ------
    InputError
        If the folder belongs to a study of other facts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, sort_keys=True, indent=2, default=str) + "\n"
    file = folder / FACTS
    if not file.exists():
        file.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        raise InputError(
            "folder",
            "be new or hold replicates of this study",
            f'"{folder}" holds those of another',
            "Name a new one.",
        )


def _one(make: Callable[[int], Found], folder: Path, form: Form[Found], number: int) -> int:
    found = make(number)
    with whole_file(form.path(folder, number)) as stream:
        form.write(stream, found)
    return number


def _over_processes(
    task: Callable[[int], int], numbers: Sequence[int], folder: Path, processes: int
) -> Iterator[int]:
    """Call a task with each number; yields the numbers as they are done."""
    workers = min(processes, len(numbers))
    if workers <= 1:
        yield from map(task, numbers)
        return
    # Fresh processes: JAX is multi-threaded, and a forked copy of a process that has used it may hang.
    with parallel_config(
        "loky",
        inner_max_num_threads=1,
        max_nbytes=None,  # arrays that come as read-only maps of files are not what a task was tested with
        initializer=os.environ.update,
        initargs=(_worker_settings(folder),),
    ):
        pool = Parallel(workers, return_as="generator_unordered", batch_size=1)
        yield from pool(delayed(task)(number) for number in numbers)


def _worker_settings(folder: Path) -> dict[str, str]:
    """Environment of a worker: one thread, and programs compiled once for all; what the user has set stays."""
    settings = {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "JAX_COMPILATION_CACHE_DIR": str((folder / PROGRAMS).resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return {name: value for name, value in settings.items() if name not in os.environ}
