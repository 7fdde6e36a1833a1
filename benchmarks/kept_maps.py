"""Whole runs on simulated maps, over processes; what each gave is kept, so that a study goes on where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesunmix.core.whole_file import whole_file
from bayesunmix.inference.processes import claim_folder, over_processes


@dataclass(frozen=True)
class Looked:
    """What is kept of one map.

    Parameters
    ----------
    table
        Intervals beside the truth.
    problems
        Why the run says not to trust it.
    facts
        Whatever else a study looks at, JSON-able.
    """

    table: pd.DataFrame
    problems: Sequence[str] = ()
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class KeptMap:
    """One map of a study.

    Parameters
    ----------
    seed
        Of the map and of the run.
    seconds
        Wall time.
    looked
        What it gave; None where it failed.
    failure
        How it failed.
    """

    seed: int
    seconds: float
    looked: Looked | None
    failure: str = ""


def kept_maps(
    look: Callable[[int], Looked],
    seeds: Sequence[int],
    folder: Path,
    study: Mapping[str, Any],
    processes: int = 1,
) -> list[KeptMap]:
    """Return what every seed gives: those that the folder holds are read back, the others run.

    Parameters
    ----------
    look
        Simulates, unmixes and judges the map of a seed; with several processes it travels by pickle.
    seeds
        Of the maps.
    folder
        A file for each map.
    study
        What the maps depend on, JSON-able.
    processes
        Each single-threaded.
    """
    claim_folder(folder, study)
    missing = [seed for seed in seeds if not _file(folder, seed).exists()]
    for seed in over_processes(partial(_one, look, folder), missing, folder, processes):
        print(f"  {_line(_read(folder, seed))}", flush=True)
    return [_read(folder, seed) for seed in seeds]


def _file(folder: Path, seed: int) -> Path:
    return folder / f"map_{seed:05d}.json"


def _line(kept: KeptMap) -> str:
    """Say how a map went."""
    begin = f"seed {kept.seed}, {kept.seconds:.0f} s: "
    if kept.looked is None:
        return begin + kept.failure
    inside = kept.looked.table["inside"].dropna().astype(bool)
    return begin + "; ".join([f"{inside.sum()} of {len(inside)} inside", *kept.looked.problems])


def _one(look: Callable[[int], Looked], folder: Path, seed: int) -> int:
    """Run one map and keep it; one that fails is kept as a failure, and the others go on."""
    begin = time.perf_counter()
    stored: dict[str, Any] = {"seed": seed}
    try:
        found = look(seed)
        stored["looked"] = {
            "columns": list(found.table.columns),
            "rows": found.table.to_numpy(dtype=object).tolist(),
            "problems": list(found.problems),
            "facts": dict(found.facts or {}),
        }
    except Exception as error:  # reported in the table of the study
        stored["failure"] = f"{type(error).__name__}: {error}"
    stored["seconds"] = time.perf_counter() - begin
    with whole_file(_file(folder, seed)) as stream:
        stream.write(json.dumps(stored, default=_plain).encode())
    return seed


def _plain(value: Any) -> Any:  # noqa: ANN401
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _read(folder: Path, seed: int) -> KeptMap:
    stored = json.loads(_file(folder, seed).read_text(encoding="utf-8"))
    looked = stored.get("looked")
    if looked is None:
        return KeptMap(seed, stored["seconds"], None, stored["failure"])
    table = pd.DataFrame(looked["rows"], columns=looked["columns"])
    return KeptMap(seed, stored["seconds"], Looked(table, tuple(looked["problems"]), looked["facts"]))
