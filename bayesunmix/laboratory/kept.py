"""Results of a study, a file for each number, made over processes: what is there is read, what is missing is made.

A study that was stopped thus goes on where it was, and grows by asking for more numbers. Its folder is its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from bayesunmix.cluster.spread import spread
from bayesunmix.cluster.workers import workers
from bayesunmix.config.cluster import AnyCluster, ClusterConfig
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
    cluster: AnyCluster | None = None,
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
        Workers on this machine, each single-threaded; with 1 the work is done in this process, with all its threads.
    cluster
        Where the workers run in their place: the keys or the file of a table ``[cluster]``.
    progress
        Told of every result that has been made, as each is done.

    Raises
    ------
    InputError
        If the folder holds results of other facts.
    """
    claim_folder(folder, facts)
    missing = [number for number in numbers if not form.path(folder, number).exists()]
    where = ClusterConfig(workers=processes) if cluster is None else ClusterConfig.of(cluster)
    alone = cluster is None and min(processes, len(missing)) <= 1
    task = partial(_one, make, folder.absolute(), form)
    for number in map(task, missing) if alone else _over_workers(task, missing, folder, where):
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
    """Make the result of a number, unless a worker that has died since had made it."""
    path = form.path(folder, number)
    if not path.exists():
        found = make(number)
        with whole_file(path) as stream:
            form.write(stream, found)
    return number


def _over_workers(
    task: Callable[[int], int], numbers: Sequence[int], folder: Path, cluster: ClusterConfig
) -> Iterator[int]:
    """Call a task with each number over workers; yields the numbers as they are done."""
    if not numbers:
        return
    with workers(cluster, len(numbers), _kept_programs(folder)) as client:
        for ended in spread(task, numbers, client):
            yield ended.result()


def _kept_programs(folder: Path) -> dict[str, str]:
    """Return the variables by which workers share what JAX compiles, and keep it in a folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str((folder / PROGRAMS).resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
