"""Photon counts as they are: whole numbers in the narrowest type that holds them, and the pixels that hold none.

Arrays are read piece by piece, so that memory stays near the size of the result, or, where that does not fit, near the
size of a piece: the result then lies on disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import DiskArray, pieces
from bayesunmix.core.errors import InputError, shown
from bayesunmix.core.memory import check_counts, held_in_memory

# dask ships no types.
DaskArray = Any
Source = npt.NDArray[Any] | DaskArray
Place = tuple[slice, ...]
Mask = npt.NDArray[np.bool_]
Compact = npt.NDArray[np.unsignedinteger[Any]]

_DTYPES = (np.uint8, np.uint16, np.uint32)
# Counts are checked and copied in pieces of about this many entries: no temporary ever nears the size of the map.
_BLOCK_ENTRIES = 2_000_000
# Arithmetic that is undone again (scaling by the Poisson noise, say) leaves counts off by some units in the last place
# of single precision; counts that were normalised or denoised are off by far more.
_ROUNDING = 16.0 * float(np.finfo(np.float32).eps)
_MOST_ROUNDING = 1e-3
_NEARLY_ZERO = 1e-12
_RAW_COUNTS = "Give the raw counts, not normalised, background-subtracted or denoised."


@dataclass(frozen=True)
class ReadCounts:
    """Counts of an array, and the pixels for which it holds none.

    Attributes
    ----------
    counts : (..., energy)
        In the smallest of uint8, uint16 and uint32 that holds them, C-contiguous; zero at missing pixels. On disk where
        they do not fit into memory.
    missing : (...) bool, or None
        Pixels with a masked or a NaN channel; None where there is no such pixel.
    n_nan : int
        How many pixels hold NaN.
    """

    counts: Compact | DiskArray
    missing: Mask | None
    n_nan: int

    def in_memory(self) -> Compact:
        """Return the counts as an array in memory.

        Raises
        ------
        InputError
            If they do not fit.
        """
        if isinstance(self.counts, DiskArray):
            check_counts(self.counts.shape)
            return self.counts[:]
        return self.counts


class Growing:
    """Counts that come in pieces, in the narrowest type that holds those that have come, zeros elsewhere.

    Parameters
    ----------
    shape
        Of all of them.
    on_disk
        Whether they are kept in a file: a temporary one, or one in a folder.
    """

    def __init__(self, shape: tuple[int, ...], on_disk: bool | Path) -> None:
        self._folder = on_disk if isinstance(on_disk, Path) else None
        self._on_disk = bool(on_disk)
        self.counts = self._zeros(shape, np.dtype(np.uint8))

    def put(self, place: Place, whole: npt.NDArray[Any]) -> None:
        """Put a piece of whole numbers, none below zero, in its place."""
        highest = int(whole.max(initial=0))
        if highest > np.iinfo(self.counts.dtype).max:
            self._widen(smallest_dtype(highest))
        if isinstance(self.counts, DiskArray):
            first, last, _ = place[0].indices(len(self.counts))
            self.counts.part(first, last)[(slice(None), *place[1:])] = whole
        else:
            self.counts[place] = whole

    def forget(self, missing: Mask) -> None:
        """Set pixels (...) to zero."""
        if not isinstance(self.counts, DiskArray):
            self.counts[missing] = 0
            return
        for row in np.flatnonzero(missing.reshape(len(missing), -1).any(axis=1)).tolist():
            self.counts.part(row, row + 1)[missing[row : row + 1]] = 0

    def _widen(self, dtype: np.dtype[Any]) -> None:
        if not isinstance(self.counts, DiskArray):
            self.counts = self.counts.astype(dtype)
            return
        wider = self._zeros(self.counts.shape, dtype)
        for rows in pieces(self.counts, dtype):
            wider.part(rows.start, rows.stop)[:] = self.counts[rows]
        self.counts = wider

    def _zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - an array of either kind
        if not self._on_disk:
            return np.zeros(shape, dtype=dtype)
        path = None if self._folder is None else self._folder / f"counts.{dtype}"
        return DiskArray.zeros(shape, dtype, path)


def as_source(counts: npt.ArrayLike | DaskArray) -> Source:
    """Return what counts are read from: dask and masked arrays as they are, anything else as a NumPy array."""
    lazy = hasattr(counts, "chunks") and hasattr(counts, "compute")
    return counts if lazy or np.ma.isMaskedArray(counts) else as_array("counts", counts)


def as_array(field: str, value: object) -> npt.NDArray[Any]:
    """Return a NumPy array of what is one, or raise `InputError`."""
    try:
        return np.asarray(value)
    except Exception:  # an object may say anything when it is asked for its array; lists may be ragged
        raise InputError(field, "be an array", f"is {shown(value)}") from None


def as_numbers(field: str, value: object, must: str = "be an array of numbers") -> npt.NDArray[np.float64]:
    """Return what can be an array of real numbers as one, or raise `InputError`; texts are none."""
    array = as_array(field, value)
    try:
        if array.dtype.kind not in "buifO":
            raise TypeError
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(field, must, "is not an array of numbers") from None


def read_counts(
    counts: npt.ArrayLike | DaskArray,
    *,
    on_disk: bool | Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> ReadCounts:
    """Read counts and the pixels that are masked or NaN; an array that is compact already is shared, not copied.

    Float arrays of numbers that are whole to float precision are accepted.

    Parameters
    ----------
    counts
        NumPy's or dask's array (..., energy).
    on_disk
        Whether the counts are kept in a file, a temporary one or one in a folder, rather than in memory; None for
        those of dask that memory does not take with ease.
    progress
        Told the share that is read.

    Raises
    ------
    InputError
        If a count is negative, not whole, infinite or above 2**32 - 1, or if there is no count at all.
    """
    source = as_source(counts)
    if source.dtype.kind not in "uif":
        raise InputError("counts", "be numbers of photons", f"have the type {source.dtype}", _RAW_COUNTS)
    if source.size == 0 or source.ndim == 0:
        raise InputError(
            "counts", "hold at least one pixel and one channel", f"have shape {shape_text(source)}"
        )
    if np.ma.isMaskedArray(source) and not np.ma.is_masked(source):
        source = source.data
    if on_disk is None:
        on_disk = not (isinstance(source, np.ndarray) or held_in_memory(source.size))
    if type(source) is np.ndarray and source.dtype.type in _DTYPES and not on_disk:
        shared = _shared(source)
        if not shared.any():
            _refuse_nothing(None)
        return ReadCounts(shared, None, 0)
    return _read_blocks(source, on_disk, progress)


def compact_counts(counts: npt.ArrayLike | DaskArray) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return counts that are all there as `read_counts` reads them.

    Raises
    ------
    InputError
        If a count is masked, NaN or none.
    """
    found = read_counts(counts, on_disk=False)
    if found.missing is not None:
        raise InputError("counts", "be finite", f"are missing in {int(found.missing.sum())} pixels")
    return found.in_memory()


