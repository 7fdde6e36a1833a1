"""The counts of a map that does not fit into memory: on disk, and read some rows at a time.

A map is gone through in bands of rows. Sums over bands are sums of integers, so they are those of the whole map to the
last digit, and nothing that is computed depends on where the counts are kept.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import DiskArray, pieces
from bayesunmix.data.counts import Compact, DaskArray

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StoredCounts:
    """Counts (y, x, energy) on disk, as a NumPy array would hold them.

    Parameters
    ----------
    stored
        All that is on disk, (y, x, energy).
    first, last
        Channels of it that the map has: from the first to before the last.
    mask
        Pixels (y, x) whose counts are left out: read as zeros. None where none are.
    replaced
        Channels of what is on disk, each with the one whose counts are read in its place.
    """

    stored: DiskArray
    first: int
    last: int
    mask: Mask | None = None
    replaced: tuple[tuple[int, int], ...] = ()

    ndim = 3

    @classmethod
    def of(cls, stored: DiskArray) -> StoredCounts:
        """Take all of an array."""
        return cls(stored, 0, stored.shape[2])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels."""
        return self.stored.shape[0], self.stored.shape[1], self.last - self.first

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts."""
        return self.stored.dtype

    @property
    def itemsize(self) -> int:
        """Bytes of a count."""
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes that the counts would take in memory."""
        return self.size * self.itemsize

    @property
    def size(self) -> int:
        """Number of entries."""
        rows, columns, channels = self.shape
        return rows * columns * channels

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: slice | tuple[slice, ...], /) -> Compact:
        """Read some rows of the map, (y, x, energy); also of some columns and channels."""
        rows, *others = place if isinstance(place, tuple) else (place,)
        first, last, step = rows.indices(len(self))
        whole = self.stored.part(first, last)[::step]
        read = np.array(whole[:, :, self.first : self.last])
        for channel, other in self.replaced:
            if self.first <= channel < self.last:
                read[:, :, channel - self.first] = whole[:, :, other]
        if self.mask is not None:
            read[self.mask[first:last:step]] = 0
        return read[(slice(None), *others)]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Read all of it: for who asks for that."""
        return np.asarray(self[:], dtype)

    def to_dask(self) -> DaskArray:
        """Return the counts as a dask array whose chunks are bands of rows."""
        da = importlib.import_module("dask.array")
        sizes = tuple(part.stop - part.start for part in bands(self))
        return da.from_array(self, chunks=(sizes, -1, -1), name=False)

    def matrix(self) -> StoredPixels:
        """Return the counts as rows of pixels, (pixel, energy)."""
        return StoredPixels(self)

    def cropped(self, first: int, last: int) -> StoredCounts:
        """Return some of the channels."""
        return dataclasses.replace(self, first=self.first + first, last=self.first + last)

    def with_replaced(self, channels: Sequence[tuple[int, int]]) -> StoredCounts:
        """Return the counts with some channels that hold what others do."""
        pairs = tuple((self.first + channel, self.first + other) for channel, other in channels)
        return dataclasses.replace(self, replaced=(*self.replaced, *pairs))

    def without(self, mask: Mask | None) -> StoredCounts:
        """Return the counts with pixels left out, all of whose counts are zeros then."""
        same = mask is self.mask or (
            mask is not None and self.mask is not None and np.array_equal(mask, self.mask)
        )
        return self if same else dataclasses.replace(self, mask=mask)

    @cached_property
    def survey(self) -> Survey:
        """What one pass over all pixels tells."""
        rows, columns, channels = self.shape
        totals = np.zeros((rows, columns), np.int64)
        spectrum = np.zeros(channels, np.int64)
        largest = filled = 0
        for part in bands(self):
            read = self[part]
            totals[part] = read.sum(axis=2, dtype=np.uint64)
            spectrum += read.reshape(-1, channels).sum(axis=0, dtype=np.int64)
            largest, filled = max(largest, int(read.max())), filled + int(np.count_nonzero(read))
        return Survey(totals, spectrum, largest, filled)


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """The same counts pixel by pixel, (pixel, energy), along the rows of the map."""

    counts: StoredCounts

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels and channels."""
        rows, columns, channels = self.counts.shape
        return rows * columns, channels

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, pixels: slice, /) -> Compact:
        first, last, step = pixels.indices(len(self))
        columns = self.counts.shape[1]
        top = first // columns
        read = self.counts[top : -(-last // columns)].reshape(-1, self.shape[1])
        return read[first - top * columns : last - top * columns : step]


@dataclass(frozen=True, eq=False)
class Survey:
    """Sums of a map.

    Attributes
    ----------
    totals : (y, x)
        Counts of each pixel.
    spectrum : (energy,)
        Counts of each channel.
    largest : int
        Most counts in a channel of a pixel.
    filled : int
        Entries that are not zero.
    """

    totals: npt.NDArray[np.int64]
    spectrum: npt.NDArray[np.int64]
    largest: int
    filled: int


def bands(
    counts: Compact | StoredCounts, *, rows: tuple[int, int] | None = None, whole: int = 1
) -> Iterator[slice]:
    """Yield bands of the rows of a map that go through it.

    Parameters
    ----------
    counts
        (y, x, energy).
    rows
        From which row to before which; all of them when left out.
    whole
        Rows that are not torn apart: bands begin at multiples of it.
    """
    first, last = (0, len(counts)) if rows is None else rows
    for part in pieces(counts, counts.dtype, whole=whole):
        inside = slice(max(part.start, first), min(part.stop, last))
        if inside.start < inside.stop:
            yield inside
