"""What nobody declared must not bend what was: regions of significant residual are set aside, the rest fitted again.

    search -> regions, grown as far as their spectra show -> fit without their pixels -> search with that fit -> ...

until a search finds what is set aside and nothing else. A region that the new fit explains is taken back. The search is
always one of the whole map.

A grain that nobody declared can take the place of a declared phase, whose own pixels then are what does not fit. Where
these are more than a phase has, that phase's pixels are set aside instead, and that fit is kept if it leaves less: what
was declared is to explain as much of the map as it can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bayesunmix.checks.goodness import count_shares_at_mean, mean_thickness
from bayesunmix.checks.misfit import Misfit, find_misfit
from bayesunmix.checks.outcomes import FirstComposition, PlaceAside, SetAside
from bayesunmix.config.phase import supports_of
from bayesunmix.core.credible import interval
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.setup import Setup
from bayesunmix.forward.quantify import compositions, draw_calibration
from bayesunmix.inference.surroundings import NOWHERE, own_spectrum, reach, summed

if TYPE_CHECKING:
    from bayesunmix.fit.draws import Draws

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int16]
Shares = npt.NDArray[np.floating]

# Regions on more of the pixels than this, with what is around them, are no accident of a map: nothing is set aside.
MOST_ASIDE = 0.25
# A place that is set aside is no more explained where its residual exceeds this share of the threshold.
STILL_ODD = 0.75
# Share of a phase in the counts of a pixel that is mostly that.
OWN = 0.5
# Pixels around those of a phase that something undeclared may have taken the place of.
AROUND = 4.0
# Fits without what was found, at most.
MOST_PASSES = 3


@dataclass(frozen=True, kw_only=True)
class Aside:
    """Pixels that the endmembers are not fitted to.

    Attributes
    ----------
    places : (y, x) int
        Number of the place that a pixel is of, -1 where it is of none.
    spectra : (place, energy)
        What each holds in the fitted bins, unit sum.
    passes : int
        Fits without what a search had found.
    settled : bool
        Whether the last search found what is set aside and nothing else.
    before : (phase, element, 3)
        Median and ends of the interval of each atom fraction as the whole map gives it.
    """

    places: Places
    spectra: FloatArray
    passes: int
    settled: bool
    before: FloatArray

    @property
    def mask(self) -> Mask:
        """Pixels (y, x) that are set aside."""
        return np.asarray(self.places != NOWHERE)

    def outcome(self, setup: Setup) -> SetAside:
        """Return what the record of the run holds."""
        totals, mask = setup.image.total_counts, self.mask
        places = []
        for number in np.unique(self.places[mask]).tolist():
            inside = self.places == number
            rows, columns = np.nonzero(inside)
            places.append(
                PlaceAside(
                    y=float(rows.mean()),
                    x=float(columns.mean()),
                    pixels=int(inside.sum()),
                    counts=int(totals[inside].sum()),
                )
            )
        before = [
            FirstComposition(
                phase=phase.name, element=element, at_frac=float(x), lower=float(low), upper=float(high)
            )
            for phase, row in zip(setup.phases, self.before.tolist(), strict=True)
            for element, (x, low, high) in zip(setup.forward.elements, row, strict=True)
            if element not in phase.absent and not phase.is_support
        ]
        return SetAside(
            pixels=int(mask.sum()),
            counts=int(totals[mask].sum()),
            share_of_counts=float(totals[mask].sum() / max(totals.sum(), 1)),
            passes=self.passes,
            settled=self.settled,
            places=tuple(places),
            before=tuple(before),
        )


def shares_at(setup: Setup, fitted: FittedPosterior, point: Draws) -> Shares:
    """Abundances of every pixel in shares of counts at a mode, which is given as one draw, (pixel, phase)."""
    return count_shares_at_mean(setup, point, mean_thickness(setup, fitted, point))


def searched(
    setup: Setup, fitted: FittedPosterior, point: Draws, seed: int, before: Misfit | None = None
) -> Misfit:
    """Look for regions of significant residual at a mode, in the whole map.

    Parameters
    ----------
    setup, fitted
        Of the run.
    point : Draws
        The mode, as one draw.
    seed : int
        Of the maps that give the threshold.
    before : Misfit, optional
        What an earlier search has found: the maps that give the threshold need not be drawn again.
    """
    faultless = None if before is None else before.faultless
    shares = shares_at(setup, fitted, point)
    mass = np.asarray(fitted.data.effect.mass_per_count)
    return find_misfit(setup, fitted.data.basis, point, shares, mass, seed, faultless)


def places_of(setup: Setup, misfit: Misfit, spectra: FloatArray) -> Places:
    """Pixels (y, x) of the regions and of their surroundings, by the number of the region; holes hold nothing.

    Parameters
    ----------
    setup : Setup
    misfit : Misfit
    spectra : (phase, energy)
        Endmembers that the search was made with, unit sum.
    """
    solid = [number for number, region in enumerate(misfit.regions) if region.kind != "hole"]
    cores = np.where(np.isin(misfit.places, solid), misfit.places, np.int16(NOWHERE))
    if not solid:
        return cores
    return reach(cores, setup.pixel_counts, spectra, setup.image.used)


def too_much(places: Places, used: Mask) -> bool:
    """Say whether places hold so much of a map that they are no accident of it."""
    return bool(size(places) > MOST_ASIDE * np.count_nonzero(used))


def size(places: Places) -> int:
    """Count the pixels that are of a place."""
    return int(np.count_nonzero(places != NOWHERE))


def usurped(places: Places, count_share: Shares, used: Mask) -> Places | None:
    """Return the pixels (y, x) of the smallest phase, where more pixels do not fit than are its own.

    Parameters
    ----------
    places : (y, x) int
        Regions with their surroundings, from `places_of`.
    count_share : (pixel, phase)
        Abundances in shares of counts at the mode.
    used : (y, x) bool
    """
    mostly = count_share.reshape(*places.shape, -1) > OWN
    number = np.count_nonzero(mostly, axis=(0, 1))
    smallest = int(np.where(number > 0, number, np.inf).argmin())
    core = mostly[..., smallest]
    if len(number) == 1 or not core.any():
        return None
    # How far it reaches, the others cannot tell: what it is mixed with is made of it in this mode.
    near = used & (ndimage.distance_transform_edt(~core) <= AROUND)
    own = np.where(near, np.int16(0), np.int16(NOWHERE))
    return own if size(own) < size(places) else None


def explains(aside: Places, misfit: Misfit) -> bool:
    """Say whether a search found every place that is set aside, or nearly, and nothing beside them.

    Parameters
    ----------
    aside : (y, x) int
        What the endmembers of the search were not fitted to.
    misfit : Misfit
        What it found.
    """
    inside = aside != NOWHERE
    for number, region in enumerate(misfit.regions):
        core = misfit.places == number
        if region.kind != "hole" and np.count_nonzero(core & inside) < 0.5 * np.count_nonzero(core):
            return False
    # One that has just been above the threshold may now be just below: it is not explained for that.
    odd = inside & (misfit.sigma > STILL_ODD * misfit.threshold)
    return bool(np.array_equal(np.unique(aside[odd]), np.unique(aside[inside])))


def spectra_of(setup: Setup, places: Places, misfit: Misfit) -> tuple[Places, FloatArray]:
    """Return places numbered from 0 without gaps, and what each holds in the fitted bins, unit sum, (place, energy).

    That is read off the pixels that the last search found there, as their surroundings hold other phases, too.
    """
    numbered = np.full(places.shape, NOWHERE, np.int16)
    spectra: list[FloatArray] = []
    for number in np.unique(places[places != NOWHERE]).tolist():
        inside = places == number
        core = inside & misfit.flagged
        numbered[inside] = len(spectra)
        spectra.append(own_spectrum(summed(setup.pixel_counts, core if core.any() else inside)))
    return numbered, np.array(spectra)


def as_first_fitted(
    setup: Setup, fitted: FittedPosterior, draws: Draws, level: float, seed: int
) -> FloatArray:
    """Median and ends of the interval of each atom fraction, (phase, element, 3); zeros in supports."""
    shape = draws.weights.shape[:2]
    calibration = None if shape == (1, 1) else draw_calibration(setup.forward, shape, seed)
    found = compositions(
        draws.weights, np.asarray(fitted.data.yields), setup.forward, fitted.absorbing, calibration
    )
    flat = found.reshape(-1, *found.shape[2:])
    ends = np.stack([np.median(flat, axis=0), *interval(flat, level)], axis=-1)
    return np.where(supports_of(setup.phases)[:, None, None], 0.0, ends)
