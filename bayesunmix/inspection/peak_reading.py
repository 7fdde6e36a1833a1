"""A sum spectrum read with a set of elements: its axis, its peaks, and what made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayesunmix.core.errors import InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.channels import OddChannels
from bayesunmix.data.image import SpectrumImage
from bayesunmix.inspection.axis_search import AxisCandidate, AxisSearch, likely_axis, rival_axis
from bayesunmix.inspection.peak_sources import PeakSources, SourceCandidate
from bayesunmix.inspection.peaks import LOWEST_KEV, LineGroup, Peak, SumSpectrum
from bayesunmix.xray import POLYMER_WINDOW, WINDOWLESS, AxisFit, Detector, LineTable, Response, fit_axis
from bayesunmix.xray.refinement import merge_channels
from bayesunmix.xray.response import TYPICAL_RESOLUTION_EV

# Where a file does not say its beam energy, for the relative strengths of K, L and M lines alone.
ASSUMED_BEAM_KEV = {"TEM": 200.0, "SEM": 20.0}
# A fitted axis farther off than this, relative and in keV, is the fit's fault and not the axis'.
MOST_GAIN, MOST_OFFSET_KEV = 0.01, 0.05
# Charge of softer photons is collected less completely: their peaks lie too low and may not settle the axis, where at
# least so many others are there.
SOFT_KEV, ENOUGH_PEAKS = 0.45, 3
# L and M lines of low energy are known least well. Where a fit with them is this poor, it is tried without those below
# the next energy, and the better one settles the axis.
POOR, HARDER_KEV = 8.0, (1.4, 3.0)
# An element that nobody named is certain from this probability on; one with harder lines is not on peaks below this
# energy alone, where the strengths of L and M lines are known least.
CERTAIN, LIGHT_KEV = 0.9, 1.0


@dataclass(frozen=True)
class Axis:
    """What the lines say of the energy axis.

    Parameters
    ----------
    moved
        The axis that was put in the place of the file's, None where the file's holds.
    fit
        Fit of the axis, after it was moved; None where there is too little to fit.
    rival
        Another axis that explains the spectrum nearly as well, None where there is none.
    typical_keV
        Energy of the strongest peak.
    """

    moved: AxisCandidate | None
    fit: AxisFit | None
    rival: AxisCandidate | None
    typical_keV: float

    def shift_keV(self, energy_keV: float) -> float:
        """Return by how much a photon of an energy appears too high on the file's axis."""
        return self.offset_keV + (self.gain - 1.0) * energy_keV

    @property
    def gain(self) -> float:
        """Energy on the file's axis over true energy."""
        fitted = 1.0 if self.fit is None else self.fit.response.gain
        return fitted if self.moved is None else fitted * self.moved.gain

    @property
    def offset_keV(self) -> float:
        """Place on the file's axis of a photon of no energy."""
        fitted = 0.0 if self.fit is None else self.fit.response.offset_keV
        return fitted if self.moved is None else self.moved.offset_keV + self.moved.gain * fitted


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A sum spectrum read with a set of elements.

    Parameters
    ----------
    image
        The map, on its axis as it was moved.
    spectrum
        The sum spectrum on its fitted axis, with its peaks.
    named
        Elements that the user or the file names and that have lines on the axis; `off_axis`: those that have none.
    given
        Whether the user named them.
    elements
        Named ones, and those that most probably made the peaks that these do not explain.
    made_by
        Line group that makes most of each peak in a fit of `elements`, None where none does.
    axis
        What is known of the energy axis.
    """

    image: SpectrumImage
    spectrum: SumSpectrum
    named: tuple[str, ...]
    given: bool
    off_axis: tuple[str, ...]
    elements: tuple[str, ...]
    made_by: dict[Peak, LineGroup | None]
    axis: Axis

    @property
    def fit(self) -> AxisFit | None:
        """Fit of the axis; None where there is too little to fit."""
        return self.axis.fit

    @property
    def found(self) -> tuple[str, ...]:
        """Elements that were added to the named ones."""
        return tuple(element for element in self.elements if element not in self.named)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Named elements that make no peak."""
        own = {group.element for group in self.made_by.values() if group is not None}
        return tuple(element for element in self.named if element not in own)

    @cached_property
    def candidates(self) -> dict[Peak, list[SourceCandidate]]:
        """Possible sources of each peak, likeliest first, with probabilities that add up to 1."""
        sources = PeakSources(self.spectrum, self.named)
        return {peak: sources.candidates(peak, self.elements) for peak in self.spectrum.peaks}

    def certainty(self, element: str) -> float:
        """Probability of the element in the peak where it is likeliest; 0 without one."""
        return max((self._probability(element, peak) for peak in self.candidates), default=0.0)

    def doubt(self, element: str) -> str | None:
        """Say why the peaks of an element that nobody named may be something else; None where they hardly can."""
        likeliest = max(self.candidates, key=lambda peak: self._probability(element, peak), default=None)
        if likeliest is None:
            return None
        if self.certainty(element) < CERTAIN:
            others = [one.label for one in self.candidates[likeliest] if one.name != element]
            return f"{100.0 * self.certainty(element):.0f} %, else {others[0] if others else 'none of these'}"
        return f"no peak of its own above {LIGHT_KEV:.0f} keV" if self.only_soft(element) else None

    def only_soft(self, element: str) -> bool:
        """Whether an element has soft peaks alone, though its harder lines would lie on the axis."""
        own = [peak.energy_keV for peak, group in self.made_by.items() if group and group.element == element]
        harder = self.spectrum.table.families(element, LIGHT_KEV, float(self.spectrum.edges_keV[-1]))
        return bool(own and max(own) < LIGHT_KEV and harder)

    def _probability(self, element: str, peak: Peak) -> float:
        return sum(one.probability for one in self.candidates[peak] if one.name == element)

    def unexplained(self, peak: Peak) -> bool:
        """Whether named elements, their pile-up and escape peaks are together less likely than all else."""
        expected = (*self.named, "pile-up", "escape")
        return sum(one.probability for one in self.candidates[peak] if one.name in expected) < 0.5


