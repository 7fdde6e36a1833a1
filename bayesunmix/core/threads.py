"""What threads of a process share: the cores of matrix products, and NumPyro's place for the model that is traced."""

from __future__ import annotations

from contextlib import AbstractContextManager
from threading import RLock

from threadpoolctl import threadpool_limits

# NumPyro keeps the handlers of a model in one stack for the whole process: models of two threads would mix in it.
ONE_MODEL = RLock()


def single_thread() -> AbstractContextManager[object]:
    """Context in which matrix products run on one core.

    Products with a handful of phases, or with the lines of a spectrum, are too small to share: on a busy machine,
    waiting for the other thread was measured to cost two to ten times the product itself.
    """
    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits
