"""Pixels over several devices: each sums the log-likelihood of its own chunks.

    U(z; all pixels) = sum_d U(z; pixels of device d) - (D - 1) U(z; no pixels)

Every part is the model itself on a part of the pixels, so no model knows of devices. Chunks are put on the devices once
for the whole run, split along their first axis; the compiler turns the outer sum into one reduction of a scalar, or of
a gradient, between devices. With one device all this is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bayesunmix.inference.minibatch import PixelData

Potential = Callable[[jax.Array, Any], jax.Array]
_Data = TypeVar("_Data", bound=PixelData)

AXIS = "pixels"


def n_devices() -> int:
    """Devices that JAX sees."""
    return len(jax.devices())


def n_threads() -> int:
    """Return how many evaluations may run at a time: programs on several devices must not overlap."""
    return 2 if n_devices() == 1 else 1


def place(data: _Data) -> _Data:
    """Put model data on the devices: the chunks of pixels spread over them, all else on each."""
    if n_devices() == 1:
        # A plain number has a weak type, and a program of its own.
        on_device: _Data = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), data)
        return on_device
    spread, copied = _sharding(AXIS), _sharding()
    groups = jax.tree.map(lambda field: jax.device_put(_padded(field), spread), data.groups)
    rest: _Data = jax.tree.map(lambda field: jax.device_put(field, copied), data._replace(groups=()))
    return rest._replace(groups=groups)


def on_host(data: _Data) -> _Data:
    """Return data that may lie on the devices of several processes as arrays of NumPy, whole on each of them."""

    def fetched(field: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - an array of NumPy or JAX
        if isinstance(field, jax.Array) and not (field.is_fully_addressable or field.is_fully_replicated):
            field = multihost_utils.process_allgather(field, tiled=True)
        return np.asarray(field)

    whole: _Data = jax.tree.map(fetched, data)
    return whole


def over_devices(potential: Potential) -> Potential:
    """Split the pixels of a potential over the devices."""
    number = n_devices()
    if number == 1:
        return potential

    def split(z: jax.Array, data: PixelData) -> jax.Array:
        spread = _sharding(AXIS)

        def by_device(field: jax.Array) -> jax.Array:
            field = _padded(field)
            field = field.reshape(number, len(field) // number, *field.shape[1:])
            held: jax.Array = jax.lax.with_sharding_constraint(field, spread)  # type: ignore[no-untyped-call]
            return held

        groups = jax.tree.map(by_device, data.groups)
        parts = jax.vmap(lambda own: potential(z, data._replace(groups=own)))(groups)
        total: jax.Array = parts.sum() - (number - 1) * potential(z, data._replace(groups=()))
        return total

    return split


def _sharding(*axes: str) -> NamedSharding:
    """All devices in a row, with these axes of an array split over them."""
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]


def _padded(field: Any) -> Any:  # noqa: ANN401 - an array of NumPy or JAX
    """Add chunks of zeros, which hold no pixels, up to a multiple of the number of devices."""
    missing = -len(field) % n_devices()
    if not missing:
        return field
    return jnp.pad(field, [(0, missing)] + [(0, 0)] * (field.ndim - 1))
