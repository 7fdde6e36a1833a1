"""Shares of a sum that may be zero, and how far apart two sets of them are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# A sum below this is no sum: nothing that is counted is so small, and its inverse would leave the range of numbers.
NOTHING = 1e-100


def shares_of(values: npt.ArrayLike, axis: int | tuple[int, ...] = -1) -> FloatArray:
    """Non-negative values over their sum along some axes; zeros where there is nothing to share.

    Parameters
    ----------
    values : array
        Amounts, e.g. atoms of each element in a phase, which may have none.
    axis
        Axes over which the shares add up to 1, or to 0 where all values are 0.

    Examples
    --------
    >>> shares_of([[1.0, 3.0], [0.0, 0.0]]).tolist()
    [[0.25, 0.75], [0.0, 0.0]]
    """
    array = np.asarray(values, dtype=np.float64)
    return ratio_of(array, array.sum(axis=axis, keepdims=True))


def ratio_of(above: npt.ArrayLike, below: npt.ArrayLike) -> FloatArray:
    """Ratio of two amounts; zero where the second is none.

    Examples
    --------
    >>> ratio_of([2.0, 2.0], [4.0, 0.0]).tolist()
    [0.5, 0.0]
    """
    top, bottom = np.asarray(above, np.float64), np.asarray(below, np.float64)
    none = np.zeros(np.broadcast(top, bottom).shape)
    return np.asarray(np.divide(top, bottom, out=none, where=bottom > NOTHING))


def hellinger(first: FloatArray, second: FloatArray) -> FloatArray:
    """Hellinger distance of shares (..., n) that add up to 1, e.g. of spectra or compositions, shape (...)."""
    return np.asarray(np.sqrt(0.5 * ((np.sqrt(first) - np.sqrt(second)) ** 2).sum(axis=-1)))