def read_peaks(image: SpectrumImage, given: tuple[str, ...] = ()) -> Reading:
    """Find the axis, and peaks and elements twice: before the axis is fitted, and after.

    Parameters
    ----------
    image
        A map.
    given
        Elements whose lines are looked for first; those that the map names when left out.
    """
    detector = nominal_detector(image.acquisition)
    wanted = tuple(given or image.acquisition.elements)
    image = image.with_replaced(odd_channels(image).replaced)
    spectrum = total_spectrum(image)
    fits = axis_fits(spectrum, wanted) if spectrum.peaks else ()
    moved = likely_axis(fits)
    if moved is not None:
        there = dataclasses.replace(image, energy_keV=moved.corrected(image.energy_keV))
        reading = _read(
            image=there,
            spectrum=total_spectrum(there),
            detector=detector,
            wanted=wanted,
            given=bool(given),
            fits=fits,
            moved=moved,
        )
        # Without elements that explain it, nothing is known of an axis.
        if reading.fit is not None:
            return reading
    return _read(
        image=image,
        spectrum=spectrum,
        detector=detector,
        wanted=wanted,
        given=bool(given),
        fits=fits,
        moved=None,
    )


def _read(
    image: SpectrumImage,
    spectrum: SumSpectrum,
    detector: Detector,
    wanted: tuple[str, ...],
    given: bool,
    fits: tuple[AxisCandidate, ...],
    moved: AxisCandidate | None,
) -> Reading:
    """Find the elements, fit the axis with them, and find them again."""
    table = spectrum.table
    low, high = max(spectrum.edges_keV[0], LOWEST_KEV), spectrum.edges_keV[-1]
    named = tuple(e for e in wanted if e in table.elements and table.families(e, low, high))
    fit = _fit(spectrum, PeakSources(spectrum, named).guess(named), detector)
    if fit is not None:
        spectrum = dataclasses.replace(spectrum, response=fit.response)
    chosen = PeakSources(spectrum, named).guess(named)
    strongest = max(spectrum.peaks, key=lambda peak: peak.net_counts, default=None)
    axis = Axis(moved, fit, rival_axis(fits, moved), strongest.energy_keV if strongest else 0.0)
    off_axis = tuple(element for element in wanted if element not in named)
    return Reading(
        image=image,
        spectrum=spectrum,
        named=named,
        given=given,
        off_axis=off_axis,
        elements=chosen,
        made_by=spectrum.explained(chosen),
        axis=axis,
    )


