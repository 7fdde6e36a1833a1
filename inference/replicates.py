"""Replicates of a simulation study: truths drawn, data simulated, draws inferred, one file each, over processes.

A study knows nothing of what it simulates: `simulate` makes a truth and data from a seed, `infer` makes draws from data
and a seed. A replicate that is done is a file, so a study that was stopped goes on where it was, and grows by asking
for more replicates.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.errors import InputError

FloatArray = npt.NDArray[np.float64]
Simulate = Callable[[int], tuple[Mapping[str, float], Any]]
Infer = Callable[[Any, int], Mapping[str, FloatArray]]

FACTS = "study.json"
PROGRAMS = "programs"


@dataclass(frozen=True)
class Study:
    """What is simulated and what is judged.

    Attributes
    ----------
    simulate : seed -> (truth, data)
        Truth by the name of each quantity.
    infer : (data, seed) -> draws
        Posterior draws, (draw,), by the same names; a name of the truth may be missing, another one is ignored.
    facts : dict
        All that the replicates depend on, JSON-able: a folder holds the replicates of one study only.

    Notes
    -----
    With more than one process both callables travel by pickle: instances or functions of an importable module.
    """

    simulate: Simulate
    infer: Infer
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Replicate:
    """One replicate of a study.

    Attributes
    ----------
    number : int
    names : tuple of str
        Quantities.
    truth : (quantity,)
    draws : (quantity, draw)
    seconds : float
    failure : str
        What went wrong; empty where nothing did, and then only are there quantities.
    """

    number: int
    names: tuple[str, ...]
    truth: FloatArray
    draws: FloatArray
    seconds: float
    failure: str = ""


def run_study(
    study: Study,
    folder: Path,
    replicates: int,
    *,
    processes: int = 1,
    progress: Callable[[Replicate], None] | None = None,
) -> list[Replicate]:
    """Return the replicates of a study, those in the folder read back and the others run.

    Replicate i is simulated and inferred with seed i, whatever the number of processes and the order in which they end.

    Parameters
    ----------
    study
        What is run.
    folder
        Where each replicate is kept, a file each.
    replicates
        Number of replicates in all.
    processes
        Processes that share the work, each single-threaded; with 1 it is done in this process.
    progress
        Told of every replicate that has been run.

    Raises
    ------
    InputError
        If the folder holds replicates of another study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_facts(study, folder)
    missing = [number for number in range(replicates) if not _path(folder, number).exists()]
    for replicate in _run(study, folder, missing, min(processes, len(missing))):
        if progress is not None:
            progress(replicate)
    return [read_replicate(folder, number) for number in range(replicates)]


def read_replicate(folder: Path, number: int) -> Replicate:
    """Read one replicate back."""
    with np.load(_path(folder, number), allow_pickle=False) as stored:
        return Replicate(
            int(stored["number"]),
            tuple(str(name) for name in stored["names"]),
            stored["truth"],
            stored["draws"],
            float(stored["seconds"]),
            str(stored["failure"]),
        )


def _path(folder: Path, number: int) -> Path:
    return folder / f"replicate_{number:05d}.npz"


def _check_facts(study: Study, folder: Path) -> None:
    """Write down what the folder's replicates depend on, or refuse a folder of another study."""
    facts = json.dumps(study.facts, sort_keys=True, indent=2, default=str) + "\n"
    file = folder / FACTS
    if not file.exists():
        file.write_text(facts, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != facts:
        raise InputError(
            "folder",
            "be new or hold replicates of this study",
            f'"{folder}" holds those of another',
            "Name a new one.",
        )


def _run(study: Study, folder: Path, numbers: list[int], processes: int) -> Iterator[Replicate]:
    """Run replicates and yield each as it ends."""
    if processes <= 1:
        yield from (_one(study, folder, number) for number in numbers)
        return
    # JAX is multi-threaded: a forked copy of a process that has used it may hang.
    context = get_context("spawn")
    with (
        _environment(_worker_settings(folder)),
        ProcessPoolExecutor(
            processes, mp_context=context, initializer=_adopt, initargs=(study, folder)
        ) as pool,
    ):
        tasks = [pool.submit(_adopted, number) for number in numbers]
        try:
            for task in as_completed(tasks):
                yield task.result()
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


_worker: list[tuple[Study, Path]] = []


def _adopt(study: Study, folder: Path) -> None:
    """Take over a study in a new process, once for all its replicates."""
    _worker[:] = [(study, folder)]


def _adopted(number: int) -> Replicate:
    study, folder = _worker[0]
    return _one(study, folder, number)


def _one(study: Study, folder: Path, number: int) -> Replicate:
    """Run one replicate and keep it."""
    begin = time.perf_counter()
    names: tuple[str, ...] = ()
    truths, draws, failure = np.zeros(0), np.zeros((0, 0)), ""
    try:
        truth, data = study.simulate(number)
        inferred = study.infer(data, number)
        names = tuple(name for name in truth if name in inferred)
        truths = np.array([truth[name] for name in names], dtype=np.float64)
        draws = np.stack([np.asarray(inferred[name], dtype=np.float64) for name in names])
    except Exception as error:  # a replicate that fails is reported, not hidden, and the others go on
        names, failure = (), f"{type(error).__name__}: {error}"
    replicate = Replicate(number, names, truths, draws, time.perf_counter() - begin, failure)
    _write(replicate, _path(folder, number))
    return replicate


def _write(replicate: Replicate, path: Path) -> None:
    """Write aside and rename: a kill leaves either the whole replicate or nothing of it."""
    aside = path.with_suffix(".part")
    with aside.open("wb") as stream:
        np.savez(
            stream,
            number=replicate.number,
            names=np.array(replicate.names, dtype=np.str_),
            truth=replicate.truth,
            draws=replicate.draws,
            seconds=replicate.seconds,
            failure=replicate.failure,
        )
    os.replace(aside, path)
