"""What is chosen on a map: a pixel, a rectangle, a lasso or a line, and the pixels of it.

Positions are in pixels: the centre of the first one is at (0, 0), rows go down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.path import Path as Outline

Mask = npt.NDArray[np.bool_]
Shape = tuple[int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Rectangle:
    """Pixels from one corner to another, both of them included; a pixel is a rectangle of one.

    Attributes
    ----------
    row, column
        The corner that was chosen first.
    to_row, to_column
        The other.
    """

    row: int
    column: int
    to_row: int
    to_column: int

    @classmethod
    def pixel(cls, row: float, column: float) -> Rectangle:
        """Return the pixel that a position lies in."""
        at = round(row), round(column)
        return cls(*at, *at)

    @property
    def sides(self) -> Shape:
        """Rows and columns."""
        return abs(self.to_row - self.row) + 1, abs(self.to_column - self.column) + 1

    def mask(self, shape: Shape) -> Mask:
        """Pixels (y, x) inside."""
        inside = np.zeros(shape, bool)
        (top, bottom), (left, right) = (
            sorted((self.row, self.to_row)),
            sorted((self.column, self.to_column)),
        )
        inside[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
        return inside

    def __str__(self) -> str:
        if self.sides == (1, 1):
            return f"pixel, row {self.row}, column {self.column}"
        (top, bottom), (left, right) = (
            sorted((self.row, self.to_row)),
            sorted((self.column, self.to_column)),
        )
        return f"rectangle, rows {top} to {bottom}, columns {left} to {right}"


@dataclass(frozen=True)
class Lasso:
    """Pixels whose centres an outline encloses.

    Attributes
    ----------
    points
        Rows and columns of its corners.
    """

    points: tuple[Point, ...]

    def mask(self, shape: Shape) -> Mask:
        """Pixels (y, x) inside."""
        inside = Outline(np.array(self.points)).contains_points(_centres(shape))
        return np.asarray(inside.reshape(shape))

    def __str__(self) -> str:
        return "lasso"


@dataclass(frozen=True)
class LineChoice:
    """Pixels whose centres lie within half a width of a line.

    Attributes
    ----------
    start, end
        Row and column of its ends.
    width
        In pixels.
    """

    start: Point
    end: Point
    width: int = 1

    def mask(self, shape: Shape) -> Mask:
        """Pixels (y, x) on it."""
        start, along = np.array(self.start), np.subtract(self.end, self.start)
        offset = _centres(shape) - start
        square = float(along @ along)
        share = np.clip(offset @ along / square, 0.0, 1.0) if square > 0.0 else np.zeros(len(offset))
        distance = np.linalg.norm(offset - share[:, None] * along, axis=1)
        return np.asarray((distance <= 0.5 * self.width + 1e-9).reshape(shape))

    def __str__(self) -> str:
        (top, left), (bottom, right) = self.start, self.end
        return (
            f"line, row {top:.0f}, column {left:.0f} to row {bottom:.0f}, column {right:.0f}, "
            f"{self.width} wide"
        )


Choice: TypeAlias = Rectangle | Lasso | LineChoice


def rectangle_between(corner: Point, other: Point, shape: Shape) -> Rectangle:
    """Return the pixels whose centres lie between two positions, at least the one of the first."""
    (row, to_row), (column, to_column) = (
        _covered(a, b, size) for a, b, size in zip(corner, other, shape, strict=True)
    )
    return Rectangle(row, column, to_row, to_column)


def moved(choice: Choice, down: int, right: int, shape: Shape, *, extend: bool = False) -> Rectangle:
    """Move the chosen pixel, or the far corner of a rectangle, within the map.

    Parameters
    ----------
    choice
        What is chosen; where it is no rectangle, its first pixel is taken.
    down, right
        By how many pixels.
    shape
        Rows and columns of the map.
    extend
        Whether the first corner stays, so that a rectangle grows.
    """
    if not isinstance(choice, Rectangle):
        pixels = np.argwhere(choice.mask(shape))
        choice = Rectangle.pixel(*(pixels[0] if len(pixels) else (0, 0)))
    row = int(np.clip(choice.to_row + down, 0, shape[0] - 1))
    column = int(np.clip(choice.to_column + right, 0, shape[1] - 1))
    return replace(choice, to_row=row, to_column=column) if extend else Rectangle(row, column, row, column)


def _covered(a: float, b: float, size: int) -> tuple[int, int]:
    low, high = sorted((a, b))
    first, last = int(np.ceil(low)), int(np.floor(high))
    if first > last:
        first = last = round(a)
    return int(np.clip(first, 0, size - 1)), int(np.clip(last, 0, size - 1))


def _centres(shape: Shape) -> npt.NDArray[np.float64]:
    """Rows and columns of all pixels, (pixel, 2)."""
    rows, columns = np.indices(shape)
    return np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.float64)
