"""Checks and loops that the algorithms on count arrays share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError

#: Values that one working batch holds: 1 MB of float32, so that a batch stays in the processor's cache.
_BLOCK_VALUES = 250_000

#: Smallest spectrum value and weight an update may reach: a zero could never grow again, and 0/0 is undefined.
FLOOR = 1e-12


def checked_counts(counts: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return counts (pixel, energy) as contiguous float32; refuse negative, infinite and all-zero ones."""
    array = _checked_matrix("counts", counts, "(pixel, energy)")
    if not array.any():
        raise InputError("counts", "hold at least one count", "are all zero")
    return np.ascontiguousarray(array, dtype=np.float32)


def checked_spectra(field: str, spectra: npt.ArrayLike, n_energy: int) -> npt.NDArray[np.float64]:
    """Return spectra (phase, energy) scaled to unit sums; refuse negative, infinite and all-zero rows."""
    array = _checked_matrix(field, spectra, "(phase, energy)").astype(np.float64)
    if array.shape[1] != n_energy:
        raise InputError(field, f"have the {n_energy} channels of the counts", f"has {array.shape[1]}")
    totals = array.sum(axis=1, keepdims=True)
    if not totals.all():
        raise InputError(
            field, "hold something above zero in every row", f"row {int(totals.argmin())} is all zero"
        )
    scaled: npt.NDArray[np.float64] = array / totals
    return scaled


def pixel_batches(n_pixel: int, n_energy: int) -> Iterator[slice]:
    """Slices that cover the pixels in batches small enough for the processor's cache."""
    step = max(1, _BLOCK_VALUES // n_energy)
    for start in range(0, n_pixel, step):
        yield slice(start, start + step)


def leading_singular(
    matrix: npt.NDArray[np.float32], n_components: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the leading scores (pixel, component) and right singular vectors (component, energy).

    The scores are left vectors times singular values. By the eigenvectors of the (energy, energy) product, which lose
    the digits of singular values below a millionth of the first: for starting points, where only the leading ones
    matter.
    """
    from scipy.linalg import eigh

    n_energy = matrix.shape[1]
    gram = (matrix.T @ matrix).astype(np.float64)
    _, vectors = eigh(gram, subset_by_index=(n_energy - n_components, n_energy - 1))
    right = np.ascontiguousarray(vectors[:, ::-1].T)
    return (matrix @ right.T.astype(np.float32)).astype(np.float64), right


def _checked_matrix(field: str, values: npt.ArrayLike, dims: str) -> npt.NDArray[np.number]:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(field, f"be a non-empty array of shape {dims}", f"has shape {array.shape}")
    if array.dtype.kind not in "uif":
        raise InputError(field, "hold real numbers", f"has dtype {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(field, "be finite", "holds NaN or infinity")
    if array.dtype.kind != "u" and array.min() < 0:
        raise InputError(field, "be non-negative", f"its smallest value is {array.min():g}")
    return array
