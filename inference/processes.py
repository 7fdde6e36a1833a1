"""One task for many numbers, over processes that share a folder and the programs that JAX compiles.

A study keeps what each number gives in a file of its own, so that it goes on where it was stopped. Which files are
missing is the study's business; here are the folder that belongs to one study only, and the workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from bayesunmix.core.errors import InputError

Found = TypeVar("Found")

FACTS = "study.json"
PROGRAMS = "programs"


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


def over_processes(
    task: Callable[[int], Found], numbers: Sequence[int], folder: Path, processes: int = 1
) -> Iterator[Found]:
    """Yield what a task gives for each number, as each ends.

    Parameters
    ----------
    task
        With more than one process it and what it gives travel by pickle.
    numbers
        What it is called with.
    folder
        Where compiled programs are kept for all processes.
    processes
        Each single-threaded; with 1 the work is done in this process, with all its threads.
    """
    if min(processes, len(numbers)) <= 1:
        yield from map(task, numbers)
        return
    # JAX is multi-threaded: a forked copy of a process that has used it may hang.
    context = get_context("spawn")
    with (
        _environment(_worker_settings(folder)),
        ProcessPoolExecutor(
            min(processes, len(numbers)), mp_context=context, initializer=_adopt, initargs=(task,)
        ) as pool,
    ):
        pending = [pool.submit(_adopted, number) for number in numbers]
        try:
            for finished in as_completed(pending):
                yield finished.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _worker_settings(folder: Path) -> dict[str, str]:
    """Environment of a worker: one thread, as several would fight for the same cores, and programs compiled once."""
    return {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "JAX_COMPILATION_CACHE_DIR": str((folder / PROGRAMS).resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside; those that the user has set stay."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


_worker: list[Callable[[int], Any]] = []


def _adopt(task: Callable[[int], Any]) -> None:
    """Take over a task in a new process, once for all its numbers."""
    _worker[:] = [task]


def _adopted(number: int) -> Any:  # noqa: ANN401
    return _worker[0](number)
