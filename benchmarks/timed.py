"""Commands of one or two checkouts, timed in environments that differ in nothing but what is said here."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import BAYESUNMIX, FINISHED, Finished, last_line, run_program
from machine import commit_of

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).resolve().parent / "watched_worker.py"
# Where JAX keeps compiled programs, and from what size and time on.
_CACHE = ("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")
# The worker imports what lies beside it.
_PATHS = ("PYTHONSAFEPATH",)


def environment(programs: Path | None) -> dict[str, str]:
    """Return the environment of a run that keeps its compiled programs in a folder; for None, where it does by itself.

    What JAX is told in the environment comes before the cache of `bayesunmix.inference.program_cache`.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith((*_CACHE, *_PATHS))}
    if programs is None:
        return own
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return own | kept


@dataclass(frozen=True)
class Checkout:
    """Code that is timed.

    Parameters
    ----------
    commit
        Which; empty where nothing tells.
    path
        Folder that holds its package as a wheel has it, `models` and `inference` inside; None for what is installed.
    """

    commit: str
    path: Path | None = None

    @classmethod
    def installed(cls) -> Checkout:
        """Return the code that this Python imports."""
        return cls(commit_of(ROOT))

    @classmethod
    def of(cls, folder: Path, links: Path) -> Checkout:
        """Return the code of another checkout, through links that are made in a new folder."""
        package = links / "bayesunmix"
        package.mkdir(parents=True)
        parts = [*(folder / "bayesunmix").iterdir(), folder / "models", folder / "inference"]
        for part in parts:
            (package / part.name).symlink_to(part.resolve())
        return cls(commit_of(folder), links)

    def environment(self, programs: Path | None) -> dict[str, str]:
        """Return the environment in which its commands run."""
        own = environment(programs)
        return own if self.path is None else own | {"PYTHONPATH": str(self.path)}


@dataclass(frozen=True)
class Stage:
    """What a stage took; None where the code that is timed does not tell."""

    seconds: float
    processor_s: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Timed:
    """A command that has ended, and its output folder."""

    program: Finished
    out: Path

    @property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        record: dict[str, Any] = json.loads((self.out / "run.json").read_text(encoding="utf-8"))
        return record

    @property
    def stages(self) -> dict[str, Stage]:
        """What each stage took, by its name."""
        return stages_of(self.record, (self.out / "run.log").read_text(encoding="utf-8"))


# What is searched anew without what a pass has set aside, as often as that may be.
_PASSES = {
    f"{name}_{number}": f"{title}, pass {number}"
    for number in (2, 3, 4)
    for name, title in (("mode", "mode"), ("misfit", "regions of residual"))
}
# Stages in their order: name in the record, and beginning of the line in the log.
STAGES = {
    "reading": "reading",
    "preparation": "preparation",
    "phase_number": "number of phases",
    "starts": "starting points",
    "mode": "mode",
    "misfit": "regions of residual",
    **_PASSES,
    "further_phase": "further phase",
    "draws": "draws (",
    "tile_likelihood": "likelihood of areas",
    "heterogeneity": "spatial heterogeneity",
    "discrepancy": "misfit of the spectra",
    "rotations": "rotations",
    "second_maximum": "draws at the second maximum",
    "pixels": "pixels",
    "result": "result",
    "files": "files",
}


def stages_of(record: dict[str, Any], log: str) -> dict[str, Stage]:
    """Return what each stage took: from the record where it tells, else from the log, which knows seconds alone."""
    costs, found = record.get("costs", {}), {}
    for name, title in STAGES.items():
        said = re.findall(rf"^\S+ INFO +{re.escape(title)}.*?: ([\d.]+) s$", log, flags=re.MULTILINE)
        if name in costs:
            cost = costs[name]
            found[name] = Stage(cost["seconds"], cost["processor_s"], cost["peak_bytes"])
        elif said:
            found[name] = Stage(float(said[-1]))
    return found


def timed(arguments: Sequence[str | Path], out: Path, checkout: Checkout, programs: Path | None) -> Timed:
    """Run a command of the command line to its end, into a new folder.

    Raises
    ------
    RuntimeError
        If it does not finish.
    """
    command = (*BAYESUNMIX, *arguments, "--out", out)
    program = run_program(command, cwd=out.parent, env=checkout.environment(programs))
    if program.code not in FINISHED:
        raise RuntimeError(f"{arguments[0]}: exit {program.code}, {last_line(program.stderr)}")
    return Timed(program, out)


def watched(job: dict[str, Any], programs: Path | None, **variables: str) -> tuple[Finished, dict[str, Any]]:
    """Run commands in one process that is watched, see `watched_worker`; its own cost, and its answer.

    Raises
    ------
    RuntimeError
        If it does not finish.
    """
    program = run_program(
        (sys.executable, WORKER, json.dumps(job, default=str)), env=environment(programs) | variables
    )
    if program.code != 0:
        raise RuntimeError(f"{WORKER.name}: exit {program.code}, {last_line(program.stderr)}")
    return program, json.loads(last_line(program.stdout))
