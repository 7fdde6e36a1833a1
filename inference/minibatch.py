"""Part of the pixels with unbiased sums: whole chunks, drawn without replacement from every group.

    sum over pixels of log p  =  E[ sum_g (n_g / b_g) sum over the b_g drawn chunks of group g ]

The weight n_g / b_g multiplies `present`, with which every pixel enters the sum: the model itself needs no other line.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import jax

#: Chunks of a mini-batch: with 128 pixels each, about two thousand.
BATCH_CHUNKS = 16


class PixelData(Protocol):
    """Model data whose pixels lie in groups of chunks: see `bayesunmix.models.unmixing.UnmixingData`."""

    @property
    def groups(self) -> tuple[Any, ...]:
        """Groups with the chunks along the first axis of every array, and a weight for every pixel in `present`."""
        ...

    def _replace(self, *, groups: tuple[Any, ...]) -> Self: ...


def batch_sizes(data: PixelData, n_chunks: int = BATCH_CHUNKS) -> tuple[int, ...]:
    """Return how many chunks to draw from each group: in proportion, at least one, together about `n_chunks`."""
    every = [len(group.present) for group in data.groups]
    share = min(n_chunks / max(sum(every), 1), 1.0)
    return tuple(min(max(round(share * number), 1), number) for number in every)


def is_whole(data: PixelData, sizes: tuple[int, ...]) -> bool:
    """Whether a batch of these sizes is all there is."""
    return all(len(group.present) == size for group, size in zip(data.groups, sizes, strict=True))


def draw_batch(data: PixelData, sizes: tuple[int, ...], key: jax.Array) -> PixelData:
    """Model data with some of the chunks, weighted so that sums over pixels keep their expectation.

    Parameters
    ----------
    data : PixelData
    sizes : tuple of int
        Chunks to draw from each group.
    key : PRNG key
    """
    groups = []
    for group, size, own in zip(data.groups, sizes, jax.random.split(key, len(sizes)), strict=True):
        number = len(group.present)
        chosen = jax.random.permutation(own, number)[:size]
        part = jax.tree.map(lambda field, chosen=chosen: field[chosen], group)
        groups.append(part._replace(present=part.present * (number / size)))
    return data._replace(groups=tuple(groups))
