"""Table ``[compute]``: what a run may take of the machine. No number of a result depends on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from bayesunmix.config.validated import validated
from bayesunmix.core.errors import InputError, check_integer, shown
from bayesunmix.core.limits import Between

# Imports, compiled programs and the model of a small map take nearly a gigabyte by themselves.
LEAST_MEMORY_GB, MOST_MEMORY_GB = 1.0, 1e5
# More processes than any machine runs.
MOST_PROCESSES = 100_000
LONGEST_WAIT_S = 86_400.0
AUTO = "auto"
# The programs of a run take some 10 MB, and most maps share them.
PROGRAM_CACHE_GB = 1.0


@validated("compute")
@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Table ``[compute]``.

    Parameters
    ----------
    memory_limit_GB
        Most memory that the run may hold, in units of 1e9 bytes; None for what the machine has left.
    program_cache_GB
        Most that compiled programs may take of the user's cache folder, in units of 1e9 bytes; 0 keeps none. JAX's own
        settings, such as ``JAX_COMPILATION_CACHE_DIR``, come first.
    distributed
        How the processes of one fit find each other: ``auto`` where they were started by SLURM, by Open MPI or on a
        cloud TPU, else ``host:port`` of the first of them. None for a run in one process.
    processes
        How many there are; None where what started them tells.
    process
        Number of this one, from 0; None where what started it tells.
    join_timeout_s
        How long they wait for one another in the beginning, in seconds.

    Raises
    ------
    InputError
        If the address is none, or the numbers do not go together.
    """

    memory_limit_GB: Annotated[float, Between(LEAST_MEMORY_GB, MOST_MEMORY_GB)] | None = None
    program_cache_GB: Annotated[float, Between(0.0, MOST_MEMORY_GB)] = PROGRAM_CACHE_GB
    distributed: Literal["auto"] | str | None = None
    processes: int | None = None
    process: int | None = None
    join_timeout_s: Annotated[float, Between(1.0, LONGEST_WAIT_S)] = 300.0

    def __post_init__(self) -> None:
        for name in ("processes", "process"):
            value = getattr(self, name)
            if value is None:
                continue
            if self.distributed is None:
                remedy = 'Set `compute.distributed` too: "auto", or the address of the first process.'
                raise InputError(name, "go with `compute.distributed`", "stands alone", remedy)
            check_integer(name, value, low=0 if name == "process" else 1, high=MOST_PROCESSES)
        if self.distributed is None:
            return
        if self.distributed != AUTO:
            _check_address(self.distributed)
            if self.processes is None:
                must = "be given beside an address in `compute.distributed`"
                raise InputError("processes", must, "is missing")
        if self.processes is not None and self.process is not None and self.process >= self.processes:
            must = f"be below `compute.processes`, from 0 to {self.processes - 1}"
            raise InputError("process", must, f"is {self.process}")


def _check_address(text: str) -> None:
    """Refuse what is no ``host:port``."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]", host) or not (
        port.isdecimal() and 0 < int(port) < 65536
    ):
        raise InputError("distributed", 'be "auto" or host:port of the first process', f"is {shown(text)}")
