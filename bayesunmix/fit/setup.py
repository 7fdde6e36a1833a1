"""A prepared run: the map as it is fitted, its physics, its bins and blocks, and what was declared of its phases."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.given_names import NO_NAMES, GivenNames
from bayesunmix.config.overlap import Overlap, declared_overlap, freer_overlaps
from bayesunmix.config.phase import Phase
from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.core.disk_array import Picked, Rows
from bayesunmix.data.binning import BinnedCounts, bin_channels
from bayesunmix.data.image import SpectrumImage
from bayesunmix.fit.energy_axis import EnergyAxis
from bayesunmix.fit.pixel_choice import LeftOut
from bayesunmix.fit.reference_fit import ReferenceComposition
from bayesunmix.forward.pixel_thickness import PixelThickness
from bayesunmix.forward.spectra import ForwardModel
from bayesunmix.inference.sandwich import tile_labels
from bayesunmix.xray import Refinement

FloatArray = npt.NDArray[np.float64]

# Tiles of the map whose differences say how certain a sum over it is.
N_TILES = 36


@dataclasses.dataclass(frozen=True)
class BinnedPixels:
    """Counts of every pixel in the fitted bins, binned when they are first asked for and not again."""

    image: SpectrumImage
    boundaries: npt.NDArray[np.int64]

    @cached_property
    def counts(self) -> Rows:
        """Counts (pixel, bin)."""
        return bin_channels(self.image, self.boundaries)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that is settled before inference begins.

    Attributes
    ----------
    image : SpectrumImage
        Cropped to the fitted energies.
    axis_keV : (energy,)
        Energy axis of the whole map.
    axis : EnergyAxis
        Where that comes from.
    forward : ForwardModel
    spectrum : Refinement
        What the sum spectrum says about spectrometer, lines and continuum.
    blocks : BinnedCounts
    pixels : BinnedPixels
        Of the same bins; the pixels' pass and the checks share them.
    phases : tuple of Phase
        Empty where their number is yet to be inferred.
    mean_composition : (element,)
        Atom fractions of the whole map, from its sum spectrum.
    thickness : PixelThickness
        What the map's counts say about thickness from pixel to pixel.
    warnings : tuple of str
        What the user should know; all have been given as warnings too.
    left_out : tuple of LeftOut
        Pixels that take no part, and why.
    replaced : tuple of (int, int)
        Channels of the whole map that did not count, each with the one whose counts are fitted in its place.
    widths : Priors
        Of the model's priors.
    known : (y, x) int, optional
        Phase that a pixel is declared to hold alone, -1 where none is.
    aside : (y, x) bool, optional
        Pixels that the endmembers are not fitted to, since no mixture of the phases explains them: see
        `bayesunmix.fit.set_aside`. Their abundances are asked for all the same.
    max_overlap : int or ``auto``
        As in the configuration.
    chosen_overlap : Overlap, optional
        Which phases may share a pixel, once the mode's search has settled that.
    map_hash : str
        Tells the map as it was given, from `bayesunmix.data.map_bins.map_hash`.
    references : tuple of ReferenceComposition
        What the spectra of phases alone say, of those that were declared with one.
    given : GivenNames
        What the names of the phases stand for.
    """

    image: SpectrumImage
    axis_keV: FloatArray
    axis: EnergyAxis
    forward: ForwardModel
    spectrum: Refinement
    blocks: BinnedCounts
    pixels: BinnedPixels
    phases: tuple[Phase, ...]
    mean_composition: FloatArray
    thickness: PixelThickness
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    replaced: tuple[tuple[int, int], ...] = ()
    widths: Priors = DEFAULT_PRIORS
    known: npt.NDArray[np.int64] | None = None
    aside: npt.NDArray[np.bool_] | None = None
    max_overlap: int | Literal["auto"] = "auto"
    chosen_overlap: Overlap | None = None
    map_hash: str = ""
    references: tuple[ReferenceComposition, ...] = ()
    given: GivenNames = NO_NAMES

    @property
    def overlap(self) -> Overlap:
        """Which phases may share a pixel: what was settled, or what the search begins with."""
        return self.chosen_overlap or declared_overlap(self.max_overlap, self.phases)

    @property
    def alternatives(self) -> tuple[Overlap, ...]:
        """Freer ones that the counts are asked of; none once it is settled."""
        return () if self.chosen_overlap else freer_overlaps(self.overlap, self.phases)

    @property
    def hosts(self) -> npt.NDArray[np.bool_]:
        """Phases one of which every pixel of several phases holds, shape (phase,); none where any may meet."""
        return self.overlap.hosts(self.phases)

    @property
    def pixel_counts(self) -> Rows:
        """Counts of every pixel in the fitted bins, (pixel, bin)."""
        return self.pixels.counts

    @property
    def fitted(self) -> npt.NDArray[np.bool_]:
        """Pixels (y, x) that the endmembers are fitted to: those that take part, and are not set aside."""
        used = self.image.used
        return used if self.aside is None else used & ~self.aside

    @property
    def fitted_counts(self) -> Rows:
        """Counts of those pixels in the fitted bins, (pixel, bin)."""
        return used_rows(self.pixel_counts, self.fitted)

    @property
    def fitted_totals(self) -> npt.NDArray[np.int64]:
        """Counts of each pixel (y, x), none where it is set aside."""
        totals = self.image.total_counts
        return totals if self.aside is None else np.where(self.aside, 0, totals)

    @cached_property
    def fitted_spectrum(self) -> npt.NDArray[np.int64]:
        """Counts of each channel (energy,), summed over the pixels that are not set aside."""
        total = self.image.sum_spectrum()
        if self.aside is None:
            return total
        lines = np.flatnonzero(self.aside.any(axis=1))
        for part, band in self.image.bands((int(lines[0]), int(lines[-1]) + 1)) if lines.size else ():
            total -= band[self.aside[part]].sum(axis=0, dtype=np.int64)
        return total


