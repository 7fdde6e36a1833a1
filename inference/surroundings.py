"""How far a region of its own kind reaches into its surroundings, ring by ring.

A region of significant residual is outlined where its counts are likelier under its own spectrum than under a mixture
of the phases: where it makes up less than about half of a pixel, a pixel's own counts no longer tell. The counts of a
whole ring around it do. Each ring, one pixel wide, is fitted by the phases' spectra with non-negative amounts, and
the score of the region's spectrum beside them is standardised (`bayesunmix.inference.misfit`): rings are taken in as
long as that stands out, and two more for what a ring's counts cannot tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bayesunmix.core.disk_array import Rows
from bayesunmix.inference.misfit import pooled_amounts, scores

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int16]

NOWHERE = -1
# A ring holds some of the region where its score exceeds this, and the region's share of its counts that.
RING_SIGMAS, RING_SHARE = 2.0, 0.01
# Rings that are taken in besides, and most that are looked at, in radii of a disc of as many pixels and in pixels.
MARGIN = 2
FARTHEST_RADII, FARTHEST = 1.0, 4.0


def own_spectrum(counts: FloatArray) -> FloatArray:
    """Spectrum of summed counts (energy,), unit sum, in which no channel is impossible."""
    filled = counts + 0.5
    return np.asarray(filled / filled.sum())


def reach(places: Places, grid: Rows, spectra: FloatArray, kept: Mask) -> Places:
    """Grow regions as far as their spectra show.

    Parameters
    ----------
    places : (y, x) int
        Number of the region that a pixel is of, `NOWHERE` where it is of none.
    grid : (y * x, group)
        Counts of every pixel, read in rows.
    spectra : (phase, group)
        Endmembers, unit sum.
    kept : (y, x) bool
        Pixels that may be taken in.

    Returns
    -------
    (y, x) int
        The same with the pixels around each region; where two meet, a pixel is of the nearer one.
    """
    numbers = np.unique(places[places != NOWHERE])
    nearest = np.full(places.shape, np.inf)
    grown = np.full(places.shape, NOWHERE, np.int16)
    for number in numbers:
        core = places == number
        # Other regions are no surroundings.
        free = kept & (core | (places == NOWHERE))
        distance = ndimage.distance_transform_edt(~core)
        inside = distance <= _radius(core, distance, free, grid, spectra)
        mine = inside & free & (distance < nearest)
        grown[mine], nearest[mine] = number, distance[mine]
    return grown


def _radius(core: Mask, distance: FloatArray, free: Mask, grid: Rows, spectra: FloatArray) -> float:
    """Distance from a region's outline up to which pixels belong to it."""
    own = own_spectrum(summed(grid, core & free))
    farthest = FARTHEST + FARTHEST_RADII * np.sqrt(core.sum() / np.pi)
    ring = 1
    while ring <= farthest:
        pixels = free & (distance > ring - 1) & (distance <= ring)
        counts = summed(grid, pixels)[None]
        z, _, _ = scores(counts, spectra, own[None])
        amounts = pooled_amounts(counts, np.concatenate([spectra, own[None]]))
        if not (z[0, 0] > RING_SIGMAS and amounts[0, -1] > RING_SHARE * counts.sum()):
            break
        ring += 1
    return float(ring - 1 + MARGIN)


def summed(grid: Rows, pixels: Mask) -> FloatArray:
    """Sum the counts of some pixels (y, x), (group,)."""
    found = np.zeros(grid.shape[1])
    width = pixels.shape[1]
    for row in np.flatnonzero(pixels.any(axis=1)).tolist():
        found += grid[row * width : (row + 1) * width][pixels[row]].sum(axis=0, dtype=np.float64)
    return found
