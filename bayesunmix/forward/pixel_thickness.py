"""Thickness from pixel to pixel, as far as it shows in a map's own counts, and how it acts on spectra.

    counts of the blocks -> relative thickness
    film, mean composition -> slope of the absorption;  sum spectrum -> share of stray signal

What the parameters of these effects are, and how they enter the likelihood: `bayesunmix.models.thickness`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.data.binning import BinnedCounts
from bayesunmix.forward.spectra import FLANKS, UNDECLARED, ForwardModel
from bayesunmix.models.thickness import VALID
from bayesunmix.xray import Refinement, absorption_slope

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PixelThickness:
    """What a map's counts say about thickness, before any fit.

    Attributes
    ----------
    blocks : (block,)
        Counts per pixel of each block over those of the whole map; pixels that are left out are not counted.
    pixels : (pixel,)
        The same for the block around each pixel: a pixel's own counts are too few.
    absorption_slope : (energy,)
        d log A / d log t of the film at the map's mean composition, in each fitted bin.
    stray_share : (energy,)
        Share of stray signal in the map's counts.
    """

    blocks: FloatArray
    pixels: FloatArray
    absorption_slope: FloatArray
    stray_share: FloatArray


def pixel_thickness(
    blocks: BinnedCounts, forward: ForwardModel, spectrum: Refinement, mean_composition: FloatArray
) -> PixelThickness:
    """Read relative thickness and share of stray signal off a map.

    Parameters
    ----------
    blocks : BinnedCounts
        All of the map, empty blocks too; these are left out of `PixelThickness.blocks`.
    forward : ForwardModel
    spectrum : Refinement
        Counts of the families in the sum spectrum.
    mean_composition : (element,)
        Atom fractions of the whole map.
    """
    total = blocks.total_counts.astype(float)
    pixels = blocks.pixels_in_block
    relative = total / np.maximum(pixels, 1)
    relative /= max(total.sum(), 1.0) / pixels.sum()
    relative = np.clip(relative, *VALID)
    centre = 0.5 * (blocks.edges_keV[1:] + blocks.edges_keV[:-1])
    depth = forward.film.depth(forward.elements, mean_composition, centre)
    observed = blocks.counts.sum(axis=0, dtype=np.float64)
    stray = _stray_counts(forward, spectrum, mean_composition)
    return PixelThickness(
        relative[total > 0],
        blocks.to_map(relative).ravel(),
        absorption_slope(depth),
        # A bin of few counts may hold fewer than expected.
        stray / np.maximum(np.maximum(observed, stray), 1e-12),
    )


def _stray_counts(forward: ForwardModel, spectrum: Refinement, mean_composition: FloatArray) -> FloatArray:
    """Return the expected counts of everything that belongs to no phase, shape (energy,)."""
    per_atom = forward.family_spectra(mean_composition[None])[0]
    unit = per_atom / np.maximum(per_atom.sum(axis=1, keepdims=True), 1e-300)
    component = np.array([forward.components[family.component] for family in forward.families])
    flank = component == FLANKS
    counts = [spectrum.counts.get(family.name, 0.0) if family.stray else 0.0 for family in forward.families]
    named = np.where(flank, 0.0, counts) @ unit
    if flank.any():
        # Counted on the axis and off it: so many per atom.
        emitted = [
            forward.table.detected_strength(f.element, f.family, forward.detector.efficiency)
            for f in forward.families
        ]
        whole = np.array([f.amount for f in forward.families]) * np.array(emitted) / forward.strength_unit
        named += ratio_of(np.array(counts), whole)[flank] @ per_atom[flank]
    # Elements that nobody declared are one component: their families are in proportion already.
    last = component == UNDECLARED
    if spectrum.found and last.any():
        named += sum(spectrum.found.values()) * shares_of(per_atom[last].sum(axis=0))
    return np.asarray(named)
