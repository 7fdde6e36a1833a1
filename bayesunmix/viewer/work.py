"""Work that takes a while, beside what the user does: the last that was asked for, with the share that is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary


class Superseded(Exception):
    """Something else was asked for meanwhile."""


# Work begins after this pause, so that what was asked for just now is shown first, and keys that repeat start none.
PAUSE_S = 0.15
# Shares are told no more often than this.
BETWEEN_SHARES_S = 0.3

Told = Callable[[float], None]
Job = Callable[[Told], Any]


# Threads that have begun, and whose they are.
_begun: WeakKeyDictionary[threading.Thread, Latest] = WeakKeyDictionary()


class Latest:
    """Does one job at a time in a thread of its own; a new job takes the place of the one that is going on.

    Parameters
    ----------
    failed
        Told what a job raised.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed, self._number = failed, 0
        self._one, self._counted = threading.Lock(), threading.Lock()

    def do(self, job: Job, done: Callable[[Any], None], told: Told) -> None:
        """Do a job, then hand over what it returns; nothing is told of one that was superseded.

        Parameters
        ----------
        job
            Called with what it tells its share to, which ends it when another job is asked for.
        done, told
            Called in the thread of the work.
        """
        with self._counted:
            self._number += 1
            number = self._number
        thread = threading.Thread(target=self._run, args=(number, job, done, told), daemon=True)
        _begun[thread] = self
        thread.start()

    def stop(self) -> None:
        """End what is going on."""
        with self._counted:
            self._number += 1

    def _run(self, number: int, job: Job, done: Callable[[Any], None], told: Told) -> None:
        last = time.monotonic()

        def checked(share: float) -> None:
            nonlocal last
            if number != self._number:
                raise Superseded
            if time.monotonic() - last > BETWEEN_SHARES_S:
                last = time.monotonic()
                told(share)

        try:
            time.sleep(PAUSE_S)
            with self._one:
                checked(0.0)
                found = job(checked)
                checked(1.0)
                done(found)
        except Superseded:
            pass
        except Exception as error:  # shown to the user, whatever it is
            if number == self._number:
                self._failed(error)


def end_all(within_s: float = 5.0) -> None:
    """End all work and wait for it: Python must not end while a thread computes.

    Parameters
    ----------
    within_s
        How long to wait at most.
    """
    last = time.monotonic() + within_s
    for latest in set(_begun.values()):
        latest.stop()
    for thread in list(_begun):
        thread.join(max(last - time.monotonic(), 0.0))
