"""What nobody declared must not bend what was: regions of significant residual are set aside, and the rest fitted again.

    search -> regions, grown as far as their spectra show -> fit without their pixels -> search with that fit -> ...

until a search finds what is set aside and nothing else. A region that the new fit explains is taken back: where a grain
had taken the place of a declared phase, that phase's own pixels were what did not fit. The search is always one of the
whole map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.checks.goodness import count_shares_at_mean, mean_thickness
from bayesunmix.checks.misfit import Misfit, find_misfit
from bayesunmix.checks.outcomes import FirstComposition, PlaceAside, SetAside
from bayesunmix.config.phase import supports_of
from bayesunmix.core.credible import interval
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.forward.quantify import compositions, draw_calibration
from bayesunmix.inference.surroundings import NOWHERE, own_spectrum, reach, summed

if TYPE_CHECKING:
    from bayesunmix.fit.draws import Draws

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int16]

# Regions on more of the pixels than this, with what is around them, are no accident of a map: nothing is set aside.
MOST_ASIDE = 0.1
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


def searched(setup: Setup, fitted: FittedPosterior, point: Draws, max_overlap: int, seed: int) -> Misfit:
    """Look for regions of significant residual at a mode, in the whole map.

    Parameters
    ----------
    setup, fitted
        Of the run.
    point : Draws
        The mode, as one draw.
    max_overlap : int
        As in the inference.
    seed : int
        Of the maps that give the threshold.
    """
    tilt = mean_thickness(setup, fitted, point)
    shares = count_shares_at_mean(setup, point, tilt, max_overlap)
    return find_misfit(setup, fitted.data.basis, point, shares, seed)


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
    return bool(np.count_nonzero(places != NOWHERE) > MOST_ASIDE * np.count_nonzero(used))


def explains(aside: Places, misfit: Misfit) -> bool:
    """Say whether a search found every place that is set aside, and nothing beside them.

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
    found = set(np.unique(aside[misfit.flagged & inside]).tolist())
    return found == set(np.unique(aside[inside]).tolist())


def spectra_of(setup: Setup, places: Places, misfit: Misfit) -> tuple[Places, FloatArray]:
    """Number places from 0 without gaps, and return what each holds in the fitted bins, unit sum, (place, energy).

    That is read off the pixels that the last search found there, as their surroundings hold other phases, too.
    """
    numbered = np.full(places.shape, NOWHERE, np.int16)
    spectra = []
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
