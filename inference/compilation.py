"""Programs, compiled with what a run's few hundred calls need.

XLA's newer generator of fused loops on a CPU took 10 of the 65 s of processor time and 0.7 of the 2.2 GB of a whole run
to itself, and what it made ran no faster. JAX versions differ in what they offer: one that does not know the option
compiles as it always does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property, update_wrapper
from typing import Any

import jax

QUICK: dict[str, bool | int] = {"xla_cpu_use_fusion_emitters": False}
# For what runs once: the compiler's own time is most of it.
UNOPTIMISED: dict[str, bool | int] = {"xla_backend_optimization_level": 0}


class Program:
    """A function compiled for each new shape of its arguments, as by `jax.jit`; called inside another, a part of that.

    Parameters
    ----------
    function : callable of arrays and pytrees
    once : bool
        It runs once: compile it as quickly as can be.
    """

    def __init__(self, function: Callable[..., Any], *, once: bool = False) -> None:
        self._function, self._once = function, once
        update_wrapper(self, function, updated=())

    @cached_property
    def _compiled(self) -> Any:  # noqa: ANN401 - JAX's type of compiled functions is private
        options = known_options() | (UNOPTIMISED if self._once else {})
        return jax.jit(self._function, compiler_options=options)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Call the program; compile it first where it has not been for these shapes."""
        # JAX takes options for outermost programs alone.
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))
        return self._function(*arguments) if traced else self._compiled(*arguments)

    def lower(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Trace the function without compiling it, see `jax.stages.Lowered`."""
        return self._compiled.lower(*arguments)


@cache
def known_options() -> dict[str, bool | int]:
    """Return the options of `QUICK` where this JAX knows them: it refuses a program with others."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=QUICK)(0)
    except RuntimeError:
        return {}
    return QUICK
