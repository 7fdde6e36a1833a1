"""What every benchmark shares: rows of the table, how a group is called, and programs that are timed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from bayesunmix.laboratory.replicates import Replicate

# The command line, free of whatever folder this was started in.
BAYESUNMIX = (sys.executable, "-P", "-m", "bayesunmix")
# Exit status of a run that wrote everything; the second says not to trust it.
FINISHED = (0, 3)
GIGABYTE = 1e9


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    what
        What was looked at.
    asked
        The figure that is asked for.
    measured
        The figure that was measured.
    holds
        Whether the one meets the other; None where nothing is asked.
    """

    what: str
    asked: str
    measured: str
    holds: bool | None = None


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    Parameters
    ----------
    data
        Folder of measured maps and reference phantoms; None where there is none.
    work
        Folder for what the benchmarks write.
    quick
        Fewer seeds.
    espm_python
        Interpreter of an environment that holds espm; None where there is none.
    processes
        Processes that share the replicates of a study.
    """

    data: Path | None
    work: Path
    quick: bool = False
    espm_python: Path | None = None
    processes: int = 1

    def file(self, name: str) -> Path:
        """Return a file of the data folder.

        Raises
        ------
        FileNotFoundError
            If it is not there: the row says so.
        """
        if self.data is None:
            raise FileNotFoundError(f"{name}: give its folder by --data")
        path = self.data / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there")
        return path

    def folder(self, name: str) -> Path:
        """Return a new empty folder for what a benchmark writes."""
        path = self.work / name
        path.mkdir(parents=True)
        return path


@dataclass(frozen=True)
class Finished:
    """A program that has ended.

    Parameters
    ----------
    code
        Exit status; negative for a signal.
    stdout, stderr
        What it said.
    seconds
        Wall time.
    cpu_seconds
        Processor time of all its threads; on a busy machine the steadier figure.
    peak_bytes
        Largest resident memory.
    """

    code: int
    stdout: str = field(repr=False)
    stderr: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_program(arguments: Sequence[str | Path], cwd: Path | None = None) -> Finished:
    """Run a program to its end and measure it.

    Notes
    -----
    Linux counts the memory of the process that starts a program as the program's own until it has loaded, so whoever
    measures memory must be small itself: benchmarks that load JAX come last.
    """
    with TemporaryFile() as out, TemporaryFile() as err:
        begin = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=out, stderr=err, cwd=cwd)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        said, complained = (_read(stream) for stream in (out, err))
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = usage.ru_utime + usage.ru_stime
    return Finished(process.returncode, said, complained, seconds, cpu, usage.ru_maxrss * unit)


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def told(replicate: Replicate) -> None:
    """Say that a replicate of a study is done."""
    print(f"  replicate {replicate.number}: {replicate.seconds:.0f} s {replicate.failure}", flush=True)


def last_line(text: str) -> str:
    """Return the last line that says something, for a row that reports a failure."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing on stderr"
