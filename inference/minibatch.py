"""Part of the pixels with unbiased sums: whole chunks, drawn without replacement.

    sum over pixels of log p  =  E[ n / b  sum over the b drawn chunks of n ]

The weight n / b multiplies the weight with which every pixel enters the sum: the model itself needs no other line.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import jax

#: Chunks of a mini-batch: with 128 pixels each, about two thousand.
BATCH_CHUNKS = 16


def n_devices() -> int:
    """Devices that JAX sees."""
    return len(jax.devices())


class Chunks(Protocol):
    """Pixels in chunks: see `bayesunmix.models.pixels.PixelChunks`."""

    @property
    def fewest(self) -> int:
        """Chunks on the device that has the fewest."""
        ...

    @property
    def most(self) -> int:
        """Chunks on the device that has the most."""
        ...

    def spread(self, devices: int) -> Self:
        """Chunks for each of so many devices, along a first axis."""
        ...

    def none(self) -> Self:
        """One chunk that is empty."""
        ...

    def chosen(self, key: jax.Array, number: int) -> Self:
        """So many chunks of each device, drawn without replacement, weighted so that sums keep their expectation."""
        ...


class PixelData(Protocol):
    """Model data with pixels in chunks: see `bayesunmix.models.unmixing.UnmixingData`."""

    @property
    def pixels(self) -> Any:  # noqa: ANN401 - `Chunks`, or nothing where these come apart
        """All of them."""
        ...

    def _replace(self, *, pixels: Any) -> Self: ...  # noqa: ANN401


def batch_size(data: PixelData) -> int | None:
    """Return how many chunks of each device make a batch; None where that is all there are."""
    pixels: Chunks = data.pixels
    number = max(min(BATCH_CHUNKS // n_devices(), pixels.fewest), 1)
    return None if number >= pixels.most else number


def draw_batch(data: PixelData, number: int, key: jax.Array) -> PixelData:
    """Model data with so many chunks of each device, weighted so that sums over pixels keep their expectation."""
    pixels: Chunks = data.pixels
    return data._replace(pixels=pixels.chosen(key, number))
