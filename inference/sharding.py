"""Pixels over several devices: each sums the log-likelihood of its own chunks.

    U(z; all pixels) = sum_d U(z; pixels of device d) - (D - 1) U(z; no pixels)

Every part is the model itself on a part of the pixels, so no model knows of devices. Chunks are put on the devices once
for the whole run, those of every class in turn, so that all devices have the same work; the compiler turns the outer
sum into one reduction of a scalar, or of a gradient, between devices. With one device all this is the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bayesunmix.inference.minibatch import PixelData, n_devices

Potential = Callable[[jax.Array, Any], jax.Array]
_Data = TypeVar("_Data", bound=PixelData)

AXIS = "pixels"


def n_threads() -> int:
    """Return how many evaluations may run at a time: programs on several devices must not overlap."""
    return 2 if n_devices() == 1 else 1


def place(data: _Data) -> _Data:
    """Put model data on the devices: the chunks of pixels spread over them, all else on each."""
    if n_devices() == 1:
        on_device: _Data = jax.device_put(data)
        return on_device
    spread, copied = _sharding(AXIS), _sharding()
    pixels = jax.tree.map(lambda field: jax.device_put(field, spread), data.pixels.spread(n_devices()))
    rest: _Data = jax.tree.map(lambda field: jax.device_put(field, copied), data._replace(pixels=()))
    return rest._replace(pixels=pixels)


def over_devices(potential: Potential) -> Potential:
    """Split the pixels of a potential over the devices."""
    number = n_devices()
    if number == 1:
        return potential
    mesh, whole, parted = _mesh(), _sharding().spec, _sharding(AXIS).spec

    def split(z: jax.Array, data: PixelData) -> jax.Array:
        rest = data._replace(pixels=())

        def own(z: jax.Array, rest: PixelData, pixels: Any) -> jax.Array:  # noqa: ANN401
            return potential(z, rest._replace(pixels=jax.tree.map(lambda field: field[0], pixels)))[None]

        # Loops carry what is the same on all devices at first: the check of that is not for them.
        parts = jax.shard_map(
            own,
            mesh=mesh,
            in_specs=(whole, whole, parted),
            out_specs=parted,
            check_vma=False,
        )(z, rest, data.pixels)
        nothing = potential(z, data._replace(pixels=data.pixels.none()))
        total: jax.Array = parts.sum() - (number - 1) * nothing
        return total

    return split


def _mesh() -> Mesh:
    """All devices in a row."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def _sharding(*axes: str) -> NamedSharding:
    """Arrays with these axes split over all devices."""
    return NamedSharding(_mesh(), PartitionSpec(*axes))  # type: ignore[no-untyped-call]
