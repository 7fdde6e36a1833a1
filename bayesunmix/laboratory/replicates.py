"""Replicates of a simulation study: truths drawn, data simulated, draws inferred, one file each, over processes.

A study knows nothing of what it simulates: `simulate` makes a truth and data from a seed, `infer` makes draws from data
and a seed. A replicate that is done is a file, so a study that was stopped goes on where it was, and grows by asking
for more replicates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bayesunmix.config.cluster import AnyCluster
from bayesunmix.laboratory.kept import Form, kept

FloatArray = npt.NDArray[np.float64]
Simulate = Callable[[int], tuple[Mapping[str, float], Any]]
Infer = Callable[[Any, int], Mapping[str, FloatArray]]


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
    With more than one process both callables travel to the others by pickle.
    """

    simulate: Simulate
    infer: Infer
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
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
    cluster: AnyCluster | None = None,
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
        Workers on this machine that share the work, each single-threaded; with 1 it is done in this process.
    cluster
        Where the workers run in their place: the keys or the file of a table ``[cluster]``.
    progress
        Told of every replicate that has been run.

    Raises
    ------
    InputError
        If the folder holds replicates of another study.
    """
    return kept(
        partial(_run, study),
        range(replicates),
        folder,
        study.facts,
        FORM,
        processes=processes,
        cluster=cluster,
        progress=progress,
    )


def _run(study: Study, number: int) -> Replicate:
    """Run one replicate."""
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
    return Replicate(
        number=number,
        names=names,
        truth=truths,
        draws=draws,
        seconds=time.perf_counter() - begin,
        failure=failure,
    )


def _write(stream: IO[bytes], replicate: Replicate) -> None:
    np.savez(
        stream,
        number=replicate.number,
        names=np.array(replicate.names, dtype=np.str_),
        truth=replicate.truth,
        draws=replicate.draws,
        seconds=replicate.seconds,
        failure=replicate.failure,
    )


def _read(path: Path) -> Replicate:
    with np.load(path, allow_pickle=False) as stored:
        return Replicate(
            number=int(stored["number"]),
            names=tuple(str(name) for name in stored["names"]),
            truth=stored["truth"],
            draws=stored["draws"],
            seconds=float(stored["seconds"]),
            failure=str(stored["failure"]),
        )


FORM = Form("replicate_{:05d}.npz", _write, _read)
