"""Exact binning: a sum of independent Poisson counts is a Poisson count of the summed mean.

Merging channels and pixels therefore changes how fine the model looks, never whether its likelihood is right. Counts
are only ever added, never averaged, weighted or interpolated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core import processes
from bayesunmix.core.disk_array import Rows
from bayesunmix.core.errors import InputError, check_integer, check_positive
from bayesunmix.core.memory import held_in_memory
from bayesunmix.data.counts import Growing, compact_counts
from bayesunmix.data.image import SpectrumImage

# Rows of the map are binned in groups of about this many entries, which keeps temporaries in the processor's cache.
_BLOCK_ENTRIES = 1_000_000


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BinnedCounts:
    """Counts of a map summed over blocks of pixels and bins of channels.

    Parameters
    ----------
    counts
        Summed counts (pixel, energy), one row per block of pixels, in the smallest unsigned integer type.
    block_index
        For each pixel (y, x) of the map the row of `counts` that holds it.
    block_side
        Side of the square blocks in pixels; blocks at the lower and right edge may be smaller.
    boundaries
        First channel of each bin and the number of channels (energy + 1,).
    edges_keV
        Energies of the bin edges (energy + 1,).
    mask
        Pixels (y, x) that are left out; None where none is.
    """

    counts: npt.NDArray[np.unsignedinteger[Any]]
    block_index: npt.NDArray[np.int32]
    block_side: int
    boundaries: npt.NDArray[np.int64]
    edges_keV: npt.NDArray[np.float64]
    mask: npt.NDArray[np.bool_] | None = None

    @property
    def n_blocks(self) -> int:
        """Number of blocks of pixels."""
        return int(self.counts.shape[0])

    @property
    def n_bins(self) -> int:
        """Number of energy bins."""
        return int(self.counts.shape[1])

    @cached_property
    def total_counts(self) -> npt.NDArray[np.int64]:
        """Counts of each block (pixel,), summed over energy."""
        return np.asarray(self.counts.sum(axis=1, dtype=np.int64))

    @cached_property
    def pixels_in_block(self) -> npt.NDArray[np.int64]:
        """Number of map pixels in each block (pixel,), without those that are left out."""
        index = self.block_index.ravel() if self.mask is None else self.block_index[~self.mask]
        return np.bincount(index, minlength=self.n_blocks)

    def to_map(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values of the blocks (pixel, ...) as a map (y, x, ...) at the full grid."""
        return np.asarray(values)[self.block_index]

    def __repr__(self) -> str:
        rows, columns = self.block_index.shape
        return (
            f"BinnedCounts: {self.n_blocks} blocks of {self.block_side} x {self.block_side} pixels"
            f" ({rows} x {columns} in all), {self.n_bins} energy bins,"
            f" {self.total_counts.mean():.4g} counts in a block"
        )


