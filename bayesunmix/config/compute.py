"""Table ``[compute]``: what a run may take of the machine. No number of a result depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bayesunmix.config.validated import validated
from bayesunmix.core.limits import Between

# Imports, compiled programs and the model of a small map take nearly a gigabyte by themselves.
LEAST_MEMORY_GB, MOST_MEMORY_GB = 1.0, 1e5
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
    """

    memory_limit_GB: Annotated[float, Between(LEAST_MEMORY_GB, MOST_MEMORY_GB)] | None = None
    program_cache_GB: Annotated[float, Between(0.0, MOST_MEMORY_GB)] = PROGRAM_CACHE_GB