def smallest_dtype(largest: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the narrowest type of counts up to `largest`."""
    return np.dtype(next(dtype for dtype in _DTYPES if largest <= np.iinfo(dtype).max))


def shape_text(array: Source) -> str:
    """Show the shape of an array in a message."""
    return " x ".join(str(size) for size in array.shape) or "() (a single number)"


def _shared(source: Compact) -> Compact:
    """Return compact counts as they are where they can be gone through pixel by pixel, else contiguous."""
    narrow = smallest_dtype(int(source.max()))
    inner = source.strides[-1] == source.itemsize
    in_rows = inner and all(
        outer == size * step
        for outer, size, step in zip(
            source.strides[:-2], source.shape[1:-1], source.strides[1:-1], strict=True
        )
    )
    return source if in_rows and source.dtype == narrow else np.ascontiguousarray(source, dtype=narrow)


def _read_blocks(
    source: Source, on_disk: bool | Path, progress: Callable[[float], None] | None
) -> ReadCounts:
    """Read an array that has to be converted."""
    if not on_disk:
        check_counts(source.shape)
    compact = Growing(source.shape, on_disk)
    masked, holds_nan = np.zeros(source.shape[:-1], bool), np.zeros(source.shape[:-1], bool)
    read = 0
    for place in _blocks(source):
        piece = _dense(source[place])
        pixels = place[: source.ndim - 1]
        hidden = np.ma.getmaskarray(piece).any(axis=-1)
        values = np.ma.getdata(piece)
        unknown = (
            np.isnan(values).any(axis=-1) & ~hidden if values.dtype.kind == "f" else np.zeros_like(hidden)
        )
        masked[pixels] |= hidden
        holds_nan[pixels] |= unknown
        if hidden.any() or unknown.any():
            values = np.where((hidden | unknown)[..., None], values.dtype.type(0), values)
        compact.put(place, _checked(values, place))
        read += values.size
        if progress is not None:
            progress(read / source.size)
    missing = masked | holds_nan
    if missing.any():
        # Chunks may end in the middle of a pixel's spectrum.
        compact.forget(missing)
    counts = compact.counts
    if not any(counts[rows].any() for rows in pieces(counts, counts.dtype)):
        _refuse_nothing(missing if missing.any() else None)
    if not missing.any():
        return ReadCounts(counts, None, 0)
    return ReadCounts(counts, missing, int(np.count_nonzero(holds_nan)))


def _refuse_nothing(missing: Mask | None) -> None:
    """Raise `InputError` about counts that are all zero or all missing."""
    if missing is None:
        remedy = "Check that these are the measured counts."
        raise InputError("counts", "hold at least one photon", "are all zero", remedy)
    left = "are masked or NaN in every pixel" if missing.all() else "are zero, masked or NaN in every pixel"
    remedy = "One masked channel leaves its pixel out; to leave out channels, choose an energy range."
    raise InputError("counts", "hold at least one photon", left, remedy)


def _blocks(source: Source) -> Iterator[Place]:
    """Yield the slices of one piece after the other: a dask array's chunks, a NumPy array's runs of leading rows."""
    if isinstance(source, np.ndarray):
        rows = max(1, _BLOCK_ENTRIES * source.shape[0] // source.size)
        for start in range(0, source.shape[0], rows):
            yield (slice(start, start + rows),)
        return
    edges = [np.concatenate(([0], np.cumsum(sizes))).tolist() for sizes in source.chunks]
    yield from itertools.product(*([slice(*pair) for pair in itertools.pairwise(edge)] for edge in edges))


def _dense(piece: Source) -> npt.NDArray[Any]:
    """Return a piece in memory; a dask piece may hold a sparse or a masked array."""
    if isinstance(piece, np.ndarray):
        return piece
    # One thread: pieces come one by one, and file readers of HDF5 take turns anyway.
    computed = piece.compute(scheduler="synchronous")
    dense = computed.todense() if hasattr(computed, "todense") else computed
    return dense if np.ma.isMaskedArray(dense) else np.asarray(dense)


def _checked(piece: npt.NDArray[Any], place: Place) -> npt.NDArray[Any]:
    """Return the whole numbers of a piece, or raise `InputError` about the first that is none."""
    whole = piece
    if piece.dtype.kind == "f":
        remedy = "Find out why the file holds it; do not fill it in."
        _refuse(~np.isfinite(piece), piece, place, "be finite", remedy)
        whole = np.rint(piece)
        if not np.array_equal(whole, piece):
            slack = np.minimum(_ROUNDING * whole, _MOST_ROUNDING)
            off = np.abs(piece - whole) > np.maximum(slack, _NEARLY_ZERO)
            # What is negative is refused below, whole or not.
            _refuse(off & (whole >= 0), piece, place, "be whole numbers", _RAW_COUNTS)
    if piece.dtype.kind != "u" and whole.min() < 0:
        _refuse(whole < 0, piece, place, "not be negative", _RAW_COUNTS)
    highest = int(whole.max())
    if highest > np.iinfo(_DTYPES[-1]).max:
        raise InputError("counts", "lie below 2**32", f"reach {highest:g}", _RAW_COUNTS)
    return whole


def _refuse(bad: Mask, piece: npt.NDArray[Any], place: Place, must: str, remedy: str) -> None:
    """Raise `InputError` naming the first entry of a piece that is `bad`, if one is."""
    if not bad.any():
        return
    local = np.unravel_index(int(np.argmax(bad)), bad.shape)
    starts = [part.start or 0 for part in place] + [0] * (piece.ndim - len(place))
    where = tuple(int(index) + start for index, start in zip(local, starts, strict=True))
    value = f"{piece[local]:g}"
    value = value if float(value) == piece[local] or not np.isfinite(piece[local]) else str(piece[local])
    raise InputError("counts", must, f"one is {value} at index {where}", remedy)
