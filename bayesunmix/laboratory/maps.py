"""Whole runs on simulated maps: how often the intervals that they report hold the truth.

Each seed has its own map: layout, film, counts and, where ``simulate.calibration_error`` says so, line strengths off by
a draw of the prior that the inference assumes. A true zero is held when its bound, which begins at 0, holds it: always,
unless the element is taken for detected.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from bayesunmix.config.cluster import AnyCluster
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.demo import beside_truth
from bayesunmix.laboratory.kept import Form, kept
from bayesunmix.results.result import Result
from bayesunmix.simulation.simulate import KnownComposition, Source, Truth, simulate_map

KEYS = ["quantity", "phase", "element"]

Run = Callable[[int], tuple[Result, Truth]]
Intervals = Callable[[Result, Truth], pd.DataFrame]


@dataclass(frozen=True)
class Findings:
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


@dataclass(frozen=True, kw_only=True)
class KeptMap:
    """One map of a study.

    Parameters
    ----------
    seed
        Of the map and of the run.
    seconds
        Wall time.
    findings
        What it gave; None where it failed.
    failure
        How it failed.
    """

    seed: int
    seconds: float
    findings: Findings | None
    failure: str = ""


def coverage_of(
    run: RunConfig | Run,
    seeds: Sequence[int],
    folder: Path,
    *,
    intervals: Intervals | None = None,
    facts: Mapping[str, Any] | None = None,
    processes: int = 1,
    cluster: AnyCluster | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Simulate and unmix a map for every seed; see `held_share` for what to count.

    Parameters
    ----------
    run
        A configuration with a ``[simulate]`` table, or what makes result and truth of a seed.
    seeds
        Of the maps and of the runs.
    folder
        A file for each map: the same call goes on where it was stopped.
    intervals
        Puts the intervals of a result beside the truth; `reported_intervals` when left out.
    facts
        What the maps depend on, JSON-able; the configuration itself when left out.
    processes
        Workers on this machine, each single-threaded.
    cluster
        Where the workers run in their place: the keys or the file of a table ``[cluster]``.

    Returns
    -------
    table
        Columns quantity, phase, element, truth, lower, upper, inside, seed.
    failures
        One sentence for each seed that gave no result, or that says itself not to trust it.
    """
    if isinstance(run, RunConfig):
        facts = {"configuration": str(run)} if facts is None else facts
        run = partial(one_run, run)
    look = _Comparison(run, reported_intervals if intervals is None else intervals)
    return gathered(kept_maps(look, seeds, folder, facts or {}, processes, cluster))


@dataclass(frozen=True)
class _Comparison:
    """Unmixes the map of a seed and puts the intervals beside the truth."""

    run: Run
    intervals: Intervals

    def __call__(self, seed: int) -> Findings:
        result, truth = self.run(seed)
        return Findings(self.intervals(result, truth), result.problems)


def one_run(
    config: RunConfig,
    seed: int,
    drawn: RunConfig | None = None,
    departure: Callable[[Source, int], Source] | None = None,
) -> tuple[Result, Truth]:
    """Simulate one map and unmix it.

    Parameters
    ----------
    config
        What the inference is told.
    seed
        Seed of map and run.
    drawn
        What the map is drawn from; as `config` says when left out.
    departure
        Physics that no configuration can say, given the nominal physics and the seed, see
        `bayesunmix.simulation.simulate.simulate_map`.
    """
    from bayesunmix.pipeline import run_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        departed = None if departure is None else lambda source: departure(source, seed)
        simulated = simulate_map(drawn or config, seed, departure=departed)
        result = run_image(simulated.image, config, None, seed=seed, progress=False)
    return result, simulated.truth


def reported_intervals(result: Result, truth: KnownComposition) -> pd.DataFrame:
    """Return the reported intervals beside the truth; of each pair of phases one order, as the other says the same."""
    table = beside_truth(result, truth)
    order = {name: number for number, name in enumerate(truth.phases)}
    twice = [
        quantity == "partition" and order[phase.split("/")[0]] < order[phase.split("/")[1]]
        for quantity, phase in zip(table["quantity"], table["phase"], strict=True)
    ]
    return table[~np.array(twice)]


