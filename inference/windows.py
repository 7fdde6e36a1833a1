"""Square windows on a map: their sides, where they lie, and sums of counts over all windows of a size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import Rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The smallest window holds about this many counts; windows grow by this factor up to this share of the map.
FEWEST_COUNTS = 600.0
GROWTH = 1.7
LARGEST_SHARE = 0.2
MOST_SIZES = 5
# A window moves by its side over this.
STEPS_PER_SIDE = 2.5
# Windows are summed in bands of rows of the map that hold about this many numbers.
BAND_ENTRIES = 500_000


def window_sides(shape: tuple[int, int], counts_per_pixel: float) -> tuple[int, ...]:
    """Odd sides of the windows: from about `FEWEST_COUNTS` counts to a fifth of the map.

    A side longer than a side of the map is cut there, so that a line scan has windows along its line.
    """
    longest = max(LARGEST_SHARE * max(shape), 1.0)
    thin = min(shape)
    side = 1
    while min(side, thin) * side * counts_per_pixel < FEWEST_COUNTS and side + 2 <= longest:
        side += 2
    sides = [side]
    while len(sides) < MOST_SIZES:
        side = max(side + 2, round(GROWTH * side) // 2 * 2 + 1)
        if side > longest:
            break
        sides.append(side)
    return tuple(sides)


def summed_area(grid: FloatArray) -> FloatArray:
    """Sum over all pixels above and left of each corner, (y + 1, x + 1, group), of a grid (y, x, group)."""
    table = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1, grid.shape[2]))
    np.cumsum(np.cumsum(grid, axis=0), axis=1, out=table[1:, 1:])
    return table


def window_sums(table: FloatArray, side: int, step: int) -> tuple[FloatArray, tuple[IntArray, IntArray]]:
    """Return sums over square windows cut at the map's edge, and the windows' central pixels.

    Parameters
    ----------
    table : (y + 1, x + 1, group)
        From `summed_area`.
    side, step : int

    Returns
    -------
    (row, column, group) and (rows,), (columns,)
    """
    half, (height, width) = side // 2, (len(table) - 1, table.shape[1] - 1)
    rows, columns = window_centres(height, step), window_centres(width, step)
    low, high = np.maximum(rows - half, 0), np.minimum(rows + half + 1, height)
    return _across(table[high] - table[low], side, step), (rows, columns)


def _across(rows: FloatArray, side: int, step: int) -> FloatArray:
    """Sum over the width of the windows what is summed over their height, (row, x + 1, group)."""
    half, width = side // 2, rows.shape[1] - 1
    columns = window_centres(width, step)
    low, high = np.maximum(columns - half, 0), np.minimum(columns + half + 1, width)
    return np.maximum(rows[:, high] - rows[:, low], 0.0)


def window_centres(size: int, step: int) -> IntArray:
    """Evenly spaced pixels that cover a side of the map."""
    return np.unique(np.linspace(0, size - 1, -(-size // step)).round().astype(np.int64))


def window_bands(grid: Rows, side: int) -> Iterator[tuple[slice, FloatArray]]:
    """Sum a map over all windows of a size, some rows of windows at a time.

    Parameters
    ----------
    grid : (y, x, group)
        Read in rows; whole numbers, so that the sums do not depend on the bands.
    side : int

    Returns
    -------
    Iterator of which rows of windows, and (row, column, group).
    """
    height, width, groups = grid.shape
    step, half = window_step(side), side // 2
    centres = window_centres(height, step)
    many = max(1, BAND_ENTRIES // (step * width * groups))
    for first in range(0, len(centres), many):
        own = centres[first : first + many]
        top, below = max(int(own[0]) - half, 0), min(int(own[-1]) + half + 1, height)
        table = summed_area(grid[top:below])
        low = np.maximum(own - half, 0) - top
        high = np.minimum(own + half + 1, height) - top
        yield slice(first, first + len(own)), _across(table[high] - table[low], side, step)


def window_step(side: int) -> int:
    """Pixels from one window to the next."""
    return max(1, int(side / STEPS_PER_SIDE))


def nearest_centre(centres: IntArray, size: int) -> IntArray:
    """Index of the nearest centre for every pixel of a side."""
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.searchsorted(middle, np.arange(size)).astype(np.int64)
