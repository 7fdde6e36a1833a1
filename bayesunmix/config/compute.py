"""Table ``[compute]``: what a run may take of the machine. No number of a result depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bayesunmix.config.validated import validated
from bayesunmix.core.limits import Between

# Imports, compiled programs and the model of a small map take nearly a gigabyte by themselves.
LEAST_MEMORY_GB, MOST_MEMORY_GB = 1.0, 1e5


@validated("compute")
@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Table ``[compute]``.

    Parameters
    ----------
    memory_limit_GB
        Most memory that the run may hold, in units of 1e9 bytes; None for what the machine has left.
    """

    memory_limit_GB: Annotated[float, Between(LEAST_MEMORY_GB, MOST_MEMORY_GB)] | None = None
