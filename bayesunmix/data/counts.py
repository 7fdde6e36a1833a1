"""Photon counts as they are: whole numbers in the narrowest type that holds them, and the pixels that hold none.

Arrays are read piece by piece, so that memory stays near the size of the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, shown
from bayesunmix.core.memory import check_counts

# dask ships no types.
DaskArray = Any
Source = npt.NDArray[Any] | DaskArray
Place = tuple[slice, ...]
Mask = npt.NDArray[np.bool_]

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
        In the smallest of uint8, uint16 and uint32 that holds them, C-contiguous; zero at missing pixels.
    missing : (...) bool, or None
        Pixels with a masked or a NaN channel; None where there is no such pixel.
    n_nan : int
        How many pixels hold NaN.
    """

    counts: npt.NDArray[np.unsignedinteger[Any]]
    missing: Mask | None
    n_nan: int


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


def read_counts(counts: npt.ArrayLike | DaskArray) -> ReadCounts:
    """Read counts and the pixels that are masked or NaN; an array that is compact already is shared, not copied.

    Float arrays of numbers that are whole to float precision are accepted.

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
    if type(source) is np.ndarray and source.dtype.type in _DTYPES:
        found = ReadCounts(np.ascontiguousarray(source, dtype=smallest_dtype(int(source.max()))), None, 0)
    else:
        found = _read_blocks(source)
    if not found.counts.any():
        _refuse_nothing(found.missing)
    return found


def compact_counts(counts: npt.ArrayLike | DaskArray) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return counts that are all there as `read_counts` reads them.

    Raises
    ------
    InputError
        If a count is masked, NaN or none.
    """
    found = read_counts(counts)
    if found.missing is not None:
        raise InputError("counts", "be finite", f"are missing in {int(found.missing.sum())} pixels")
    return found.counts


def smallest_dtype(largest: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the narrowest type of counts up to `largest`."""
    return np.dtype(next(dtype for dtype in _DTYPES if largest <= np.iinfo(dtype).max))


def shape_text(array: Source) -> str:
    """Show the shape of an array in a message."""
    return " x ".join(str(size) for size in array.shape) or "() (a single number)"


def _read_blocks(source: Source) -> ReadCounts:
    """Read an array that has to be converted."""
    check_counts(source.shape)
    compact: npt.NDArray[np.unsignedinteger[Any]] = np.zeros(source.shape, dtype=np.uint8)
    masked, holds_nan = np.zeros(source.shape[:-1], bool), np.zeros(source.shape[:-1], bool)
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
        whole = _checked(values, place)
        highest = int(whole.max())
        if highest > np.iinfo(compact.dtype).max:
            compact = compact.astype(smallest_dtype(highest))
        compact[place] = whole
    missing = masked | holds_nan
    if not missing.any():
        return ReadCounts(compact, None, 0)
    # Chunks may end in the middle of a pixel's spectrum.
    compact[missing] = 0
    return ReadCounts(compact, missing, int(np.count_nonzero(holds_nan)))


def _refuse_nothing(missing: Mask | None) -> None:
    """Raise `InputError` about counts that are all zero or all missing."""
    if missing is None:
        remedy = "Check that this is the measured map."
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