def held_share(table: pd.DataFrame) -> pd.DataFrame:
    """Count how many intervals hold the truth, and how wide they are, by quantity, phase and element.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, phase, element, truth, held, of, and width (median of width over truth).
    """
    known = table.dropna(subset=["inside"]).copy()
    known["inside"] = known["inside"].astype(bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = (known["upper"] - known["lower"]) / known["truth"]
    known["width"] = width.where(np.isfinite(width))
    grouped = known.groupby(KEYS, sort=False)
    return grouped.agg(
        truth=("truth", "first"), held=("inside", "sum"), of=("inside", "size"), width=("width", "median")
    ).reset_index()


def kept_maps(
    look: Callable[[int], Findings],
    seeds: Sequence[int],
    folder: Path,
    facts: Mapping[str, Any],
    processes: int = 1,
    cluster: AnyCluster | None = None,
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
    facts
        What the maps depend on, JSON-able.
    processes
        Workers on this machine, each single-threaded.
    cluster
        Where the workers run in their place: the keys or the file of a table ``[cluster]``.
    """

    def progress(found: KeptMap) -> None:
        print(f"  {_line(found)}", flush=True)

    return kept(
        partial(_one, look),
        seeds,
        folder,
        facts,
        FORM,
        processes=processes,
        cluster=cluster,
        progress=progress,
    )


def gathered(maps: Sequence[KeptMap]) -> tuple[pd.DataFrame, list[str]]:
    """Return the intervals of all maps, and what failed: see `coverage_of`."""
    failures = [f"seed {kept.seed}: {kept.failure}" for kept in maps if kept.findings is None]
    found = [(kept.seed, kept.findings) for kept in maps if kept.findings is not None]
    failures += [f"seed {seed}: {problem}" for seed, findings in found for problem in findings.problems]
    tables = [findings.table.assign(seed=seed) for seed, findings in found]
    empty = pd.DataFrame(columns=[*KEYS, "inside", "seed"])
    return pd.concat(tables, ignore_index=True) if tables else empty, failures


def _line(found: KeptMap) -> str:
    """Say how a map went."""
    begin = f"seed {found.seed}, {found.seconds:.0f} s: "
    if found.findings is None:
        return begin + found.failure
    inside = found.findings.table["inside"].dropna().astype(bool)
    return begin + "; ".join([f"{inside.sum()} of {len(inside)} inside", *found.findings.problems])


def _one(look: Callable[[int], Findings], seed: int) -> KeptMap:
    """Run one map; one that fails is kept as a failure, and the others go on."""
    begin = time.perf_counter()
    findings, failure = None, ""
    try:
        findings = look(seed)
    except Exception as error:  # reported in the table of the study
        failure = f"{type(error).__name__}: {error}"
    return KeptMap(seed=seed, seconds=time.perf_counter() - begin, findings=findings, failure=failure)


def _write(stream: IO[bytes], found: KeptMap) -> None:
    stored: dict[str, Any] = {"seed": found.seed, "seconds": found.seconds, "failure": found.failure}
    if found.findings is not None:
        stored["findings"] = {
            "columns": list(found.findings.table.columns),
            "rows": found.findings.table.to_numpy(dtype=object).tolist(),
            "problems": list(found.findings.problems),
            "facts": dict(found.findings.facts or {}),
        }
    stream.write(json.dumps(stored, default=_plain).encode())


def _plain(value: Any) -> Any:  # noqa: ANN401
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _read(path: Path) -> KeptMap:
    stored = json.loads(path.read_text(encoding="utf-8"))
    found = stored.pop("findings", None)
    if found is None:
        return KeptMap(**stored, findings=None)
    table = pd.DataFrame(found["rows"], columns=found["columns"])
    return KeptMap(**stored, findings=Findings(table, tuple(found["problems"]), found["facts"]))


FORM = Form("map_{:05d}.json", _write, _read)
