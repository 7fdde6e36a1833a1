"""An energy axis for a spectrum whose file has none: its own numbers if these lack only the unit, or a usual one.

Numbers that are an axis when read as keV or as eV hardly are one by accident, so they are tried first, and the lines
need only agree with them. Without such numbers the lines alone decide, and only one usual axis may explain them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bayesunmix.data.image import SpectrumImage, on_axis
from bayesunmix.inspection.axis_search import MOST_MISFIT, AxisCandidate, likely_axis, rival_axis
from bayesunmix.inspection.peak_reading import ENOUGH_PEAKS, HARDER_KEV, axis_fits, total_spectrum

# Channels as wide as acquisition programs make them, and where they begin; a search covers what lies between.
SCALES_KEV, OFFSETS_KEV = (0.005, 0.01, 0.02), (0.0, -0.48, -0.96)
# Spectra that end below this energy have too few lines.
LEAST_END_KEV = 4.0
# An axis is certain where it leaves nearly nothing, and any other clearly more (mean squares, in errors). Of the real
# maps at hand the right axis leaves 1.5 or less, and the next one half as much again.
MOST_LEFT, NEXT_LEFT = 2.0, 1.25
# An axis that leaves more, and clearly less than any other, is named in doubt.
DOUBTFUL_NEXT_LEFT = 1.5
# Numbers of the file may leave more: what agrees with them need not find them. Wider channels are no energies.
MOST_OWN_LEFT, MOST_STEP_KEV = 4.0, 0.1
KEV_PER_NUMBER = {"keV": 1.0, "eV": 1e-3}
# One amount of one element can be put on any single peak, and a continuum lies on any axis.
LEAST_ELEMENTS, LEAST_PEAKS = 3, 3
SAME_OFFSET_KEV, SAME_SCALE = 0.03, 0.01


@dataclass(frozen=True, kw_only=True)
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
    certain
        Whether nothing speaks against it.
    unit
        Unit in which these are the numbers of the file; empty where they are not.
    """

    offset_keV: float
    scale_keV: float
    misfit: float
    elements: tuple[str, ...]
    certain: bool = True
    unit: str = ""

    def same_as(self, other: GuessedAxis) -> bool:
        """Whether two searches found one axis."""
        near = abs(self.offset_keV - other.offset_keV) <= SAME_OFFSET_KEV
        return near and abs(self.scale_keV / other.scale_keV - 1.0) <= SAME_SCALE


def guess_axis(
    image: SpectrumImage, elements: tuple[str, ...] = (), numbers: tuple[float, float] | None = None
) -> GuessedAxis | None:
    """Return the axis on which the lines of elements explain the sum spectrum; None where no single one does.

    Parameters
    ----------
    image
        A map; its own axis is not looked at.
    elements
        Elements that are known to be there; those that the map names when left out.
    numbers
        Number of the first channel and width of one, where the file has such without a unit.
    """
    named = elements or image.acquisition.elements
    own = _own_axis(image, named, numbers) if numbers else None
    if own is not None and own.certain:
        return own
    usual = _usual_axis(image, named)
    if own is None or usual is None:
        return own or usual
    better = usual.certain and own.misfit > NEXT_LEFT * usual.misfit and not usual.same_as(own)
    return usual if better else own


def _own_axis(
    image: SpectrumImage, named: tuple[str, ...], numbers: tuple[float, float]
) -> GuessedAxis | None:
    """Return the file's numbers as energies, where the lines agree with them."""
    found = []
    for unit, kev in KEV_PER_NUMBER.items():
        first, step = (kev * number for number in numbers)
        if step <= MOST_STEP_KEV and first + step * image.n_channels >= LEAST_END_KEV:
            axis = _judged_own(on_axis(image, first, step), named)
            found += [] if axis is None else [dataclasses.replace(axis, unit=unit)]
    return min(found, key=lambda axis: axis.misfit, default=None)


def _judged_own(image: SpectrumImage, named: tuple[str, ...]) -> GuessedAxis | None:
    """Judge the axis that a map has been put on, by its harder lines where the soft ones fit poorly."""
    total = total_spectrum(image)
    fits = axis_fits(total, named)
    if min((fit.misfit for fit in fits), default=0.0) > MOST_OWN_LEFT:
        low_keV = HARDER_KEV[0]
        if sum(peak.energy_keV > low_keV for peak in total.peaks) >= ENOUGH_PEAKS:
            fits = axis_fits(total, named, low_keV)
    moved = likely_axis(fits)
    fit = moved or next((fit for fit in fits if fit.near), None)
    if fit is None or not fit.elements or fit.misfit > MOST_MISFIT:
        return None
    first, step = float(image.energy_keV[0]), image.energy_step_keV
    axis = (
        _guessed(fit, first, step)
        if moved
        else GuessedAxis(offset_keV=first, scale_keV=step, misfit=fit.misfit, elements=fit.elements)
    )
    enough = len(axis.elements) >= LEAST_ELEMENTS and _peaks_on(image, axis) >= LEAST_PEAKS
    certain = enough and axis.misfit <= MOST_OWN_LEFT and rival_axis(fits, moved) is None
    # Numbers that need to be corrected are no sign of an axis by themselves.
    return dataclasses.replace(axis, certain=certain) if certain or not moved else None


def _usual_axis(image: SpectrumImage, named: tuple[str, ...]) -> GuessedAxis | None:
    """Return the only usual axis that explains the spectrum."""
    found = [
        axis
        for scale in SCALES_KEV
        for offset in OFFSETS_KEV
        if offset + scale * image.n_channels >= LEAST_END_KEV
        for axis in _axes(image, offset, scale, named)
    ]
    best = min(found, key=lambda axis: axis.misfit, default=None)
    if best is None or best.misfit > MOST_MISFIT or len(best.elements) < LEAST_ELEMENTS:
        return None
    certain = best.misfit <= MOST_LEFT
    others = (axis.misfit for axis in found if not axis.same_as(best))
    if min(others, default=np.inf) <= (NEXT_LEFT if certain else DOUBTFUL_NEXT_LEFT) * best.misfit:
        return None
    return dataclasses.replace(best, certain=certain) if _peaks_on(image, best) >= LEAST_PEAKS else None


def _peaks_on(image: SpectrumImage, axis: GuessedAxis) -> int:
    """Count the peaks of a map on an axis."""
    return len(total_spectrum(on_axis(image, axis.offset_keV, axis.scale_keV)).peaks)


def _axes(image: SpectrumImage, offset: float, scale: float, named: tuple[str, ...]) -> list[GuessedAxis]:
    """Return the axes near a given one that explain most."""
    fits = axis_fits(total_spectrum(on_axis(image, offset, scale)), named)
    return [_guessed(fit, offset, scale) for fit in fits]


def _guessed(fit: AxisCandidate, offset: float, scale: float) -> GuessedAxis:
    first = (offset - fit.offset_keV) / fit.gain
    return GuessedAxis(offset_keV=first, scale_keV=scale / fit.gain, misfit=fit.misfit, elements=fit.elements)