def total_spectrum(image: SpectrumImage) -> SumSpectrum:
    """Return the sum spectrum of a map on its axis as it is, with the nominal detector."""
    facts = image.acquisition
    beam = facts.beam_energy_keV or ASSUMED_BEAM_KEV[facts.microscope or "TEM"]
    detector = nominal_detector(facts)
    total = image.sum_spectrum().astype(np.float64)
    counts, edges = merge_channels(total, image.channel_edges_keV, detector.response)
    return SumSpectrum(
        counts=counts,
        edges_keV=edges,
        response=detector.response,
        table=LineTable.built_in(beam),
        beam_energy_keV=beam,
        efficiency=detector.efficiency,
    )


def axis_fits(
    spectrum: SumSpectrum, named: tuple[str, ...], low_keV: float = -np.inf
) -> tuple[AxisCandidate, ...]:
    """Look for the axis of what lies above an energy on a spectrum's own axis; see `AxisSearch`."""
    first = int(np.searchsorted(spectrum.edges_keV, low_keV))
    return AxisSearch(
        counts=spectrum.counts[first:],
        edges_keV=spectrum.edges_keV[first:],
        response=spectrum.response,
        table=spectrum.table,
        beam_energy_keV=spectrum.beam_energy_keV,
        efficiency=spectrum.efficiency,
        named=named,
    ).fits()


def odd_channels(image: SpectrumImage) -> OddChannels:
    """Find the channels of a map that are dead, stuck or saturated, by the nominal detector."""
    return OddChannels.of_map(image, nominal_detector(image.acquisition).fwhm_keV)


def nominal_detector(facts: Acquisition) -> Detector:
    """Return a detector as the facts, or habit, have it."""
    try:
        response = Response.from_resolution(facts.resolution_eV or TYPICAL_RESOLUTION_EV)
    except InputError:
        # Some files hold a resolution at another line, or none that silicon can have.
        response = Response.from_resolution(TYPICAL_RESOLUTION_EV)
    return Detector(POLYMER_WINDOW if facts.microscope == "SEM" else WINDOWLESS, response=response)


def _fit(spectrum: SumSpectrum, elements: Sequence[str], detector: Detector) -> AxisFit | None:
    """Fit the axis; None where there is nothing to fit or the answer is no plausible axis."""

    def enough(low_keV: float) -> bool:
        return sum(peak.energy_keV > low_keV for peak in spectrum.peaks) >= ENOUGH_PEAKS

    best = _fit_from(SOFT_KEV if enough(SOFT_KEV) else LOWEST_KEV, spectrum, elements, detector)
    for low_keV in filter(enough, HARDER_KEV):
        if best is not None and best.deviance_per_dof < POOR:
            break
        fit = _fit_from(low_keV, spectrum, elements, detector)
        if fit is not None and (best is None or fit.deviance_per_dof < best.deviance_per_dof):
            best = fit
    return best


def _fit_from(
    low_keV: float, spectrum: SumSpectrum, elements: Sequence[str], detector: Detector
) -> AxisFit | None:
    """Fit the axis to the spectrum above an energy."""
    first = int(np.searchsorted(spectrum.edges_keV, low_keV))
    counts, edges = spectrum.counts[first:], spectrum.edges_keV[first:]
    # Nothing is emitted above the beam energy, and all that lies there would be misfit.
    last = int(np.searchsorted(edges, spectrum.beam_energy_keV, side="right"))
    counts, edges = counts[: max(last - 1, 0)], edges[: max(last, 1)]
    if not elements or not counts.any():
        return None
    try:
        fit = fit_axis(
            counts,
            edges,
            spectrum.table,
            elements,
            beam_energy_keV=spectrum.beam_energy_keV,
            detector=detector,
        )
    except InputError:
        # The elements have no line on what is left of the axis.
        return None
    plausible = abs(fit.response.gain - 1.0) < MOST_GAIN and abs(fit.response.offset_keV) < MOST_OFFSET_KEV
    return fit if fit.converged and plausible else None
