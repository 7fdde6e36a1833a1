"""Pixels of like spectra, pooled: a few hundred sums stand for thousands of pixels.

Pixels that hold the same mixture have independent multinomial counts of the same probabilities, for which the sum of
their counts is sufficient. Where n pixels with the mean counts y lie so close together that their counts could not tell
them apart, n log sum_j pi_j prod_c m_jc^y_c is, to second order in what lies between them, the log-likelihood of all.

Groups are the cells of a tree: the cell with the largest weighted sum of squares along an axis is cut there at its
mean, again and again (Boley, D., Data Min. Knowl. Discov. 2 (1998) 325, with the axes of the leading singular vectors
in the place of each cell's own). Axes are scaled to equal noise, so that cells end up about as wide as the noise where
pixels differ by more, and hold many pixels where they do not.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from bayesunmix.core.shares import ratio_of
from bayesunmix.inference.arrays import leading_singular

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Single-precision counts of a pixel without any may be divided by this.
TINY = np.float32(1e-9)
# Directions in which pixels are told apart: more than phases.
MOST_DIRECTIONS = 12


class Pooled(NamedTuple):
    """Groups of pixels.

    Attributes
    ----------
    counts : (group, column) float32
        Mean of the group's pixels.
    number : (group,)
        Pixels in the group.
    known : (group,) int, optional
        Phase that its pixels are known to hold alone, -1 where nothing is known of them.
    """

    counts: Float32Array
    number: FloatArray
    known: IntArray | None = None

    @property
    def sums(self) -> Float32Array:
        """Sums of the groups, (group, column)."""
        return self.counts * self.number[:, None].astype(np.float32)


def pooled_alike(values: Float32Array, counts: Float32Array, most: int, known: IntArray | None) -> Pooled:
    """Pool pixels of like spectra; those that are known to hold a phase alone are one group for each phase.

    Parameters
    ----------
    values : (pixel, column)
    counts : (pixel, energy)
    most : int
        Groups at most, of pixels of which nothing is known.
    known : (pixel,) int, optional
        Phase that a pixel is known to hold alone, -1 where nothing is known.
    """
    if known is None:
        return pooled(values, alike(counts, most))
    labels, open_ = np.zeros(len(counts), np.intp), known < 0
    labels[open_] = alike(counts[open_], most)
    first = int(labels[open_].max(initial=-1)) + 1
    phases = np.unique(known[~open_])
    labels[~open_] = first + np.searchsorted(phases, known[~open_])
    return pooled(values, labels)._replace(known=np.concatenate([np.full(first, -1), phases]))


def pooled(values: Float32Array, labels: npt.NDArray[np.intp]) -> Pooled:
    """Mean of each group's rows.

    Parameters
    ----------
    values : (pixel, column)
    labels : (pixel,)
        Group of each pixel, 0, 1, ... without gaps.
    """
    number = np.bincount(labels).astype(float)
    ones = np.ones(len(labels), np.float32)
    member = csr_array((ones, (labels, np.arange(len(labels)))), shape=(len(number), len(labels)))
    return Pooled((member @ values) / number[:, None].astype(np.float32), number)


def alike(counts: Float32Array, most: int) -> npt.NDArray[np.intp]:
    """Group of each pixel, (pixel,), at most so many groups of pixels with like spectra.

    Parameters
    ----------
    counts : (pixel, energy)
    most : int
        With as many pixels or fewer, each is a group.
    """
    if len(counts) <= most:
        return np.arange(len(counts))
    total = counts.sum(axis=1, dtype=np.float64)
    mean = counts.sum(axis=0, dtype=np.float64) / total.sum()
    # Each pixel is weighted by its counts, and each channel's Poisson noise is made the same.
    root = np.sqrt(total)[:, None].astype(np.float32)
    residual = counts / np.maximum(root, TINY)
    residual -= root * mean.astype(np.float32)
    residual *= ratio_of(1.0, np.sqrt(mean)).astype(np.float32)
    scores, _ = leading_singular(residual, min(MOST_DIRECTIONS, counts.shape[1]))
    return _cells(ratio_of(scores, np.sqrt(total)[:, None]), total, most)


def _cells(positions: FloatArray, weights: FloatArray, most: int) -> npt.NDArray[np.intp]:
    """Cell of each position, (position,), of the tree that cuts where the weighted sum of squares is largest."""
    labels = np.zeros(len(positions), np.intp)

    def cell(
        label: int, members: npt.NDArray[np.intp]
    ) -> tuple[float, int, npt.NDArray[np.intp], FloatArray]:
        w, x = weights[members], positions[members]
        apart = x - w @ x / w.sum()
        squares = w @ apart**2
        widest = int(squares.argmax())
        return -float(squares[widest]), label, members, apart[:, widest]

    heap, made = [cell(0, np.arange(len(positions)))], 1
    while heap and made < most:
        _, label, members, along = heapq.heappop(heap)
        beyond = along > 0.0
        # What is left of a cell whose pixels are all the same is rounding.
        if beyond.any() and not beyond.all():
            labels[members[beyond]] = made
            heapq.heappush(heap, cell(label, members[~beyond]))
            heapq.heappush(heap, cell(made, members[beyond]))
            made += 1
    return labels
