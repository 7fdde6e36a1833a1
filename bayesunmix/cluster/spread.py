"""A function called with each of many things, over the workers of a cluster; each is told of as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import cloudpickle

from bayesunmix.core.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Found = TypeVar("Found")

# A worker that dies may have been somebody else's victim: what it worked at is tried once more.
RETRIES = 1
# How long news of a worker that has come may wait.
LOOK_SECONDS = 1.0


class LostWorkerError(RuntimeError):
    """The process that was working at something died, and again when it was tried once more."""


@dataclass(frozen=True)
class Answer(Generic[Found]):
    """What became of one call.

    Parameters
    ----------
    place
        Of what it was called with, in the order given.
    found
        What it returned; None where it did not.
    error
        Why it did not.
    """

    place: int
    found: Found | None
    error: BaseException | None = None

    def result(self) -> Found:
        """Return what the call returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.found  # type: ignore[return-value]


def spread(
    task: Callable[[Item], Found],
    items: Sequence[Item],
    client: Client,
    waits: Callable[[], None] = lambda: None,
) -> Iterator[Answer[Found]]:
    """Call a task with each item, in their order, as many at a time as there are workers.

    Parameters
    ----------
    task
        Travels by pickle, as do items and what it returns; workers import it by name.
    items
        What it is called with.
    client
        Of the workers; those that come later take part.
    waits
        Called whenever there has been no worker for a moment.

    Yields
    ------
    Answer
        As each is done.

    Raises
    ------
    InputError
        If the workers cannot import this package.
    """
    waiting = list(range(len(items)))[::-1]
    at_work: dict[Future[Found], int] = {}
    tries = [0] * len(items)
    seen: set[str] = set()
    try:
        while waiting or at_work:
            # One for each worker, and no more: a worker that dies then takes nothing with it but what it worked at.
            present = set(client.scheduler_info(n_workers=-1)["workers"])
            _check_package(client, present - seen)
            seen |= present
            if not present:
                waits()
            while waiting and len(at_work) < max(len(present), 1):
                place = waiting.pop()
                tries[place] += 1
                call = cloudpickle.dumps((task, items[place]))
                at_work[client.submit(_called, call, pure=False)] = place
            for future in _done(list(at_work), client):
                place = at_work.pop(future)
                ended = _ended(future, place)
                if isinstance(ended.error, LostWorkerError) and tries[place] <= RETRIES:
                    waiting.append(place)
                else:
                    yield ended
    finally:
        client.cancel(list(at_work), force=True)


def _called(pickled: bytes) -> Any:  # noqa: ANN401 - of whatever is called
    """Call a task on a worker; unpickled here, not by Dask, what cannot be imported is an error of this call alone."""
    task, item = cloudpickle.loads(pickled)
    return task(item)


def _check_package(client: Client, addresses: set[str]) -> None:
    """Refuse workers that cannot import this module: Dask would wait for their answer for ever."""
    if not addresses:
        return
    try:
        client.run(exec, f"import {__name__}", workers=sorted(addresses))
    except ImportError as error:
        must = "have workers that can import bayesunmix"
        remedy = "Install it for them, or say in `prologue` how they find it."
        raise InputError("cluster", must, f"does not: {error}", remedy) from None
    except (OSError, KeyError):  # one that is gone again
        return


def _done(futures: list[Any], client: Client) -> list[Any]:
    """Return those that are done, after waiting for the first a little."""
    from distributed import wait

    with client.as_current(), suppress(TimeoutError):
        return list(wait(futures, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done)
    return []


def _ended(future: Future[Found], place: int) -> Answer[Found]:
    from distributed import KilledWorker

    error = future.exception()
    if isinstance(error, KilledWorker):
        return Answer(
            place, None, LostWorkerError("its process died twice, as happens where memory runs out")
        )
    return Answer(place, None, error) if error is not None else Answer(place, future.result())