def channel_bins(
    channel_edges_keV: npt.NDArray[np.float64],
    fwhm_keV: Callable[[npt.NDArray[np.float64]], npt.ArrayLike],
    line_energies_keV: npt.ArrayLike,
    fraction: float = 1.0 / 3.0,
    *,
    near_fwhm: float = 2.5,
    smooth_fwhm: float = 2.5,
) -> npt.NDArray[np.int64]:
    """Choose energy bins: a fraction of the detector's resolution near lines, wider where only continuum lies.

    A bin is the longest run of channels no wider than the width allowed at each of its channels,
    ``w(E) = FWHM(E) * clip(fraction + (d - near_fwhm) / 2, fraction, smooth_fwhm)``, d being the distance to the
    nearest line in units of FWHM. A channel that is wider than that is a bin by itself.

    Parameters
    ----------
    channel_edges_keV
        Edges (energy + 1,) of the channels.
    fwhm_keV
        Full width at half maximum of the detector's response as a function of energies in keV.
    line_energies_keV
        Energies of all lines that may be in the map; those off the axis do no harm.
    fraction
        Bin width near a line, in FWHM. Bins of width w cost a Gaussian peak of standard deviation σ on a strong
        background w² / (24 σ²) of the information on its height: 2.6 % at a third of the FWHM.
    near_fwhm
        Distance in FWHM from a line up to which bins are at their finest.
    smooth_fwhm
        Bin width far from every line, in FWHM.

    Returns
    -------
    ndarray
        First channel of each bin, and at the end the number of channels (bin + 1,).

    Raises
    ------
    InputError
        If a width is not positive.
    """
    fraction = check_positive("fraction", fraction)
    widest = max(check_positive("smooth_fwhm", smooth_fwhm), fraction)
    edges = np.asarray(channel_edges_keV, dtype=np.float64)
    centres = 0.5 * (edges[1:] + edges[:-1])
    # Vendor axes start below zero, where no width law is meant to hold.
    fwhm = np.broadcast_to(np.asarray(fwhm_keV(np.maximum(centres, 0.0)), dtype=np.float64), centres.shape)
    if not (np.all(np.isfinite(fwhm)) and np.all(fwhm > 0.0)):
        raise InputError("fwhm_keV", "be positive and finite over the energy axis", "is not")
    distance = _distance_to_nearest(centres, np.asarray(line_energies_keV, dtype=np.float64)) / fwhm
    allowed = fwhm * np.clip(fraction + 0.5 * (distance - near_fwhm), fraction, widest)
    starts, narrowest = [0], allowed[0]
    for channel in range(1, centres.size):
        narrowest = min(narrowest, allowed[channel])
        # A millionth of slack: a bin of exactly the allowed width must not hang on the last binary digit.
        if edges[channel + 1] - edges[starts[-1]] > narrowest * (1.0 + 1e-6):
            starts.append(channel)
            narrowest = allowed[channel]
    return np.array([*starts, centres.size], dtype=np.int64)


def pixel_bins(
    total_counts: npt.NDArray[Any],
    target: float = 1000.0,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    min_blocks: int = 500,
    max_blocks: int = 70_000,
) -> int:
    """Choose the side of square pixel blocks so that a block holds about `target` counts on average.

    The side is at least one pixel, at most the longer side of the map, small enough to leave `min_blocks` blocks
    where the map has so many pixels, and large enough for at most `max_blocks`.

    Parameters
    ----------
    total_counts
        Counts of each pixel (y, x).
    target
        Mean counts of a block to aim at: enough to tell phases apart in one block.
    mask
        Pixels (y, x) that are left out and do not count.
    min_blocks
        Number of blocks to keep, so that mixtures are still told apart from pure regions.
    max_blocks
        Most blocks: time and memory go with their number. Larger blocks are as exact but mix more, which costs
        information (docs/performance.md, "Larger blocks").

    Returns
    -------
    int
        Side in pixels.
    """
    target = check_positive("target", target)
    rows, columns = (int(size) for size in total_counts.shape)
    share = 1.0 if mask is None else 1.0 - float(mask.mean())
    mean = float(np.sum(total_counts)) / (share * rows * columns)

    def n_blocks(side: int) -> float:
        return share * math.ceil(rows / side) * math.ceil(columns / side)

    def misses_by(side: int) -> float:
        pixels = share * rows * columns / n_blocks(side)
        return abs(math.log(pixels * mean / target)) if mean > 0.0 else -float(side)

    smallest = next(side for side in itertools.count(1) if n_blocks(side) <= max_blocks)
    sides = [
        side
        for side in range(smallest, max(rows, columns) + 1)
        if side == smallest or n_blocks(side) >= min_blocks
    ]
    return min(sides, key=misses_by)


