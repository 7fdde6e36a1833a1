"""Several processes, on one host or on many, that compute one result together through `jax.distributed`.

Every process runs the same program on the same map in lock step, and the devices of all hold the pixels of the joint
fit (`bayesunmix.inference.sharding`). What is not in that sum every process computes for itself; what only one of them
knows, a file of the first or the pixels of each, is exchanged here, in the same order everywhere. With one process all
of this is the identity.

An error before the fit travels by the exchange that comes next, so that all processes end by it. In the fit itself,
where the devices wait for each other, a process that is gone shows as a lost connection.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError

Array = npt.NDArray[Any]

FIELD = "compute.distributed"
# Exchanged bytes go in pieces of two sizes, each with a program of its own.
SMALL, LARGE = 1 << 10, 1 << 22
_READY, _FAILED = 0, 1
LOST = "another process of this run has ended, or cannot be reached any more"
# What errors of a lost connection say: Gloo between CPUs, NCCL between GPUs, and the service that counts processes.
_LOSSES = ("Gloo", "NCCL", "coordination service", "heartbeat")


class FailedElsewhereError(RuntimeError):
    """Another process of this run failed by something that is no fault of the input."""


# Set when all processes know that they end here.
_parted = threading.Event()


def number() -> int:
    """Return how many processes compute together: 1 where `jax.distributed` was not initialised."""
    if "jax" not in sys.modules:
        return 1
    import jax

    # Asked of one process alone, the number would make JAX look for devices.
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Return which of them this is, from 0."""
    if number() == 1:
        return 0
    import jax

    return jax.process_index()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return index() == 0


def join(address: str | None, processes: int | None, process: int | None, timeout_s: float) -> None:
    """Initialise `jax.distributed`, before anything is computed; where that was done already, take it as it is.

    Parameters
    ----------
    address
        ``host:port`` of the first process; None where what started the processes tells.
    processes, process
        How many there are, and the number of this one; None likewise.
    timeout_s
        How long to wait for the others, in seconds; JAX ends the program when it is over.

    Raises
    ------
    InputError
        If nothing tells where the others are, if JAX is in use already, or if their number is another.
    """
    import jax

    _parted.clear()
    if not jax.distributed.is_initialized():
        if "JAX_CPU_COLLECTIVES_IMPLEMENTATION" not in os.environ:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
        try:
            jax.distributed.initialize(
                address, processes, process, initialization_timeout=max(int(timeout_s), 1)
            )
        except ValueError:
            raise InputError(
                FIELD,
                "be set where SLURM, Open MPI or a cloud TPU started the processes, or with all that they would tell",
                "something is missing",
                "Set `compute.distributed` to host:port of the first process, `compute.processes`, and --process or "
                "BAYESUNMIX_PROCESS for each.",
            ) from None
        except RuntimeError as error:
            remedy = "Or call jax.distributed.initialize() yourself, first of all."
            raise InputError(FIELD, "be set before JAX is used", f"JAX says: {error}", remedy) from None
    if processes is not None and number() != processes:
        raise InputError("compute.processes", "be the same for every process", f"is {processes} here")
    gathered(b"")


def share(length: int) -> slice:
    """Return which of so many rows are this process's own: as many as any other's, in the order of the processes."""
    return slice(*(length * edge // number() for edge in (index(), index() + 1)))


def gathered(own: bytes) -> list[bytes]:
    """Return what every process gives, in their order.

    Raises
    ------
    InputError, FailedElsewhereError
        If another process gives an error in place of it: see `failing_together`.
    """
    return [own] if number() == 1 else _exchanged(own, _READY)


def complete(values: Array, own: slice) -> None:
    """Put the rows of the other processes into an array of which this one has made its `own` (see `share`)."""
    if number() == 1:
        return
    every = gathered(np.ascontiguousarray(values[own]).tobytes())
    values[...] = np.frombuffer(b"".join(every), values.dtype).reshape(values.shape)


def from_first(make: Callable[[], bytes]) -> bytes:
    """Return on every process what the first one makes; an error there is one everywhere."""
    if number() == 1:
        return make()
    with _telling():
        own = make() if is_first() else b""
    return gathered(own)[0]


def on_first(act: Callable[[], object]) -> None:
    """Do what one process does for all; an error there is one everywhere."""

    def acted() -> bytes:
        act()
        return b""

    from_first(acted)


@contextmanager
def failing_together() -> Iterator[None]:
    """Let an error of one process be one of all. Inside, no program may run on the devices of several processes."""
    if number() == 1:
        yield
        return
    with _telling():
        yield
    gathered(b"")


@contextmanager
def _telling() -> Iterator[None]:
    """Give an error to the other processes, in their next exchange."""
    try:
        yield
    except Exception as error:
        if not _parted.is_set():
            _exchanged(_packed(error), _FAILED)
        raise


def part() -> None:
    """Note that all processes end here, so that each may wait for the others to do so."""
    _parted.set()


def alone() -> bool:
    """Whether this process must end by itself: the others do not know that it does, and are not to be waited for."""
    return number() > 1 and not _parted.is_set()


def speaks() -> bool:
    """Whether this process says how the run ended: the first does where all know it, and each where they do not."""
    return is_first() or alone()


def lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return str(error) == LOST or (number() > 1 and any(word in str(error) for word in _LOSSES))


def _exchanged(own: bytes, state: int) -> list[bytes]:
    """Give all processes what each one has; raise the first error among it, except on the process that it is from."""
    from jax.experimental import multihost_utils

    head = np.array([state, len(own)], np.int64).view(np.uint8)
    heads = np.asarray(multihost_utils.process_allgather(head)).reshape(number(), -1).view(np.int64)
    failed = np.flatnonzero(heads[:, 0] == _FAILED)
    sources = failed[:1] if failed.size else range(number())
    given = [_broadcast(own, int(source), int(heads[source, 1])) for source in sources]
    if failed.size:
        part()
        if state != _FAILED:
            raise _unpacked(given[0], int(failed[0]))
    return given


def _broadcast(own: bytes, source: int, length: int) -> bytes:
    """Return the bytes of one process on all of them."""
    from jax.experimental import multihost_utils

    size = SMALL if length <= SMALL else LARGE
    pieces, mine = [], source == index()
    for begin in range(0, length, size):
        piece = np.zeros(size, np.uint8)
        if mine:
            now = np.frombuffer(own, np.uint8)[begin : begin + size]
            piece[: len(now)] = now
        pieces.append(np.asarray(multihost_utils.broadcast_one_to_all(piece, is_source=mine)).tobytes())
    return own if mine else b"".join(pieces)[:length]


def _packed(error: Exception) -> bytes:
    said: list[Any] = [f"{type(error).__name__}: {error}"]
    if isinstance(error, InputError):
        said = [error.field, error.must, error.got, error.remedy]
    return json.dumps(said).encode()


def _unpacked(data: bytes, process: int) -> Exception:
    said = json.loads(data)
    return InputError(*said) if len(said) > 1 else FailedElsewhereError(f"process {process}: {said[0]}")
