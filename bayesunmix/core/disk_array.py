"""Arrays in a file of their own, of which some rows at a time are in memory.

A file is mapped for the rows that are read or written, and no longer: pages that stay mapped would count as memory of
the process. Files are temporary, and gone with the array that holds them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Rows are gone through in pieces of about this many bytes.
PIECE_BYTES = 32_000_000


class Rows(Protocol):
    """An array whose rows are read by slices: NumPy's, or one on disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Array: ...


class _Closing:
    """A file that is closed with the last array that lies in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __del__(self) -> None:
        self.file.close()


class DiskArray:
    """An array on disk; what is read of it is a copy in memory.

    Parameters
    ----------
    file
        Open for reading, and for writing where that is wanted.
    shape, dtype
        Of the array, which is all that the file holds, in the order of C.
    """

    def __init__(self, file: IO[bytes] | _Closing, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._closing = file if isinstance(file, _Closing) else _Closing(file)
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: npt.DTypeLike, path: Path | None = None) -> DiskArray:
        """Make an array of zeros in a file of this name, or in a temporary one.

        Raises
        ------
        OSError
            If the disk has no room for it: asked now, since writing to a mapped file of a full disk ends the process.
        """
        file: IO[bytes] = tempfile.TemporaryFile(prefix="bayesunmix-") if path is None else path.open("w+b")
        made = cls(file, shape, dtype)
        file.truncate(made.nbytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, made.nbytes)
        return made

    @classmethod
    def of_file(cls, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DiskArray:
        """Open what another process has written."""
        return cls(path.open("rb"), shape, dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> Array:
        first, last, step = rows.indices(len(self))
        return np.array(self.part(first, last)[::step])

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Array:
        """Return some rows, whose numbers ascend."""
        if not len(rows):
            return np.zeros((0, *self.shape[1:]), self.dtype)
        first = int(rows[0])
        return np.array(self.part(first, int(rows[-1]) + 1)[rows - first])

    def part(self, first: int, last: int) -> Array:
        """Map the rows from `first` to before `last`: let go of what is returned as soon as it has served."""
        shape = (max(last - first, 0), *self.shape[1:])
        if 0 in shape:
            return np.zeros(shape, self.dtype)
        row = self.nbytes // len(self)
        file = self._closing.file
        mode = "r+" if "+" in str(file.mode) else "r"
        mapped = np.memmap(file, self.dtype, mode, offset=first * row, shape=shape)  # type: ignore[call-overload]
        return np.asarray(mapped)

    def reshaped(self, *shape: int) -> DiskArray:
        """Return the same numbers in another shape."""
        return DiskArray(self._closing, shape, self.dtype)


@dataclass(frozen=True, eq=False)
class Picked:
    """Some rows of an array, in their order, which are copied when they are read.

    Parameters
    ----------
    source
        All rows.
    places
        Numbers of those that are picked, ascending.
    """

    source: Rows
    places: npt.NDArray[np.integer[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Picked rows, and what is in each."""
        return len(self.places), *self.source.shape[1:]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice, /) -> Array:
        places = self.places[rows]
        if isinstance(self.source, np.ndarray):
            return np.asarray(self.source[places])
        if isinstance(self.source, DiskArray):
            return self.source.take(places)
        first = int(places[0]) if len(places) else 0
        near = self.source[first : int(places[-1]) + 1 if len(places) else 0]
        return np.asarray(near[places - first])


def pieces(rows: Rows, dtype: npt.DTypeLike, *, whole: int = 1) -> Iterator[slice]:
    """Yield slices that go through the rows, each of about `PIECE_BYTES`.

    Parameters
    ----------
    rows
        The array.
    dtype
        Of its numbers.
    whole
        Rows that are not torn apart: slices begin at multiples of it.
    """
    size = np.dtype(dtype).itemsize * max(int(np.prod(rows.shape[1:], dtype=np.int64)), 1) * whole
    step = max(1, PIECE_BYTES // size) * whole
    for first in range(0, len(rows), step):
        yield slice(first, min(first + step, len(rows)))
