"""How many cores matrix products use."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def single_thread() -> AbstractContextManager[object]:
    """Context in which matrix products run on one core.

    Products with a handful of phases, or with the lines of a spectrum, are too small to share: on a busy machine,
    waiting for the other thread was measured to cost two to ten times the product itself.
    """
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
