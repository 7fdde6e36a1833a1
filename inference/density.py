"""A NumPyro model as a potential over one flat vector.

Optimisers, curvature and samplers all work on z, the model's unconstrained parameters laid end to end; this file is
the only one that knows how z maps to latents. Programs are compiled for a model that may be padded to shapes that many
maps share (`bayesunmix.models.padding`): they take z filled up to a size of its own, and are told which of the padded
model's parameters its entries are; all others are held at zero, and what fills z up does nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import potential_energy

from bayesunmix.inference.compilation import Program
from bayesunmix.inference.sharding import n_threads, over_devices, place

FloatArray = npt.NDArray[np.float64]
Latents = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

# Columns of a Hessian that are computed together: their products with the counts are one.
COLUMNS_TOGETHER = 16


class Placed(NamedTuple):
    """Model data where programs run on it; a JAX pytree.

    Attributes
    ----------
    data : pytree
        The data, padded.
    slots : (capacity,) int32
        Which of the padded model's parameters each entry of z is; entries beyond the last are beyond it, too.
    size : int
        Number of entries of z that are parameters.
    constant : float
        What the parameters that are held add to the potential.
    """

    data: Any
    slots: npt.NDArray[np.int32]
    size: int
    constant: float


class Programs:
    """The programs of a model for data of certain shapes, each compiled when it is first called.

    Parameters
    ----------
    model : NumPyro model taking `data` as its only argument.
    data : pytree
        Fixes the shapes; arrays or their shapes and types.
    example : latents
        Any admissible value of every latent.
    """

    def __init__(self, model: Callable[..., None], data: Any, example: Latents) -> None:  # noqa: ANN401
        self._model = model
        self._transforms = _transforms(model, data, example)
        self.shapes: Shapes = {
            name: transform.inverse_shape(np.shape(example[name]))
            for name, transform in self._transforms.items()
        }
        self.places = _places(self.shapes)
        self.size = sum(place.stop - place.start for place in self.places.values())

    def potential(self, z: jax.Array, placed: Placed) -> jax.Array:
        """Negative log posterior density over z, up to a constant, Jacobians included."""

        def on_data(whole: jax.Array, data: Any) -> jax.Array:  # noqa: ANN401
            value: jax.Array = potential_energy(self._model, (data,), {}, self._split(whole))
            return value

        return over_devices(on_data)(self._whole(z, placed.slots), placed.data) - placed.constant

    def latents(self, z: jax.Array, slots: npt.NDArray[np.int32]) -> Latents:
        """Latents of the padded model."""
        free = self._split(self._whole(z, slots))
        return {name: transform(free[name]) for name, transform in self._transforms.items()}

    def _split(self, whole: jax.Array) -> Latents:
        """Parameters of each latent."""
        return {name: whole[place].reshape(self.shapes[name]) for name, place in self.places.items()}

    def _whole(self, z: jax.Array, slots: npt.NDArray[np.int32]) -> jax.Array:
        """All parameters of the padded model, those that are not in z at zero."""
        return jnp.zeros(self.size).at[slots[: len(z)]].set(z, mode="drop")

    @cached_property
    def constrain(self) -> Program:
        """Compiled `latents`."""
        return Program(self.latents)

    @cached_property
    def flatten(self) -> Program:
        """Latents of the padded model -> all its parameters."""

        def to_vector(latents: Latents) -> jax.Array:
            free = [transform.inv(latents[name]).ravel() for name, transform in self._transforms.items()]
            return jnp.concatenate(free)

        return Program(to_vector)

    @cached_property
    def value_and_gradient(self) -> Program:
        """(z, placed) -> potential, and its slopes in every entry of z."""
        return Program(jax.value_and_grad(self.potential))

    @cached_property
    def curvature(self) -> Program:
        """(z, placed, columns, number) -> so many columns of the Hessian, one in each row."""
        return Program(self._curvature)

    def _curvature(self, z: jax.Array, placed: Placed, columns: jax.Array, number: jax.Array) -> jax.Array:
        gradient = jax.grad(self.potential)

        def some(batch: jax.Array, rows: jax.Array) -> jax.Array:
            own = jax.lax.dynamic_slice_in_dim(columns, batch * COLUMNS_TOGETHER, COLUMNS_TOGETHER)
            # A full `jax.hessian` would push all tangents at once through the pixels: the batch bounds the memory.
            products = jax.vmap(lambda t: jax.jvp(lambda x: gradient(x, placed), (z,), (t,))[1])(
                jax.nn.one_hot(own, len(z))
            )
            return jax.lax.dynamic_update_slice_in_dim(rows, products, batch * COLUMNS_TOGETHER, 0)

        rows = jnp.zeros((len(columns), len(z)))
        batches = (number + COLUMNS_TOGETHER - 1) // COLUMNS_TOGETHER
        found: jax.Array = jax.lax.fori_loop(0, batches, some, rows)
        return found


def _places(shapes: Shapes) -> dict[str, slice]:
    """Place of each latent in a flat vector, where they lie in alphabetical order."""
    sizes = {name: int(np.prod(shapes[name])) for name in sorted(shapes)}
    ends = itertools.accumulate(sizes.values())
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _transforms(model: Callable[..., None], data: Any, example: Latents) -> dict[str, Any]:  # noqa: ANN401
    """Transform of each latent from the whole line, by name; the model is traced, not run."""
    supports: dict[str, Any] = {}

    def trace(latents: Latents, data: Any) -> None:  # noqa: ANN401
        known = handlers.substitute(handlers.seed(model, 0), data=latents)
        for name, site in handlers.trace(known).get_trace(data).items():
            if site["type"] == "sample" and not site["is_observed"]:
                supports[name] = site["fn"].support

    jax.eval_shape(trace, example, data)
    return {name: biject_to(supports[name]) for name in sorted(supports)}


@dataclass(frozen=True, eq=False, kw_only=True)
class FlatModel:
    """A model's negative log density over the flat vector z, and its maps between latents and z.

    Attributes
    ----------
    programs : Programs
        Shared with other models whose padded data have the same shapes.
    shapes : dict
        Shape of each latent.
    pad : data -> padded data
    slots : (capacity,) int32
        Where the entries of z lie among the padded model's parameters, see `Placed`.
    constant : float
        What the other parameters of that add to the potential.
    without_pixels : data -> data
        Data of the same model for what does not depend on pixels, which then need not be moved.
    """

    programs: Programs
    shapes: Shapes
    pad: Callable[[Any], Any]
    slots: npt.NDArray[np.int32]
    constant: float
    without_pixels: Callable[[Any], Any]

    @cached_property
    def places(self) -> dict[str, slice]:
        """Place of each latent in z."""
        return _places(self.shapes)

    @cached_property
    def size(self) -> int:
        """Number of entries of z."""
        return sum(place.stop - place.start for place in self.places.values())

    @property
    def capacity(self) -> int:
        """Length to which z is filled up for the programs."""
        return len(self.slots)

    def placed(self, data: Any) -> Placed:  # noqa: ANN401 - any pytree
        """Pad data and put them on the devices; those that are there stay."""
        if isinstance(data, Placed):
            return data
        return Placed(place(self.pad(data)), self.slots, self.size, self.constant)

    def light(self, data: Any) -> Placed:  # noqa: ANN401
        """Pad data without their pixels."""
        return Placed(self.pad(self.without_pixels(data)), self.slots, self.size, self.constant)

    def filled(self, z: npt.ArrayLike) -> FloatArray:
        """Fill z (..., dim) up for the programs."""
        values = np.asarray(z, np.float64)
        return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, self.capacity - values.shape[-1])])

    def constrain(self, z: npt.ArrayLike) -> Latents:
        """Latents at z, by name, as arrays of NumPy."""
        found = self.programs.constrain(self.filled(z), self.slots)
        return {
            name: np.asarray(found[name])[tuple(slice(0, size) for size in shape)]
            for name, shape in self.shapes.items()
        }

    def flatten(self, latents: Latents) -> FloatArray:
        """Return z at some latents."""
        more = {}
        for name, shape in self.programs.shapes.items():
            # One is a value that every latent may have.
            more[name] = np.ones(shape)
            more[name][tuple(slice(0, size) for size in self.shapes[name])] = latents[name]
        return np.asarray(self.programs.flatten(more))[self.slots[: self.size]]

    def value_and_gradient(self, z: npt.ArrayLike, data: Any) -> tuple[float, FloatArray]:  # noqa: ANN401
        """Potential at z and its slopes (dim,); `data` are better placed before, where they are used often."""
        value, gradient = self.programs.value_and_gradient(self.filled(z), self.placed(data))
        return float(value), np.asarray(gradient)[: self.size]

    def hessian(self, z: npt.ArrayLike, data: Any) -> FloatArray:  # noqa: ANN401
        """Hessian of the potential at z, (dim, dim)."""
        full = self.hessian_rows(z, data, np.arange(self.size))
        return 0.5 * (full + full.T)

    def hessian_rows(self, z: npt.ArrayLike, data: Any, rows: npt.NDArray[np.int64]) -> FloatArray:  # noqa: ANN401
        """Rows of the Hessian, (row, dim)."""
        found = self.programs.curvature(self.filled(z), self.placed(data), *self.chosen(rows))
        return np.asarray(found)[: len(rows), : self.size]

    def chosen(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], np.int32]:
        """Rows of the Hessian as its program takes them: filled up, and how many there are."""
        columns = np.zeros(-(-self.capacity // COLUMNS_TOGETHER) * COLUMNS_TOGETHER, np.int32)
        columns[: len(rows)] = rows
        return columns, np.int32(len(rows))


def flatten_model(
    model: Callable[..., None],
    data: Any,  # noqa: ANN401 - any pytree
    example: Latents,
    without_pixels: Callable[[Any], Any] = lambda data: data,
) -> FlatModel:
    """Flat view of a NumPyro model, whose programs serve data of just these shapes.

    Parameters
    ----------
    model : NumPyro model taking `data` as its only argument.
    data : pytree
        Fixes the shapes.
    example : latents
        Any admissible value of every latent.
    without_pixels : data -> data
        See `FlatModel`.
    """
    programs = Programs(model, data, example)
    return FlatModel(
        programs=programs,
        shapes=programs.shapes,
        pad=lambda data: data,
        slots=np.arange(programs.size, dtype=np.int32),
        constant=0.0,
        without_pixels=without_pixels,
    )


class Compiling(NamedTuple):
    """Programs on their way: value and gradient, and the Hessian, which takes longer; each done when it has been run.

    Attributes
    ----------
    value_and_gradient, hessian : futures
    """

    value_and_gradient: Future[Any]
    hessian: Future[Any]


@contextmanager
def compiling(model: FlatModel, placed: Placed) -> Iterator[Compiling]:
    """Compile what a search for the mode needs, side by side and beside the caller's own work."""
    z = np.zeros(model.size)
    # NumPyro traces one model at a time; the compiler itself leaves Python's lock.
    model.programs.value_and_gradient.lower(model.filled(z), placed)
    none = np.zeros(0, np.int64)
    model.programs.curvature.lower(model.filled(z), placed, *model.chosen(none))
    with ThreadPoolExecutor(n_threads()) as pool:
        programs = Compiling(
            pool.submit(model.value_and_gradient, z, placed),
            pool.submit(model.hessian_rows, z, placed, none),
        )
        if n_threads() == 1:
            # On several devices they must not run beside the caller's own work either.
            wait(programs)
        yield programs
