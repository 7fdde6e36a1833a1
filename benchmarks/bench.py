"""What every benchmark shares: rows of the table, how a group is called, and programs that are timed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from bayesunmix.laboratory.replicates import Replicate

# The command line, free of whatever folder this was started in.
BAYESUNMIX = (sys.executable, "-P", "-m", "bayesunmix")
# Exit status of a run that wrote everything; the second says not to trust it.
FINISHED = (0, 3)
GIGABYTE = 1e9
# Between two looks at the memory of a program and what it has started.
LOOK_S = 0.5


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
        Processor time of all its threads, and of the processes that it started and waited for; on a busy machine the
        steadier figure.
    peak_bytes
        Largest resident memory of one of these processes.
    together_bytes
        Largest memory of all of them at one time, what they share counted once, as far as looks twice a second
        show it; never less than `peak_bytes`.
    others_seconds
        Processor time that everything else on the machine took meanwhile.
    """

    code: int
    stdout: str = field(repr=False)
    stderr: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    together_bytes: int = 0
    others_seconds: float = 0.0

    @property
    def load(self) -> float:
        """Cores that everything else on the machine kept busy meanwhile."""
        return self.others_seconds / self.seconds


def run_program(
    arguments: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    """Run a program to its end and measure it.

    Notes
    -----
    Linux counts the memory of the process that starts a program as the program's own until it has loaded, so whoever
    measures memory must be small itself: benchmarks that load JAX come last.
    """
    with TemporaryFile() as out, TemporaryFile() as err:
        begin, busy = time.perf_counter(), _busy_seconds()
        process = subprocess.Popen(arguments, stdout=out, stderr=err, cwd=cwd, env=env)
        look = _Look(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        together = look.end()
        said, complained = (_read(stream) for stream in (out, err))
    unit = 1 if sys.platform == "darwin" else 1024
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit
    return Finished(
        code=process.returncode,
        stdout=said,
        stderr=complained,
        seconds=seconds,
        cpu_seconds=cpu,
        peak_bytes=peak,
        together_bytes=max(together, peak),
        others_seconds=max(_busy_seconds() - busy - cpu, 0.0),
    )


class _Look:
    """A thread that looks at the memory of a process and of all that it has started."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._ended = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Return the largest sum that was seen, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            with suppress(psutil.NoSuchProcess):
                first = psutil.Process(self._pid)
                every = [first, *first.children(recursive=True)]
                self._most = max(self._most, sum(_held_bytes(process) for process in every))


def _held_bytes(process: psutil.Process) -> int:
    """Memory of a process, its part of what it shares with others; all of that where the system does not tell."""
    with suppress(psutil.Error):
        held = process.memory_full_info()
        return int(getattr(held, "pss", held.rss))
    return 0


def _busy_seconds() -> float:
    """Processor time that all programs have taken since the machine started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    # Linux counts what guests of the machine take twice.
    return float(sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


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
