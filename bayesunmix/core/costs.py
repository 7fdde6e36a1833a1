"""What a stage of a run costs: time on the clock, processor time, memory."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage took.

    Attributes
    ----------
    seconds
        On the clock.
    processor_s
        Processor time of all threads, and of the processes that it started and that have ended.
    peak_bytes
        Most memory that the process has held at once, from its start to the end of the stage.
    """

    seconds: float
    processor_s: float
    peak_bytes: int


class Meter:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._seconds, self._processor_s = time.perf_counter(), _processor_s()

    def read(self) -> Cost:
        """Return what has been spent since."""
        return Cost(
            seconds=time.perf_counter() - self._seconds,
            processor_s=_processor_s() - self._processor_s,
            peak_bytes=peak_bytes(),
        )


def _processor_s() -> float:
    """Processor time of this process and of its children that have ended, user and system together."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def peak_bytes() -> int:
    """Return the most memory that this process has held at once, in bytes."""
    # Linux keeps it for each program; what `getrusage` says there includes the program that started this one.
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