def used_rows(pixels: Rows, used: npt.NDArray[np.bool_]) -> Rows:
    """Return the rows of the `used` pixels (y, x) among those of all pixels (pixel, ...), without a copy."""
    return pixels if used.all() else Picked(pixels, np.flatnonzero(used))


def block_positions(setup: Setup) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """Cell of each block in the grid of blocks, empty ones left out as in the counts, and the grid's shape."""
    index = setup.blocks.block_index
    counts = np.bincount(index.ravel(), weights=setup.fitted_totals.ravel())
    across = int(index[0, -1]) + 1
    return np.flatnonzero(counts > 0), (len(counts) // across, across)


def known_blocks(setup: Setup) -> npt.NDArray[np.int64] | None:
    """Phase that each block is declared to hold alone, (block,): where all of its pixels are; -1 for the others."""
    if setup.known is None:
        return None
    index, held = setup.blocks.block_index, setup.fitted_totals > 0
    least, most = np.full((2, int(index.max()) + 1), -1)
    least[:] = np.iinfo(np.int64).max
    np.minimum.at(least, index[held], setup.known[held])
    np.maximum.at(most, index[held], setup.known[held])
    positions, _ = block_positions(setup)
    return np.where(least == most, most, -1)[positions]


def block_tiles(setup: Setup, n_tiles: int = N_TILES) -> npt.NDArray[np.int64]:
    """Tile of each block, (block,); tiles cover what blocks with counts cover, not rows and columns left out."""
    position, (_, across) = block_positions(setup)
    down, along = np.divmod(position, across)
    down, along = down - down.min(), along - along.min()
    labels = tile_labels((int(down.max()) + 1, int(along.max()) + 1), n_tiles)[down, along]
    return np.asarray(np.unique(labels, return_inverse=True)[1], np.int64)
