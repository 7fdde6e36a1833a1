"""A NumPyro model as a potential over one flat vector.

Optimisers, curvature and samplers all work on z, the model's unconstrained parameters laid end to end; this file is
the only one that knows how z maps to latents.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn

from bayesunmix.inference.compilation import Program
from bayesunmix.inference.sharding import n_threads

Latents = dict[str, jax.Array]

# Potentials whose programs are kept: those of a run, and a few more for maps of the same shape.
MOST_PROGRAMS = 6


class FlatModel(NamedTuple):
    """A model's negative log density and its maps between latents and the flat vector z.

    Attributes
    ----------
    potential : (z, data) -> scalar
        Negative log posterior density over z, up to a constant, Jacobians included.
    constrain : (z, data) -> latents
    flatten : (latents, data) -> z
    size : int
    places : dict
        Place of each latent in the flat vector.
    """

    potential: Callable[[jax.Array, Any], jax.Array]
    constrain: Callable[[jax.Array, Any], Latents]
    flatten: Callable[[Latents, Any], jax.Array]
    size: int
    places: dict[str, slice]


def flatten_model(model: Callable[..., None], data: object, example: Latents) -> FlatModel:
    """Flat view of a NumPyro model.

    Parameters
    ----------
    model : NumPyro model taking `data` as its only argument.
    data : pytree
        Fixes the shapes; another pytree of the same shapes may be passed to the functions.
    example : latents
        Any admissible value of every latent.
    """

    def to_vector(latents: Latents, data: object) -> jax.Array:
        vector: jax.Array = ravel_pytree(unconstrain_fn(model, (data,), {}, latents))[0]
        return vector

    # Shapes alone give the way back: running the model here would cost more than a fit's evaluation.
    structure = jax.eval_shape(
        lambda latents, data: unconstrain_fn(model, (data,), {}, latents), example, data
    )
    vector, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float64), structure))

    def potential(z: jax.Array, data: object) -> jax.Array:
        value: jax.Array = potential_energy(model, (data,), {}, unravel(z))
        return value

    def to_latents(z: jax.Array, data: object) -> Latents:
        latents: Latents = constrain_fn(model, (data,), {}, unravel(z))
        return latents

    # Compiled, both maps shed the likelihood, on which their results do not depend.
    return FlatModel(potential, Program(to_latents), Program(to_vector), int(vector.size), _places(structure))


def _places(structure: Latents) -> dict[str, slice]:
    """Place of each latent in the flat vector: latents lie there in alphabetical order."""
    names = sorted(structure)
    ends = list(itertools.accumulate(int(structure[name].size) for name in names))
    return {name: slice(end - int(structure[name].size), end) for name, end in zip(names, ends, strict=True)}


def compiled(model: FlatModel) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Jitted (value and gradient, Hessian) of the potential, each a function of (z, data).

    The same potential gets the same programs, so that no stage compiles what an earlier one has compiled.
    """
    return _programs(model.potential)


@lru_cache(maxsize=MOST_PROGRAMS)
def _programs(potential: Callable[..., jax.Array]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return Program(jax.value_and_grad(potential)), Program(partial(hessian_by_columns, potential))


class Compiling(NamedTuple):
    """Programs on their way: value and gradient, and the Hessian, which takes twice as long.

    Attributes
    ----------
    value_and_gradient, hessian : futures
    """

    value_and_gradient: Future[Callable[..., Any]]
    hessian: Future[Callable[..., Any]]


@contextmanager
def compiling(model: FlatModel, data: object) -> Iterator[Compiling]:
    """Compile both programs of `compiled` for data of these shapes, side by side and beside the caller's own work."""
    z = jnp.zeros(model.size)
    functions: list[Any] = list(compiled(model))
    # NumPyro traces one model at a time; the compiler itself leaves Python's lock.
    for function in functions:
        function.lower(z, data)

    def called(function: Callable[..., Any]) -> Callable[..., Any]:
        jax.block_until_ready(function(z, data))  # type: ignore[no-untyped-call]
        return function

    with ThreadPoolExecutor(n_threads()) as pool:
        programs = Compiling(*(pool.submit(called, function) for function in functions))
        if n_threads() == 1:
            # On several devices they must not run beside the caller's own work either.
            wait(programs)
        yield programs


def hessian_by_columns(
    potential: Callable[..., jax.Array], z: jax.Array, data: object, batch: int = 8
) -> jax.Array:
    """Hessian by forward-over-reverse products in batches of columns.

    A full `jax.hessian` pushes all tangents at once through (pixel, support_point) arrays: the batch bounds the memory.
    """
    gradient = jax.grad(potential)
    n = z.shape[0]
    padded = -(-n // batch) * batch
    tangents = jnp.eye(padded, n).reshape(-1, batch, n)
    columns = jax.lax.map(jax.vmap(lambda t: jax.jvp(lambda x: gradient(x, data), (z,), (t,))[1]), tangents)
    full: jax.Array = columns.reshape(padded, n)[:n]
    return 0.5 * (full + full.T)
