"""Worker processes: fresh ones, with a single thread each, that end with whoever started them.

Fresh, because JAX is multi-threaded, and a forked copy of a process that has used it may hang. With a single thread,
because NumPyro keeps the handlers of a model in one stack for the whole process, and because maps side by side use
cores better than threads inside one. A worker that needs more memory than its share is ended by its guardian process
(Dask's nanny) and started again; what it was working at is tried once more, and then is a failure with that reason.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from bayesunmix.config.cluster import ClusterConfig
from bayesunmix.core.errors import InputError, suggest
from bayesunmix.core.memory import available_bytes

if TYPE_CHECKING:
    from distributed import Client

# A scheduler that has not answered by then does not.
ANSWER_SECONDS = 10.0
# Imports, compiled programs and a small map; with less, workers would be started only to be ended.
LEAST_BYTES = 2e9
# Of what is free, what the workers together may take; the rest is for their guardians and the files in the cache.
SHARE = 0.9
_CLASSES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
    "moab": "MoabCluster",
    "oar": "OARCluster",
}
# What dask-jobqueue calls the account of these.
_ACCOUNT = dict.fromkeys(("sge", "lsf", "oar"), "project")
# Memory in use is a run's own, which no spilling frees, and a worker that pauses at it would never go on.
_OWN_MEMORY = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")}
_SETTINGS = {
    **_OWN_MEMORY,
    # Dask would give it at once to a worker that is at something else; `spread` tries it again.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.multiprocessing-method": "spawn",
    # A task may start processes of its own.
    "distributed.worker.daemon": False,
}
_ONE_THREAD = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}


@contextmanager
def workers(config: ClusterConfig, most: int, environment: Mapping[str, str]) -> Iterator[Client]:
    """Give a client of worker processes, which end when the context does, however that is.

    Parameters
    ----------
    config
        Where they run.
    most
        More would have nothing to do.
    environment
        Variables of the workers; what the user has set stays.

    Raises
    ------
    InputError
        If a scheduler does not answer, or the batch system or dask-jobqueue is not there.
    """
    import dask.config
    import distributed  # noqa: F401 - adds its own settings, of which some are replaced for a while

    own = {name: value for name, value in {**_ONE_THREAD, **environment}.items() if name not in os.environ}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        stack.enter_context(_unscripted())
        stack.enter_context(_quiet())
        if config.kind == "scheduler":
            yield stack.enter_context(_connected(str(config.address)))
            return
        cluster = _local(config, most, own) if config.kind == "local" else _queued(config, most, own)
        yield stack.enter_context(_client_of(stack.enter_context(cluster)))


def _local(config: ClusterConfig, most: int, environment: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Start workers on this machine, which nobody on another one can reach."""
    from distributed import LocalCluster

    free = SHARE * available_bytes() if config.memory_GB is None else 1e9 * config.memory_GB
    n_workers = min(config.workers or _as_many_as_fit(free), most)
    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        memory_limit=int(free / n_workers),
        env=dict(environment),
        host="127.0.0.1",
        # The usual port may be taken.
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


def _as_many_as_fit(free: float) -> int:
    """Return how many workers this machine has cores and memory for."""
    from dask.system import CPU_COUNT

    return max(min(CPU_COUNT, int(free / LEAST_BYTES)), 1)


def _queued(config: ClusterConfig, most: int, environment: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Ask a batch system for jobs, and start the scheduler that their workers look for."""
    try:
        kind = getattr(importlib.import_module("dask_jobqueue"), _CLASSES[config.kind])
    except ImportError:
        remedy = "Run pip install 'bayesunmix[cluster]'."
        raise InputError("cluster.kind", "be one that is installed", "needs dask-jobqueue", remedy) from None
    given = job_options(config, environment)
    known = {name for one in (*kind.job_cls.__mro__, kind) for name in inspect.signature(one).parameters}
    for name in given:
        if name not in known:
            home = "cluster.options" if name in config.options else "cluster"
            must = f"be an option of dask-jobqueue's {kind.__name__}"
            raise InputError(f"{home}.{name}", must, "is none", suggest(name, known))
    try:
        cluster = kind(**given)
    except (TypeError, ValueError) as error:
        raise InputError("cluster", f"suit dask-jobqueue's {kind.__name__}", f"does not: {error}") from None
    cluster.scale(jobs=min(config.jobs or 1, most))
    return cluster


def job_options(config: ClusterConfig, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what dask-jobqueue's class takes: what the table names, with a worker on each core of a job."""
    dask = {f"DASK_{name.upper().replace('.', '__')}": str(value) for name, value in _OWN_MEMORY.items()}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in {**environment, **dask}.items()]
    plain = {
        "queue": config.queue,
        "walltime": config.walltime,
        _ACCOUNT.get(config.kind, "account"): config.account,
        "interface": config.interface,
    }
    return {
        "cores": config.cores,
        "processes": config.cores,
        "memory": f"{config.memory_GB:g}GB",
        "job_name": "bayesunmix",
        "scheduler_options": {"dashboard_address": ":0"},
        "job_extra_directives": list(config.directives),
        "job_script_prologue": [*config.prologue, *exports],
        **{name: value for name, value in plain.items() if value is not None},
        **config.options,
    }


@contextmanager
def _client_of(cluster: Any) -> Iterator[Client]:  # noqa: ANN401 - the classes have no common type
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        yield client


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Give a client of a scheduler that runs already, and leave it running."""
    from distributed import Client

    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        must = "be the address of a Dask scheduler that answers, such as tcp://10.0.0.5:8786"
        why = f'"{address}" does not within {ANSWER_SECONDS:g} s'
        got = f'is "{address}": {error}' if isinstance(error, ValueError) else why
        raise InputError("cluster.address", must, got) from None
    with client:
        yield client


@contextmanager
def _unscripted() -> Iterator[None]:
    """Let fresh processes not run the user's script again, which then needs no ``if __name__ == "__main__"``.

    Python's spawned processes import whatever was started, for functions that are defined in it; these travel by value.
    """
    main = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.update(dict.fromkeys(kept))
    try:
        yield
    finally:
        main.update(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own log off the screen: what goes wrong is said where it is known which work it was."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
