"""An energy axis for a spectrum whose file has none, from its lines alone, where only one fits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bayesunmix.data.axis_search import AxisFit, AxisSearch
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.reading import ASSUMED_BEAM_KEV, nominal_detector, read_peaks
from bayesunmix.xray import LineTable
from bayesunmix.xray.refinement import merge_channels

# Channels as wide as acquisition programs make them, and where they begin; a search covers what lies between.
SCALES_KEV, OFFSETS_KEV = (0.005, 0.01, 0.02), (0.0, -0.48, -0.96)
# Spectra that end below this energy have too few lines.
LEAST_END_KEV = 4.0
# An axis is certain where it leaves nearly nothing, and any other clearly more (mean squares, in errors). Of the real
# maps at hand the right axis leaves 1.5 or less, and the next one half as much again.
MOST_LEFT, NEXT_LEFT = 2.0, 1.25
# One amount of one element can be put on any single peak, and a continuum lies on any axis.
LEAST_ELEMENTS, LEAST_PEAKS = 3, 3
SAME_OFFSET_KEV, SAME_SCALE = 0.03, 0.01


@dataclass(frozen=True)
class GuessedAxis:
    """An axis with what speaks for it.

    Parameters
    ----------
    offset_keV, scale_keV
        Energy of the first channel's centre and width of a channel.
    misfit
        Mean square of what it leaves, in errors.
    elements
        Elements that explain the spectrum there.
    """

    offset_keV: float
    scale_keV: float
    misfit: float
    elements: tuple[str, ...]

    def same_as(self, other: GuessedAxis) -> bool:
        """Whether two searches found one axis."""
        near = abs(self.offset_keV - other.offset_keV) <= SAME_OFFSET_KEV
        return near and abs(self.scale_keV / other.scale_keV - 1.0) <= SAME_SCALE


def guess_axis(image: SpectrumImage, elements: tuple[str, ...] = ()) -> GuessedAxis | None:
    """Return the only axis on which the lines of elements explain the sum spectrum; None where that is not certain.

    Parameters
    ----------
    image
        A map; its own axis is not looked at.
    elements
        Elements that are known to be there; those that the map names when left out.
    """
    found = [
        axis
        for scale in SCALES_KEV
        for offset in OFFSETS_KEV
        if offset + scale * image.n_channels >= LEAST_END_KEV
        for axis in _axes(image, offset, scale, elements or image.acquisition.elements)
    ]
    best = min(found, key=lambda axis: axis.misfit, default=None)
    if best is None or best.misfit > MOST_LEFT or len(best.elements) < LEAST_ELEMENTS:
        return None
    others = (axis.misfit for axis in found if not axis.same_as(best))
    if min(others, default=np.inf) <= NEXT_LEFT * best.misfit:
        return None
    energy = best.offset_keV + best.scale_keV * np.arange(image.n_channels, dtype=np.float64)
    reading = read_peaks(dataclasses.replace(image, energy_keV=energy), best.elements)
    return best if len(reading.spectrum.peaks) >= LEAST_PEAKS else None


def _axes(image: SpectrumImage, offset: float, scale: float, named: tuple[str, ...]) -> list[GuessedAxis]:
    """Return the axes near a given one that explain most."""
    facts = image.acquisition
    beam = facts.beam_energy_keV or ASSUMED_BEAM_KEV[facts.microscope or "TEM"]
    table, detector = LineTable.built_in(beam), nominal_detector(facts)
    edges = offset + scale * (np.arange(image.n_channels + 1, dtype=np.float64) - 0.5)
    merged = merge_channels(image.sum_spectrum().astype(np.float64), edges, detector.response)
    search = AxisSearch(*merged, detector.response, table, beam, detector.efficiency, named)
    return [_guessed(fit, offset, scale) for fit in search.fits()]


def _guessed(fit: AxisFit, offset: float, scale: float) -> GuessedAxis:
    first = (offset - fit.offset_keV) / fit.gain
    return GuessedAxis(first, scale / fit.gain, fit.misfit, fit.elements)