def bin_image(
    image: SpectrumImage,
    boundaries: npt.ArrayLike,
    side: int = 1,
    progress: Callable[[float], None] | None = None,
) -> BinnedCounts:
    """Sum a map over square blocks of pixels and bins of channels; no count is lost.

    Of several processes (`bayesunmix.core.processes`), which must all call this, each sums its share of the rows.

    Parameters
    ----------
    image
        The map.
    boundaries
        First channel of each bin, rising from 0, and at the end the number of channels (bin + 1,).
    side
        Side of the blocks in pixels. Blocks at the lower and right edge keep the pixels that are left over.
    progress
        Told the share of the map that is summed.

    Returns
    -------
    BinnedCounts
        Blocks run along the rows of the map.

    Raises
    ------
    InputError
        If boundaries or side do not fit the map.
    """
    limits = _checked_boundaries(boundaries, image.n_channels)
    rows, columns, _ = image.shape
    side = check_integer("side", side, low=1, high=max(rows, columns))
    down, across = math.ceil(rows / side), math.ceil(columns / side)
    largest, widest = image.largest * side**2, int(np.diff(limits).max())
    summed = np.empty((down, across, limits.size - 1), dtype=_sum_dtype(largest * widest))
    firsts = np.arange(0, columns, side)
    own = processes.share(down)
    for part, band in image.bands((own.start * side, min(own.stop * side, rows)), whole=side):
        for top in range(0, len(band), side):
            lines = band[top : top + side].sum(axis=0, dtype=_sum_dtype(largest))
            blocks = np.add.reduceat(lines, firsts, axis=0)
            row = summed[(part.start + top) // side]
            np.add.reduceat(blocks, limits[:-1], axis=1, dtype=summed.dtype, out=row)
        if progress is not None:
            progress(part.stop / rows)
    processes.complete(summed, own)
    counts = compact_counts(summed.reshape(down * across, -1))
    index = (np.arange(rows) // side)[:, None] * across + (np.arange(columns) // side)[None, :]
    return BinnedCounts(
        counts=counts,
        block_index=index.astype(np.int32),
        block_side=side,
        boundaries=limits,
        edges_keV=image.channel_edges_keV[limits],
        mask=image.mask,
    )


def bin_channels(
    image: SpectrumImage, boundaries: npt.ArrayLike, progress: Callable[[float], None] | None = None
) -> Rows:
    """Sum a map over bins of channels at full pixel resolution.

    Parameters
    ----------
    image
        The map.
    boundaries
        First channel of each bin, rising from 0, and at the end the number of channels (bin + 1,).
    progress
        Told the share of the map that is summed.

    Returns
    -------
    Rows
        Counts (pixel, bin) in the smallest unsigned integer type; on disk where they do not fit into memory with ease.

    Raises
    ------
    InputError
        If the boundaries do not fit the map.
    """
    limits = _checked_boundaries(boundaries, image.n_channels)
    rows, columns, _ = image.shape
    shape = (image.n_pixels, limits.size - 1)
    # The largest bin of a map is far below what the largest count would make of the widest bin.
    dtype = _sum_dtype(image.largest * int(np.diff(limits).max()))
    binned = Growing(shape, on_disk=not held_in_memory(shape[0] * shape[1]))
    step = max(1, _BLOCK_ENTRIES // image.n_channels)
    for part, band in image.bands():
        matrix = band.reshape(-1, image.n_channels)
        for start in range(0, len(matrix), step):
            piece = np.add.reduceat(matrix[start : start + step], limits[:-1], axis=1, dtype=dtype)
            first = part.start * columns + start
            binned.put((slice(first, first + len(piece)),), piece)
        if progress is not None:
            progress(part.stop / rows)
    found: Rows = binned.counts
    return found


def _sum_dtype(bound: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the narrowest type for sums up to `bound`: most maps add up in 16 bits, twice as fast as in 32."""
    return np.dtype(next((kind for kind in (np.uint16, np.uint32) if bound <= np.iinfo(kind).max), np.uint64))


def _checked_boundaries(boundaries: npt.ArrayLike, n_channels: int) -> npt.NDArray[np.int64]:
    limits = np.asarray(boundaries)
    good = limits.ndim == 1 and limits.size >= 2 and limits.dtype.kind in "ui"
    if not (
        good and limits[0] == 0 and limits[-1] == n_channels and np.all(np.diff(limits.astype(np.int64)) > 0)
    ):
        raise InputError(
            "boundaries", f"be whole numbers that rise from 0 to {n_channels}, the channels", "do not"
        )
    return limits.astype(np.int64)


def _distance_to_nearest(
    energies: npt.NDArray[np.float64], lines: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the distance of each energy to the nearest line, infinite when there is none."""
    if lines.size == 0:
        return np.full(energies.shape, np.inf)
    ordered = np.sort(lines.ravel())
    after = np.searchsorted(ordered, energies)
    left = np.abs(energies - ordered[np.maximum(after - 1, 0)])
    right = np.abs(energies - ordered[np.minimum(after, ordered.size - 1)])
    return np.minimum(left, right)
