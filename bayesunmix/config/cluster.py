"""Table ``[cluster]``, in a file of its own: where the worker processes of a batch or a study run.

It says nothing of maps, and no number of a result depends on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union

from bayesunmix.config.toml_file import read_toml
from bayesunmix.config.validated import unknown_key, validated
from bayesunmix.config.values import Text, Whole
from bayesunmix.core.errors import InputError, check_path, shown
from bayesunmix.core.limits import Between

FIELD = "--cluster"
Kind = Literal["local", "scheduler", "slurm", "pbs", "sge", "lsf", "htcondor", "moab", "oar"]
# What each kind reads; all the others are batch systems.
OF_LOCAL = ("workers", "memory_GB")
OF_SCHEDULER = ("address",)
OF_JOBS = (
    *("jobs", "cores", "memory_GB", "walltime", "queue", "account"),
    *("interface", "directives", "prologue", "options"),
)
_WALLTIME = re.compile(r"(\d+-)?\d{1,4}:\d\d(:\d\d)?")
_MEMORY = Between(0.5, 1e5)


AnyCluster = Union["ClusterConfig", Mapping[str, Any], str, "os.PathLike[str]"]
"""A cluster in any of these forms is as good as the table: a dictionary of its keys, the name of the file."""


@validated("cluster")
@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Table ``[cluster]``.

    Parameters
    ----------
    kind
        ``local``: worker processes on this machine; ``scheduler``: whatever works for a Dask scheduler that runs
        already; otherwise the batch system that is asked for jobs.
    workers
        Worker processes on this machine; None for one for each core, as far as memory goes.
    memory_GB
        Memory of each job, or of all workers on this machine together, in units of 1e9 bytes; the workers share it.
    address
        Of the scheduler, e.g. ``tcp://10.0.0.5:8786``.
    jobs
        How many jobs are asked for.
    cores
        Cores of a job, with a worker on each.
    walltime
        Longest time of a job, e.g. ``04:00:00``.
    queue, account
        The queue or partition of the jobs, and who pays for them.
    interface
        Network interface by which jobs reach this machine, e.g. ``ib0``.
    directives
        Further lines of the job script's head, e.g. ``--constraint=skylake``.
    prologue
        Commands of the job script before the workers start, e.g. ``module load python``.
    options
        Anything else that the class of the batch system in dask-jobqueue takes.

    Raises
    ------
    InputError
        If something that the kind needs is missing, or it would not read something that is given.
    """

    kind: Kind = "local"
    workers: Annotated[int, Whole(1, 10_000)] | None = None
    memory_GB: Annotated[float, _MEMORY] | None = None
    address: Text | None = None
    jobs: Annotated[int, Whole(1, 10_000)] | None = None
    cores: Annotated[int, Whole(1, 1024)] | None = None
    walltime: Text | None = None
    queue: Text | None = None
    account: Text | None = None
    interface: Text | None = None
    directives: tuple[Text, ...] = ()
    prologue: tuple[Text, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read = {"local": OF_LOCAL, "scheduler": OF_SCHEDULER}.get(self.kind, OF_JOBS)
        for name in dict.fromkeys((*OF_LOCAL, *OF_SCHEDULER, *OF_JOBS)):
            if getattr(self, name) and name not in read:
                must = f'be left out where kind is "{self.kind}"'
                raise InputError(f".{name}", must, "is given", f"It reads {', '.join(read)}.")
        needed = {"local": (), "scheduler": OF_SCHEDULER}.get(self.kind, ("jobs", "cores", "memory_GB"))
        for name in needed:
            if not getattr(self, name):
                raise InputError(f".{name}", f'be given where kind is "{self.kind}"', "is missing")
        if self.walltime is not None and not _WALLTIME.fullmatch(self.walltime):
            raise InputError(".walltime", "be a time such as 04:00:00", f"is {shown(self.walltime)}")

    @classmethod
    def of(cls, value: object) -> Self:
        """Return what is meant: a table already checked, a dictionary of its keys, the name of a file, or None.

        Raises
        ------
        InputError
            If it is none of these, or a setting cannot be used.
        """
        if isinstance(value, cls):
            return value
        if value is None:
            return cls()
        if isinstance(value, Mapping):
            return cls(**{str(key): entry for key, entry in value.items()})
        return cls.from_toml(check_path("cluster", value))

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read the table ``[cluster]`` of a TOML file that holds nothing else.

        Raises
        ------
        InputError
            If the file cannot be read, or holds something that cannot be used.
        """
        data = read_toml(path, FIELD)
        for key in data:
            if key != "cluster":
                raise unknown_key(key, ["cluster"])
        if not isinstance(data.get("cluster"), dict):
            raise InputError(FIELD, "be a file with a table [cluster]", f'"{path}" has none')
        return cls(**data["cluster"])
