"""Programs, compiled with what a run's few hundred calls need, and counted.

XLA's newer generator of fused loops on a CPU took 10 of the 65 s of processor time and 0.7 of the 2.2 GB of a whole run
to itself, and what it made ran no faster. JAX versions differ in what they offer: one that does not know the option
compiles as it always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, update_wrapper
from threading import local
from typing import Any

import jax
from jax import monitoring

QUICK: dict[str, bool | int] = {"xla_cpu_use_fusion_emitters": False}
# What JAX tells of each program that it makes ready; and before that in the same thread, where it was kept by an
# earlier run.
_READY, _KEPT = "/jax/core/compile/backend_compile_duration", "/jax/compilation_cache/cache_hits"


class Program:
    """A function compiled for each new shape of its arguments, as by `jax.jit`; called inside another, a part of that.

    Parameters
    ----------
    function : callable of arrays and pytrees
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        update_wrapper(self, function, updated=())

    @cached_property
    def _compiled(self) -> Any:  # noqa: ANN401 - JAX's type of compiled functions is private
        return jax.jit(self._function, compiler_options=known_options())

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


@dataclass(frozen=True)
class ReadyProgram:
    """A program that was made ready to run.

    Attributes
    ----------
    name : str
    compiled : bool
        False where it was read from those that earlier runs have kept.
    seconds : float
    """

    name: str
    compiled: bool
    seconds: float


@contextmanager
def counted_programs() -> Iterator[list[ReadyProgram]]:
    """Count the programs that are made ready in this process meanwhile, by whatever thread."""
    found: list[ReadyProgram] = []
    own = local()

    def kept(event: str, **_: str | int) -> None:
        if event == _KEPT:
            own.kept = True

    def ready(event: str, duration_secs: float, **said: str | int) -> None:
        if event == _READY:
            name = str(said.get("fun_name", "")).removeprefix("jit(").removesuffix(")")
            found.append(ReadyProgram(name, not getattr(own, "kept", False), duration_secs))
            own.kept = False

    monitoring.register_event_listener(kept)
    monitoring.register_event_duration_secs_listener(ready)
    try:
        yield found
    finally:
        monitoring.unregister_event_listener(kept)
        monitoring.unregister_event_duration_listener(ready)
